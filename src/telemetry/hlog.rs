//! Histogram logs (`.hlog`): one compressed histogram for each interval, with a tag, in lines of
//! text.
//!
//! ```text
//! #[what wrote it]
//! #[Histogram log format version 1.3]
//! #[StartTime: 1763990000.000 (seconds since epoch)]
//! #[BaseTime: 1763990000.000 (seconds since epoch)]
//! "StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"
//! Tag=probe,0.000,1.000,182271.000,HISTFAAAA…
//! ```
//!
//! The format is HdrHistogram's (`HistogramLogWriter` in its Java library), which its tools in
//! every language read. Intervals' times are seconds since BaseTime; values and Interval_Max are
//! nanoseconds. The library's own writer omits the version and the legend, so both are written
//! here.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};

use super::annotations::{EngineNote, Note};

const VERSION: &str = "#[Histogram log format version 1.3]";
const LEGEND: &str = r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#;

/// Tags of a load generator's logs: the kinds of requests, in the order of `load::Class::ANSWERED`.
pub const ASKED_TAGS: [&str; 4] = ["report", "info", "probe", "heartbeat"];

/// Writes a log.
pub struct HistogramLog<W> {
    out: W,
    serializer: V2DeflateSerializer,
}

impl<W: Write> HistogramLog<W> {
    /// Begins a log with a comment and its start time.
    ///
    /// # Errors
    /// The writer's.
    pub fn begin(out: W, comment: &str, start: SystemTime) -> io::Result<Self> {
        Self::begin_part(out, comment, start, start)
    }

    /// Begins one of several logs whose times all count from `base`.
    ///
    /// # Errors
    /// The writer's.
    pub fn begin_part(mut out: W, comment: &str, start: SystemTime, base: SystemTime) -> io::Result<Self> {
        for line in comment.lines() {
            writeln!(out, "#[{line}]")?;
        }
        writeln!(out, "{VERSION}")?;
        let mut serializer = V2DeflateSerializer::new();
        IntervalLogWriterBuilder::new()
            .with_start_time(start)
            .with_base_time(base)
            .begin_log_with(&mut out, &mut serializer)?;
        writeln!(out, "{LEGEND}")?;
        Ok(Self { out, serializer })
    }

    /// Continues a log that was begun elsewhere: writes no header.
    pub fn go_on(out: W) -> Self {
        Self { out, serializer: V2DeflateSerializer::new() }
    }

    /// Writes an annotation, which is a comment for other readers.
    ///
    /// # Errors
    /// The writer's.
    pub fn note(&mut self, note: &Note) -> io::Result<()> {
        writeln!(self.out, "{note}")
    }

    /// Writes the histogram of the interval that began this long after BaseTime.
    ///
    /// # Errors
    /// The writer's.
    ///
    /// # Panics
    /// If the tag is not a word: it may contain no comma, white space or end of line.
    pub fn write(
        &mut self,
        tag: Option<&str>,
        since_base: Duration,
        length: Duration,
        histogram: &Histogram<u64>,
    ) -> io::Result<()> {
        let tag = tag.map(|tag| Tag::new(tag).expect("tags are words"));
        // Without times the library writes no header.
        let mut log = IntervalLogWriterBuilder::new().begin_log_with(&mut self.out, &mut self.serializer)?;
        match log.write_histogram(histogram, since_base, length, tag) {
            Ok(()) => Ok(()),
            Err(IntervalLogWriterError::IoError(error)) => Err(error),
            Err(IntervalLogWriterError::SerializeError(error)) => Err(io::Error::other(error.to_string())),
        }
    }

    /// Ends the log and returns the writer.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// The header of a log.
pub(super) fn head(engine: &EngineNote, start: SystemTime, base: SystemTime) -> io::Result<Vec<u8>> {
    let comment = concat!("Baton ", env!("CARGO_PKG_VERSION"), ": nanoseconds, a line a second and stage");
    let mut log = HistogramLog::begin_part(Vec::new(), comment, start, base)?;
    log.note(&Note::Engine(engine.clone()))?;
    log.finish()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_990_000_500);
        let mut log = HistogramLog::begin(Vec::new(), "baton\nof a test", start).unwrap();
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        for second in 0..3_u64 {
            histogram.record_n(1_000 + second, 10).unwrap();
            log.write(Some("probe"), Duration::from_secs(second), Duration::from_secs(1), &histogram).unwrap();
        }
        log.write(None, Duration::from_secs(3), Duration::from_millis(500), &histogram).unwrap();
        let text = String::from_utf8(log.finish().unwrap()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..6],
            [
                "#[baton]",
                "#[of a test]",
                VERSION,
                "#[StartTime: 1763990000.500 (seconds since epoch)]",
                "#[BaseTime: 1763990000.500 (seconds since epoch)]",
                LEGEND
            ]
        );
        let mut found = Vec::new();
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            match entry.unwrap() {
                LogEntry::StartTime(time) | LogEntry::BaseTime(time) => {
                    assert_eq!(time, Duration::from_millis(1_763_990_000_500));
                }
                LogEntry::Interval(interval) => {
                    let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
                    let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                    found.push((
                        interval.tag().map(|tag| tag.as_str().to_owned()),
                        interval.start_timestamp(),
                        read.len(),
                    ));
                }
            }
        }
        let probe = || Some("probe".to_owned());
        let second = Duration::from_secs;
        assert_eq!(
            found,
            [(probe(), second(0), 10), (probe(), second(1), 20), (probe(), second(2), 30), (None, second(3), 30)]
        );
    }
}
