//! Instructions, cache lines and allocations of an operation.
//!
//! A child does the operation a fixed number of times between two stops, and its parent steps it
//! from one to the other: each step is an instruction of the program's own (the kernel's are not
//! counted). What the stops themselves cost is measured the same way, and taken off. Then the child
//! does the operations again one by one, while the parent notes which memory each step touches
//! (`lines`), and a last time under an allocator that counts.
//!
//! Both run on one core: with two, each step would wake up the other core twice, which takes three
//! times as long as the step.

use std::env;
use std::process::{Command, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::Serialize;

use crate::Failure;
use crate::lines::{Lines, Watch};
use crate::stores::Kind;

/// How often the operation is done in one count.
pub const TIMES: u32 = 256;
/// The count of doing nothing.
pub const NOTHING: &str = "nothing";

/// Of one operation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Count {
    pub instructions: f64,
    /// None where operations cannot be told apart.
    pub lines: Option<Lines>,
    pub allocations: f64,
}

/// Names an update of a store, and a look-up.
pub fn update_of(kind: Kind) -> String {
    format!("update:{}", kind.name())
}

pub fn look_up_of(kind: Kind) -> String {
    format!("look-up:{}", kind.name())
}

/// Counts one operation, by name.
pub fn count(name: &str) -> Result<Count, Failure> {
    let (of_nothing, ..) = steps(NOTHING)?;
    let (of_all, lines, allocations) = steps(name)?;
    let each = |total: u64| total as f64 / f64::from(TIMES);
    Ok(Count { instructions: each(of_all.saturating_sub(of_nothing)), lines, allocations: each(allocations) })
}

fn steps(name: &str) -> Result<(u64, Option<Lines>, u64), Failure> {
    if let Some(core) = core_affinity::get_core_ids().unwrap_or_default().pop() {
        core_affinity::set_for_current(core);
    }
    let folder = tempfile::tempdir_in("/dev/shm")?;
    let mut command = Command::new(env::current_exe()?);
    command.args(["count", name]).arg(folder.path()).stdout(Stdio::piped());
    // A step into a repeated string instruction is a step for each byte; long copies are done by
    // other instructions then.
    let plain = "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000";
    let child = command.env("GLIBC_TUNABLES", plain).spawn()?;
    let pid = Pid::from_raw(child.id().try_into()?);
    let wait_for_stop = || match waitpid(pid, None)? {
        WaitStatus::Stopped(_, signal) => Ok(signal),
        other => Err(Failure::from(format!("{name} was to be counted, and ended: {other:?}"))),
    };
    while wait_for_stop()? != Signal::SIGSTOP {
        ptrace::cont(pid, None)?;
    }
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL)?;
    let mut steps = 0;
    let step = || -> Result<bool, Failure> {
        ptrace::step(pid, None)?;
        Ok(wait_for_stop()? != Signal::SIGSTOP)
    };
    while step()? {
        steps += 1;
    }
    let mut watch = Watch::new(pid)?;
    while {
        watch.note()?;
        step()?
    } {}
    ptrace::detach(pid, None)?;
    let output = child.wait_with_output()?;
    let allocations = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok((steps, watch.lines(), allocations))
}
