//! DPDK's testpmd, Debian's package: its AF_XDP driver in copy mode, one forwarding core.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::Run;
use crate::Failure;

pub fn run(run: &Run) -> Result<u64, Failure> {
    let forward = if run.mode.echoes() { "macswap" } else { "rxonly" };
    let mut testpmd = Testpmd::start(&run.namespace, forward)?;
    // It answers when it has set itself up.
    let mut taken = testpmd.received();
    if taken.is_some() {
        sleep(Duration::from_millis(100));
        run.begin();
    }
    while taken.is_some()
        && run.goes_on(|| {
            taken = testpmd.received();
            taken.unwrap_or_default()
        })
    {
        sleep(Duration::from_millis(1));
    }
    let received = testpmd.received();
    let complained = testpmd.end()?;
    received.ok_or_else(|| {
        let last: Vec<_> = complained.lines().rev().take(4).collect();
        format!("testpmd says no count of frames: {}", last.into_iter().rev().collect::<Vec<_>>().join(" | ")).into()
    })
}

struct Testpmd {
    child: Child,
    input: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Testpmd {
    fn start(namespace: &str, forward: &str) -> Result<Self, Failure> {
        let prefix = format!("--file-prefix=baton-{}", std::process::id());
        // What it says is to come at once, and not when it ends.
        let mut child = Command::new("stdbuf")
            .args(["--output=L", "ip", "netns", "exec", namespace, "dpdk-testpmd", "-l", "0,1"])
            .args(["--no-pci", "--no-huge", "-m", "512", &prefix, "--vdev", "net_af_xdp,iface=right", "--", "-i"])
            .arg(format!("--forward-mode={forward}"))
            .args(["--burst=64", "--rxd=2048", "--txd=2048", "--no-mlockall", "--total-num-mbufs=16384"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("testpmd (Debian's dpdk-dev): {error}"))?;
        let mut input = child.stdin.take().ok_or("it has an input")?;
        let said = BufReader::new(child.stdout.take().ok_or("it has an output")?).lines();
        // One that has ended says below why.
        let _ = input.write_all(b"start\n");
        Ok(Self { child, input, said })
    }

    /// What it has received, if it lives.
    fn received(&mut self) -> Option<u64> {
        self.input.write_all(b"show port stats 0\n").ok()?;
        for line in &mut self.said {
            if let Some((_, rest)) = line.ok()?.split_once("RX-packets:") {
                return rest.split_whitespace().next()?.parse().ok();
            }
        }
        None
    }

    /// Ends it; gives what it complained of.
    fn end(mut self) -> Result<String, Failure> {
        let _ = self.input.write_all(b"stop\nquit\n");
        drop(self.input);
        // A pipe that nobody reads would stop it.
        (&mut self.said).for_each(drop);
        let mut complained = String::new();
        self.child.stderr.take().ok_or("it has an output")?.read_to_string(&mut complained)?;
        self.child.wait()?;
        Ok(complained)
    }
}
