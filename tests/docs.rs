//! The documents agree with the program.

use baton::wire::{MeetingState, Opcode, Status};

/// The rows of the wire format's tables, cell by cell.
fn rows() -> Vec<Vec<&'static str>> {
    let rows = include_str!("../docs/wire.md").lines().filter(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn every_opcode_is_documented_with_its_name_and_payload() {
    let rows = rows();
    for opcode in Opcode::ALL {
        let number = format!("{:02X}", opcode.wire());
        let name = opcode.name().to_uppercase();
        let row = rows.iter().find(|row| row[0] == number && row.len() == 5 && row[1] == name);
        let row = row.unwrap_or_else(|| panic!("{number} {name} has no row"));
        assert_eq!(row[3], if opcode.is_page() { "U" } else { "P" }, "{name}");
    }
    let documented = rows.iter().filter(|row| row.len() == 5 && u8::from_str_radix(row[0], 16).is_ok());
    // Messages between dispatch servers are not opcodes of an autonomous server.
    let (among_us, others): (Vec<_>, Vec<_>) = documented.partition(|row| row[2] == "D→D");
    assert_eq!(others.len(), Opcode::ALL.len(), "and no other");
    assert!(among_us.iter().all(|row| Opcode::ALL.iter().all(|opcode| format!("{:02X}", opcode.wire()) != row[0])));
}

#[test]
fn every_status_and_state_is_documented() {
    let rows = rows();
    for status in Status::ALL {
        let name = status.name().to_uppercase().replace(' ', "_");
        let number = status.wire().to_string();
        assert!(rows.iter().any(|row| row.len() == 3 && row[0] == number && row[1] == name), "{name}");
    }
    let states = rows.iter().find(|row| row[0] == "state").unwrap()[1];
    let expected: Vec<_> = MeetingState::ALL.iter().map(|state| format!("{} {state}", state.wire())).collect();
    assert_eq!(states, expected.join(", "));
}
