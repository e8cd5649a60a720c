//! What `baton table resize` says of a file that is not there.

use std::process::Command;

#[test]
fn a_table_that_is_not_there_is_named_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none");
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    let output = command.args(["table", "resize", "--meetings", "64", "--table"]).arg(&path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.matches(path.to_str().unwrap()).count(), 1, "{said}");
}
