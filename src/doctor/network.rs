//! The interface: its driver, its queues, its interrupts.

use std::collections::BTreeSet;

use super::Finding;
use super::machine::{AskedInterface, Machine, cpus, listed};

/// Drivers with native XDP and zero copy, by the kernel's sources.
const ZERO_COPY: [&str; 11] =
    ["ixgbe", "i40e", "ice", "igb", "igc", "mlx5_core", "stmmac", "st_gmac", "virtio_net", "gve", "idpf"];
/// Drivers with native XDP that copy frames.
const NATIVE: [&str; 14] = [
    "veth",
    "tun",
    "ena",
    "bnxt_en",
    "ixgbevf",
    "mlx4_en",
    "mvneta",
    "mvpp2",
    "netsec",
    "nfp",
    "qede",
    "sfc",
    "hv_netvsc",
    "thunder-nicvf",
];

/// Drivers accept a native program only if a packet fits one page together with its headroom.
const NATIVE_MTU: u32 = 3400;

pub(super) fn examine(machine: &Machine<'_>) -> Vec<Finding> {
    let interfaces = &machine.asked.interfaces;
    if interfaces.is_empty() {
        return vec![Finding::note("interface", "none was named", "name one with --interface, or a configuration")];
    }
    let of_one = |interface: &Result<AskedInterface, String>| match interface {
        Err(why) => vec![Finding::problem(
            "interface",
            why,
            "there is nothing to receive frames by",
            "set interface.name to one of `ip link`",
        )],
        Ok(interface) => {
            let mut all = vec![
                state(interface),
                driver(machine, interface),
                queues(machine, interface),
                filters(interface),
                interrupts(machine, interface),
            ];
            all.extend(tags(interface));
            all
        }
    };
    interfaces.iter().flat_map(of_one).collect()
}

fn state(interface: &AskedInterface) -> Finding {
    let name = &interface.name;
    if interface.running {
        return Finding::ok("state", format!("{name} is up and has a carrier"));
    }
    Finding::warning(
        "state",
        format!("{name} is down, or has no carrier"),
        "no frames come; Baton starts all the same, and goes on when it is up",
        format!("ip link set {name} up, and see to the cable or the other end"),
    )
}

/// Of an interface at which a domain with a `vlan` may be.
fn tags(interface: &AskedInterface) -> Option<Finding> {
    let name = &interface.name;
    if !interface.bears_tags {
        return None;
    }
    if interface.filters_vlans == Some(true) {
        return Some(Finding::warning(
            "VLAN tags",
            format!("{name} drops frames of VLANs that are not set up on it (rx-vlan-filter)"),
            "no frame of a domain with a `vlan` arrives, unless the host has an interface of that VLAN there",
            format!(
                "ip link add link {name} type vlan id N for each; or ethtool -K {name} rx-vlan-filter off, if it can"
            ),
        ));
    }
    Some(match (interface.unites, interface.strips_tags) {
        (Some(kind), _) => Finding::note(
            "VLAN tags",
            format!("{name} is a {kind}: frames come from it without their tags, whichever way it is set"),
            "",
        ),
        (None, Some(true)) => Finding::note(
            "VLAN tags",
            format!("{name} takes them off (rx-vlan-offload); the start has it leave them on"),
            format!("scripts/tune-nic.sh -i {name} does so ahead, so that the start resets no link"),
        ),
        (None, Some(false)) => Finding::ok("VLAN tags", format!("{name} leaves them on")),
        (None, None) => Finding::note("VLAN tags", format!("{name} does not tell whether it takes them off"), ""),
    })
}

fn driver(machine: &Machine<'_>, interface: &AskedInterface) -> Finding {
    let AskedInterface { name, driver, .. } = interface;
    let wants = machine.needs.zero_copy;
    if let Some(kind) = interface.unites {
        return Finding::warning(
            "driver",
            format!("{name} is a {kind}: it is steered in generic mode"),
            "about a third of the rate; a native program would run in its members, and lose all frames",
            "serve its members instead (interface.name takes several), each with a MAC address of its own",
        );
    }
    if ZERO_COPY.contains(&driver.as_str()) {
        let is = format!("{name}: {driver}, native XDP, zero copy");
        return if wants {
            Finding::ok("driver", is)
        } else {
            Finding::note(
                "driver",
                is,
                "try interface.zero_copy = true; needs a recent kernel, and start tells whether it is granted",
            )
        };
    }
    if NATIVE.contains(&driver.as_str()) {
        let is = format!("{name}: {driver}, native XDP, copies");
        return if wants {
            Finding::problem(
                "driver",
                is,
                "interface.zero_copy is set, and the start will fail",
                "leave interface.zero_copy out",
            )
        } else if interface.mtu > NATIVE_MTU {
            Finding::note(
                "driver",
                format!(
                    "{name}: {driver}, native XDP, but with an MTU of {} perhaps in generic mode alone",
                    interface.mtu
                ),
                "the start says which it is, and the driver's reason; V2V frames are 1,082 bytes long at most",
            )
        } else {
            Finding::ok("driver", is)
        };
    }
    let what = if driver.is_empty() { "its driver does not tell its name".into() } else { format!("driver {driver}") };
    Finding::warning(
        "driver",
        format!("{name}: {what}, which is not known to have native XDP"),
        "without native XDP, frames take the kernel's generic path: about a third of the rate",
        "`baton status --json` says by `mode` which it is, once it runs",
    )
}

fn queues(machine: &Machine<'_>, interface: &AskedInterface) -> Finding {
    let (has, wants) = (interface.queues, machine.needs.queues);
    match wants {
        Some(wants) if wants > has => Finding::problem(
            "queues",
            format!("{} has {has} receive queues, interface.queues is {wants}", interface.name),
            "the start will fail",
            format!("scripts/tune-nic.sh -i {} -q {wants}, or another interface.queues", interface.name),
        ),
        Some(wants) if wants < has => Finding::warning(
            "queues",
            format!("{} spreads frames over {has} receive queues, interface.queues is {wants}", interface.name),
            "V2V frames that come to the other queues pass to the kernel, and are lost to Baton",
            format!("scripts/tune-nic.sh -i {} -q {wants}", interface.name),
        ),
        _ => Finding::ok("queues", format!("{} has {has}, all of them served", interface.name)),
    }
}

fn filters(interface: &AskedInterface) -> Finding {
    let name = &interface.name;
    match interface.ntuple.as_deref() {
        None => Finding::note("filters", "ethtool is not installed", "apt-get install ethtool, to see and set filters"),
        Some(text) if text.contains("on") => {
            Finding::ok("filters", format!("{name} has ntuple filters: frames can be sent to a queue by their MAC"))
        }
        Some(text) if text.contains("[fixed]") => Finding::note(
            "filters",
            format!("{name}: the driver has no ntuple filters"),
            "V2V is no IP: by RSS all of it comes to one queue. Several workers share that one (interface.workers)",
        ),
        Some(_) => Finding::warning(
            "filters",
            format!("{name}: ntuple filters are off"),
            "V2V is no IP: by RSS all of it comes to one queue, and its core",
            "scripts/tune-nic.sh sets one for each MAC address",
        ),
    }
}

/// Each interrupt of the interface, with its CPUs.
fn interrupts(machine: &Machine<'_>, interface: &AskedInterface) -> Finding {
    let numbers: BTreeSet<String> = match &interface.bus_address {
        Some(at) => machine.list(&format!("sys/bus/pci/devices/{at}/msi_irqs")).into_iter().collect(),
        None => BTreeSet::new(),
    };
    if numbers.is_empty() {
        return Finding::note("interrupts", format!("{} has none of its own", interface.name), "");
    }
    let balanced = machine.list("proc").iter().any(|process| {
        process.bytes().all(|byte| byte.is_ascii_digit())
            && machine.read(&format!("proc/{process}/comm")).is_some_and(|name| name == "irqbalance")
    });
    let mut to = BTreeSet::new();
    for number in &numbers {
        let list = machine.read(&format!("proc/irq/{number}/effective_affinity_list"));
        to.extend(list.map(|list| cpus(&list)).unwrap_or_default());
    }
    let workers = &machine.needs.cores;
    let is = format!("{} of {} go to CPU {}", numbers.len(), interface.name, listed(&to));
    if balanced {
        return Finding::warning(
            "interrupts",
            format!("{is}, and irqbalance moves them about"),
            "a worker's core is interrupted for others' frames, and its own come from far",
            format!("scripts/tune-nic.sh -i {}, which keeps irqbalance away from them", interface.name),
        );
    }
    if !workers.is_empty() && !to.is_subset(workers) {
        return Finding::warning(
            "interrupts",
            format!("{is}; workers run on {}", listed(workers)),
            "the kernel receives on one core what a worker reads on another: its cache is cold for every frame",
            format!("scripts/tune-nic.sh -i {}, with worker.cores the CPUs that it names", interface.name),
        );
    }
    Finding::ok("interrupts", is)
}
