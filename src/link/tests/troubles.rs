//! What workers answer when the table is full or damaged, and what they tell the control thread.

use std::sync::atomic::Ordering;

use super::*;
use crate::link::troubles::Trouble;

/// A terminal reports with so many bytes of additional information.
fn report_info(rig: &Rig, device: u16, version: u32, info: usize) {
    let mut told = Terminal { version, ..terminal(device) };
    told.info = Info::new(&[9; 64][..info]);
    let header = Header { meeting: MEETING, transaction: Transaction(version), ..Header::default() };
    let key = Key::derive(Some(&SECRET), Direction::Autonomous);
    let mut buffer = [0; crate::limits::FRAME_BYTES_MAX];
    let states = [TerminalState::from(&told)].into_iter();
    let from = envelope(domain().device(device));
    let (length, _) = encode_page(&mut buffer, &from, Opcode::ReportInfo, &header, (0, 1), states, &key);
    rig.ring.arrive(&buffer[..length], Some(rig.now));
}

#[test]
fn a_terminal_whose_information_finds_no_room_is_told_capacity_and_named() {
    let mut rig = Rig::new(4, 16);
    let mut control = rig.table.writer(OwnerId::CONTROL);
    let room = rig.table.information_max();
    for number in 0..room as u16 {
        let mut member = terminal(100 + number);
        member.info = Info::new(&[7; 64]);
        control.join(MEETING, domain(), &member).unwrap();
    }
    for version in 1..=3 {
        report_info(&rig, 1, version, 64);
        rig.step();
        rig.wait_for_acknowledgements();
        assert_eq!(rig.acknowledged(), [(domain().device(1), version, Status::Capacity)]);
    }
    assert_eq!(rig.table.terminal(domain().device(1)).unwrap().version, 0, "what was not acknowledged OK is not there");
    assert_eq!((rig.count(Counter::ReportsFull), rig.count(Counter::ReportsDeferred)), (3, 0));
    assert_eq!(rig.shared.troubles.take(), Some(Trouble::Full(domain().device(1))));

    // With less to say it is heard, and with room too.
    report_info(&rig, 1, 4, 6);
    rig.step();
    rig.wait_for_acknowledgements();
    assert_eq!(rig.acknowledged(), [(domain().device(1), 4, Status::Ok)]);
    assert_eq!(control.leave(MEETING, domain().device(100)), Ok(true));
    report_info(&rig, 1, 5, 64);
    rig.step();
    rig.wait_for_acknowledgements();
    assert_eq!(rig.acknowledged(), [(domain().device(1), 5, Status::Ok)]);
    assert_eq!(rig.table.terminal(domain().device(1)).unwrap().info[..], [9; 64]);
}

#[test]
fn a_terminal_whose_record_is_damaged_is_told_to_the_control_thread() {
    let mut rig = Rig::new(4, 16);
    let address = domain().device(2);
    let words = rig.table.mapping().words();
    let record = words.iter().filter(|word| word.load(Ordering::Relaxed) == address.number());
    assert!(record.map(|word| word.store(address.number() ^ 1 << 20, Ordering::Relaxed)).count() > 0);
    rig.report(2, 6, FlagsHeader::default());
    rig.step();
    rig.wait_for_acknowledgements();
    assert_eq!((rig.acknowledged(), rig.count(Counter::ReportsDeferred)), (vec![], 1));
    assert_eq!(rig.shared.troubles.take(), Some(Trouble::Damaged(address)));
    // The control thread throws it away; what is not there any more is told so.
    let discarded = rig.table.writer(OwnerId::CONTROL).discard_damaged_terminal(address);
    assert_eq!(discarded.unwrap().unwrap().member_of, Some((MEETING, domain())));
    rig.report(2, 7, FlagsHeader::default());
    rig.step();
    rig.wait_for_acknowledgements();
    assert_eq!(rig.acknowledged(), [(address, 7, Status::UnknownTerminal)]);
}
