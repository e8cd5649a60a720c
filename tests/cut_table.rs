//! A table's file that is truncated while it is mapped: the process dies of SIGBUS, and says why.

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use baton::sys::mapping::BootId;
use baton::sys::{seccomp, sigbus};
use baton::table::{Capacity, Table};
use rustix::process::Signal;
use support::netns::{Pair, Side, veth_pair};
use support::server::{Place, Server, kill};

const CHILD: &str = "BATON_CUT_TABLE_FILE";
/// Threads of the child that touch the table all the time: only one of them explains.
const TOUCHING: usize = 4;

/// Not a test: the process under which the others truncate the file.
#[test]
fn reader_child() {
    let Some(file) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    sigbus::explain().unwrap();
    let table = Table::open_at(&file).unwrap();
    // As engines are: the handler's calls must be on the same list.
    seccomp::confine().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..TOUCHING {
            scope.spawn(|| {
                loop {
                    std::hint::black_box(table.terminals().count() + table.epoch().0 as usize);
                }
            });
        }
        println!("reading");
    });
}

fn start(file: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "reader_child", "--nocapture"])
        .env(CHILD, file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("reading") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "the child reads the table");
    }
    (child, said)
}

/// The output on standard error, once the process has died of SIGBUS.
fn last_words(mut child: Child) -> String {
    let mut words = String::new();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::BUS.as_raw()), "{status}: {words}");
    words
}

fn table(folder: &Path) -> PathBuf {
    let file = folder.join("table");
    Table::create_at(&file, Capacity { meetings: 100, terminals: 100 }, BootId(1)).unwrap();
    file
}

#[test]
fn who_reads_a_table_that_is_cut_dies_of_sigbus_and_says_why_once() {
    let folder = tempfile::Builder::new().prefix("baton-cut-").tempdir_in("/dev/shm").unwrap();
    let file = table(folder.path());
    for bytes in [4096, 0] {
        let (child, _said) = start(&file);
        let whole = std::fs::read(&file).unwrap();
        File::options().write(true).open(&file).unwrap().set_len(bytes).unwrap();
        let words = last_words(child);
        assert_eq!(words.matches("was cut short while it was in use").count(), 1, "{words}");
        assert!(words.contains("--path database"), "what to do: {words}");
        std::fs::write(&file, whole).unwrap();
    }
}

#[test]
fn a_sigbus_that_a_process_sent_is_not_called_a_cut_file() {
    let folder = tempfile::Builder::new().prefix("baton-cut-").tempdir_in("/dev/shm").unwrap();
    let (child, _said) = start(&table(folder.path()));
    kill(child.id(), Signal::BUS);
    let words = last_words(child);
    assert!(words.contains("neither a file that was cut"), "{words}");
}

/// Starts a server, truncates its table once that has its name, and sends requests until an engine
/// has touched it.
fn cut_under(pair: &Pair, place: &Place, more: &str) -> Server {
    let mut server = Server::start(pair, Side::Left, &place.configure("left", more), &[]);
    server.engine();
    let file = place.path("shm/table");
    let end = Instant::now() + Duration::from_secs(30);
    while !file.exists() {
        assert!(Instant::now() < end, "no table in time:\n{}", server.heard);
        std::thread::sleep(Duration::from_millis(2));
    }
    server.standby();
    File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
    // The request is answered from the table, if the engine itself has not touched that since.
    let mut asking = Command::new(env!("CARGO_BIN_EXE_baton"))
        .args(["status", "--socket"])
        .arg(place.path("run/api.sock"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    server.line_with("was cut short while it was in use");
    // Nobody is left to answer it.
    asking.kill().unwrap();
    asking.wait().unwrap();
    server
}

#[test]
fn a_server_whose_table_is_cut_says_so_and_ends() {
    let (pair, place) = (veth_pair(1), Place::new());
    let mut server = cut_under(&pair, &place, "");
    assert_eq!(server.code(), 1, "{}", server.heard);
    assert!(
        server.heard.contains("cannot use the table") && server.heard.contains("--path database"),
        "{}",
        server.heard
    );
    assert_eq!(std::fs::metadata(place.path("shm/table")).unwrap().len(), 0, "it is left as it is");
}

#[test]
fn where_the_database_is_to_serve_a_table_that_is_cut_is_replaced_while_the_server_runs() {
    let (pair, place) = (veth_pair(1), Place::new());
    let mut server = cut_under(&pair, &place, "[recovery]\non_bad_table = \"database\"");
    server.line_with("and the database serves");
    server.engine();
    // Filled from the database, the table is complete again.
    server.standby();
    assert!(std::fs::metadata(place.path("shm/table")).unwrap().len() > 0);
    assert_eq!(std::fs::metadata(place.path("shm/table.refused-0")).unwrap().len(), 0);
}
