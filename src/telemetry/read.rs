//! Reads histogram logs from any writer, complete or cut.
//!
//! What always holds: every complete line is read, and each other line is named. The length of a
//! line, and the decoded size of a histogram, have limits, so that no file makes its reader use
//! more memory than a few times its own length.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::annotations::{EngineNote, FramesNote, Note, RecoveryNote};
use crate::limits::{LOG_HISTOGRAM_BYTES_MAX, LOG_LINE_BYTES_MAX};

/// A log. Times are seconds since 1970.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Log {
    /// The StartTime of its header.
    pub start_s: f64,
    /// The engine that wrote it; none if it was not an engine.
    pub engine: Option<EngineNote>,
    /// In the order of the log.
    pub intervals: Vec<LogInterval>,
    /// The counts of frames, by interval.
    pub frames: Vec<FramesNote>,
    /// In the order of the log; an engine writes at most one.
    pub recoveries: Vec<RecoveryNote>,
    /// Lines that are incomplete or not understood.
    pub broken: Vec<Broken>,
}

/// A histogram of an interval, encoded as in the log: decoded it is a hundred times as large.
#[derive(Clone, PartialEq, Debug)]
pub struct LogInterval {
    /// Empty if it has none.
    pub tag: String,
    /// In seconds since 1970.
    pub start_s: f64,
    /// In seconds.
    pub length_s: f64,
    encoded: Vec<u8>,
}

/// A line that could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// From 1.
    pub line: usize,
    /// The reason, in words.
    pub why: String,
}

impl LogInterval {
    /// The decoded histogram.
    pub fn histogram(&self) -> Histogram<u64> {
        unfold(&self.encoded).expect("it was unfolded when it was read")
    }
}

impl Log {
    /// Reads the bytes of a log.
    pub fn read(bytes: &[u8]) -> Self {
        let mut log = Self::default();
        let (mut start, mut base) = (None, None);
        for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
            let is_cut = !line.ends_with(b"\n");
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            match entry(text.strip_suffix(b"\r").unwrap_or(text)) {
                Ok(Entry::Nothing) => {}
                Ok(Entry::Start(at)) => start = start.or(Some(at)),
                Ok(Entry::Base(at)) => base = base.or(Some(at)),
                Ok(Entry::Interval(interval)) => log.intervals.push(interval),
                Ok(Entry::Note(Note::Engine(note))) => log.engine = log.engine.or(Some(note)),
                Ok(Entry::Note(Note::Frames(note))) => log.frames.push(note),
                Ok(Entry::Note(Note::Recovery(note))) => log.recoveries.push(note),
                Err(why) => {
                    let why = if is_cut { format!("the file ends in the middle of it: {why}") } else { why };
                    log.broken.push(Broken { line: number + 1, why });
                }
            }
        }
        // Without a BaseTime, times count from the start; without a start, they are absolute.
        let base = base.or(start).unwrap_or(0.0);
        log.start_s = start.unwrap_or(base);
        log.intervals.iter_mut().for_each(|interval| interval.start_s += base);
        log.frames.iter_mut().for_each(|frames| frames.start_s += base);
        log.recoveries.iter_mut().for_each(|recovery| recovery.at_s += base);
        log
    }
}

enum Entry {
    Nothing,
    Start(f64),
    Base(f64),
    Interval(LogInterval),
    Note(Note),
}

fn entry(line: &[u8]) -> Result<Entry, String> {
    if line.len() > LOG_LINE_BYTES_MAX {
        return Err(format!("it has {} bytes, and at most {LOG_LINE_BYTES_MAX} are read", line.len()));
    }
    let text = str::from_utf8(line).map_err(|_| "it is not text".to_owned())?;
    if text.is_empty() || text.starts_with('"') && text.ends_with('"') {
        return Ok(Entry::Nothing);
    }
    if text.starts_with('#') {
        if !text.ends_with(']') {
            return Err("its closing bracket is missing".into());
        }
        if let Some(note) = Note::read(text) {
            return note.map(Entry::Note).map_err(|error| error.to_string());
        }
    }
    // The library wants the line's end.
    match IntervalLogIterator::new(&[line, b"\n"].concat()).next() {
        None => Ok(Entry::Nothing),
        Some(Ok(LogEntry::StartTime(time))) => Ok(Entry::Start(time.as_secs_f64())),
        Some(Ok(LogEntry::BaseTime(time))) => Ok(Entry::Base(time.as_secs_f64())),
        Some(Ok(LogEntry::Interval(interval))) => {
            let encoded =
                STANDARD.decode(interval.encoded_histogram()).map_err(|error| format!("its histogram: {error}"))?;
            unfold(&encoded)?;
            Ok(Entry::Interval(LogInterval {
                tag: interval.tag().map_or_else(String::new, |tag| tag.as_str().to_owned()),
                start_s: interval.start_timestamp().as_secs_f64(),
                length_s: interval.duration().as_secs_f64(),
                encoded,
            }))
        }
        Some(Err(_)) => Err("it is neither a comment nor an interval".into()),
    }
}

/// Compressed and plain encoding, version 2: 4 bytes of cookie. The header of the plain encoding:
/// cookie, length of the rest, offset, digits (4 bytes each), lowest and highest value, ratio (8
/// each).
const COMPRESSED: u32 = 0x1C84_9314;
const PLAIN: u32 = 0x1C84_9313;
const HEAD_BYTES: usize = 40;
/// No latency measurement needs more digits, or values of more than a day in nanoseconds.
const DIGITS_MAX: u32 = 3;
const VALUE_MAX: u64 = 86_400_000_000_000;

/// The library would allocate as much memory as the header asks for, before it checks that this
/// much follows: so the limits are checked first.
fn unfold(encoded: &[u8]) -> Result<Histogram<u64>, String> {
    let word =
        |bytes: &[u8], at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
    let plain = match word(encoded, 0) {
        Some(COMPRESSED) => {
            let mut plain = Vec::new();
            let mut reader =
                ZlibDecoder::new(&encoded[8.min(encoded.len())..]).take(LOG_HISTOGRAM_BYTES_MAX as u64 + 1);
            reader.read_to_end(&mut plain).map_err(|error| format!("its histogram cannot be decoded: {error}"))?;
            plain
        }
        Some(PLAIN) => encoded.to_vec(),
        _ => return Err("the version of its histogram is not known".into()),
    };
    let (Some(PLAIN), Some(length), Some(digits)) = (word(&plain, 0), word(&plain, 4), word(&plain, 12)) else {
        return Err("its histogram has no header".into());
    };
    let highest = plain.get(24..32).and_then(|bytes| bytes.try_into().ok()).map_or(u64::MAX, u64::from_be_bytes);
    if plain.len() > LOG_HISTOGRAM_BYTES_MAX || HEAD_BYTES + length as usize > plain.len() {
        return Err("its histogram is not as long as it says, or too long".into());
    }
    if digits > DIGITS_MAX || highest > VALUE_MAX {
        return Err(format!("its histogram has {digits} digits up to {highest}, more than is read"));
    }
    Deserializer::new().deserialize(&mut &plain[..]).map_err(|error| format!("its histogram: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use hdrhistogram::serialization::Serializer as _;
    use hdrhistogram::serialization::{V2DeflateSerializer, V2Serializer};

    use super::*;
    use crate::telemetry::HistogramLog;

    fn sample() -> Vec<u8> {
        let base = SystemTime::UNIX_EPOCH + Duration::from_secs(1_763_990_000);
        let start = base + Duration::from_secs(3600);
        let mut log = HistogramLog::begin_part(Vec::new(), "a test's", start, base).unwrap();
        log.note(&Note::Engine(EngineNote { epoch: "1.2".into(), pid: 7, part: 2 })).unwrap();
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 2).unwrap();
        for second in 3600..3603_u64 {
            histogram.record_n(1000 * second, 10).unwrap();
            log.write(Some("processing"), Duration::from_secs(second), Duration::from_secs(1), &histogram).unwrap();
            let frames = FramesNote { start_s: second as f64, length_s: 1.0, received: 10, ..FramesNote::default() };
            log.note(&Note::Frames(frames)).unwrap();
        }
        log.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_with_its_times_by_the_clock() {
        let log = Log::read(&sample());
        assert_eq!(log.broken, []);
        assert_eq!(log.start_s, 1_763_993_600.0);
        assert_eq!(log.engine.map(|engine| engine.part), Some(2));
        let seen: Vec<_> =
            log.intervals.iter().map(|it| (it.tag.as_str(), it.start_s, it.length_s, it.histogram().len())).collect();
        let at = |second: u64, count| ("processing", 1_763_993_600.0 + second as f64, 1.0, count);
        assert_eq!(seen, [at(0, 10), at(1, 20), at(2, 30)]);
        assert_eq!(log.frames[2].start_s, 1_763_993_602.0);
    }

    #[test]
    fn of_a_log_that_is_cut_anywhere_every_whole_line_is_read_and_at_most_one_is_named() {
        let whole = sample();
        let all = Log::read(&whole);
        for end in 0..whole.len() {
            let cut = Log::read(&whole[..end]);
            let lines = whole[..end].iter().filter(|&&byte| byte == b'\n').count();
            // A line that lacks only its end is complete too.
            let is_whole = whole[end] == b'\n';
            let intervals = whole[..end]
                .split_inclusive(|&byte| byte == b'\n')
                .filter(|line| line.starts_with(b"Tag=") && (line.ends_with(b"\n") || is_whole));
            assert_eq!(cut.intervals.len(), intervals.count(), "cut at {end}");
            assert!(cut.intervals.iter().zip(&all.intervals).all(|(a, b)| a.tag == b.tag && a.encoded == b.encoded));
            assert!(cut.broken.len() <= 1, "cut at {end}: {:?}", cut.broken);
            if let [broken] = &cut.broken[..] {
                assert_eq!(broken.line, lines + 1, "cut at {end}");
                assert!(broken.why.starts_with("the file ends in the middle of it: "), "{broken:?}");
            }
        }
    }

    #[test]
    fn a_line_that_is_wrong_is_named_and_the_others_are_read() {
        let text = String::from_utf8(sample()).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let at = lines.iter().position(|line| line.starts_with("Tag=")).unwrap();
        lines[at] = lines[at].replace("HIST", "HI!T");
        lines.insert(at, "what is this".into());
        lines.push("x".repeat(LOG_LINE_BYTES_MAX + 1));
        let log = Log::read(lines.join("\n").as_bytes());
        assert_eq!(log.intervals.len(), 2);
        assert_eq!(log.broken.iter().map(|broken| broken.line).collect::<Vec<_>>(), [at + 1, at + 2, lines.len()]);
    }

    #[test]
    fn a_histogram_that_unfolds_without_end_or_asks_for_the_moon_is_refused() {
        let histogram = Histogram::<u64>::new_with_bounds(1, 1000, 2).unwrap();
        let mut plain = Vec::new();
        V2Serializer::new().serialize(&histogram, &mut plain).unwrap();
        let compressed = |plain: &[u8]| {
            let mut all = COMPRESSED.to_be_bytes().to_vec();
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
            std::io::Write::write_all(&mut encoder, plain).unwrap();
            let zipped = encoder.finish().unwrap();
            all.extend_from_slice(&(zipped.len() as u32).to_be_bytes());
            all.extend(zipped);
            all
        };
        assert!(unfold(&plain).is_ok() && unfold(&compressed(&plain)).is_ok());

        let mut bomb = plain.clone();
        bomb.resize(64 << 20, 0);
        assert!(unfold(&compressed(&bomb)).unwrap_err().contains("too long"));
        let mut long = plain.clone();
        long[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(unfold(&long).unwrap_err().contains("not as long as it says"));
        let mut wide = plain.clone();
        wide[24..32].copy_from_slice(&u64::MAX.to_be_bytes());
        assert!(unfold(&wide).unwrap_err().contains("more than is read"));
        let mut fine = plain;
        fine[12..16].copy_from_slice(&5_u32.to_be_bytes());
        assert!(unfold(&fine).unwrap_err().contains("5 digits"));
        let mut other = Vec::new();
        V2DeflateSerializer::new().serialize(&histogram, &mut other).unwrap();
        other[0] = 0;
        assert!(unfold(&other).is_err() && unfold(&[]).is_err());
    }
}
