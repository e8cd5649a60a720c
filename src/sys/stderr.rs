//! Standard error as a place for log lines that nobody ever waits for.
//!
//! A reader that does not read, such as a pager, a terminal that was stopped or a log daemon whose
//! disk is full, fills the pipe or socket between; a write would then wait for it, and with it
//! whatever wrote: control, a successor with all locks, the keeper. So a line that finds no room is
//! dropped and counted, and the count is said with the first one that does find room.
//!
//! Sockets can be asked not to wait at each call. Pipes and terminals cannot, and between asking
//! whether there is room and writing another process may take it: so the keeper opens those anew,
//! without waiting ([`never_wait`]), for itself and all that it starts. Whoever gave them to it
//! keeps his own as they were.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::stdio::stderr;

use crate::limits::LOG_WRITE_BYTES;

/// Has standard error of this process, and of those that it starts, never wait. What cannot be
/// opened anew, such as a file, stays: a socket need not be, and a file has no reader.
pub fn never_wait() {
    let Ok(status) = fstat(stderr()) else { return };
    if !matches!(FileType::from_raw_mode(status.st_mode), FileType::Fifo | FileType::CharacterDevice) {
        return;
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Another user's terminal, or a pipe without a reader: then it is asked for room each time, as
    // anywhere else.
    if let Ok(own) = open("/proc/self/fd/2", flags, Mode::empty()) {
        let _ = rustix::stdio::dup2_stderr(&own);
    }
}

/// A log line's way there: each call to `write` is one line, and is never refused.
#[derive(Clone, Copy, Debug)]
pub struct Log;

static LINES: Lines = Lines::new();

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LINES.say(stderr(), line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines to one place.
struct Lines {
    /// Since the last that found room.
    dropped: AtomicU64,
    /// The last one that found room found too little of it.
    cut: AtomicBool,
}

impl Lines {
    const fn new() -> Self {
        Self { dropped: AtomicU64::new(0), cut: AtomicBool::new(false) }
    }

    fn say(&self, to: BorrowedFd<'_>, line: &[u8]) {
        // Relaxed, here and below: the counts order nothing. Of two threads that come by at once
        // one has the count to say, or each a part of it.
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 || self.cut.load(Ordering::Relaxed) {
            let end = if self.cut.load(Ordering::Relaxed) { "\n" } else { "" };
            let lines = if dropped == 1 { "line of the log was" } else { "lines of the log were" };
            let word = match dropped {
                0 => end.into(),
                _ => format!("{end}baton: {dropped} {lines} dropped here, for nobody read it\n"),
            };
            if !matches!(write_at_once(to, word.as_bytes()), Ok(written) if written == word.len()) {
                self.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
                return;
            }
            self.cut.store(false, Ordering::Relaxed);
        }
        match write_at_once(to, line) {
            Ok(written) if written == line.len() => {}
            Ok(written) => {
                self.cut.store(written > 0, Ordering::Relaxed);
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

/// Writes as much as there is room for now; gives how much that was.
fn write_at_once(to: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let mut written = 0;
    while written < bytes.len() {
        let left = &bytes[written..bytes.len().min(written + LOG_WRITE_BYTES)];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let wrote = match rustix::io::retry_on_intr(|| send(to, left, flags)) {
            Err(Errno::NOTSOCK) if has_room(to) => rustix::io::retry_on_intr(|| rustix::io::write(to, left)),
            Err(Errno::NOTSOCK) => Err(Errno::AGAIN),
            result => result,
        };
        match wrote {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(more) => written += more,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

fn has_room(to: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
    poll(&mut watched, Some(&Timespec::default())).is_ok() && watched[0].revents().contains(PollFlags::OUT)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::fs::{fcntl_getfl, fcntl_setfl};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use rustix::pipe::pipe;

    use super::*;

    /// Reads until there is nothing more just now.
    fn read_all(from: &OwnedFd) -> String {
        fcntl_setfl(from, fcntl_getfl(from).unwrap() | OFlags::NONBLOCK).unwrap();
        let (mut text, mut buffer) = (Vec::new(), [0; 8192]);
        while let Ok(bytes @ 1..) = rustix::io::read(from, &mut buffer) {
            text.extend_from_slice(&buffer[..bytes]);
        }
        String::from_utf8(text).unwrap()
    }

    /// Each writes without having been told not to wait: a test that hangs here is one that failed.
    fn every_kind() -> Vec<(OwnedFd, OwnedFd)> {
        let sockets = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None).unwrap();
        vec![pipe().unwrap(), sockets]
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_was_dropped_is_counted() {
        for (reader, writer) in every_kind() {
            let lines = Lines::new();
            let said = 20_000;
            for number in 0..said {
                lines.say(writer.as_fd(), format!("line {number}, and then some more words of it\n").as_bytes());
            }
            let got = read_all(&reader);
            lines.say(writer.as_fd(), b"it goes on\n");
            let after = read_all(&reader);
            let whole = got.lines().filter(|line| line.ends_with("more words of it")).count();
            let (word, rest) = after.trim_start().split_once('\n').unwrap();
            let count: usize = word.split(' ').nth(1).unwrap().parse().unwrap();
            assert!(count > 0 && word.contains("were dropped here"), "{word}");
            assert_eq!((whole + count, rest), (said, "it goes on\n"));
        }
    }

    #[test]
    fn a_reader_that_is_gone_is_no_error() {
        for (reader, writer) in every_kind() {
            drop(reader);
            Lines::new().say(writer.as_fd(), b"a line\n");
        }
    }

    #[test]
    fn a_line_that_is_longer_than_there_is_room_ends_before_the_next_begins() {
        let (reader, writer) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None).unwrap();
        let lines = Lines::new();
        lines.say(writer.as_fd(), "x".repeat(4 << 20).as_bytes());
        assert!(read_all(&reader).len() < 4 << 20);
        lines.say(writer.as_fd(), b"it goes on\n");
        assert_eq!(read_all(&reader), "\nbaton: 1 line of the log was dropped here, for nobody read it\nit goes on\n");
    }
}
