//! Duplicate keys of the objects being read, for keys the mapping does not know. (Known ones are told by a stamp.)

use std::collections::BTreeSet;

/// Objects with more unknown keys than this are checked through a tree instead of by comparing all of them.
const NARROW_MAX: usize = 32;

/// The open objects' keys, a stack. Keeps its memory.
#[derive(Debug, Default)]
pub(super) struct Keys {
    text: String,
    spans: Vec<(usize, usize)>,
    frames: Vec<Frame>,
    wide: BTreeSet<(u64, Box<str>)>,
    serial: u64,
}

#[derive(Debug)]
struct Frame {
    level: usize,
    spans: usize,
    text: usize,
    serial: u64,
}

impl Keys {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
        self.frames.clear();
        self.wide.clear();
    }

    /// A new object at a nesting level; objects at that level or below are over.
    pub(super) fn enter(&mut self, level: usize) {
        self.leave(level);
        self.serial += 1;
        self.frames.push(Frame { level, spans: self.spans.len(), text: self.text.len(), serial: self.serial });
    }

    /// Objects at this level or below are over.
    pub(super) fn leave(&mut self, level: usize) {
        while let Some(frame) = self.frames.pop_if(|frame| frame.level >= level) {
            self.spans.truncate(frame.spans);
            self.text.truncate(frame.text);
        }
    }

    /// Adds a key of the object at `level`; false if it had it.
    pub(super) fn insert(&mut self, level: usize, key: &str) -> bool {
        self.leave(level + 1);
        let frame = self.frames.last().expect("inside an object");
        assert!(frame.level == level);
        let spans = &self.spans[frame.spans..];
        if spans.len() < NARROW_MAX {
            if spans.iter().any(|(from, to)| &self.text[*from..*to] == key) {
                return false;
            }
        } else {
            if spans.len() == NARROW_MAX {
                for (from, to) in spans {
                    self.wide.insert((frame.serial, self.text[*from..*to].into()));
                }
            }
            if !self.wide.insert((frame.serial, key.into())) {
                return false;
            }
            if spans.len() > NARROW_MAX {
                return true;
            }
        }
        let from = self.text.len();
        self.text.push_str(key);
        self.spans.push((from, self.text.len()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_object_has_duplicates() {
        let mut keys = Keys::default();
        for count in [3, NARROW_MAX - 1, NARROW_MAX, NARROW_MAX + 1, 200] {
            keys.enter(1);
            for i in 0..count {
                assert!(keys.insert(1, &format!("k{i}")), "{i}");
                keys.enter(2);
                assert!(keys.insert(2, "k0"));
                assert!(!keys.insert(2, "k0"));
            }
            for i in 0..count {
                assert!(!keys.insert(1, &format!("k{i}")), "{i} of {count}");
            }
        }
        keys.leave(0);
        assert!(keys.frames.is_empty() && keys.spans.is_empty() && keys.text.is_empty());
    }
}
