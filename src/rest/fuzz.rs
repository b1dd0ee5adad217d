//! Bodies for fuzzers: bytes from outside in, no panic out.

use bytes::Bytes;

use super::bulk::{BulkDefaults, BulkParser};
use super::filter::PathFilter;
use super::{document, http, params, pretty};
use crate::metadata::{create, resolve, settings};

/// A bulk body, cut into pieces as the first bytes say. However it is cut, the same items or the same error come out.
pub fn bulk_ndjson(data: &[u8]) {
    let (cut, body) = data.split_at(data.len().min(2));
    let parse = |pieces: &[&[u8]]| {
        let mut parser = BulkParser::new(BulkDefaults { index: Some("i".into()), ..BulkDefaults::default() });
        for piece in pieces {
            parser.feed(&Bytes::copy_from_slice(piece))?;
        }
        parser.finish()
    };
    let whole = parse(&[body]);
    let at = cut.iter().fold(0usize, |n, b| n << 8 | usize::from(*b)) % (body.len() + 1);
    let halves = parse(&[&body[..at], &body[at..]]);
    match (whole, halves) {
        (Ok(a), Ok(b)) => assert_eq!(format!("{a:?}"), format!("{b:?}"), "cut at {at}"),
        (Err(a), Err(b)) => assert_eq!(a, b, "cut at {at}"),
        (a, b) => panic!("cut at {at}: {a:?} against {b:?}"),
    }
}

/// Everything else of a request that is text: names, filters, media types, bodies of updates and of new indices.
pub fn rest_request(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = resolve::date_math(&text, 1_600_000_000_000);
    let _ = http::media_type(&text);
    let _ = http::warning(&text);
    let _ = params::parse_time(&text, "t");
    let _ = params::parse_bytes(&text, "b");
    let _ = pretty::pretty(data);
    let _ = document::parse_update(&Bytes::copy_from_slice(data));
    let Ok(json) = params::parse_json(data) else { return };
    let _ = super::yaml::to_yaml(&json);
    if let Some(filter) = PathFilter::parse("a.*,**.b,-c") {
        let _ = filter.apply(json.clone());
    }
    let _ = settings::normalise(&json).and_then(|s| settings::check(&s, false));
    let _ = create::parse_body(&json, false);
    let _ = document::source_filter_value(&json);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bulk_bodies_may_be_cut_anywhere(
            cut in any::<[u8; 2]>(),
            lines in proptest::collection::vec(
                "\\{\"(index|delete|update)\":\\{(\"_id\":\"[a-c]\")?\\}\\}|\\{\"doc\":\\{\\}\\}|\\{\"a\":1\\}|x|", 0..8),
        ) {
            let mut data = cut.to_vec();
            data.extend_from_slice(lines.join("\n").as_bytes());
            bulk_ndjson(&data);
            data.push(b'\n');
            bulk_ndjson(&data);
        }

        #[test]
        fn arbitrary_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            bulk_ndjson(&data);
            rest_request(&data);
        }

        #[test]
        fn arbitrary_texts_never_panic(text in "[<>{}|a-z/+\\-0-9.*:, \"]{0,40}") {
            rest_request(text.as_bytes());
        }
    }
}
