//! `baton top` in a terminal of 80 by 24, beside a real server whose engine is killed under it.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use baton::lab::testbed::cluster::{Cluster, ClusterConfig};
use baton::lab::testbed::processes::signal_to;
use baton::lab::testbed::{Testbed, need_root, own_name, scenario};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

const BATON: &str = env!("CARGO_BIN_EXE_baton");
const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal with `baton top` in it.
struct Terminal {
    child: Child,
    keys: File,
    user: OwnedFd,
    said: Receiver<Vec<u8>>,
    screen: vt100::Parser,
}

impl Terminal {
    fn open(socket: &Path) -> Self {
        let (rows, columns) = (24, 80);
        let some = |size| NonZero::new(size).unwrap();
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).and_then(|()| unlockpt(&master)).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let user = File::options().read(true).write(true).open(name).unwrap();
        tcsetwinsize(&user, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let end = || Stdio::from(user.try_clone().unwrap());
        let child = Command::new(BATON)
            .args(["top", "--interval", "0.2", "--socket"])
            .arg(socket)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let (mut reader, keys) = (File::from(master.try_clone().unwrap()), File::from(master));
        let (tell, said) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                if tell.send(bytes[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, user: user.into(), said, screen: vt100::Parser::new(some(rows), some(columns), 0) }
    }

    /// Waits until the screen is as wanted; returns it.
    fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            while let Ok(bytes) = self.said.recv_timeout(Duration::from_millis(20)) {
                self.screen.process(&bytes);
            }
            let shown = self.screen.screen().contents();
            if wanted(&shown) {
                return shown;
            }
            assert!(begun.elapsed() < PATIENCE, "no {what} on\n{shown}");
            assert!(self.child.try_wait().unwrap().is_none(), "it ended:\n{shown}");
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                while let Ok(bytes) = self.said.recv_timeout(Duration::from_millis(50)) {
                    self.screen.process(&bytes);
                }
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it goes on");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_shows_a_server_through_the_death_of_its_engine_and_leaves_the_terminal_as_it_was() {
    need_root("network namespaces and XDP");
    let mut testbed = Testbed::set_with(&own_name(), 0).unwrap();
    testbed.set_program(BATON.into());
    let ledger = scenario::conferences(2, 20, 10);
    let simulation = vec!["--terminals".into(), scenario::terminals_per_domain(&ledger).to_string()];
    let mut cluster = Cluster::start(&testbed, &ClusterConfig { simulation, ..ClusterConfig::new(2) }).unwrap();
    cluster.wait("control", |cluster| Ok(cluster.in_control().then_some(()))).unwrap();
    cluster.start_meetings(&ledger, || ()).unwrap();
    cluster.servers.rate(2_000, 500).unwrap();
    cluster.wait("a standby", |cluster| Ok((cluster.ask("/status")?["standby"] == "ready").then_some(()))).unwrap();

    let socket = testbed.run().join("api.sock");
    let mut terminal = Terminal::open(&socket);
    let engine = cluster.engine().unwrap();
    let shown = terminal.until("rates", |shown| {
        shown.contains("k/s") && shown.contains("processing") && shown.contains("domain (2 of 2 up)")
    });
    let keeper = format!("engine {engine} · standby ready · keeper {}", cluster.dispatch.pid());
    for part in ["in control · epoch", &keeper, "terminals 200 of", "frames received", "reports applied", "reconciled"]
    {
        assert!(shown.contains(part), "{part} on\n{shown}");
    }
    // In raw mode a key is not echoed, and reaches the program without an end of line.
    terminal.type_in("?");
    terminal.until("help", |shown| shown.contains("scroll the domains"));
    terminal.type_in("?");
    terminal.until("no help", |shown| !shown.contains("scroll the domains"));

    signal_to(engine, Signal::KILL).unwrap();
    let next = cluster.wait("the next engine", |cluster| Ok(cluster.engine().ok().filter(|&next| next != engine)));
    let next = format!("engine {} ·", next.unwrap());
    terminal.until("the next engine", |shown| shown.contains(&next) && shown.contains("last recovery: first frame "));

    cluster.dispatch.signal(Signal::TERM).unwrap();
    cluster.dispatch.wait().unwrap();
    terminal.until("silence", |shown| shown.contains("no answer for"));
    terminal.type_in("q");
    assert!(terminal.ended().success());
    assert!(!terminal.screen.screen().alternate_screen(), "the screen of before is back");
    let modes = tcgetattr(&terminal.user).unwrap().local_modes;
    assert!(modes.contains(rustix::termios::LocalModes::ECHO | rustix::termios::LocalModes::ICANON));

    // If a signal ends it, it also restores the terminal.
    let mut terminal = Terminal::open(&socket);
    terminal.until("that nobody answers", |shown| shown.contains("no server answers on"));
    signal_to(terminal.child.id(), Signal::TERM).unwrap();
    assert!(terminal.ended().success());
    assert!(!terminal.screen.screen().alternate_screen());
    let modes = tcgetattr(&terminal.user).unwrap().local_modes;
    assert!(modes.contains(rustix::termios::LocalModes::ECHO | rustix::termios::LocalModes::ICANON));
}

#[test]
fn without_a_terminal_it_says_so_or_prints_screens() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let run = |arguments: &[&str]| {
        Command::new(BATON).arg("top").args(arguments).arg("--socket").arg(&socket).output().unwrap()
    };
    let none = run(&[]);
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("standard output is no terminal"), "{none:?}");
    let batch = run(&["--batch", "2", "--interval", "0.1"]);
    let said = String::from_utf8_lossy(&batch.stdout);
    assert_eq!(batch.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("no server answers on").count(), 2, "{said}");
    assert_eq!(run(&["--interval", "0"]).status.code(), Some(2));
}
