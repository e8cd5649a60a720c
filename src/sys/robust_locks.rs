//! Robust locks: they prove which threads may still write to the table and the rings, and the
//! kernel hands them on when their owner dies.
//!
//! ```text
//! memfd: │ 0 magic, 8 locks, 16 closed, 24 hang │ 64 lock 0 … 120 pulse 0 │ 128 lock 1 … 184 pulse 1 │ …
//! ```
//!
//! A lock is a robust, process-shared pthread_mutex_t.
//!
//! Each thread of an engine that writes to shared memory takes its lock when it begins and holds it
//! until it ends. When the process dies, the kernel marks the locks of each thread and wakes the
//! threads that wait for them, before it frees the address space (`exit_robust_list`,
//! kernel/futex/core.c, called by `exit_mm_release`): long before a pidfd becomes readable. A lock
//! tells only about its own thread, so a successor takes them *all*; after that no thread of the
//! dead engine writes any more.
//!
//! A held lock shows that its thread exists, not that it makes progress. So each of these threads
//! counts its rounds beside its lock, its *pulse*, and the keeper watches whether it moves. A
//! thread whose pulse stands still hangs; its process is killed, and then the locks work as at any
//! other death.
//!
//! These are robust mutexes and not those of `parking_lot`, which work in one process only.

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
/// A lock has its own cache line, with its thread's pulse at the end of it: a thread that waits for
/// a lock does not read the line.
const LOCK_BYTES: usize = 64;
const PULSE_AT: usize = LOCK_BYTES - size_of::<u64>();
const BYTES: usize = HEADER_BYTES + OWNERS_MAX * LOCK_BYTES;
const _: () =
    assert!(size_of::<pthread_mutex_t>() <= PULSE_AT && LOCK_BYTES.is_multiple_of(align_of::<pthread_mutex_t>()));
/// The words of the header, by index.
const CLOSED: usize = 2;
const HANG: usize = 3;

const PTHREAD_MUTEX_ROBUST: c_int = 1;

// POSIX 2008; glibc and musl have them, but the libc crate does not declare them for glibc.
unsafe extern "C" {
    fn pthread_mutexattr_setrobust(attributes: *mut pthread_mutexattr_t, robustness: c_int) -> c_int;
    fn pthread_mutex_consistent(mutex: *mut pthread_mutex_t) -> c_int;
}

const fn magic(library: u8, mutex_bytes: usize) -> u64 {
    assert!(mutex_bytes <= LOCK_BYTES);
    u64::from_be_bytes([b'B', b'a', b't', b'o', b'n', b'P', library, mutex_bytes as u8])
}

/// The locks, mapped. If one was ever taken here, the mapping stays for as long as the process
/// lives, which is a few pages. A thread may end with a lock (`mem::forget`, or a death of the
/// thread alone), and then the kernel's list of locks held by that thread still points into the
/// mapping. A keeper takes no lock, makes new ones for each new engine, and keeps no mapping of the
/// old ones.
#[derive(Debug)]
pub struct RobustLocks {
    map: ManuallyDrop<MmapRaw>,
    taken: AtomicBool,
}

/// The state in which a lock was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// It had no owner, or its owner released it.
    Free,
    /// Its owner died while it held the lock.
    OwnerDied,
}

/// A lock that this thread holds. It is released on drop.
#[derive(Debug)]
pub struct Held<'a> {
    mutex: &'a UnsafeCell<pthread_mutex_t>,
    /// Keeps the value on its thread: a mutex belongs to the thread that locked it.
    _thread: PhantomData<*const ()>,
}

impl RobustLocks {
    /// Makes the locks, all free.
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
        // Release pairs with the Acquire of `open`: the locks are initialised before another
        // process uses them.
        succession.word(0).store(MAGIC, Ordering::Release);
        Ok((succession, fd))
    }

    /// Maps locks that another process made.
    ///
    /// # Errors
    /// `InvalidData` if it is something else, or from another C library; the system's.
    pub fn open(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let foreign =
            || io::Error::new(io::ErrorKind::InvalidData, "this memory has no locks, or those of another C library");
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
    /// The system's: the memory does not contain a valid lock.
    pub fn take(&self, number: usize) -> io::Result<(Held<'_>, Found)> {
        let mutex = self.mutex(number);
        // Relaxed: the code that drops this has synchronised with every other reference.
        self.taken.store(true, Ordering::Relaxed);
        // SAFETY: `create` initialised it, in memory that cannot shrink (sealed) and is not
        // unmapped once this was called (`drop`), so that a forgotten guard leaves a valid lock in
        // the thread's robust list and not a dangling address; every process uses it only through
        // these functions, which is the purpose of a process-shared mutex.
        let found = match unsafe { libc::pthread_mutex_lock(mutex.get()) } {
            0 => Found::Free,
            libc::EOWNERDEAD => {
                // SAFETY: as above; EOWNERDEAD means that this thread holds it. The users of the
                // lock repair what it guards.
                said(unsafe { pthread_mutex_consistent(mutex.get()) })?;
                Found::OwnerDied
            }
            error => return Err(io::Error::from_raw_os_error(error)),
        };
        Ok((Held { mutex, _thread: PhantomData }, found))
    }

    /// Tells waiting threads not to take over when they get a lock: the engine that has the locks
    /// ends because it must, and an engine that took over by itself must end too.
    pub fn close(&self) {
        // Release pairs with the Acquire of `is_closed`; a lock that is handed on later orders it
        // as well.
        self.word(CLOSED).store(1, Ordering::Release);
    }

    /// Permits takeovers by the locks again.
    pub fn reopen(&self) {
        self.word(CLOSED).store(0, Ordering::Release);
    }

    /// Whether threads must not take over when they get a lock.
    pub fn is_closed(&self) -> bool {
        self.word(CLOSED).load(Ordering::Acquire) != 0
    }

    /// Counts another round of the thread with this number. Only the lock's owner calls this.
    pub fn beat(&self, number: usize) {
        let pulse = self.pulse_of(number);
        // Relaxed, and two steps: there is only one writer, and readers only check whether the
        // number has changed.
        pulse.store(pulse.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The number of rounds of the thread with this number.
    pub fn pulse(&self, number: usize) -> u64 {
        self.pulse_of(number).load(Ordering::Relaxed)
    }

    /// The keeper tells the next owner of the locks that their present owner has hung since this
    /// time, and is killed for it.
    pub fn note_hang(&self, since: Nanos) {
        // Release pairs with the Acquire in `take_hang`; the death that hands the locks on happens
        // in between.
        self.word(HANG).store(since.0, Ordering::Release);
    }

    /// Since when the former owner of the locks had hung, if that was the cause of its death.
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
        // SAFETY: within the mapping (asserted, and its length is BYTES), aligned to 8 from the
        // start of a page, and atomic for every process that maps it.
        unsafe { &*self.map.as_ptr().add(at * 8).cast::<AtomicU64>() }
    }

    fn mutex(&self, number: usize) -> &UnsafeCell<pthread_mutex_t> {
        assert!(number < OWNERS_MAX, "there are locks for {OWNERS_MAX} threads");
        // SAFETY: within the mapping (asserted), aligned to a cache line; an UnsafeCell has the
        // layout of its content, and no reference to the inside is ever made.
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

// SAFETY: only atomics and process-shared mutexes of the mapping are touched, which any thread may
// touch at any time.
unsafe impl Send for RobustLocks {}
// SAFETY: as above.
unsafe impl Sync for RobustLocks {}

impl Drop for RobustLocks {
    fn drop(&mut self) {
        if !*self.taken.get_mut() {
            // SAFETY: `self.map` is not used again, because this drops its owner. No thread ever
            // took a lock here (`taken`), so no list of held locks points into it.
            unsafe { ManuallyDrop::drop(&mut self.map) }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: this thread holds it: `take` returned this guard, which cannot be sent to another
        // thread.
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
        // A thread of another test may have mapped something else there since.
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

    /// Models an upgrade from a program with glibc to one with musl, and back.
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
