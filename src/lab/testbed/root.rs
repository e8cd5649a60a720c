//! Tests that need root say so.

use rustix::process::geteuid;

use crate::output::tell;

/// Fails the calling test with one line where this user is not root. `why` is what root is needed
/// for: `veth and XDP`.
///
/// # Panics
/// It unwinds without a message of the panic's own and without a backtrace, which would hide the
/// line.
pub fn need_root(why: &str) {
    if !geteuid().is_root() {
        let thread = std::thread::current();
        tell!("{} needs root for {why}: run it with sudo -E", thread.name().unwrap_or("this test"));
        std::panic::resume_unwind(Box::new("not root"));
    }
}
