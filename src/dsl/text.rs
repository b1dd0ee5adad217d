//! Options that the full-text queries share: operator, fuzziness, fields with boosts.

use ringdex_engine::query::{Fuzziness, Operator, TextOptions};
use serde_json::Value;

use super::value::{count, flag, int, required_text, text};
use super::{DslError, DslResult};

/// `fuzziness` and what goes with it, wherever in the object it stands.
#[derive(Clone, Debug)]
pub(super) struct FuzzyParts {
    pub given: bool,
    pub value: Fuzziness,
}

impl Default for FuzzyParts {
    fn default() -> FuzzyParts {
        FuzzyParts {
            given: false,
            value: Fuzziness {
                edits: None,
                auto_low: 3,
                auto_high: 6,
                prefix_length: 0,
                max_expansions: 50,
                transpositions: true,
            },
        }
    }
}

impl FuzzyParts {
    /// Reads `fuzziness`: `AUTO`, `AUTO:3,6`, or edits.
    pub(super) fn fuzziness(&mut self, value: &Value) -> DslResult<()> {
        self.given = true;
        let given = required_text(value)?;
        let bad = |reason: String| Err(DslError::illegal_argument(reason));
        let upper = given.to_ascii_uppercase();
        if let Some(rest) = upper.strip_prefix("AUTO") {
            if rest.is_empty() {
                self.value.edits = None;
                return Ok(());
            }
            let limits = rest.strip_prefix(':').map(|r| r.split(',').map(|p| p.trim().parse::<u32>().ok()).collect());
            let limits: Vec<Option<u32>> = limits.unwrap_or_default();
            return match limits.as_slice() {
                [Some(low), Some(high)] if low <= high => {
                    self.value.edits = None;
                    (self.value.auto_low, self.value.auto_high) = (*low, *high);
                    Ok(())
                }
                [Some(low), Some(high)] => {
                    bad(format!("fuzziness wrongly configured, must be: lowerLimit < upperLimit: {low}, {high}"))
                }
                _ => bad("failed to find low and high distance values".to_owned()),
            };
        }
        match given.parse::<f32>() {
            Ok(edits) if (0.0..3.0).contains(&edits) => {
                self.value.edits = Some(edits as u8);
                Ok(())
            }
            Ok(edits) => bad(format!("Valid edit distances are [0, 1, 2] but was [{edits}]")),
            Err(_) => bad(format!("failed to parse fuzziness [{given}]")),
        }
    }

    pub(super) fn prefix_length(&mut self, value: &Value) -> DslResult<()> {
        self.value.prefix_length = count(value, "[match] requires prefix length to be non-negative.")?;
        Ok(())
    }

    pub(super) fn max_expansions(&mut self, value: &Value) -> DslResult<u32> {
        let n = int(value)?;
        if n <= 0 {
            return Err(DslError::illegal_argument("[match] requires maxExpansions to be positive."));
        }
        self.value.max_expansions = n as u32;
        Ok(n as u32)
    }

    pub(super) fn transpositions(&mut self, value: &Value) -> DslResult<()> {
        self.value.transpositions = flag(value)?;
        Ok(())
    }

    pub(super) fn finish(self, options: &mut TextOptions) {
        if self.given {
            options.fuzziness = Some(self.value);
        }
    }
}

pub(super) fn operator(value: &Value) -> DslResult<Operator> {
    operator_named(&required_text(value)?)
}

/// `and` or `or` in any case.
pub(super) fn operator_named(name: &str) -> DslResult<Operator> {
    match name.to_ascii_uppercase().as_str() {
        "AND" => Ok(Operator::And),
        "OR" => Ok(Operator::Or),
        upper => {
            Err(DslError::illegal_argument(format!("No enum constant org.elasticsearch.index.query.Operator.{upper}")))
        }
    }
}

pub(super) fn zero_terms(value: &Value) -> DslResult<bool> {
    let given = required_text(value)?;
    match given.to_ascii_lowercase().as_str() {
        "none" | "null" => Ok(false),
        "all" => Ok(true),
        _ => Err(super::value::parsing(format!("Unsupported zero_terms_query value [{given}]"))),
    }
}

pub(super) fn minimum_should_match(value: &Value) -> DslResult<Option<String>> {
    text(value)
}

/// `["title^3", "body"]`, or one of them alone.
pub(super) fn fields(value: &Value, query: &str) -> DslResult<Vec<(String, f32)>> {
    match value {
        Value::Array(items) => items.iter().map(|f| field(&required_text(f)?)).collect(),
        Value::Object(_) => Err(super::value::parsing(format!("[{query}] query does not support [fields]"))),
        one => Ok(vec![field(&required_text(one)?)?]),
    }
}

fn field(given: &str) -> DslResult<(String, f32)> {
    let Some((name, boost)) = given.split_once('^') else { return Ok((given.to_owned(), 1.0)) };
    let number: f32 = boost
        .parse()
        .map_err(|_| DslError::new(400, "number_format_exception", format!("For input string: \"{boost}\"")))?;
    Ok((name.to_owned(), number))
}
