use proptest::prelude::*;

use super::*;

fn ms(format: &str, text: &str) -> Option<i64> {
    DateFormat::new(format).unwrap().parse(text)?.to_millis()
}

fn shown(format: &str, ms: i64, zone: &str) -> String {
    let mut out = String::new();
    DateFormat::new(format).unwrap().print(Instant::from_millis(ms), &Zone::parse(zone).unwrap(), &mut out);
    out
}

/// 2020-02-29T13:14:15.678Z, a Saturday.
const LEAP: i64 = 1_582_982_055_678;

#[test]
fn dates_are_read_as_their_format_says() {
    let check = |format, text, expected: Option<i64>| assert_eq!(ms(format, text), expected, "{format} <- {text}");
    let strict = "strict_date_optional_time";
    check(strict, "2020-02-29T13:14:15.678Z", Some(LEAP));
    check(strict, "2020-02-29T13:14:15,678Z", Some(LEAP));
    check(strict, "2020-02-29T15:14:15.678+02:00", Some(LEAP));
    check(strict, "2020-02-29T15:14:15.678+0200", Some(LEAP));
    check(strict, "2020-02-29T13:14:15.678", Some(LEAP));
    check(strict, "2020-02-29T14:14:15.678Europe/Paris", Some(LEAP));
    check(strict, "2020-02-29", Some(1_582_934_400_000));
    check(strict, "2020-02-29T", Some(1_582_934_400_000));
    check(strict, "2020-02", Some(1_580_515_200_000));
    check(strict, "2020", Some(1_577_836_800_000));
    check(strict, "+12020-01-01", Some(317_147_356_800_000));
    check(strict, "-0001-01-01", Some(-62_198_755_200_000));
    for bad in [
        "",
        "2020-2-29",
        "20-02-29",
        "2021-02-29",
        "2020-13-01",
        "2020-02-29 13:14",
        "2020-02-29T24:00",
        "12020-01-01",
        "2020-02-29T13:14:15.",
        "2020-02-29Z",
        "2020-02-29T13:60",
        "x",
        "2020-",
        "2020-02-29T1",
        "2020-02-29T13:14Q",
    ] {
        check(strict, bad, None);
    }
    check("date_optional_time", "2020-2-9", Some(1_581_206_400_000));
    check("epoch_millis", "1582982055678", Some(LEAP));
    check("epoch_millis", "-1.5", Some(-2));
    check("epoch_millis", "1.", None);
    check("epoch_second", "1582982055.678", Some(LEAP));
    check("epoch_second", "1e9", None);
    check("basic_date", "20200229", Some(1_582_934_400_000));
    check("basic_date_time", "20200229T131415.678Z", Some(LEAP));
    check("basic_ordinal_date", "2020060", Some(1_582_934_400_000));
    check("ordinal_date", "2020-60", Some(1_582_934_400_000));
    check("ordinal_date", "2021-366", None);
    check("basic_week_date", "2020W096", Some(1_582_934_400_000));
    check("week_date", "2020-W9-6", Some(1_582_934_400_000));
    check("strict_date_time", "2020-02-29T13:14:15.678Z", Some(LEAP));
    check("strict_date_hour_minute_second_millis", "2020-02-29T13:14:15.67", None);
    check("yyyy/MM/dd HH:mm:ss||yyyy/MM/dd||epoch_millis", "2020/02/29", Some(1_582_934_400_000));
    check("yyyy/MM/dd HH:mm:ss||yyyy/MM/dd||epoch_millis", "1582982055678", Some(LEAP));
    check("yyyyMMddHHmmss", "20200229131415", Some(1_582_982_055_000));
    check("yyyyMMddHHmmssSSS", "20200229131415678", Some(LEAP));
    check("dd/MMM/yyyy:HH:mm:ss Z", "29/Feb/2020:14:14:15 +0100", Some(1_582_982_055_000));
    check("EEE MMM d HH:mm:ss VV yyyy", "Sat Feb 29 14:14:15 Europe/Paris 2020", Some(1_582_982_055_000));
    check("EEE, d MMM yyyy", "Fri, 29 Feb 2020", None);
    check("d MMMM yyyy h:mm a", "29 february 2020 1:14 pm", Some(1_582_982_040_000));
    check("yy-M-d", "20-2-29", Some(1_582_934_400_000));
    check("yyyy-MM-dd[ HH:mm[:ss]]", "2020-02-29 13:14", Some(1_582_982_040_000));
    check("yyyy-MM-dd[ HH:mm[:ss]]", "2020-02-29", Some(1_582_934_400_000));
    check("yyyy 'o''clock' HH", "2020 o'clock 01", Some(1_577_840_400_000));
}

#[test]
fn rounding_up_fills_the_time_and_not_the_date() {
    let up = |text| {
        let moment = DateFormat::new("strict_date_optional_time").unwrap().parse_rounding(text, true, &Zone::Utc);
        shown("strict_date_optional_time", moment.unwrap().to_millis().unwrap(), "Z")
    };
    assert_eq!(up("2020"), "2020-01-01T23:59:59.999Z");
    assert_eq!(up("2020-02-29"), "2020-02-29T23:59:59.999Z");
    assert_eq!(up("2020-02-29T13"), "2020-02-29T13:59:59.999Z");
    assert_eq!(up("2020-02-29T13:14:15"), "2020-02-29T13:14:15.999Z");
}

#[test]
fn dates_are_written_as_their_format_says() {
    let check = |format, zone, expected: &str| assert_eq!(shown(format, LEAP, zone), expected);
    check("strict_date_optional_time||epoch_millis", "Z", "2020-02-29T13:14:15.678Z");
    check("strict_date_optional_time", "America/New_York", "2020-02-29T08:14:15.678-05:00");
    check("strict_date_optional_time_nanos", "Z", "2020-02-29T13:14:15.678Z");
    check("epoch_millis", "Z", "1582982055678");
    check("epoch_second", "Z", "1582982055.678");
    check("basic_date", "Z", "20200229");
    check("basic_week_date", "Z", "2020W096");
    check("yyyy/MM/dd HH:mm:ss.SSS Z", "+01:00", "2020/02/29 14:14:15.678 +0100");
    check("d MMM uuuu h:mm:ss a EEEE VV", "Europe/Paris", "29 Feb 2020 2:14:15 PM Saturday Europe/Paris");
    check("yyyy-'W'ww D n", "Z", "2020-W09 60 678000000");
    check("HH'h'XXX", "Z", "13hZ");
    assert_eq!(shown("strict_date_optional_time", 317_147_356_800_000, "Z"), "+12020-01-01T00:00:00.000Z");
    assert_eq!(shown("yyyy-MM-dd", 317_147_356_800_000, "Z"), "+12020-01-01");
}

#[test]
fn bad_formats_are_told() {
    let why = |format: &str| DateFormat::new(format).unwrap_err();
    assert_eq!(why("foo"), "Invalid format: [foo]: Unknown pattern letter: f");
    assert_eq!(why(""), "No date pattern provided");
    assert!(why("yyyy||").contains("empty element"));
    assert!(why("yyyy'T").contains("incomplete string literal"));
    assert!(why("yyyy]").contains("without previous ["));
    assert!(why("HHH").contains("Too many pattern letters: H"));
    assert!(why(&"[".repeat(400)).contains("nested"));
}

fn math(text: &str, round_up: bool, zone: &str) -> Result<String, String> {
    let format = DateFormat::new(DEFAULT_FORMAT).unwrap();
    let moment = math::evaluate(text, &format, LEAP, round_up, &Zone::parse(zone).unwrap())?;
    Ok(shown("strict_date_optional_time", moment.to_millis().unwrap(), "Z"))
}

#[test]
fn math_adds_and_rounds() {
    let check = |text: &str, up, expected: &str| assert_eq!(math(text, up, "Z").unwrap(), expected, "{text}");
    check("now", false, "2020-02-29T13:14:15.678Z");
    check("now/d", false, "2020-02-29T00:00:00.000Z");
    check("now/d", true, "2020-02-29T23:59:59.999Z");
    check("now-1y/y", false, "2019-01-01T00:00:00.000Z");
    check("now-1y", false, "2019-02-28T13:14:15.678Z");
    check("now/w", false, "2020-02-24T00:00:00.000Z");
    check("now/w", true, "2020-03-01T23:59:59.999Z");
    check("now/M+1M-1d", false, "2020-02-29T00:00:00.000Z");
    check("now/h", true, "2020-02-29T13:59:59.999Z");
    check("now+90m/m", false, "2020-02-29T14:44:00.000Z");
    check("now/s", false, "2020-02-29T13:14:15.000Z");
    check("2020-01-31||+1M", false, "2020-02-29T00:00:00.000Z");
    check("2020-01-31||/M", true, "2020-01-31T23:59:59.999Z");
    check("2020-01-31", true, "2020-01-31T23:59:59.999Z");
    check("2020-01-31||+1d", true, "2020-02-01T00:00:00.000Z");
    assert_eq!(math("now/d", false, "America/New_York").unwrap(), "2020-02-29T05:00:00.000Z");
    assert_eq!(math("2020-03-08||+1d", false, "America/New_York").unwrap(), "2020-03-09T04:00:00.000Z");
    assert_eq!(math("2020-03-08||+24h", false, "America/New_York").unwrap(), "2020-03-09T05:00:00.000Z");
}

#[test]
fn bad_math_is_told() {
    let why = |text| math(text, false, "Z").unwrap_err();
    assert_eq!(why("now+1x"), "unit [x] not supported for date math [+1x]");
    assert_eq!(why("now+1"), "truncated date math [+1]");
    assert_eq!(why("now*1d"), "operator not supported for date math [*1d]");
    assert_eq!(why("now/2d"), "rounding `/` can only be used on single unit types [/2d]");
    assert_eq!(
        why("abc"),
        "failed to parse date field [abc] with format [strict_date_optional_time||epoch_millis]: [failed to parse \
         date field [abc] with format [strict_date_optional_time||epoch_millis]]"
    );
}

#[test]
fn every_name_reads_what_it_writes() {
    for name in names::all() {
        let text = shown(&name, LEAP, "Z");
        let format = DateFormat::new(&name).unwrap();
        let read = format.parse(&text).unwrap_or_else(|| panic!("{name} does not read {text}"));
        assert_eq!(shown(&name, read.to_millis().unwrap(), "Z"), text, "{name}");
    }
}

proptest! {
    #[test]
    fn iso_agrees_with_jiff(ms_value in -62_135_596_800_000i64..253_402_207_200_000, zone in prop::sample::select(
        vec!["UTC", "Asia/Kathmandu", "America/St_Johns", "Europe/Dublin"])) {
        let text = shown("strict_date_optional_time", ms_value, zone);
        prop_assert_eq!(ms("strict_date_optional_time", &text), Some(ms_value));
        let stamp: jiff::Timestamp = text.parse().unwrap();
        prop_assert_eq!(stamp.as_millisecond(), ms_value);
        let at_jiff = jiff::Timestamp::from_millisecond(ms_value).unwrap();
        prop_assert_eq!(shown("yyyy-MM-dd HH:mm:ss.SSS EEE DDD", ms_value, "Z"), at_jiff.strftime("%Y-%m-%d %H:%M:%S.%3f %a %j").to_string());
    }

    #[test]
    fn every_millisecond_prints_and_reads_back(ms_value in any::<i64>()) {
        for format in ["strict_date_optional_time", "epoch_millis", "epoch_second", "yyyy-MM-dd'T'HH:mm:ss.SSSXXX"] {
            let text = shown(format, ms_value, "Z");
            prop_assert_eq!(ms(format, &text), Some(ms_value), "{} {}", format, text);
        }
    }

    #[test]
    fn arbitrary_formats_and_texts_never_panic(format in "\\PC{0,20}", letters in "[yuMdHhmsSaEzZXxVDwYeAn'\\[\\]:\\- ]{0,24}",
                                               text in "\\PC{0,20}", digits in "[0-9TZ:+.\\-|/nowdMy ]{0,30}", at in any::<i64>()) {
        for format in [&format, &letters] {
            let Ok(format) = DateFormat::new(format) else { continue };
            for text in [&text, &digits] {
                for zone in [Zone::Utc, Zone::parse("Europe/Paris").unwrap()] {
                    let _ = format.parse_rounding(text, true, &zone);
                    let _ = math::evaluate(text, &format, at, true, &zone);
                    let _ = math::evaluate(&format!("now{text}"), &format, at, false, &zone);
                    format.print(Instant::from_millis(at), &zone, &mut String::new());
                }
            }
        }
    }

    #[test]
    fn rounding_contains_the_moment(at in -4_000_000_000_000i64..8_000_000_000_000, unit in "[yMwdhms]",
                                    zone in prop::sample::select(vec!["UTC", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe"])) {
        let zone = Zone::parse(zone).unwrap();
        let format = DateFormat::new(DEFAULT_FORMAT).unwrap();
        let text = format!("now/{unit}");
        let low = math::evaluate(&text, &format, at, false, &zone).unwrap().to_millis().unwrap();
        let high = math::evaluate(&text, &format, at, true, &zone).unwrap().to_millis().unwrap();
        prop_assert!(low <= at && at <= high, "{low} {at} {high}");
        prop_assert_eq!(math::evaluate(&text, &format, low, false, &zone).unwrap().to_millis().unwrap(), low);
    }
}
