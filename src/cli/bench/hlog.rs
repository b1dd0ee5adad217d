//! The `.hlog` file: HdrHistogram's interval log, a line per interval and operation (`Tag=operation`, values in ns, the maximum in ms), as
//! HistogramLogAnalyzer, hdr-plot and HdrHistogram's own readers take it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

/// An interval log being written, a whole line at a time.
pub(super) struct Hlog<W: Write> {
    out: W,
    serializer: V2DeflateSerializer,
    packed: Vec<u8>,
    begun: SystemTime,
}

impl Hlog<BufWriter<File>> {
    pub(super) fn create(path: &Path) -> Result<Self, String> {
        let file = File::create(path).map_err(|e| format!("[{}]: {e}", path.display()))?;
        Hlog::new(BufWriter::new(file), SystemTime::now()).map_err(|e| format!("[{}]: {e}", path.display()))
    }
}

impl<W: Write> Hlog<W> {
    /// Writes the head.
    pub(super) fn new(mut out: W, begun: SystemTime) -> std::io::Result<Hlog<W>> {
        let mut serializer = V2DeflateSerializer::new();
        IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .with_start_time(begun)
            .with_base_time(begun)
            .begin_log_with(&mut out, &mut serializer)?;
        Ok(Hlog { out, serializer, packed: Vec::new(), begun })
    }

    /// A line. Nothing is written for an empty histogram.
    pub(super) fn write(
        &mut self,
        tag: &str,
        from: SystemTime,
        length: Duration,
        histogram: &Histogram<u64>,
    ) -> Result<(), String> {
        if histogram.is_empty() {
            return Ok(());
        }
        // Commas and spaces end a tag.
        let tag: String = tag.chars().map(|c| if c == ',' || c.is_whitespace() { '_' } else { c }).collect();
        let since = from.duration_since(self.begun).unwrap_or_default();
        self.packed.clear();
        self.serializer.serialize(histogram, &mut self.packed).map_err(|e| format!("hlog: {e}"))?;
        let (at, seconds) = (since.as_secs_f64(), length.as_secs_f64());
        let max_ms = histogram.max() as f64 / 1e6;
        writeln!(self.out, "Tag={tag},{at:.3},{seconds:.3},{max_ms:.3},{}", STANDARD.encode(&self.packed))
            .map_err(|e| format!("hlog: {e}"))
    }

    /// Everything out.
    pub(super) fn finish(mut self) -> Result<W, String> {
        self.out.flush().map_err(|e| format!("hlog: {e}"))?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::histogram;
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn readers_find_the_intervals() {
        let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut log = Hlog::new(Vec::new(), begun).unwrap();
        let mut values = histogram();
        log.write("empty", begun, Duration::from_secs(1), &values).unwrap();
        for ms in 1..=100 {
            values.saturating_record(ms * 1_000_000);
        }
        log.write("get, one", begun + Duration::from_millis(2500), Duration::from_secs(1), &values).unwrap();
        let bytes = log.finish().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.starts_with("#[Histogram log format version 1.3]\n#[StartTime: 1000000.000"), "{text}");
        let entries: Vec<_> = IntervalLogIterator::new(text.as_bytes()).map(Result::unwrap).collect();
        let intervals: Vec<_> = entries
            .iter()
            .filter_map(|e| match e {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            })
            .collect();
        assert_eq!(intervals.len(), 1, "{text}");
        assert_eq!(intervals[0].tag().unwrap().as_str(), "get__one");
        assert_eq!(intervals[0].start_timestamp(), Duration::from_millis(2500));
        assert_eq!(intervals[0].duration(), Duration::from_secs(1));
        assert!((intervals[0].max() - 100.0).abs() < 0.1, "{}", intervals[0].max());
        let packed = STANDARD.decode(intervals[0].encoded_histogram()).unwrap();
        let back: Histogram<u64> = Deserializer::new().deserialize(&mut &packed[..]).unwrap();
        assert_eq!((back.len(), back.value_at_quantile(0.5)), (100, values.value_at_quantile(0.5)));
    }
}
