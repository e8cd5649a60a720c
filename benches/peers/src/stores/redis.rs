//! Redis, on a Unix socket: two hashes, meetings and members by the meeting's id, whose values are
//! the bytes that LMDB and redb hold. With the append-only file every write is synchronous
//! (`appendfsync always`) and the file is rewritten when Redis thinks fit; with the snapshot,
//! `SAVE` is what acknowledges.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::{BATCH, Failure, Reading, Store};
use crate::records::{Meeting, Member};

/// Between two tries to reach a server that is not there yet, or says that it is loading: the delay
/// that we add, at most.
const RETRY: Duration = Duration::from_micros(200);
const TRIES_MAX: u32 = 5_000_000;

/// The server, over what its folder holds.
pub fn server(folder: &Path, snapshot: bool) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--daemonize", "no", "--save", "", "--unixsocket"]).arg(folder.join("socket"));
    command.arg("--dir").arg(folder).args(["--appendonly", if snapshot { "no" } else { "yes" }]);
    command.args(["--appendfsync", "always"]);
    command
}

pub struct Client {
    stream: BufReader<UnixStream>,
    snapshot: bool,
}

impl Client {
    /// Connects as soon as the server answers for its data.
    pub fn connect(folder: &Path, snapshot: bool) -> Result<Self, Failure> {
        let path = folder.join("socket");
        for _ in 0..TRIES_MAX {
            if let Ok(stream) = UnixStream::connect(&path) {
                let mut client = Self { stream: BufReader::with_capacity(1 << 20, stream), snapshot };
                while !client.is_ready()? {
                    thread::sleep(RETRY);
                }
                return Ok(client);
            }
            thread::sleep(RETRY);
        }
        Err("no redis-server answers".into())
    }

    fn is_ready(&mut self) -> Result<bool, Failure> {
        self.send(&[b"PING"])?;
        let line = self.line()?;
        if line.starts_with("-LOADING") { Ok(false) } else { told(&line).map(|_| true) }
    }

    fn send(&mut self, words: &[&[u8]]) -> Result<(), Failure> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        Ok(self.stream.get_mut().write_all(&bytes)?)
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.is_empty() {
            return Err("redis-server hung up".into());
        }
        Ok(line)
    }

    /// The count behind `*` or `$`.
    fn count(&mut self) -> Result<usize, Failure> {
        let mut bytes = [0; 24];
        let mut len = 0;
        while bytes[..len].last() != Some(&b'\n') {
            let buffer = self.stream.fill_buf()?;
            *bytes.get_mut(len).ok_or("a count of too many digits")? = *buffer.first().ok_or("redis-server hung up")?;
            self.stream.consume(1);
            len += 1;
        }
        match bytes[0] {
            b'*' | b'$' => Ok(std::str::from_utf8(&bytes[1..len])?.trim_end().parse()?),
            _ => Err(String::from_utf8_lossy(&bytes[..len]).into()),
        }
    }

    fn bulk(&mut self, into: &mut Vec<u8>) -> Result<(), Failure> {
        let count = self.count()?;
        into.resize(count + 2, 0);
        self.stream.read_exact(into)?;
        into.truncate(count);
        Ok(())
    }

    /// Fields and values of an array that comes next.
    fn pairs(&mut self, mut take: impl FnMut(u64, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let (mut field, mut value) = (Vec::new(), Vec::new());
        for _ in 0..self.count()? / 2 {
            self.bulk(&mut field)?;
            self.bulk(&mut value)?;
            take(u64::from_be_bytes(field.as_slice().try_into()?), &value)?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<(), Failure> {
        self.send(&[b"SAVE"])?;
        told(&self.line()?).map(|_| ())
    }

    /// Until Redis rewrites its file no more: what a killed server leaves is then the same each
    /// time.
    fn wait_for_rewrite(&mut self) -> Result<(), Failure> {
        for _ in 0..TRIES_MAX {
            self.send(&[b"INFO", b"persistence"])?;
            let mut text = Vec::new();
            self.bulk(&mut text)?;
            let text = String::from_utf8(text)?;
            let rests = |of: &str| text.contains(&format!("{of}:0\r\n"));
            if rests("aof_rewrite_in_progress") && rests("aof_rewrite_scheduled") && rests("aof_pending_bio_fsync") {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err("redis-server rewrites its file for ever".into())
    }
}

impl Store for Client {
    fn fill(&mut self, meetings: u64) -> Result<(), Failure> {
        for begin in (0..meetings).step_by(BATCH as usize) {
            let numbers = || (begin..meetings.min(begin + BATCH)).map(|n| (Meeting::number(n), Member::encode_all(n)));
            let keys: Vec<_> = numbers().map(|(meeting, _)| meeting.id.to_be_bytes()).collect();
            let parameters: Vec<_> = numbers().map(|(meeting, _)| meeting.encode()).collect();
            let members: Vec<_> = numbers().map(|(_, members)| members).collect();
            let mut words: Vec<&[u8]> = vec![b"HSET", b"meetings"];
            words.extend(keys.iter().zip(&parameters).flat_map(|(key, value)| [key.as_slice(), value.as_slice()]));
            self.send(&words)?;
            told(&self.line()?)?;
            words = vec![b"HSET", b"members"];
            words.extend(keys.iter().zip(&members).flat_map(|(key, value)| [key.as_slice(), value.as_slice()]));
            self.send(&words)?;
            told(&self.line()?)?;
        }
        if self.snapshot { self.save() } else { self.wait_for_rewrite() }
    }

    fn read(&mut self, _: u64, reading: &mut Reading) -> Result<(), Failure> {
        self.send(&[b"HSCAN", b"meetings", b"0", b"COUNT", b"1"])?;
        let (_, mut cursor) = (self.count()?, Vec::new());
        self.bulk(&mut cursor)?;
        let mut first = None;
        self.pairs(|id, bytes| {
            first = first.or(Meeting::decode(id, bytes));
            Ok(())
        })?;
        reading.first(first.ok_or("no meeting in Redis")?.key());
        self.send(&[b"HGETALL", b"meetings"])?;
        self.pairs(|id, bytes| {
            reading.meeting(Meeting::decode(id, bytes).ok_or("a meeting's record")?.key());
            Ok(())
        })?;
        reading.meetings_done();
        self.send(&[b"HGETALL", b"members"])?;
        self.pairs(|id, bytes| {
            Member::decode_all(id, bytes).for_each(|member| reading.member(&member));
            Ok(())
        })?;
        reading.members_done();
        Ok(())
    }

    fn touch(&mut self) -> Result<(), Failure> {
        let meeting = Meeting::number(0);
        self.send(&[b"HSET", b"meetings", &meeting.id.to_be_bytes(), &meeting.encode()])?;
        told(&self.line()?)?;
        if self.snapshot { self.save() } else { self.wait_for_rewrite() }
    }
}

fn told(line: &str) -> Result<&str, Failure> {
    if line.starts_with('-') { Err(line.trim_end().into()) } else { Ok(line) }
}
