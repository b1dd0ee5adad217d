//! "did you mean": names near an unknown one.

/// ` did you mean [x]?`, ` did you mean any of [x, y]?`, or nothing.
pub(super) fn suggest(unknown: &str, candidates: &[&str]) -> String {
    let mut near: Vec<(f32, &str)> = Vec::new();
    let unknown_chars: Vec<char> = unknown.chars().take(256).collect();
    for candidate in candidates {
        let likeness = likeness(&unknown_chars, candidate);
        if likeness > 0.5 {
            near.push((likeness, candidate));
        }
    }
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let names: Vec<&str> = near.iter().map(|n| n.1).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => format!(" did you mean [{one}]?"),
        many => format!(" did you mean any of [{}]?", many.join(", ")),
    }
}

/// One less the edits by the longer length.
fn likeness(a: &[char], b: &str) -> f32 {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let edits = (diagonal + usize::from(ca != cb)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = edits;
        }
    }
    let longer = a.len().max(b.len());
    if longer == 0 { 1.0 } else { 1.0 - row[b.len()] as f32 / longer as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_best_first() {
        let names = ["match", "match_all", "term", "terms"];
        assert_eq!(suggest("mtch", &names), " did you mean [match]?");
        assert_eq!(suggest("terma", &names), " did you mean any of [term, terms]?");
        assert_eq!(suggest("geo", &names), "");
    }
}
