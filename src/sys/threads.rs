//! Threads, ordered by whether others wait for what they do.
//!
//! When a process dies, each of its threads has to run once more, until it ends, and a successor
//! waits for those that held its locks. If there are fewer processors than threads, the scheduler
//! decides which runs first. So threads that nothing waits for have low priority, and a thread that
//! is about to take over has priority over all others if the system permits it.
//!
//! The thread that ends last frees the process's memory. That takes a millisecond and more, in
//! which the kernel may let no other thread have the processor (`exit_mm`; `PREEMPT_LAZY`). It
//! should not be a thread that others wait for.

use std::io;
use std::sync::OnceLock;
use std::thread::{Builder, JoinHandle};

use core_affinity::CoreId;
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::limits::{REALTIME_PRIORITY_MAX, STACK_BYTES};

/// How far a thread's priority is below those that work with rings and table, as a nice value: each
/// step takes about a tenth off its share of a processor that they want too (sched(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Nice {
    /// Clients wait for its results.
    ClientsWait = 10,
    /// No other thread and no client waits for it.
    NobodyWaits = 19,
}

/// The CPUs of threads that are not pinned.
static OTHERS: OnceLock<CpuSet> = OnceLock::new();

/// Reserves these CPUs for the threads pinned to them: threads that are not pinned run on the
/// others that this process has. If only one other would remain, nothing is reserved: the thread
/// that frees a dead process's memory would wait there for other work of the machine. Call this
/// before a thread is pinned; only the first call counts.
pub fn keep_free(cores: impl IntoIterator<Item = u16>) {
    OTHERS.get_or_init(|| {
        // If the system does not tell, assume that the process has every CPU.
        let all = sched_getaffinity(None).unwrap_or_else(|_| {
            let mut all = CpuSet::new();
            (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
            all
        });
        let mut others = all;
        for core in cores.into_iter().map(usize::from).filter(|&core| core < CpuSet::MAX_CPU) {
            others.unset(core);
        }
        if others.count() > 1 { others } else { all }
    });
}

/// Pins the calling thread to a CPU. Threads that it starts from now on are pinned with it, except
/// those with lower priority. Returns whether it is pinned.
pub fn pin(core: u16) -> bool {
    // A number beyond the kernel's set of CPUs is no CPU; core_affinity would index past it.
    usize::from(core) < libc::CPU_SETSIZE as usize && core_affinity::set_for_current(CoreId { id: core.into() })
}

/// Lets the calling thread run on every CPU that is not reserved, even if the thread that started
/// it was pinned.
pub fn unpin() {
    if let Some(cpus) = OTHERS.get()
        && let Err(error) = sched_setaffinity(None, cpus)
    {
        tracing::debug!("a thread stays on the CPU of the thread that started it: {error}");
    }
}

/// Starts a thread that has lower priority than the others, and is not pinned. Threads that it
/// starts inherit this.
///
/// # Errors
/// The system's: no more threads.
pub fn spawn_nice<T: Send + 'static>(
    name: &str,
    behind: Nice,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(move || {
        // Lowering the priority needs no right. On Linux it affects only the calling thread.
        if let Err(error) = setpriority_process(None, behind as i32) {
            tracing::debug!("the priority of a thread cannot be lowered: {error}");
        }
        unpin();
        run()
    })
}

/// Gives the calling thread priority over all threads without real-time priority, if this process
/// may do that (`RLIMIT_RTPRIO`). Returns whether it has it.
pub fn run_first() -> bool {
    schedule(libc::SCHED_FIFO, REALTIME_PRIORITY_MAX as libc::c_int)
}

/// Gives the calling thread normal priority again.
pub fn run_with_others() {
    schedule(libc::SCHED_OTHER, 0);
}

fn schedule(policy: libc::c_int, priority: libc::c_int) -> bool {
    // SAFETY: all bytes zero are valid parameters; the fields beside the priority differ between C
    // libraries.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    // SAFETY: the parameters are read only during the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn a_thread_behind_leaves_the_others_where_they_are() {
        let before = getpriority_process(None).unwrap();
        let behind = spawn_nice("behind", Nice::NobodyWaits, || getpriority_process(None).unwrap()).unwrap();
        assert_eq!((behind.join().unwrap(), getpriority_process(None).unwrap()), (Nice::NobodyWaits as i32, before));
    }

    #[test]
    fn a_thread_behind_is_pinned_to_no_cpu() {
        let pinned = std::thread::spawn(|| {
            let before = sched_getaffinity(None).unwrap();
            let first = (0..CpuSet::MAX_CPU).find(|&cpu| before.is_set(cpu)).unwrap();
            keep_free([first as u16]);
            assert!(pin(first as u16));
            assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
            let behind = spawn_nice("behind", Nice::ClientsWait, || sched_getaffinity(None).unwrap()).unwrap();
            let cpus = behind.join().unwrap();
            let left = before.count() - 1;
            assert_eq!(cpus.count(), if left > 1 { left } else { before.count() });
            assert_eq!(cpus.is_set(first), left <= 1);
        });
        pinned.join().unwrap();
    }

    #[test]
    fn a_thread_that_ran_first_runs_with_others_again() {
        // SAFETY: 0 is the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let thread = std::thread::spawn(move || {
            let before = policy();
            let first = run_first();
            assert_eq!(policy(), if first { libc::SCHED_FIFO } else { before });
            run_with_others();
            assert_eq!(policy(), libc::SCHED_OTHER);
        });
        thread.join().unwrap();
    }
}
