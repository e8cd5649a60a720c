//! Who asks a script what it does is told, and nothing is done. Only the text is looked at: to run
//! one that does not know the question would install software.

use std::fs;
use std::path::Path;

#[test]
fn every_script_that_installs_something_answers_help_first() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut silent = Vec::new();
    for script in ["setup.sh", "setup-peers.sh", "vm/fetch.sh"] {
        let text = fs::read_to_string(root.join(script)).unwrap();
        if !text.contains("--help") {
            silent.push(script);
        }
    }
    assert!(silent.is_empty(), "`--help` installs packages: {silent:?}");
}
