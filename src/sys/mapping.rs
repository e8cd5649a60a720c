//! Memory that outlives a process: a file on tmpfs or hugetlbfs, mapped shared, viewed as words.
//!
//! What always holds: the words are atomics and nothing else, because other processes write to them
//! too, and may die at any point. The file's blocks are allocated before it is mapped, so that a
//! full file system is an error of [`Mapping::create`] and never a SIGBUS later. Only a process
//! that truncates the file of a running server can still cause one. The file's mode (0600) limits
//! this to root and to processes that were handed its descriptor: an engine closes that descriptor
//! as soon as it has mapped the file ([`Mapping::without_descriptor`]).
//!
//! A process that only reads maps the file without the right to write (`Mapping::open_read_only`),
//! and the kernel enforces this: a store would be a SIGSEGV. The one type that opens such mappings
//! ([`crate::table::file::Inspection`]) must ensure that it reaches no store.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags};

use super::memory;

const WORD: u64 = 8;
/// HUGETLBFS_MAGIC, include/uapi/linux/magic.h. The files of this file system, and mappings of
/// them, consist of whole huge pages.
const HUGETLBFS: i64 = 0x9584_58f6;

/// Words that several processes share, or that are on the heap.
pub struct Mapping {
    backing: Backing,
}

enum Backing {
    File { map: MmapRaw, file: Option<File>, unit: u64 },
    Heap(Box<[SharedWord]>),
}

/// Why a mapping could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// The kernel refused one of the steps.
    #[error("{}: cannot {step}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The step that failed.
        step: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
    /// There is not enough memory for it.
    #[error(
        "{}: its file system has no room for {bytes} bytes; give it more (mount -o remount,size=...) or ask for fewer \
         meetings and terminals", path.display()
    )]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// The size that was requested.
        bytes: u64,
    },
    /// A file of this name exists.
    #[error("{}: exists already, and is left as it is", .0.display())]
    Exists(PathBuf),
    /// Its size cannot be mapped as words.
    #[error("{}: {bytes} bytes are not a whole number of words", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The length of the file.
        bytes: u64,
    },
}

impl Mapping {
    /// A new zeroed file of `bytes`, allocated, in the folder of `path`. It has no name until it is
    /// [published](Self::publish), so that no process ever finds an incomplete file.
    pub fn create(path: &Path, bytes: u64) -> Result<Self, MappingError> {
        let failed = |step| move |error: rustix::io::Errno| io_error(path, step, error.into());
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file =
            rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).map_err(failed("create a file in its folder"))?;
        let bytes = bytes.next_multiple_of(unit(&file).map_err(failed("look at its file system"))?);
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(|error| match error {
            rustix::io::Errno::NOSPC => MappingError::NoRoom { path: path.to_owned(), bytes },
            error => io_error(path, "allocate it", error.into()),
        })?;
        Self::map(file.into(), path)
    }

    /// Gives a created file its name. A file that already has that name stays as it is.
    pub fn publish(&self, path: &Path) -> Result<(), MappingError> {
        let Backing::File { file: Some(file), .. } = &self.backing else { return Ok(()) };
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
        rustix::fs::linkat(rustix::fs::CWD, own, rustix::fs::CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(|error| {
            match error {
                rustix::io::Errno::EXIST => MappingError::Exists(path.to_owned()),
                error => io_error(path, "give it its name", error.into()),
            }
        })
    }

    /// Maps a file that exists.
    pub fn open(path: &Path) -> Result<Self, MappingError> {
        let file = File::options().read(true).write(true).open(path);
        Self::map(file.map_err(|error| io_error(path, "open it", error))?, path)
    }

    /// Maps an existing file for reading only: neither file nor mapping can be written to, and the
    /// right to read the file is enough. The owner of such a mapping must not reach any store to
    /// its words.
    pub(crate) fn open_read_only(path: &Path) -> Result<Self, MappingError> {
        let file = File::open(path).map_err(|error| io_error(path, "open it", error))?;
        let bytes = mappable(&file, path)?;
        // PROT_READ and MAP_SHARED: changes by writers are visible.
        let map = MmapOptions::new().len(bytes).map_raw_read_only(&file);
        let unit = unit(&file).map_err(|error| io_error(path, "look at its file system", error.into()))?;
        Ok(Self {
            backing: Backing::File {
                map: map.map_err(|error| io_error(path, "map it", error))?,
                file: Some(file),
                unit,
            },
        })
    }

    /// Whether this file still has the name.
    pub fn is_at(&self, path: &Path) -> io::Result<bool> {
        let Backing::File { file: Some(file), .. } = &self.backing else { return Ok(false) };
        let own = file.metadata()?;
        match std::fs::metadata(path) {
            Ok(there) => Ok((own.dev(), own.ino()) == (there.dev(), there.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Maps a file whose descriptor was inherited or received.
    pub fn adopt(fd: OwnedFd) -> Result<Self, MappingError> {
        Self::map(fd.into(), Path::new("table"))
    }

    /// Closes the file's descriptor. The mapping stays, and with it the lock of the file's
    /// description. From then on this process can neither truncate the file nor release that lock.
    #[must_use]
    pub fn without_descriptor(mut self) -> Self {
        if let Backing::File { file, .. } = &mut self.backing {
            *file = None;
        }
        self
    }

    /// Words on the heap, for tests and simulations.
    pub fn heap(bytes: u64) -> Self {
        let words = usize::try_from(bytes.div_ceil(8)).expect("a table of this size fits the address space");
        Self { backing: Backing::Heap((0..words).map(|_| SharedWord(AtomicU64::new(0))).collect()) }
    }

    fn map(file: File, path: &Path) -> Result<Self, MappingError> {
        let bytes = mappable(&file, path)?;
        let map = MmapOptions::new().len(bytes).map_raw(&file).map_err(|error| io_error(path, "map it", error))?;
        let unit = unit(&file).map_err(|error| io_error(path, "look at its file system", error.into()))?;
        Ok(Self { backing: Backing::File { map, file: Some(file), unit } })
    }

    /// The whole content; its length is a multiple of eight bytes.
    pub fn words(&self) -> &[SharedWord] {
        match &self.backing {
            Backing::File { map, .. } => {
                // SAFETY: `MmapRaw` guarantees `len` mapped and readable bytes from a page-aligned
                // address, for as long as it lives, which is longer than the returned borrow. They
                // are writable too, or this is a mapping of `open_read_only`, whose holder reaches
                // no store, and `load` uses only what the standard library permits on such memory.
                // `mappable` checked that the length is whole words and within the file; if the
                // file was truncated since, touching the missing part is a SIGBUS, which ends the
                // process and breaks nothing in it. A SharedWord is an AtomicU64
                // (`repr(transparent)`), which has the size and alignment of a u64 and no invalid
                // bit pattern; every process that maps this file touches it through this type only,
                // so concurrent access is atomic.
                unsafe { std::slice::from_raw_parts(map.as_ptr().cast::<SharedWord>(), map.len() / 8) }
            }
            Backing::Heap(words) => words,
        }
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.words().len() as u64 * 8
    }

    /// Its length is a multiple of this: a huge page on hugetlbfs, elsewhere a word.
    pub fn unit(&self) -> u64 {
        match &self.backing {
            Backing::File { unit, .. } => *unit,
            Backing::Heap(_) => WORD,
        }
    }

    /// The descriptor of its file; none on the heap, or if it was closed.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.backing {
            Backing::File { file, .. } => file.as_ref().map(AsFd::as_fd),
            Backing::Heap(_) => None,
        }
    }

    /// Takes the exclusive lock of its open file description, if nobody has it. The kernel releases
    /// it when the last descriptor and mapping of that description are gone, so getting it proves
    /// that the former holders are dead.
    pub fn try_lock(&self) -> io::Result<bool> {
        let Some(fd) = self.fd() else { return Ok(true) };
        match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self.backing, Backing::Heap(_)) { "heap" } else { "file" };
        write!(f, "Mapping({kind}, {} bytes)", self.bytes())
    }
}

/// A word that other processes see, and that keeps its value when its writer is killed.
///
/// It is an atomic. In this crate's own unit tests, a thread can be cut off from it after a given
/// number of changes (`killed_after`), so that a death between any two changes is tested, every one
/// of them.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct SharedWord(AtomicU64);

impl SharedWord {
    /// Lets another thread have the processor: the one that is to change a word that is waited for
    /// may have lost it.
    pub fn yield_now() {
        std::thread::yield_now();
    }

    /// As [`AtomicU64::load`].
    #[inline]
    pub fn load(&self, ordering: Ordering) -> u64 {
        match ordering {
            Ordering::Acquire => {
                // On memory that is mapped for reading only, `std::sync::atomic` guarantees only
                // relaxed loads; followed by a fence, they are acquire loads. On x86-64 both are
                // the same instruction.
                let value = self.0.load(Ordering::Relaxed);
                fence(Ordering::Acquire);
                value
            }
            ordering => self.0.load(ordering),
        }
    }

    /// Makes the processor fetch the cache line of this word in the background. Changes nothing,
    /// and may do nothing.
    #[inline]
    pub fn prefetch(&self) {
        memory::prefetch(self.0.as_ptr().cast_const().cast());
    }

    /// A bit for each of these words whose upper half is this one. A hint: a word that changes at
    /// this moment may be missed or named in vain; one that does not change is told right.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub fn matching(words: &[Self; 8], upper: u32) -> u32 {
        use std::arch::x86_64::{
            __m128i, _mm_castps_si128, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_movemask_epi8, _mm_packs_epi16,
            _mm_packs_epi32, _mm_set1_epi32, _mm_setzero_si128, _mm_shuffle_ps,
        };
        // SAFETY: SSE2 is a part of x86_64. The loads are of the 64 bytes that the words have.
        // Other threads may store to them at this moment: to the language that is a race only of
        // loads that it knows of, and one of the processor's, of whatever width, gives each byte
        // as it was or as it becomes.
        unsafe {
            let (a, b, c, d): (__m128i, __m128i, __m128i, __m128i);
            std::arch::asm!(
                "movdqu {a}, [{at}]",
                "movdqu {b}, [{at} + 16]",
                "movdqu {c}, [{at} + 32]",
                "movdqu {d}, [{at} + 48]",
                at = in(reg) words.as_ptr(),
                a = out(xmm_reg) a,
                b = out(xmm_reg) b,
                c = out(xmm_reg) c,
                d = out(xmm_reg) d,
                options(readonly, nostack, preserves_flags),
            );
            let wanted = _mm_set1_epi32(upper as i32);
            let equal = |one, other| {
                // The second and the fourth quarter of each.
                let uppers = _mm_shuffle_ps::<0b11_01_11_01>(_mm_castsi128_ps(one), _mm_castsi128_ps(other));
                _mm_cmpeq_epi32(_mm_castps_si128(uppers), wanted)
            };
            let equal = _mm_packs_epi32(equal(a, b), equal(c, d));
            _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())) as u32
        }
    }

    /// As [`AtomicU64::store`].
    #[inline]
    pub fn store(&self, value: u64, ordering: Ordering) {
        #[cfg(test)]
        if !fuse::burn() {
            return;
        }
        self.0.store(value, ordering);
    }

    /// As [`AtomicU64::compare_exchange`].
    #[inline]
    pub fn compare_exchange(&self, old: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        #[cfg(test)]
        if !fuse::burn() {
            return Err(self.0.load(failure));
        }
        self.0.compare_exchange(old, new, success, failure)
    }

    /// As [`AtomicU64::fetch_or`].
    #[inline]
    pub fn fetch_or(&self, bits: u64, ordering: Ordering) -> u64 {
        #[cfg(test)]
        if !fuse::burn() {
            return self.0.load(Ordering::Relaxed);
        }
        self.0.fetch_or(bits, ordering)
    }

    /// As [`AtomicU64::fetch_and`].
    #[inline]
    pub fn fetch_and(&self, bits: u64, ordering: Ordering) -> u64 {
        #[cfg(test)]
        if !fuse::burn() {
            return self.0.load(Ordering::Relaxed);
        }
        self.0.fetch_and(bits, ordering)
    }
}

#[cfg(test)]
pub(crate) use fuse::{burn, killed_after};

#[cfg(test)]
mod fuse {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    thread_local! {
        /// Changes of shared words that this thread may still make; none: no limit.
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    struct Killed;

    /// Runs `act`, and kills it before its change number `changes` of a shared word, counted from
    /// 0: it unwinds, and nothing that is dropped on the way changes a shared word any more,
    /// because a dead process does not clean up. None if it was killed.
    pub(crate) fn killed_after<T>(changes: u32, act: impl FnOnce() -> T) -> Option<T> {
        LEFT.set(Some(changes));
        let done = catch_unwind(AssertUnwindSafe(act));
        LEFT.set(None);
        done.map_err(|why| if why.is::<Killed>() { Killed } else { resume_unwind(why) }).ok()
    }

    /// Whether the thread lives to make its next change. For words that are not
    /// [`super::SharedWord`], the code that writes them must ask.
    pub(crate) fn burn() -> bool {
        match LEFT.get() {
            None => true,
            Some(0) if std::thread::panicking() => false,
            Some(0) => resume_unwind(Box::new(Killed)),
            Some(left) => {
                LEFT.set(Some(left - 1));
                true
            }
        }
    }
}

/// The length of a file, if it consists of whole words.
fn mappable(file: &File, path: &Path) -> Result<usize, MappingError> {
    let bytes = file.metadata().map_err(|error| io_error(path, "look at it", error))?.len();
    let whole = bytes != 0 && bytes % 8 == 0;
    usize::try_from(bytes).ok().filter(|_| whole).ok_or(MappingError::Size { path: path.to_owned(), bytes })
}

/// The kernel's name for one of its boots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct BootId(pub u128);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The present boot of the kernel: `/proc/sys/kernel/random/boot_id`.
pub fn boot_id() -> io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map(BootId).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The size of the pages that this file consists of.
fn unit(file: impl AsFd) -> rustix::io::Result<u64> {
    let system = rustix::fs::fstatfs(file)?;
    Ok(if system.f_type == HUGETLBFS { system.f_bsize as u64 } else { WORD })
}

fn io_error(path: &Path, step: &'static str, error: io::Error) -> MappingError {
    MappingError::Io { path: path.to_owned(), step, error }
}
