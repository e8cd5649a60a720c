//! xsk-rs, in a program of its own: it and Baton are bound to different versions of libbpf-sys.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use baton::sys::interface::Interface;

use super::Run;
use crate::Failure;
use crate::kernel::Kernel;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/xsk-rs/target/release/xsk-rs-peer");

pub fn run(run: &Run, interface: &Interface) -> Result<u64, Failure> {
    // It inherits this thread's namespace and core.
    let mut child = Command::new(PROGRAM)
        .args([if run.mode.echoes() { "echo" } else { "drop" }, &interface.name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{PROGRAM}: {error} (scripts/bench.sh dataplane builds it)"))?;
    let mut said = BufReader::new(child.stdout.take().ok_or("it has an output")?).lines();
    let mut number_of = |word: &str| -> Option<u64> { said.next()?.ok()?.strip_prefix(word)?.trim().parse().ok() };
    let received = number_of("socket").map(|number| -> Result<Option<u64>, Failure> {
        let mut kernel = Kernel::load()?;
        kernel.set_socket(descriptor_of(&child, number)?.as_fd())?;
        let _link = kernel.attach("redirect", interface.index)?;
        run.begin();
        while run.goes_on() {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(child.stdin.take());
        Ok(number_of("frames"))
    });
    drop(child.stdin.take());
    let mut complained = String::new();
    child.stderr.take().ok_or("it has an output")?.read_to_string(&mut complained)?;
    child.wait()?;
    received.transpose()?.flatten().ok_or_else(|| format!("xsk-rs: {}", complained.trim()).into())
}

/// A copy of a descriptor that a child has.
fn descriptor_of(child: &Child, number: u64) -> Result<OwnedFd, Failure> {
    let copy = |answer: libc::c_long| match answer {
        0.. => {
            // SAFETY: the call before has just made it, for us alone.
            Ok(unsafe { OwnedFd::from_raw_fd(answer as i32) })
        }
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: numbers alone are handed over, here and below.
    let process = copy(unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) })?;
    // SAFETY: as above.
    Ok(copy(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })?)
}
