//! Selects processors for pinned threads: cores of the network interfaces' NUMA nodes, one thread
//! of each.
//!
//! Two threads of a core share its first two caches and its execution units, which are what a
//! worker needs most, so only one of them is used. Processors of other nodes are farther from the
//! frames. CPU 0 comes last, because kernels leave most of their own work there.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::thread::{CpuSet, sched_getaffinity};

use super::interface::Interface;

const SYS: &str = "/sys";

/// Processors for the threads of an engine that other threads wait for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// One for each worker.
    pub workers: Vec<u16>,
    /// One for the control thread, if one is left beside one for everything else.
    pub control: Option<u16>,
}

/// Chooses processors for this number of workers on these interfaces; none if that would leave
/// nothing for the rest of the machine.
pub fn choose(interfaces: &[Interface], workers: usize) -> Option<Choice> {
    let sys = Path::new(SYS);
    let set = sched_getaffinity(None).ok()?;
    let ours: BTreeSet<_> = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).map(|cpu| cpu as u16).collect();
    let at = interfaces.iter().filter_map(Interface::bus_address);
    let nodes: BTreeSet<_> = at.filter_map(|at| node_of(sys, &at)).collect();
    choose_of(sys, &ours, &nodes, workers)
}

fn choose_of(sys: &Path, ours: &BTreeSet<u16>, nodes: &BTreeSet<u32>, workers: usize) -> Option<Choice> {
    let near = nodes.iter().flat_map(|node| read_list(&sys.join(format!("devices/system/node/node{node}/cpulist"))));
    let near: BTreeSet<_> = near.filter(|cpu| ours.contains(cpu)).collect();
    let mut taken = BTreeSet::new();
    let mut cores = Vec::new();
    // If the machine does not tell, or this process may use none of the near ones: all that it may
    // use.
    for &cpu in if near.is_empty() { ours } else { &near } {
        if taken.contains(&cpu) {
            continue;
        }
        let siblings = read_list(&sys.join(format!("devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")));
        cores.push((siblings.contains(&0) || cpu == 0, cpu));
        taken.extend(siblings);
    }
    cores.sort_unstable();
    let mut cores = cores.into_iter().map(|(_, cpu)| cpu);
    let chosen: Vec<_> = cores.by_ref().take(workers).collect();
    let far = !near.is_empty() && near.len() < ours.len();
    let left = cores.len() + usize::from(far);
    let control = if left > 1 { cores.next() } else { None };
    (chosen.len() == workers && left > 0).then_some(Choice { workers: chosen, control })
}

/// The NUMA node of the device at this address of a PCI bus.
fn node_of(sys: &Path, bus_address: &str) -> Option<u32> {
    let path = sys.join("bus/pci/devices").join(bus_address).join("numa_node");
    // A machine without nodes gives -1.
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Parses a list such as `0-3,8`; empty if it cannot be read.
fn read_list(path: &Path) -> BTreeSet<u16> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes of four cores with two threads each, numbered as Linux numbers them on such a
    /// machine: the second threads come last.
    fn machine() -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let write = |at: &str, text: &str| {
            let path = sys.path().join(at);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{text}\n")).unwrap();
        };
        write("devices/system/node/node0/cpulist", "0-3,8-11");
        write("devices/system/node/node1/cpulist", "4-7,12-15");
        for cpu in 0..16 {
            let (first, second) = (cpu % 8, cpu % 8 + 8);
            let at = format!("devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            write(&at, &format!("{first},{second}"));
        }
        write("bus/pci/devices/0000:81:00.0/numa_node", "1");
        write("bus/pci/devices/0000:00:03.0/numa_node", "-1");
        sys
    }

    fn all() -> BTreeSet<u16> {
        (0..16).collect()
    }

    #[test]
    fn cores_are_of_the_interfaces_node_and_no_two_of_one_core() {
        let sys = machine();
        let node = node_of(sys.path(), "0000:81:00.0").into_iter().collect();
        assert_eq!(node, BTreeSet::from([1]));
        let chosen = choose_of(sys.path(), &all(), &node, 3).unwrap();
        assert_eq!(chosen, Choice { workers: vec![4, 5, 6], control: Some(7) });
        // The rest of the machine has the other node, and this node has no core left for control.
        let chosen = choose_of(sys.path(), &all(), &node, 4).unwrap();
        assert_eq!(chosen, Choice { workers: vec![4, 5, 6, 7], control: None });
        assert_eq!(choose_of(sys.path(), &all(), &node, 5), None);
    }

    #[test]
    fn the_first_core_is_given_last() {
        let sys = machine();
        assert_eq!(node_of(sys.path(), "0000:00:03.0"), None);
        let chosen = choose_of(sys.path(), &all(), &[].into(), 6).unwrap();
        assert_eq!(chosen, Choice { workers: vec![1, 2, 3, 4, 5, 6], control: Some(7) });
        let chosen = choose_of(sys.path(), &all(), &[].into(), 7).unwrap();
        assert_eq!(chosen, Choice { workers: vec![1, 2, 3, 4, 5, 6, 7], control: None });
    }

    #[test]
    fn only_what_this_process_may_have_is_given_and_something_is_left() {
        let sys = machine();
        let ours = |cpus: &[u16]| cpus.iter().copied().collect::<BTreeSet<_>>();
        // The only two processors are threads of one core.
        assert_eq!(choose_of(sys.path(), &ours(&[1, 9]), &[].into(), 1), None);
        let chosen = choose_of(sys.path(), &ours(&[0, 9]), &[].into(), 1).unwrap();
        assert_eq!(chosen, Choice { workers: vec![9], control: None });
        // The node's processors are not available to this process.
        let chosen = choose_of(sys.path(), &ours(&[1, 2, 3]), &[1].into(), 1).unwrap();
        assert_eq!(chosen, Choice { workers: vec![1], control: Some(2) });
    }
}
