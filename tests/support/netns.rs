//! Network namespaces of a test's own, joined by a veth pair, gone when the test is.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Two namespaces, and in each one end of a veth pair: `left` and `right`.
pub struct Pair {
    names: [String; 2],
}

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Left,
    Right,
}

impl Side {
    /// The name of the interface there.
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

impl Pair {
    /// Both ends up, with this many queues. Nothing but the test sends there: IPv6 is off.
    pub fn new(queues: u32) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let names = ["l", "r"].map(|side| format!("baton-t{}-{number}{side}", id()));
        let pair = Self { names };
        let [left, right] = &pair.names;
        for name in &pair.names {
            ip(&format!("netns add {name}"));
            let quiet = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6";
            run("nsenter", &[&format!("--net=/run/netns/{name}"), "sh", "-c", quiet]);
        }
        let queues = format!("numtxqueues {queues} numrxqueues {queues}");
        ip(&format!("-n {left} link add left {queues} type veth peer name right {queues} netns {right}"));
        for (name, interface) in [(left, "left"), (right, "right")] {
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} link set {interface} up"));
        }
        pair
    }

    /// Joins the two by a second veth pair, `left2` and `right2`.
    #[allow(dead_code, reason = "most tests have enough with one")]
    pub fn join_again(&self) {
        let right = self.name(Side::Right);
        self.ip(Side::Left, &format!("link add left2 type veth peer name right2 netns {right}"));
        self.ip(Side::Left, "link set left2 up");
        self.ip(Side::Right, "link set right2 up");
    }

    /// Where the namespace of a side can be opened.
    pub fn path(&self, side: Side) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.names[side as usize])
    }

    /// The name of the namespace of a side.
    pub fn name(&self, side: Side) -> &str {
        &self.names[side as usize]
    }

    /// Runs `ip` on a side.
    pub fn ip(&self, side: Side, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.names[side as usize]));
    }

    /// Does something in the namespace of a side. Sockets that are made there stay there.
    pub fn on<R: Send>(&self, side: Side, work: impl FnOnce() -> R + Send) -> R {
        let namespace = File::open(self.path(side)).unwrap();
        thread::scope(|scope| {
            // A thread of its own: it never comes back from there.
            let there = scope.spawn(move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

fn ip(arguments: &str) {
    run("ip", &arguments.split_whitespace().collect::<Vec<_>>());
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said} (this test needs root and iproute2)");
}
