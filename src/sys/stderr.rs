//! Standard error as a destination of log lines that never makes the writer wait.
//!
//! A reader that does not read, such as a pager, a stopped terminal or a log daemon whose disk is
//! full, lets the pipe or socket fill up. A write would then wait, and with it the code that logs:
//! control, a successor that has all locks, or the keeper. So a line that finds no room is dropped
//! and counted, and the next line that finds room reports the count.
//!
//! Sockets can be told at each call not to wait. Pipes and terminals cannot, and another process
//! may use up the room between asking for it and writing. So the keeper opens those anew as
//! non-blocking ([`never_wait`]), for itself and all that it starts. The process that passed them
//! to the keeper keeps its own unchanged.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::stdio::stderr;

use crate::limits::LOG_WRITE_BYTES;

/// Makes standard error of this process, and of those that it starts, never wait. What cannot be
/// opened anew stays as it is: a socket does not need this, and a file has no reader.
pub fn never_wait() {
    let Ok(status) = fstat(stderr()) else { return };
    if !matches!(FileType::from_raw_mode(status.st_mode), FileType::Fifo | FileType::CharacterDevice) {
        return;
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // For another user's terminal, or a pipe without a reader, the fallback is to ask for room each
    // time.
    if let Ok(own) = open("/proc/self/fd/2", flags, Mode::empty()) {
        let _ = rustix::stdio::dup2_stderr(&own);
    }
}

/// A destination of log lines: each call to `write` is one line, and never fails.
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

/// Lines to one descriptor.
struct Lines {
    /// Lines dropped since the last one that found room.
    dropped: AtomicU64,
    /// The last line that found room did not fit completely.
    cut: AtomicBool,
}

impl Lines {
    const fn new() -> Self {
        Self { dropped: AtomicU64::new(0), cut: AtomicBool::new(false) }
    }

    fn say(&self, to: BorrowedFd<'_>, line: &[u8]) {
        // Relaxed, here and below: the counts order nothing. If two threads come at once, one of
        // them reports the count, or each reports a part of it.
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 || self.cut.load(Ordering::Relaxed) {
            let end = if self.cut.load(Ordering::Relaxed) { "\n" } else { "" };
            let lines = if dropped == 1 { "line of the log was" } else { "lines of the log were" };
            let word = match dropped {
                0 => end.into(),
                _ => format!("{end}baton: {dropped} {lines} dropped here, because nobody read it\n"),
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

/// Writes as much as there is room for now; returns how much that was.
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

    /// Reads until nothing more is there at the moment.
    fn read_all(from: &OwnedFd) -> String {
        fcntl_setfl(from, fcntl_getfl(from).unwrap() | OFlags::NONBLOCK).unwrap();
        let (mut text, mut buffer) = (Vec::new(), [0; 8192]);
        while let Ok(bytes @ 1..) = rustix::io::read(from, &mut buffer) {
            text.extend_from_slice(&buffer[..bytes]);
        }
        String::from_utf8(text).unwrap()
    }

    /// None of them is set to non-blocking: a test that hangs here has failed.
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
        assert_eq!(
            read_all(&reader),
            "\nbaton: 1 line of the log was dropped here, because nobody read it\nit goes on\n"
        );
    }
}
