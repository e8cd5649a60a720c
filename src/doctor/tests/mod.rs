//! Machines, as their kernels present them.

use super::*;
use std::fs;
use std::path::PathBuf;

struct Shown(tempfile::TempDir);

impl Shown {
    fn new(files: &[(&str, &str)]) -> Self {
        let shown = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            let path = shown.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        shown
    }

    fn find(&self, asked: &Asked, needs: &Needs, check: &str) -> (Level, String) {
        let all = examine(self.0.path(), asked, needs);
        let found = all.iter().find(|finding| finding.check == check);
        let found = found.unwrap_or_else(|| panic!("{check} in {all:?}"));
        let is_fine = found.level <= Level::Note;
        assert!(
            is_fine || !found.costs.is_empty() && !found.todo.is_empty(),
            "what it costs and what to do: {found:?}"
        );
        (found.level, format!("{} {} {}", found.is, found.costs, found.todo))
    }
}

fn nothing() -> Shown {
    Shown::new(&[])
}

fn asked() -> Asked {
    let interface = AskedInterface {
        name: "eth0".into(),
        driver: "igb".into(),
        queues: 4,
        running: true,
        ..AskedInterface::default()
    };
    Asked { release: "6.18.0".into(), interfaces: vec![Ok(interface)], ..Asked::default() }
}

#[test]
fn a_kernel_that_cannot_remap_is_a_problem() {
    let level = |release: &str| {
        let asked = Asked { release: release.into(), ..asked() };
        nothing().find(&asked, &Needs::default(), "kernel").0
    };
    assert_eq!(["6.4.0", "6.18.1-amd64", "7.3-rc1", "10.0"].map(level), [Level::Ok; 4]);
    assert_eq!(["6.3.13", "5.15.0-91-generic", "6", ""].map(level), [Level::Problem; 4]);
}

#[test]
fn what_the_start_would_end_with_is_a_problem_and_takes_the_place_of_what_seemed_well() {
    let obstacles = vec![("queues", "128 are too many".into()), ("steering", "another program is there".into())];
    let asked = Asked { obstacles, ..asked() };
    let (level, said) = nothing().find(&asked, &Needs::default(), "queues");
    assert!(level == Level::Problem && said.contains("128 are too many"), "{said}");
    assert_eq!(nothing().find(&asked, &Needs::default(), "steering").0, Level::Problem);
}

#[test]
fn a_processor_without_aes_costs_most_of_the_reports() {
    let of = |flags: &str| Shown::new(&[("proc/cpuinfo", flags)]).find(&asked(), &Needs::default(), "AES");
    assert!(of("processor\t: 0\nflags\t\t: fpu aes avx").0 <= Level::Note);
    let (level, said) = of("processor\t: 0\nflags\t\t: fpu vaes_not avx");
    assert!(level == Level::Warning && said.contains("no AES instructions"), "{said}");
    assert_eq!(nothing().find(&asked(), &Needs::default(), "AES").0, Level::Note);
}

#[test]
fn an_interface_that_is_down_unites_others_or_takes_tags_off_is_told() {
    let with = |interface: AskedInterface| Asked { interfaces: vec![Ok(interface)], ..asked() };
    let interface = || asked().interfaces.remove(0).unwrap();
    let level = |interface, check| nothing().find(&with(interface), &Needs::default(), check).0;
    assert_eq!(level(interface(), "state"), Level::Ok);
    assert_eq!(level(AskedInterface { running: false, ..interface() }, "state"), Level::Warning);
    let bond = AskedInterface { driver: "bonding".into(), unites: Some("bond"), ..interface() };
    assert_eq!(level(bond, "driver"), Level::Warning);
    let tagged = |strips_tags| AskedInterface { bears_tags: true, strips_tags, ..interface() };
    assert_eq!([Some(true), Some(false)].map(|strips| level(tagged(strips), "VLAN tags")), [Level::Note, Level::Ok]);
    let filtering = AskedInterface { filters_vlans: Some(true), ..tagged(Some(false)) };
    assert_eq!(level(filtering, "VLAN tags"), Level::Warning);
    let jumbo = AskedInterface { driver: "veth".into(), mtu: 9000, ..interface() };
    assert_eq!(level(jumbo, "driver"), Level::Note);
}

#[test]
fn a_database_that_cannot_be_written_is_a_problem_where_there_is_no_table() {
    let path = PathBuf::from("/var/lib/baton/baton.redb");
    let level = |table: PathBuf| {
        let place = Place { magic: 0xEF53, bytes: 1 << 40, free: 1 << 40, read_only: true, ..Place::default() };
        let asked = Asked { places: vec![(path.clone(), place)], ..asked() };
        let needs = Needs { database: Some(path.clone()), table: Some((table, 1)), ..Needs::default() };
        nothing().find(&asked, &needs, "database").0
    };
    assert_eq!(level("/nowhere/table".into()), Level::Problem);
    assert_eq!(level(std::env::current_exe().unwrap()), Level::Warning);
}

#[test]
fn what_the_caller_lacks_is_named() {
    let lacking = Asked { lacking: vec!["CAP_BPF", "CAP_NET_RAW"], ..asked() };
    let (level, said) = nothing().find(&lacking, &Needs::default(), "capabilities");
    assert!(level == Level::Problem && said.contains("CAP_BPF, CAP_NET_RAW"), "{said}");
    assert_eq!(nothing().find(&asked(), &Needs::default(), "capabilities").0, Level::Ok);
    let nobody = Asked { user: Some("there is no user `baton`".into()), ..asked() };
    assert_eq!(nothing().find(&nobody, &Needs::default(), "engine's user").0, Level::Problem);
    assert_eq!(nothing().find(&asked(), &Needs::default(), "kernel types").0, Level::Problem);
    let typed = Shown::new(&[("sys/kernel/btf/vmlinux", "")]);
    assert_eq!(typed.find(&asked(), &Needs::default(), "kernel types").0, Level::Ok);
}

#[test]
fn systemd_without_the_unit_is_worth_a_warning() {
    let level = |files: &[(&str, &str)]| Shown::new(files).find(&asked(), &Needs::default(), "systemd").0;
    assert_eq!(level(&[]), Level::Note);
    assert_eq!(level(&[("run/systemd/system/x", "")]), Level::Warning);
    assert_eq!(level(&[("run/systemd/system/x", ""), ("etc/systemd/system/baton.service", "")]), Level::Ok);
}

#[test]
fn zero_copy_is_only_for_drivers_that_have_it() {
    let level = |driver: &str, zero_copy| {
        let mut asked = asked();
        asked.interfaces = vec![Ok(AskedInterface { driver: driver.into(), ..AskedInterface::default() })];
        nothing().find(&asked, &Needs { zero_copy, ..Needs::default() }, "driver").0
    };
    assert_eq!([level("ice", true), level("ice", false)], [Level::Ok, Level::Note]);
    assert_eq!([level("veth", true), level("veth", false)], [Level::Problem, Level::Ok]);
    assert_eq!(level("e1000", false), Level::Warning);
}

#[test]
fn queues_that_nobody_serves_lose_frames() {
    let level = |queues| nothing().find(&asked(), &Needs { queues, ..Needs::default() }, "queues").0;
    assert_eq!([level(None), level(Some(4))], [Level::Ok; 2]);
    assert_eq!([level(Some(2)), level(Some(8))], [Level::Warning, Level::Problem]);
    let filters = |ntuple: Option<&str>| {
        let interface = AskedInterface { ntuple: ntuple.map(Into::into), ..AskedInterface::default() };
        let asked = Asked { interfaces: vec![Ok(interface)], ..asked() };
        nothing().find(&asked, &Needs::default(), "filters").0
    };
    assert_eq!([None, Some("off [fixed]")].map(filters), [Level::Note; 2]);
    assert_eq!([Some("on"), Some("off")].map(filters), [Level::Ok, Level::Warning]);
    let gone = Asked { interfaces: vec![Err("there is no interface `eth9` here".into())], ..asked() };
    assert_eq!(nothing().find(&gone, &Needs::default(), "interface").0, Level::Problem);
}

#[test]
fn interrupts_belong_on_the_workers_cores() {
    let mut files = vec![
        ("sys/bus/pci/devices/0000:01:00.0/msi_irqs/40", ""),
        ("sys/bus/pci/devices/0000:01:00.0/msi_irqs/41", ""),
        ("proc/irq/40/effective_affinity_list", "2"),
        ("proc/irq/41/effective_affinity_list", "3"),
        ("proc/77/comm", "sshd"),
    ];
    let mut asked = asked();
    let Ok(interface) = &mut asked.interfaces[0] else { panic!("it is there") };
    interface.bus_address = Some("0000:01:00.0".into());
    let needs = |cores: &[u16]| Needs { cores: cores.iter().copied().collect(), ..Needs::default() };
    let shown = Shown::new(&files);
    assert_eq!(shown.find(&asked, &needs(&[2, 3]), "interrupts").0, Level::Ok);
    let (level, said) = shown.find(&asked, &needs(&[4, 5]), "interrupts");
    assert!(level == Level::Warning && said.contains("go to CPU 2, 3; workers run on 4, 5"), "{said}");
    files.push(("proc/78/comm", "irqbalance"));
    assert_eq!(Shown::new(&files).find(&asked, &needs(&[2, 3]), "interrupts").0, Level::Warning);
}

#[test]
fn memory_that_is_too_little_is_counted_in_pages() {
    let pages = |nr: &str, free: &str| {
        let at = "sys/kernel/mm/hugepages/hugepages-2048kB";
        Shown::new(&[(&format!("{at}/nr_hugepages"), nr), (&format!("{at}/free_hugepages"), free)])
    };
    let table = PathBuf::from("/dev/hugepages/table");
    let needs = Needs { umem: 12 << 20, huge_pages: true, table: Some((table.clone(), 100 << 20)), ..Needs::default() };
    let huge = Place { magic: 0x9584_58f6, ..Place::default() };
    let asked = Asked { places: vec![(table.clone(), huge)], memlock: Some(8 << 20), ..asked() };
    assert_eq!(pages("60", "56").find(&asked, &needs, "huge pages").0, Level::Ok);
    let (level, said) = pages("60", "52").find(&asked, &needs, "huge pages");
    assert!(level == Level::Warning && said.contains("56 are wanted") && said.contains("echo 64"), "{said}");
    // The frames' memory can do without huge pages; a table on hugetlbfs cannot.
    let (level, said) = pages("60", "10").find(&asked, &needs, "huge pages");
    assert!(level == Level::Problem && said.contains("no room for it") && said.contains("echo 106"), "{said}");
    let there = Place { used: 100 << 20, ..huge };
    let kept = Asked { places: vec![(table.clone(), there)], ..asked.clone() };
    assert_eq!(pages("60", "6").find(&kept, &needs, "huge pages").0, Level::Ok);
    assert_eq!(nothing().find(&asked, &needs, "locked memory").0, Level::Warning);
    let beyond = Asked { beyond_limits: true, ..asked.clone() };
    assert_eq!(nothing().find(&beyond, &needs, "locked memory").0, Level::Ok);

    let on = |magic, free| {
        let place = Place { magic, bytes: 1 << 40, free, ..Place::default() };
        let asked = Asked { places: vec![(table.clone(), place)], ..asked.clone() };
        nothing().find(&asked, &needs, "table").0
    };
    assert_eq!([on(0x0102_1994, 1 << 30), on(0x9584_58f6, 0)], [Level::Ok; 2]);
    assert_eq!([on(0x0102_1994, 1 << 20), on(0xEF53, 1 << 40)], [Level::Problem, Level::Warning]);
    let nowhere = Asked { places: Vec::new(), ..asked.clone() };
    assert_eq!(nothing().find(&nowhere, &needs, "table").0, Level::Problem);
}

#[test]
fn a_database_in_memory_outlives_no_reboot() {
    let path = PathBuf::from("/var/lib/baton/baton.redb");
    let level = |magic, free| {
        let place = Place { magic, bytes: 1 << 40, free, ..Place::default() };
        let asked = Asked { places: vec![(path.clone(), place)], ..asked() };
        nothing().find(&asked, &Needs { database: Some(path.clone()), ..Needs::default() }, "database").0
    };
    assert_eq!(level(0xEF53, 1 << 40), Level::Ok);
    assert_eq!([level(0xEF53, 1 << 20), level(0x0102_1994, 1 << 40)], [Level::Warning; 2]);
}

#[test]
fn what_makes_a_core_slow_is_named() {
    let clock = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    let level = |files: &[(&str, &str)], check| Shown::new(files).find(&asked(), &Needs::default(), check).0;
    assert_eq!([level(&[(clock, "tsc")], "clock"), level(&[(clock, "hpet")], "clock")], [Level::Ok, Level::Warning]);
    let idle = |latency: &str, disabled: &str| {
        let at = "sys/devices/system/cpu/cpu0/cpuidle/state2";
        let files = [("name", "C6"), ("latency", latency), ("disable", disabled)];
        let files = files.map(|(name, text)| (format!("{at}/{name}"), text));
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        level(&files, "sleep states")
    };
    assert_eq!([idle("2", "0"), idle("133", "0"), idle("133", "1")], [Level::Ok, Level::Warning, Level::Note]);
    let governor = "sys/devices/system/cpu/cpufreq/policy0/scaling_governor";
    let governed = |by| level(&[(governor, by)], "frequency");
    assert_eq!([governed("performance"), governed("powersave")], [Level::Ok, Level::Warning]);
    assert_eq!(level(&[], "frequency"), Level::Note);
}

#[test]
fn workers_want_cores_of_their_own() {
    let files = [
        ("sys/devices/system/cpu/online", "0-7"),
        ("sys/devices/system/cpu/isolated", "2-3"),
        ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2,6"),
        ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "3,7"),
    ];
    let level = |cores: &[u16], chosen| {
        let needs = Needs { cores: cores.iter().copied().collect(), chosen, ..Needs::default() };
        Shown::new(&files).find(&asked(), &needs, "cores").0
    };
    assert_eq!([level(&[], true), level(&[2, 3], false)], [Level::Ok; 2]);
    assert_eq!(level(&[4, 5], false), Level::Note);
    assert_eq!([level(&[], false), level(&[2, 6], false), level(&[2, 9], false)], [Level::Warning; 3]);
}
