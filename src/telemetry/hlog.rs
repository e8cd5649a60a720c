//! Histogram logs (`.hlog`): a histogram for each interval, compressed, with a tag, in lines of text.
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
//! The format is HdrHistogram's (`HistogramLogWriter` in its Java library), read by its tools in every language. Intervals' times are
//! seconds since BaseTime; values and Interval_Max are nanoseconds. The library's own writer leaves the version and the legend out, so
//! both are written here.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};

use super::notes::Note;

const VERSION: &str = "#[Histogram log format version 1.3]";
const LEGEND: &str = r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#;

/// Writes a log.
pub struct HistogramLog<W> {
    out: W,
    serializer: V2DeflateSerializer,
}

impl<W: Write> HistogramLog<W> {
    /// Begins a log: what it is of, and when that began.
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

    /// Goes on with a log that was begun elsewhere: writes no head.
    pub fn go_on(out: W) -> Self {
        Self { out, serializer: V2DeflateSerializer::new() }
    }

    /// Writes a line of ours, which is a comment to others.
    ///
    /// # Errors
    /// The writer's.
    pub fn note(&mut self, note: &Note) -> io::Result<()> {
        writeln!(self.out, "{note}")
    }

    /// Writes what was recorded in the interval that began so long after BaseTime.
    ///
    /// # Errors
    /// The writer's.
    ///
    /// # Panics
    /// If the tag is no word: it may hold no comma, white space or end of line.
    pub fn write(
        &mut self,
        tag: Option<&str>,
        since_base: Duration,
        length: Duration,
        histogram: &Histogram<u64>,
    ) -> io::Result<()> {
        let tag = tag.map(|tag| Tag::new(tag).expect("tags are words"));
        // Without times it writes no header.
        let mut log = IntervalLogWriterBuilder::new().begin_log_with(&mut self.out, &mut self.serializer)?;
        match log.write_histogram(histogram, since_base, length, tag) {
            Ok(()) => Ok(()),
            Err(IntervalLogWriterError::IoError(error)) => Err(error),
            Err(IntervalLogWriterError::SerializeError(error)) => Err(io::Error::other(error.to_string())),
        }
    }

    /// Ends it, and gives the writer back.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
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
                    let bytes = decode(interval.encoded_histogram());
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

    /// Base 64, by its definition (RFC 4648): the tests alone read it.
    fn decode(text: &str) -> Vec<u8> {
        let value = |digit: u8| match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let digits: Vec<_> = text.bytes().filter(|&digit| digit != b'=').map(value).collect();
        let bits = |run: &[u8]| run.iter().fold(0_u32, |all, &six| all << 6 | u32::from(six)) << (6 * (4 - run.len()));
        digits.chunks(4).flat_map(|run| bits(run).to_be_bytes()[1..run.len()].to_vec()).collect()
    }
}
