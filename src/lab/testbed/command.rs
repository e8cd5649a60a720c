//! Commands of the system that the testbed runs: `ip`, `mount`, `umount`.

use std::process::{Command, Stdio};

/// An external command that could not be run, or ended with a failure.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` failed: {said}")]
pub struct CommandFailed {
    /// As it was called.
    pub command: String,
    /// What it printed on standard error.
    pub said: String,
}

/// Runs a command; gives what it printed.
///
/// # Errors
/// It could not be started, or ended without success.
pub fn command(program: &str, arguments: &[&str]) -> Result<String, CommandFailed> {
    let failed = |said: String| CommandFailed { command: format!("{program} {}", arguments.join(" ")), said };
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("{error}; scripts/setup.sh installs what is missing")))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
