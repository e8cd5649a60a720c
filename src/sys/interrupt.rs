//! Calling a thread back from a system call that it is in.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// What is sent: its default would end the process, so [`allow`] comes first.
const SIGNAL: libc::c_int = libc::SIGUSR2;

extern "C" fn on_signal(_: libc::c_int) {}

/// From here on [`interrupt`] does what it says. For the whole process.
///
/// # Errors
/// The system's.
pub fn allow() -> io::Result<()> {
    // SAFETY: an all-zero sigaction is one with no flags and an empty mask, so that calls are
    // interrupted and not begun again; the handler is an `extern "C"` function of the type that
    // `sa_flags` without SA_SIGINFO asks for, and does nothing.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the system call that the thread is in, if it is in one, return with EINTR. One that it makes
/// a moment later is not touched: ask again until the thread says that it has heard.
pub fn interrupt<T>(thread: &JoinHandle<T>) {
    // SAFETY: the handle is not joined, for it is borrowed, so the thread's id is valid even if it
    // has ended.
    let _ = unsafe { libc::pthread_kill(thread.as_pthread_t(), SIGNAL) };
}
