//! Baton's own: the socket alone, and a worker as a dispatch server runs it.

use std::os::fd::AsFd;
use std::sync::Arc;

use baton::cascade::Topology;
use baton::config::{AutonomousDomain, Heartbeat};
use baton::limits::BURST;
use baton::link::{FrameQueue, Peers, Shared, Waker, Worker};
use baton::sys::af_xdp::{self, Settings, Socket};
use baton::sys::bpf::{SteerSettings, Steering};
use baton::sys::interface::Interface;
use baton::table::OwnerId;
use baton::telemetry::{Collector, Counter, Counters, recorder};
use baton::wire::{DEFAULT_ETHERTYPE, Epoch, Mac};
use mio::{Poll, Token};

use super::Run;
use crate::Failure;
use crate::kernel::Kernel;
use crate::net::swap_macs;
use crate::reports;

/// The one socket of the interface.
pub fn open(interface: Interface) -> Result<Socket, Failure> {
    let settings = Settings { huge_pages: false, ..Settings::new(interface, 1) };
    let bound = af_xdp::bind(&settings)?;
    let mut sockets = af_xdp::adopt(&bound.settings, bound.umem, bound.sockets)?;
    sockets.pop().ok_or_else(|| "one queue has one socket".into())
}

pub fn socket(run: &Run, interface: Interface) -> Result<u64, Failure> {
    let mut kernel = Kernel::load()?;
    let index = interface.index;
    let mut socket = open(interface)?;
    kernel.set_socket(socket.as_fd())?;
    let _link = kernel.attach("redirect", index)?;
    run.begin();
    let mut taken = 0;
    let mut frame = [0; baton::limits::CHUNK_BYTES];
    while run.goes_on(|| taken) {
        let held = socket.receive(BURST);
        if held == 0 {
            std::hint::spin_loop();
            continue;
        }
        if run.mode.echoes() {
            for i in 0..held {
                let length = {
                    let bytes = socket.received(i).bytes;
                    frame[..bytes.len()].copy_from_slice(bytes);
                    bytes.len()
                };
                socket.transmit(|buffer| {
                    buffer[..length].copy_from_slice(&frame[..length]);
                    swap_macs(&mut buffer[..length]);
                    length
                });
            }
            socket.flush()?;
        }
        socket.release(held);
        taken += held as u64;
    }
    Ok(taken)
}

pub fn worker(run: &Run, interface: Interface) -> Result<u64, Failure> {
    let table = run.table.clone().ok_or("a worker needs a table")?;
    let domains: Vec<_> = reports::domains()
        .map(|number| {
            let secret = run.tagged.then(reports::secret);
            let mac = Some(Mac([2, 0, 0, 0, 0, 2]));
            AutonomousDomain { number, mac, interface: None, vlan: None, label: None, secret, behind: Vec::new() }
        })
        .collect();
    let topology =
        Topology::with(&domains, reports::server(), DEFAULT_ETHERTYPE, &[interface.mac()?], Heartbeat::default());
    let poll = Poll::new()?;
    let wake = Waker::new(poll.registry(), Token(0))?;
    let peers = Arc::new(Peers::new(&topology));
    let shared = Shared::new(reports::server(), (DEFAULT_ETHERTYPE, None), peers, FrameQueue::new(64), wake, true);
    let shared = Arc::new(shared);
    shared.begin(Epoch::new(1, 1));
    let counters = Arc::new(Counters::default());

    let steer = SteerSettings::new(DEFAULT_ETHERTYPE, 1);
    let steering = Steering::attach(&interface, &steer, None)?;
    let socket = open(interface)?;
    steering.set_ring(0, 0, socket.as_fd())?;
    let writer = table.writer(OwnerId::worker(0));
    let recorder = recorder(&mut Collector::default());
    let outbox = Arc::new(FrameQueue::new(64));
    let mut worker = Worker::new((socket, 0), writer, shared, outbox, counters.clone(), recorder);
    run.begin();
    let applied = || counters.read(Counter::ReportsApplied);
    while run.goes_on(applied) {
        if !worker.step(run.now(applied)) {
            std::hint::spin_loop();
        }
    }
    worker.settle();
    let wrong = counters.read(Counter::Unauthentic) + counters.read(Counter::ReportsUnknown);
    if wrong > 0 {
        return Err(format!("{wrong} reports were refused: the generator's frames are wrong").into());
    }
    Ok(applied())
}
