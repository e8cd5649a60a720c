//! The system calls that an engine makes, and no others.
//!
//! An attacker who takes over an engine through a received frame finds a process that cannot
//! execute a program, open a socket, start or inspect another process, or make memory executable. A
//! call that is not listed kills the whole process, and the kernel logs it (`type=1326` in its
//! audit log, with the call's number). The keeper then starts the next engine, as after every other
//! death. The filter kills instead of refusing, because no code of Baton makes such a call: code
//! that does is not Baton's.
//!
//! This list cannot protect particular descriptors, because it does not distinguish them. So an
//! engine closes those of the table, of the locks and of the frames' memory once it has mapped
//! them, and neither `ftruncate` nor `flock` reaches them any more.
//!
//! The list belongs to a program with the C library and the crates of this build. If a call has
//! several forms (`epoll_wait` and `epoll_pwait2`), all are listed, so that another version of the
//! C library finds its own.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

/// Calls that are allowed with any arguments.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // Files: the database, snapshots, logs, and files that the C library reads (CPUs, the time
    // zone).
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev,
    libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2, libc::SYS_pwritev2,
    libc::SYS_openat, libc::SYS_close, libc::SYS_lseek, libc::SYS_fstat, libc::SYS_fstatfs, libc::SYS_newfstatat, libc::SYS_statx,
    libc::SYS_readlinkat, libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_getdents64, libc::SYS_getcwd,
    libc::SYS_ftruncate, libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_flock,
    libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_linkat, libc::SYS_unlinkat, libc::SYS_mkdirat, libc::SYS_fchmod,
    libc::SYS_dup, libc::SYS_dup3,
    // Memory. Mapping and protecting are listed below, because they must not make it executable; so
    // is advice, because some of it destroys data.
    libc::SYS_munmap, libc::SYS_mremap, libc::SYS_brk, libc::SYS_mlock, libc::SYS_mlock2,
    libc::SYS_munlock, libc::SYS_membarrier,
    // Threads, locks, time.
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_rseq, libc::SYS_set_tid_address,
    libc::SYS_gettid, libc::SYS_getpid, libc::SYS_sched_yield, libc::SYS_getcpu,
    libc::SYS_sched_getaffinity, libc::SYS_sched_getscheduler, libc::SYS_sched_getparam,
    libc::SYS_sched_getattr, libc::SYS_sched_get_priority_max, libc::SYS_sched_get_priority_min,
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_nanosleep,
    libc::SYS_gettimeofday, libc::SYS_restart_syscall, libc::SYS_exit, libc::SYS_exit_group,
    // Waiting: rings, the API, wake-ups.
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_ppoll,
    libc::SYS_eventfd2,
    // Sockets that were handed over, and those of clients. None can be made.
    libc::SYS_accept4, libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg,
    libc::SYS_getsockopt, libc::SYS_getsockname, libc::SYS_getpeername,
    // The path from a panic to its message: handlers, the alternate stack, and what the process
    // asks about itself.
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack,
    libc::SYS_getrandom, libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getrusage,
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid,
];

/// Calls that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[c_long] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink,
    libc::SYS_rename, libc::SYS_link, libc::SYS_unlink, libc::SYS_mkdir, libc::SYS_dup2,
    libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// The separate calls that Linux 6.7 made of `futex`. libc does not name them on every
/// architecture; the numbers are the same for all (Documentation of 6.7, scripts/syscall.tbl).
const FUTEX_WAKE: c_long = 454;
const FUTEX_WAIT: c_long = 455;

/// include/uapi/linux/prctl.h, since Linux 6.4.
const PR_GET_AUXV: libc::c_int = 0x4155_5856;

/// Confines this process, with its present and future threads. Call this when it has nothing left
/// to open but files.
///
/// # Errors
/// The system's; `Unsupported` on an architecture that has no list.
pub fn confine() -> io::Result<()> {
    let failed = |error: seccompiler::Error| match error {
        seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
        error => io::Error::other(error),
    };
    // The kernel applies the strictest answer of all filters.
    for filter in [processes().map_err(failed)?, list().map_err(failed)?] {
        apply_filter_all_threads(&filter).map_err(failed)?;
    }
    Ok(())
}

/// `clone3` has its flags in memory, where no filter can see them. So the C library is told that
/// there is no `clone3`, and makes its threads by `clone`.
fn processes() -> seccompiler::Result<BpfProgram> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    compile(rules, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))
}

fn list() -> seccompiler::Result<BpfProgram> {
    let mut rules: BTreeMap<_, _> =
        ALLOWED.iter().chain(OLDER).chain(&[FUTEX_WAKE, FUTEX_WAIT]).map(|&call| (call, Vec::new())).collect();
    // Denied by the other filter, which gives the strictest answer.
    rules.insert(libc::SYS_clone3, Vec::new());
    // Threads, not processes.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    // Memory that can be read and written, but not executed.
    let executable = libc::PROT_EXEC as u64;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![rule(2, SeccompCmpOp::MaskedEq(executable), 0)?]);
    }
    // Makes an accepted socket non-blocking.
    rules.insert(libc::SYS_ioctl, vec![rule(1, SeccompCmpOp::Eq, libc::FIONBIO)?]);
    // Not the signal for events of a descriptor, nor its receiver: that could be any process of the
    // same user.
    let commands = [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];
    let locks =
        [libc::F_GETLK, libc::F_SETLK, libc::F_SETLKW, libc::F_OFD_GETLK, libc::F_OFD_SETLK, libc::F_OFD_SETLKW];
    let commands = commands.into_iter().chain(locks).chain([libc::F_GET_SEALS]);
    rules.insert(libc::SYS_fcntl, commands.map(|command| equal(1, command)).collect::<Result<_, _>>()?);
    // A client's connection is closed for writing. If the listening socket were closed for reading,
    // nobody could use it any more, for good.
    rules.insert(libc::SYS_shutdown, vec![equal(1, libc::SHUT_WR)?]);
    // Advice on memory, but not to free it in the file, which other processes have mapped (a hole
    // in the frames' memory).
    rules.insert(libc::SYS_madvise, vec![rule(2, SeccompCmpOp::Ne, libc::MADV_REMOVE as u64)?]);
    // Only of the calling thread. Those of a user or a group would include other processes'
    // threads.
    let own =
        [libc::SYS_sched_setaffinity, libc::SYS_sched_setscheduler, libc::SYS_sched_setparam, libc::SYS_sched_setattr];
    for call in own {
        rules.insert(call, vec![equal(0, 0)?]);
    }
    let condition = |argument| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 0);
    // PRIO_PROCESS is 0 as well.
    rules.insert(libc::SYS_setpriority, vec![SeccompRule::new(vec![condition(0)?, condition(1)?])?]);
    // The names of threads and, with newer C libraries, of memory; and what rustix asks for the
    // size of a page.
    let options = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, PR_GET_AUXV];
    let options = options.into_iter().map(|option| rule(0, SeccompCmpOp::Eq, option as u64));
    rules.insert(libc::SYS_prctl, options.collect::<Result<_, _>>()?);
    // Its own limits; its own end by `abort`, so that a panic is recognised as one.
    rules.insert(libc::SYS_prlimit64, vec![rule(0, SeccompCmpOp::Eq, 0)?]);
    rules.insert(libc::SYS_tgkill, vec![rule(0, SeccompCmpOp::Eq, u64::from(std::process::id()))?]);
    compile(rules, SeccompAction::KillProcess, SeccompAction::Allow)
}

/// The call's argument with this number, compared as 32 bits: no argument used here is longer.
fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> seccompiler::Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn equal(argument: u8, value: libc::c_int) -> seccompiler::Result<SeccompRule> {
    rule(argument, SeccompCmpOp::Eq, value as u64)
}

fn compile(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> seccompiler::Result<BpfProgram> {
    let architecture = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, otherwise, matched, architecture)?.try_into()?)
}
