//! Readings since a moment: since the last reset, or since a reader that gave itself a name looked last.
//!
//! Histograms only grow, so an interval is the difference of two snapshots; the earlier one is kept under the reader's
//! name. Any number of readers look at the same histograms without disturbing each other or `/metrics`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Snapshot;

/// Readers with a name; one more takes the place of the one that has not looked for longest.
pub const READERS_MAX: usize = 8;

/// What earlier readings saw.
#[derive(Debug, Default)]
pub struct Marks {
    reset: Option<Snapshot>,
    readers: BTreeMap<String, (u64, Snapshot)>,
    looks: u64,
}

/// Which reading is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reading {
    /// Since the last reset, or since the start.
    SinceReset,
    /// Since this reader looked last, or since the last reset.
    Interval(String),
    /// The same as [`Reading::SinceReset`], and the next begins here.
    Reset,
}

impl Marks {
    /// What `now` has more than the reading's begin.
    pub fn read(&mut self, now: Snapshot, reading: &Reading) -> Snapshot {
        match reading {
            Reading::SinceReset => now.since(self.reset.as_ref()),
            Reading::Reset => {
                let before = self.reset.replace(now.clone());
                self.readers.clear();
                now.since(before.as_ref())
            }
            Reading::Interval(reader) => {
                self.looks += 1;
                if !self.readers.contains_key(reader) && self.readers.len() >= READERS_MAX {
                    let oldest = self.readers.iter().min_by_key(|(_, (look, _))| *look).map(|(name, _)| name.clone());
                    oldest.and_then(|name| self.readers.remove(&name));
                }
                let before = self.readers.insert(reader.clone(), (self.looks, now.clone()));
                now.since(before.as_ref().map(|(_, seen)| seen).or(self.reset.as_ref()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Stage, StageSet};
    use super::*;

    #[test]
    fn each_reader_sees_everything_once() {
        let mut set = StageSet::default();
        let mut marks = Marks::default();
        let a = Reading::Interval("a".to_owned());
        let b = Reading::Interval("b".to_owned());
        let mut count = |set: &StageSet, reading: &Reading| {
            let seen = marks.read(set.snapshot(), reading);
            seen.stage(Stage::Query).map_or(0, hdrhistogram::Histogram::len)
        };
        set.record(Stage::Query, 1000);
        assert_eq!(count(&set, &a), 1);
        set.record(Stage::Query, 2000);
        assert_eq!((count(&set, &a), count(&set, &b)), (1, 2));
        assert_eq!((count(&set, &a), count(&set, &b)), (0, 0));
        assert_eq!(count(&set, &Reading::SinceReset), 2);
        assert_eq!(count(&set, &Reading::Reset), 2);
        assert_eq!(count(&set, &Reading::SinceReset), 0);
        set.record(Stage::Query, 7000);
        assert_eq!((count(&set, &a), count(&set, &Reading::SinceReset)), (1, 1));
    }

    #[test]
    fn readers_are_bounded_and_the_longest_gone_is_forgotten() {
        let mut set = StageSet::default();
        let mut marks = Marks::default();
        set.record(Stage::Get, 1);
        for i in 0..=READERS_MAX {
            marks.read(set.snapshot(), &Reading::Interval(i.to_string()));
        }
        assert_eq!(marks.readers.len(), READERS_MAX);
        assert!(!marks.readers.contains_key("0"));
    }
}
