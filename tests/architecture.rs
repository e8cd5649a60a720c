//! The law book of the house: which room may name which, and what holds in all of them.
//!
//! ```text
//! cli     as typed → run                                                   doctor
//! ────────────────────────────────────────────────────────────────────────────────
//! lab     the world around a server
//! ────────────────────────────────────────────────────────────────────────────────
//! engine  one process                keeper  the other                   sla
//! ────────────────────────────────────────────────────────────────────────────────
//! link · api · recovery · cms        handover  what the two processes agree on
//! ────────────────────────────────────────────────────────────────────────────────
//! cascade    database    table/file · table    telemetry
//! ────────────────────────────────────────────────────────────────────────────────
//! config    sdk    sys    wire    output · text    limits    time
//! ```
//!
//! A *room* is a top-level module of `src/`, a file or a folder; the folder `table/file` is a room
//! of its own. An *arrow* leads from a file to another whose items it names, wherever they were
//! re-exported in between. What a module re-exports from below is its face, and no arrow. Tests
//! (`#[cfg(test)]`, loom) may name what they like.
//!
//! The laws are read from the text: nothing is built, no privilege is needed. Each fails with all
//! its breaches, one a line. `architecture/planted.rs` breaks every law in a tree made up for it,
//! so that none passes by seeing nothing.

#[path = "architecture/comments.rs"]
mod comments;
#[path = "architecture/docs.rs"]
mod docs;
#[path = "architecture/laws.rs"]
mod laws;
#[path = "architecture/names.rs"]
mod names;
#[path = "architecture/planted.rs"]
mod planted;
#[path = "architecture/tree.rs"]
mod tree;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use laws::{Purity, Room};
use tree::Files;

/// The rooms, top floor first, each with why it names what it names. A room may name only what is
/// further down, so no arrow runs up. A row says what is: an entry that nobody uses is a breach.
#[rustfmt::skip]
const HOUSE: [Room; 24] = [
    room("cli", "runs every other room, as it was asked to on the command line", &[
        "doctor", "lab", "engine", "keeper", "sla", "api", "recovery", "cms", "handover",
        "table/file", "table", "telemetry", "config", "sdk", "sys", "wire", "output", "text",
        "limits", "time",
    ]),
    room("doctor", "holds the machine against what a configuration will ask of it", &[
        "table", "config", "limits",
    ]),
    room("lab", "plays the world around a server: autonomous servers, load, network namespaces", &[
        "engine", "link", "api", "recovery", "cms", "handover", "cascade", "database", "table",
        "telemetry", "config", "sdk", "sys", "wire", "output", "text", "limits", "time",
    ]),
    room("engine", "one process: joins all that decides with all that carries out", &[
        "link", "api", "recovery", "cms", "handover", "cascade", "database", "table/file",
        "table", "telemetry", "config", "sys", "wire", "limits", "time",
    ]),
    room("keeper", "the other process: opens what outlives an engine, and sees none of its inside", &[
        "handover", "cascade", "database", "table/file", "table", "config", "sys", "wire",
        "limits", "time",
    ]),
    room("sla", "judges a server by its logs alone, on any machine", &["telemetry", "config", "text"]),
    room("link", "workers between rings and table; what is slow they hand up, unnamed", &[
        "handover", "cascade", "table", "telemetry", "config", "sys", "wire", "limits", "time",
    ]),
    room("api", "puts what clients say into the words of cms, and shows what it is given", &[
        "recovery", "cms", "handover", "database", "table", "telemetry", "sys", "wire", "limits",
    ]),
    room("recovery", "pure: holds what autonomous servers say against table or database", &[
        "cascade", "database", "table", "config", "wire", "limits", "time",
    ]),
    room("cms", "pure: what may be done to a conference, by table and database", &[
        "cascade", "database", "table", "wire", "text", "limits", "time",
    ]),
    room("handover", "what keeper and engine agree on, and therefore below both", &[
        "cascade", "database", "table", "config", "sys", "wire", "limits",
    ]),
    room("cascade", "pure: domains, links and routes, as the configuration has them", &[
        "config", "wire", "limits", "time",
    ]),
    room("database", "key parameters, durable, written by a thread of its own", &[
        "sys", "wire", "limits",
    ]),
    room("table/file", "the table as a file: opened, copied, resized, inspected", &[
        "table", "sys", "wire", "limits",
    ]),
    room("table", "pure: records made of words; of sys the mapping in which these are", &[
        "sys", "wire", "limits",
    ]),
    room("telemetry", "counts and writes down, and knows nothing of what it counts", &[
        "sys", "wire", "limits", "time",
    ]),
    room("config", "text parsed into types of the wire", &["wire", "limits"]),
    room("sdk", "an endpoint for makers of autonomous servers: rings and frames, no server", &[
        "sys", "wire", "limits", "time",
    ]),
    room("sys", "the kernel, wrapped: all that is unsafe", &["wire", "limits", "time"]),
    room("wire", "pure: frames as types", &["limits"]),
    room("output", "the one way to standard output, for commands and lab", &["text"]),
    room("text", "figures and characters as people read them", &[]),
    room("limits", "numbers", &[]),
    room("time", "instants as numbers", &[]),
];

const fn room(name: &'static str, why: &'static str, may_name: &'static [&'static str]) -> Room {
    Room { name, why, may_name }
}

/// Pure rooms know no clock, chance, thread or descriptor: time is an argument, inputs are
/// `handle_*`, outputs `poll_*`. So a simulation runs the code that production runs.
const PURITY: Purity = Purity {
    pure: &[
        "src/wire/",
        "src/table/",
        "src/cascade/",
        "src/recovery/",
        "src/cms/",
        "src/engine/control/dispatcher",
        "src/keeper/lifecycle",
    ],
    except: &["src/table/file/"],
    world: &[
        "std::fs",
        "std::net",
        "std::process",
        "std::thread",
        // A duration is a number.
        "std::time::Instant",
        "std::time::SystemTime",
        "libc",
        "rand",
        "rustix",
        "tokio",
        "tracing",
    ],
    own_world: &["src/sys/clock", "src/sys/process.rs", "src/sys/random", "src/sys/threads"],
};

/// What people write: in these folders, and these files.
const WRITTEN: [&str; 7] = ["Cargo.toml", "benches", "bpf", "build.rs", "scripts", "src", "tests"];

/// Fails with every breach, not with the first.
fn none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "{} breaches:\n{}\n", breaches.len(), breaches.join("\n"));
}

/// Every text of the repository that people write.
fn house() -> &'static Files {
    static FILES: LazyLock<Files> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Files::new();
        let mut open = WRITTEN.map(|path| root.join(path)).to_vec();
        while let Some(path) = open.pop() {
            if path.is_dir() {
                let entries = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
                open.extend(entries.filter(|path| !path.ends_with("target")));
            } else if let Ok(text) = fs::read_to_string(&path) {
                let short = path.strip_prefix(root).unwrap().to_str().unwrap();
                files.insert(short.to_owned(), text);
            }
        }
        assert!(files.contains_key("src/lib.rs"), "the walk finds the repository");
        files
    });
    &FILES
}

#[test]
fn arrows_between_rooms_are_allowed() {
    none(laws::arrows_between_rooms(house(), &HOUSE));
}

#[test]
fn no_arrow_runs_up() {
    none(laws::upward_rows(&HOUSE));
}

/// Two files that name each other are one file in two pieces. A module and its child are two files.
#[test]
fn files_form_no_circles() {
    none([laws::circles(house(), "src/"), laws::circles(house(), "benches/")].concat());
}

#[test]
fn pure_rooms_know_no_world() {
    none(laws::worldly_names(house(), &PURITY));
}

#[test]
fn comments_wrap_at_100_columns() {
    none(comments::wide_comments(house()));
}

/// A comment that repeats the name costs a line and teaches to skip comments. Where there is no
/// more to say, `#[expect(missing_docs, reason = "…")]` says where the meaning is written.
#[test]
fn doc_comments_say_more_than_the_name() {
    none(docs::empty_docs(house()));
}

/// `src/<room>/tests/mod.rs` and files beside it: what is a test is seen from its path.
#[test]
fn tests_lie_under_tests_of_their_room() {
    none(laws::misplaced_tests(house()));
}
