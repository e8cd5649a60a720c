//! The keeper, with real processes really killed: every test runs `baton run` on a veth of its own.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::netns::{Pair, Side, veth_pair};
use support::server::{Place, Server, gone, kill};

const PATIENCE: Duration = Duration::from_secs(30);

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not in time");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The line of `/proc/<id>/status` with this name.
fn status(id: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim().to_owned()
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect("util-linux");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Starts a server, and waits until it has a standby: returns it with the engine that controls and
/// the one that stands by.
fn with_standby(pair: &Pair, place: &Place) -> (Server, u32, u32) {
    let mut server = Server::start(pair, Side::Left, &place.configure("left", ""), &[]);
    let engine = server.engine();
    let standby = server.standby();
    (server, engine, standby)
}

#[test]
fn an_engine_that_is_killed_is_followed_by_its_standby() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, mut engine, mut standby) = with_standby(&pair, &place);
    for _ in 0..3 {
        // Long enough in control for its death to count as an accident.
        thread::sleep(Duration::from_millis(300));
        kill(engine, Signal::KILL);
        assert_eq!(server.engine(), standby, "the standby itself reports this");
        if !server.heard.contains(&format!("engine {engine} killed (SIGKILL)")) {
            server.line_with(&format!("engine {engine} killed (SIGKILL); its standby, engine {standby}, took over"));
        }
        (engine, standby) = (standby, server.standby());
    }
}

#[test]
fn a_standby_that_dies_is_replaced_and_the_engine_goes_on() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, standby) = with_standby(&pair, &place);
    kill(standby, Signal::KILL);
    let said = server.line_with("the engine goes on without one");
    assert!(said.contains(&format!("engine {standby}")), "{said}");
    assert_ne!(server.standby(), standby);
    assert!(server.children().contains(&engine));
}

#[test]
fn engine_and_standby_killed_together_are_followed_by_a_new_engine() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, standby) = with_standby(&pair, &place);
    thread::sleep(Duration::from_millis(300));
    kill(standby, Signal::KILL);
    kill(engine, Signal::KILL);
    let successor = server.engine();
    assert!(successor != engine && successor != standby);
    server.standby();
}

/// The keeper took it for the successor, and gave it two seconds to become that.
#[test]
fn a_standby_that_does_not_stand_by_yet_is_not_waited_for() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, standby) = with_standby(&pair, &place);
    thread::sleep(Duration::from_millis(300));
    // Between the next standby's start and its message there is time to stop it.
    kill(standby, Signal::KILL);
    let late = loop {
        // Not before it executes the program: until then its starter waits for it.
        let executes =
            |id: u32| fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.contains("engine"));
        let next = server.children().into_iter().find(|&id| id != engine && id != standby && executes(id));
        if let Some(next) = next {
            break next;
        }
        thread::sleep(Duration::from_micros(200));
    };
    kill(late, Signal::STOP);
    kill(engine, Signal::KILL);
    let successor = server.engine();
    assert!(successor != late, "{}", server.heard);
    assert!(!server.heard.contains("has not taken over in time"), "{}", server.heard);
    gone(late);
}

/// Ordered to stop between its engine's death and its takeover, it discarded the order.
#[test]
fn a_standby_that_is_to_stop_as_it_takes_over_stops() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, standby) = with_standby(&pair, &place);
    kill(standby, Signal::STOP);
    // When it continues, it reads its orders before it looks at the locks.
    for task in fs::read_dir(format!("/proc/{standby}/task")).unwrap() {
        let task = task.unwrap();
        let id = task.file_name().into_string().unwrap();
        run("taskset", &["-cp", "0", &id]);
        if fs::read_to_string(task.path().join("comm")).unwrap().trim() == "keeper's line" {
            run("chrt", &["-r", "-p", "10", &id]);
        }
    }
    kill(engine, Signal::KILL);
    server.line_with(&format!("its standby, engine {standby}, took over"));
    server.signal(Signal::TERM);
    server.line_with("stopping");
    kill(standby, Signal::CONT);
    assert_eq!(server.code(), 0, "{}", server.heard);
    assert!(server.heard.contains("snapshot written"), "{}", server.heard);
    assert!(!server.heard.contains("without a snapshot"), "{}", server.heard);
}

/// It controlled already, but the keeper ended it like a standby: nobody wrote a snapshot.
#[test]
fn a_standby_that_took_over_unheard_is_stopped_in_order() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, standby) = with_standby(&pair, &place);
    server.signal(Signal::STOP);
    kill(engine, Signal::KILL);
    let socket = place.path("run/api.sock");
    wait_until("the standby controls", || {
        let mut status = Command::new(env!("CARGO_BIN_EXE_baton"));
        let said = status.args(["status", "--json", "--socket"]).arg(&socket).output().unwrap().stdout;
        serde_json::from_slice::<serde_json::Value>(&said).is_ok_and(|status| status["pid"] == standby)
    });
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    assert_eq!(server.code(), 0, "{}", server.heard);
    assert!(server.heard.contains("snapshot written"), "{}", server.heard);
    gone(standby);
}

#[test]
fn a_standby_of_a_server_that_stops_does_not_follow() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, engine, standby) = with_standby(&pair, &place);
    server.signal(Signal::TERM);
    assert_eq!(server.code(), 0, "{}", server.heard);
    [engine, standby].into_iter().for_each(gone);
    assert_eq!(server.heard.matches(" controls").count(), 1, "{}", server.heard);
}

#[test]
fn a_log_that_nobody_reads_costs_no_engine() {
    let (pair, place) = (veth_pair(1), Place::new());
    let (mut server, ..) = with_standby(&pair, &place);
    server.stop_listening();
    for _ in 0..3 {
        let mut killed = 0;
        // A standby that is not ready when its engine dies is ended too: the first engine may be
        // gone by now.
        wait_until("an engine beside a standby is killed", || {
            let [engine, _] = server.children()[..] else { return false };
            killed = engine;
            kill_process(Pid::from_raw(engine as i32).unwrap(), Signal::KILL).is_ok()
        });
        wait_until("the keeper replaces it", || !server.children().contains(&killed));
    }
    wait_until("an engine controls and another stands by", || server.children().len() == 2);
}

#[test]
fn an_engine_has_no_privileges() {
    let (pair, place) = (veth_pair(1), Place::new());
    let mut server = Server::start(&pair, Side::Left, &place.configure("left", ""), &[]);
    let engine = server.engine();
    let nobody = fs::read_to_string("/etc/passwd").unwrap();
    let nobody = nobody.lines().find(|line| line.starts_with("nobody:")).unwrap().split(':').nth(2).unwrap();
    assert_eq!(status(engine, "Uid").split_whitespace().collect::<Vec<_>>(), [nobody; 4]);
    assert_eq!(status(engine, "Groups"), "");
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&status(engine, set), 16).unwrap(), 0, "{set}");
    }
    assert_eq!(status(engine, "NoNewPrivs"), "1");
}

#[test]
fn engines_die_with_their_keeper_and_the_next_keeper_takes_up_its_table() {
    let (pair, place) = (veth_pair(1), Place::new());
    let configuration = place.configure("left", "");
    let mut server = Server::start(&pair, Side::Left, &configuration, &[]);
    server.engine();
    wait_until("a standby is there", || server.children().len() == 2);
    let engines = server.children();
    let table = || {
        let file = fs::metadata(place.path("shm/table")).or_else(|_| fs::metadata(place.path("shm/table.filling")));
        file.unwrap().ino()
    };
    let before = table();
    server.signal(Signal::KILL);
    server.end();
    // At once: the new keeper itself has to wait until the old engines are gone.
    let mut second = Server::start(&pair, Side::Left, &configuration, &[]);
    let engine = second.engine();
    engines.iter().for_each(|&engine| gone(engine));
    assert!(!engines.contains(&engine));
    assert_eq!(table(), before, "the same file");
}

#[test]
fn an_engine_that_dies_before_it_controls_is_followed_at_once_a_few_times_and_then_slowly() {
    let (pair, place) = (veth_pair(1), Place::new());
    let mut server = Server::start(&pair, Side::Left, &place.configure("left", ""), &[]);
    // On a busy machine an engine may control for long enough to count as successful; then more
    // deaths are needed.
    for _ in 0..100 {
        kill(server.engine(), Signal::KILL);
        if server.heard.contains("7 in a row came to nothing: the next starts in 200ms") {
            break;
        }
    }
    assert!(server.heard.contains("6 in a row came to nothing: the next starts in 100ms"), "{}", server.heard);
    assert!(server.heard.contains("7 in a row came to nothing: the next starts in 200ms"), "{}", server.heard);
    server.engine();
}

#[test]
fn a_stop_that_is_asked_for_clears_everything_away_but_table_and_database() {
    let (pair, place) = (veth_pair(1), Place::new());
    let mut server = Server::start(&pair, Side::Left, &place.configure("left", ""), &[]);
    server.engine();
    wait_until("a standby is there", || server.children().len() == 2);
    let engines = server.children();
    let shown = || {
        let output = Command::new("nsenter")
            .arg(format!("--net={}", pair.path(Side::Left).display()))
            .args(["ip", "-d", "link", "show", "left"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(shown().contains("xdp"), "{}", shown());
    assert!(place.path("run/api.sock").exists());
    server.signal(Signal::TERM);
    assert_eq!(server.code(), 0, "{}", server.heard);
    engines.into_iter().for_each(gone);
    assert!(!place.path("run/api.sock").exists());
    assert!(!shown().contains("xdp"), "{}", shown());
    for pin in ["link", "steer", "settings", "rings", "verdicts"] {
        assert!(!place.path("run/bpf").join(pin).exists(), "{pin} is left");
    }
    assert!(place.path("shm/table").exists() || place.path("shm/table.filling").exists());
}

#[test]
fn a_server_whose_interface_goes_says_so_and_ends() {
    let (pair, place) = (veth_pair(1), Place::new());
    let configuration = place.configure("left", "");
    let mut server = Server::start(&pair, Side::Left, &configuration, &[]);
    server.engine();
    wait_until("a standby is there", || server.children().len() == 2);
    let engines = server.children();
    pair.ip(Side::Left, "link del left").unwrap();
    assert_eq!(server.code(), 1, "{}", server.heard);
    assert!(server.heard.contains("interface left is gone; start again when it is back"), "{}", server.heard);
    engines.into_iter().for_each(gone);
}

#[test]
fn a_second_keeper_says_who_has_what_it_wants_and_leaves() {
    let (pair, place) = (veth_pair(1), Place::new());
    let configuration = place.configure("left", "");
    let mut first = Server::start(&pair, Side::Left, &configuration, &[]);
    let engine = first.engine();
    let holder = format!("another dispatch server (process {})", first.id());

    let mut second = Server::start(&pair, Side::Left, &configuration, &[]);
    assert_eq!(second.code(), 1);
    assert!(second.heard.contains(&format!("{holder} serves interface left already")), "{}", second.heard);

    // A different interface, but the same runtime folder.
    let mut second = Server::start(&pair, Side::Right, &configuration, &["--interface", "right"]);
    assert_eq!(second.code(), 1);
    assert!(
        second.heard.contains(&format!("{holder} has")) && second.heard.contains("runtime.dir"),
        "{}",
        second.heard
    );

    // A different interface and runtime folder, but the same table.
    let text = fs::read_to_string(&configuration).unwrap();
    let other = place.path("other.toml");
    let [run, elsewhere] = ["run", "run2"].map(|name| format!("dir = \"{}\"", place.path(name).display()));
    fs::write(&other, text.replace(&run, &elsewhere)).unwrap();
    let mut second = Server::start(&pair, Side::Right, &other, &["--interface", "right"]);
    assert_eq!(second.code(), 1);
    assert!(second.heard.contains(&holder) && second.heard.contains("table.path"), "{}", second.heard);

    assert!(first.children().contains(&engine), "the first goes on");
}

#[test]
fn a_table_that_cannot_be_used_stops_the_start_and_stays_as_it_is() {
    let (pair, place) = (veth_pair(1), Place::new());
    let configuration = place.configure("left", "");
    fs::create_dir(place.path("shm")).unwrap();
    fs::set_permissions(place.path("shm"), fs::Permissions::from_mode(0o700)).unwrap();
    for rubbish in [vec![7; 8192], vec![7; 13], vec![]] {
        fs::write(place.path("shm/table"), &rubbish).unwrap();
        let mut server = Server::start(&pair, Side::Left, &configuration, &[]);
        assert_eq!(server.code(), 1);
        for said in [place.path("shm/table").to_str().unwrap(), "left as it is", "--path database"] {
            assert!(server.heard.contains(said), "`{said}` in {}", server.heard);
        }
        assert_eq!(fs::read(place.path("shm/table")).unwrap(), rubbish);
    }
    // If configured, it is moved aside, and the start continues with the database.
    fs::write(place.path("shm/table"), "rubbish").unwrap();
    let mut server = Server::start(&pair, Side::Left, &configuration, &["--path", "database"]);
    server.line_with("the database serves");
    server.engine();
    assert_eq!(fs::read(place.path("shm/table.refused-0")).unwrap(), b"rubbish");
}

#[test]
fn what_stops_a_start_is_said_in_a_sentence() {
    let (pair, place) = (veth_pair(1), Place::new());
    let run = |configuration: &std::path::Path, arguments: &[&str]| {
        let mut server = Server::start(&pair, Side::Left, configuration, arguments);
        (server.code(), std::mem::take(&mut server.heard))
    };
    let configuration = place.configure("left", "");
    let (code, said) = run(&configuration, &["--interface", "none7"]);
    assert!(code == 1 && said.contains("there is no interface `none7`"), "{code} {said}");

    let (code, said) = run(&place.path("not there"), &[]);
    assert!(code == 2 && said.contains("cannot read the configuration"), "{code} {said}");

    let (code, said) = run(&place.configure("left", "user = \"no such user\""), &[]);
    assert!(code == 1 && said.contains("no user `no such user`") && said.contains("runtime.user"), "{code} {said}");

    let configuration = place.configure("left", "");
    fs::create_dir_all(place.path("db")).unwrap();
    fs::set_permissions(place.path("db"), fs::Permissions::from_mode(0o700)).unwrap();
    let (code, said) = run(&configuration, &[]);
    assert!(
        code == 1 && said.contains("`nobody`, who may not enter") && said.contains("database.path"),
        "{code} {said}"
    );
    fs::remove_dir(place.path("db")).unwrap();

    // A file in the place of the socket belongs to somebody: only a socket on which nobody answers
    // is removed.
    let socket = place.path("run/api.sock");
    fs::write(&socket, "a letter").unwrap();
    let (code, said) = run(&configuration, &[]);
    assert!(code == 1 && said.contains("runtime.api_socket"), "{code} {said}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "a letter");
    fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let (code, said) = run(&configuration, &[]);
    assert!(code == 1 && said.contains("another process listens here"), "{code} {said}");
    drop(listener);
    let mut server = Server::start(&pair, Side::Left, &configuration, &[]);
    server.engine();
    drop(server);

    fs::set_permissions(place.path("shm"), fs::Permissions::from_mode(0o777)).unwrap();
    let (code, said) = run(&configuration, &[]);
    assert!(code == 1 && said.contains("open to other users"), "{code} {said}");
}

#[test]
fn an_engine_that_is_started_by_hand_says_who_starts_engines() {
    let output = Command::new(env!("CARGO_BIN_EXE_baton")).arg("engine").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("started by `baton run` and not by hand"), "{said}");
}

/// A table of an earlier boot is not valid for this one, even if it is complete.
#[test]
fn a_table_of_another_boot_is_moved_aside_and_the_database_serves() {
    use baton::sys::mapping::BootId;
    use baton::table::{Capacity, Table};
    let (pair, place) = (veth_pair(1), Place::new());
    fs::create_dir(place.path("shm")).unwrap();
    let capacity = Capacity { meetings: 1000, terminals: 4000 };
    drop(Table::create_at(&place.path("shm/table"), capacity, BootId(1)).unwrap());
    let mut server = Server::start(&pair, Side::Left, &place.configure("left", ""), &[]);
    server.line_with("is of before the machine was started");
    server.engine();
    wait_until("the new table bears its name", || {
        Table::open_at(&place.path("shm/table")).is_ok_and(|table| table.boot_id() != BootId(1))
    });
}
