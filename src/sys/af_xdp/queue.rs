//! What the sockets of one queue share: the fill and the completion ring.
//!
//! Any of the sockets serves the two rings, whichever comes by first. The others do not wait for it: they leave what they
//! have in bounded queues, and whoever has the rings takes care of that too, or comes back for it. So no worker depends on
//! another one's being awake.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crossbeam::queue::ArrayQueue;
use parking_lot::Mutex;
use rustix::net::sockopt::xdp_mmap_offsets;

use super::ring::{COMPLETION, Consumer, Descriptor, FILL, Producer, RECEIVE, TRANSMIT};
use super::socket::Socket;
use super::umem::{Area, Chunk, Owner};
use super::{Settings, XdpError};

/// Completions that are taken at a time.
const BATCH: usize = 64;

/// The shared part of a queue's sockets.
#[derive(Debug)]
pub(super) struct Queue {
    pub area: Area,
    pub number: u32,
    rings: Mutex<Rings>,
    /// Receive chunks that wait for a place in the fill ring. It has room for all that there are.
    returned: ArrayQueue<Chunk>,
    /// Transmit chunks that the kernel has sent, by the ring that they belong to. Each has room for all of its ring's.
    sent: Box<[ArrayQueue<Chunk>]>,
    receive: u32,
    transmit: u32,
}

#[derive(Debug)]
struct Rings {
    fill: Producer<u64>,
    completion: Consumer<u64>,
}

impl Queue {
    /// Maps the rings of a queue's sockets and takes back what nobody has: what the dead held, or everything where nobody
    /// worked yet.
    ///
    /// While this runs the kernel goes on receiving and sending. It only ever has chunks whose words say so, and it gets
    /// none from here but at the end, so what is decided here stays true.
    pub fn adopt(settings: &Settings, number: u32, area: Area, sockets: Vec<OwnedFd>) -> Result<Vec<Socket>, XdpError> {
        assert_eq!(sockets.len(), settings.rings as usize, "a socket for each ring");
        let offsets = |socket| {
            xdp_mmap_offsets(socket)
                .map_err(|error| XdpError::Call { what: "asking for the rings", error: error.into() })
        };
        let (first, of) = (&sockets[0], offsets(&sockets[0])?);
        let mut rings = Rings {
            fill: Producer::map(first.as_fd(), FILL, &of.fr, settings.receive)?,
            completion: Consumer::map(first.as_fd(), COMPLETION, &of.cr, settings.completion())?,
        };
        let mut pairs = Vec::new();
        for socket in &sockets {
            let of = offsets(socket)?;
            let receive: Consumer<Descriptor> = Consumer::map(socket.as_fd(), RECEIVE, &of.rx, settings.receive)?;
            let transmit: Producer<Descriptor> = Producer::map(socket.as_fd(), TRANSMIT, &of.tx, settings.transmit)?;
            pairs.push((receive, transmit));
        }

        rings.complete_all(&area);
        let transmitting: Vec<_> = pairs.iter().map(|(_, transmit)| transmit).collect();
        let receiving: Vec<_> = pairs.iter().map(|(receive, _)| receive).collect();
        let free = free_to_transmit(settings, &area, &transmitting)?;
        let unfilled = free_to_receive(settings, &area, &receiving, &rings.fill)?;

        let queue = Arc::new(Self {
            number,
            rings: Mutex::new(rings),
            returned: ArrayQueue::new(settings.receive as usize),
            sent: (0..settings.rings).map(|_| ArrayQueue::new(settings.transmit as usize)).collect(),
            receive: settings.receive,
            transmit: settings.transmit,
            area,
        });
        queue.refill(unfilled.into_iter());
        let parts = sockets.into_iter().zip(pairs).zip(free).enumerate();
        Ok(parts
            .map(|(ring, ((fd, (receive, transmit)), free))| {
                Socket::new(fd, queue.clone(), ring as u32, receive, transmit, free)
            })
            .collect())
    }

    /// Gives receive chunks back to the kernel. True: it wants to be woken to take them.
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

    /// Takes back what the kernel has sent; gives a ring's own chunks.
    pub fn sent(&self, ring: u32) -> impl Iterator<Item = Chunk> {
        if let Some(mut rings) = self.rings.try_lock() {
            rings.complete(&self.area, |chunk| {
                let ring = (chunk.number() - self.receive) / self.transmit;
                self.sent[ring as usize].push(chunk).expect("it has room for every transmit chunk of the ring");
            });
        }
        self.settle();
        std::iter::from_fn(move || self.sent[ring as usize].pop())
    }

    /// Fills in what others left while the rings were held here. Everyone who had them, or could not have them, comes
    /// through here: of two that pass each other one sees the other (by both one's fences), so nothing is left lying while
    /// all rest.
    fn settle(&self) -> bool {
        let mut wake = false;
        fence(Ordering::SeqCst);
        // A turn for each of the others, who can all have left something meanwhile; they then come through here themselves.
        for _ in 0..=self.sent.len() {
            if self.returned.is_empty() {
                break;
            }
            let Some(mut rings) = self.rings.try_lock() else { break };
            if !rings.fill.has_room() {
                // The kernel has more than enough to receive into; who releases those frames finds room.
                break;
            }
            wake |= rings.fill(&self.area, &mut std::iter::from_fn(|| self.returned.pop()));
            drop(rings);
            fence(Ordering::SeqCst);
        }
        wake
    }
}

impl Rings {
    /// Puts chunks in the fill ring while it has room; what is left stays in the iterator.
    fn fill(&mut self, area: &Area, chunks: &mut impl Iterator<Item = Chunk>) -> bool {
        while self.fill.has_room() {
            let Some(chunk) = chunks.next() else { break };
            area.set_owner(&chunk, Owner::Fill(self.fill.next()));
            self.fill.put(chunk.into_address());
        }
        self.fill.publish();
        self.fill.needs_wakeup()
    }

    /// Gives each chunk that was sent to `keep`, once the kernel's entry is released: until then a successor would be given
    /// it again.
    fn complete(&mut self, area: &Area, mut keep: impl FnMut(Chunk)) {
        let mut left = self.completion.available();
        while left > 0 {
            let batch = left.min(BATCH as u32);
            let mut chunks: [Option<Chunk>; BATCH] = [const { None }; BATCH];
            for chunk in &mut chunks[..batch as usize] {
                let address = self.completion.take().expect("as many as were available");
                let (taken, _) = area.take(address);
                area.set_owner(&taken, Owner::Process);
                *chunk = Some(taken);
            }
            self.completion.release(batch);
            chunks.into_iter().flatten().for_each(&mut keep);
            left -= batch;
        }
    }

    /// On adoption the words are what counts, so the chunks need no keeping.
    fn complete_all(&mut self, area: &Area) {
        self.complete(area, drop);
    }
}

/// For each ring, its transmit chunks that the kernel does not have.
fn free_to_transmit(
    settings: &Settings,
    area: &Area,
    rings: &[&Producer<Descriptor>],
) -> Result<Vec<Vec<Chunk>>, XdpError> {
    let mut free = Vec::new();
    for (ring, transmit) in rings.iter().enumerate() {
        let first = settings.receive as usize + ring * settings.transmit as usize;
        let mut own = Vec::with_capacity(settings.transmit as usize);
        for number in first..first + settings.transmit as usize {
            match area.owner(number) {
                Some(Owner::Transmit(index)) if transmit.was_published(index) => continue,
                Some(Owner::Transmit(_) | Owner::Process) => {}
                _ => return Err(XdpError::Foreign { what: "an owner word is none of a transmit chunk" }),
            }
            let chunk = area.reclaim(number);
            area.set_owner(&chunk, Owner::Process);
            own.push(chunk);
        }
        free.push(own);
    }
    Ok(free)
}

/// The receive chunks that neither the kernel nor a receive ring has.
fn free_to_receive(
    settings: &Settings,
    area: &Area,
    rings: &[&Consumer<Descriptor>],
    fill: &Producer<u64>,
) -> Result<Vec<Chunk>, XdpError> {
    let mut received = vec![false; settings.receive as usize];
    for ring in rings {
        for ahead in 0..ring.available() {
            let Some(entry) = ring.peek(ahead) else { break };
            let number = area.take(entry.address).0.number() as usize;
            *received.get_mut(number).ok_or(XdpError::Foreign { what: "a transmit chunk was received into" })? = true;
        }
    }
    let mut free = Vec::new();
    for (number, received) in received.into_iter().enumerate() {
        match area.owner(number) {
            // The dead had finished with it, or nearly: where it is still in the ring it will be received again.
            Some(Owner::Process) if received => continue,
            Some(Owner::Process) => {}
            // The kernel has it, or has given it back through a receive ring.
            Some(Owner::Fill(index)) if fill.was_published(index) => continue,
            Some(Owner::Fill(_)) => {}
            _ => return Err(XdpError::Foreign { what: "an owner word is none of a receive chunk" }),
        }
        let chunk = area.reclaim(number);
        area.set_owner(&chunk, Owner::Process);
        free.push(chunk);
    }
    Ok(free)
}
