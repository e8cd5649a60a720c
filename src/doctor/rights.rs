//! The kernel, the caller's rights, and its supervisor.

use super::Finding;
use super::machine::{Machine, listed};

/// The first kernel in which a new process can map the rings of a socket that it was passed.
const REMAP: (u32, u32) = (6, 4);
/// The first systemd that keeps descriptors and restarts fast enough, as the unit requires.
const SYSTEMD_MIN: u32 = 250;

pub(super) fn examine(machine: &Machine<'_>) -> Vec<Finding> {
    vec![kernel(machine), types(machine), capabilities(machine), user(machine), systemd(machine)]
}

fn kernel(machine: &Machine<'_>) -> Finding {
    let release = &machine.asked.release;
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= REMAP {
        return Finding::ok("kernel", format!("Linux {release}: a new process maps the rings of a dead one"));
    }
    Finding::problem(
        "kernel",
        format!("Linux {release}"),
        "before 6.4 no other process can map an AF_XDP socket's rings: nothing would survive a death",
        "install a newer kernel",
    )
}

fn types(machine: &Machine<'_>) -> Finding {
    if machine.at("sys/kernel/btf/vmlinux").exists() {
        return Finding::ok("kernel types", "BTF is there");
    }
    Finding::problem(
        "kernel types",
        "/sys/kernel/btf/vmlinux is not there",
        "the steering program stamps arrival times by a function of the kernel's, which is found by its types",
        "run a kernel that was built with CONFIG_DEBUG_INFO_BTF",
    )
}

fn capabilities(machine: &Machine<'_>) -> Finding {
    let lacking = &machine.asked.lacking;
    if lacking.is_empty() {
        return Finding::ok("capabilities", "all that a keeper starts with; its engines have none");
    }
    Finding::problem(
        "capabilities",
        format!("the caller lacks {}", listed(lacking)),
        "sockets cannot be bound, or the steering program not attached",
        "run it as root, or by the systemd unit, which gives it these alone",
    )
}

fn user(machine: &Machine<'_>) -> Finding {
    match &machine.asked.user {
        None => Finding::ok("engine's user", "is there"),
        Some(why) => Finding::problem(
            "engine's user",
            why,
            "a keeper that is root does not start its engine as root",
            "add the user (scripts/systemd/baton.sysusers), or set runtime.user",
        ),
    }
}

fn systemd(machine: &Machine<'_>) -> Finding {
    if !machine.at("run/systemd/system").exists() {
        return Finding::note(
            "systemd",
            "does not run here",
            "another supervisor has to restart the keeper; only systemd also keeps its sockets meanwhile",
        );
    }
    let unit = [
        "etc/systemd/system/baton.service",
        "usr/lib/systemd/system/baton.service",
        "lib/systemd/system/baton.service",
    ];
    if !unit.iter().any(|path| machine.at(path).exists()) {
        return Finding::warning(
            "systemd",
            "runs, and has no unit baton.service",
            "a keeper that dies is not started again, and frames are lost until it is",
            "install scripts/systemd/baton.service (docs/operations.md)",
        );
    }
    Finding::ok("systemd", format!("has baton.service; it needs version {SYSTEMD_MIN} or newer: systemctl --version"))
}
