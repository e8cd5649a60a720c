//! DPDK's testpmd, Debian's package: its AF_XDP driver in copy mode, one forwarding core.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use baton::lab::testbed::netns::Side;

use super::Run;
use crate::Failure;

/// It takes so long to set itself up, and a little.
const SET_UP: Duration = Duration::from_millis(2500);

pub fn run(run: &Run) -> Result<u64, Failure> {
    let forward = if run.mode.echoes() { "macswap" } else { "rxonly" };
    let prefix = format!("--file-prefix=baton-{}", std::process::id());
    let mut child = Command::new("ip")
        .args([
            "netns",
            "exec",
            run.pair.name(Side::Right),
            "dpdk-testpmd",
            "-l",
            "0,1",
            "--no-pci",
            "--no-huge",
            "-m",
            "512",
        ])
        .args([&prefix, "--vdev", "net_af_xdp,iface=right", "--", "-i"])
        .arg(format!("--forward-mode={forward}"))
        .args(["--burst=64", "--rxd=2048", "--txd=2048", "--no-mlockall", "--total-num-mbufs=16384"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("testpmd (Debian's dpdk-dev): {error}"))?;
    let mut input = child.stdin.take().ok_or("it has an input")?;
    sleep(SET_UP);
    // One that has ended says below why.
    let _ = input.write_all(b"start\n");
    sleep(Duration::from_millis(300));
    let ended = child.try_wait()?;
    if ended.is_none() {
        run.begin();
    }
    while ended.is_none() && run.goes_on() {
        sleep(Duration::from_millis(1));
    }
    let _ = input.write_all(b"stop\nquit\n");
    drop(input);
    let mut said = String::new();
    child.stdout.take().ok_or("it has an output")?.read_to_string(&mut said)?;
    let mut complained = String::new();
    child.stderr.take().ok_or("it has an output")?.read_to_string(&mut complained)?;
    child.wait()?;
    let received = said.lines().filter_map(|line| line.split_once("RX-packets:")).next();
    let received = received.and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    received.ok_or_else(|| {
        let last: Vec<_> = complained.lines().rev().take(4).collect();
        format!("testpmd says no count of frames: {}", last.into_iter().rev().collect::<Vec<_>>().join(" | ")).into()
    })
}
