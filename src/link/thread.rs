//! A worker's thread: step, and how it waits.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::shared::Shared;
use super::wake::Wake;
use super::worker::Worker;
use crate::config::Wait;
use crate::limits::SPIN_NS;
use crate::sys::af_xdp::Socket;
use crate::sys::clock;

const WAKE: Token = Token(0);
const SOCKET: Token = Token(1);
/// A thread that waits looks round this often even if nobody wakes it.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// The same where the kernel could not take what was to be sent. It does not say when it can.
const KERNEL_WAIT: Duration = Duration::from_millis(1);

/// Where a worker waits, and what wakes it.
pub(super) struct Waiting {
    poll: Poll,
    pub wake: Arc<Wake>,
}

impl Waiting {
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let wake = Arc::new(Wake::new(poll.registry(), WAKE)?);
        Ok(Self { poll, wake })
    }
}

/// How a worker runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub number: usize,
    pub wait: Wait,
    /// The CPU that it is pinned to.
    pub core: Option<u16>,
}

/// Starts a worker on a thread of its own. It ends when the engine stops, with nothing in its hands.
pub(super) fn spawn(
    worker: Worker<Socket>,
    waiting: Waiting,
    shared: Arc<Shared>,
    manner: Manner,
) -> io::Result<JoinHandle<()>> {
    let socket = worker.ring().as_fd().as_raw_fd();
    waiting.poll.registry().register(&mut SourceFd(&socket), SOCKET, Interest::READABLE)?;
    let name = format!("worker {}", manner.number);
    std::thread::Builder::new().name(name).spawn(move || run(worker, waiting, &shared, manner))
}

fn run(mut worker: Worker<Socket>, mut waiting: Waiting, shared: &Shared, manner: Manner) {
    if let Some(core) = manner.core
        && !core_affinity::set_for_current(core_affinity::CoreId { id: core.into() })
    {
        tracing::warn!(worker = manner.number, core, "cannot be pinned to its core; it runs where it is put");
    }
    let mut events = Events::with_capacity(2);
    let mut worked = clock::now();
    loop {
        // Before anything else: once another dispatch server controls, not one more command goes out.
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
        if manner.wait == Wait::Spin || now.since(worked) < Duration::from_nanos(SPIN_NS) {
            std::hint::spin_loop();
            continue;
        }
        worker.settle();
        let longest = if worker.is_settled() { LONGEST_WAIT } else { KERNEL_WAIT };
        waiting.wake.announce();
        if !worker.step(clock::now()) {
            // An interrupted wait is a short one.
            let _ = waiting.poll.poll(&mut events, Some(longest));
        }
        waiting.wake.awake();
        worked = clock::now();
    }
}
