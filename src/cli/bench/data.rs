//! The documents of a workload, in memory, with the fields that its templates ask for.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;

use super::workload::DataFile;

const ACCOUNTS: &str = include_str!("../accounts.ndjson");

/// Documents, in the order of their file.
#[derive(Debug, Default)]
pub(super) struct Data {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    /// Without `_id`.
    source: Box<str>,
    id: Option<Box<str>>,
}

impl Data {
    /// Reads what `file` names, from `base` on.
    pub(super) fn read(file: &DataFile, base: &Path) -> Result<Data, String> {
        let limit = file.limit.unwrap_or(usize::MAX);
        let data = match (&file.file, file.builtin.as_deref()) {
            (Some(name), _) => {
                let path = base.join(name);
                let wrong = |e: &dyn std::fmt::Display| format!("data [{}]: {e}", path.display());
                let open = std::fs::File::open(&path).map_err(|e| wrong(&e))?;
                Data::of(BufReader::with_capacity(1 << 20, open), limit).map_err(|e| wrong(&e))?
            }
            (None, Some("accounts")) => Data::of(ACCOUNTS.as_bytes(), limit)?,
            (None, name) => return Err(format!("data: there is no builtin [{}], only [accounts]", name.unwrap_or(""))),
        };
        if data.rows.is_empty() { Err("data: no documents".into()) } else { Ok(data) }
    }

    fn of(mut input: impl BufRead, limit: usize) -> Result<Data, String> {
        let start = input.fill_buf().map_err(|e| e.to_string())?;
        let unpacked: Box<dyn Read + '_> = if start.starts_with(&[0x1f, 0x8b]) {
            Box::new(flate2::bufread::MultiGzDecoder::new(input))
        } else {
            Box::new(input)
        };
        let mut rows = Vec::new();
        for (number, line) in BufReader::with_capacity(1 << 20, unpacked).lines().enumerate() {
            let line = line.map_err(|e| format!("line {}: {e}", number + 1))?;
            if rows.len() >= limit {
                break;
            }
            if !line.trim().is_empty() {
                rows.push(Row::of(line.trim()).map_err(|e| format!("line {}: {e}", number + 1))?);
            }
        }
        Ok(Data { rows })
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn source(&self, row: usize) -> &str {
        &self.rows[row].source
    }

    /// The row's own id, or its number.
    pub(super) fn id(&self, row: usize) -> String {
        self.rows[row].id.as_ref().map_or_else(|| row.to_string(), |id| id.to_string())
    }

    /// A field of every row, `a.b` for one within an object: text without quotes, anything else as JSON.
    pub(super) fn column(&self, field: &str) -> Result<Vec<Box<str>>, String> {
        if field == "_id" {
            return Ok((0..self.rows.len()).map(|row| self.id(row).into()).collect());
        }
        let pick = |(number, row): (usize, &Row)| {
            let whole: Value = serde_json::from_str(&row.source).map_err(|e| e.to_string())?;
            let found = field.split('.').try_fold(&whole, |value, name| value.get(name));
            let found = found.ok_or_else(|| format!("document {} has no field [{field}]", number + 1))?;
            Ok(text_of(found).into())
        };
        self.rows.iter().enumerate().map(pick).collect()
    }

    /// Distinct values of `field`, or its distinct words, the most frequent first and equals in order.
    pub(super) fn frequent(&self, field: &str, words: bool) -> Result<Vec<Box<str>>, String> {
        let mut counts: HashMap<String, u64> = HashMap::new();
        for value in self.column(field)? {
            if words {
                for word in value.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
                    *counts.entry(word.to_lowercase()).or_default() += 1;
                }
            } else {
                *counts.entry(value.into()).or_default() += 1;
            }
        }
        let mut ranked: Vec<(String, u64)> = counts.into_iter().collect();
        ranked.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        Ok(ranked.into_iter().map(|(text, _)| text.into()).collect())
    }

    /// Rows as the lines of a bulk request, with ids.
    pub(super) fn bulk(&self, rows: std::ops::Range<usize>) -> String {
        let mut out = String::new();
        for row in rows {
            out.push_str("{\"index\":{\"_id\":");
            out.push_str(&Value::String(self.id(row)).to_string());
            out.push_str("}}\n");
            out.push_str(&self.rows[row].source);
            out.push('\n');
        }
        out
    }
}

impl Row {
    fn of(line: &str) -> Result<Row, String> {
        let mut value: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let object = value.as_object_mut().ok_or("not a JSON object")?;
        // Order of members and form of numbers stay as they are unless there is an id to take out.
        Ok(match object.shift_remove("_id") {
            Some(id) => Row { source: value.to_string().into(), id: Some(text_of(&id).into()) },
            None => Row { source: line.into(), id: None },
        })
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const TEXT: &str = "{\"_id\":7,\"a\":{\"b\":\"x y\"},\"n\":1.50}\n\n{\"n\":2,\"a\":{\"b\":\"Y, z\"}}\n";

    #[test]
    fn rows_have_ids_sources_and_columns() {
        let data = Data::of(TEXT.as_bytes(), 10).unwrap();
        assert_eq!((data.len(), data.id(0).as_str(), data.id(1).as_str()), (2, "7", "1"));
        assert_eq!(data.source(1), r#"{"n":2,"a":{"b":"Y, z"}}"#);
        assert!(!data.source(0).contains("_id"));
        assert_eq!(data.column("a.b").unwrap(), ["x y".into(), "Y, z".into()]);
        assert_eq!(data.column("_id").unwrap(), ["7".into(), "1".into()]);
        assert!(data.column("a.c").unwrap_err().contains("document 1 has no field [a.c]"));
        assert_eq!(data.frequent("a.b", true).unwrap(), ["y".into(), "x".into(), "z".into()]);
        assert_eq!(data.bulk(1..2), "{\"index\":{\"_id\":\"1\"}}\n{\"n\":2,\"a\":{\"b\":\"Y, z\"}}\n");
    }

    #[test]
    fn gzipped_files_are_read_and_limits_kept() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(TEXT.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(Data::of(&packed[..], 10).unwrap().len(), 2);
        assert_eq!(Data::of(&packed[..], 1).unwrap().len(), 1);
    }

    #[test]
    fn lines_that_are_no_documents_are_named() {
        assert!(Data::of("{}\n[1]\n".as_bytes(), 9).unwrap_err().starts_with("line 2: not a JSON object"));
    }

    #[test]
    fn the_builtin_documents_are_there() {
        let file = DataFile { file: None, builtin: Some("accounts".into()), limit: None };
        assert_eq!(Data::read(&file, Path::new(".")).unwrap().len(), 1000);
        let file = DataFile { builtin: Some("films".into()), ..file };
        assert!(Data::read(&file, Path::new(".")).is_err());
    }
}
