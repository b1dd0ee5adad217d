//! Messages that are rare: any serde value as MessagePack with named fields, and compression of those that are large.
//!
//! MessagePack because it describes itself: JSON values, untagged and flattened types come back, and a newer node may add fields that
//! an older one skips. Types are written as for people (ids as text), for a value that passes through an untagged enum
//! no longer knows for whom it was written. Not for `serde_json::value::RawValue`, which only JSON can carry.
//!
//! A compressed payload is one zstd frame that states the size of its content; it ends with the payload.

use std::fmt;
use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Payload;
use super::reader::Malformed;

/// Values inside values, at most. The bodies of requests nest 128 deep at most, and a cluster state holds them a few levels down.
pub const DEPTH_MAX: usize = 256;
/// Cold payloads from this size on are compressed.
pub const COMPRESSION_BYTES_MIN: usize = 8 << 10;
/// Compressed or decompressed in one go.
const STEP_BYTES: usize = 64 << 10;
const LEVEL: i32 = 1;

/// As sent.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(256);
    let mut serializer = rmp_serde::Serializer::new(&mut out).with_struct_map().with_human_readable();
    value.serialize(&mut serializer).map_err(|e| Malformed(format!("cannot be encoded: {e}")))?;
    Ok(out)
}

/// As received: exactly one value, and nothing behind it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    check_shape(bytes)?;
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable();
    T::deserialize(&mut deserializer).map_err(|e| Malformed(e.to_string()))
}

/// One whole value, not too deep. The deserializer counts no enums, and does not say where it ended.
fn check_shape(bytes: &[u8]) -> Result<(), Malformed> {
    /// What follows a marker: so many bytes, and so many values.
    enum Follows {
        Bytes(usize),
        /// Big-endian length of so many bytes, then that and so many bytes.
        Counted(usize, usize),
        Values(u64),
        /// The count has so many bytes; each is so many values.
        CountedValues(usize, u64),
    }
    use Follows::{Bytes, Counted, CountedValues, Values};
    let mut rest = bytes;
    let mut take = |n: usize| -> Result<&[u8], Malformed> {
        let (taken, left) = rest.split_at_checked(n).ok_or_else(|| Malformed("a value is cut off".to_owned()))?;
        rest = left;
        Ok(taken)
    };
    // Values still to come, of each list and map that is open.
    let mut open = vec![1u64];
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        let marker = take(1)?[0];
        let follows = match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => continue,
            0x80..=0x8f => Values(u64::from(marker & 0x0f) * 2),
            0x90..=0x9f => Values(u64::from(marker & 0x0f)),
            0xa0..=0xbf => Bytes(usize::from(marker & 0x1f)),
            0xc1 => return Err(Malformed("a marker that is none".to_owned())),
            0xc4 | 0xd9 => Counted(1, 0),
            0xc5 | 0xda => Counted(2, 0),
            0xc6 | 0xdb => Counted(4, 0),
            0xc7..=0xc9 => Counted(1 << (marker - 0xc7), 1),
            0xca => Bytes(4),
            0xcb => Bytes(8),
            0xcc..=0xcf => Bytes(1 << (marker - 0xcc)),
            0xd0..=0xd3 => Bytes(1 << (marker - 0xd0)),
            0xd4..=0xd8 => Bytes(1 + (1 << (marker - 0xd4))),
            0xdc => CountedValues(2, 1),
            0xdd => CountedValues(4, 1),
            0xde => CountedValues(2, 2),
            0xdf => CountedValues(4, 2),
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        let values = match follows {
            Bytes(n) => {
                take(n)?;
                continue;
            }
            Counted(width, more) => {
                let n = number(take(width)?) as usize;
                take(n + more)?;
                continue;
            }
            Values(n) => n,
            CountedValues(width, each) => number(take(width)?) * each,
        };
        if open.len() > DEPTH_MAX {
            return Err(Malformed(format!("values more than {DEPTH_MAX} deep")));
        }
        open.push(values);
    }
    match rest.len() {
        0 => Ok(()),
        n => Err(Malformed(format!("{n} bytes behind the value"))),
    }
}

/// Compresses a payload step by step, so that others get a turn in between.
pub struct Compress {
    encoder: zstd::stream::write::Encoder<'static, Vec<u8>>,
    rest: std::collections::VecDeque<Bytes>,
}

impl fmt::Debug for Compress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compress").field("rest", &self.rest).finish_non_exhaustive()
    }
}

impl Compress {
    /// Nothing is compressed yet.
    pub fn new(payload: &Payload) -> io::Result<Compress> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::with_capacity(payload.len() / 4), LEVEL)?;
        encoder.set_pledged_src_size(Some(payload.len() as u64))?;
        encoder.include_contentsize(true)?;
        Ok(Compress { encoder, rest: payload.pieces().cloned().collect() })
    }

    /// Takes some more; the result when that was all.
    pub fn step(mut self) -> io::Result<Result<Vec<u8>, Compress>> {
        let Some(front) = self.rest.front_mut() else { return self.encoder.finish().map(Ok) };
        let some = front.split_to(front.len().min(STEP_BYTES));
        if front.is_empty() {
            self.rest.pop_front();
        }
        self.encoder.write_all(&some)?;
        Ok(Err(self))
    }
}

/// The reverse of [`Compress`].
pub struct Decompress {
    decoder: zstd::stream::read::Decoder<'static, bytes::buf::Reader<Bytes>>,
    out: Vec<u8>,
    size: usize,
}

impl fmt::Debug for Decompress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompress").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Decompress {
    /// Content of more than `limit` bytes is refused here already.
    pub fn new(payload: Bytes, limit: usize) -> Result<Decompress, Malformed> {
        let size = zstd::zstd_safe::get_frame_content_size(&payload).ok().flatten();
        let size = size.ok_or_else(|| Malformed("compressed without a size".to_owned()))?;
        let size = usize::try_from(size).ok().filter(|size| *size <= limit);
        let size = size.ok_or_else(|| Malformed(format!("more than {limit} bytes when decompressed")))?;
        let decoder = zstd::stream::read::Decoder::with_buffer(payload.reader());
        let decoder = decoder.map_err(|e| Malformed(format!("cannot be decompressed: {e}")))?.single_frame();
        // Grows as content comes: what is stated may not be true.
        Ok(Decompress { decoder, out: Vec::with_capacity(size.min(STEP_BYTES)), size })
    }

    /// Yields some more; the result when that was all.
    pub fn step(mut self) -> Result<Result<Bytes, Decompress>, Malformed> {
        let before = self.out.len();
        let read = self.decoder.by_ref().take(STEP_BYTES as u64).read_to_end(&mut self.out);
        read.map_err(|e| Malformed(format!("cannot be decompressed: {e}")))?;
        if self.out.len() > self.size {
            return Err(Malformed(format!("more than the stated {} bytes when decompressed", self.size)));
        }
        if self.out.len() > before {
            return Ok(Err(self));
        }
        let rest = self.decoder.finish().into_inner().len();
        if self.out.len() != self.size || rest != 0 {
            let (size, stated) = (self.out.len(), self.size);
            return Err(Malformed(format!("{size} bytes decompressed, {stated} stated, {rest} left over")));
        }
        Ok(Ok(Bytes::from(self.out)))
    }
}

/// Decompresses in one go.
pub fn decompress(payload: Bytes, limit: usize) -> Result<Bytes, Malformed> {
    let mut work = Decompress::new(payload, limit)?;
    loop {
        match work.step()? {
            Ok(bytes) => return Ok(bytes),
            Err(more) => work = more,
        }
    }
}

/// Values and compressed payloads in arbitrary bytes. What is read is written to something that is read the same.
pub(super) fn fuzz(bytes: &Bytes) {
    const LIMIT: usize = 1 << 20;
    if let Ok(content) = decompress(bytes.clone(), LIMIT) {
        assert!(content.len() <= LIMIT);
    }
    if let Ok(value) = decode::<serde_json::Value>(bytes) {
        let again = encode(&value).expect("a value that was read");
        assert_eq!(decode::<serde_json::Value>(&again), Ok(value));
    }
    let _ = decode::<crate::cluster::state::ClusterState>(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ids::{AllocationId, NodeId};
    use crate::cluster::state::{ClusterState, DiscoveryNode, IndexMetadata, Role};
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::IgnoredAny;
    use serde_json::{Value, json};
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        unit: (),
        none: Option<u8>,
        some: Option<String>,
        numbers: (u64, i64, u128, i128, f32, f64),
        bytes: Vec<u8>,
        text: String,
        value: Value,
        by_number: BTreeMap<u32, Choice>,
        by_id: BTreeMap<NodeId, AllocationId>,
        choices: Vec<Choice>,
        any: Vec<Untagged>,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Choice {
        Unit,
        New(u64),
        Pair(i8, bool),
        Named { a: Option<Box<Choice>>, b: NodeId },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Tagged {
        A { id: NodeId, rest: Value },
        B { list: Vec<f64> },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u64),
        Text(String),
        Address(std::net::IpAddr, u16),
        Tagged(Tagged),
    }

    fn everything() -> Everything {
        Everything {
            unit: (),
            none: None,
            some: Some(String::new()),
            numbers: (u64::MAX, i64::MIN, u128::MAX, i128::MIN, f32::NEG_INFINITY, f64::INFINITY),
            bytes: vec![0, 255],
            text: "\u{0}é\u{10ffff}".into(),
            value: json!({"a": [1, -1, 1.5, 1e308, u64::MAX, null, true, "x", {}, []], "": {"a.b": {"c": i64::MIN}}}),
            by_number: [(7, Choice::Unit), (u32::MAX, Choice::New(1))].into(),
            by_id: [(NodeId(u128::MAX), AllocationId(0))].into(),
            choices: vec![
                Choice::Pair(-1, true),
                Choice::Named { a: Some(Box::new(Choice::Named { a: None, b: NodeId(1) })), b: NodeId(2) },
            ],
            any: vec![
                Untagged::Number(3),
                Untagged::Text("t".into()),
                Untagged::Address([127, 0, 0, 1].into(), 9300),
                Untagged::Tagged(Tagged::A { id: NodeId(5), rest: json!([{"x": 1.0}]) }),
                Untagged::Tagged(Tagged::B { list: vec![0.1, -0.0, f64::MIN_POSITIVE] }),
            ],
            rest: [("other".to_owned(), json!([1]))].into(),
        }
    }

    #[test]
    fn every_kind_of_type_comes_back() {
        let bytes = encode(&everything()).unwrap();
        assert_eq!(decode::<Everything>(&bytes), Ok(everything()));
        let numbers = encode(&(f64::NAN, -0.0f64)).unwrap();
        let (nan, zero): (f64, f64) = decode(&numbers).unwrap();
        assert!(nan.is_nan() && zero == 0.0 && zero.is_sign_negative());
    }

    #[test]
    fn order_of_json_keys_is_kept() {
        let text = r#"{"z":1,"a":{"y":2,"b":3},"m":null}"#;
        let value: Value = serde_json::from_str(text).unwrap();
        let back: Value = decode(&encode(&value).unwrap()).unwrap();
        assert_eq!(back.to_string(), text);
    }

    #[test]
    fn a_cluster_state_comes_back() {
        let node = DiscoveryNode {
            id: NodeId(1),
            name: "a".into(),
            ephemeral_id: "e".into(),
            transport_address: "127.0.0.1:9300".into(),
            http_address: "127.0.0.1:9200".into(),
            roles: BTreeSet::from([Role::Master, Role::Data]),
            attributes: BTreeMap::from([("zone".into(), "z".into())]),
            cores: 2,
        };
        let index: IndexMetadata = serde_json::from_value(json!({
            "name": "i", "uuid": "u", "open": true, "creation_date": 1, "number_of_shards": 1, "number_of_replicas": 1,
            "routing_num_shards": 1, "settings": {"index.x": "1"}, "mapping": {"properties": {"f": {"type": "keyword"}}},
            "mapping_version": 1, "settings_version": 1, "aliases_version": 1, "aliases": {"al": {"filter": {"term": {"f": 1.5}}}},
            "primary_terms": [1], "in_sync": [["ASNFZ4mrze8AESIzRFVmdw"]],
        }))
        .unwrap();
        let state = ClusterState {
            version: 7,
            nodes: [(node.id, Arc::new(node))].into(),
            master: Some(NodeId(1)),
            last_accepted_config: [NodeId(1)].into(),
            indices: [("i".to_owned(), Arc::new(index))].into(),
            ..ClusterState::default()
        };
        assert_eq!(decode::<ClusterState>(&encode(&state).unwrap()), Ok(state));
    }

    #[test]
    fn fields_that_a_newer_node_adds_are_skipped() {
        #[derive(Deserialize, Debug, PartialEq)]
        struct Old {
            text: String,
        }
        let old = Old { text: everything().text };
        assert_eq!(decode::<Old>(&encode(&everything()).unwrap()), Ok(old));
    }

    #[test]
    fn bytes_behind_a_value_and_missing_ones_are_refused() {
        let mut bytes = encode(&everything()).unwrap();
        for cut in 0..bytes.len() {
            assert!(decode::<Everything>(&bytes[..cut]).is_err(), "{cut}");
        }
        bytes.push(0xc0);
        assert!(decode::<Everything>(&bytes).is_err());
    }

    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    enum Chain {
        End,
        Next(Box<Chain>),
        Maybe(Option<Box<Chain>>),
    }

    #[test]
    fn hostile_nesting_is_an_error() {
        let check = |open: &[u8], end: &[u8]| {
            let mut bytes = open.repeat(1 << 20);
            bytes.extend_from_slice(end);
            assert!(decode::<Value>(&bytes).is_err());
            assert!(decode::<Untagged>(&bytes).is_err());
            assert!(decode::<Chain>(&bytes).is_err());
            assert!(decode::<ClusterState>(&bytes).is_err());
            assert!(decode::<IgnoredAny>(&bytes).is_err());
        };
        check(&[0x91], &[0xc0]);
        check(b"\x81\xa1a", &[0xc0]);
        check(b"\x81\xa4Next", b"\xa3End");
        check(b"\x81\xa5Maybe", b"\xa3End");
        check(&[0xdd, 0xff, 0xff, 0xff, 0xff], &[]);
        check(&[0xdf, 0xff, 0xff, 0xff, 0xff], &[]);
    }

    #[test]
    fn the_deepest_values_come_back() {
        let bytes = |open: &[u8], end: &[u8]| [open.repeat(DEPTH_MAX), end.to_vec()].concat();
        assert!(decode::<Value>(&bytes(&[0x91], &[0xc0])).is_ok());
        assert!(decode::<Value>(&bytes(b"\x81\xa1a", &[0xc0])).is_ok());
        assert!(decode::<Chain>(&bytes(b"\x81\xa4Next", b"\xa3End")).is_ok());
        assert!(decode::<Chain>(&bytes(b"\x81\xa5Maybe", b"\xa3End")).is_ok());
        assert!(decode::<Value>(&bytes(&[0x91], &[0x90])).is_err(), "one more");
    }

    #[test]
    fn what_a_request_may_nest_can_be_sent() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let value: Value = serde_json::from_str(&nested(127)).unwrap();
        let state = ClusterState {
            custom: [("c".into(), [("x".into(), Arc::new(value))].into())].into(),
            ..Default::default()
        };
        assert_eq!(decode::<ClusterState>(&encode(&state).unwrap()), Ok(state));
    }

    fn compress(payload: &Payload) -> Vec<u8> {
        let mut work = Compress::new(payload).unwrap();
        loop {
            match work.step().unwrap() {
                Ok(bytes) => return bytes,
                Err(more) => work = more,
            }
        }
    }

    #[test]
    fn compression_comes_back_and_has_a_bound() {
        for size in [0, 1, STEP_BYTES, 3 * STEP_BYTES + 1] {
            let mut payload = Payload::new();
            payload.push(vec![b'a'; size]);
            payload.push("tail");
            let bytes = Bytes::from(compress(&payload));
            assert_eq!(decompress(bytes.clone(), size + 4), Ok(payload.into_bytes()));
            assert!(decompress(bytes.clone(), size + 3).is_err(), "over the bound");
            let mut more = bytes.to_vec();
            more.push(0);
            assert!(decompress(more.into(), 1 << 30).is_err(), "bytes behind the frame");
            assert!(decompress(bytes.slice(..bytes.len() - 1), 1 << 30).is_err(), "cut off");
        }
        let twice = compress(&Payload::from(b"ab".as_slice())).repeat(2);
        assert!(decompress(twice.into(), 100).is_err());
        let unstated = zstd::stream::encode_all(b"abc".as_slice(), 1).unwrap();
        assert!(decompress(unstated.into(), 100).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_an_answer_or_an_error(data in prop::collection::vec(any::<u8>(), 0..100)) {
            fuzz(&Bytes::from(data.clone()));
            let _ = (decode::<Everything>(&data), decode::<Vec<Untagged>>(&data), decode::<Chain>(&data));
        }

        #[test]
        fn flipped_bytes_of_a_value_are_an_answer_or_an_error(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut data = encode(&everything()).unwrap();
            let at = at.index(data.len());
            data[at] = to;
            let _ = decode::<Everything>(&data);
            fuzz(&Bytes::from(data));
        }
    }
}
