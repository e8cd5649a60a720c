//! A folder of histogram logs: files that begin with a complete header, grow by whole lines, and
//! are rotated by size and age.
//!
//! What always holds: a file under its own name has its header, because it is written under another
//! name and renamed; every append is whole lines in one call. Before each append, the name is
//! checked: a file that something else cut, renamed or removed is left alone, and the next one
//! begun. A death in the middle of the call may leave an incomplete line, only in the last file.
//! The next process that opens the folder removes it there, unless the file's writer still lives
//! (and has it locked), and begins a file of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::annotations::{EngineNote, Note};
use super::hlog::head;
use crate::sys::durable::{self, Existing, Files};

/// When a new file is begun, and how many are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// Size of a file, from which on the next one is begun.
    pub bytes: u64,
    /// Age of a file, from which on the next one is begun.
    pub age: Duration,
    /// Number of files; older ones are removed.
    pub keep: usize,
}

/// The folder, and the file that is being written.
pub struct LogFolder {
    folder: PathBuf,
    rotation: Rotation,
    engine: EngineNote,
    /// The time from which times in the files count.
    base: SystemTime,
    /// The number of the next file.
    next: u64,
    current: Option<Current>,
}

struct Current {
    file: File,
    path: PathBuf,
    begun: SystemTime,
    bytes: u64,
}

impl Current {
    /// Whether the file still has its name, and all that was written to it.
    fn is_whole(&self) -> bool {
        let its = self.file.metadata();
        let named = fs::symlink_metadata(&self.path);
        let (Ok(its), Ok(named)) = (its, named) else { return false };
        (its.dev(), its.ino()) == (named.dev(), named.ino()) && its.len() >= self.bytes
    }
}

/// Bytes read from the end of a file to find the end of its last line.
const TAIL_BYTES: u64 = 1 << 20;

impl LogFolder {
    /// Opens the folder, or makes it in an existing one, for an engine's logs, whose times count
    /// from `base`, and repairs what its predecessor left. Returns the number of dropped frames,
    /// ever, that the predecessor had seen.
    ///
    /// # Errors
    /// The system's.
    pub fn open(
        folder: &Path,
        rotation: Rotation,
        engine: EngineNote,
        base: SystemTime,
    ) -> io::Result<(Self, Option<u64>)> {
        if let Err(error) = fs::create_dir(folder)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(error);
        }
        let files = numbered(folder)?;
        let dropped = files.last().and_then(|(_, last)| match mend(last) {
            Ok(dropped) => dropped,
            Err(error) => {
                // What is there belongs to something else; the next log has a higher number.
                tracing::warn!("histogram log: {} cannot be looked at: {error}; the next one is begun", last.display());
                None
            }
        });
        let next = files.last().map_or(1, |(number, _)| number.saturating_add(1));
        Ok((Self { folder: folder.into(), rotation, engine, base, next, current: None }, dropped))
    }

    /// Appends the lines of an interval that began at `now`.
    ///
    /// # Errors
    /// The system's. The file is then given up, and the next call begins another one.
    pub fn append(&mut self, now: SystemTime, lines: &[u8]) -> io::Result<()> {
        let is_over = |current: &Current| {
            !current.is_whole()
                || current.bytes >= self.rotation.bytes
                || now.duration_since(current.begun).is_ok_and(|age| age >= self.rotation.age)
        };
        let mut current = match self.current.take().filter(|current| !is_over(current)) {
            Some(current) => current,
            None => self.begin(now)?,
        };
        current.file.write_all(lines)?;
        current.bytes += lines.len() as u64;
        self.current = Some(current);
        Ok(())
    }

    fn begin(&mut self, now: SystemTime) -> io::Result<Current> {
        self.prune()?;
        // Names that are taken by now are skipped.
        let mut number = self.next;
        while fs::symlink_metadata(self.folder.join(name(number))).is_ok() {
            let taken = || named(&self.folder.join(name(number)), io::Error::other("no number follows: move it away"));
            number = number.checked_add(1).ok_or_else(taken)?;
        }
        let part = self.engine.part;
        let head = head(&self.engine, now, self.base)?;
        let (path, new) = (self.folder.join(name(number)), self.folder.join(format!("{}.new", name(number))));
        // A file at `new` was left by a death, or by somebody else; it is not looked at.
        let mut files = Files::locked();
        durable::replace(&mut files, &path, &new, Existing::Replaced, &[&head])
            .map_err(|refused| named(&path, io::Error::new(refused.error.kind(), refused.to_string())))?;
        let file = files.into_file().ok_or(io::ErrorKind::NotFound)?;
        (self.next, self.engine.part) = (number + 1, part + 1);
        Ok(Current { file, path, begun: now, bytes: head.len() as u64 })
    }

    /// Removes the oldest files, so that the next one does not exceed the number to keep.
    fn prune(&self) -> io::Result<()> {
        let files = numbered(&self.folder)?;
        let over = (files.len() + 1).saturating_sub(self.rotation.keep);
        files[..over.min(files.len())].iter().try_for_each(|(_, path)| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(path, error)),
            _ => Ok(()),
        })
    }
}

/// The error, with the name of its file.
fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn name(number: u64) -> String {
    format!("baton-{number:08}.hlog")
}

/// The folder's logs, ordered. Other files in it are left alone.
fn numbered(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix("baton-")?.strip_suffix(".hlog")?.parse::<u64>().ok())
            // A folder of that name is not a log.
            .filter(|_| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
        found.extend(number.map(|number| (number, entry.path())));
    }
    found.sort();
    Ok(found)
}

/// Removes what follows the last end of a line, unless a process still writes. Returns the number
/// of dropped frames, ever, in the last line about frames.
fn mend(path: &Path) -> io::Result<Option<u64>> {
    // A pipe of that name has nobody at its other end, and must not be waited for; the target of a
    // link must not be cut.
    let careful = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32;
    let mut file = OpenOptions::new().read(true).write(true).custom_flags(careful).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let is_left = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    (&file).take(TAIL_BYTES).read_to_end(&mut tail)?;
    let end = tail.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let whole = from + end as u64;
    // If this much contains no end of a line, there is none to cut at.
    if is_left && end > 0 && whole < length {
        let bytes = length - whole;
        tracing::info!(path = %path.display(), bytes, "a line that a death cut short is removed from the histogram log");
        file.set_len(whole)?;
    }
    let lines = tail[..end].split(|&byte| byte == b'\n').rev().filter_map(|line| str::from_utf8(line).ok());
    let frames = lines.filter_map(|line| match Note::read(line) {
        Some(Ok(Note::Frames(frames))) => Some(frames.dropped_ever),
        _ => None,
    });
    Ok({ frames }.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::FramesNote;

    const ROTATION: Rotation = Rotation { bytes: 1 << 20, age: Duration::from_secs(60), keep: 3 };

    fn engine(generation: u32) -> EngineNote {
        EngineNote { epoch: format!("1.{generation}"), pid: 7, part: 1 }
    }

    fn open(folder: &Path, rotation: Rotation, engine: EngineNote) -> (LogFolder, Option<u64>) {
        LogFolder::open(folder, rotation, engine, SystemTime::UNIX_EPOCH).unwrap()
    }

    fn second(folder: &mut LogFolder, at: u64) {
        let frames = FramesNote { start_s: at as f64, length_s: 1.0, dropped_ever: at, ..FramesNote::default() };
        folder
            .append(SystemTime::UNIX_EPOCH + Duration::from_secs(at), format!("{}\n", Note::Frames(frames)).as_bytes())
            .unwrap();
    }

    fn files(folder: &Path) -> Vec<String> {
        numbered(folder).unwrap().iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn a_file_that_is_old_enough_is_followed_and_the_oldest_go() {
        let place = tempfile::tempdir().unwrap();
        let (mut folder, _) = open(place.path(), ROTATION, engine(1));
        for at in 0..300 {
            second(&mut folder, at);
        }
        let files = files(place.path());
        assert_eq!(files.len(), 3, "five minutes, a file a minute, of which three are kept");
        for (file, part) in files.iter().zip(3..) {
            assert!(file.contains(&format!("#[Engine: epoch=1.1 pid=7 part={part}]\n")), "{file}");
            assert_eq!(file.lines().filter(|line| line.starts_with("#[Frames: ")).count(), 60);
            let start = 60 * (part - 1);
            assert!(file.contains(&format!("#[StartTime: {start}.000 ")), "{file}");
            assert!(file.contains("#[BaseTime: 0.000 "), "all times count from the engine's beginning");
            assert!(file.contains(&format!("#[Frames: start={start}.000 ")), "{file}");
        }
    }

    #[test]
    fn a_file_that_is_large_enough_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let rotation = Rotation { bytes: 600, ..ROTATION };
        let (mut folder, _) = open(place.path(), rotation, engine(1));
        for at in 0..20 {
            second(&mut folder, at);
        }
        assert_eq!(files(place.path()).len(), 3);
    }

    /// The times in seconds that a file contains, besides its header.
    fn seconds(text: &str) -> Vec<u64> {
        assert!(text.starts_with("#[Baton ") && text.contains("#[StartTime: ") && !text.contains('\0'), "{text:?}");
        let frames = text.lines().filter_map(|line| match Note::read(line) {
            Some(Ok(Note::Frames(frames))) => Some(frames.dropped_ever),
            _ => None,
        });
        frames.collect()
    }

    #[test]
    fn a_file_that_somebody_else_cut_renamed_or_removed_is_followed_by_a_whole_one() {
        let place = tempfile::tempdir().unwrap();
        let path = |number| place.path().join(name(number));
        let (mut folder, _) = open(place.path(), ROTATION, engine(1));
        second(&mut folder, 0);
        // As copytruncate does.
        fs::copy(path(1), place.path().join("copy")).unwrap();
        OpenOptions::new().write(true).open(path(1)).unwrap().set_len(0).unwrap();
        second(&mut folder, 1);
        assert_eq!(fs::read(path(1)).unwrap(), b"", "nothing is written into what was cut");
        fs::rename(path(2), place.path().join("rotated")).unwrap();
        second(&mut folder, 2);
        fs::remove_file(path(3)).unwrap();
        second(&mut folder, 3);
        // Another file has its name.
        fs::rename(path(4), place.path().join("moved")).unwrap();
        fs::write(path(4), "another's").unwrap();
        second(&mut folder, 4);
        assert_eq!(fs::read_to_string(path(4)).unwrap(), "another's");
        for (file, at) in [("copy", 0), ("rotated", 1), ("moved", 3), (&*name(5), 4)] {
            assert_eq!(seconds(&fs::read_to_string(place.path().join(file)).unwrap()), [at], "{file}");
        }
    }

    #[test]
    fn a_last_log_that_is_none_is_passed_over() {
        for stands in ["folder", "link", "pipe", "highest"] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join(name(7));
            match stands {
                "folder" => fs::create_dir(&path).unwrap(),
                "link" => {
                    fs::write(place.path().join("letter"), "dear\nsir").unwrap();
                    std::os::unix::fs::symlink(place.path().join("letter"), &path).unwrap();
                }
                "pipe" => {
                    let kind = rustix::fs::FileType::Fifo;
                    rustix::fs::mknodat(rustix::fs::CWD, &path, kind, rustix::fs::Mode::RWXU, 0).unwrap();
                }
                _ => fs::write(place.path().join(name(u64::MAX)), "garbage").unwrap(),
            }
            let (mut folder, _) = open(place.path(), ROTATION, engine(1));
            if stands == "highest" {
                let lines = format!("{}\n", Note::Frames(FramesNote::default()));
                let error = folder.append(SystemTime::UNIX_EPOCH, lines.as_bytes()).unwrap_err().to_string();
                assert!(error.contains(&name(u64::MAX)), "the name is said: {error}");
                continue;
            }
            second(&mut folder, 9);
            let written = place.path().join(name(if stands == "folder" { 1 } else { 8 }));
            assert_eq!(seconds(&fs::read_to_string(written).unwrap()), [9], "{stands}");
            if stands == "link" {
                assert_eq!(fs::read_to_string(place.path().join("letter")).unwrap(), "dear\nsir", "it is not cut");
            }
        }
    }

    #[test]
    fn a_line_that_a_death_cut_short_is_removed_by_the_next_engine_which_begins_a_file_of_its_own() {
        let place = tempfile::tempdir().unwrap();
        let (mut folder, dropped) = open(place.path(), ROTATION, engine(1));
        assert_eq!(dropped, None);
        second(&mut folder, 5);
        let whole = files(place.path()).remove(0);
        let path = place.path().join(name(1));
        let cut = format!("{whole}Tag=processing,1.000,1.000,1.000,HISTFAAA");
        fs::write(&path, &cut).unwrap();
        fs::write(place.path().join("notes.txt"), "another's").unwrap();

        drop(open(place.path(), ROTATION, engine(2)));
        assert_eq!(files(place.path()), [cut], "its writer still lives");
        drop(folder);
        let (mut folder, dropped) = open(place.path(), ROTATION, engine(2));
        assert_eq!(dropped, Some(5), "what the predecessor knew of dropped frames");
        second(&mut folder, 7);
        let [first, next] = &files(place.path())[..] else { panic!("two files") };
        assert_eq!(*first, whole);
        assert!(next.contains("#[Engine: epoch=1.2 pid=7 part=1]\n"), "{next}");
        assert_eq!(fs::read_to_string(place.path().join("notes.txt")).unwrap(), "another's");
    }
}
