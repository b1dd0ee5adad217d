//! Reading what is on the disk again, and holding it against its checksums.
//!
//! Opening a shard looks at headers, contents and footers only, so that a start takes as long for a large index as for a small
//! one. What a disk has lost of the rest comes to light here, and before a merge copies it.

use std::sync::Arc;

use crate::engine::{Engine, Home};
use crate::error::{Error, Result};
use crate::ids::SegmentId;
use crate::segment::file::CHECKED_LEN;
use crate::segment::reader::SegmentReader;
use crate::segment::segment_file_name;
use crate::store::{Directory, File};

/// Blocks under one checksum that are read at a time: 1 MiB.
const BLOCKS: usize = 16;

impl<D: Directory> Engine<D> {
    /// The segments that are in files now.
    #[must_use]
    pub fn readers_of_files(&self) -> Vec<(SegmentId, Arc<SegmentReader>)> {
        let state = self.state.borrow();
        let in_files = state.segments.iter().filter(|segment| segment.home != Home::Memory);
        in_files.map(|segment| (segment.id, Arc::clone(&segment.reader))).collect()
    }

    /// Reads the segment files there are now, from the disk and not through their maps. After each piece `go_on` is given its
    /// bytes: it may rest, and end it all. The bytes read.
    ///
    /// # Errors
    /// `Corrupt` for the first block that is not what was written. That does not fail the shard. `Io`.
    pub async fn scrub(&self, go_on: impl AsyncFn(u64) -> bool) -> Result<u64> {
        let mut read = 0;
        for (id, reader) in self.readers_of_files() {
            let file = match self.directory.open(&segment_file_name(id)).await {
                Ok(file) => file,
                // Merged into another meanwhile.
                Err(Error::NotFound { .. }) => continue,
                Err(e) => return Err(e),
            };
            for first in (0..reader.blocks()).step_by(BLOCKS) {
                let blocks = first..(first + BLOCKS).min(reader.blocks());
                let len = blocks.len() * CHECKED_LEN;
                let bytes = file.read_at((first * CHECKED_LEN) as u64, len).await?;
                for block in blocks {
                    let at = (block - first) * CHECKED_LEN;
                    reader.check_block(block, &bytes[at.min(bytes.len())..])?;
                }
                read += bytes.len() as u64;
                if !go_on(bytes.len() as u64).await {
                    return Ok(read);
                }
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::tests::{Copy, operation};
    use crate::segment::segment_of_file;
    use crate::store::sim::SimDirectory;
    use futures_lite::future::block_on;

    #[test]
    fn a_flipped_bit_anywhere_in_a_segment_is_found() {
        let directory = SimDirectory::new(1);
        let copy = Copy::open(directory.clone()).unwrap();
        for n in 0..40 {
            copy.apply(&operation(n, 1, 15 + n as u8 % 10)).unwrap();
        }
        copy.flush().unwrap();
        let scrub = || block_on(copy.engine.scrub(async |_| true));
        let size = scrub().unwrap();
        let (name, _) =
            block_on(directory.list()).unwrap().into_iter().find(|(name, _)| name.ends_with(".seg")).unwrap();
        let id = segment_of_file(&name).unwrap();
        assert!(size > 100);
        for offset in (0..size).step_by(7) {
            let bit = (offset % 8) as u8;
            directory.flip(&name, offset, bit);
            // What is behind the blocks is looked at by whoever opens the file.
            let opened = SegmentReader::open(id, block_on(directory.map(&name)).unwrap());
            assert!(matches!(scrub(), Err(Error::Corrupt { .. })) || opened.is_err(), "{offset}");
            directory.flip(&name, offset, bit);
        }
        assert_eq!(scrub().unwrap(), size);
        assert_eq!(block_on(copy.engine.scrub(async |_| false)).unwrap(), size.min(1 << 20), "it can be ended");
        assert!(copy.engine.failure().is_none());
    }
}
