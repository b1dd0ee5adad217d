//! Java's `DecimalFormat` patterns, as far as `format` on numbers uses them: `0`, `#.##`, `#,##0.00`, `0.0%`,
//! `$#,##0.00;($#,##0.00)`, `0.00E0`. Rounds half to even.

/// Formats `value` by `pattern`.
#[must_use]
pub fn format(pattern: &str, value: f64) -> String {
    if pattern == "raw" {
        return if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { format!("{value:?}") };
    }
    if value.is_nan() {
        return "\u{fffd}".to_owned();
    }
    let (positive, negative) = split_unquoted(pattern, ';');
    let parts = Parts::parse(positive);
    let number = parts.digits(value.abs());
    if value.is_sign_negative() && number.bytes().any(|b| (b'1'..=b'9').contains(&b)) {
        return match negative.map(Parts::parse) {
            Some(other) => format!("{}{number}{}", other.prefix, other.suffix),
            None => format!("-{}{number}{}", parts.prefix, parts.suffix),
        };
    }
    format!("{}{number}{}", parts.prefix, parts.suffix)
}

fn split_unquoted(text: &str, at: char) -> (&str, Option<&str>) {
    let mut quoted = false;
    for (i, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            c if c == at && !quoted => return (&text[..i], Some(&text[i + c.len_utf8()..])),
            _ => {}
        }
    }
    (text, None)
}

#[derive(Default)]
struct Parts {
    prefix: String,
    suffix: String,
    integer_min: usize,
    fraction_min: usize,
    fraction_max: usize,
    grouping: usize,
    exponent_min: usize,
    multiplier: f64,
}

impl Parts {
    fn parse(pattern: &str) -> Parts {
        let mut parts = Parts { multiplier: 1.0, ..Parts::default() };
        let (mut in_number, mut after, mut in_fraction, mut quoted) = (false, false, false, false);
        let (mut since_group, mut grouped) = (0, false);
        for c in pattern.chars().take(200) {
            match c {
                '\'' => quoted = !quoted,
                '#' | '0' | ',' | '.' if !quoted && !after => {
                    in_number = true;
                    match c {
                        '.' => in_fraction = true,
                        ',' => (grouped, since_group) = (true, 0),
                        '0' if parts.exponent_min > 0 => parts.exponent_min += 1,
                        _ if in_fraction => {
                            parts.fraction_max += 1;
                            parts.fraction_min += usize::from(c == '0');
                        }
                        _ => {
                            since_group += 1;
                            parts.integer_min += usize::from(c == '0');
                        }
                    }
                }
                'E' if !quoted && in_number && !after && parts.exponent_min == 0 => {
                    parts.exponent_min = 1; // counts the E itself; digits come on top
                }
                c => {
                    after |= in_number;
                    if !quoted && c == '%' {
                        parts.multiplier = 100.0;
                    } else if !quoted && c == '\u{2030}' {
                        parts.multiplier = 1000.0;
                    }
                    let c = if !quoted && c == '\u{a4}' { '$' } else { c };
                    if in_number { parts.suffix.push(c) } else { parts.prefix.push(c) }
                }
            }
        }
        if grouped {
            parts.grouping = since_group;
        }
        parts
    }

    fn digits(&self, value: f64) -> String {
        let value = value * self.multiplier;
        if value.is_infinite() {
            return "\u{221e}".to_owned();
        }
        if self.exponent_min > 0 {
            return self.scientific(value);
        }
        let mut text = self.fixed(value);
        if self.grouping > 0 {
            let end = text.find('.').unwrap_or(text.len());
            let mut at = end;
            while at > self.grouping {
                at -= self.grouping;
                text.insert(at, ',');
            }
        }
        text
    }

    /// Rounded to the fraction's digits (Rust rounds the exact value half to even, as Java does).
    fn fixed(&self, value: f64) -> String {
        let mut text = format!("{value:.precision$}", precision = self.fraction_max);
        if let Some(point) = text.find('.') {
            while text.len() - point - 1 > self.fraction_min && text.ends_with('0') {
                text.pop();
            }
            if text.ends_with('.') {
                text.pop();
            }
        }
        let integer = text.find('.').unwrap_or(text.len());
        if self.integer_min == 0 && text.starts_with('0') && text.len() > 1 {
            text.remove(0);
        } else if integer < self.integer_min {
            text.insert_str(0, &"0".repeat(self.integer_min - integer));
        }
        text
    }

    fn scientific(&self, value: f64) -> String {
        let mut exponent = if value == 0.0 { 0 } else { value.log10().floor() as i32 };
        let shift = self.integer_min.max(1) as i32 - 1;
        let mut mantissa = value / 10f64.powi(exponent - shift);
        if mantissa >= 10f64.powi(shift + 1) {
            exponent += 1;
            mantissa /= 10.0;
        }
        let exponent = exponent - shift;
        let sign = if exponent < 0 { "-" } else { "" };
        let width = self.exponent_min - 1;
        format!("{}E{sign}{:0width$}", self.fixed(mantissa), exponent.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_format_as_in_java() {
        for (pattern, value, expected) in [
            ("0", 1.5, "2"),
            ("0", 2.5, "2"),
            ("#.0", 0.25, ".2"),
            ("0.00", 1234.5, "1234.50"),
            ("#,##0.00", 1_234_567.891, "1,234,567.89"),
            ("#,##0.##", -1234.5, "-1,234.5"),
            ("000", 7.0, "007"),
            ("0.0%", 0.1234, "12.3%"),
            ("$#,##0.00;($#,##0.00)", -5.0, "($5.00)"),
            ("'#'0", 5.0, "#5"),
            ("0.00E0", 12345.0, "1.23E4"),
            ("0.###E00", 0.00012, "1.2E-04"),
            ("raw", 5.0, "5"),
            ("##0.0#", 0.0, "0.0"),
            ("0", -0.2, "0"),
        ] {
            assert_eq!(format(pattern, value), expected, "{pattern} {value}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_patterns_never_panic(pattern in "[#0,.E%;'$x]{0,20}", value in any::<f64>()) {
            let _ = format(&pattern, value);
        }
    }
}
