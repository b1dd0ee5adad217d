//! The tables of `_cat`: columns and cells in, Elasticsearch's text (or rows for JSON and YAML) out.
//!
//! Columns of text are padded to their widest cell and parted by one space; the last one is not padded. Without
//! `v` there is no header line, and headers do not widen columns.

use std::cmp::Ordering;

use serde_json::{Map, Value as Json};

use crate::error::{ApiError, ApiResult};

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Name in `h`, in headers and in JSON.
    pub name: &'static str,
    /// Other names for `h` and `s`.
    pub aliases: &'static [&'static str],
    /// What `help` says.
    pub description: &'static str,
    /// Shown without `h`.
    pub shown: bool,
    /// Numbers stand at the right.
    pub right: bool,
    /// Shown beside `sibling.name`'s own column when the parameter of this name is set: `pri`.
    pub sibling: Option<&'static str>,
}

impl Column {
    /// A column shown by default, at the left.
    #[must_use]
    pub const fn new(name: &'static str, aliases: &'static [&'static str], description: &'static str) -> Column {
        Column { name, aliases, description, shown: true, right: false, sibling: None }
    }

    /// The same, only shown when asked for.
    #[must_use]
    pub const fn hidden(mut self) -> Column {
        self.shown = false;
        self
    }

    /// The same, at the right.
    #[must_use]
    pub const fn right(mut self) -> Column {
        self.right = true;
        self
    }

    /// The same, followed by the column `<flag>.<name>` when the request sets `flag`.
    #[must_use]
    pub const fn with_sibling(mut self, flag: &'static str) -> Column {
        self.sibling = Some(flag);
        self
    }

    fn answers_to(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Empty; null in JSON.
    Null,
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A fraction, two decimals at most as loads and percentages have.
    Float(f64),
    /// true, false.
    Bool(bool),
    /// Bytes: `3.8kb`, or a whole number of the unit in `bytes`.
    Bytes(u64),
    /// A count: `1.2k`, or a whole number of the unit in `size`.
    Size(u64),
    /// Nanoseconds: `1.2s`, or a whole number of the unit in `time`.
    Nanos(u64),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<i64> for Cell {
    fn from(value: i64) -> Cell {
        Cell::Int(value)
    }
}

impl From<u64> for Cell {
    fn from(value: u64) -> Cell {
        Cell::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Cell {
    fn from(value: usize) -> Cell {
        Cell::from(value as u64)
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Cell {
        Cell::Bool(value)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Null, Into::into)
    }
}

/// How the client wants a table.
#[derive(Clone, Debug, Default)]
pub struct TableParams {
    /// `h`: columns, by name, alias or pattern.
    pub columns: Option<Vec<String>>,
    /// `s`: columns to sort by, and whether descending.
    pub sort: Vec<(String, bool)>,
    /// `v`: with a header line.
    pub verbose: bool,
    /// `help`: the columns instead of the rows.
    pub help: bool,
    /// `ts=false`: no `epoch` and `timestamp`.
    pub no_timestamp: bool,
    /// `bytes`: nanoseconds' and bytes' units are whole numbers of this many.
    bytes: Option<u64>,
    size: Option<u64>,
    time: Option<u64>,
    /// Flags that show sibling columns: `pri`.
    flags: Vec<String>,
}

impl TableParams {
    /// Reads the URL's parameters through `get`.
    ///
    /// # Errors
    /// Units and booleans that are none.
    pub fn new<'a>(get: impl Fn(&str) -> Option<&'a str>) -> ApiResult<TableParams> {
        let flag = |name: &str, default: bool| match get(name) {
            None => Ok(default),
            Some("" | "true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(ApiError::illegal_argument(format!(
                "Failed to parse value [{other}] as only [true] or [false] are allowed."
            ))),
        };
        let list = |text: &str| -> Vec<String> {
            text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
        };
        let unit = |name: &str, units: &[(&str, u64)]| match get(name).filter(|u| !u.is_empty()) {
            None => Ok(None),
            Some(text) => match units.iter().find(|(unit, _)| *unit == text) {
                Some(&(_, factor)) => Ok(Some(factor)),
                None => Err(ApiError::illegal_argument(format!("Failed to parse [{name}] with value [{text}]"))),
            },
        };
        const K: u64 = 1 << 10;
        let bytes: [(&str, u64); 11] = [
            ("b", 1),
            ("k", K),
            ("kb", K),
            ("m", K * K),
            ("mb", K * K),
            ("g", K * K * K),
            ("gb", K * K * K),
            ("t", K * K * K * K),
            ("tb", K * K * K * K),
            ("p", K * K * K * K * K),
            ("pb", K * K * K * K * K),
        ];
        let size = [
            ("k", 1000),
            ("m", 1_000_000),
            ("g", 1_000_000_000),
            ("t", 1_000_000_000_000),
            ("p", 1_000_000_000_000_000),
        ];
        let time = [
            ("nanos", 1),
            ("micros", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000),
            ("d", 86_400_000_000_000),
        ];
        let sort = get("s").map(list).unwrap_or_default();
        Ok(TableParams {
            columns: get("h").map(list).filter(|c| !c.is_empty()),
            sort: sort
                .into_iter()
                .map(|text| match text.rsplit_once(':') {
                    Some((name, "desc")) => (name.to_owned(), true),
                    Some((name, "asc")) => (name.to_owned(), false),
                    _ => (text, false),
                })
                .collect(),
            verbose: flag("v", false)?,
            help: flag("help", false)?,
            no_timestamp: !flag("ts", true)?,
            bytes: unit("bytes", &bytes)?,
            size: unit("size", &size)?,
            time: unit("time", &time)?,
            flags: if flag("pri", false)? { vec!["pri".to_owned()] } else { Vec::new() },
        })
    }
}

/// A table: columns, and rows with a cell for each.
#[derive(Clone, Debug)]
pub struct Table {
    columns: &'static [Column],
    rows: Vec<Vec<Cell>>,
}

/// A column as it is shown.
struct Shown {
    index: usize,
    display: String,
}

impl Table {
    /// Without rows.
    #[must_use]
    pub fn new(columns: &'static [Column]) -> Table {
        Table { columns, rows: Vec::new() }
    }

    /// Adds a row: one cell for each column, in order.
    pub fn push(&mut self, row: Vec<Cell>) {
        assert!(row.len() == self.columns.len(), "a cell for every column");
        self.rows.push(row);
    }

    /// What `help` answers: name, aliases and description of every column.
    #[must_use]
    pub fn help(&self) -> String {
        let lines: Vec<[String; 3]> =
            self.columns.iter().map(|c| [c.name.to_owned(), c.aliases.join(","), c.description.to_owned()]).collect();
        let width = |i: usize| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        let mut out = String::new();
        for line in &lines {
            for (i, text) in line.iter().enumerate() {
                out.push_str(if i > 0 { " | " } else { "" });
                pad(&mut out, text, widths[i], false, false);
            }
            out.push('\n');
        }
        out
    }

    /// As text.
    ///
    /// # Errors
    /// Sort keys that are no columns.
    pub fn text(&self, params: &TableParams) -> ApiResult<String> {
        if params.help {
            return Ok(self.help());
        }
        let shown = self.shown(params);
        let rows: Vec<Vec<String>> = self
            .sorted(params)?
            .into_iter()
            .map(|row| shown.iter().map(|s| render(&row[s.index], params).unwrap_or_default()).collect())
            .collect();
        let mut widths: Vec<usize> =
            shown.iter().map(|s| if params.verbose { s.display.chars().count() } else { 0 }).collect();
        for row in &rows {
            for (width, text) in widths.iter_mut().zip(row) {
                *width = (*width).max(text.chars().count());
            }
        }
        let mut out = String::new();
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            for (i, text) in cells.enumerate() {
                out.push_str(if i > 0 { " " } else { "" });
                let last = i + 1 == shown.len();
                pad(&mut out, text, widths[i], self.columns[shown[i].index].right, last);
            }
            out.push('\n');
        };
        if params.verbose {
            line(&mut shown.iter().map(|s| s.display.as_str()));
        }
        rows.iter().for_each(|row| line(&mut row.iter().map(String::as_str)));
        Ok(out)
    }

    /// As rows of an array, for JSON and its kin: every value is text.
    ///
    /// # Errors
    /// Sort keys that are no columns.
    pub fn rows(&self, params: &TableParams) -> ApiResult<Json> {
        let shown = self.shown(params);
        let object = |row: &Vec<Cell>| -> Json {
            let cells = shown
                .iter()
                .map(|s| (s.display.clone(), render(&row[s.index], params).map_or(Json::Null, Json::String)));
            Json::Object(cells.collect::<Map<_, _>>())
        };
        Ok(Json::Array(self.sorted(params)?.into_iter().map(object).collect()))
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.columns
            .iter()
            .position(|c| c.name == name)
            .or_else(|| self.columns.iter().position(|c| c.aliases.contains(&name)))
    }

    fn shown(&self, params: &TableParams) -> Vec<Shown> {
        let timestamp = |index: usize| matches!(self.columns[index].name, "epoch" | "timestamp");
        let mut shown: Vec<Shown> = Vec::new();
        let mut push = |index: usize, display: &str| {
            if (params.no_timestamp && timestamp(index)) || shown.iter().any(|s| s.display == display) {
                return;
            }
            shown.push(Shown { index, display: display.to_owned() });
            if let Some(flag) = self.columns[index].sibling
                && params.flags.iter().any(|f| f == flag)
                && let Some(sibling) = self.find(&format!("{flag}.{}", self.columns[index].name))
            {
                shown.push(Shown { index: sibling, display: format!("{flag}.{display}") });
            }
        };
        let Some(wanted) = &params.columns else {
            for (index, column) in self.columns.iter().enumerate().filter(|(_, c)| c.shown) {
                push(index, column.name);
            }
            return shown;
        };
        for name in wanted {
            if name.contains('*') {
                for (index, column) in self.columns.iter().enumerate() {
                    if column.aliases.iter().chain([&column.name]).any(|n| matches_pattern(name, n)) {
                        push(index, column.name);
                    }
                }
            } else if let Some(index) = self.find(name) {
                // Headers read as they were asked for.
                push(index, name);
            }
        }
        shown
    }

    fn sorted(&self, params: &TableParams) -> ApiResult<Vec<&Vec<Cell>>> {
        let mut keys = Vec::with_capacity(params.sort.len());
        for (name, descending) in &params.sort {
            let index = self.columns.iter().position(|c| c.answers_to(name)).ok_or_else(|| {
                ApiError::new(
                    500,
                    "unsupported_operation_exception",
                    format!("Unable to sort by unknown sort key `{name}`"),
                )
            })?;
            keys.push((index, *descending));
        }
        let mut rows: Vec<&Vec<Cell>> = self.rows.iter().collect();
        rows.sort_by(|a, b| {
            keys.iter()
                .map(|&(i, descending)| {
                    let ordering = compare(&a[i], &b[i]);
                    if descending { ordering.reverse() } else { ordering }
                })
                .find(|o| o.is_ne())
                .unwrap_or(Ordering::Equal)
        });
        Ok(rows)
    }
}

fn compare(a: &Cell, b: &Cell) -> Ordering {
    let number = |cell: &Cell| match cell {
        Cell::Int(v) => Some(*v as f64),
        Cell::Float(v) => Some(*v),
        Cell::Bytes(v) | Cell::Size(v) | Cell::Nanos(v) => Some(*v as f64),
        _ => None,
    };
    match (a, b) {
        (Cell::Null, Cell::Null) => Ordering::Equal,
        (Cell::Null, _) => Ordering::Less,
        (_, Cell::Null) => Ordering::Greater,
        (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
        (Cell::Bool(a), Cell::Bool(b)) => a.cmp(b),
        (Cell::Int(a), Cell::Int(b)) => a.cmp(b),
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => plain(a).cmp(&plain(b)),
        },
    }
}

fn plain(cell: &Cell) -> Option<String> {
    render(cell, &TableParams::default())
}

fn render(cell: &Cell, params: &TableParams) -> Option<String> {
    Some(match cell {
        Cell::Null => return None,
        Cell::Text(text) => text.clone(),
        Cell::Int(value) => value.to_string(),
        Cell::Float(value) => {
            let text = format!("{value:.2}");
            match text.strip_suffix('0') {
                Some(short) if !short.ends_with('.') => short.to_owned(),
                _ => text,
            }
        }
        Cell::Bool(value) => value.to_string(),
        Cell::Bytes(value) => match params.bytes {
            Some(unit) => (value / unit).to_string(),
            None => bytes_text(*value),
        },
        Cell::Size(value) => match params.size {
            Some(unit) => (value / unit).to_string(),
            None => scaled(
                *value,
                &[
                    (1_000_000_000_000_000, "p"),
                    (1_000_000_000_000, "t"),
                    (1_000_000_000, "g"),
                    (1_000_000, "m"),
                    (1000, "k"),
                    (1, ""),
                ],
            ),
        },
        Cell::Nanos(value) => match params.time {
            Some(unit) => (value / unit).to_string(),
            None => nanos_text(*value),
        },
    })
}

/// `208b`, `3.8kb`, `1gb`.
#[must_use]
pub fn bytes_text(bytes: u64) -> String {
    scaled(bytes, &[(1 << 50, "pb"), (1 << 40, "tb"), (1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb"), (1, "b")])
}

/// `0s`, `12ms`, `1.2s`, `3.4d`.
#[must_use]
pub fn nanos_text(nanos: u64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    const UNITS: [(u64, &str); 7] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "micros"),
        (1, "nanos"),
    ];
    scaled(nanos, &UNITS)
}

/// In the largest unit that is not above the value, with one decimal, cut off, unless that is zero.
fn scaled(value: u64, units: &[(u64, &str)]) -> String {
    let &(unit, suffix) = units.iter().find(|(unit, _)| value >= *unit).unwrap_or(&units[units.len() - 1]);
    let tenth = u128::from(value % unit) * 10 / u128::from(unit);
    if tenth == 0 { format!("{}{suffix}", value / unit) } else { format!("{}.{tenth}{suffix}", value / unit) }
}

fn pad(out: &mut String, text: &str, width: usize, right: bool, last: bool) {
    let blanks = width.saturating_sub(text.chars().count());
    if right {
        out.extend(std::iter::repeat_n(' ', blanks));
    }
    out.push_str(text);
    if !right && !last {
        out.extend(std::iter::repeat_n(' ', blanks));
    }
}

/// Whether `text` is of the form of a pattern, in which `*` is any text.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let parts: Vec<&str> = pattern.split('*').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;
    use serde_json::json;

    static COLUMNS: [Column; 8] = [
        Column::new("index", &["i", "idx"], "index name"),
        Column::new("epoch", &["t"], "seconds since 1970"),
        Column::new("docs.count", &["dc", "docsCount"], "available docs").right(),
        Column::new("store.size", &["ss"], "store size of primaries & replicas").right().with_sibling("pri"),
        Column::new("pri.store.size", &[], "store size of primaries").right().hidden(),
        Column::new("took", &[], "time").hidden(),
        Column::new("load", &["l"], "load").right().hidden(),
        Column::new("note", &["n"], "a note"),
    ];

    fn table() -> Table {
        let mut table = Table::new(&COLUMNS);
        let mut row = |name: &str, docs: u64, bytes: u64, nanos: u64, note: Option<&str>| {
            table.push(vec![
                name.into(),
                1_388_598_000u64.into(),
                docs.into(),
                Cell::Bytes(bytes),
                Cell::Bytes(bytes / 2),
                Cell::Nanos(nanos),
                Cell::Float(1.5),
                note.into(),
            ]);
        };
        row("b-long", 3, 3900, 1_250_000_000, Some("x"));
        row("a", 120, 208, 0, None);
        row("c", 9, 5 << 20, 90_000_000_000, Some("longer"));
        table
    }

    fn params(query: &[(&str, &str)]) -> TableParams {
        TableParams::new(|name| query.iter().find(|(k, _)| *k == name).map(|(_, v)| *v)).unwrap()
    }

    fn text(query: &[(&str, &str)]) -> String {
        table().text(&params(query)).unwrap()
    }

    #[test]
    fn columns_are_padded_but_the_last() {
        let expected = "b-long 1388598000   3 3.8kb x\n\
                        a      1388598000 120  208b \n\
                        c      1388598000   9   5mb longer\n";
        assert_eq!(text(&[]), expected);
        let expected = "index  docs.count store.size note\n\
                        b-long          3      3.8kb x\n\
                        a             120       208b \n\
                        c               9        5mb longer\n";
        assert_eq!(text(&[("v", ""), ("ts", "false")]), expected);
    }

    #[test]
    fn headers_read_as_asked_for() {
        assert_eq!(text(&[("v", "true"), ("h", "i,dc,nope")]), "i       dc\nb-long   3\na      120\nc        9\n");
        assert_eq!(text(&[("v", ""), ("h", "docs*,*ok")]).lines().next(), Some("docs.count took"));
        assert_eq!(text(&[("h", "took")]), "1.2s\n0s\n1.5m\n");
    }

    #[test]
    fn rows_sort_by_several_columns() {
        assert_eq!(text(&[("h", "i"), ("s", "index:desc")]), "c\nb-long\na\n");
        assert_eq!(text(&[("h", "i"), ("s", "l,dc:desc")]), "a\nc\nb-long\n");
        assert_eq!(text(&[("h", "i"), ("s", "note")]), "a\nc\nb-long\n");
        let error = table().text(&params(&[("s", "nope")])).unwrap_err();
        assert_eq!(error.reason, "Unable to sort by unknown sort key `nope`");
    }

    #[test]
    fn units_make_whole_numbers() {
        assert_eq!(text(&[("h", "ss"), ("bytes", "kb")]), "   3\n   0\n5120\n");
        assert_eq!(text(&[("h", "took"), ("time", "ms")]), "1250\n0\n90000\n");
        assert!(TableParams::new(|name| (name == "bytes").then_some("x")).is_err());
        assert!(TableParams::new(|name| (name == "v").then_some("x")).is_err());
    }

    #[test]
    fn siblings_come_along_when_asked_for() {
        let got = text(&[("h", "i,store.size"), ("pri", ""), ("v", "")]);
        assert_eq!(got.lines().next(), Some("i      store.size pri.store.size"));
    }

    #[test]
    fn help_lists_every_column() {
        let help = table().help();
        assert_eq!(help.lines().count(), 8);
        assert!(help.starts_with("index          | i,idx        | index name"));
        let expected = Regex::new(r"(?x)^ index .+ \n epoch .+ \n docs\.count .+ \n (.+\n){5} $").unwrap();
        assert!(expected.is_match(&help));
        assert_eq!(text(&[("help", "")]), help);
    }

    #[test]
    fn json_has_text_and_null() {
        let got = table().rows(&params(&[("h", "i,dc,n"), ("s", "i")])).unwrap();
        assert_eq!(got[0], json!({"i": "a", "dc": "120", "n": null}));
        assert_eq!(got[1], json!({"i": "b-long", "dc": "3", "n": "x"}));
    }

    #[test]
    fn sizes_and_times_read_as_elasticsearchs() {
        for (bytes, expected) in [(0, "0b"), (208, "208b"), (1024, "1kb"), (3893, "3.8kb"), (1 << 30, "1gb")] {
            assert_eq!(bytes_text(bytes), expected);
        }
        for (nanos, expected) in
            [(0, "0s"), (1, "1nanos"), (1500, "1.5micros"), (12_000_000, "12ms"), (5_400_000_000_000, "1.5h")]
        {
            assert_eq!(nanos_text(nanos), expected);
        }
    }

    #[test]
    fn count_reads_as_the_conformance_suite_wants() {
        static COUNT: [Column; 3] = [
            Column::new("epoch", &["t", "time"], "seconds since 1970-01-01 00:00:00"),
            Column::new("timestamp", &["ts", "hms", "hhmmss"], "time in HH:MM:SS"),
            Column::new("count", &["dc", "docs.count", "docsCount"], "the document count"),
        ];
        let mut table = Table::new(&COUNT);
        table.push(vec![1_388_598_000u64.into(), "17:40:00".into(), 2u64.into()]);
        let check = |query: &[(&str, &str)], pattern: &str| {
            let text = table.text(&params(query)).unwrap();
            assert!(Regex::new(&format!("(?x){pattern}")).unwrap().is_match(&text), "{text}");
        };
        check(&[], r"^ \d+ \s \d{2}:\d{2}:\d{2} \s 2 \n $");
        check(&[("h", "count")], r"^ 2 \n $");
        check(&[("v", "true")], r"^ epoch \s+ timestamp \s+ count \s* \n \d+ \s+ \d{2}:\d{2}:\d{2} \s+ 2 \s* \n $");
        check(&[("help", "true")], r"^ epoch .+ \n timestamp .+ \n count .+ \n $");
    }
}
