//! Clock, sleep states, cores, AES instructions.

use std::collections::BTreeSet;

use super::Finding;
use super::machine::{Machine, cpus, listed};

/// Microseconds: a core that takes longer to wake shows in latencies.
const WAKES_WITHIN_US: u64 = 20;

pub(super) fn examine(machine: &Machine<'_>) -> Vec<Finding> {
    vec![clock(machine), sleep(machine), frequency(machine), cores(machine), aes(machine)]
}

fn clock(machine: &Machine<'_>) -> Finding {
    let path = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    match machine.read(path).as_deref() {
        Some(source @ ("tsc" | "arch_sys_counter" | "kvm-clock" | "hyperv_clocksource_tsc_page")) => {
            Finding::ok("clock", format!("{source}: read without a system call"))
        }
        Some(source) => Finding::warning(
            "clock",
            format!("the clock source is {source}"),
            "each look at the clock is a system call, or a read of a slow device: a microsecond and more a burst",
            "see `dmesg | grep -i clocksource` for why tsc is not taken; tsc=reliable where it is known to be",
        ),
        None => Finding::note("clock", "the kernel does not say what its clock source is", ""),
    }
}

/// Tags are AES-128-CMAC.
fn aes(machine: &Machine<'_>) -> Finding {
    let told = machine.read("proc/cpuinfo").unwrap_or_default();
    let flags = told.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    match flags.map(|line| line.split_whitespace().any(|flag| flag == "aes")) {
        Some(true) if cfg!(target_arch = "x86_64") => Finding::ok("AES", "eight tags are made at a time"),
        Some(true) => Finding::note("AES", "tags are made one at a time: eight at a time are made on x86_64 alone", ""),
        Some(false) => Finding::warning(
            "AES",
            "the processor has no AES instructions",
            "tags are made in software, one at a time: each takes many times as long as all else that a report takes",
            "a processor with AES instructions, or let the virtual machine see its host's (`-cpu host`)",
        ),
        None => Finding::note("AES", "the kernel does not tell what the processor can", ""),
    }
}

fn sleep(machine: &Machine<'_>) -> Finding {
    let states = machine.list("sys/devices/system/cpu/cpu0/cpuidle");
    let slowest = states.iter().filter_map(|state| {
        let read = |what: &str| machine.read(&format!("sys/devices/system/cpu/cpu0/cpuidle/{state}/{what}"));
        let latency = read("latency")?.parse::<u64>().ok()?;
        (read("disable").as_deref() != Some("1")).then(|| (latency, read("name").unwrap_or_default()))
    });
    match slowest.max() {
        None => Finding::note("sleep states", "the kernel does not tell of any: a virtual machine, or idle=poll", ""),
        Some((latency, name)) if latency <= WAKES_WITHIN_US => {
            Finding::ok("sleep states", format!("the deepest, {name}, is left within {latency} µs"))
        }
        Some((latency, name)) => Finding::warning(
            "sleep states",
            format!("a core that sleeps in {name} takes {latency} µs to wake"),
            "a frame, or a standby's lock, waits that long where worker.wait is not \"busy\"",
            format!("cpupower idle-set -D {WAKES_WITHIN_US}, or the tuned profile network-latency"),
        ),
    }
}

fn frequency(machine: &Machine<'_>) -> Finding {
    let governors: BTreeSet<String> = machine
        .list("sys/devices/system/cpu/cpufreq")
        .iter()
        .filter_map(|policy| machine.read(&format!("sys/devices/system/cpu/cpufreq/{policy}/scaling_governor")))
        .collect();
    if governors.is_empty() {
        return Finding::note("frequency", "the kernel does not set it here", "");
    }
    if governors.iter().all(|governor| governor == "performance") {
        return Finding::ok("frequency", "performance");
    }
    Finding::warning(
        "frequency",
        format!("the governor is {}", listed(&governors)),
        "a core that was idle is slow for its first milliseconds",
        "cpupower frequency-set -g performance",
    )
}

fn cores(machine: &Machine<'_>) -> Finding {
    let wanted = &machine.needs.cores;
    if wanted.is_empty() {
        return if machine.needs.chosen {
            Finding::ok("cores", "chosen at the start, without other processes' threads")
        } else {
            Finding::warning(
                "cores",
                "workers are pinned nowhere",
                "the scheduler moves them about, away from their frames and their caches",
                "worker.cores = \"auto\", or the CPUs by number",
            )
        };
    }
    let there = machine.read("sys/devices/system/cpu/online").map(|list| cpus(&list)).unwrap_or_default();
    let missing: Vec<_> = wanted.difference(&there).collect();
    if !there.is_empty() && !missing.is_empty() {
        return Finding::warning(
            "cores",
            format!("there is no CPU {}", listed(missing)),
            "its worker runs where the scheduler puts it",
            format!("worker.cores of {}", listed(&there)),
        );
    }
    let twin = wanted.iter().find_map(|&cpu| {
        let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let siblings = cpus(&machine.read(&path)?);
        siblings.into_iter().find(|&other| other != cpu && wanted.contains(&other)).map(|other| (cpu, other))
    });
    if let Some((one, other)) = twin {
        return Finding::warning(
            "cores",
            format!("CPU {one} and CPU {other} are threads of one core"),
            "the two share their caches and their execution units: together they do hardly more than one",
            "worker.cores with one thread of each core, or \"auto\"",
        );
    }
    let isolated = machine.read("sys/devices/system/cpu/isolated").map(|list| cpus(&list)).unwrap_or_default();
    if wanted.is_subset(&isolated) {
        return Finding::ok("cores", format!("{}, isolated from the scheduler", listed(wanted)));
    }
    Finding::note(
        "cores",
        format!("{}, shared with other processes of the machine", listed(wanted)),
        "isolcpus= or a cpuset keeps others away",
    )
}
