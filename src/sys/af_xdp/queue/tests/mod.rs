//! The moments at which a process can die, one by one, and many in sequence: they are too short for
//! a test that kills at random to hit each.

mod foreign;

use super::super::ring::fake::{self, memory};
use super::super::socket::Socket;
use super::super::umem::Umem;
use super::*;
use crate::sys::interface::Interface;
use crate::sys::mapping::killed_after;
use crate::wire::mix;

const ENTRIES: u32 = 64;
const NONE: [u32; 0] = [];

fn settings() -> Settings {
    let interface = Interface { name: "none".into(), index: 0 };
    Settings { receive: ENTRIES, transmit: ENTRIES, huge_pages: false, ..Settings::new(interface, 1) }
}

fn area() -> Area {
    Area::new(Arc::new(Umem::create(&settings()).unwrap().0), &settings(), 0)
}

/// Both ends of a ring, ours and the kernel's.
fn ring<E: crate::sys::af_xdp::ring::Entry>() -> (Producer<E>, Consumer<E>) {
    let fd = memory();
    let ends = (Producer::over(fake::ring(&fd, ENTRIES)), Consumer::over(fake::ring(&fd, ENTRIES)));
    (ends.0.unwrap(), ends.1.unwrap())
}

fn numbers(chunks: Vec<Chunk>) -> Vec<u32> {
    chunks.iter().map(Chunk::number).collect()
}

/// The kernel puts a frame in a chunk and the chunk in the receive ring.
fn arrives(area: &Area, receive: &mut Producer<Descriptor>, chunk: Chunk) {
    receive.put(Descriptor { address: area.address(&chunk) + 256, length: 64 });
    receive.publish();
}

#[test]
fn a_release_can_be_cut_anywhere() {
    let (settings, area) = (settings(), area());
    let (mut fill, mut filled) = ring::<u64>();
    let (mut kernel, mut received) = ring::<Descriptor>();
    let left = |received: &Consumer<Descriptor>, fill: &Producer<u64>| {
        numbers(free_to_receive(settings.receive, &area, &[received], fill).unwrap())
    };
    assert_eq!(left(&received, &fill), (0..ENTRIES).collect::<Vec<_>>(), "at the very first all are free");
    for number in 0..ENTRIES {
        let chunk = area.reclaim(number as usize);
        area.set_owner(&chunk, Owner::Fill(fill.next()));
        fill.put(area.address(&chunk));
    }
    assert_eq!(left(&received, &fill).len(), ENTRIES as usize, "killed before the fill ring's index moved");

    for number in 0..ENTRIES {
        area.set_owner(&area.reclaim(number as usize), Owner::Fill(fill.next().wrapping_sub(ENTRIES - number)));
    }
    fill.publish();
    assert_eq!(left(&received, &fill), NONE, "the kernel has all");

    let (chunk, _) = area.take(filled.take().unwrap());
    filled.release(1);
    arrives(&area, &mut kernel, chunk);
    assert_eq!(left(&received, &fill), NONE, "a frame waits in the receive ring");

    area.set_owner(&area.reclaim(0), Owner::Process);
    assert_eq!(left(&received, &fill), NONE, "killed before the receive ring's index moved: it is received again");

    received.take().unwrap();
    received.release(1);
    assert_eq!(left(&received, &fill), [0], "killed before the chunk was on its way back");

    area.set_owner(&area.reclaim(0), Owner::Fill(fill.next()));
    assert_eq!(left(&received, &fill), [0], "killed between its word and its entry");

    area.set_owner(&area.reclaim(0), Owner::Fill(fill.next()));
    assert!(fill.has_room());
    fill.put(area.address(&area.reclaim(0)));
    fill.publish();
    assert_eq!(left(&received, &fill), NONE, "the kernel has all again");
}

#[test]
fn a_transmission_can_be_cut_anywhere() {
    let area = area();
    let (mut transmit, mut sent) = ring::<Descriptor>();
    let (mut kernel, mut completion) = ring::<u64>();
    let left = |transmit: &Producer<Descriptor>| {
        free_to_transmit(&area, ENTRIES as usize..2 * ENTRIES as usize, transmit).unwrap().len() as u32
    };
    assert_eq!(left(&transmit), ENTRIES, "at the very first all are free");
    let first = ENTRIES as usize;
    area.set_owner(&area.reclaim(first), Owner::Transmit(transmit.next()));
    assert_eq!(left(&transmit), ENTRIES, "killed between its word and its entry");

    area.set_owner(&area.reclaim(first), Owner::Transmit(transmit.next()));
    transmit.put(Descriptor { address: area.address(&area.reclaim(first)), length: 64 });
    assert_eq!(left(&transmit), ENTRIES, "killed before the index moved: never sent");

    area.set_owner(&area.reclaim(first), Owner::Transmit(transmit.next().wrapping_sub(1)));
    transmit.publish();
    assert_eq!(left(&transmit), ENTRIES - 1, "the kernel has it");

    kernel.put(sent.take().unwrap().address);
    sent.release(1);
    kernel.publish();
    assert_eq!(left(&transmit), ENTRIES - 1, "it was sent, and that was not looked at");

    complete(&mut completion, &area, |_| false, drop);
    assert_eq!(left(&transmit), ENTRIES, "it was sent, and that is known");
}

/// As if the process died while it held the entry: the next one reads the same entry again.
#[test]
fn a_spare_chunk_is_free_only_when_the_kernels_entry_for_it_is_gone() {
    let area = area();
    let (mut kernel, mut completion) = ring::<u64>();
    let spare = area.reclaim(ENTRIES as usize);
    area.set_owner(&spare, Owner::Transmit(0));
    kernel.put(area.address(&spare));
    kernel.publish();
    let owner = || area.owners(ENTRIES as usize..ENTRIES as usize + 1).next().unwrap().1;
    // It is asked when the entry is read, and when it is released: both come before the word says
    // that the process has it.
    let asked = std::cell::Cell::new(0);
    let is_spare = |_: &Chunk| {
        assert_eq!(owner(), Some(if asked.get() == 0 { Owner::Transmit(0) } else { Owner::Sent }));
        asked.set(asked.get() + 1);
        true
    };
    complete(&mut completion, &area, is_spare, drop);
    assert_eq!((completion.available(), owner(), asked.get()), (0, Some(Owner::Process), 2));
}

#[test]
fn words_and_rings_that_cannot_be_are_refused() {
    let (settings, area) = (settings(), area());
    let (transmit, received) = ring::<Descriptor>();
    let (fill, _) = ring::<u64>();
    let (mut kernel, twice) = ring::<Descriptor>();
    arrives(&area, &mut kernel, area.reclaim(1));
    arrives(&area, &mut kernel, area.reclaim(1));
    assert!(matches!(free_to_receive(settings.receive, &area, &[&twice], &fill), Err(XdpError::Foreign { .. })));
    area.set_owner(&area.reclaim(0), Owner::Transmit(0));
    assert!(matches!(free_to_receive(settings.receive, &area, &[&received], &fill), Err(XdpError::Foreign { .. })));
    area.set_owner(&area.reclaim(ENTRIES as usize), Owner::Fill(0));
    assert!(matches!(
        free_to_transmit(&area, ENTRIES as usize..2 * ENTRIES as usize, &transmit),
        Err(XdpError::Foreign { .. })
    ));
}

/// A queue with one socket, with the kernel's side of its rings in this test: what outlives each
/// process that works with it.
struct Rig {
    area: Area,
    /// Fill, completion, receive and transmit ring.
    rings: [OwnedFd; 4],
    fill: Consumer<u64>,
    completion: Producer<u64>,
    receive: Producer<Descriptor>,
    transmit: Consumer<Descriptor>,
    /// What the kernel took and has not given back.
    sending: Vec<u64>,
    receiving: Vec<u64>,
}

impl Rig {
    fn new() -> Self {
        let rings = [(); 4].map(|()| memory());
        Self {
            area: area(),
            fill: Consumer::over(fake::ring(&rings[0], ENTRIES)).unwrap(),
            completion: Producer::over(fake::ring(&rings[1], ENTRIES)).unwrap(),
            receive: Producer::over(fake::ring(&rings[2], ENTRIES)).unwrap(),
            transmit: Consumer::over(fake::ring(&rings[3], ENTRIES)).unwrap(),
            rings,
            sending: Vec::new(),
            receiving: Vec::new(),
        }
    }

    fn map(&self) -> MappedQueue {
        MappedQueue {
            number: 0,
            area: self.area.clone(),
            sockets: vec![memory()],
            fill: fake::ring(&self.rings[0], ENTRIES),
            completion: fake::ring(&self.rings[1], ENTRIES),
            pairs: vec![(fake::ring(&self.rings[2], ENTRIES), fake::ring(&self.rings[3], ENTRIES))],
            returned: ArrayQueue::new(ENTRIES as usize),
            sent: [ArrayQueue::new(ENTRIES as usize)].into(),
        }
    }

    /// A successor's socket, for sending only.
    fn sender(&self) -> Socket {
        self.map().take_over(&settings()).unwrap().remove(0)
    }

    /// The kernel takes what it is shown. It never has a chunk twice.
    fn take(&mut self) {
        while self.sending.len() + self.completion.waiting() as usize <= ENTRIES as usize
            && let Some(entry) = self.transmit.take()
        {
            let chunk = self.area.take(entry.address).0.number();
            assert!((ENTRIES..2 * ENTRIES).contains(&chunk) && !self.sending.contains(&entry.address), "chunk {chunk}");
            self.sending.push(entry.address);
            self.transmit.release(1);
        }
        while let Some(address) = self.fill.take() {
            let chunk = self.area.take(address).0.number();
            assert!(chunk < ENTRIES && !self.receiving.contains(&address), "chunk {chunk}");
            self.receiving.push(address);
            self.fill.release(1);
        }
    }

    /// The kernel gives back one chunk that it has sent, in any order.
    fn complete(&mut self, which: usize) {
        if !self.sending.is_empty() && self.completion.has_room() {
            let address = self.sending.swap_remove(which % self.sending.len());
            self.completion.put(address);
            self.completion.publish();
        }
    }

    fn receives(&mut self, which: usize) {
        if !self.receiving.is_empty() && self.receive.has_room() {
            let address = self.receiving.swap_remove(which % self.receiving.len());
            self.receive.put(Descriptor { address: address + 256, length: 64 });
            self.receive.publish();
        }
    }

    /// When nothing runs, every chunk can be counted: each takes a frame, and the kernel has all
    /// that it may receive into.
    fn assert_whole(&mut self, story: &str) {
        self.take();
        (0..ENTRIES).for_each(|_| self.complete(0));
        // Two, because a spare chunk that the kernel had at the start belongs not to this successor
        // but to the next one.
        for last in [false, true] {
            let mut socket = self.sender();
            socket.take_back_sent().unwrap();
            Socket::take_back_received(std::slice::from_ref(&socket)).unwrap();
            let held = socket.receive(usize::MAX);
            socket.release(held);
            self.take();
            assert_eq!(self.receiving.len(), ENTRIES as usize, "{story}: chunks to receive into");
            let queued = (0..2 * ENTRIES).filter(|_| last && socket.transmit(|_| 64)).count();
            assert!(!last || queued == ENTRIES as usize, "{story}: {queued} of {ENTRIES} chunks to send with are left");
        }
    }
}

fn send(socket: &mut Socket) {
    assert!(socket.transmit(|_| 64));
    assert!(socket.flush().unwrap());
}

/// The dead process had written frames, and not published them. Each successor sends its first
/// frame by the entry of the oldest of them, and dies; there are more successors than the ring has
/// entries.
#[test]
fn first_frames_make_no_claim_of_the_dead_true() {
    for successors in [0, 1, 2, ENTRIES - 1, ENTRIES, 3 * ENTRIES] {
        for frames in [1, 3, ENTRIES - 1] {
            // Before each store of the last of these frames, or after all of them.
            for store in 0..3 {
                let story = format!("{frames} frames unpublished, the last cut at {store}, {successors} successors");
                let mut rig = Rig::new();
                let mut dead = rig.sender();
                dead.take_back_sent().unwrap();
                (1..frames).for_each(|_| assert!(dead.transmit(|_| 64)));
                killed_after(store, || dead.transmit(|_| 64));
                for _ in 0..successors {
                    send(&mut rig.sender());
                    rig.take();
                    rig.complete(0);
                    // As another socket of the queue would: the next successor's spare is then
                    // there to be sent first again.
                    drop(rig.sender().queue.sent(0).1);
                }
                rig.assert_whole(&story);
            }
        }
    }
}

/// Processes in sequence, each killed before a different store, while the kernel sends and receives
/// at random.
#[test]
fn no_chunk_is_lost_however_many_die_at_whatever_store() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(u64::from(std::process::id()));
    eprintln!("SEED={seed}");
    let mut state = seed;
    let mut random = |below: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % below
    };
    for round in 0..40_u64 {
        let mut rig = Rig::new();
        for death in 0..100 {
            let story = format!("seed {seed}, round {round}, death {death}");
            let mut lives = random(40);
            // Runs one act of the process; none if it was its last, cut at any store.
            let mut last = |act: &mut dyn FnMut()| {
                if lives > 0 {
                    lives -= 1;
                    act();
                    return false;
                }
                killed_after(random(12), act);
                true
            };
            let mut sockets = Vec::new();
            let mapped = std::cell::Cell::new(Some(rig.map()));
            let mut dead = last(&mut || sockets = mapped.take().unwrap().take_over(&settings()).unwrap());
            let mut ready = false;
            let mut acts = 0;
            while let (false, Some(socket)) = (dead, sockets.first_mut()) {
                acts += 1;
                let dice = mix(seed ^ round << 32 ^ death << 16 ^ acts);
                let which = (dice >> 8) as usize;
                (0..dice >> 4 & 3).for_each(|_| rig.complete(which));
                (0..dice >> 6 & 3).for_each(|_| rig.receives(which));
                dead = last(&mut || match dice % 4 {
                    0 => (0..dice >> 12 & 7).for_each(|_| _ = socket.transmit(|_| 64)),
                    1 => assert!(socket.flush().unwrap()),
                    2 if ready => drop(socket.receive(4)),
                    3 if ready => {
                        let held = socket.receive(0);
                        socket.release(held);
                    }
                    _ => {
                        socket.take_back_sent().unwrap();
                        if !ready {
                            Socket::take_back_received(std::slice::from_ref(socket)).unwrap();
                        }
                        ready = true;
                    }
                });
                rig.take();
            }
            drop(sockets);
            if death % 25 == 24 {
                rig.assert_whole(&story);
            }
        }
    }
}
