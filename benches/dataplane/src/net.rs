//! Two namespaces and the veth pair between them, gone when the bench is.

use std::fs::File;
use std::process::Command;

use nix::sched::{CloneFlags, setns};

use crate::Failure;

/// `left` sends, `right` is measured.
pub struct Pair {
    names: [String; 2],
}

impl Pair {
    pub fn new(stage: &str) -> Result<Self, Failure> {
        let pair = Self { names: ["l", "r"].map(|side| format!("{stage}{side}")) };
        let [left, right] = &pair.names;
        for name in &pair.names {
            ip(&format!("netns add {name}"))?;
            let quiet = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6";
            command("ip", &["netns", "exec", name, "sh", "-c", quiet])?;
        }
        ip(&format!(
            "-n {left} link add left numtxqueues 1 numrxqueues 1 type veth peer name right numtxqueues 1 numrxqueues 1 netns {right}"
        ))?;
        ip(&format!("-n {left} link set left up"))?;
        ip(&format!("-n {right} link set right up"))?;
        Ok(pair)
    }

    /// Moves the calling thread to the sender's side, or to the other.
    pub fn enter(&self, right: bool) -> Result<(), Failure> {
        let namespace = File::open(format!("/run/netns/{}", self.names[usize::from(right)]))?;
        Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
    }

    /// The namespace of the side that is measured.
    pub fn right(&self) -> &str {
        &self.names[1]
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

fn ip(arguments: &str) -> Result<(), Failure> {
    command("ip", &arguments.split_whitespace().collect::<Vec<_>>())
}

fn command(program: &str, arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// Swaps the two MAC addresses of a frame.
pub fn swap_macs(frame: &mut [u8]) {
    if let Some((to, rest)) = frame.split_at_mut_checked(6)
        && let Some(from) = rest.get_mut(..6)
    {
        to.swap_with_slice(from);
    }
}
