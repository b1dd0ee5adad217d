//! What tells one filter from another: the bytes of a compiled leaf, or of several clauses. Whatever decides which documents of a segment it
//! matches is in them, and `now` is a number by then, so that equal bytes on equal segments mean equal documents.

use std::hash::{Hash, Hasher};
use std::ops::{Bound, RangeInclusive};
use std::rc::Rc;

use crate::search::weight::{Leaf, Pattern, Weight};
use crate::seed::HashSeed;

/// Filters with longer keys are not cached: they would take more memory than the documents that they match.
const KEY_BYTES_MAX: usize = 256 << 10;

/// A filter that may be cached. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct FilterKey {
    pub bytes: Rc<[u8]>,
    /// Of the bytes, under a seed.
    pub hash: u64,
    /// Uses among the last ones that make it worth caching.
    pub uses_needed: usize,
}

impl PartialEq for FilterKey {
    fn eq(&self, other: &FilterKey) -> bool {
        self.hash == other.hash && self.bytes == other.bytes
    }
}

impl Eq for FilterKey {}

impl Hash for FilterKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl FilterKey {
    /// None for a filter that is never cached.
    pub(crate) fn new(leaf: &Leaf, seed: HashSeed) -> Option<FilterKey> {
        let uses_needed = uses_needed(leaf)?;
        let mut out = Writer(Vec::new());
        out.leaf(leaf)?;
        Some(out.key(uses_needed, seed))
    }

    /// The key of a filter made of others, a phrase or synonyms; none for what is cached by itself or never.
    pub(crate) fn of_clauses(weight: &Weight, seed: HashSeed) -> Option<FilterKey> {
        let uses_needed = match weight {
            Weight::Bool(_) | Weight::DisMax { .. } => 4,
            Weight::Phrase(_) | Weight::Synonyms(_) => 5,
            Weight::Constant { inner, .. } => return FilterKey::of_clauses(inner, seed),
            _ => return None,
        };
        let mut out = Writer(Vec::new());
        out.weight(weight)?;
        Some(out.key(uses_needed, seed))
    }
}

/// Uses before a filter is kept: those that walk many terms or values sooner, look-ups of a few documents never.
fn uses_needed(leaf: &Leaf) -> Option<usize> {
    match leaf {
        Leaf::Ids { .. } => None,
        Leaf::Terms { terms, .. } if terms.len() < 2 => Some(5),
        Leaf::Exists { .. } => Some(5),
        Leaf::Terms { .. }
        | Leaf::Pattern { .. }
        | Leaf::TermRange { .. }
        | Leaf::Numbers { .. }
        | Leaf::Routing { .. }
        | Leaf::SeqNo { .. }
        | Leaf::Slice { .. } => Some(2),
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn key(self, uses_needed: usize, seed: HashSeed) -> FilterKey {
        let hash = seed.hash(&self.0);
        FilterKey { bytes: self.0.into(), hash, uses_needed }
    }

    /// What matches, not how it scores.
    fn weight(&mut self, weight: &Weight) -> Option<()> {
        match weight {
            Weight::None => drop(self.tag(16)),
            Weight::All { .. } => drop(self.tag(17)),
            Weight::Term(t) => drop(self.tag(18).text(&*t.field).text(&t.term)),
            Weight::Synonyms(s) => {
                self.tag(19).text(&*s.field).number(s.terms.len() as u64);
                s.terms.iter().try_for_each(|t| self.text(&t.term).fits())?;
            }
            Weight::Phrase(p) => {
                self.tag(20).text(&*p.field).number(u64::from(p.slop)).number(p.slots.len() as u64);
                for slot in &p.slots {
                    self.number(u64::from(slot.offset)).number(slot.terms.len() as u64);
                    slot.terms.iter().try_for_each(|t| self.text(&t.term).fits())?;
                }
            }
            Weight::Leaf(leaf) => return self.tag(21).leaf(&leaf.leaf),
            Weight::Bool(b) => {
                self.tag(22).number(b.minimum as u64);
                for clauses in [&b.must, &b.filter, &b.should, &b.must_not] {
                    self.number(clauses.len() as u64);
                    clauses.iter().try_for_each(|w| self.weight(w))?;
                }
            }
            Weight::DisMax { parts, .. } => {
                self.tag(23).number(parts.len() as u64);
                parts.iter().try_for_each(|w| self.weight(w))?;
            }
            // Its negative part only scores.
            Weight::Boosting { positive, .. } => return self.weight(positive),
            Weight::Constant { inner, .. } => return self.weight(inner),
            Weight::Kept(kept) => return self.weight(&kept.inner),
        }
        self.fits()
    }

    fn leaf(&mut self, leaf: &Leaf) -> Option<()> {
        match leaf {
            Leaf::Terms { field, terms } => {
                self.tag(0).text(&**field).number(terms.len() as u64);
                terms.iter().try_for_each(|term| self.text(term).fits())?;
            }
            Leaf::Pattern { field, pattern } => {
                self.tag(1).text(&**field);
                match pattern {
                    Pattern::Prefix(prefix) => drop(self.tag(0).text(prefix)),
                    // Their debug texts have all of their parts.
                    Pattern::Wildcard(wildcard) => drop(self.tag(1).text(format!("{wildcard:?}"))),
                    Pattern::Regexp(regexp) if regexp.size_bytes() > KEY_BYTES_MAX => return None,
                    Pattern::Regexp(regexp) => {
                        self.tag(3);
                        regexp.parts(&mut |part| {
                            self.number(u64::from(part));
                        });
                    }
                }
            }
            Leaf::TermRange { field, lower, upper } => {
                self.tag(2).text(&**field);
                for bound in [lower, upper] {
                    match bound {
                        Bound::Unbounded => drop(self.tag(0)),
                        Bound::Included(term) => drop(self.tag(1).text(term)),
                        Bound::Excluded(term) => drop(self.tag(2).text(term)),
                    }
                }
            }
            Leaf::Numbers { field, ranges } => {
                self.tag(3).text(&**field).number(ranges.len() as u64);
                ranges.iter().try_for_each(|range| self.range(range).fits())?;
            }
            Leaf::Exists { fields } => {
                self.tag(4).number(fields.len() as u64);
                fields.iter().try_for_each(|field| self.text(&**field).fits())?;
            }
            Leaf::Ids { ids } => {
                self.tag(8).number(ids.len() as u64);
                ids.iter().try_for_each(|id| self.text(id).fits())?;
            }
            Leaf::Routing { values } => {
                self.tag(5).number(values.as_ref().map_or(u64::MAX, |v| v.len() as u64));
                values.iter().flatten().try_for_each(|value| self.text(value).fits())?;
            }
            Leaf::SeqNo { range } => {
                self.tag(6).range(&(range.start().cast_unsigned()..=range.end().cast_unsigned()));
            }
            Leaf::Slice { field, id, max } => {
                self.tag(7).text(field.as_deref().unwrap_or_default()).number(u64::from(*id)).number(u64::from(*max));
            }
        }
        self.fits()
    }

    fn fits(&self) -> Option<()> {
        (self.0.len() <= KEY_BYTES_MAX).then_some(())
    }

    fn tag(&mut self, tag: u8) -> &mut Writer {
        self.0.push(tag);
        self
    }

    fn number(&mut self, number: u64) -> &mut Writer {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn text(&mut self, text: impl AsRef<[u8]>) -> &mut Writer {
        let text = text.as_ref();
        self.number(text.len() as u64);
        self.0.extend_from_slice(text);
        self
    }

    fn range(&mut self, range: &RangeInclusive<u64>) -> &mut Writer {
        self.number(*range.start()).number(*range.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::automaton::Wildcard;
    use crate::search::regexp::Regexp;
    use crate::search::weight::{BoolWeight, LeafWeight};

    #[test]
    fn different_filters_have_different_keys_and_equal_ones_the_same() {
        let pattern = |field: &str, pattern| Leaf::Pattern { field: field.into(), pattern };
        let make = || -> Vec<Leaf> {
            vec![
                Leaf::Terms { field: "f".into(), terms: vec![b"ab".to_vec(), b"c".to_vec()] },
                Leaf::Terms { field: "f".into(), terms: vec![b"a".to_vec(), b"bc".to_vec()] },
                Leaf::Terms { field: "fa".into(), terms: vec![b"b".to_vec(), b"c".to_vec()] },
                Leaf::Terms { field: "f".into(), terms: vec![b"abc".to_vec()] },
                pattern("f", Pattern::Prefix(b"a".to_vec())),
                pattern("f", Pattern::Prefix(b"a*".to_vec())),
                pattern("f", Pattern::Wildcard(Wildcard::new("a*", false))),
                pattern("f", Pattern::Wildcard(Wildcard::new("a*", true))),
                pattern("f", Pattern::Wildcard(Wildcard::new("a\\*", false))),
                pattern("f", Pattern::Regexp(Regexp::new("a.*", false, 1000).unwrap())),
                pattern("f", Pattern::Regexp(Regexp::new("a.*", true, 1000).unwrap())),
                pattern("f", Pattern::Regexp(Regexp::new("a.+", false, 1000).unwrap())),
                Leaf::TermRange { field: "f".into(), lower: Bound::Unbounded, upper: Bound::Included(b"a".to_vec()) },
                Leaf::TermRange { field: "f".into(), lower: Bound::Unbounded, upper: Bound::Excluded(b"a".to_vec()) },
                Leaf::TermRange { field: "f".into(), lower: Bound::Included(b"a".to_vec()), upper: Bound::Unbounded },
                Leaf::Numbers { field: "f".into(), ranges: vec![1..=2] },
                Leaf::Numbers { field: "f".into(), ranges: vec![1..=2, 4..=4] },
                Leaf::Exists { fields: vec!["f".into()] },
                Leaf::Exists { fields: vec!["f".into(), "g".into()] },
                Leaf::Routing { values: None },
                Leaf::Routing { values: Some(Vec::new()) },
                Leaf::Routing { values: Some(vec!["f".to_owned()]) },
                Leaf::SeqNo { range: -1..=2 },
                Leaf::SeqNo { range: 1..=2 },
                Leaf::Slice { field: None, id: 0, max: 2 },
                Leaf::Slice { field: Some("f".into()), id: 0, max: 2 },
                Leaf::Slice { field: None, id: 1, max: 2 },
            ]
        };
        let keys = |leaves: Vec<Leaf>| -> Vec<FilterKey> {
            leaves.iter().map(|l| FilterKey::new(l, HashSeed::new(7)).unwrap()).collect()
        };
        let (a, b) = (keys(make()), keys(make()));
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                assert_eq!(x.bytes == y.bytes, i == j, "{i} and {j}");
                assert_eq!(x.hash == y.hash, i == j, "{i} and {j}");
            }
        }
    }

    #[test]
    fn clauses_are_told_apart_by_what_they_match_and_not_by_how_they_score() {
        let leaf = |n: u64, score| {
            let leaf = Leaf::Numbers { field: "f".into(), ranges: vec![n..=n] };
            Weight::Leaf(LeafWeight { leaf, score, text: String::new(), slot: 0 })
        };
        let both = |n, m, score| vec![leaf(n, score), leaf(m, score)];
        let bool = |must, filter, should, must_not, minimum| {
            Weight::Bool(BoolWeight { must, filter, should, must_not, minimum })
        };
        let make = |score: f32| -> Vec<Weight> {
            vec![
                bool(both(1, 2, score), vec![], vec![], vec![], 0),
                bool(both(2, 1, score), vec![], vec![], vec![], 0),
                bool(vec![leaf(1, score)], vec![leaf(2, score)], vec![], vec![], 0),
                bool(vec![], vec![], both(1, 2, score), vec![], 1),
                bool(vec![], vec![], both(1, 2, score), vec![], 2),
                bool(vec![leaf(1, score)], vec![], vec![], vec![leaf(2, score)], 0),
                Weight::DisMax { parts: both(1, 2, score), tie: score },
                Weight::DisMax { parts: vec![Weight::All { score }, leaf(1, score)], tie: score },
                Weight::DisMax { parts: vec![Weight::None, leaf(1, score)], tie: score },
            ]
        };
        let keys = |weights: Vec<Weight>| -> Vec<FilterKey> {
            weights.iter().map(|w| FilterKey::of_clauses(w, HashSeed::new(7)).unwrap()).collect()
        };
        let (a, b) = (keys(make(1.0)), keys(make(2.0)));
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                assert_eq!(x == y, i == j, "{i} and {j}");
            }
        }
        assert!(FilterKey::of_clauses(&leaf(1, 1.0), HashSeed::new(7)).is_none(), "kept by itself");
    }

    #[test]
    fn what_is_longer_than_its_answer_has_no_key() {
        let terms = vec![vec![b'x'; 1000]; 300];
        assert!(FilterKey::new(&Leaf::Terms { field: "f".into(), terms }, HashSeed::new(7)).is_none());
        assert!(FilterKey::new(&Leaf::Ids { ids: vec!["1".to_owned()] }, HashSeed::new(7)).is_none());
    }
}
