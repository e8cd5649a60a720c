//! Each law, broken in a tree made up for it and mended again.

use super::comments::wide_comments;
use super::docs::empty_docs;
use super::laws::{Purity, Room, arrows_between_rooms, circles, misplaced_tests, upward_rows, worldly_names};
use super::names::Names;
use super::tree::Files;

fn plant(files: &[(&str, &str)]) -> Files {
    files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect()
}

/// `from -> to: name` of all arrows.
fn arrows(files: &[(&str, &str)]) -> Vec<String> {
    let names = Names::read(&plant(files), "src/");
    assert!(names.lost.is_empty(), "{:?}", names.lost);
    let mut arrows = names.arrows.iter().map(|a| format!("{} -> {}: {}", a.from, a.to, a.name)).collect::<Vec<_>>();
    arrows.dedup();
    arrows
}

/// A house of two rooms, with this text in the upper.
fn under(text: &str) -> Vec<String> {
    arrows(&[
        ("src/lib.rs", "mod up; mod low;"),
        ("src/up/mod.rs", text),
        ("src/low/mod.rs", "mod thing; pub use thing::{Thing, of}; pub use thing::make as build; pub mod open;"),
        ("src/low/open.rs", "macro_rules! kinds { ($($n:ident)*) => { $(pub struct $n;)* } } kinds! { Made }"),
        ("src/low/thing.rs", "pub enum Thing { A } pub fn of() {} pub fn make() {}"),
    ])
}

#[test]
fn an_arrow_is_seen_however_it_is_written() {
    let ways = [
        "use crate::low::Thing;",
        "use crate::low::{self, Thing as Other};",
        "use crate::low; type T = low::Thing;",
        "use crate::low as deep; fn f(_: deep::Thing) {}",
        "use super::low::Thing;",
        "use crate::low::Thing::A;",
        "use crate::low::Thing::*;",
        "use crate::low::*; fn f(_: Vec<Thing>) {}",
        "fn f() { use crate::low::Thing; }",
        "fn f() -> u32 { match x { crate::low::Thing::A => 1 } }",
        "impl crate::low::Thing { fn f() {} }",
        "impl From<crate::low::Thing> for u32 {}",
        "struct S<T: Into<crate::low::Thing>> { t: T }",
        "fn f() { println!(\"{:?}\", crate::low::Thing::A) }",
        "fn f() { assert!(x.is(&[super::low::Thing::A])) }",
        "macro_rules! m { () => { $crate::low::Thing::A } }",
        "mod inner { fn f() -> super::super::low::Thing { x } }",
        "#[derive(x)] struct S { #[serde(with = \"crate::low::Thing\")] s: u8 }",
        "pub use crate::low::Thing;",
        "fn f() { crate::low::Thing::A }\n#[cfg(test)] use crate::low::of;",
        "#[cfg(not(test))] fn f() { crate::low::Thing::A }",
        "struct S {\n#[cfg(test)] a: crate::low::open::Made,\nb: crate::low::Thing }",
    ];
    for way in ways {
        assert_eq!(under(way), ["src/up/mod.rs -> src/low/thing.rs: Thing"], "{way}");
    }
    assert_eq!(under("use crate::low::build;"), ["src/up/mod.rs -> src/low/thing.rs: make"]);
    assert_eq!(under("use crate::low::open::Made;"), ["src/up/mod.rs -> src/low/open.rs: Made"], "made by a macro");
}

#[test]
fn what_names_nothing_is_no_arrow() {
    let ways = [
        "//! [`crate::low::Thing`]\n/// [`crate::low::Thing`]\nstruct S; // crate::low::Thing",
        "fn f() { let s = \"crate::low::Thing\"; }",
        "#[cfg(test)] mod tests { use crate::low::Thing; }",
        "#[cfg(test)] use crate::low::{Thing, of};",
        "#[cfg(all(loom, unix))] fn f(_: crate::low::Thing) -> [u8; 2] { crate::low::of() }",
        "fn f() { #[cfg(test)] if a < b { crate::low::of(); } }",
        "#[test] fn t() { crate::low::of() }",
        "struct Thing; fn f(low: Thing) -> u32 { low.Thing + Thing::low }",
        "use std::low::Thing;",
        "mod low; use low::Thing;",
    ];
    for way in ways {
        let mut files = plant(&[("src/lib.rs", "mod up; mod low;"), ("src/up/mod.rs", way)]);
        files.extend(plant(&[("src/low.rs", "pub struct Thing; pub fn of() {}"), ("src/up/low.rs", "")]));
        if way.starts_with("mod low") {
            files.insert("src/up/low.rs".into(), "pub struct Thing;".into());
        }
        let names = Names::read(&files, "src/");
        assert!(!names.arrows.iter().any(|arrow| arrow.to == "src/low.rs"), "{way}");
    }
}

#[test]
fn a_face_is_no_arrow_and_names_are_followed_through_it() {
    let files = [
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a/mod.rs", "mod deep; pub use deep::*;"),
        ("src/a/deep/mod.rs", "mod deeper; pub(crate) use self::deeper::Thing;"),
        ("src/a/deep/deeper.rs", "pub struct Thing;"),
        ("src/b.rs", "use crate::a::Thing;"),
    ];
    assert_eq!(arrows(&files), ["src/b.rs -> src/a/deep/deeper.rs: Thing"]);
}

#[test]
fn what_a_module_re_exports_and_uses_itself_is_an_arrow() {
    let files = [("src/lib.rs", "mod a; pub use a::Thing; fn f(_: Thing) {}"), ("src/a.rs", "pub struct Thing;")];
    assert_eq!(arrows(&files), ["src/lib.rs -> src/a.rs: Thing"]);
}

#[test]
fn a_macro_of_the_text_above_is_an_arrow() {
    let files = [
        ("src/lib.rs", "macro_rules! shout { () => {} } mod a;"),
        ("src/a/mod.rs", "mod b;"),
        ("src/a/b.rs", "fn f() { shout!() }"),
    ];
    assert_eq!(arrows(&files), ["src/a/b.rs -> src/lib.rs: shout"]);
}

#[test]
fn files_are_found_where_rustc_finds_them() {
    let files = [
        ("src/lib.rs", "mod a; mod inline { mod c; } #[path = \"else/where.rs\"] mod d;"),
        ("src/a.rs", "mod b; use b::B;"),
        ("src/a/b.rs", "pub struct B;"),
        ("src/inline/c.rs", "use crate::d::e::E;"),
        ("src/else/where.rs", "pub mod e;"),
        ("src/else/e.rs", "pub struct E;"),
    ];
    assert_eq!(arrows(&files), ["src/a.rs -> src/a/b.rs: B", "src/inline/c.rs -> src/else/e.rs: E"]);
}

#[test]
fn a_name_that_is_not_understood_is_told() {
    let files = plant(&[("src/lib.rs", "mod a; use a::Thing;"), ("src/a.rs", "")]);
    let breaches = arrows_between_rooms(&files, &[]);
    assert_eq!(breaches, ["src/lib.rs:1: a::Thing is not to be found in src/a.rs"]);
}

const UP: Room = Room { name: "up", why: "planted", may_name: &["low/inner", "low"] };
const INNER: Room = Room { name: "low/inner", why: "planted", may_name: &["low"] };
const LOW: Room = Room { name: "low", why: "planted", may_name: &[] };

#[test]
fn arrows_are_held_against_the_house() {
    let files = |up, inner, low| {
        let low = format!("pub mod inner; pub struct Low; {low}");
        plant(&[
            ("src/lib.rs", "mod up; mod low;"),
            ("src/up.rs", up),
            ("src/low/inner.rs", inner),
            ("src/low/mod.rs", &low),
        ])
    };
    let (up, inner) = ("use crate::low::{Low, inner::In}; pub struct Up;", "use super::Low; pub struct In;");
    let house = [UP, INNER, LOW];
    assert_eq!(arrows_between_rooms(&files(up, inner, ""), &house), [""; 0]);
    assert_eq!(
        arrows_between_rooms(&files(up, inner, "\nfn f(_: crate::up::Up) -> inner::In {}"), &house),
        ["src/low/mod.rs:2 -> src/low/inner.rs: In", "src/low/mod.rs:2 -> src/up.rs: Up"]
    );
    assert_eq!(
        arrows_between_rooms(&files("use crate::low::Low;", inner, ""), &house),
        ["up may name low/inner and does not: take it off"]
    );
    let nothing = plant(&[("src/lib.rs", "")]);
    assert_eq!(arrows_between_rooms(&nothing, &[LOW]), ["low: no such room"]);
    assert_eq!(upward_rows(&house), [""; 0]);
    assert_eq!(upward_rows(&[Room { why: "", ..LOW }]), ["low: nothing says why"]);
    assert_eq!(upward_rows(&[LOW, UP, INNER]), ["up -> low: up, or no room", "low/inner -> low: up, or no room"]);
}

#[test]
fn circles_are_found() {
    let circle = |files: &[(&str, &str)]| circles(&plant(files), "src/");
    let straight = [("src/lib.rs", "mod a; mod b;"), ("src/a.rs", "use crate::b::B;"), ("src/b.rs", "pub struct B;")];
    assert_eq!(circle(&straight), [""; 0]);
    let two = [
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a.rs", "use crate::b::B; pub struct A;"),
        ("src/b.rs", "pub struct B(super::a::A);"),
    ];
    assert_eq!(circle(&two), ["a circle of 2 files:\n  src/a.rs:1 -> src/b.rs: B\n  src/b.rs:1 -> src/a.rs: A"]);
    let family = [("src/lib.rs", "mod a; pub use a::A; fn f() {}"), ("src/a.rs", "pub struct A; use crate::f;")];
    assert_eq!(circle(&family), [""; 0], "a face alone ties nothing");
    let family = [("src/lib.rs", "mod a; use a::A; fn f() {}"), ("src/a.rs", "pub struct A; use crate::f;")];
    assert_eq!(circle(&family).len(), 1);
    let three = [
        ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
        ("src/a.rs", "use crate::b::B; pub struct A;"),
        ("src/b.rs", "use crate::c::C; pub struct B;"),
        ("src/c.rs", "use crate::a::A; use crate::d::D; pub struct C;"),
        ("src/d.rs", "pub struct D;"),
    ];
    assert!(circle(&three)[0].starts_with("a circle of 3 files"));
    let in_tests = [
        ("src/lib.rs", "mod a; #[cfg(test)] mod b;"),
        ("src/a.rs", "#[cfg(test)] use crate::b::B; pub struct A;"),
        ("src/b.rs", "use crate::a::A; pub struct B;"),
    ];
    assert_eq!(circle(&in_tests), [""; 0]);
}

#[test]
fn clocks_are_found_in_pure_rooms() {
    const PURITY: Purity = Purity {
        pure: &["src/pure/"],
        except: &["src/pure/file"],
        world: &["std::fs", "std::time::Instant", "tracing"],
        own_world: &["src/sys/clock"],
    };
    let look = |text| {
        let files = [
            ("src/lib.rs", "mod pure; mod sys;"),
            ("src/sys/mod.rs", "pub mod clock; pub mod words;"),
            ("src/sys/clock.rs", "use std::time::Instant; pub fn now() {}"),
            ("src/sys/words.rs", "pub struct Word;"),
            ("src/pure/mod.rs", text),
            ("src/pure/file.rs", "use std::fs;"),
        ];
        worldly_names(&plant(&files), &PURITY)
    };
    let worldly = [
        ("use std::time::{Duration, Instant};", "src/pure/mod.rs:1: std::time::Instant"),
        ("use std::time;\nfn f() { time::Instant::now() }", "src/pure/mod.rs:2: std::time::Instant::now"),
        ("fn f() { std::fs::read(path) }", "src/pure/mod.rs:1: std::fs::read"),
        ("fn f() {\n tracing::warn!(\"it\") }", "src/pure/mod.rs:2: tracing::warn"),
        ("fn f() { g!(std::fs::File) }", "src/pure/mod.rs:1: std::fs::File"),
        ("use crate::sys::clock; fn f() {\n clock::now() }", "src/pure/mod.rs:2 -> src/sys/clock.rs: now"),
    ];
    for (text, breach) in worldly {
        assert_eq!(look(text), [breach]);
    }
    let pure = [
        "mod file; use std::time::Duration; use crate::sys::words::Word; use std::fmt;",
        "#[cfg(test)] mod tests { use std::fs; } #[test] fn t() { crate::sys::clock::now() }",
    ];
    for text in pure {
        assert_eq!(look(text), [""; 0]);
    }
    let nothing = plant(&[("src/lib.rs", ""), ("src/sys/clock.rs", "")]);
    assert_eq!(worldly_names(&nothing, &PURITY), ["src/pure/: no such file, and so nothing was looked at"]);
}

#[test]
fn wide_comments_are_found() {
    let words = "word ".repeat(21);
    let wide = |path: &str, text: &str| wide_comments(&plant(&[(path, &text.replace("WIDE", words.trim_end()))]));
    let breaches = [
        ("a.rs", "// WIDE"),
        ("a.rs", "/// WIDE\nstruct A;"),
        ("a.rs", "fn f() {} // WIDE"),
        ("a.rs", "/*\n WIDE\n*/"),
        ("a.rs", "const S: &str = \"ä\"; // WIDE"),
        ("a.c", "/* Narrow.\n * WIDE\n */"),
        ("a.h", "int a; /* WIDE */"),
        ("a.h", "const char *s = \"/*\"; // WIDE"),
        ("a.sh", "# WIDE"),
        ("a.sh", "echo \"$#\" # WIDE"),
        ("a.toml", "\tb = \"c\" # WIDE"),
        ("init", "#!/bin/sh\n# WIDE"),
    ];
    for (path, text) in breaches {
        assert_eq!(wide(path, text).len(), 1, "{path}: {text}");
    }
    let fine = [
        ("a.rs", "// WIDE".replace("WIDE", &words[..97])),
        ("a.rs", "const S: &str = \"// WIDE\";".into()),
        ("a.rs", "const S: &str = r#\"\n// \" WIDE\n\"#;".into()),
        ("a.rs", "//! ```text\n//! WIDE\n//! ```\nstruct A;".into()),
        ("a.rs", "//! | WIDE |".into()),
        ("a.rs", "// https://example.org/ WIDE".into()),
        ("a.c", "const char *s = \"// \\\" WIDE\";\nint WIDE;".into()),
        ("a.sh", "echo \"# WIDE\"".into()),
        ("a.sh", "WIDE ${WIDE#WIDE}".into()),
        ("a.md", "// WIDE".into()),
    ];
    for (path, text) in fine {
        assert_eq!(wide(path, &text), [""; 0], "{path}: {text}");
    }
    let after_a_fence = "//! ```text\n//! a\n//! ```\n//! WIDE";
    assert_eq!(wide("a.rs", after_a_fence), ["a.rs:4: 108 columns"]);
}

#[test]
fn empty_doc_comments_are_found() {
    let empty = |text: &str| empty_docs(&plant(&[("a.rs", text)])).len();
    let breaches = [
        "/// The link's state.\nstruct LinkState;",
        "struct Link {\n/// Its state.\nstate: u8 }",
        "struct Part {\n/// The id of the meeting.\nmeeting: MeetingId }",
        "enum State {\n/// A starting state.\nStarting }",
        "impl Table {\n/// A writer of the table.\nfn writer(&self) {} }",
        "impl Table {\n/// The part.\nfn find(&self) -> Option<Part> {} }",
        "/// Frames.\nconst FRAMES_MAX: u32 = 1;",
        "/// Open.\nmod open {}",
        "trait Word {\n/// Loads it.\nfn load(&self); }",
        "counters! {\n/// Probes shed.\nShedProbes \"shed_probes\", }",
        "wire_enum! { Status {\n/// The status Ok.\nOk = 0 \"ok\" } }",
    ];
    for text in breaches {
        assert_eq!(empty(text), 1, "{text}");
    }
    let full = [
        "/// Whether frames may be sent.\nstruct LinkState;",
        "struct Link {\n/// Its state, in milliseconds.\nstate: u8, other: u8 }",
        "struct Link {\n#[doc(hidden)]\nstate: u8 }",
        "#[expect(missing_docs, reason = \"see Link\")]\nstruct LinkState;",
        "counters! {\n/// Probes shed while overloaded.\nShedProbes, Other }",
    ];
    for text in full {
        assert_eq!(empty(text), 0, "{text}");
    }
}

#[test]
fn misplaced_tests_are_found() {
    let look = |files: &[(&str, &str)]| misplaced_tests(&plant(files));
    let well = [
        ("src/lib.rs", "mod a;"),
        ("src/a/mod.rs", "#[cfg(test)] mod tests;"),
        ("src/a/tests/mod.rs", "mod shapes;"),
        ("src/a/tests/shapes.rs", ""),
    ];
    assert_eq!(look(&well), [""; 0]);
    let ill = [
        ("src/lib.rs", "mod a; #[cfg(loom)] mod loom; #[cfg(test)] mod b_tests;"),
        ("src/a/mod.rs", "#[cfg(test)] mod tests; pub mod b;"),
        ("src/a/b.rs", "#![cfg(test)]"),
        ("src/a/tests.rs", "mod c_tests;"),
        ("src/a/tests/c_tests.rs", ""),
        ("src/b_tests.rs", ""),
        ("src/lonely.rs", ""),
        ("src/loom.rs", ""),
    ];
    assert_eq!(
        look(&ill),
        [
            "src/a/b.rs: a test outside of a folder tests/",
            "src/a/tests.rs: a test outside of a folder tests/",
            "src/a/tests/c_tests.rs: its folder says already that it is a test",
            "src/b_tests.rs: a test outside of a folder tests/",
            "src/lonely.rs: no module of the crate",
            "src/loom.rs: a test outside of a folder tests/",
        ]
    );
    let served = [("src/lib.rs", "mod tests;"), ("src/tests/mod.rs", "")];
    assert_eq!(look(&served), ["src/tests/mod.rs: no test, and in a folder tests/"]);
}
