//! xsk-rs, in a program of its own: it and Baton are bound to different versions of libbpf-sys.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use baton::sys::interface::Interface;
use libbpf_rs::Link;

use super::Run;
use crate::Failure;
use crate::kernel::Kernel;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/xsk-rs/target/release/xsk-rs-peer");

pub fn run(run: &Run, interface: &Interface) -> Result<u64, Failure> {
    let doing = if run.mode.echoes() { "echo" } else { "drop" };
    // It inherits this thread's namespace and core.
    let mut child = command()
        .args([doing, &interface.name])
        .spawn()
        .map_err(|error| format!("{PROGRAM}: {error} (scripts/bench.sh dataplane builds it)"))?;
    let mut peer = Peer::of(&mut child)?;
    let mut received = None;
    if let Some(_in_place) = peer.set_up(&child, interface.index)? {
        run.begin();
        let mut taken = 0;
        while run.goes_on(|| {
            taken = peer.frames().unwrap_or(taken);
            taken
        }) {
            std::thread::sleep(Duration::from_millis(1));
        }
        received = peer.frames();
    }
    drop(peer.input);
    let mut complained = String::new();
    child.stderr.take().ok_or("it has an output")?.read_to_string(&mut complained)?;
    child.wait()?;
    received.ok_or_else(|| format!("xsk-rs: {}", complained.trim()).into())
}

/// The program, with all that it says and hears in pipes.
pub fn command() -> Command {
    let mut command = Command::new(PROGRAM);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How the program is talked to.
pub struct Peer {
    input: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    pub fn of(child: &mut Child) -> Result<Self, Failure> {
        let input = child.stdin.take().ok_or("it has an input")?;
        let said = BufReader::new(child.stdout.take().ok_or("it has an output")?).lines();
        Ok(Self { input, said })
    }

    /// Gives its socket the frames of the interface for as long as what is given back lives; none
    /// where it ended without one.
    pub fn set_up(&mut self, child: &Child, interface: u32) -> Result<Option<(Kernel, Link)>, Failure> {
        let Some(number) = self.number_of("socket") else { return Ok(None) };
        let mut kernel = Kernel::load()?;
        kernel.set_socket(descriptor_of(child, number)?.as_fd())?;
        let link = kernel.attach("redirect", interface)?;
        Ok(Some((kernel, link)))
    }

    /// How many frames it has received, if it lives.
    fn frames(&mut self) -> Option<u64> {
        self.input.write_all(b"\n").ok()?;
        self.number_of("frames")
    }

    fn number_of(&mut self, word: &str) -> Option<u64> {
        self.said.next()?.ok()?.strip_prefix(word)?.trim().parse().ok()
    }
}

/// A copy of a descriptor that a child has.
fn descriptor_of(child: &Child, number: u64) -> Result<OwnedFd, Failure> {
    let copy = |answer: libc::c_long| match answer {
        0.. => {
            // SAFETY: the call before has just made it, for us alone.
            Ok(unsafe { OwnedFd::from_raw_fd(answer as i32) })
        }
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: numbers alone are handed over, here and below.
    let process = copy(unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) })?;
    // SAFETY: as above.
    Ok(copy(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })?)
}
