//! `?pretty`: re-indents JSON text token by token, so that numbers and strings stay as they were written.

/// Indents valid JSON the way Elasticsearch does, with a final newline. Bytes that are not JSON come out garbled, never
/// as a panic.
#[must_use]
pub fn pretty(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let mut depth = 0usize;
    let mut i = 0;
    while i < json.len() {
        match json[i] {
            b'"' => {
                let start = i;
                i += 1;
                while i < json.len() && json[i] != b'"' {
                    i += if json[i] == b'\\' { 2 } else { 1 };
                }
                let end = (i + 1).min(json.len());
                out.extend_from_slice(&json[start..end]);
            }
            open @ (b'{' | b'[') => {
                out.push(open);
                let close = if open == b'{' { b'}' } else { b']' };
                let next = json[i + 1..].iter().position(|b| !b.is_ascii_whitespace()).map(|n| i + 1 + n);
                if let Some(at) = next.filter(|at| json[*at] == close) {
                    out.extend_from_slice(&[b' ', close]);
                    i = at;
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            close @ (b'}' | b']') => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(close);
            }
            b',' => {
                out.push(b',');
                newline(&mut out, depth);
            }
            b':' => out.extend_from_slice(b" : "),
            b if b.is_ascii_whitespace() => {}
            b => out.push(b),
        }
        i += 1;
    }
    out.push(b'\n');
    out
}

fn newline(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    for _ in 0..depth {
        out.extend_from_slice(b"  ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn indents_as_elasticsearch_does() {
        let got = pretty(br#"{"a":{"b":[1,1.50],"c":{}},"d":"x\"}y","e":[ ]}"#);
        let want = "{\n  \"a\" : {\n    \"b\" : [\n      1,\n      1.50\n    ],\n    \"c\" : { }\n  },\n  \"d\" : \"x\\\"}y\",\n  \"e\" : [ ]\n}\n";
        assert_eq!(String::from_utf8(got).unwrap(), want);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = pretty(&bytes);
        }
    }
}
