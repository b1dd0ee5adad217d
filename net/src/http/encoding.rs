//! gzip (and deflate) in, gzip out; in pieces small enough not to hold up the core.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, MultiGzDecoder, ZlibDecoder};
use hyper::HeaderMap;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING};

/// Input per step. Deflate grows at most 1 032 times, so a step makes at most a mebibyte.
const STEP_IN: usize = 1 << 10;
/// Output per step of compressing.
const STEP_OUT: usize = 64 << 10;

/// A request body's encoding.
pub(super) enum Decoder {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

impl Decoder {
    /// The decoder the headers ask for; unknown encodings are left to the handler, as Elasticsearch does.
    pub(super) fn of(headers: &HeaderMap) -> Option<Decoder> {
        let encoding = headers.get(CONTENT_ENCODING)?.to_str().ok()?.trim();
        if encoding.eq_ignore_ascii_case("gzip") || encoding.eq_ignore_ascii_case("x-gzip") {
            Some(Decoder::Gzip(MultiGzDecoder::new(Vec::new())))
        } else if encoding.eq_ignore_ascii_case("deflate") {
            Some(Decoder::Deflate(ZlibDecoder::new(Vec::new())))
        } else {
            None
        }
    }

    /// Takes the next bytes off `input` and gives what they decode to (possibly nothing).
    pub(super) fn step(&mut self, input: &mut Bytes) -> io::Result<Bytes> {
        let step = input.split_to(input.len().min(STEP_IN));
        let out = match self {
            Decoder::Gzip(d) => {
                d.write_all(&step)?;
                d.get_mut()
            }
            Decoder::Deflate(d) => {
                d.write_all(&step)?;
                d.flush()?;
                d.get_mut()
            }
        };
        Ok(Bytes::from(std::mem::take(out)))
    }

    /// What is left at the end of the body; an error if it ends too early.
    pub(super) fn finish(&mut self) -> io::Result<Bytes> {
        let out = match self {
            Decoder::Gzip(d) => {
                d.try_finish()?;
                d.get_mut()
            }
            Decoder::Deflate(d) => {
                d.try_finish()?;
                d.get_mut()
            }
        };
        Ok(Bytes::from(std::mem::take(out)))
    }
}

/// Whether the client takes gzip: `gzip` or `*` without `q=0`.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts.filter_map(|p| p.strip_prefix("q=")).any(|q| q.trim().parse().unwrap_or(1.0) == 0.0);
        (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
    })
}

/// Compresses an answer, giving way to others between steps.
pub(super) async fn gzip(body: &[u8]) -> io::Result<Bytes> {
    // Elasticsearch's default `http.compression_level`.
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4 + 64), Compression::new(3));
    for piece in body.chunks(STEP_OUT) {
        encoder.write_all(piece)?;
        glommio::yield_if_needed().await;
    }
    Ok(encoder.finish()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: hyper::header::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    fn compressed(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(input: &[u8]) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::of(&headers(CONTENT_ENCODING, "gzip")).unwrap();
        let mut input = Bytes::copy_from_slice(input);
        let mut out = Vec::new();
        while !input.is_empty() {
            out.extend_from_slice(&decoder.step(&mut input)?);
        }
        out.extend_from_slice(&decoder.finish()?);
        Ok(out)
    }

    #[test]
    fn accept_encoding_is_understood() {
        let check = |value: &str, expected: bool| {
            assert_eq!(accepts_gzip(&headers(ACCEPT_ENCODING, value)), expected, "{value}");
        };
        check("gzip", true);
        check("deflate, GZIP;q=0.5", true);
        check("*", true);
        check("gzip;q=0", false);
        check("gzip; q=0.0", false);
        check("identity", false);
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn gzip_comes_back_and_members_join() {
        let data: Vec<u8> = (0..300_000u32).flat_map(|i| (i % 251).to_le_bytes()).collect();
        let mut two = compressed(&data);
        two.extend(compressed(b"tail"));
        assert_eq!(decode(&two).unwrap(), [&data[..], b"tail"].concat());
    }

    #[test]
    fn torn_or_damaged_gzip_is_an_error() {
        let good = compressed(b"some text, some text, some text");
        assert!(decode(&good[..good.len() - 3]).is_err());
        let mut bad = good.clone();
        let middle = bad.len() - 6;
        bad[middle] ^= 0xff;
        assert!(decode(&bad).is_err());
        assert!(decode(b"{\"not\":\"gzip\"}").is_err());
    }

    #[test]
    fn a_step_of_a_bomb_stays_small() {
        let bomb = compressed(&vec![0; 64 << 20]);
        let mut decoder = Decoder::of(&headers(CONTENT_ENCODING, "gzip")).unwrap();
        let mut input = Bytes::from(bomb);
        while !input.is_empty() {
            assert!(decoder.step(&mut input).unwrap().len() <= (1 << 20) + (64 << 10));
        }
    }
}
