//! Interrupts a system call of another thread.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// The signal. By default it would end the process, so [`allow`] comes first.
const SIGNAL: libc::c_int = libc::SIGUSR2;

extern "C" fn on_signal(_: libc::c_int) {}

/// Makes [`interrupt`] usable, for the whole process.
///
/// # Errors
/// The system's.
pub fn allow() -> io::Result<()> {
    // SAFETY: an all-zero sigaction has no flags and an empty mask, so that calls are interrupted
    // and not restarted; the handler is an `extern "C"` function of the type that `sa_flags`
    // without SA_SIGINFO asks for, and does nothing.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the system call that the thread is in, if any, return with EINTR. A call that starts a
/// moment later is not interrupted: repeat until the thread says that it has noticed.
pub fn interrupt<T>(thread: &JoinHandle<T>) {
    // SAFETY: the handle is borrowed and therefore not joined, so the thread's id is valid even if
    // the thread has ended.
    let _ = unsafe { libc::pthread_kill(thread.as_pthread_t(), SIGNAL) };
}
