//! Bucket numbers: (owner, key) to a dense number, and back.

use crate::seed::{HashSeed, SeededMap};

/// Buckets of one aggregation, of all its owners (the buckets of the aggregation around it). Columns by bucket number.
pub(crate) struct BucketTable {
    numbers: SeededMap<(u32, u64), u32>,
    owners: Vec<u32>,
    keys: Vec<u64>,
    counts: Vec<u64>,
    last: Option<((u32, u64), u32)>,
    groups: Option<Groups>,
}

/// Bucket numbers sorted by owner.
struct Groups {
    starts: Vec<u32>,
    numbers: Vec<u32>,
}

impl BucketTable {
    /// No buckets yet; their keys, which come from documents, are hashed under `seed`.
    pub fn new(seed: HashSeed) -> BucketTable {
        BucketTable {
            numbers: SeededMap::with_hasher(seed),
            owners: Vec::new(),
            keys: Vec::new(),
            counts: Vec::new(),
            last: None,
            groups: None,
        }
    }

    /// The bucket's number; a new one for a new key.
    #[inline]
    pub fn number(&mut self, owner: u32, key: u64) -> u32 {
        // Neighbouring documents often fall into the same bucket.
        if let Some((at, number)) = self.last
            && at == (owner, key)
        {
            return number;
        }
        let next = self.keys.len() as u32;
        let number = *self.numbers.entry((owner, key)).or_insert(next);
        if number == next {
            assert!(next < u32::MAX, "bucket numbers have 32 bits");
            self.owners.push(owner);
            self.keys.push(key);
            self.counts.push(0);
        }
        self.last = Some(((owner, key), number));
        number
    }

    #[inline]
    pub fn count(&mut self, number: u32, docs: u64) {
        self.counts[number as usize] += docs;
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn key(&self, number: u32) -> u64 {
        self.keys[number as usize]
    }

    pub fn doc_count(&self, number: u32) -> u64 {
        self.counts[number as usize]
    }

    pub fn bytes(&self) -> usize {
        // A slot of the hash table has key, value and a control byte, and one in eight stays empty.
        self.numbers.capacity() * 28 + self.keys.capacity() * 20
    }

    /// Sorts bucket numbers by owner, by counting; after it no bucket may come.
    fn group(&mut self) {
        let owners = self.owners.iter().max().map_or(0, |&m| m as usize + 1);
        let mut starts = vec![0u32; owners + 1];
        for &owner in &self.owners {
            starts[owner as usize + 1] += 1;
        }
        for i in 0..owners {
            starts[i + 1] += starts[i];
        }
        let mut next = starts.clone();
        let mut numbers = vec![0; self.owners.len()];
        for (number, &owner) in self.owners.iter().enumerate() {
            let slot = &mut next[owner as usize];
            numbers[*slot as usize] = number as u32;
            *slot += 1;
        }
        self.groups = Some(Groups { starts, numbers });
    }

    /// The buckets of an owner.
    pub fn of_owner(&mut self, owner: u32) -> Vec<u32> {
        if self.groups.is_none() {
            self.group();
        }
        let groups = self.groups.as_ref().expect("just grouped");
        let owner = owner as usize;
        match (groups.starts.get(owner), groups.starts.get(owner.saturating_add(1))) {
            (Some(&start), Some(&end)) => groups.numbers[start as usize..end as usize].to_vec(),
            _ => Vec::new(),
        }
    }
}
