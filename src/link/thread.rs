//! A worker's thread: step, and how it waits.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::shared::Shared;
use super::waker::Waker;
use super::worker::Worker;
use crate::config::Wait;
use crate::limits::{SPIN_NS, STACK_BYTES};
use crate::sys::af_xdp::Socket;
use crate::sys::robust_locks::RobustLocks;
use crate::sys::{clock, threads};

const WAKE: Token = Token(0);
const SOCKET: Token = Token(1);
/// A thread that waits looks round this often even if nobody wakes it.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// The same where the kernel could not take what was to be sent. It does not say when it can.
const KERNEL_WAIT: Duration = Duration::from_millis(1);

/// What a worker's thread begins with.
pub(crate) struct Start {
    /// Where its rings come from, with the worker that works them; closed where they never come.
    pub rings: Receiver<Worker<Socket>>,
    /// Told when it has its lock.
    pub begun: Sender<()>,
    /// Where its lock is.
    pub succession: Arc<RobustLocks>,
}

/// How a worker runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub number: usize,
    pub wait: Wait,
    /// The CPU that it is pinned to.
    pub core: Option<u16>,
}

/// Starts a worker's thread, which waits for its rings; gives what wakes it once it has them. It
/// ends when the engine stops, with nothing in its hands.
pub(crate) fn spawn(start: Start, shared: Arc<Shared>, manner: Manner) -> io::Result<(JoinHandle<()>, Arc<Waker>)> {
    let poll = Poll::new()?;
    let wake = Arc::new(Waker::new(poll.registry(), WAKE)?);
    let woken = Arc::clone(&wake);
    let name = format!("worker {}", manner.number);
    let run = move || {
        pin(manner);
        let Ok(worker) = start.rings.recv() else { return };
        // Held to the thread's end: a successor that has it knows that nobody works with the rings.
        let lock = start.succession.take(manner.number + 1);
        let (_held, _) = lock.expect("the locks of the succession are what the keeper made");
        let _ = start.begun.send(());
        run(worker, poll, &woken, &shared, manner, || start.succession.beat(manner.number + 1));
    };
    Ok((std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(run)?, wake))
}

fn pin(manner: Manner) {
    let Some(core) = manner.core else { return threads::unpin() };
    if !threads::pin(core) {
        tracing::warn!(worker = manner.number, core, "cannot be pinned to its core; it runs where it is put");
    }
}

/// `beat` is called every round: a worker that stands still is taken for dead.
fn run(mut worker: Worker<Socket>, mut poll: Poll, wake: &Waker, shared: &Shared, manner: Manner, beat: impl Fn()) {
    let socket = worker.ring().as_fd().as_raw_fd();
    let watched = poll.registry().register(&mut SourceFd(&socket), SOCKET, Interest::READABLE);
    watched.expect("a socket can be watched");
    let mut events = Events::with_capacity(2);
    let mut worked = clock::now();
    loop {
        beat();
        // Before anything else: once another dispatch server controls, not one more command goes
        // out.
        if shared.is_stopping() {
            worker.settle();
            return;
        }
        let now = clock::now();
        if worker.step(now) {
            worked = now;
            continue;
        }
        // Looking again for a moment costs less than a sleep and a wake-up, and is faster by more.
        let looks_again = match manner.wait {
            Wait::Busy => true,
            Wait::Adaptive => now.since(worked) < Duration::from_nanos(SPIN_NS),
            Wait::Sleep => false,
        };
        if looks_again {
            std::hint::spin_loop();
            continue;
        }
        worker.settle();
        let longest = if worker.is_settled() { LONGEST_WAIT } else { KERNEL_WAIT };
        wake.announce();
        // The control thread says so before it wakes the others.
        if !worker.step(clock::now()) && !shared.is_stopping() {
            // An interrupted wait is a short one.
            let _ = poll.poll(&mut events, Some(longest));
        }
        wake.awake();
        worked = clock::now();
    }
}
