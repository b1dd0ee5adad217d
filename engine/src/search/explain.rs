//! Why a document has its score: the tree that Elasticsearch shows, with Lucene's descriptions.

use serde_json::{Value as Json, json};

use crate::error::Result;
use crate::ids::DocId;
use crate::mapping::Mapping;
use crate::pace::Pace;
use crate::query::Query;
use crate::search::bm25::{self, Bm25, decode_length};
use crate::search::compile::{Compiled, compile};
use crate::search::cursor::Cursor;
use crate::search::leaf::{self, Evaluated};
use crate::search::open::Segment;
use crate::search::weight::{BoolWeight, Weight};
use crate::search::{DocAddress, IndexContext, Searcher};
use crate::segment::reader::FieldReader;

/// A score and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Whether the document matches.
    pub matches: bool,
    /// Its score; 0 if it does not match.
    pub value: f32,
    /// What was computed.
    pub description: String,
    /// From what.
    pub details: Vec<Explanation>,
    /// Counts are shown without a fraction.
    whole: bool,
}

impl Explanation {
    fn yes(value: f32, description: impl Into<String>, details: Vec<Explanation>) -> Explanation {
        Explanation { matches: true, value, description: description.into(), details, whole: false }
    }

    fn no(description: impl Into<String>, details: Vec<Explanation>) -> Explanation {
        Explanation { matches: false, value: 0.0, description: description.into(), details, whole: false }
    }

    fn count(value: u64, description: &str) -> Explanation {
        Explanation { whole: true, ..Explanation::yes(value as f32, description, Vec::new()) }
    }

    /// `{"value":...,"description":...,"details":[...]}`
    #[must_use]
    pub fn to_json(&self) -> Json {
        let value = if self.whole { json!(self.value as u64) } else { float(self.value) };
        let details: Vec<Json> = self.details.iter().map(Explanation::to_json).collect();
        json!({ "value": value, "description": self.description, "details": details })
    }
}

/// A float as it is written in its own precision.
pub(crate) fn float(value: f32) -> Json {
    json!(value.to_string().parse::<f64>().unwrap_or(f64::from(value)))
}

/// Explains the score of a document.
///
/// # Errors
/// As the query phase.
pub async fn explain<P: Pace>(
    searcher: &Searcher,
    mapping: &Mapping,
    index: &IndexContext,
    query: &Query,
    now_ms: i64,
    doc: DocAddress,
    pace: &P,
) -> Result<Explanation> {
    let compiled = compile(query, mapping, index, searcher, now_ms, true, pace).await?;
    let ordinal = doc.segment as usize;
    let leaves = leaves_of(&compiled, searcher, ordinal, pace).await?;
    Ok(explain_compiled(&compiled, searcher, doc, &leaves))
}

pub(crate) async fn leaves_of<P: Pace>(
    compiled: &Compiled,
    searcher: &Searcher,
    ordinal: usize,
    pace: &P,
) -> Result<Vec<Evaluated>> {
    leaf::evaluate(compiled, ordinal, &searcher.segments[ordinal], pace).await
}

pub(crate) fn explain_compiled(
    compiled: &Compiled,
    searcher: &Searcher,
    doc: DocAddress,
    leaves: &[Evaluated],
) -> Explanation {
    let ordinal = doc.segment as usize;
    let segment = Segment { ordinal, reader: &searcher.segments[ordinal].reader, leaves };
    segment.explain(&compiled.weight, doc.doc)
}

impl<'a> Segment<'a> {
    /// Whether `doc` matches, and its score as the query phase computes it.
    fn at(&self, weight: &'a Weight, doc: DocId) -> Option<(Cursor<'a>, f32)> {
        let mut cursor = self.open(weight, true);
        if cursor.seek(doc) != doc || !cursor.matches() {
            return None;
        }
        let score = cursor.score();
        Some((cursor, score))
    }

    fn explain(&self, weight: &'a Weight, doc: DocId) -> Explanation {
        let boosted = |text: String, score: f32| if score == 1.0 { text } else { format!("{text}^{score:?}") };
        match weight {
            Weight::None => Explanation::no(format!("{} doesn't match id {doc}", weight.text()), Vec::new()),
            Weight::All { score } => Explanation::yes(*score, boosted("*:*".to_owned(), *score), Vec::new()),
            // Not made for explanations; its clauses tell more than its set.
            Weight::Kept(kept) => self.explain(&kept.inner, doc),
            Weight::Leaf(_) | Weight::Constant { .. } => match self.at(weight, doc) {
                Some((_, score)) => Explanation::yes(score, boosted(weight.text(), score), Vec::new()),
                None => Explanation::no(format!("{} doesn't match id {doc}", weight.text()), Vec::new()),
            },
            Weight::Term(term) => match (self.at(weight, doc), &term.bm25) {
                (Some((Cursor::Term(mut cursor), score)), Some(bm25)) => {
                    let freq = cursor.postings.freq() as f32;
                    let freq = Explanation::yes(freq, "freq, occurrences of term within document", Vec::new());
                    self.similarity(weight, &term.field, bm25, freq, score, doc)
                }
                // A clause that does not score was compiled without a scorer.
                (Some(_), _) => Explanation::yes(0.0, weight.text(), Vec::new()),
                _ => Explanation::no("no matching term", Vec::new()),
            },
            Weight::Synonyms(s) => match (self.at(weight, doc), &s.bm25) {
                (Some((Cursor::Synonyms(mut cursor), score)), Some(bm25)) => {
                    let freq = cursor.freq();
                    let freq = Explanation::yes(freq, format!("termFreq={freq:?}"), Vec::new());
                    self.similarity(weight, &s.field, bm25, freq, score, doc)
                }
                // A clause that does not score was compiled without a scorer.
                (Some(_), _) => Explanation::yes(0.0, weight.text(), Vec::new()),
                _ => Explanation::no("no matching term", Vec::new()),
            },
            Weight::Phrase(phrase) => match (self.at(weight, doc), &phrase.bm25) {
                (Some((Cursor::Phrase(cursor), score)), Some(bm25)) => {
                    let freq = cursor.freq();
                    let freq = Explanation::yes(freq, format!("phraseFreq={freq:?}"), Vec::new());
                    self.similarity(weight, &phrase.field, bm25, freq, score, doc)
                }
                // A clause that does not score was compiled without a scorer.
                (Some(_), _) => Explanation::yes(0.0, weight.text(), Vec::new()),
                _ => Explanation::no("no matching phrase", Vec::new()),
            },
            Weight::Bool(parts) => self.explain_bool(weight, parts, doc),
            Weight::DisMax { parts, tie } => {
                let details: Vec<Explanation> =
                    parts.iter().map(|p| self.explain(p, doc)).filter(|e| e.matches).collect();
                let description =
                    if *tie == 0.0 { "max of:".to_owned() } else { format!("max plus {tie:?} times others of:") };
                match self.at(weight, doc) {
                    Some((_, score)) => Explanation::yes(score, description, details),
                    None => Explanation::no("No matching clause", details),
                }
            }
            Weight::Boosting { positive, .. } => {
                let inner = self.explain(positive, doc);
                match self.at(weight, doc) {
                    Some((_, score)) => Explanation::yes(score, weight.text(), vec![inner]),
                    None => inner,
                }
            }
        }
    }

    fn explain_bool(&self, weight: &'a Weight, parts: &'a BoolWeight, doc: DocId) -> Explanation {
        let mut details = Vec::new();
        let (mut failed, mut matching, mut optional) = (false, 0, 0);
        for (clauses, scores) in [(&parts.must, true), (&parts.filter, false)] {
            for clause in clauses {
                let e = self.explain(clause, doc);
                if !e.matches {
                    failed = true;
                    details.push(Explanation::no(format!("no match on required clause ({})", clause.text()), vec![e]));
                    continue;
                }
                matching += 1;
                details.push(if scores {
                    e
                } else {
                    let zero = Explanation::yes(0.0, "# clause", Vec::new());
                    Explanation::yes(0.0, "match on required clause, product of:", vec![zero, e])
                });
            }
        }
        for clause in &parts.should {
            let e = self.explain(clause, doc);
            if e.matches {
                matching += 1;
                optional += 1;
                details.push(e);
            }
        }
        for clause in &parts.must_not {
            let e = self.explain(clause, doc);
            if e.matches {
                failed = true;
                details.push(Explanation::no(format!("match on prohibited clause ({})", clause.text()), vec![e]));
            }
        }
        if failed {
            return Explanation::no("Failure to meet condition(s) of required/prohibited clause(s)", details);
        }
        if matching == 0 {
            return Explanation::no("No matching clauses", details);
        }
        match self.at(weight, doc) {
            Some((_, score)) if optional >= parts.minimum => Explanation::yes(score, "sum of:", details),
            _ => Explanation::no(
                format!("Failure to match minimum number of optional clauses: {}", parts.minimum),
                details,
            ),
        }
    }

    fn similarity(
        &self,
        weight: &Weight,
        field: &str,
        bm25: &Bm25,
        freq: Explanation,
        score: f32,
        doc: DocId,
    ) -> Explanation {
        let norms = self.reader.field(field).and_then(FieldReader::norms);
        let norm = norms.map_or(1, |n| n[doc as usize]);
        let one_idf = |&(n, all): &(u64, u64)| {
            Explanation::yes(
                bm25::idf(n, all),
                "idf, computed as log(1 + (N - n + 0.5) / (n + 0.5)) from:",
                vec![
                    Explanation::count(n, "n, number of documents containing term"),
                    Explanation::count(all, "N, total number of documents with field"),
                ],
            )
        };
        let idf = match &bm25.terms[..] {
            [only] => one_idf(only),
            terms => Explanation::yes(bm25.idf, "idf, sum of:", terms.iter().map(one_idf).collect()),
        };
        let value = f64::from(freq.value);
        let tf = (value / (value + f64::from(bm25.norms.0[norm as usize]))) as f32;
        let description = format!("score(freq={:?}), computed as boost * idf * tf from:", freq.value);
        let mut length = vec![freq, Explanation::yes(bm25::K1, "k1, term saturation parameter", Vec::new())];
        if norms.is_some() {
            let dl = decode_length(norm);
            let about = if norm > 39 { " (approximate)" } else { "" };
            length.push(Explanation::yes(bm25::B, "b, length normalization parameter", Vec::new()));
            length.push(Explanation::yes(dl as f32, format!("dl, length of field{about}"), Vec::new()));
            length.push(Explanation::yes(bm25.average_length, "avgdl, average length of field", Vec::new()));
        }
        let tf = Explanation::yes(tf, "tf, computed as freq / (freq + k1 * (1 - b + b * dl / avgdl)) from:", length);
        let boost = Explanation::yes(bm25.boost * (1.0 + bm25::K1), "boost", Vec::new());
        let inner = Explanation::yes(score, description, vec![boost, idf, tf]);
        Explanation::yes(
            score,
            format!("weight({} in {doc}) [PerFieldSimilarity], result of:", weight.text()),
            vec![inner],
        )
    }
}
