//! The UMEM: memory that contains the frames, visible to this process, its successors and the
//! kernel.
//!
//! ```text
//! memfd: │ queue 0's chunks │ queue 1's … │ owner words, u64 a chunk │ … padding │ header 64 │
//!          receive chunks, then every ring's transmit chunks
//! ```
//!
//! What always holds: a chunk that this process may touch is a [`Chunk`], which cannot be copied
//! and is consumed when the chunk is handed to the kernel. Its owner word says the same where a
//! successor can read it. Which chunks are for receiving, and which for sending by which ring,
//! never changes: so neither can starve the other, and a ring always has room for everything that
//! may come into it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;
use rustix::fs::memfd_create;
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, Stat, fallocate, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate,
};

use super::{Settings, XdpError};
use crate::sys::memory;

const PAGE: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;
const HEADER_BYTES: usize = 64;
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"BatonUM1");

const LINE_BYTES: usize = 64;
/// The part of most frames that a worker reads: the stamp, and a frame of 96 bytes.
const LINES_AHEAD: usize = 3;

/// The whole memory, mapped.
#[derive(Debug)]
pub(super) struct Umem {
    map: MmapRaw,
    chunks: usize,
    chunk_bytes: usize,
    _claim: Claim,
}

/// What this process has mapped, by device and inode. Two mappings of the same memory would each
/// hold tokens for the other's chunks.
static CLAIMED: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// The one mapping of a memory in this process.
#[derive(Debug)]
struct Claim((u64, u64));

impl Claim {
    fn new(file: &Stat) -> Result<Self, XdpError> {
        let which = (file.st_dev, file.st_ino);
        match CLAIMED.lock().insert(which) {
            true => Ok(Self(which)),
            false => Err(XdpError::Foreign { what: "this process has it in use already" }),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED.lock().remove(&self.0);
    }
}

impl Umem {
    /// Makes the memory: of huge pages if they are wanted and there are enough, otherwise of small
    /// ones. Every page is allocated before it is used, and the size is sealed, so touching it
    /// never fails.
    pub fn create(settings: &Settings) -> Result<(Self, OwnedFd), XdpError> {
        let small = || allocate(settings, MemfdFlags::empty(), PAGE);
        let fd = if settings.huge_pages {
            allocate(settings, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB, HUGE_PAGE).or_else(|_| small())
        } else {
            small()
        };
        let bytes = length(settings, PAGE);
        let fd = fd.map_err(|error| XdpError::Memory { bytes, error: error.into() })?;
        let umem = Self::map(fd.as_fd(), settings)?;
        for (word, value) in umem.header().iter().zip(header(settings)) {
            word.store(value, Ordering::Release);
        }
        Ok((umem, fd))
    }

    /// Maps the memory that another process made, if it matches the settings.
    pub fn open(fd: BorrowedFd<'_>, settings: &Settings) -> Result<Self, XdpError> {
        let foreign = |what| XdpError::Foreign { what };
        let seals = fcntl_get_seals(fd).map_err(|_| foreign("it is not a memfd"))?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(foreign("its size is not sealed"));
        }
        let umem = Self::map(fd, settings)?;
        if umem.header().iter().zip(header(settings)).any(|(word, value)| word.load(Ordering::Acquire) != value) {
            return Err(foreign("its header is not that of these settings"));
        }
        Ok(umem)
    }

    fn map(fd: BorrowedFd<'_>, settings: &Settings) -> Result<Self, XdpError> {
        let call = |error| XdpError::Call { what: "mapping the frames' memory", error };
        let file = fstat(fd).map_err(|error| call(error.into()))?;
        let bytes = file.st_size as usize;
        if bytes < length(settings, PAGE) || !bytes.is_multiple_of(PAGE) {
            return Err(XdpError::Foreign { what: "it is too short for these settings" });
        }
        let claim = Claim::new(&file)?;
        let map = MmapOptions::new().len(bytes).map_raw(&fd).map_err(call)?;
        Ok(Self { map, chunks: settings.chunks(), chunk_bytes: settings.chunk_bytes(), _claim: claim })
    }

    /// The first byte of a queue's chunks, as told to the kernel.
    pub fn address(&self, first: usize) -> u64 {
        self.map.as_ptr().addr() as u64 + (first * self.chunk_bytes) as u64
    }

    fn header(&self) -> &[AtomicU64] {
        self.atomics(self.map.len() - HEADER_BYTES, HEADER_BYTES / size_of::<u64>())
    }

    fn words(&self) -> &[AtomicU64] {
        self.atomics(self.chunks * self.chunk_bytes, self.chunks)
    }

    fn atomics(&self, at: usize, count: usize) -> &[AtomicU64] {
        assert!(at.is_multiple_of(align_of::<AtomicU64>()) && at + count * size_of::<AtomicU64>() <= self.map.len());
        // SAFETY: the run is within the mapping and aligned (asserted), the mapping lives as long
        // as `self` and its file cannot shrink (sealed); other processes that map it use atomics
        // too, because they get them from this function.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(at).cast(), count) }
    }
}

fn allocate(settings: &Settings, pages: MemfdFlags, page: usize) -> rustix::io::Result<OwnedFd> {
    let fd = memfd_create("baton-umem", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | pages)?;
    let bytes = length(settings, page) as u64;
    ftruncate(&fd, bytes)?;
    fallocate(&fd, FallocateFlags::empty(), 0, bytes)?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
}

/// Length of the file in bytes, in whole pages.
fn length(settings: &Settings, page: usize) -> usize {
    (settings.chunks() * (settings.chunk_bytes() + size_of::<u64>()) + HEADER_BYTES).next_multiple_of(page)
}

/// What must agree between the process that made the memory and the one that adopts it.
fn header(settings: &Settings) -> [u64; 6] {
    let Settings { queues, rings, receive, transmit, .. } = settings;
    [
        MAGIC,
        settings.chunk_bytes() as u64,
        u64::from(*queues),
        u64::from(*rings),
        u64::from(*receive),
        u64::from(*transmit),
    ]
}

/// A chunk that this process owns: nobody else reads or writes it.
///
/// Tokens come from two places, [`Area::take`] and [`Area::reclaim`]. Both trust data in memory
/// that the kernel and dead processes wrote to: that the kernel gives back only what it was given,
/// once; and that the dead processes' words said who had what. Their honesty is assumed and not
/// checked, except for what is impossible (an address beyond the memory, a chunk in two receive
/// rings). A process that was compromised before it died can leave its successor a chunk that the
/// kernel still writes to. Its frame may then change after its tag was checked, under a reference,
/// contrary to what that reference promises the compiler.
#[derive(Debug)]
pub(super) struct Chunk(u32);

impl Chunk {
    /// Its number among its queue's chunks.
    pub fn number(&self) -> u32 {
        self.0
    }
}

/// The owner of a chunk, in the memory that outlives this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// A process: this one, or a dead one, whose successor may have it.
    Process,
    /// The kernel, by this entry of the fill ring, if the ring's producer ever went beyond it.
    Fill(u32),
    /// The kernel, by this entry of its ring's transmit ring, under the same condition.
    Transmit(u32),
    /// A process that has read that the kernel is done with it, if the entry that said so is gone
    /// from the completion ring. Until then a successor is told again. Only spare chunks are in
    /// between for a moment, see [`super::queue`].
    Sent,
}

impl Owner {
    const fn word(self) -> u64 {
        match self {
            Self::Process => 0,
            Self::Fill(index) => 1 << 32 | index as u64,
            Self::Transmit(index) => 2 << 32 | index as u64,
            Self::Sent => 3 << 32,
        }
    }

    fn of_word(word: u64) -> Option<Self> {
        match word >> 32 {
            0 if word == 0 => Some(Self::Process),
            1 => Some(Self::Fill(word as u32)),
            2 => Some(Self::Transmit(word as u32)),
            3 if word == Self::Sent.word() => Some(Self::Sent),
            _ => None,
        }
    }
}

/// One queue's part of the UMEM. The kernel knows no other part for this queue.
#[derive(Clone, Debug)]
pub(super) struct Area {
    umem: Arc<Umem>,
    first: usize,
    chunks: usize,
    /// A chunk's size in bytes, as a power of two: so no frame costs a division.
    shift: u32,
}

impl Area {
    pub fn new(umem: Arc<Umem>, settings: &Settings, queue: u32) -> Self {
        let chunks = settings.chunks_of_queue();
        let first = queue as usize * chunks;
        assert!(first + chunks <= umem.chunks, "the UMEM was opened with the same settings");
        Self { first, chunks, shift: umem.chunk_bytes.ilog2(), umem }
    }

    /// The chunk that the kernel gives back by this address, which may be anywhere in it, and the
    /// offset in it.
    ///
    /// # Panics
    /// If no chunk of this queue is there: the rings are not what they are taken for, and no frame
    /// may be touched.
    pub fn take(&self, address: u64) -> (Chunk, usize) {
        let number = address >> self.shift;
        assert!(number < self.chunks as u64, "the kernel gave address {address}, beyond the queue's memory");
        (Chunk(number as u32), (address - (number << self.shift)) as usize)
    }

    /// Whether an address is in one of the queue's chunks.
    pub fn holds(&self, address: u64) -> bool {
        address >> self.shift < self.chunks as u64
    }

    /// A chunk's address for the kernel: its offset in the queue's memory.
    pub fn address(&self, chunk: &Chunk) -> u64 {
        u64::from(chunk.0) << self.shift
    }

    /// Hands a chunk to the kernel: `put` writes its address into the ring's next entry, which its
    /// word then names; only after both does the caller move the ring's index. The token is
    /// consumed.
    ///
    /// The entry comes before the word, so that a claim on an entry beyond the index always finds
    /// itself named there: see [`Self::withdraw`].
    pub fn hand_over(&self, chunk: Chunk, owner: Owner, put: impl FnOnce(u64)) {
        put(self.address(&chunk));
        // Release, in `set_owner`, keeps the entry before the word.
        self.set_owner(&chunk, owner);
    }

    /// Takes back what a dead process claimed for the kernel by an entry that it never published:
    /// the chunk at `address`, if its word is this claim. This must happen before the entry, which
    /// held that address, is written anew; otherwise, when the index moves beyond it, the claim
    /// would seem to have been true, and nobody would ever give the chunk back.
    pub fn withdraw(&self, address: u64, claim: Owner) {
        let number = address >> self.shift;
        if number >= self.chunks as u64
            || self.owners(number as usize..number as usize + 1).all(|(_, owner)| owner != Some(claim))
        {
            return;
        }
        self.set_owner(&Chunk(number as u32), Owner::Process);
        // Release keeps the word before the entry that is written next, for a successor that
        // examines what a killed process left.
        fence(Ordering::Release);
    }

    /// Takes a chunk that nobody has, when the rings are adopted.
    pub fn reclaim(&self, number: usize) -> Chunk {
        assert!(number < self.chunks, "a chunk of this queue");
        Chunk(number as u32)
    }

    /// Notes the owner of a chunk. A successor trusts it, so it is written before the index moves
    /// that makes it true, and this order is kept (Release, paired with [`Self::owners`] after this
    /// process is dead; until then, with nothing).
    pub fn set_owner(&self, chunk: &Chunk, owner: Owner) {
        #[cfg(test)]
        if !crate::sys::mapping::burn() {
            return;
        }
        self.umem.words()[self.first + chunk.0 as usize].store(owner.word(), Ordering::Release);
    }

    /// The owner of each of these chunks; none if the word is invalid. All at once, because a
    /// successor asks for thousands.
    pub fn owners(&self, numbers: Range<usize>) -> impl Iterator<Item = (usize, Option<Owner>)> {
        assert!(numbers.end <= self.chunks, "chunks of this queue");
        let words = &self.umem.words()[self.first..][numbers.clone()];
        numbers.zip(words).map(|(number, word)| (number, Owner::of_word(word.load(Ordering::Acquire))))
    }

    pub fn bytes<'a>(&'a self, chunk: &'a Chunk, at: usize, length: usize) -> &'a [u8] {
        let start = self.place(chunk, at, length);
        // SAFETY: in the mapping (asserted by `place`), which lives as long as `self`. Nobody
        // writes it meanwhile: the kernel has given the chunk up, this token is the only one for
        // it, and it is borrowed. That it is the only one depends on honest predecessors: tokens
        // are made from the words and ring entries that they left. A compromised one can have left
        // a chunk that the kernel receives into as well, and then the bytes read here change under
        // a reader; but only bytes change, and no value of them leads outside the chunk.
        unsafe { std::slice::from_raw_parts(self.umem.map.as_ptr().add(start), length) }
    }

    pub fn bytes_mut<'a>(&'a self, chunk: &'a mut Chunk, at: usize, length: usize) -> &'a mut [u8] {
        let start = self.place(chunk, at, length);
        // SAFETY: as for `bytes`; nobody reads it either, because the token is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.umem.map.as_mut_ptr().add(start), length) }
    }

    /// Prefetches bytes that are read soon: another core wrote them.
    pub fn prefetch(&self, chunk: &Chunk, at: usize, length: usize) {
        let start = self.place(chunk, at, length);
        for line in (start / LINE_BYTES..(start + length).div_ceil(LINE_BYTES)).take(LINES_AHEAD) {
            memory::prefetch(self.umem.map.as_ptr().wrapping_add(line * LINE_BYTES));
        }
    }

    fn place(&self, chunk: &Chunk, at: usize, length: usize) -> usize {
        assert!((chunk.0 as usize) < self.chunks, "a chunk of this queue");
        let bytes = 1 << self.shift;
        assert!(at <= bytes && length <= bytes - at, "{length} bytes at {at} reach beyond their chunk");
        ((self.first + chunk.0 as usize) << self.shift) + at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::interface::Interface;

    fn settings() -> Settings {
        let interface = Interface { name: "none".into(), index: 0 };
        Settings { queues: 2, rings: 2, receive: 64, transmit: 64, huge_pages: false, ..Settings::new(interface, 2) }
    }

    #[test]
    fn a_successor_reads_who_had_what() {
        let (umem, fd) = Umem::create(&settings()).unwrap();
        let area = Area::new(Arc::new(umem), &settings(), 1);
        let owners = [Owner::Process, Owner::Fill(u32::MAX), Owner::Transmit(7), Owner::Fill(0)];
        for (number, owner) in owners.into_iter().enumerate() {
            area.set_owner(&area.reclaim(number), owner);
        }
        drop(area);
        let area = Area::new(Arc::new(Umem::open(fd.as_fd(), &settings()).unwrap()), &settings(), 1);
        for (number, owner) in owners.into_iter().enumerate() {
            assert_eq!(area.owners(number..number + 1).next(), Some((number, Some(owner))));
        }
    }

    #[test]
    fn memory_is_in_use_once_in_a_process() {
        let (umem, fd) = Umem::create(&settings()).unwrap();
        assert!(matches!(Umem::open(fd.as_fd(), &settings()), Err(XdpError::Foreign { .. })));
        drop(umem);
        assert!(Umem::open(fd.as_fd(), &settings()).is_ok());
    }

    #[test]
    fn memory_of_other_settings_is_refused() {
        let (_, fd) = Umem::create(&settings()).unwrap();
        for other in [Settings { transmit: 32, receive: 96, ..settings() }, Settings { receive: 4096, ..settings() }] {
            let error = Umem::open(fd.as_fd(), &other).unwrap_err();
            assert!(matches!(error, XdpError::Foreign { .. }), "{error}");
        }
    }

    #[test]
    fn what_the_driver_fills_has_room_for_whole_kibibytes() {
        let settings = Settings { zero_copy: true, ..settings() };
        let (umem, fd) = Umem::create(&settings).unwrap();
        let area = Area::new(Arc::new(umem), &settings, 1);
        let (mut chunk, at) = area.take(3 * 4096 + 256);
        assert_eq!((chunk.number(), at), (3, 256));
        area.bytes_mut(&mut chunk, 0, 4096).fill(7);
        assert_eq!(area.address(&chunk), 3 * 4096);
        drop(area);
        let copied = Settings { zero_copy: false, ..settings.clone() };
        assert!(matches!(Umem::open(fd.as_fd(), &copied), Err(XdpError::Foreign { .. })), "another size of chunks");
        let area = Area::new(Arc::new(Umem::open(fd.as_fd(), &settings).unwrap()), &settings, 1);
        assert!(area.bytes(&area.reclaim(3), 0, 4096).iter().all(|byte| *byte == 7));
        assert!(area.bytes(&area.reclaim(4), 0, 4096).iter().all(|byte| *byte == 0));
    }

    #[test]
    #[should_panic(expected = "beyond the queue's memory")]
    fn an_address_beyond_the_memory_touches_nothing() {
        let (umem, _fd) = Umem::create(&settings()).unwrap();
        let area = Area::new(Arc::new(umem), &settings(), 0);
        area.take((settings().chunks_of_queue() * settings().chunk_bytes()) as u64);
    }
}
