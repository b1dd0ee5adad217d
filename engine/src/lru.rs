//! Things worth keeping while there is room: the least recently used go first.
//!
//! Bytes come from a [`Pool`] that others use, too. What does not fit makes own entries go, never those of others; so that one
//! who is idle does not hold its memory for ever, [`Lru::sweep`] is called now and then.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::budget::{Pool, Taken};
use crate::seed::{HashSeed, SeededMap};

/// Keys come from clients and are small or shared: they are cloned.
pub struct Lru<K, V> {
    entries: SeededMap<K, Entry<V>>,
    /// By time of the last use.
    order: BTreeMap<u64, K>,
    entries_max: usize,
    /// Counts uses of entries.
    time: u64,
    /// When the last sweep was.
    swept: u64,
    pool: Arc<Pool>,
    taken: Taken,
    kept_ever: u64,
    evicted: u64,
}

struct Entry<V> {
    value: V,
    bytes: u64,
    used: u64,
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    /// No entries yet, and never more than `entries_max`.
    #[must_use]
    pub fn new(pool: Arc<Pool>, entries_max: usize, seed: HashSeed) -> Lru<K, V> {
        let taken = pool.take(0).expect("nothing");
        Lru {
            entries: SeededMap::with_hasher(seed),
            order: BTreeMap::new(),
            entries_max,
            time: 0,
            swept: 0,
            pool,
            taken,
            kept_ever: 0,
            evicted: 0,
        }
    }

    /// Uses an entry.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        let entry = self.entries.get_mut(key)?;
        self.time += 1;
        let key = self.order.remove(&entry.used).expect("each entry is in order");
        entry.used = self.time;
        self.order.insert(self.time, key);
        Some(&entry.value)
    }

    /// Keeps a value of so many bytes, all told, if there is room for it or own entries can make some. The first value of a key
    /// stays.
    pub fn insert(&mut self, key: K, value: V, bytes: u64) {
        let others = self.pool.used().saturating_sub(self.bytes());
        let fits = bytes <= self.pool.limit().saturating_sub(others) && self.entries_max > 0;
        if !fits || self.entries.contains_key(&key) {
            return;
        }
        while self.len() >= self.entries_max {
            self.evict();
        }
        while self.taken.resize(self.bytes() + bytes).is_err() {
            // Others may have been faster.
            if self.order.is_empty() {
                return;
            }
            self.evict();
        }
        self.time += 1;
        self.kept_ever += 1;
        self.order.insert(self.time, key.clone());
        self.entries.insert(key, Entry { value, bytes, used: self.time });
    }

    fn evict(&mut self) {
        let Some((_, key)) = self.order.pop_first() else { return };
        let entry = self.entries.remove(&key).expect("an entry in order is there");
        self.evicted += 1;
        self.give_back(entry.bytes);
    }

    fn give_back(&mut self, bytes: u64) {
        self.taken.resize(self.bytes() - bytes).expect("less than before");
    }

    /// While memory is short, what was not used since the sweep before goes.
    pub fn sweep(&mut self) {
        let until = std::mem::replace(&mut self.swept, self.time);
        while self.pool.used() > self.pool.limit() / 4 * 3
            && self.order.first_key_value().is_some_and(|(used, _)| *used <= until)
        {
            self.evict();
        }
    }

    /// Forgets entries that are no longer true.
    pub fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        let mut bytes = 0;
        let order = &mut self.order;
        self.entries.retain(|key, entry| {
            let kept = keep(key);
            if !kept {
                order.remove(&entry.used);
                bytes += entry.bytes;
            }
            kept
        });
        self.give_back(bytes);
    }

    /// Entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Bytes in use.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.taken.bytes()
    }

    /// Entries there were, in all.
    #[must_use]
    pub fn kept_ever(&self) -> u64 {
        self.kept_ever
    }

    /// Entries that went for lack of room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Panics unless the invariants hold.
    pub fn check(&self) {
        assert_eq!(self.entries.len(), self.order.len());
        assert!(self.len() <= self.entries_max);
        assert_eq!(self.entries.values().map(|e| e.bytes).sum::<u64>(), self.bytes());
        assert!(self.pool.used() <= self.pool.limit());
        assert!(self.entries.iter().all(|(key, entry)| self.order.get(&entry.used) == Some(key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Two who share a pool, against a list in order of use.
        #[test]
        fn behaves_like_a_list_in_order_of_use(
            steps in proptest::collection::vec((0usize..2, 0u8..20, 0u64..400, 0u8..10), 0..200),
            entries_max in 1usize..8,
        ) {
            let pool = Pool::new("p", 1000);
            let mut caches: [Lru<u8, u64>; 2] = [0, 1].map(|_| Lru::new(Arc::clone(&pool), entries_max, HashSeed::new(1)));
            let mut lists: [Vec<(u8, u64)>; 2] = [Vec::new(), Vec::new()];
            let held = |lists: &[Vec<(u8, u64)>; 2]| lists.iter().flatten().map(|e| e.1).sum::<u64>();
            for (who, key, bytes, action) in steps {
                match action {
                    0..5 => {
                        caches[who].insert(key, bytes, bytes);
                        let others: u64 = lists[1 - who].iter().map(|e| e.1).sum();
                        if others + bytes <= 1000 && lists[who].iter().all(|e| e.0 != key) {
                            while lists[who].len() >= entries_max || held(&lists) + bytes > 1000 {
                                lists[who].remove(0);
                            }
                            lists[who].push((key, bytes));
                        }
                    }
                    5..9 => {
                        let at = lists[who].iter().position(|e| e.0 == key);
                        let known = at.map(|at| lists[who].remove(at));
                        lists[who].extend(known);
                        prop_assert_eq!(caches[who].get(&key).copied(), known.map(|e| e.1));
                    }
                    _ => {
                        caches[who].retain(|k| k % 3 != key % 3);
                        lists[who].retain(|e| e.0 % 3 != key % 3);
                    }
                }
                for (cache, list) in caches.iter().zip(&lists) {
                    cache.check();
                    prop_assert_eq!(cache.order.values().copied().collect::<Vec<_>>(), list.iter().map(|e| e.0).collect::<Vec<_>>());
                }
                prop_assert_eq!(pool.used(), held(&lists));
            }
            drop(caches);
            prop_assert_eq!(pool.used(), 0);
        }
    }

    #[test]
    fn a_full_pool_makes_idle_entries_go() {
        let pool = Pool::new("p", 1000);
        let mut cache = Lru::new(Arc::clone(&pool), 10, HashSeed::new(1));
        cache.insert(1, (), 300);
        cache.insert(2, (), 300);
        cache.sweep();
        assert_eq!(cache.len(), 2, "there is room");
        let held = pool.take(300).unwrap();
        cache.get(&1);
        cache.sweep();
        assert!(cache.get(&2).is_none());
        assert!(cache.get(&1).is_some(), "used since");
        drop(held);
        cache.sweep();
        cache.sweep();
        assert_eq!(cache.len(), 1, "idle, but there is room");
    }
}
