//! A script that is asked what it does says so, and does nothing.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// All that a script may run before it has answered.
const TOOLS: [&str; 5] = ["bash", "cat", "dirname", "env", "sed"];

#[test]
fn every_script_answers_help_and_does_nothing_else() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = tempfile::tempdir().unwrap();
    for tool in TOOLS {
        let path =
            ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool)).into_iter().find(|path| path.exists());
        symlink(path.unwrap_or_else(|| panic!("{tool} is not here")), tools.path().join(tool)).unwrap();
    }
    let listed = Command::new("git").arg("-C").arg(root).args(["ls-files", "scripts"]).output();
    let listed = listed.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let scripts = String::from_utf8(listed.unwrap_or_default()).unwrap();
    let runs = |name: &&str| name.ends_with(".sh") && !name.ends_with("lib.sh") && !name.ends_with(".inc.sh");
    for script in scripts.lines().filter(runs) {
        let mut command = Command::new("bash");
        let output =
            command.arg(root.join(script)).arg("--help").env_clear().env("PATH", tools.path()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let wrong = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && wrong.is_empty(), "{script}: {wrong}");
        assert!(said.len() > 40, "{script} says: {said}");
    }
}
