//! Annotations in a log beside its histograms: the engine that wrote it, how many frames arrived
//! and were lost, and recoveries.
//!
//! Each is a comment line that other readers of `.hlog` files skip:
//!
//! ```text
//! #[Engine: epoch=3.17 pid=4242 part=1]
//! #[Frames: start=12.000 length=1.000 received=208113 shed=0 dropped=0 dropped_ever=0]
//! #[Recovery: at=-0.000098 epoch=3.17 path=cache succeeds=true meetings=1000 unreached=0 first_frame_ns=151022 acknowledged_ns=7802113 reconciled_ns=10330871]
//! ```
//!
//! `start` and `at` are seconds since the log's BaseTime, like those of its intervals. `at` is when
//! the predecessor's death was noticed (below zero: before the log began), or when the engine
//! started, if no predecessor is known to have died; the following values count from there. A
//! Recovery line is written once everything is reconciled, or some time after the start for the
//! autonomous servers that could be reached. An engine whose log has none did not live that long.

use std::fmt;
use std::str::FromStr;

/// The engine that wrote a log, and the number of this file among its files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EngineNote {
    /// As in listings: term and generation.
    pub epoch: String,
    /// Its process id.
    pub pid: u32,
    /// The first file is 1.
    pub part: u64,
}

/// The counts of frames of one interval.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct FramesNote {
    /// Its start in seconds since BaseTime.
    pub start_s: f64,
    /// In seconds.
    pub length_s: f64,
    /// Frames taken from the rings; for a load generator, requests that were answered.
    pub received: u64,
    /// Of the received frames, those dropped on purpose in an overload.
    pub shed: u64,
    /// Frames that the kernel had to drop because a ring was full or empty; for a load generator,
    /// requests without an answer.
    pub dropped: u64,
    /// The same since the sockets were bound. They outlive an engine: the next one continues from
    /// this value.
    pub dropped_ever: u64,
}

/// A recovery that succeeded.
#[derive(Clone, PartialEq, Debug)]
pub struct RecoveryNote {
    /// Its start in seconds since BaseTime.
    pub at_s: f64,
    /// The epoch of the engine, as in listings.
    pub epoch: String,
    /// `cache` or `database`.
    pub path: String,
    /// Whether `at_s` is the time at which a predecessor's death was noticed.
    pub succeeds: bool,
    /// Parts of meetings that were taken over.
    pub meetings: u64,
    /// Autonomous servers that had not been reached when this was written; the times do not include
    /// them.
    pub unreached: u64,
    /// Nanoseconds from `at_s` to the first outgoing takeover frame; none if there was nothing to
    /// take over.
    pub first_frame_ns: Option<u64>,
    /// Nanoseconds from `at_s` to the answer to the last takeover.
    pub acknowledged_ns: u64,
    /// Nanoseconds from `at_s` to the agreement of every audit.
    pub reconciled_ns: u64,
}

/// A comment line of Baton's.
#[derive(Clone, PartialEq, Debug)]
pub enum Note {
    /// The engine that wrote the log.
    Engine(EngineNote),
    /// The counts of frames of one interval.
    Frames(FramesNote),
    /// How the engine recovered control.
    Recovery(RecoveryNote),
}

/// A comment line that begins like one of Baton's, but is not valid.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{kind} without a readable `{key}`")]
pub struct NoteError {
    kind: &'static str,
    key: &'static str,
}

impl fmt::Display for Note {
    /// The whole line, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(EngineNote { epoch, pid, part }) => {
                write!(f, "#[Engine: epoch={epoch} pid={pid} part={part}]")
            }
            Self::Frames(FramesNote { start_s, length_s, received, shed, dropped, dropped_ever }) => {
                write!(f, "#[Frames: start={start_s:.3} length={length_s:.3} received={received} shed={shed}")?;
                write!(f, " dropped={dropped} dropped_ever={dropped_ever}]")
            }
            Self::Recovery(note) => {
                let RecoveryNote { at_s, epoch, path, succeeds, meetings, unreached, .. } = note;
                write!(f, "#[Recovery: at={at_s:.6} epoch={epoch} path={path} succeeds={succeeds}")?;
                write!(f, " meetings={meetings} unreached={unreached}")?;
                if let Some(first) = note.first_frame_ns {
                    write!(f, " first_frame_ns={first}")?;
                }
                write!(f, " acknowledged_ns={} reconciled_ns={}]", note.acknowledged_ns, note.reconciled_ns)
            }
        }
    }
}

impl Note {
    /// Reads a line of a log; none if it is not one of these.
    ///
    /// # Errors
    /// It is one of these, but a key is missing or has no valid value.
    pub fn read(line: &str) -> Option<Result<Self, NoteError>> {
        let (kind, rest) = line.strip_prefix("#[")?.split_once(": ")?;
        // A line without its closing bracket is incomplete, and its last number may be too.
        let rest = rest.strip_suffix(']').unwrap_or("");
        match kind {
            "Engine" => Some(Keys { kind: "Engine", rest }.engine().map(Self::Engine)),
            "Frames" => Some(Keys { kind: "Frames", rest }.frames().map(Self::Frames)),
            "Recovery" => Some(Keys { kind: "Recovery", rest }.recovery().map(Self::Recovery)),
            _ => None,
        }
    }
}

struct Keys<'a> {
    kind: &'static str,
    rest: &'a str,
}

impl Keys<'_> {
    fn find<T: FromStr>(&self, key: &'static str) -> Option<T> {
        let mut pairs = self.rest.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.find(|&(found, _)| found == key)?.1.parse().ok()
    }

    fn get<T: FromStr>(&self, key: &'static str) -> Result<T, NoteError> {
        self.find(key).ok_or(NoteError { kind: self.kind, key })
    }

    fn engine(&self) -> Result<EngineNote, NoteError> {
        Ok(EngineNote { epoch: self.get("epoch")?, pid: self.get("pid")?, part: self.get("part")? })
    }

    fn frames(&self) -> Result<FramesNote, NoteError> {
        Ok(FramesNote {
            start_s: self.get("start")?,
            length_s: self.get("length")?,
            received: self.get("received")?,
            shed: self.get("shed")?,
            dropped: self.get("dropped")?,
            dropped_ever: self.get("dropped_ever")?,
        })
    }

    fn recovery(&self) -> Result<RecoveryNote, NoteError> {
        Ok(RecoveryNote {
            at_s: self.get("at")?,
            epoch: self.get("epoch")?,
            path: self.get("path")?,
            succeeds: self.get("succeeds")?,
            meetings: self.get("meetings")?,
            unreached: self.get("unreached")?,
            first_frame_ns: self.find("first_frame_ns"),
            acknowledged_ns: self.get("acknowledged_ns")?,
            reconciled_ns: self.get("reconciled_ns")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_note_is_read_as_it_was_written() {
        let notes = [
            Note::Engine(EngineNote { epoch: "3.17".into(), pid: 4242, part: 2 }),
            Note::Frames(FramesNote {
                start_s: 12.0,
                length_s: 1.5,
                received: 208_113,
                shed: 3,
                dropped: 1,
                dropped_ever: 9,
            }),
            Note::Recovery(RecoveryNote {
                at_s: -0.000_098,
                epoch: "3.17".into(),
                path: "cache".into(),
                succeeds: true,
                meetings: 1000,
                unreached: 1,
                first_frame_ns: None,
                acknowledged_ns: 7_802_113,
                reconciled_ns: 10_330_871,
            }),
        ];
        for note in notes {
            assert_eq!(Note::read(&note.to_string()), Some(Ok(note)));
        }
    }

    #[test]
    fn a_note_that_lacks_something_names_it_and_other_comments_are_none() {
        let lacking = Note::read("#[Frames: start=1.000 length=1.000 received=7]").unwrap().unwrap_err();
        assert_eq!(lacking.to_string(), "Frames without a readable `shed`");
        assert!(Note::read("#[Engine: epoch=1.1 pid=7 part=1").unwrap().is_err(), "pid 7 of part 1, or of part 12?");
        assert_eq!(Note::read("#[Histogram log format version 1.3]"), None);
        assert_eq!(Note::read("#[StartTime: 1763990000.000 (seconds since epoch)]"), None);
        assert_eq!(Note::read("Tag=probe,0.000,1.000,1.000,HIST"), None);
    }
}
