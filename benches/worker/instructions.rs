//! Instructions in user space, counted by callgrind: the program runs itself under valgrind. That
//! needs no performance counter, of which a virtual machine has none, and gives the same number
//! each time. valgrind knows no AVX-512, so tags are worked out with AVX2 in it, where the
//! processor itself may need fewer instructions.

use std::error::Error;
use std::process::{Command, Stdio};

/// The part of a program that is counted: what `work` executes.
#[inline(never)]
pub fn counted_by_callgrind(work: &mut dyn FnMut()) {
    work();
}

/// Runs this program with these arguments, and gives how many instructions it executed in
/// [`counted_by_callgrind`]. `out` keeps the profile, for callgrind_annotate.
pub fn count(arguments: &[&str], out: &str) -> Result<u64, Box<dyn Error>> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--toggle-collect=*counted_by_callgrind*"]);
    command.arg(format!("--callgrind-out-file={out}")).arg(std::env::current_exe()?).args(arguments);
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        format!("valgrind counts the instructions, and cannot be started: {error}; sudo apt-get install valgrind")
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("the program whose instructions are counted ended with {}: {said}", output.status).into());
    }
    let collected =
        said.lines().find_map(|line| line.split_once("Collected :")).and_then(|(_, n)| n.trim().parse().ok());
    collected.ok_or_else(|| format!("callgrind does not say what it counted: {said}").into())
}
