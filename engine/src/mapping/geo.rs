//! Points on the earth, packed in one `u64`: latitude in the high 32 bits, longitude in the low, each a count of
//! 1/2^32 of its range from its lower end (Lucene's resolution, about a centimetre).

use serde_json::Value;

/// Degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// -90 to 90.
    pub lat: f64,
    /// -180 to 180.
    pub lon: f64,
}

fn quantize(value: f64, half: f64) -> u32 {
    let steps = ((value + half) / (2.0 * half) * 4_294_967_296.0).floor();
    // The upper end itself belongs to the last step; `as` saturates.
    steps as u32
}

fn degrees(steps: u32, half: f64) -> f64 {
    f64::from(steps) / 4_294_967_296.0 * (2.0 * half) - half
}

/// Packs a point.
#[must_use]
pub fn pack(point: Point) -> u64 {
    u64::from(quantize(point.lat, 90.0)) << 32 | u64::from(quantize(point.lon, 180.0))
}

/// The point's cell: its lower corner, as Lucene decodes it.
#[must_use]
pub fn unpack(packed: u64) -> Point {
    Point { lat: degrees((packed >> 32) as u32, 90.0), lon: degrees(packed as u32, 180.0) }
}

impl Point {
    /// Refuses what lies outside the earth.
    ///
    /// # Errors
    /// In Elasticsearch's words.
    pub fn checked(self, field: &str) -> Result<Point, String> {
        if !(-90.0..=90.0).contains(&self.lat) {
            return Err(format!("illegal latitude value [{:?}] for {field}", self.lat));
        }
        if !(-180.0..=180.0).contains(&self.lon) {
            return Err(format!("illegal longitude value [{:?}] for {field}", self.lon));
        }
        Ok(self)
    }
}

/// Reads `lat,lon`, `POINT (lon lat)` or a geohash.
///
/// # Errors
/// In Elasticsearch's words.
pub fn parse(text: &str, ignore_z_value: bool) -> Result<Point, String> {
    let text = text.trim();
    if let Some(start) = text.get(..5)
        && start.eq_ignore_ascii_case("point")
    {
        return parse_wkt(text, ignore_z_value);
    }
    if !text.contains(',') {
        return parse_geohash(text);
    }
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.len() > 3 {
        return Err(format!("failed to parse [{text}], expected 2 or 3 coordinates but found: [{}]", parts.len()));
    }
    let number = |i: usize, name: &str| {
        parts[i].parse::<f64>().ok().filter(|x| x.is_finite()).ok_or_else(|| format!("{name} must be a number"))
    };
    let point = Point { lat: number(0, "latitude")?, lon: number(1, "longitude")? };
    if parts.len() == 3 {
        check_z(number(2, "altitude")?, ignore_z_value)?;
    }
    Ok(point)
}

/// Refuses a third coordinate unless it is to be ignored.
///
/// # Errors
/// In Elasticsearch's words.
pub fn check_z(z: f64, ignore_z_value: bool) -> Result<(), String> {
    if ignore_z_value {
        return Ok(());
    }
    Err(format!("Exception parsing coordinates: found Z value [{z:?}] but [ignore_z_value] parameter is [false]"))
}

/// Reads `[lon, lat]`, `{"lat":..., "lon":...}` or `{"geohash":...}`.
///
/// # Errors
/// In Elasticsearch's words.
pub fn parse_json(tree: &Value, ignore_z_value: bool) -> Result<Point, String> {
    let number = |value: &Value, name: &str| match value {
        Value::Number(n) => n.as_f64().ok_or_else(|| format!("{name} must be a number")),
        Value::String(s) => s.trim().parse().map_err(|_| format!("[{name}] must be a valid double value")),
        _ => Err(format!("{name} must be a number")),
    };
    match tree {
        Value::Array(items) => match items.as_slice() {
            [lon, lat, z @ ..] if z.len() < 2 => {
                if let [z] = z {
                    check_z(number(z, "altitude")?, ignore_z_value)?;
                }
                Ok(Point { lat: number(lat, "latitude")?, lon: number(lon, "longitude")? })
            }
            _ => Err("geo_point expected".to_owned()),
        },
        Value::Object(entries) => {
            if let Some(hash) = entries.get("geohash").filter(|_| entries.len() == 1) {
                return parse(hash.as_str().ok_or("geohash must be a string")?, true);
            }
            if let Some(other) = entries.keys().find(|k| !matches!(k.as_str(), "lat" | "lon" | "z")) {
                return Err(format!("field must be either [lat], [lon] or [geohash], but found [{other}]"));
            }
            let lat = entries.get("lat").ok_or("field [lat] missing")?;
            let lon = entries.get("lon").ok_or("field [lon] missing")?;
            if let Some(z) = entries.get("z") {
                check_z(number(z, "z")?, ignore_z_value)?;
            }
            Ok(Point { lat: number(lat, "lat")?, lon: number(lon, "lon")? })
        }
        _ => Err("geo_point expected".to_owned()),
    }
}

fn parse_wkt(text: &str, ignore_z_value: bool) -> Result<Point, String> {
    let bad = || format!("failed to parse WKT [{text}]");
    let inside = text[5..].trim().strip_prefix('(').and_then(|t| t.strip_suffix(')')).ok_or_else(bad)?;
    let numbers: Vec<f64> = inside
        .split_whitespace()
        .map(|n| n.parse::<f64>().ok().filter(|x| x.is_finite()))
        .collect::<Option<_>>()
        .ok_or_else(bad)?;
    match numbers[..] {
        [lon, lat] => Ok(Point { lat, lon }),
        [lon, lat, z] => check_z(z, ignore_z_value).map(|()| Point { lat, lon }),
        _ => Err(bad()),
    }
}

/// The lower left corner of a geohash's cell.
fn parse_geohash(text: &str) -> Result<Point, String> {
    const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
    let unsupported = || format!("unsupported symbol [{text}] in geohash [{text}]");
    if text.is_empty() || text.len() > 12 {
        return Err(unsupported());
    }
    // Bits alternate, longitude first.
    let (mut lat, mut lon) = ((-90.0, 90.0), (-180.0, 180.0));
    let mut even = true;
    for byte in text.bytes() {
        let value = ALPHABET
            .iter()
            .position(|a| *a == byte.to_ascii_lowercase())
            .ok_or_else(|| format!("unsupported symbol [{}] in geohash [{text}]", char::from(byte).escape_default()))?;
        for bit in (0..5).rev() {
            let range = if even { &mut lon } else { &mut lat };
            let middle: f64 = (range.0 + range.1) / 2.0;
            if value >> bit & 1 == 1 {
                range.0 = middle
            } else {
                range.1 = middle
            }
            even = !even;
        }
    }
    Ok(Point { lat: lat.0, lon: lon.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_points() {
        let close = |text: &str, lat: f64, lon: f64| {
            let point = parse(text, true).unwrap();
            assert!((point.lat - lat).abs() < 1e-4 && (point.lon - lon).abs() < 1e-4, "{text} {point:?}");
        };
        close("41.12,-71.34", 41.12, -71.34);
        close(" 41.12 , -71.34 , 5", 41.12, -71.34);
        close("POINT (-71.34 41.12)", 41.12, -71.34);
        close("drm3btev3e86", 41.12, -71.34);
        assert!(parse("41.12,-71.34,5", false).unwrap_err().contains("[ignore_z_value] parameter is [false]"));
        for bad in ["", "41.12", "a,b", "1,2,3,4", "POINT", "POINT (1)", "point (1 2", "nan,1", "drma!"] {
            assert!(parse(bad, true).is_err(), "{bad}");
        }
        assert!(
            Point { lat: 91.0, lon: 0.0 }.checked("location").unwrap_err().contains("illegal latitude value [91.0]")
        );
    }

    proptest! {
        #[test]
        fn packing_loses_centimetres(lat in -90.0f64..=90.0, lon in -180.0f64..=180.0, text in "\\PC{0,30}") {
            let back = unpack(pack(Point { lat, lon }));
            prop_assert!((back.lat - lat).abs() <= 4.2e-8 && (back.lon - lon).abs() <= 8.4e-8);
            prop_assert_eq!(pack(back), pack(Point { lat, lon }));
            let _ = parse(&text, false);
        }
    }
}
