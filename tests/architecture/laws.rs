//! The laws that are about names: each gives its breaches, one a line, for a tree of files.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{Arrow, Names};
use super::tree::{Files, Tree};

/// A row of the house.
pub struct Room {
    pub name: &'static str,
    /// Why it names what it names.
    pub why: &'static str,
    pub may_name: &'static [&'static str],
}

/// The room of a file: of those that hold it the innermost, else what its path begins with.
fn room_of<'a>(house: &[Room], file: &'a str) -> &'a str {
    let inside = file.strip_prefix("src/").unwrap_or(file);
    let holds = |name: &&str| inside.strip_prefix(name).is_some_and(|rest| rest.starts_with('/') || rest == ".rs");
    match house.iter().map(|room| room.name).filter(holds).max_by_key(|name| name.len()) {
        Some(name) => &inside[..name.len()],
        None => inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs"),
    }
}

/// `file:line -> file: names`, one line for each two files, with the line of the first name.
fn lines<'a>(arrows: impl IntoIterator<Item = &'a Arrow>) -> Vec<String> {
    let mut pairs = BTreeMap::<_, Vec<&Arrow>>::new();
    for arrow in arrows {
        pairs.entry((&arrow.from, &arrow.to)).or_default().push(arrow);
    }
    let line = |((from, to), arrows): ((&String, &String), Vec<&Arrow>)| {
        let names = arrows.iter().map(|arrow| arrow.name.as_str()).collect::<BTreeSet<_>>();
        let line = arrows.iter().map(|arrow| arrow.line).min().unwrap_or(0);
        format!("{from}:{line} -> {to}: {}", Vec::from_iter(names).join(", "))
    };
    pairs.into_iter().map(line).collect()
}

/// Arrows between rooms that the house does not allow, and what it allows and nobody uses.
pub fn arrows_between_rooms(files: &Files, house: &[Room]) -> Vec<String> {
    let names = Names::read(files, "src/");
    let mut forbidden = Vec::new();
    let mut used = BTreeSet::new();
    for arrow in &names.arrows {
        let (from, to) = (room_of(house, &arrow.from), room_of(house, &arrow.to));
        if from == to {
            continue;
        }
        used.insert((from, to));
        if !house.iter().any(|room| room.name == from && room.may_name.contains(&to)) {
            forbidden.push(arrow);
        }
    }
    let mut breaches = lines(forbidden);
    let rooms = files.keys().filter(|file| file.starts_with("src/") && file.ends_with(".rs"));
    let rooms = rooms.map(|file| room_of(house, file)).collect::<BTreeSet<_>>();
    for room in house {
        if !rooms.contains(room.name) {
            breaches.push(format!("{}: no such room", room.name));
        }
        let unused = room.may_name.iter().filter(|name| !used.contains(&(room.name, **name)));
        breaches.extend(unused.map(|name| format!("{} may name {name} and does not: take it off", room.name)));
    }
    breaches.extend(names.lost);
    breaches
}

/// Rooms that may name what is above them, or what is no room, or for no reason.
pub fn upward_rows(house: &[Room]) -> Vec<String> {
    let mut breaches = Vec::new();
    for (at, room) in house.iter().enumerate() {
        if room.why.is_empty() {
            breaches.push(format!("{}: nothing says why", room.name));
        }
        let is_below = |name: &&&str| house[at + 1..].iter().any(|other| other.name == **name);
        let upward = room.may_name.iter().filter(|name| !is_below(name));
        breaches.extend(upward.map(|name| format!("{} -> {name}: up, or no room", room.name)));
    }
    breaches
}

/// Files that name each other, directly or by way of others: each circle with all that ties it.
pub fn circles(files: &Files, folder: &str) -> Vec<String> {
    let names = Names::read(files, folder);
    let mut next = BTreeMap::<&str, BTreeSet<&str>>::new();
    for arrow in &names.arrows {
        next.entry(&arrow.from).or_default().insert(&arrow.to);
    }
    let mut reached = BTreeMap::<&str, BTreeSet<&str>>::new();
    for &from in next.keys() {
        let found = reached.entry(from).or_default();
        let mut open = vec![from];
        while let Some(file) = open.pop() {
            open.extend(next.get(file).into_iter().flatten().filter(|&&file| found.insert(file)));
        }
    }
    let leads = |from: &str, to: &str| reached.get(from).is_some_and(|found| found.contains(to));
    let mut circles = BTreeSet::new();
    for &file in reached.keys().filter(|file| leads(file, file)) {
        circles.insert(reached[file].iter().copied().filter(|other| leads(other, file)).collect::<Vec<_>>());
    }
    let describe = |circle: Vec<&str>| {
        let is_inside = |file: &String| circle.contains(&file.as_str());
        let ties = names.arrows.iter().filter(|arrow| is_inside(&arrow.from) && is_inside(&arrow.to));
        format!("a circle of {} files:\n  {}", circle.len(), lines(ties).join("\n  "))
    };
    circles.into_iter().map(describe).collect()
}

/// What must not depend on the world, and what the world is.
pub struct Purity {
    /// Beginnings of paths of pure files.
    pub pure: &'static [&'static str],
    /// Of these, what is not pure.
    pub except: &'static [&'static str],
    /// Paths of other crates.
    pub world: &'static [&'static str],
    /// Beginnings of paths of our own files that are the world.
    pub own_world: &'static [&'static str],
}

/// Names of the world in pure files.
pub fn worldly_names(files: &Files, purity: &Purity) -> Vec<String> {
    let begins = |file: &str, starts: &[&str]| starts.iter().any(|start| file.starts_with(start));
    let is_pure = |file: &str| begins(file, purity.pure) && !begins(file, purity.except);
    let names = Names::read(files, "src/");
    let own = names.arrows.iter().filter(|arrow| is_pure(&arrow.from) && begins(&arrow.to, purity.own_world));
    let mut breaches = lines(own);
    let mut seen = BTreeSet::new();
    let mut foreign = names.foreign.iter().filter(|foreign| is_pure(&foreign.from)).collect::<Vec<_>>();
    foreign.sort_by_key(|foreign| (&foreign.from, foreign.line));
    for foreign in foreign {
        let is_world = |world: &&&str| {
            foreign.path.strip_prefix(**world).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        if let Some(world) = purity.world.iter().find(is_world)
            && seen.insert((&foreign.from, world))
        {
            breaches.push(format!("{}:{}: {}", foreign.from, foreign.line, foreign.path));
        }
    }
    let is_there = |start: &&&str| files.keys().any(|file| file.starts_with(**start));
    let absent = purity.pure.iter().chain(purity.own_world).filter(|start| !is_there(start));
    breaches.extend(absent.map(|start| format!("{start}: no such file, and so nothing was looked at")));
    breaches
}

/// Tests outside a folder `tests/`, what is no test in one, and files that are no module.
pub fn misplaced_tests(files: &Files) -> Vec<String> {
    let mut is_test = BTreeMap::<String, bool>::new();
    for tree in Tree::read_all(files, "src/") {
        for (file, test) in tree.files() {
            *is_test.entry(file.to_owned()).or_insert(true) &= test;
        }
    }
    let sources = files.keys().filter(|file| file.starts_with("src/") && file.ends_with(".rs"));
    let breach = |file: &String| {
        let in_tests = file.split('/').rev().skip(1).any(|folder| folder == "tests");
        let is_named_tests = file.ends_with("/tests.rs") || file.ends_with("_tests.rs");
        match is_test.get(file) {
            None => Some(format!("{file}: no module of the crate")),
            Some(true) if !in_tests => Some(format!("{file}: a test outside of a folder tests/")),
            Some(true) if is_named_tests => Some(format!("{file}: its folder says already that it is a test")),
            Some(false) if in_tests => Some(format!("{file}: no test, and in a folder tests/")),
            _ => None,
        }
    };
    sources.filter_map(breach).collect()
}
