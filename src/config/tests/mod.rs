//! A wrong value is reported with its place; a key that is left out has the documented default.

use std::path::Path;

use super::*;
use crate::limits::DOMAINS_MAX;

const LEAST: &str = "[interface]\nname = \"eth0\"\n[[domain]]\nnumber = 366\ninsecure_no_authentication = true\n";
const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("baton.toml"), text, &Overrides::default())
}

fn refusal(text: &str) -> String {
    parse(text).expect_err("it is wrong").to_string()
}

/// The text with a line inserted below the one that has `after`.
fn with(after: &str, line: &str) -> String {
    LEAST.replacen(after, &format!("{after}\n{line}"), 1)
}

#[test]
fn interface_and_domains_are_enough() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.interface.names, ["eth0"]);
    assert_eq!(config.domains.len(), 1);
    assert_eq!(config.dispatch.address.to_string(), "1/65535");
    assert_eq!(config.runtime.api_socket(), Path::new("/run/baton/api.sock"));
    assert_eq!(config.runtime.pin(), Path::new("/run/baton/bpf"));
    assert_eq!(config.database.snapshot(), Path::new("/var/lib/baton/baton.snapshot"));
}

#[test]
fn the_example_says_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("366.secret"), SECRET).unwrap();
    let file = folder.path().join("baton.toml");
    let said = Config::parse(&file, EXAMPLE, &Overrides::default()).unwrap();
    // With every commented key uncommented, except those that contradict others, it is the same
    // configuration.
    let others = [
        "secret",
        "insecure_no_authentication",
        "vlan",
        "mac",
        "interface",
        "label",
        "behind",
        "queues",
        "workers",
        "cores",
        "control_core",
        "probe_port",
        "source_rate",
    ];
    let own_places = ["api_socket", "pin", "folder"];
    let spoken: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")) {
            Some((key, value)) if !others.contains(&key) => format!("{key} = {value}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let mut spoken = Config::parse(&file, &spoken, &Overrides::default()).unwrap();
    for key in own_places {
        assert!(EXAMPLE.contains(key));
    }
    assert_eq!(spoken.runtime.api_socket(), said.runtime.api_socket());
    assert_eq!(spoken.runtime.pin(), said.runtime.pin());
    (spoken.runtime.api_socket, spoken.runtime.pin) = (None, None);
    assert_eq!(spoken.log_folder(), said.log_folder());
    spoken.telemetry.folder = None;
    assert_eq!(serde_json::to_value(&spoken).unwrap(), serde_json::to_value(&said).unwrap());
}

#[test]
fn every_key_of_the_example_is_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("366.secret"), SECRET).unwrap();
    for line in EXAMPLE.lines() {
        let Some((key, value)) = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")) else { continue };
        let mut text = EXAMPLE.replace(line, &format!("{key} = {value}"));
        if ["secret", "insecure_no_authentication"].contains(&key) {
            text = text.replace("secret_file = \"366.secret\"\n", "");
        }
        Config::parse(&folder.path().join("baton.toml"), &text, &Overrides::default())
            .unwrap_or_else(|error| panic!("{key}: {error}"));
    }
}

#[test]
fn the_manifest_brings_it_over_whole() {
    let text = with("number = 366", "mac = \"02:00:00:00:01:6e\"\nvlan = 7\nlabel = 16")
        .replace("insecure_no_authentication = true", &format!("secret = \"{SECRET}\""));
    let config = parse(&text).unwrap();
    let there = serde_json::to_string(&config).unwrap();
    let back: Config = serde_json::from_str(&there).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), there);
    assert_eq!(back.domains[0].secret, config.domains[0].secret);
    assert!(back.domains[0].secret.is_some());
}

#[test]
fn what_is_wrong_is_said_with_file_line_key_and_what_was_expected() {
    let domain = "[[domain]]\nnumber = 366\ninsecure_no_authentication = true\n";
    for (text, expected) in [
        (with("name = \"eth0\"", "queues = \"two\""), "baton.toml:3: `interface.queues`: invalid type: string \"two\""),
        (
            with("name = \"eth0\"", "queues = 0"),
            "baton.toml:3: `interface.queues`: invalid value: integer `0`, expected a whole number from 1 to 64",
        ),
        (with("name = \"eth0\"", "queues = -1"), "a whole number from 1 to 64"),
        (with("name = \"eth0\"", "transmit_ring = 1000"), "expected a power of two from 64 to 65536"),
        (with("name = \"eth0\"", "ethertype = 0x100"), "a whole number from 1536 to 65535"),
        (
            with("name = \"eth0\"", "quues = 1"),
            "baton.toml:3: `interface.quues`: unknown field `quues`, expected one of",
        ),
        (
            with("name = \"eth0\"", "queues = 2\nworkers = 3"),
            "`interface.workers`: 3 workers cannot serve 2 queues alike",
        ),
        (LEAST.replace("eth0", "a name too long for one"), "baton.toml:2: `interface.name`: invalid value"),
        (LEAST.replace("name = \"eth0\"", ""), "`interface.name`: missing"),
        (
            LEAST.replace("\"eth0\"", "[\"eth0\", \"eth1\", \"eth0\"]"),
            "baton.toml:2: `interface.name`: `eth0` is named twice",
        ),
        (LEAST.replace("\"eth0\"", "[]"), "baton.toml:2: `interface.name`: 0 interfaces: 1 to 8 are expected"),
        (
            LEAST.replace("\"eth0\"", "[\"eth0\", \"a b\"]"),
            "baton.toml:2: `interface.name`: invalid value: string \"a b\"",
        ),
        (LEAST.replace("\"eth0\"", "7"), "an interface's name such as \"eth0\", or a list of them"),
        (
            with("number = 366", "mac = \"02:00:00:00:00:02\"\ninterface = \"eth1\""),
            "baton.toml:6: `domain.interface`: `eth1` is none of the interfaces: eth0",
        ),
        (domain.into(), "baton.toml:1: `interface.name`: missing"),
        (LEAST.replace(domain, ""), "baton.toml:1: `domain`: missing: at least one [[domain]]"),
        (LEAST.replace("number = 366", ""), "missing field `number`"),
        (LEAST.replace("366", "0"), "baton.toml:4: `domain.number`: 0 is not a domain: 1 to 1099511627775"),
        (
            LEAST.replace("insecure_no_authentication = true", ""),
            "baton.toml:3: `domain.secret`: domain 366 has no secret",
        ),
        (
            with("number = 366", &format!("secret = \"{SECRET}\"")),
            "several of secret, secret_file and insecure_no_authentication",
        ),
        (
            with("number = 366", "mac = \"01:00:5e:00:00:01\""),
            "baton.toml:5: `domain.mac`: `01:00:5e:00:00:01` is no station's address",
        ),
        (with("number = 366", "mac = \"2:0\""), "is not an Ethernet address"),
        (with("number = 366", "vlan = 4095"), "a whole number from 1 to 4094"),
        (format!("{LEAST}{domain}"), "baton.toml:7: `domain.number`: domain 366 is named twice, first in line 4"),
        (
            format!("{LEAST}[dispatch]\naddress = \"366\"\n"),
            "baton.toml:7: `dispatch.address`: `366` is not an address",
        ),
        (format!("{LEAST}[dispatch]\naddress = \"366/0\"\n"), "0 is the domain's autonomous server"),
        (format!("{LEAST}[table]\nterminals = 0\n"), "baton.toml:7: `table.terminals`: invalid value"),
        (
            format!("{LEAST}[recovery]\norphans = \"kill\"\n"),
            "baton.toml:7: `recovery.orphans`: unknown variant `kill`, expected one of `leave`, `adopt`, `end`",
        ),
        (format!("{LEAST}[recovery]\nrto_min_ms = 0\n"), "a whole number from 1 to 3600000"),
        (format!("{LEAST}[no"), "baton.toml:6: "),
    ] {
        let said = refusal(&text);
        assert!(said.contains(expected), "{text}\n  says     {said}\n  expected {expected}");
        assert!(!said.contains('\n'), "one line: {said}");
    }
}

#[test]
fn a_secret_is_never_repeated() {
    let wrong = LEAST.replace("insecure_no_authentication = true", "secret = \"0badc0ffee\"");
    let said = refusal(&wrong);
    assert!(said.contains("64 hexadecimal digits") && !said.contains("c0ffee"), "{said}");
    let right = LEAST.replace("insecure_no_authentication = true", &format!("secret = \"{SECRET}\""));
    assert!(!format!("{:?}", parse(&right).unwrap()).contains("1b1c1d"));
}

#[test]
fn a_secret_may_lie_in_a_file_beside() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("baton.toml");
    let text = LEAST.replace("insecure_no_authentication = true", "secret_file = \"own\"");
    let bytes: [u8; 32] = std::array::from_fn(|n| n as u8);
    let forms: [&[u8]; 3] =
        [SECRET.as_bytes(), b"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F\n", &bytes];
    for form in forms {
        std::fs::write(folder.path().join("own"), form).unwrap();
        let config = Config::parse(&file, &text, &Overrides::default()).unwrap();
        assert_eq!(config.domains[0].secret.as_ref().unwrap().0, bytes);
    }
    std::fs::write(folder.path().join("own"), "short").unwrap();
    let said = Config::parse(&file, &text, &Overrides::default()).unwrap_err().to_string();
    assert!(said.contains("baton.toml:5: `domain.secret_file`") && said.contains("holds neither"), "{said}");
    std::fs::remove_file(folder.path().join("own")).unwrap();
    let said = Config::parse(&file, &text, &Overrides::default()).unwrap_err().to_string();
    assert!(said.contains("cannot read"), "{said}");
}

#[test]
fn the_command_line_overrides_and_is_checked() {
    let overrides =
        Overrides { interface: vec!["veth1".into(), "veth2".into()], meetings: Some(10), terminals: Some(20) };
    let without = LEAST.replace("[interface]\nname = \"eth0\"\n", "");
    let config = Config::parse(Path::new("baton.toml"), &without, &overrides).unwrap();
    assert_eq!(
        (config.interface.list().as_str(), config.table.meetings, config.table.terminals),
        ("veth1, veth2", 10, 20)
    );
    let wrong = Overrides { meetings: Some(0), ..Overrides::default() };
    let said = Config::parse(Path::new("baton.toml"), LEAST, &wrong).unwrap_err().to_string();
    assert!(said.starts_with("--meetings: 0 is not a whole number from 1 to"), "{said}");
    let wrong = Overrides { interface: vec!["a/b".into()], ..Overrides::default() };
    let said = Config::parse(Path::new("baton.toml"), LEAST, &wrong).unwrap_err().to_string();
    assert!(said.starts_with("--interface: `a/b` is not an interface's name"), "{said}");
}

/// The name of the key before 0.2, for one version more.
#[test]
fn the_old_name_of_insecure_no_authentication_is_understood() {
    let old = LEAST.replace("insecure_no_authentication", "laboratory");
    assert_eq!(parse(&old).unwrap().warnings(), parse(LEAST).unwrap().warnings());
}

#[test]
fn a_domain_without_authentication_is_warned_of() {
    assert!(parse(LEAST).unwrap().warnings()[0].starts_with("insecure: no authentication: domain 366 has no secret"));
    let safe = LEAST.replace("insecure_no_authentication = true", &format!("secret = \"{SECRET}\""));
    assert!(parse(&safe).unwrap().warnings().is_empty());
}

#[test]
fn more_domains_than_there_may_be_are_refused() {
    let mut text = String::from("[interface]\nname = \"eth0\"\n");
    for number in 1..=DOMAINS_MAX + 1 {
        text += &format!("[[domain]]\nnumber = {number}\ninsecure_no_authentication = true\n");
    }
    assert!(refusal(&text).contains("more than the 1024"));
}

#[test]
fn a_domain_is_behind_one_that_is_configured() {
    let config = parse(&with("number = 366", "behind = [2366, 1366]")).unwrap();
    let numbers: Vec<_> = config.domains[0].behind.iter().map(|domain| domain.number()).collect();
    assert_eq!(numbers, [1366, 2366]);
    let two = |first: &str, second: &str| {
        let text = with("number = 366", &format!("behind = {first}"));
        refusal(&format!("{text}[[domain]]\nnumber = 367\ninsecure_no_authentication = true\nbehind = {second}\n"))
    };
    for (first, second, line, what) in [
        ("[366]", "[]", 5, "domain 366 has its own section, so it cannot be behind another"),
        ("[367]", "[]", 5, "domain 367 has its own section, so it cannot be behind another"),
        ("[9]", "[8, 9]", 10, "domain 9 is behind domain 366 already: a domain is behind one, and named once"),
        ("[9, 9]", "[]", 5, "domain 9 is behind domain 366 already: a domain is behind one, and named once"),
    ] {
        assert_eq!(two(first, second), format!("baton.toml:{line}: `domain.behind`: {what}"));
    }
    assert!(two("[0]", "[]").starts_with("baton.toml:5: `domain.behind`: "), "{}", two("[0]", "[]"));
}

#[test]
fn workers_are_shared_out_alike() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.rings_per_queue(4).unwrap(), 1);
    let config = parse(&with("name = \"eth0\"", "workers = 4")).unwrap();
    assert_eq!(config.rings_per_queue(2).unwrap(), 2);
    let said = config.rings_per_queue(3).unwrap_err().to_string();
    assert!(said.contains("4 workers cannot serve the 3 queues of eth0"), "{said}");
}

#[test]
fn a_domain_is_at_the_interface_that_it_names() {
    let named = LEAST.replace("\"eth0\"", "[\"eth0\", \"eth1\"]");
    let at = |keys: &str| {
        parse(&named.replace("number = 366", &format!("number = 366\n{keys}"))).unwrap().domains[0].interface
    };
    assert_eq!(at("mac = \"02:00:00:00:00:02\"\ninterface = \"eth1\""), Some(1));
    assert_eq!(at("mac = \"02:00:00:00:00:02\""), None);
    let config = parse(&named).unwrap();
    let back: Config = serde_json::from_value(serde_json::to_value(&config).unwrap()).unwrap();
    assert_eq!(back.interface.names, ["eth0", "eth1"]);
}

#[test]
fn a_file_that_is_not_there_is_named_with_the_way_out() {
    let said = Config::read(Path::new("/nonexistent/baton.toml"), &Overrides::default()).unwrap_err().to_string();
    assert!(said.contains("/nonexistent/baton.toml") && said.contains("baton config example"), "{said}");
}

#[test]
fn cores_are_listed_or_left_to_be_chosen() {
    let cores = |value: &str| parse(&format!("{LEAST}[worker]\ncores = {value}\n")).map(|config| config.worker);
    assert_eq!(cores("[2, 3]").unwrap().pinned().collect::<Vec<_>>(), [2, 3]);
    let chosen = cores("\"auto\"").unwrap();
    assert_eq!((&chosen.cores, chosen.core(0)), (&Cores::Chosen(Auto::Auto), None));
    let kept: Worker = serde_json::from_value(serde_json::to_value(&chosen).unwrap()).unwrap();
    assert_eq!(kept.cores, chosen.cores);
    for wrong in ["\"all\"", "3", "[-1]"] {
        let refused = cores(wrong).unwrap_err().to_string();
        assert!(refused.contains("cores") || refused.contains("line"), "{refused}");
    }
    assert!(cores("\"all\"").unwrap_err().to_string().contains("a list of CPUs such as [2, 3], or \"auto\""));
}

#[test]
fn known_addresses_alone_are_taken_only_where_all_are_known() {
    let only = with("name = \"eth0\"", "known_macs_only = true");
    let refused = parse(&only).unwrap_err().to_string();
    assert!(refused.contains("domain 366 has no mac") && refused.contains("domain.mac"), "{refused}");
    let named = only.replace("number = 366", "number = 366\nmac = \"02:00:00:00:00:02\"");
    assert!(parse(&named).unwrap().interface.known_macs_only);
    let bounded = with("name = \"eth0\"", "source_rate = 1000");
    assert_eq!(parse(&bounded).unwrap().interface.source_rate.unwrap().get(), 1000);
    assert!(refusal(&bounded.replace("1000", "0")).contains("source_rate"));
}

#[test]
fn more_queues_than_workers_are_said_with_the_limit_and_what_to_do() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.rings_per_queue(64).unwrap(), 1);
    let error = config.rings_per_queue(128).unwrap_err().to_string();
    for part in ["eth0 with 128 receive queues", "at most 64 workers", "ethtool -L", "interface.queues"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn paths_that_cannot_be_are_refused_where_they_stand() {
    let long = format!("/run/{}", "x".repeat(120));
    let cases = [
        ("[table]\npath = \"\"\n", "7: `table.path`: an empty path"),
        ("[database]\npath = \"\"\n", "7: `database.path`: an empty path"),
        ("[runtime]\ndir = \"\"\n", "7: `runtime.dir`: an empty path"),
        ("[telemetry]\nkeep = 3\nfolder = \"\"\n", "8: `telemetry.folder`: an empty path"),
        ("[table]\npath = \"/\"\n", "7: `table.path`: / does not name a file"),
        (
            "[table]\npath = \"/var/lib/baton/baton.redb\"\n",
            "1: `database.path`: /var/lib/baton/baton.redb is the table already",
        ),
        (
            "[database]\npath = \"/dev/shm/baton/table\"\n",
            "7: `database.path`: /dev/shm/baton/table is the table already",
        ),
        ("[table]\npath = \"/var/lib/baton/baton.snapshot\"\n", "is the table already"),
        ("[runtime]\napi_socket = \"/var/lib/baton/baton.redb\"\n", "7: `runtime.api_socket`"),
        (&format!("[runtime]\ndir = \"{long}\"\n"), "7: `runtime.dir`: the API's socket"),
        (&format!("[runtime]\napi_socket = \"{long}\"\n"), "has a name of 125 bytes, and the kernel takes at most 107"),
        (
            "[recovery]\nrto_min_ms = 50\nrto_max_ms = 49\n",
            "6: `recovery.rto_min_ms`: the first wait of 50 ms is longer",
        ),
    ];
    for (section, what) in cases {
        let found = refusal(&format!("{LEAST}{section}"));
        assert!(found.contains(what), "{section}: {found}");
    }
}

#[test]
fn a_secret_that_everybody_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (file, secret) = (folder.path().join("baton.toml"), folder.path().join("366.secret"));
    std::fs::write(&secret, SECRET).unwrap();
    let warned = |text: &str, mode: u32| {
        std::fs::write(&file, text).unwrap();
        for path in [&file, &secret] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        Config::read(&file, &Overrides::default()).unwrap().warnings()
    };
    let beside = LEAST.replace("insecure_no_authentication = true", "secret_file = \"366.secret\"");
    assert_eq!(warned(&beside, 0o640), Vec::<String>::new());
    let [warning] = &warned(&beside, 0o644)[..] else { panic!("one warning") };
    assert!(warning.contains("366.secret") && warning.contains("0644") && warning.contains("chmod"), "{warning}");
    let inside = LEAST.replace("insecure_no_authentication = true", &format!("secret = \"{SECRET}\""));
    let [warning] = &warned(&inside, 0o604)[..] else { panic!("one warning") };
    assert!(warning.contains("baton.toml") && !warning.contains(SECRET), "{warning}");
}

#[test]
fn domains_without_a_secret_are_told_in_their_number() {
    let one = parse(LEAST).unwrap().warnings();
    assert!(one[0].contains("domain 366 has no secret") && one[0].contains("command its meetings"), "{one:?}");
    let two =
        parse(&format!("{LEAST}[[domain]]\nnumber = 367\ninsecure_no_authentication = true\n")).unwrap().warnings();
    assert!(two[0].contains("domains 366, 367 have no secret") && two[0].contains("command their meetings"), "{two:?}");
}
