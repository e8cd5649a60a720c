//! A ring, by which this process and the kernel hand each other entries, in memory that both map.
//!
//! ```text
//! │ producer u32 │ … │ consumer u32 │ … │ flags u32 │ … │ entries, a power of two of them │
//! ```
//!
//! Both indices only increase and wrap at 2³²; entry `i` is at `i mod entries`. One side moves the
//! producer, the other the consumer. The kernel's side is net/xdp/xsk_queue.h; the orderings here
//! pair with those in its comment on barriers.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};
use rustix::net::xdp::XdpRingOffset;

use super::XdpError;
#[cfg(test)]
use crate::sys::mapping::burn;

/// Which ring of a socket, by its offset for mmap(2).
pub(super) use rustix::net::xdp::{
    XDP_PGOFF_RX_RING as RECEIVE, XDP_PGOFF_TX_RING as TRANSMIT, XDP_UMEM_PGOFF_COMPLETION_RING as COMPLETION,
    XDP_UMEM_PGOFF_FILL_RING as FILL,
};

/// The kernel wants to be woken; otherwise it does not continue.
const NEED_WAKEUP: u32 = 1;

/// An entry of a ring. It is loaded and stored atomically, word by word, because the other side is
/// another process.
pub(super) trait Entry: Copy {
    /// Its form in memory. Every bit pattern is valid.
    type Shared: Debug;
    fn load(shared: &Self::Shared) -> Self;
    fn store(self, shared: &Self::Shared);
    /// The address of the chunk that it hands over.
    fn address(self) -> u64;
}

/// Entries of fill and completion rings are addresses.
impl Entry for u64 {
    type Shared = AtomicU64;

    fn load(shared: &AtomicU64) -> Self {
        shared.load(Ordering::Relaxed)
    }

    fn store(self, shared: &AtomicU64) {
        shared.store(self, Ordering::Relaxed);
    }

    fn address(self) -> u64 {
        self
    }
}

/// `struct xdp_desc`, without its options, which this crate does not use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Descriptor {
    pub address: u64,
    pub length: u32,
}

/// `struct xdp_desc` in memory.
#[derive(Debug)]
#[repr(C)]
pub(super) struct SharedDescriptor {
    address: AtomicU64,
    length: AtomicU32,
    options: AtomicU32,
}

impl Entry for Descriptor {
    type Shared = SharedDescriptor;

    fn load(shared: &SharedDescriptor) -> Self {
        Self { address: shared.address.load(Ordering::Relaxed), length: shared.length.load(Ordering::Relaxed) }
    }

    fn store(self, shared: &SharedDescriptor) {
        shared.address.store(self.address, Ordering::Relaxed);
        shared.length.store(self.length, Ordering::Relaxed);
        shared.options.store(0, Ordering::Relaxed);
    }

    fn address(self) -> u64 {
        self.address
    }
}

/// The mapping, for either side. A new one has read nothing yet: another process may be moving the
/// indices.
#[derive(Debug)]
pub(super) struct Ring<E: Entry> {
    /// Keeps the pointers below valid.
    _map: MmapRaw,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<E::Shared>,
    count: u32,
}

// SAFETY: the pointers are into the mapping that moves along with them, and point to atomics.
unsafe impl<E: Entry> Send for Ring<E> {}

impl<E: Entry> Ring<E> {
    pub fn map(socket: BorrowedFd<'_>, which: u64, offsets: &XdpRingOffset, count: u32) -> Result<Self, XdpError> {
        assert!(count.is_power_of_two(), "the kernel takes no other");
        let bytes = offsets.desc as usize + count as usize * size_of::<E::Shared>();
        let map = MmapOptions::new().offset(which).len(bytes).map_raw(&socket).map_err(XdpError::unmapped)?;
        let at = |offset: u64, bytes: usize, alignment: usize| {
            let offset = offset as usize;
            let inside = offset.checked_add(bytes).is_some_and(|end| end <= map.len());
            assert!(inside && offset.is_multiple_of(alignment), "the kernel's offsets are in its ring");
            // SAFETY: within the mapping, as asserted.
            NonNull::new(unsafe { map.as_mut_ptr().add(offset) }).expect("a mapping is never at 0")
        };
        let flags = offsets.flags.ok_or(XdpError::OldKernel { what: "need_wakeup (Linux 5.4)" })?;
        Ok(Self {
            producer: at(offsets.producer, 4, 4).cast(),
            consumer: at(offsets.consumer, 4, 4).cast(),
            flags: at(flags, 4, 4).cast(),
            entries: at(offsets.desc, count as usize * size_of::<E::Shared>(), align_of::<E::Shared>()).cast(),
            count,
            _map: map,
        })
    }

    /// Whether the indices can be those of a ring. The dead process wrote one of the two.
    fn check(&self) -> Result<(), XdpError> {
        // The consumer first: it only ever follows the producer. Acquire for both, as where they
        // are used.
        let consumer = self.consumer().load(Ordering::Acquire);
        if self.producer().load(Ordering::Acquire).wrapping_sub(consumer) > self.count {
            return Err(XdpError::Foreign { what: "a ring's indices are further apart than it has entries" });
        }
        Ok(())
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: `map` put the pointer in the mapping, aligned, and the mapping lives as long as
        // `self`.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for `producer`.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as for `producer`.
        unsafe { self.flags.as_ref() }
    }

    fn entry(&self, index: u32) -> &E::Shared {
        // SAFETY: `map` has room for `count` entries there, a power of two, so the masked index is
        // one of them; every bit pattern is an entry, and the kernel touches entries word-wise as
        // well.
        unsafe { self.entries.add((index & (self.count - 1)) as usize).as_ref() }
    }
}

/// A ring that this side fills: fill and transmit.
#[derive(Debug)]
pub(super) struct Producer<E: Entry> {
    ring: Ring<E>,
    /// The entry that is written next. Those from the shared producer on may be taken back.
    next: u32,
    /// The kernel's consumer index when it was last read.
    consumed: u32,
}

impl<E: Entry> Producer<E> {
    /// The ring in its present state, once nobody else fills it: a published entry stays, and one
    /// that was not published never existed.
    pub fn over(ring: Ring<E>) -> Result<Self, XdpError> {
        ring.check()?;
        // Acquire: what the dead process wrote before it moved the index (its owner words) is read
        // after.
        let next = ring.producer().load(Ordering::Acquire);
        let consumed = ring.consumer().load(Ordering::Acquire);
        Ok(Self { ring, next, consumed })
    }

    /// The entry that [`Self::put`] writes next.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Whether there is room for an entry.
    pub fn has_room(&mut self) -> bool {
        if self.next.wrapping_sub(self.consumed) < self.ring.count {
            return true;
        }
        // Acquire: pairs with the kernel's store after it read the entry, which may now be
        // overwritten.
        self.consumed = self.ring.consumer().load(Ordering::Acquire);
        self.next.wrapping_sub(self.consumed) < self.ring.count
    }

    /// The address in the entry that [`Self::put`] overwrites next: of a chunk that a dead process
    /// put there and did not publish, or that the kernel took long ago.
    pub fn overwritten(&self) -> u64 {
        E::load(self.ring.entry(self.next)).address()
    }

    /// Writes an entry that the kernel does not see yet.
    pub fn put(&mut self, entry: E) {
        assert!(self.next.wrapping_sub(self.consumed) < self.ring.count, "has_room was asked");
        #[cfg(test)]
        if !burn() {
            return;
        }
        entry.store(self.ring.entry(self.next));
        self.next = self.next.wrapping_add(1);
    }

    /// Shows the kernel the entries that were put.
    pub fn publish(&self) {
        #[cfg(test)]
        if !burn() {
            return;
        }
        // Release: pairs with the kernel's acquire in __xskq_cons_peek, so that it sees complete
        // entries and frames.
        self.ring.producer().store(self.next, Ordering::Release);
    }

    /// Whether the entry with this index was ever shown to the kernel. An entry that the kernel has
    /// not given back was shown to it fewer than 2³¹ entries ago, and one that was not shown is at
    /// most a ring ahead: so the sign of the difference tells, across the wrap too.
    pub fn was_published(&self, index: u32) -> bool {
        (self.ring.producer().load(Ordering::Acquire).wrapping_sub(index) as i32) > 0
    }

    /// The number of published entries that the kernel has not taken.
    pub fn waiting(&mut self) -> u32 {
        self.consumed = self.ring.consumer().load(Ordering::Acquire);
        self.ring.producer().load(Ordering::Relaxed).wrapping_sub(self.consumed)
    }

    /// Whether the kernel has to be woken to continue.
    pub fn needs_wakeup(&self) -> bool {
        // Keeps the load of the flag after the store of the producer index, which Release and
        // Acquire do not. Its partner is the driver, which sets the flag and then looks for entries
        // once more (as i40e_clean_xdp_tx_irq does before it calls i40e_xmit_zc): one of the two
        // sees the other's store, so no entry is left behind.
        fence(Ordering::SeqCst);
        // Relaxed: the fence orders it.
        self.ring.flags().load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }
}

/// A ring that the kernel fills: receive and completion.
#[derive(Debug)]
pub(super) struct Consumer<E: Entry> {
    ring: Ring<E>,
    /// The entry that is taken next; those from the shared consumer up to it are held.
    next: u32,
}

impl<E: Entry> Consumer<E> {
    /// The ring in its present state, once nobody else empties it: entries that a dead process took
    /// and did not release are there again.
    pub fn over(ring: Ring<E>) -> Result<Self, XdpError> {
        ring.check()?;
        let next = ring.consumer().load(Ordering::Acquire);
        Ok(Self { ring, next })
    }

    /// Takes the next entry, if there is one.
    pub fn take(&mut self) -> Option<E> {
        let entry = self.peek(0)?;
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Its capacity.
    pub fn entries(&self) -> u32 {
        self.ring.count
    }

    /// The number of entries that can be taken.
    pub fn available(&self) -> u32 {
        // Acquire: pairs with the kernel's release in xskq_prod_submit, so that entries and frames
        // are seen complete.
        let available = self.ring.producer().load(Ordering::Acquire).wrapping_sub(self.next);
        // The kernel never reports more; if its index was overwritten by mistake, the walk still
        // ends.
        available.min(self.ring.count)
    }

    /// The entry that is `ahead` places after the next one, if there is one.
    pub fn peek(&self, ahead: u32) -> Option<E> {
        (ahead < self.available()).then(|| E::load(self.ring.entry(self.next.wrapping_add(ahead))))
    }

    /// Releases the places of the oldest `n` taken entries to the kernel.
    pub fn release(&self, n: u32) {
        let held = self.ring.consumer().load(Ordering::Relaxed);
        assert!(n <= self.next.wrapping_sub(held), "only what was taken is given back");
        #[cfg(test)]
        if !burn() {
            return;
        }
        // Release: the entries were read before the kernel may overwrite them, and the owner words
        // were written before this.
        self.ring.consumer().store(held.wrapping_add(n), Ordering::Release);
    }
}

/// Memory with the layout of a ring, for tests that simulate the kernel.
#[cfg(test)]
pub(super) mod fake {
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use rustix::net::xdp::XdpRingOffset;

    pub const OFFSETS: XdpRingOffset = XdpRingOffset { producer: 0, consumer: 64, flags: Some(128), desc: 192 };

    /// That memory, mapped.
    pub fn ring<E: super::Entry>(fd: &OwnedFd, entries: u32) -> super::Ring<E> {
        super::Ring::map(fd.as_fd(), 0, &OFFSETS, entries).unwrap()
    }

    /// An empty ring, both indices shortly before they wrap.
    pub fn memory() -> OwnedFd {
        let fd = memfd_create("ring", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, 4096).unwrap();
        for offset in [OFFSETS.producer, OFFSETS.consumer] {
            rustix::io::pwrite(&fd, &(u32::MAX - 2).to_ne_bytes(), offset).unwrap();
        }
        fd
    }
}

#[cfg(test)]
mod tests {
    use super::fake::{OFFSETS, memory, ring};
    use super::*;

    const ENTRIES: u32 = 8;

    /// Our side, and the kernel's.
    fn ends() -> (Producer<u64>, Consumer<u64>) {
        let fd = memory();
        (Producer::over(ring(&fd, ENTRIES)).unwrap(), Consumer::over(ring(&fd, ENTRIES)).unwrap())
    }

    #[test]
    fn indices_wrap_and_entries_stay_in_order() {
        let (mut producer, mut consumer) = ends();
        for round in 0..100 {
            for entry in 0..u64::from(ENTRIES) {
                assert!(producer.has_room());
                producer.put(round * 100 + entry);
            }
            assert!(!producer.has_room(), "as many as it has entries");
            assert_eq!(consumer.take(), None, "what is not published is not seen");
            producer.publish();
            assert_eq!((producer.waiting(), consumer.available()), (ENTRIES, ENTRIES));
            assert_eq!(consumer.peek(7), Some(round * 100 + 7));
            assert_eq!(consumer.peek(8), None);
            for entry in 0..u64::from(ENTRIES) {
                assert_eq!(consumer.take(), Some(round * 100 + entry));
            }
            assert!(!producer.has_room(), "what is taken and not released is not overwritten");
            consumer.release(ENTRIES);
        }
    }

    #[test]
    fn what_was_published_is_told_from_what_was_not_across_the_wrap() {
        let (mut producer, _consumer) = ends();
        for published in 0..6 {
            let index = producer.next();
            assert!(!producer.was_published(index));
            producer.put(published);
            assert!(!producer.was_published(index), "written, and never shown");
            producer.publish();
            assert!(producer.was_published(index));
            assert!(!producer.was_published(index.wrapping_add(1)));
        }
    }

    #[test]
    fn a_successor_sees_what_was_published_and_what_was_not_released() {
        let fd = memory();
        let producer = || Producer::<u64>::over(ring(&fd, ENTRIES)).unwrap();
        let consumer = || Consumer::<u64>::over(ring(&fd, ENTRIES)).unwrap();
        let mut dead = producer();
        (1..=5).for_each(|entry| dead.put(entry));
        dead.publish();
        dead.put(6);
        drop(dead);
        let mut dead = consumer();
        (1..=4).for_each(|entry| assert_eq!(dead.take(), Some(entry)));
        dead.release(2);
        drop(dead);
        assert_eq!(producer().waiting(), 3);
        let mut successor = consumer();
        assert_eq!(
            [successor.take(), successor.take(), successor.take(), successor.take()],
            [Some(3), Some(4), Some(5), None]
        );
    }

    #[test]
    fn indices_that_cannot_be_are_refused() {
        let fd = memory();
        let over = || Consumer::<u64>::over(ring(&fd, ENTRIES));
        for (ahead, can_be) in [(0, true), (ENTRIES, true), (ENTRIES + 1, false), (u32::MAX, false)] {
            let producer = (u32::MAX - 2).wrapping_add(ahead);
            rustix::io::pwrite(&fd, &producer.to_ne_bytes(), OFFSETS.producer).unwrap();
            assert_eq!(over().is_ok(), can_be, "{ahead} ahead");
        }
    }

    #[test]
    #[should_panic(expected = "only what was taken is given back")]
    fn nothing_is_released_that_was_not_taken() {
        let (mut producer, consumer) = ends();
        producer.put(1);
        producer.publish();
        consumer.release(1);
    }
}
