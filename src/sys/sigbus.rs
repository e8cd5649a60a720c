//! Explains SIGBUS: memory of a file ends where the file ends, and another process has truncated
//! it.
//!
//! Table and frames are in files whose blocks were allocated before they were mapped, so no store
//! can find the file system full. The remaining causes are a file that is truncated while it is
//! mapped, and memory that fails. In both cases the data is gone, so the process dies of the signal
//! as it would without this module; but it prints a message first.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

const CUT: &str = "baton: SIGBUS: the file of the table, or the memory of the frames, was cut short while it was in \
    use, and what lay there is gone. Leave the files of a running server alone. Stop baton and start it with \
    --path database: that moves the table aside and goes by the database.\n";
const FAILED: &str = "baton: SIGBUS: memory of this machine has failed under the table or the frames; the kernel's log \
    says where. Have the memory checked. Stop baton and start it with --path database: that moves the table aside and \
    goes by the database.\n";
const UNKNOWN: &str = "baton: SIGBUS: neither a file that was cut nor memory that failed, but a process that sent it, or \
    an error in baton. Please report it.\n";

/// Another thread is already explaining: several workers touch the same memory.
static EXPLAINING: AtomicBool = AtomicBool::new(false);

/// From here on this process prints what a SIGBUS means on standard error before it dies of it.
///
/// # Errors
/// The system's.
pub fn explain() -> io::Result<()> {
    // SAFETY: an all-zero sigaction has no flags and an empty mask; the handler is an `extern "C"`
    // function of the type that SA_SIGINFO asks for, lives as long as the program, and does only
    // what is safe in a handler. SA_ONSTACK runs it on the stack that the standard library gives
    // each of its threads for signals.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction =
            on_sigbus as extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // Relaxed: it publishes nothing. A thread that comes later ends with the process, and must not
    // end it sooner.
    if EXPLAINING.swap(true, Ordering::Relaxed) {
        loop {
            // SAFETY: `poll` is async-signal-safe (signal-safety(7)) and is given no descriptor.
            // `pause` would not do: a confined engine may not make that call.
            unsafe { libc::poll(std::ptr::null_mut(), 0, -1) };
        }
    }
    // SAFETY: the kernel gives a handler that was installed with SA_SIGINFO a siginfo_t that lives
    // as long as the handler runs.
    let words = match unsafe { (*info).si_code } {
        libc::BUS_ADRERR => CUT,
        libc::BUS_MCEERR_AR | libc::BUS_MCEERR_AO => FAILED,
        _ => UNKNOWN,
    };
    // SAFETY: `poll`, `write`, `signal` and `raise` are async-signal-safe (signal-safety(7));
    // `stderr` is one pollfd, `words` that many readable bytes. Errno need not be restored, because
    // the interrupted code does not continue.
    unsafe {
        let mut stderr = libc::pollfd { fd: libc::STDERR_FILENO, events: libc::POLLOUT, revents: 0 };
        // A reader that does not read must not keep the process from dying: the successor waits for
        // its death.
        if libc::poll(&raw mut stderr, 1, 0) == 1 && stderr.revents & libc::POLLOUT != 0 {
            libc::write(libc::STDERR_FILENO, words.as_ptr().cast(), words.len());
        }
        libc::signal(signal, libc::SIG_DFL);
        // Blocked until the handler returns; then the signal has its default effect.
        libc::raise(signal);
    }
}
