//! What else the machine does waits while frames are sent: generator and contestants have real-time
//! priority then, all alike. In between they have none, so that the kernel does not have to take
//! the cores from them, as it does for a twentieth of a second where somebody has waited for a
//! second (`sched_rt_runtime_us`, since 6.12 the fair server of `kernel/sched/deadline.c`).

use std::fs;
use std::io;

/// Above this process, and those that it started, is nothing, until it is dropped.
pub struct Priority(());

impl Priority {
    /// Where it is not permitted, they go without.
    pub fn raise() -> Self {
        let _ = set_all(libc::SCHED_FIFO, 1);
        Self(())
    }

    /// Whether it is permitted.
    pub fn is_permitted() -> bool {
        let permitted = set_all(libc::SCHED_FIFO, 1).is_ok();
        let _ = set_all(libc::SCHED_OTHER, 0);
        permitted
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        let _ = set_all(libc::SCHED_OTHER, 0);
    }
}

fn set_all(policy: i32, priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    let mut left = vec!["self".to_owned()];
    while let Some(process) = left.pop() {
        for thread in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            left.extend(children.split_whitespace().map(str::to_owned));
            let Some(Ok(number)) = thread.file_name().to_str().map(str::parse) else { continue };
            // SAFETY: the parameters live through the call.
            if unsafe { libc::sched_setscheduler(number, policy, &raw const parameters) } != 0 {
                let error = io::Error::last_os_error();
                // A thread may have ended since.
                if error.raw_os_error() != Some(libc::ESRCH) {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}
