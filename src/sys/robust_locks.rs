//! Who works with table and rings, held by locks that the kernel hands on when their holder dies.
//!
//! ```text
//! memfd: │ 0 magic, 8 locks, 16 closed, 24 hang │ 64 lock 0 … 120 pulse 0 │ 128 lock 1 … 184 pulse 1 │ …
//! ```
//!
//! A lock is a robust, process-shared pthread_mutex_t.
//!
//! Each thread of an engine that writes to what is shared takes its lock when it begins and holds
//! it to its end. On a death the kernel marks the locks of each thread and wakes who waits for
//! them, before it takes the address space down (`exit_robust_list`, kernel/futex/core.c, called by
//! `exit_mm_release`): long before a pidfd says anything. A lock tells of its thread alone, so
//! whoever wants to succeed takes them *all*, and then nothing of the dead writes any more.
//!
//! A lock that is held says that its thread is there, and not that it does anything. So each of
//! these threads counts its rounds beside its lock, its *pulse*, and the keeper looks whether it
//! moves: a thread whose pulse stands still hangs, and its process is killed, after which the locks
//! do what they do at any death.
//!
//! A robust mutex and not one of `parking_lot`, which lives in one process only.

use std::cell::UnsafeCell;
use std::io;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libc::{c_int, pthread_mutex_t, pthread_mutexattr_t};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};

use crate::limits::OWNERS_MAX;
use crate::time::Nanos;

/// With what a mutex is to this program: each C library has its own, and one that took the other's
/// would wait for ever, or find free what is held.
pub(crate) const MAGIC: u64 = magic(
    if cfg!(target_env = "gnu") {
        b'g'
    } else if cfg!(target_env = "musl") {
        b'm'
    } else {
        b'?'
    },
    size_of::<pthread_mutex_t>(),
);
const HEADER_BYTES: usize = 64;
/// A lock has a cache line of its own, with its thread's pulse at the end of it: who waits for a
/// lock does not look at it.
const LOCK_BYTES: usize = 64;
const PULSE_AT: usize = LOCK_BYTES - size_of::<u64>();
const BYTES: usize = HEADER_BYTES + OWNERS_MAX * LOCK_BYTES;
const _: () =
    assert!(size_of::<pthread_mutex_t>() <= PULSE_AT && LOCK_BYTES.is_multiple_of(align_of::<pthread_mutex_t>()));
/// The header's words.
const CLOSED: usize = 2;
const HANG: usize = 3;

const PTHREAD_MUTEX_ROBUST: c_int = 1;

// POSIX 2008; glibc and musl have them, the libc crate does not name them for glibc.
unsafe extern "C" {
    fn pthread_mutexattr_setrobust(attributes: *mut pthread_mutexattr_t, robustness: c_int) -> c_int;
    fn pthread_mutex_consistent(mutex: *mut pthread_mutex_t) -> c_int;
}

const fn magic(library: u8, mutex_bytes: usize) -> u64 {
    assert!(mutex_bytes <= LOCK_BYTES);
    u64::from_be_bytes([b'B', b'a', b't', b'o', b'n', b'P', library, mutex_bytes as u8])
}

/// The locks, mapped; for as long as the process lives where one was ever taken here, which is a
/// few pages. A thread may end with a lock (`mem::forget`, or a death that is not the process's),
/// and then the kernel and every other list of held locks of that thread point into it. A keeper
/// takes none, makes new ones for each new engine, and keeps no mapping of the old.
#[derive(Debug)]
pub struct RobustLocks {
    map: ManuallyDrop<MmapRaw>,
    taken: AtomicBool,
}

/// How a lock was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nobody had it, or who had it gave it back.
    Free,
    /// Who had it died with it.
    OwnerDied,
}

/// A lock that this thread has. Dropped, it is given back.
#[derive(Debug)]
pub struct Held<'a> {
    mutex: &'a UnsafeCell<pthread_mutex_t>,
    /// A mutex belongs to the thread that locked it.
    _thread: PhantomData<*const ()>,
}

impl RobustLocks {
    /// Makes the locks; nobody has any.
    ///
    /// # Errors
    /// The system's.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let fd = memfd_create("baton-succession", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, BYTES as u64)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let succession = Self::map(fd.as_fd())?;
        for number in 0..OWNERS_MAX {
            succession.initialise(number)?;
        }
        succession.word(1).store(OWNERS_MAX as u64, Ordering::Relaxed);
        // Release pairs with the Acquire of `open`: the locks are made before they are found.
        succession.word(0).store(MAGIC, Ordering::Release);
        Ok((succession, fd))
    }

    /// Maps what another process made.
    ///
    /// # Errors
    /// `InvalidData` where it is something else, or another C library's; the system's.
    pub fn open(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let foreign = || io::Error::new(io::ErrorKind::InvalidData, "the locks of the succession are something else");
        let sealed = fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        if !sealed || fstat(fd)?.st_size != BYTES as i64 {
            return Err(foreign());
        }
        let succession = Self::map(fd)?;
        let header = (succession.word(0).load(Ordering::Acquire), succession.word(1).load(Ordering::Relaxed));
        if header == (MAGIC, OWNERS_MAX as u64) { Ok(succession) } else { Err(foreign()) }
    }

    fn map(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let map = ManuallyDrop::new(MmapOptions::new().len(BYTES).map_raw(&fd)?);
        Ok(Self { map, taken: AtomicBool::new(false) })
    }

    /// Takes a lock, and waits for it as long as a living thread has it.
    ///
    /// # Errors
    /// The system's: the memory is not what it should be.
    pub fn take(&self, number: usize) -> io::Result<(Held<'_>, Found)> {
        let mutex = self.mutex(number);
        // Relaxed: whoever drops this has every other reference behind it.
        self.taken.store(true, Ordering::Relaxed);
        // SAFETY: `create` initialised it, in memory that cannot shrink (sealed) and is not
        // unmapped once this was called (`drop`), so that a guard that is forgotten leaves a lock
        // in the thread's robust list and not a place where one was; every process uses it by these
        // functions alone, which is what a process-shared mutex is for.
        let found = match unsafe { libc::pthread_mutex_lock(mutex.get()) } {
            0 => Found::Free,
            libc::EOWNERDEAD => {
                // SAFETY: as above; we hold it, by what EOWNERDEAD says. What it guards is put in
                // order by its users.
                said(unsafe { pthread_mutex_consistent(mutex.get()) })?;
                Found::OwnerDied
            }
            error => return Err(io::Error::from_raw_os_error(error)),
        };
        Ok((Held { mutex, _thread: PhantomData }, found))
    }

    /// Nobody is to succeed by a lock alone: who has them ends because it must, and whoever would
    /// follow of itself must not either.
    pub fn close(&self) {
        // Release pairs with the Acquire of `is_closed`; a lock that is handed on later orders it
        // as well.
        self.word(CLOSED).store(1, Ordering::Release);
    }

    /// The next may succeed by the locks again.
    pub fn reopen(&self) {
        self.word(CLOSED).store(0, Ordering::Release);
    }

    /// Whether nobody is to succeed by a lock alone.
    pub fn is_closed(&self) -> bool {
        self.word(CLOSED).load(Ordering::Acquire) != 0
    }

    /// The thread of this number has done another round. Its owner alone calls this.
    pub fn beat(&self, number: usize) {
        let pulse = self.pulse_of(number);
        // Relaxed, and two steps: there is one that writes, and who reads only asks whether it is
        // another number than before.
        pulse.store(pulse.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The rounds that the thread of this number has done.
    pub fn pulse(&self, number: usize) -> u64 {
        self.pulse_of(number).load(Ordering::Relaxed)
    }

    /// A keeper's word to whoever is handed the locks: their owner has hung since then, and is
    /// killed for it.
    pub fn note_hang(&self, since: Nanos) {
        // Release pairs with the Acquire in `take_hang`; the death that hands the locks on lies
        // between.
        self.word(HANG).store(since.0, Ordering::Release);
    }

    /// Since when those whose locks these were had hung, if it was that that they died of.
    pub fn take_hang(&self) -> Option<Nanos> {
        let since = self.word(HANG).swap(0, Ordering::AcqRel);
        (since != 0).then_some(Nanos(since))
    }

    fn pulse_of(&self, number: usize) -> &AtomicU64 {
        assert!(number < OWNERS_MAX, "there are locks for {OWNERS_MAX} threads");
        // SAFETY: within the mapping (asserted), behind the lock's own bytes (asserted beside
        // PULSE_AT), aligned to 8, and atomic for every process that maps it.
        unsafe { &*self.map.as_ptr().add(HEADER_BYTES + number * LOCK_BYTES + PULSE_AT).cast::<AtomicU64>() }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!((at + 1) * 8 <= HEADER_BYTES, "a word of the header");
        // SAFETY: within the mapping (asserted, and its length is BYTES), aligned to 8 from a
        // page's beginning, and atomic for every process that maps it.
        unsafe { &*self.map.as_ptr().add(at * 8).cast::<AtomicU64>() }
    }

    fn mutex(&self, number: usize) -> &UnsafeCell<pthread_mutex_t> {
        assert!(number < OWNERS_MAX, "there are locks for {OWNERS_MAX} threads");
        // SAFETY: within the mapping (asserted), aligned to a cache line; an UnsafeCell has the
        // layout of what is in it, and no reference to the inside is ever made.
        unsafe { &*self.map.as_ptr().add(HEADER_BYTES + number * LOCK_BYTES).cast() }
    }

    fn initialise(&self, number: usize) -> io::Result<()> {
        let mut attributes = MaybeUninit::<pthread_mutexattr_t>::uninit();
        // SAFETY: the attributes are initialised by the first call and used by the others; the
        // mutex is in zeroed memory that nobody else has yet.
        unsafe {
            said(libc::pthread_mutexattr_init(attributes.as_mut_ptr()))?;
            said(libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED))?;
            said(pthread_mutexattr_setrobust(attributes.as_mut_ptr(), PTHREAD_MUTEX_ROBUST))?;
            said(libc::pthread_mutex_init(self.mutex(number).get(), attributes.as_ptr()))?;
            said(libc::pthread_mutexattr_destroy(attributes.as_mut_ptr()))
        }
    }
}

// SAFETY: of the mapping only atomics and process-shared mutexes are touched, which any thread may
// touch at any time.
unsafe impl Send for RobustLocks {}
// SAFETY: as above.
unsafe impl Sync for RobustLocks {}

impl Drop for RobustLocks {
    fn drop(&mut self) {
        if !*self.taken.get_mut() {
            // SAFETY: `self.map` is not used again, for this is the drop of its owner. No thread
            // here ever took a lock (`taken`), so no list of held locks leads into it.
            unsafe { ManuallyDrop::drop(&mut self.map) }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: this thread has it: `take` gave this guard, which cannot be sent to another.
        let unlocked = said(unsafe { libc::pthread_mutex_unlock(self.mutex.get()) });
        debug_assert!(unlocked.is_ok(), "{unlocked:?}");
    }
}

fn said(error: c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_that_ends_with_its_lock_leaves_it_to_who_waits() {
        let (succession, fd) = RobustLocks::create().unwrap();
        let succession = Arc::new(succession);
        let (go, wait) = channel::<()>();
        let (told, ready) = channel();
        let theirs = Arc::clone(&succession);
        let holder = thread::spawn(move || {
            let (held, found) = theirs.take(3).unwrap();
            std::mem::forget(held);
            told.send(found).unwrap();
            wait.recv().unwrap();
        });
        assert_eq!(ready.recv().unwrap(), Found::Free);
        let other = RobustLocks::open(fd.as_fd()).unwrap();
        let waits = thread::spawn(move || other.take(3).unwrap().1);
        go.send(()).unwrap();
        holder.join().unwrap();
        assert_eq!(waits.join().unwrap(), Found::OwnerDied);
        assert_eq!(succession.take(4).unwrap().1, Found::Free, "a lock tells of its thread alone");
    }

    #[test]
    fn a_lock_that_was_given_back_is_free_also_after_the_dead() {
        let (succession, _fd) = RobustLocks::create().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| std::mem::forget(succession.take(0).unwrap().0));
        });
        for expected in [Found::OwnerDied, Found::Free, Found::Free] {
            assert_eq!(succession.take(0).unwrap().1, expected);
        }
    }

    #[test]
    fn each_thread_has_a_pulse_of_its_own_that_all_who_map_it_see() {
        let (keeper, fd) = RobustLocks::create().unwrap();
        let engine = RobustLocks::open(fd.as_fd()).unwrap();
        let _held = engine.take(OWNERS_MAX - 1).unwrap();
        engine.beat(OWNERS_MAX - 1);
        engine.beat(OWNERS_MAX - 1);
        engine.beat(3);
        let pulses: Vec<_> = (0..OWNERS_MAX).map(|number| keeper.pulse(number)).collect();
        assert_eq!((pulses[OWNERS_MAX - 1], pulses[3], pulses.iter().sum::<u64>()), (2, 1, 3));
    }

    #[test]
    fn a_hang_is_told_to_one_successor() {
        let (keeper, fd) = RobustLocks::create().unwrap();
        let successor = RobustLocks::open(fd.as_fd()).unwrap();
        assert_eq!(successor.take_hang(), None);
        keeper.note_hang(Nanos(7));
        assert_eq!([successor.take_hang(), successor.take_hang()], [Some(Nanos(7)), None]);
    }

    #[test]
    fn locks_that_nobody_took_here_leave_no_mapping_behind() {
        let (succession, fd) = RobustLocks::create().unwrap();
        let at = format!("{:x}-", succession.map.as_ptr().addr());
        let is_mapped =
            || std::fs::read_to_string("/proc/self/maps").unwrap().lines().any(|line| line.starts_with(&at));
        assert!(is_mapped());
        drop(succession);
        let theirs = std::fs::read_to_string("/proc/self/maps").unwrap();
        // Another test's thread may have put something else there meanwhile.
        assert!(!theirs.lines().any(|line| line.starts_with(&at) && line.contains("baton-succession")), "{theirs}");
        drop(fd);
    }

    #[test]
    fn other_memory_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(RobustLocks::open(file.as_fd()).is_err());
        let fd = memfd_create("other", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&fd, BYTES as u64).unwrap();
        fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
        assert_eq!(RobustLocks::open(fd.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    /// An upgrade from a program of glibc's to one of musl's, and back.
    #[test]
    fn locks_of_another_c_library_are_refused() {
        let (succession, fd) = RobustLocks::create().unwrap();
        for other in [magic(b'x', size_of::<pthread_mutex_t>()), magic(b'g', 41), magic(b'm', 41)] {
            succession.word(0).store(other, Ordering::Relaxed);
            assert_eq!(RobustLocks::open(fd.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        succession.word(0).store(MAGIC, Ordering::Relaxed);
        assert!(RobustLocks::open(fd.as_fd()).is_ok());
    }

    #[test]
    fn a_lock_that_its_thread_forgot_is_handed_on_though_its_mapping_was_let_go() {
        let (succession, fd) = RobustLocks::create().unwrap();
        let forgets = move || {
            let theirs = RobustLocks::open(fd.as_fd()).unwrap();
            std::mem::forget(theirs.take(5).unwrap().0);
        };
        thread::spawn(forgets).join().unwrap();
        assert_eq!(succession.take(5).unwrap().1, Found::OwnerDied);
    }
}
