//! Lines of a body that arrives in pieces. A line inside one piece is a slice of it, without a copy.

use std::io::BufRead;

use bytes::Bytes;

/// Cuts pieces into lines.
#[derive(Default)]
pub struct Lines {
    carry: Vec<u8>,
}

impl Lines {
    /// Takes the next piece; calls `line` for every line that it ends (without its newline).
    pub fn feed<E>(&mut self, piece: &Bytes, mut line: impl FnMut(Bytes) -> Result<(), E>) -> Result<(), E> {
        let mut start = 0;
        loop {
            // The standard library's quickest search for a byte.
            let taken = (&piece[start..]).skip_until(b'\n').expect("reading memory cannot fail");
            let Some(end) = (start + taken).checked_sub(1).filter(|last| taken > 0 && piece[*last] == b'\n') else {
                break;
            };
            if self.carry.is_empty() {
                line(piece.slice(start..end))?;
            } else {
                self.carry.extend_from_slice(&piece[start..end]);
                line(std::mem::take(&mut self.carry).into())?;
            }
            start = end + 1;
        }
        self.carry.extend_from_slice(&piece[start..]);
        Ok(())
    }

    /// What follows the last newline.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.carry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_body_is_cut(text in "[a-c\\n]{0,60}", cuts in proptest::collection::vec(0usize..60, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for pair in cuts.windows(2) {
                let piece = Bytes::copy_from_slice(&text.as_bytes()[pair[0]..pair[1]]);
                lines.feed(&piece, |l| { got.push(String::from_utf8(l.to_vec()).unwrap()); Ok::<(), ()>(()) }).unwrap();
            }
            got.push(String::from_utf8(lines.rest().to_vec()).unwrap());
            let want: Vec<&str> = text.split('\n').collect();
            prop_assert_eq!(got, want);
        }
    }
}
