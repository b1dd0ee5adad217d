//! Which shard a document belongs to: exactly Elasticsearch's answer, so that data and tests carry over.
//!
//! `shard = floor_mod(murmur3_x86_32(routing as UTF-16LE), routing_num_shards) / (routing_num_shards / number_of_shards)`

use ringdex_net::cluster::state::IndexMetadata;

/// The shard of a document.
#[must_use]
pub fn shard_of(index: &IndexMetadata, id: &str, routing: Option<&str>) -> u32 {
    let partition = partition_size(index);
    let key = routing.unwrap_or(id);
    let offset = if partition > 1 { hash(id).rem_euclid(partition as i32) } else { 0 };
    of_hash(index, hash(key).wrapping_add(offset))
}

/// The shards that documents with this routing value may be on.
#[must_use]
pub fn shards_of_routing(index: &IndexMetadata, routing: &str) -> Vec<u32> {
    let partition = partition_size(index).max(1) as i32;
    let mut shards: Vec<u32> =
        (0..partition).map(|offset| of_hash(index, hash(routing).wrapping_add(offset))).collect();
    shards.sort_unstable();
    shards.dedup();
    shards
}

fn of_hash(index: &IndexMetadata, hash: i32) -> u32 {
    let factor = index.routing_num_shards / index.number_of_shards;
    hash.rem_euclid(index.routing_num_shards as i32) as u32 / factor
}

fn partition_size(index: &IndexMetadata) -> u32 {
    index
        .settings
        .get("index.routing_partition_size")
        .and_then(|v| v.as_str())
        .and_then(|v| v.parse().ok())
        .unwrap_or(1)
}

/// `routing_num_shards` of a new index: its shards doubled up to ten times, at most 1024 unless there are more shards.
#[must_use]
pub fn routing_num_shards(shards: u32) -> u32 {
    let log2_shards = 32 - (shards - 1).leading_zeros();
    let splits = 10u32.saturating_sub(log2_shards).max(1);
    shards << splits
}

/// MurmurHash3 x86 32, seed 0, over the text in UTF-16 little endian.
#[must_use]
pub fn hash(text: &str) -> i32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let mix = |k: u32| k.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    let mut h = 0u32;
    let mut units = text.encode_utf16();
    let mut length = 0u32;
    while let Some(low) = units.next() {
        let Some(high) = units.next() else {
            length += 2;
            h ^= mix(u32::from(low));
            break;
        };
        length += 4;
        h ^= mix(u32::from(low) | u32::from(high) << 16);
        h = h.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    h ^= length;
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^= h >> 16;
    h as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_equal_the_known_vectors() {
        for (text, want) in [
            ("hell", 0x5a0c_b7c3u32),
            ("hello", 0xd7c3_1989),
            ("hello w", 0x22ab_2984),
            ("hello wo", 0xdf0c_a123),
            ("hello wor", 0xe774_4d61),
            ("The quick brown fox jumps over the lazy dog", 0xe07d_b09c),
            ("The quick brown fox jumps over the lazy cog", 0x4e63_d2ad),
        ] {
            assert_eq!(hash(text) as u32, want, "{text}");
        }
    }

    #[test]
    fn routing_shards_leave_room_for_splits() {
        for (shards, want) in [(1, 1024), (2, 1024), (3, 768), (5, 640), (512, 1024), (513, 1026), (1024, 2048)] {
            assert_eq!(routing_num_shards(shards), want, "{shards}");
        }
    }
}
