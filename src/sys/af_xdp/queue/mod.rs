//! What the sockets of one queue share: the fill and the completion ring.
//!
//! Any of the sockets serves the two rings, whichever comes first. The others do not wait for it:
//! they leave what they have in bounded queues, and the socket that has the rings takes care of
//! that too, or comes back for it. So no worker depends on another one being awake. Only the kernel
//! does: while a thread that has the rings is not scheduled, the kernel gets no chunk, and drops
//! and counts frames that find none (`receive_dropped`). Cores that run one worker each have no
//! such thread.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crossbeam::queue::ArrayQueue;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::xdp_mmap_offsets;
use rustix::net::{RecvFlags, recv};

use super::completions::complete;
use super::ring::{COMPLETION, Consumer, Descriptor, FILL, Producer, RECEIVE, Ring, TRANSMIT};
use super::umem::{Area, Chunk, Owner};
use super::{Settings, XdpError};

/// The shared part of a queue's sockets.
#[derive(Debug)]
pub(super) struct Queue {
    pub area: Area,
    pub number: u32,
    /// The interface's name, for error messages.
    pub interface: String,
    rings: Mutex<Rings>,
    /// Receive chunks that wait for a place in the fill ring. It has room for all of them.
    returned: ArrayQueue<Chunk>,
    /// Transmit chunks that the kernel has sent, by the ring that they belong to. Each has room for
    /// all of its ring's chunks.
    sent: Box<[ArrayQueue<Chunk>]>,
    receive: u32,
    /// Number of transmit chunks of each ring.
    pub transmit: u32,
}

#[derive(Debug)]
struct Rings {
    fill: Producer<u64>,
    completion: Consumer<u64>,
    /// For each ring, whether its transmit chunks were taken back: before that, only their words
    /// say where they are.
    taken_back: Box<[bool]>,
}

/// The rings of a queue's sockets, mapped while their previous owner may still work with them.
#[derive(Debug)]
pub(super) struct MappedQueue {
    number: u32,
    area: Area,
    sockets: Vec<OwnedFd>,
    fill: Ring<u64>,
    completion: Ring<u64>,
    /// Receive and transmit ring of each socket.
    pairs: Vec<(Ring<Descriptor>, Ring<Descriptor>)>,
    /// What the queue's sockets will share, made in advance.
    returned: ArrayQueue<Chunk>,
    sent: Box<[ArrayQueue<Chunk>]>,
}

/// Receive and transmit ring of a socket.
pub(super) type Pair = (Consumer<Descriptor>, Producer<Descriptor>);
/// Sockets with their rings, in the order of their numbers.
pub(super) type SocketRings = Vec<(OwnedFd, Pair)>;

impl MappedQueue {
    /// Maps the rings, without reading them.
    pub fn map(settings: &Settings, number: u32, area: Area, sockets: Vec<OwnedFd>) -> Result<Self, XdpError> {
        assert_eq!(sockets.len(), settings.rings as usize, "a socket for each ring");
        let offsets = |socket| {
            xdp_mmap_offsets(socket)
                .map_err(|error| XdpError::Call { what: "asking for the rings", error: error.into() })
        };
        let (first, of) = (&sockets[0], offsets(&sockets[0])?);
        let fill = Ring::map(first.as_fd(), FILL, &of.fr, settings.receive)?;
        let completion = Ring::map(first.as_fd(), COMPLETION, &of.cr, settings.completion())?;
        let mut pairs = Vec::new();
        for socket in &sockets {
            let of = offsets(socket)?;
            let receive = Ring::map(socket.as_fd(), RECEIVE, &of.rx, settings.receive)?;
            pairs.push((receive, Ring::map(socket.as_fd(), TRANSMIT, &of.tx, settings.transmit)?));
        }
        let returned = ArrayQueue::new(settings.receive as usize);
        let sent = (0..settings.rings).map(|_| ArrayQueue::new(settings.transmit as usize)).collect();
        Ok(Self { number, area, sockets, fill, completion, pairs, returned, sent })
    }

    /// The shared part at work, and the sockets with their receive and transmit rings.
    pub fn share(self, settings: &Settings) -> Result<(Arc<Queue>, SocketRings), XdpError> {
        let Self { number, area, sockets, fill, completion, pairs, returned, sent } = self;
        let taken_back = vec![false; pairs.len()].into();
        let rings = Rings { fill: Producer::over(fill)?, completion: Consumer::over(completion)?, taken_back };
        let pairs =
            pairs.into_iter().map(|(receive, transmit)| Ok((Consumer::over(receive)?, Producer::over(transmit)?)));
        let sockets =
            sockets.into_iter().zip(pairs).map(|(fd, pair)| Ok((fd, pair?))).collect::<Result<_, XdpError>>()?;

        let queue = Arc::new(Queue {
            number,
            interface: settings.interface.name.clone(),
            rings: Mutex::new(rings),
            returned,
            sent,
            receive: settings.receive,
            transmit: settings.transmit,
            area,
        });
        Ok((queue, sockets))
    }
}

impl Queue {
    /// The range of a ring's transmit chunks.
    fn transmitted(&self, ring: u32) -> Range<usize> {
        let first = (self.receive + ring * self.transmit) as usize;
        first..first + self.transmit as usize - 1
    }

    /// The last transmit chunk of a ring, with which a successor sends its first frame: so it has
    /// to read one word, and not those of all chunks. Nothing else is sent with it.
    fn spare(&self, ring: u32) -> Range<usize> {
        let transmitted = self.transmitted(ring);
        transmitted.end..transmitted.end + 1
    }

    /// Takes back the transmit chunks of a ring that the kernel does not have: those that the dead
    /// process held, or all if no process worked yet. Once, and before any of them is used for
    /// sending.
    ///
    /// While this runs the kernel continues to send. It only ever has chunks whose words say so.
    /// The spare may have gone out before, and moved the ring's index; the claim that this would
    /// have made true was withdrawn first ([`Area::withdraw`]), so words and index say the same now
    /// as they did when the predecessor died. Other sockets of the queue may be at work: if they
    /// find chunks of this ring that were sent, they leave them to this call, which begins after
    /// them, or hand them on after it.
    pub fn take_back_sent(&self, ring: u32, transmit: &Producer<Descriptor>) -> Result<Vec<Chunk>, XdpError> {
        let mut rings = self.rings.lock();
        self.collect(&mut rings)?;
        assert!(!rings.taken_back[ring as usize], "chunks are taken back once");
        let free = free_to_transmit(&self.area, self.transmitted(ring), transmit)?;
        rings.taken_back[ring as usize] = true;
        Ok(free)
    }

    /// The spare of a ring, if the kernel does not have it. Must run before any socket of the queue
    /// works.
    pub fn take_spare(&self, ring: u32, transmit: &Producer<Descriptor>) -> Result<Vec<Chunk>, XdpError> {
        let spare = self.spare(ring);
        if self.area.owners(spare.clone()).all(|(_, owner)| owner != Some(Owner::Sent)) {
            return free_to_transmit(&self.area, spare, transmit);
        }
        let Rings { completion, .. } = &*self.rings.lock();
        // An address of no chunk was written by a compromised predecessor; this is reported when
        // everything is taken back.
        let said = (0..completion.available()).filter_map(|ahead| completion.peek(ahead));
        let said = said.filter(|address| self.area.holds(*address));
        if said.map(|address| self.area.take(address).0).any(|chunk| spare.contains(&(chunk.number() as usize))) {
            // That entry reports it once more, and it belongs to the next successor.
            return Ok(Vec::new());
        }
        let chunk = self.area.reclaim(spare.start);
        self.area.set_owner(&chunk, Owner::Process);
        Ok(vec![chunk])
    }

    /// Takes the chunks that the kernel has sent, and hands them on to their sockets. An address
    /// that is no transmit chunk, which a predecessor must have sent or written there itself, is
    /// skipped and reported.
    fn collect(&self, rings: &mut Rings) -> Result<(), XdpError> {
        let Rings { completion, taken_back, .. } = rings;
        let ring_of = |chunk: &Chunk| Some(chunk.number().checked_sub(self.receive)? / self.transmit);
        let is_spare =
            |chunk: &Chunk| ring_of(chunk).is_some_and(|ring| self.spare(ring).contains(&(chunk.number() as usize)));
        let mut foreign = false;
        foreign |= !complete(completion, &self.area, is_spare, |chunk| {
            let ring = ring_of(&chunk).map(|ring| ring as usize).filter(|&ring| ring < taken_back.len());
            match ring {
                Some(ring) if taken_back[ring] && !is_spare(&chunk) => {
                    self.sent[ring].push(chunk).expect("it has room for every transmit chunk of the ring");
                }
                Some(_) => {}
                None => foreign = true,
            }
        });
        if foreign { Err(XdpError::Foreign { what: "something other than a transmit chunk was sent" }) } else { Ok(()) }
    }

    /// Takes back the receive chunks that nobody has, and gives them to the kernel. `rings` are
    /// those of all the queue's sockets, and nothing was received from one yet. True: the kernel
    /// wants to be woken to take the chunks.
    ///
    /// While this runs the kernel continues to receive. It only ever has chunks whose words say so,
    /// and gets none from here until the end, so what is decided here stays true.
    pub fn take_back_received(&self, rings: &[&Consumer<Descriptor>]) -> Result<bool, XdpError> {
        let unfilled = free_to_receive(self.receive, &self.area, rings, &self.rings.lock().fill)?;
        Ok(self.refill(unfilled.into_iter()))
    }

    /// Gives receive chunks back to the kernel. True: the kernel wants to be woken to take them.
    ///
    /// Their words say that a process has them, and no receive ring has them any more.
    pub fn refill(&self, mut chunks: impl Iterator<Item = Chunk>) -> bool {
        let mut wake = false;
        if let Some(mut rings) = self.rings.try_lock() {
            wake = rings.fill(&self.area, &mut chunks);
        }
        for chunk in chunks {
            self.returned.push(chunk).expect("it has room for every receive chunk of the queue");
        }
        wake | self.settle()
    }

    /// Number of chunks that the kernel has to receive into; 0 if another thread has the rings at
    /// the moment. True: as for [`Self::refill`].
    pub fn fill_waiting(&self) -> (u32, bool) {
        let waiting = self.rings.try_lock().map_or(0, |mut rings| rings.fill.waiting());
        (waiting, self.settle())
    }

    /// Takes back the chunks that the kernel has sent; returns the ring's own ones. True: as for
    /// [`Self::refill`].
    pub fn sent(&self, ring: u32) -> (bool, impl Iterator<Item = Chunk>) {
        if let Some(mut rings) = self.rings.try_lock() {
            // The predecessor's remains were checked (`take_back_sent`); since then the kernel has
            // sent only what it was given.
            let _ = self.collect(&mut rings);
        }
        (self.settle(), std::iter::from_fn(move || self.sent[ring as usize].pop()))
    }

    /// Fills in what others left while this thread had the rings. Every thread that had them, or
    /// could not have them, comes through here: if two pass each other, one sees the other's chunks
    /// (because both have a fence), so nothing is left behind when all are idle.
    fn settle(&self) -> bool {
        let mut wake = false;
        fence(Ordering::SeqCst);
        // One turn for each of the others, who can all have left something in the meantime; they
        // then come through here themselves.
        for _ in 0..=self.sent.len() {
            if self.returned.is_empty() {
                break;
            }
            let Some(mut rings) = self.rings.try_lock() else { break };
            if !rings.fill.has_room() {
                // The kernel has more than enough to receive into; the socket that releases those
                // frames will find room.
                break;
            }
            wake |= rings.fill(&self.area, &mut std::iter::from_fn(|| self.returned.pop()));
            drop(rings);
            fence(Ordering::SeqCst);
        }
        wake
    }
}

/// Makes the driver look into the transmit ring if a send call does not: for a socket that prefers
/// busy polling, that call runs only the receiving poll function (net/xdp/xsk.c, xsk_no_wakeup),
/// and igb and virtio-net send in another one. A poll call wakes that.
pub(super) fn wake_to_transmit(socket: &OwnedFd) {
    let _ = poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
}

/// Makes the kernel look at the fill ring, by any socket of its queue.
pub(super) fn wake_to_receive(socket: &OwnedFd) {
    // Only zero-copy drivers ask for this. The result changes nothing: the flag stays.
    let _ = recv(socket, &mut [0; 0], RecvFlags::DONTWAIT);
}

impl Rings {
    /// Puts chunks in the fill ring while it has room; the remaining ones stay in the iterator.
    fn fill(&mut self, area: &Area, chunks: &mut impl Iterator<Item = Chunk>) -> bool {
        while self.fill.has_room() {
            let Some(chunk) = chunks.next() else { break };
            let claim = Owner::Fill(self.fill.next());
            area.hand_over(chunk, claim, |address| self.fill.put(address));
        }
        self.fill.publish();
        self.fill.needs_wakeup()
    }
}

/// The transmit chunks of a ring that the kernel does not have.
fn free_to_transmit(
    area: &Area,
    numbers: Range<usize>,
    transmit: &Producer<Descriptor>,
) -> Result<Vec<Chunk>, XdpError> {
    let mut free = Vec::with_capacity(numbers.len());
    for (number, owner) in area.owners(numbers) {
        match owner {
            Some(Owner::Transmit(index)) if transmit.was_published(index) => {}
            Some(Owner::Process) => free.push(area.reclaim(number)),
            Some(Owner::Transmit(_)) => {
                let chunk = area.reclaim(number);
                area.set_owner(&chunk, Owner::Process);
                free.push(chunk);
            }
            _ => return Err(XdpError::Foreign { what: "the owner word of a transmit chunk is invalid" }),
        }
    }
    Ok(free)
}

/// The receive chunks that neither the kernel nor a receive ring has.
fn free_to_receive(
    chunks: u32,
    area: &Area,
    rings: &[&Consumer<Descriptor>],
    fill: &Producer<u64>,
) -> Result<Vec<Chunk>, XdpError> {
    let mut received = vec![false; chunks as usize];
    for ring in rings {
        for ahead in 0..ring.available() {
            let Some(entry) = ring.peek(ahead) else { break };
            let number = area.take(entry.address).0.number() as usize;
            let received =
                received.get_mut(number).ok_or(XdpError::Foreign { what: "a transmit chunk was received into" })?;
            if std::mem::replace(received, true) {
                return Err(XdpError::Foreign { what: "a chunk was received into twice" });
            }
        }
    }
    let mut free = Vec::new();
    for ((number, owner), received) in area.owners(0..received.len()).zip(&received) {
        match owner {
            // The dead process had finished with it, or nearly: if it is still in the ring it will
            // be received again.
            Some(Owner::Process) if *received => continue,
            Some(Owner::Process) => {}
            // The kernel has it, or has given it back through a receive ring.
            Some(Owner::Fill(index)) if fill.was_published(index) => continue,
            Some(Owner::Fill(_)) => {}
            _ => return Err(XdpError::Foreign { what: "the owner word of a receive chunk is invalid" }),
        }
        let chunk = area.reclaim(number);
        area.set_owner(&chunk, Owner::Process);
        free.push(chunk);
    }
    Ok(free)
}

#[cfg(test)]
mod tests;
