//! Requests to stop, as a descriptor to poll.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, eventfd};

/// Counts the SIGTERM, SIGINT and SIGHUP signals of this process. There is one value, for as long
/// as the process lives.
#[derive(Debug)]
pub struct StopSignals {
    event: &'static OwnedFd,
}

/// The descriptor that the handler writes to. It is never closed, so the handler never writes to
/// another file with the same number.
static EVENT: OnceLock<OwnedFd> = OnceLock::new();

extern "C" fn on_signal(_: libc::c_int) {
    let one = 1u64;
    // For a lock that is set, this is one load. It is set before the handler is installed.
    let Some(event) = EVENT.get() else { return };
    // SAFETY: `write` and `__errno_location` are async-signal-safe (signal-safety(7)); `one` is
    // eight readable bytes, and errno is restored, because the interrupted code may be about to
    // read it.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(event.as_raw_fd(), (&raw const one).cast(), size_of::<u64>());
        *errno = before;
    }
}

impl StopSignals {
    /// From here on SIGTERM, SIGINT and SIGHUP are counted and have no other effect. A terminal
    /// sends SIGHUP when it is closed; if it was ignored before (nohup), it still is. Programs that
    /// are started are not affected: handlers end with exec.
    ///
    /// # Errors
    /// The system's.
    ///
    /// # Panics
    /// If it is called twice in a process.
    pub fn install() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        EVENT.set(event).expect("signals have one receiver in a process");
        let event = EVENT.get().expect("it was just set");
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            if signal == libc::SIGHUP && is_ignored(signal)? {
                continue;
            }
            // SAFETY: an all-zero sigaction has no flags and an empty mask; the handler is an
            // `extern "C"` function of the type that `sa_flags` without SA_SIGINFO asks for, lives
            // as long as the program, and does only what is safe in a handler.
            let result = unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
                action.sa_flags = libc::SA_RESTART;
                libc::sigaction(signal, &raw const action, std::ptr::null_mut())
            };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self { event })
    }

    /// The number of signals since the last call.
    pub fn take(&self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(self.event, &mut count) {
            Ok(8) => u64::from_ne_bytes(count),
            _ => 0,
        }
    }
}

/// If a file has reached the longest length that this process may write (RLIMIT_FSIZE), the write
/// fails with an error message, and SIGXFSZ does not end the process. Programs that are started
/// inherit this.
pub fn ignore_file_limit() {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

fn is_ignored(signal: libc::c_int) -> io::Result<bool> {
    // SAFETY: without a new action this only writes the present one, and an all-zero sigaction can
    // be written to.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let result = libc::sigaction(signal, std::ptr::null(), &raw mut action);
        if result == 0 { Ok(action.sa_sigaction == libc::SIG_IGN) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for StopSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
