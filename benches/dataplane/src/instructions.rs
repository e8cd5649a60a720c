//! What a frame costs a contestant in user space, in instructions and cycles.
//!
//! The contestant is a process of its own on core 1, that stops itself whenever it has taken a
//! group of frames. While it stands, the next group is put into its ring. From one stop to the next
//! it is counted by the processor's counters, or, where there are none (most virtual machines), it
//! is single-stepped: that counts instructions alone, and gives the same number each time. The
//! kernel's instructions count in neither.

use std::env;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::sleep;
use std::time::Duration;

use baton::lab::testbed::netns::{Pair, Side};
use baton::sys::interface::Interface;
use baton::sys::threads;
use libbpf_rs::{Link, libbpf_sys as sys};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::Serialize;

use crate::Failure;
use crate::contestants::xsk_rs::{self, Peer};
use crate::contestants::{self, Kind};
use crate::kernel::Kernel;
use crate::run::Run;

/// Frames from a stop to the next. Less than an eighth of a ring, from which on a worker sheds.
const GROUP: u32 = 256;
/// Groups that are counted: a step takes tens of microseconds, a counter nothing.
const GROUPS_STEPPED: u32 = 4;
const GROUPS_METERED: u32 = 63;
/// Frames for them, and for a group before them: what is done once is no part of a frame.
pub const FRAMES_COUNTED: u32 = (1 + GROUPS_METERED) * GROUP;
/// Until all that was sent lies in the ring.
const ARRIVAL: Duration = Duration::from_millis(10);

/// Of a frame.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Count {
    pub instructions: f64,
    /// None where there are no counters.
    pub cycles: Option<f64>,
}

/// Whether this processor counts for us.
pub fn has_counters() -> bool {
    Counter::open(sys::PERF_COUNT_HW_INSTRUCTIONS, std::process::id()).is_ok()
}

/// Counts a contestant, with tags or without; `send` sends frames to it from the left.
pub fn count(
    who: (Kind, bool),
    pair: &Pair,
    memory: Option<&Path>,
    mut send: impl FnMut(Range<u32>) -> Result<(), Failure>,
) -> Result<Count, Failure> {
    let (wants, wanted) = channel();
    let (sent, arrives) = channel();
    std::thread::scope(|scope| {
        let counting = scope.spawn(move || {
            pair.enter(Side::Right)?;
            threads::pin(1);
            let counted = Counted::start(who, memory)?;
            let done = counted.measure(&wants, &arrives);
            counted.end(done)
        });
        let mut next = 0;
        // It ends when who counts is done.
        while wanted.recv().is_ok() {
            send(next..next + GROUP)?;
            next += GROUP;
            sleep(ARRIVAL);
            // It may have failed meanwhile, which it says below.
            let _ = sent.send(());
        }
        counting.join().unwrap_or_else(|_| Err("who counts panicked".into()))
    })
}

/// The process that is counted. All of this is done by the thread that started it: only that may
/// trace it.
struct Counted {
    child: Child,
    pid: Pid,
    name: String,
    /// What a contestant has in front of it that does not put it there itself.
    in_front: Option<(Peer, (Kernel, Link))>,
}

impl Counted {
    /// Starts it; it stands when its sockets are in place.
    fn start((kind, tagged): (Kind, bool), memory: Option<&Path>) -> Result<Self, Failure> {
        let name = kind.name();
        let mut command = if kind == Kind::XskRs {
            let mut command = xsk_rs::command();
            command.args(["drop", "right", &GROUP.to_string()]);
            command
        } else {
            let mut command = Command::new(env::current_exe()?);
            command.args(["--counted", &name]).args(tagged.then_some("--tagged"));
            command.args(memory.iter().flat_map(|folder| [Path::new("--memory"), folder]));
            command.stdin(Stdio::null()).stderr(Stdio::piped());
            command
        };
        // SAFETY: what is called there is one system call, of the kind that may be called between
        // fork and exec.
        unsafe { command.pre_exec(|| ptrace::traceme().map_err(io::Error::from)) };
        let child = command.spawn()?;
        let pid = Pid::from_raw(child.id().try_into()?);
        let mut counted = Self { child, pid, name, in_front: None };
        // It stands after exec.
        counted.wait_for_stop()?;
        ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL)?;
        counted.run()?;
        if kind == Kind::XskRs {
            let mut peer = Peer::of(&mut counted.child)?;
            let in_front = peer.set_up(&counted.child, Interface::find("right")?.index)?;
            counted.in_front = Some((peer, in_front.ok_or("xsk-rs has no socket")?));
        }
        Ok(counted)
    }

    fn measure(&self, wants: &Sender<()>, arrives: &Receiver<()>) -> Result<Count, Failure> {
        let fill = || {
            wants.send(())?;
            Ok::<_, Failure>(arrives.recv()?)
        };
        fill()?;
        self.run()?;
        let each = |total: u64, groups: u32| total as f64 / f64::from(groups * GROUP);
        if !has_counters() {
            let mut steps = 0;
            for _ in 0..GROUPS_STEPPED {
                fill()?;
                steps += self.step()?;
            }
            return Ok(Count { instructions: each(steps, GROUPS_STEPPED), cycles: None });
        }
        let instructions = Counter::open(sys::PERF_COUNT_HW_INSTRUCTIONS, self.child.id())?;
        let cycles = Counter::open(sys::PERF_COUNT_HW_CPU_CYCLES, self.child.id())?;
        for _ in 0..GROUPS_METERED {
            fill()?;
            self.run()?;
        }
        Ok(Count {
            instructions: each(instructions.read()?, GROUPS_METERED),
            cycles: Some(each(cycles.read()?, GROUPS_METERED)),
        })
    }

    /// Lets it run until it stops itself.
    fn run(&self) -> Result<(), Failure> {
        ptrace::cont(self.pid, None)?;
        loop {
            match self.wait_for_stop()? {
                Signal::SIGSTOP => return Ok(()),
                signal => ptrace::cont(self.pid, signal)?,
            }
        }
    }

    /// Has it take a step after the other until it stops itself; gives how many.
    fn step(&self) -> Result<u64, Failure> {
        let mut steps = 0;
        loop {
            ptrace::step(self.pid, None)?;
            match self.wait_for_stop()? {
                Signal::SIGSTOP => return Ok(steps),
                _ => steps += 1,
            }
        }
    }

    fn wait_for_stop(&self) -> Result<Signal, Failure> {
        match waitpid(self.pid, None)? {
            WaitStatus::Stopped(_, signal) => Ok(signal),
            other => Err(format!("{} was to be counted, and ended: {other:?}", self.name).into()),
        }
    }

    /// Ends it, and gives what was measured, or what it said where it failed.
    fn end(mut self, done: Result<Count, Failure>) -> Result<Count, Failure> {
        // One that has ended is gone already.
        let _ = self.child.kill();
        drop(self.in_front.take());
        let said = self.child.wait_with_output()?.stderr;
        done.map_err(|error| format!("{error} {}", String::from_utf8_lossy(&said).trim()).into())
    }
}

/// What the counted process does: a contestant in the namespace that it was started in.
pub fn be_counted(kind: Kind, tagged: bool, memory: Option<&Path>) -> Result<(), Failure> {
    // One that stands still would outlive a parent that was killed.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let table = (kind == Kind::BatonWorker)
        .then(|| crate::reports::table(memory.unwrap_or(Path::new("/dev/shm"))))
        .transpose()?;
    let run = Run::counted(tagged, table, GROUP.into());
    contestants::consume(kind, &run).map(drop)
}

/// A counter of the processor's, on one thread's user space.
struct Counter(OwnedFd);

impl Counter {
    fn open(which: u32, thread: u32) -> io::Result<Self> {
        let mut attributes = sys::perf_event_attr { config: which.into(), ..Default::default() };
        attributes.type_ = sys::PERF_TYPE_HARDWARE;
        attributes.size = size_of_val(&attributes) as u32;
        attributes.set_exclude_kernel(1);
        attributes.set_exclude_hv(1);
        // SAFETY: the attributes are of the size that they say, and live through the call; all else
        // is numbers: any processor, no group, no flags.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, thread, -1, -1, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    fn read(&self) -> io::Result<u64> {
        let mut count = 0_u64;
        // SAFETY: eight bytes are read into eight bytes.
        let got = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), size_of_val(&count)) };
        if got == 8 { Ok(count) } else { Err(io::Error::last_os_error()) }
    }
}
