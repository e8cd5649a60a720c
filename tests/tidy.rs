//! The house's rules that no compiler or linter checks.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file with its tests. A longer file holds more than one thought.
const LINES_MAX: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files that belong to the repository: all except build output and the data of version
/// control.
fn files() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name == "target" || name == ".git" {
                continue;
            }
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.sort();
    assert!(found.len() > 10, "the walk finds the repository");
    found
}

/// Path from the root and text of every file that people write.
fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    files().into_iter().filter_map(|path| {
        let short = path.strip_prefix(root()).unwrap().to_owned();
        let written = path.extension().is_none_or(|extension| extension != "lock" && extension != "json");
        written.then(|| fs::read_to_string(&path).ok().map(|text| (short, text)))?
    })
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// Fails with every breach, not only with the first.
fn none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

/// The lint denies it; this checks that nobody lifts the lint elsewhere.
#[test]
fn unsafe_is_allowed_in_sys_alone() {
    let lift = ["allow(unsafe", "_code"].concat();
    let expectation = ["expect(unsafe", "_code"].concat();
    let breaches = sources()
        .filter(|(path, _)| is_rust(path) && !path.starts_with("src/sys"))
        .filter(|(_, text)| text.contains(&lift) || text.contains(&expectation))
        .map(|(path, _)| format!("{}: unsafe code belongs in src/sys", path.display()))
        .collect();
    none(breaches);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"deny\""), "Cargo.toml denies unsafe code");
}

#[test]
fn a_file_holds_one_thought() {
    let counted = ["rs", "c", "h", "sh"];
    let breaches = sources()
        .filter(|(path, _)| path.extension().is_some_and(|extension| counted.iter().any(|&e| extension == e)))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|&(_, lines)| lines > LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines, at most {LINES_MAX}", path.display()))
        .collect();
    none(breaches);
}

#[test]
fn every_file_says_what_it_is() {
    let breaches = sources()
        .filter(|(path, text)| is_rust(path) && !text.starts_with("//!"))
        // A module's tests beside it are described by the module's own doc.
        .filter(|(path, _)| path.file_name().is_some_and(|name| name != "tests.rs"))
        .map(|(path, _)| format!("{}: begins without a module's doc", path.display()))
        .collect();
    none(breaches);
}

/// A test that is skipped proves nothing and looks as if it did.
#[test]
fn no_test_is_skipped() {
    let attribute = ["#[ig", "nore"].concat();
    let breaches = sources()
        .filter(|(path, text)| is_rust(path) && text.contains(&attribute))
        .map(|(path, _)| format!("{}: a skipped test", path.display()))
        .collect();
    none(breaches);
}

/// No source file lists unfinished work, and a path of one machine means nothing on another.
#[test]
fn nothing_is_left_lying_about() {
    let unwanted =
        [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"], ["dbg", "!("], ["/wor", "k/"], ["/roo", "t/"], ["/hom", "e/"]]
            .map(|halves| halves.concat());
    let breaches = sources()
        .flat_map(|(path, text)| {
            let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.to_owned())).collect::<Vec<_>>();
            lines.into_iter().map(move |(at, line)| (path.clone(), at, line))
        })
        .filter_map(|(path, at, line)| {
            let word = unwanted.iter().find(|word| line.contains(word.as_str()))?;
            Some(format!("{}:{at}: `{word}`", path.display()))
        })
        .collect();
    none(breaches);
}

/// Standard output and standard error have one writer, which neither panics nor loses errors: see
/// `src/output.rs`. A test may print.
#[test]
fn results_and_talk_have_one_writer() {
    let ways =
        [["print", "ln!"], ["print", "!"], ["io::std", "out()"], ["io::std", "err()"]].map(|halves| halves.concat());
    let is_test = |path: &Path| {
        let name = path.file_stem().unwrap().to_str().unwrap();
        name.ends_with("tests") || path.components().any(|part| part.as_os_str() == "tests")
    };
    let breaches = sources()
        .filter(|(path, _)| is_rust(path) && path.starts_with("src") && !is_test(path))
        // The two writers themselves: results for people, and the log.
        .filter(|(path, _)| ![Path::new("src/output.rs"), Path::new("src/sys/stderr.rs")].contains(&path.as_path()))
        .flat_map(|(path, text)| {
            let is_breach = |line: &str| {
                // Asking whether a stream is a terminal is allowed, and indicatif draws progress.
                let line = line.replace("stderr().is_terminal()", "").replace("ProgressDrawTarget::stderr()", "");
                !line.trim_start().starts_with("//") && ways.iter().any(|way| line.contains(way.as_str()))
            };
            let lines = text.lines().enumerate().filter(|(_, line)| is_breach(line)).map(|(at, _)| at + 1);
            lines.map(move |at| format!("{}:{at}: by `say!`, `tell!` or `out::`", path.display())).collect::<Vec<_>>()
        })
        .collect();
    none(breaches);
}

#[test]
fn lines_end_where_their_words_end() {
    let breaches = sources()
        .filter(|(_, text)| !text.is_empty())
        .filter(|(_, text)| !text.ends_with('\n') || text.lines().any(|line| line.ends_with([' ', '\t', '\r'])))
        .map(|(path, _)| format!("{}: white space at a line's end, or no newline at the file's", path.display()))
        .collect();
    none(breaches);
}

#[test]
fn the_house_has_its_rooms_and_no_more() {
    let rooms = [
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "benches",
        "bpf",
        "build.rs",
        "docs",
        "scripts",
        "src",
        "target",
        "tests",
    ];
    let breaches = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && !rooms.contains(&name.as_str()))
        .map(|name| format!("{name}: belongs in a room"))
        .collect();
    none(breaches);
}

/// The links of a document lead to existing files.
#[test]
fn links_between_documents_hold() {
    let documents = sources().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "md"));
    let mut breaches = Vec::new();
    for (path, text) in documents {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            if !root().join(&path).parent().unwrap().join(file).exists() {
                breaches.push(format!("{}: no such file: {target}", path.display()));
            }
        }
    }
    none(breaches);
}
