//! Case by single characters, as Java's `Character` has it: one character in, one out.

/// Lower case of one character.
#[inline]
pub(super) fn lower(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    // The only character whose full mapping is longer than its simple one.
    if c == '\u{130}' {
        return 'i';
    }
    c.to_lowercase().next().unwrap_or(c)
}

/// Upper case of one character; one whose upper case is several letters (ß) stays.
pub(super) fn upper(c: char) -> char {
    match c {
        // Greek letters with iota below have simple mappings beside their longer full ones.
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => shifted(c, 8),
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => shifted(c, 9),
        _ => {
            let mut upper = c.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(one), None) => one,
                _ => c,
            }
        }
    }
}

fn shifted(c: char, by: u32) -> char {
    char::from_u32(c as u32 + by).unwrap_or(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_character_stays_one() {
        for (c, l, u) in [
            ('A', 'a', 'A'),
            ('ß', 'ß', 'ß'),
            ('İ', 'i', 'İ'),
            ('ﬁ', 'ﬁ', 'ﬁ'),
            ('ᾳ', 'ᾳ', 'ᾼ'),
            ('Σ', 'σ', 'Σ'),
            ('ς', 'ς', 'Σ'),
        ] {
            assert_eq!((lower(c), upper(c)), (l, u), "{c}");
        }
    }
}
