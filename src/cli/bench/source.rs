//! Sources: what templates draw their values from.

use std::path::Path;
use std::sync::Arc;

use super::data::Data;
use super::random::{Random, Zipf};
use super::workload::{Order, SourceKind, SourceSpec};

/// Distinct values of an `integers` source at most; more cannot be told from without a bound.
const INTEGERS_MAX: u64 = 1 << 53;

/// A source, ready to draw from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    order: Draw,
    draws: usize,
    values: Values,
}

#[derive(Debug)]
enum Draw {
    Uniform,
    Sequential,
    Zipf(Zipf),
}

#[derive(Debug)]
enum Values {
    Rows { data: Arc<Data>, columns: Vec<(String, Vec<Box<str>>)> },
    Integers { from: i64, count: u64 },
    List(Vec<Box<str>>),
    Fresh(String),
}

/// What a mention in a template stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// `{{name}}`
    Whole,
    /// `{{name.field}}`: a column of the source.
    Column(usize),
}

/// Which request and document a value is for; what makes fresh ids fresh.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) run: u64,
    pub(super) request: u64,
    pub(super) document: u32,
}

impl Source {
    pub(super) fn new(name: &str, spec: &SourceSpec, data: Option<&Arc<Data>>, base: &Path) -> Result<Source, String> {
        Source::build(name, spec, data, base).map_err(|e| format!("source [{name}]: {e}"))
    }

    fn build(name: &str, spec: &SourceSpec, data: Option<&Arc<Data>>, base: &Path) -> Result<Source, String> {
        use SourceKind::{Fresh, Integers, List, Rows, Values as Distinct, Words};
        let given = [
            ("from", spec.from.is_some(), spec.kind == Integers),
            ("to", spec.to.is_some(), spec.kind == Integers),
            ("values", spec.values.is_some(), spec.kind == List),
            ("file", spec.file.is_some(), spec.kind == List),
            ("field", spec.field.is_some(), matches!(spec.kind, Distinct | Words)),
            ("prefix", spec.prefix.is_some(), spec.kind == Fresh),
            ("draws", spec.draws.is_some(), !matches!(spec.kind, Rows | Fresh)),
            ("exponent", spec.exponent.is_some(), spec.order == Order::Zipf),
        ];
        if let Some((key, ..)) = given.iter().find(|(_, given, fits)| *given && !fits) {
            return Err(format!("[{key}] does not go with this kind or order"));
        }
        let documents = || data.cloned().ok_or("needs [data]");
        let field = || spec.field.as_deref().ok_or("needs field");
        let values = match spec.kind {
            Rows => Values::Rows { data: documents()?, columns: Vec::new() },
            Integers => {
                let (from, to) = (spec.from.unwrap_or(0), spec.to.ok_or("needs to")?);
                let count = to.checked_sub(from).and_then(|n| u64::try_from(n).ok()).map(|n| n + 1);
                let count = count.filter(|n| *n <= INTEGERS_MAX).ok_or("to is below from, or far too high")?;
                Values::Integers { from, count }
            }
            List => Values::List(match (&spec.values, &spec.file) {
                (Some(values), None) => values.iter().map(|v| v.as_str().into()).collect(),
                (None, Some(file)) => {
                    let path = base.join(file);
                    let text = std::fs::read_to_string(&path).map_err(|e| format!("[{}]: {e}", path.display()))?;
                    text.lines().filter(|line| !line.is_empty()).map(Into::into).collect()
                }
                _ => return Err("either values or file".into()),
            }),
            Distinct => Values::List(documents()?.frequent(field()?, false)?),
            Words => Values::List(documents()?.frequent(field()?, true)?),
            Fresh => Values::Fresh(spec.prefix.clone().unwrap_or_default()),
        };
        let mut source = Source { name: name.to_owned(), order: Draw::Uniform, draws: spec.draws.unwrap_or(1), values };
        if !(1..=100).contains(&source.draws) {
            return Err("draws: 1 to 100".into());
        }
        if source.len() == 0 {
            return Err("no values".into());
        }
        source.order = match spec.order {
            Order::Uniform => Draw::Uniform,
            Order::Sequential => Draw::Sequential,
            Order::Zipf => {
                let exponent = spec.exponent.unwrap_or(1.0);
                if !(exponent > 0.0 && exponent <= 10.0) {
                    return Err("exponent: above 0, at most 10".into());
                }
                Draw::Zipf(Zipf::new(source.len(), exponent))
            }
        };
        Ok(source)
    }

    /// How many values there are.
    fn len(&self) -> u64 {
        match &self.values {
            Values::Rows { data, .. } => data.len() as u64,
            Values::Integers { count, .. } => *count,
            Values::List(list) => list.len() as u64,
            Values::Fresh(_) => 1,
        }
    }

    /// What `{{name.field}}` means, read once.
    pub(super) fn column(&mut self, field: &str) -> Result<Field, String> {
        let Values::Rows { data, columns } = &mut self.values else {
            return Err(format!("[{}] has no fields; only sources of kind rows have", self.name));
        };
        if let Some(found) = columns.iter().position(|(name, _)| name == field) {
            return Ok(Field::Column(found));
        }
        columns.push((field.to_owned(), data.column(field).map_err(|e| format!("source [{}]: {e}", self.name))?));
        Ok(Field::Column(columns.len() - 1))
    }

    /// Values are documents: JSON as they are.
    pub(super) fn is_document(&self, field: Field) -> bool {
        field == Field::Whole && matches!(self.values, Values::Rows { .. })
    }

    /// Draws for one request or document. `drawn`: how often this source was drawn from before.
    pub(super) fn draw(&self, random: &mut Random, drawn: u64, into: &mut Vec<u64>) {
        into.clear();
        let len = self.len();
        for i in 0..self.draws as u64 {
            into.push(match &self.order {
                Draw::Uniform => random.below(len),
                Draw::Sequential => drawn.wrapping_mul(self.draws as u64).wrapping_add(i) % len,
                Draw::Zipf(zipf) => zipf.draw(random),
            });
        }
    }

    /// Hands the text of what was drawn to `put`, piece by piece.
    pub(super) fn write(&self, drawn: &[u64], field: Field, place: Place, mut put: impl FnMut(&str)) {
        for (i, value) in drawn.iter().enumerate() {
            if i > 0 {
                put(" ");
            }
            match (&self.values, field) {
                (Values::Rows { columns, .. }, Field::Column(column)) => put(&columns[column].1[*value as usize]),
                (Values::Rows { data, .. }, Field::Whole) => put(data.source(*value as usize)),
                (Values::Integers { from, .. }, _) => put(&(from + *value as i64).to_string()),
                (Values::List(list), _) => put(&list[*value as usize]),
                (Values::Fresh(prefix), _) => {
                    put(&format!("{prefix}{}-{}-{}", place.run, place.request, place.document));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(toml: &str) -> Result<Source, String> {
        let spec: SourceSpec = toml::from_str(toml).unwrap();
        let file = super::super::workload::DataFile { file: None, builtin: Some("accounts".into()), limit: Some(50) };
        let data = Arc::new(Data::read(&file, Path::new(".")).unwrap());
        Source::new("s", &spec, Some(&data), Path::new("."))
    }

    fn texts(source: &Source, count: u64) -> Vec<String> {
        let mut random = Random::of(&[3]);
        let mut drawn = Vec::new();
        let text = |k: u64| {
            source.draw(&mut random, k, &mut drawn);
            let mut out = String::new();
            let place = Place { run: 1, request: k, document: 2 };
            source.write(&drawn, Field::Whole, place, |piece| out.push_str(piece));
            out
        };
        (0..count).map(text).collect()
    }

    #[test]
    fn sequential_values_come_in_turn_and_again() {
        let made = source("kind = 'integers'\nfrom = -1\nto = 1\norder = 'sequential'").unwrap();
        assert_eq!(texts(&made, 5), ["-1", "0", "1", "-1", "0"]);
        let made = source("kind = 'list'\nvalues = ['a', 'b', 'c']\ndraws = 2\norder = 'sequential'").unwrap();
        assert_eq!(texts(&made, 3), ["a b", "c a", "b c"]);
    }

    #[test]
    fn uniform_and_zipf_reach_every_value_and_zipf_prefers_the_first() {
        for order in ["uniform", "zipf"] {
            let made = source(&format!("kind = 'values'\nfield = 'gender'\norder = '{order}'")).unwrap();
            let drawn = texts(&made, 300);
            let distinct: std::collections::BTreeSet<_> = drawn.iter().collect();
            assert_eq!(distinct.len(), 2, "{order}");
        }
        let made = source("kind = 'integers'\nto = 99\norder = 'zipf'\nexponent = 1.2").unwrap();
        let drawn = texts(&made, 1000);
        let count = |text: &str| drawn.iter().filter(|d| *d == text).count();
        assert!(count("0") > 3 * count("9"), "{} {}", count("0"), count("9"));
    }

    #[test]
    fn fresh_ids_are_never_the_same() {
        let made = source("kind = 'fresh'\nprefix = 'x'").unwrap();
        assert_eq!(texts(&made, 2), ["x1-0-2", "x1-1-2"]);
    }

    #[test]
    fn a_row_has_fields() {
        let mut made = source("kind = 'rows'\norder = 'sequential'").unwrap();
        let city = made.column("city").unwrap();
        let mut out = String::new();
        made.write(&[0], city, Place::default(), |piece| out.push_str(piece));
        assert_eq!(out, "Brogan");
        assert!(made.column("town").unwrap_err().contains("no field [town]"));
    }

    #[test]
    fn mistakes_are_named() {
        let check = |toml: &str, expected: &str| {
            let found = source(toml).unwrap_err();
            assert!(found.contains(expected), "{toml}: {found}");
        };
        check("kind = 'integers'", "needs to");
        check("kind = 'integers'\nto = -5", "below from");
        check("kind = 'rows'\nfield = 'a'", "[field] does not go with");
        check("kind = 'words'", "needs field");
        check("kind = 'list'", "either values or file");
        check("kind = 'list'\nvalues = []", "no values");
        check("kind = 'integers'\nto = 5\nexponent = 2.0", "[exponent]");
        check("kind = 'integers'\nto = 5\norder = 'zipf'\nexponent = 0.0", "exponent: above 0");
    }
}
