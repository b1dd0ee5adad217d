//! Percent-decoding of paths and query strings.

use crate::error::{ApiError, ApiResult};

/// The parameters of a query string, decoded, in order; one without `=` has an empty value.
///
/// # Errors
/// `illegal_argument_exception` for an escape that is cut short.
pub fn query_params(query: &str) -> ApiResult<Vec<(String, String)>> {
    query
        .split(['&', ';'])
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decode(name, true)?, decode(value, true)?))
        })
        .collect()
}

/// Percent-decoding; in a query `+` is a space. What is then not UTF-8 becomes U+FFFD.
///
/// # Errors
/// `illegal_argument_exception` for an escape that is cut short.
pub fn decode(text: &str, query: bool) -> ApiResult<String> {
    if !(text.contains('%') || query && text.contains('+')) {
        return Ok(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    let reason = format!("unterminated escape sequence at end of string: {text}");
                    return Err(ApiError::illegal_argument(reason));
                };
                out.push((high * 16 + low) as u8);
            }
            b'+' if query => out.push(b' '),
            byte => out.push(byte),
        }
    }
    // Replacing what is not UTF-8 would make one id of two.
    String::from_utf8(out).map_err(|_| ApiError::illegal_argument(format!("not UTF-8 when decoded: [{text}]")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_decoded() {
        let check = |text: &str, query: bool, expected: Option<&str>| {
            assert_eq!(decode(text, query).ok().as_deref(), expected, "{text}");
        };
        check("a%2Fb", false, Some("a/b"));
        check("a+b", false, Some("a+b"));
        check("a+b%2B", true, Some("a b+"));
        check("%C3%A9", false, Some("é"));
        check("%FF", false, None);
        check("%", false, None);
        check("%4", true, None);
        check("%zz", true, None);
        let params = query_params("q=a:b&pretty&x=1=2&&y=").unwrap();
        let shown: Vec<_> = params.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(shown, ["q=a:b", "pretty=", "x=1=2", "y="]);
    }
}
