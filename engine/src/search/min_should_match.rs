//! `minimum_should_match`: how many of the optional clauses must match.
//!
//! Forms: `3`, `-1` (all but one), `75%`, `-25%`, `2<75%` (with more than 2 clauses, 75 %), `2<-25% 9<-3`.

use crate::error::{Error, Result};

/// How many of `clauses` optional clauses must match by `spec`. More than there are, if it says so: then nothing matches.
///
/// # Errors
/// The text is not of one of the forms.
pub fn minimum_should_match(spec: &str, clauses: usize) -> Result<usize> {
    let clauses = i64::try_from(clauses).unwrap_or(i64::MAX);
    Ok(usize::try_from(resolve(spec, clauses)?.max(0)).unwrap_or(usize::MAX))
}

fn resolve(spec: &str, clauses: i64) -> Result<i64> {
    let spec = spec.trim();
    if !spec.contains('<') {
        return simple(spec, clauses);
    }
    // "3 < 90%" is one condition: blanks beside '<' do not separate.
    let mut compact = String::with_capacity(spec.len());
    for part in spec.split('<').map(str::trim) {
        if !compact.is_empty() {
            compact.push('<');
        }
        compact.push_str(part);
    }
    let mut result = clauses;
    for condition in compact.split_whitespace() {
        let Some((above, then)) = condition.split_once('<') else { return Err(invalid(spec)) };
        if clauses <= number(above)? {
            return Ok(result);
        }
        result = simple(then, clauses)?;
    }
    Ok(result)
}

fn simple(spec: &str, clauses: i64) -> Result<i64> {
    if let Some(percent) = spec.strip_suffix('%') {
        let percent = number(percent)?;
        let part = clauses as f32 * percent as f32 * (1.0 / 100.0);
        return Ok(if part < 0.0 { clauses + part as i64 } else { part as i64 });
    }
    let n = number(spec)?;
    Ok(if n < 0 { clauses + n } else { n })
}

fn number(text: &str) -> Result<i64> {
    text.trim().parse::<i32>().map(i64::from).map_err(|_| invalid(text))
}

fn invalid(text: &str) -> Error {
    Error::request("number_format_exception", format!("For input string: \"{}\"", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_counts_as_documented() {
        for (spec, clauses, expected) in [
            ("2", 3, 2),
            ("5", 3, 5),
            ("-1", 3, 2),
            ("-5", 3, 0),
            ("75%", 4, 3),
            ("75%", 3, 2),
            ("-25%", 4, 3),
            ("-25%", 3, 3),
            ("100%", 3, 3),
            ("0", 3, 0),
            ("3<90%", 3, 3),
            ("3<90%", 10, 9),
            ("3 < 90%", 10, 9),
            ("2<-25% 9<-3", 2, 2),
            ("2<-25% 9<-3", 4, 3),
            ("2<-25% 9<-3", 10, 7),
            ("1<2 5<3", 4, 2),
        ] {
            assert_eq!(minimum_should_match(spec, clauses).unwrap(), expected, "{spec} of {clauses}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for spec in ["", "x", "3<", "<3", "50%%", "2<a"] {
            assert!(minimum_should_match(spec, 30).is_err(), "{spec}");
        }
    }
}
