//! What the sockets of one queue share: the fill and the completion ring.
//!
//! Any of the sockets serves the two rings, whichever comes by first. The others do not wait for it: they leave what they
//! have in bounded queues, and whoever has the rings takes care of that too, or comes back for it. So no worker depends on
//! another one's being awake; only the kernel does, which gets no chunk while a thread that has the rings is not let run, and
//! drops, and counts, what finds none (`receive_dropped`). Cores that run one worker each have no such thread.

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
use super::socket::Socket;
use super::umem::{Area, Chunk, Owner};
use super::{Settings, XdpError};

/// The shared part of a queue's sockets.
#[derive(Debug)]
pub(super) struct Queue {
    pub area: Area,
    pub number: u32,
    /// The interface's name, for an error's sake.
    pub interface: String,
    rings: Mutex<Rings>,
    /// Receive chunks that wait for a place in the fill ring. It has room for all that there are.
    returned: ArrayQueue<Chunk>,
    /// Transmit chunks that the kernel has sent, by the ring that they belong to. Each has room for all of its ring's.
    sent: Box<[ArrayQueue<Chunk>]>,
    receive: u32,
    /// Transmit chunks of each ring.
    pub transmit: u32,
}

#[derive(Debug)]
struct Rings {
    fill: Producer<u64>,
    completion: Consumer<u64>,
    /// For each ring, whether its transmit chunks were taken back: before, their words alone say where they are.
    taken_back: Box<[bool]>,
}

/// The rings of a queue's sockets, mapped, and whoever works with them still may.
#[derive(Debug)]
pub(super) struct MappedQueue {
    number: u32,
    area: Area,
    sockets: Vec<OwnedFd>,
    fill: Ring<u64>,
    completion: Ring<u64>,
    /// Receive and transmit ring of each socket.
    pairs: Vec<(Ring<Descriptor>, Ring<Descriptor>)>,
    /// What the queue's sockets will share, made ahead.
    returned: ArrayQueue<Chunk>,
    sent: Box<[ArrayQueue<Chunk>]>,
}

impl MappedQueue {
    /// Maps the rings, and looks at nothing in them.
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

    /// The sockets, each with the one chunk to send that its predecessor left alone. Of the others see
    /// [`Queue::take_back_sent`], of what was received [`Queue::take_back_received`].
    pub fn take_over(self, settings: &Settings) -> Result<Vec<Socket>, XdpError> {
        let Self { number, area, sockets, fill, completion, pairs, returned, sent } = self;
        let taken_back = vec![false; pairs.len()].into();
        let rings = Rings { fill: Producer::over(fill)?, completion: Consumer::over(completion)?, taken_back };
        let pairs: Vec<(Consumer<_>, Producer<_>)> = pairs
            .into_iter()
            .map(|(receive, transmit)| Ok((Consumer::over(receive)?, Producer::over(transmit)?)))
            .collect::<Result<_, XdpError>>()?;

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
        let parts = sockets.into_iter().zip(pairs).enumerate();
        parts
            .map(|(ring, (fd, (receive, transmit)))| {
                let spare = free_to_transmit(&queue.area, queue.spare(ring as u32), &transmit)?;
                let busy_poll = settings.busy_poll;
                Ok(Socket::new(fd, queue.clone(), ring as u32, receive, transmit, spare, busy_poll))
            })
            .collect()
    }
}

impl Queue {
    /// The transmit chunks of a ring that are sent with.
    fn transmitted(&self, ring: u32) -> Range<usize> {
        let first = (self.receive + ring * self.transmit) as usize;
        first..first + self.transmit as usize - 1
    }

    /// The last transmit chunk of a ring, which a successor sends its first frame with: it has to look at one word for it, and
    /// not at those of all. Nobody else sends with it.
    fn spare(&self, ring: u32) -> Range<usize> {
        let transmitted = self.transmitted(ring);
        transmitted.end..transmitted.end + 1
    }

    /// Takes the transmit chunks of a ring back that the kernel does not have: what the dead held, or all where nobody worked
    /// yet. Once, and before any of them is sent with.
    ///
    /// While this runs the kernel goes on sending. It only ever has chunks whose words say so, and it gets none from here,
    /// so what is decided here stays true. Other sockets of the queue may be at work: chunks of this ring that they find sent
    /// meanwhile they leave to this, which begins after them, or hand on after it.
    pub fn take_back_sent(&self, ring: u32, transmit: &Producer<Descriptor>) -> Result<Vec<Chunk>, XdpError> {
        let mut rings = self.rings.lock();
        self.collect(&mut rings)?;
        assert!(!rings.taken_back[ring as usize], "chunks are taken back once");
        let free = free_to_transmit(&self.area, self.transmitted(ring), transmit)?;
        rings.taken_back[ring as usize] = true;
        Ok(free)
    }

    /// Takes what the kernel has sent, and hands it on to the sockets whose it is. What is no transmit chunk, which a
    /// predecessor must have had sent or written there itself, is passed over and said.
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
        if foreign { Err(XdpError::Foreign { what: "what is no transmit chunk was sent" }) } else { Ok(()) }
    }

    /// Takes the receive chunks back that nobody has, and gives them to the kernel. `rings` are those of all the queue's
    /// sockets, and nothing was received from one yet. True: the kernel wants to be woken to take the chunks.
    ///
    /// While this runs the kernel goes on receiving. It only ever has chunks whose words say so, and it gets none from here
    /// but at the end, so what is decided here stays true.
    pub fn take_back_received(&self, rings: &[&Consumer<Descriptor>]) -> Result<bool, XdpError> {
        let unfilled = free_to_receive(self.receive, &self.area, rings, &self.rings.lock().fill)?;
        Ok(self.refill(unfilled.into_iter()))
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

    /// Chunks that the kernel has to receive into; 0 where the rings are held elsewhere just now. True: as for [`Self::refill`].
    pub fn fill_waiting(&self) -> (u32, bool) {
        let waiting = self.rings.try_lock().map_or(0, |mut rings| rings.fill.waiting());
        (waiting, self.settle())
    }

    /// Takes back what the kernel has sent; gives a ring's own chunks. True: as for [`Self::refill`].
    pub fn sent(&self, ring: u32) -> (bool, impl Iterator<Item = Chunk>) {
        if let Some(mut rings) = self.rings.try_lock() {
            // What a predecessor left has been looked at (`take_back_sent`); the kernel has sent only what it was
            // given since.
            let _ = self.collect(&mut rings);
        }
        (self.settle(), std::iter::from_fn(move || self.sent[ring as usize].pop()))
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

/// Has the driver look into the transmit ring where a send call does not: for a socket that prefers busy polling that call runs only
/// what receives (net/xdp/xsk.c, xsk_no_wakeup), and igb and virtio-net send in another poll function. A poll call wakes that.
pub(super) fn wake_to_transmit(socket: &OwnedFd) {
    let _ = poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
}

/// Has the kernel look at the fill ring, by any socket of its queue.
pub(super) fn wake_to_receive(socket: &OwnedFd) {
    // Only drivers that work on the memory themselves ask for this. What it answers changes nothing: the flag stays.
    let _ = recv(socket, &mut [0; 0], RecvFlags::DONTWAIT);
}

impl Rings {
    /// Puts chunks in the fill ring while it has room; what is left stays in the iterator.
    fn fill(&mut self, area: &Area, chunks: &mut impl Iterator<Item = Chunk>) -> bool {
        while self.fill.has_room() {
            let Some(chunk) = chunks.next() else { break };
            area.set_owner(&chunk, Owner::Fill(self.fill.next()));
            self.fill.put(area.address(chunk));
        }
        self.fill.publish();
        self.fill.needs_wakeup()
    }
}

/// Those of a ring's transmit chunks that the kernel does not have.
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
            _ => return Err(XdpError::Foreign { what: "an owner word is none of a transmit chunk" }),
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
            // The dead had finished with it, or nearly: where it is still in the ring it will be received again.
            Some(Owner::Process) if *received => continue,
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

/// The moments at which a process can die, one by one: they are too short for a test that kills at random to find each.
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod tests {
    use super::super::ring::fake::{self, memory};
    use super::super::umem::Umem;
    use super::*;
    use crate::sys::interface::Interface;

    const ENTRIES: u32 = 64;
    const NONE: [u32; 0] = [];

    fn settings() -> Settings {
        let interface = Interface { name: "none".into(), index: 0 };
        Settings { receive: ENTRIES, transmit: ENTRIES, huge_pages: false, ..Settings::new(interface, 1) }
    }

    fn area() -> Area {
        Area::new(Arc::new(Umem::create(&settings()).unwrap().0), &settings(), 0)
    }

    /// Both ends of a ring, ours and the one that the kernel has.
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
        receive.put(Descriptor { address: area.address(chunk) + 256, length: 64 });
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
            fill.put(area.address(chunk));
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
        fill.put(area.address(area.reclaim(0)));
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
        transmit.put(Descriptor { address: area.address(area.reclaim(first)), length: 64 });
        assert_eq!(left(&transmit), ENTRIES, "killed before the index moved: never sent");

        area.set_owner(&area.reclaim(first), Owner::Transmit(transmit.next().wrapping_sub(1)));
        transmit.publish();
        assert_eq!(left(&transmit), ENTRIES - 1, "the kernel has it");

        kernel.put(sent.take().unwrap().address);
        sent.release(1);
        kernel.publish();
        assert_eq!(left(&transmit), ENTRIES - 1, "it was sent, and that was not looked at");

        assert!(complete(&mut completion, &area, |_| false, drop));
        assert_eq!(left(&transmit), ENTRIES, "it was sent, and that is known");
    }

    /// As if it died with the entry in its hands: the next one reads the same entry again.
    #[test]
    fn a_spare_chunk_is_free_only_when_the_kernels_entry_for_it_is_gone() {
        let area = area();
        let (mut kernel, mut completion) = ring::<u64>();
        let spare = area.reclaim(ENTRIES as usize);
        area.set_owner(&spare, Owner::Transmit(0));
        kernel.put(area.address(spare));
        kernel.publish();
        let owner = || area.owners(ENTRIES as usize..ENTRIES as usize + 1).next().unwrap().1;
        // It is asked when the entry is read, and when it was released: both come before the word changes.
        let asked = std::cell::Cell::new(0);
        let is_spare = |_: &Chunk| {
            assert_eq!(owner(), Some(Owner::Transmit(0)));
            asked.set(asked.get() + 1);
            true
        };
        assert!(complete(&mut completion, &area, is_spare, drop));
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
}
