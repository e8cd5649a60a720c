//! A snapshot read where it lies is what the table held; and what is wrong in one is found though
//! every digest fits.

use std::sync::Arc;

use proptest::prelude::*;

use super::file::{Folder, furnished};
use super::{domain, part, report, table};
use crate::sys::file_bytes::FileBytes;
use crate::table::archive::{Archive, SnapshotFault};
use crate::table::file::snapshot::{self, Snapshot};
use crate::table::*;
use crate::wire::{Info, Level, MeetingId, MeetingState, Role};

fn member(number: u64, device: u16) -> Terminal {
    Terminal::new(domain(number).device(device), MeetingId(1), Role::Participant)
}

/// Parts and members as they come by chance: domain, meeting, level, members, and whether it is in
/// doubt.
fn random_table(parts: &[(u64, u64, u8, u16, bool)]) -> Arc<Table> {
    let table = table(256, 4096);
    let mut control = table.writer(OwnerId::CONTROL);
    let mut device = 0;
    for &(number, meeting, level, members, in_doubt) in parts {
        let level = Level::new(level).unwrap();
        let state = if in_doubt { MeetingState::Recovering } else { MeetingState::InMeeting };
        let new = Part { level, state, in_doubt, version: meeting * 3, ..part(meeting, number) };
        if control.insert_part(&new).is_err() {
            continue;
        }
        for _ in 0..members {
            device += 1;
            let mut member = member(number, device);
            member.info = Info::new(&vec![device as u8; usize::from(device % 65)]);
            // Extents are fewer than terminals.
            let _ = control.join(MeetingId(meeting), domain(number), &member);
            report(&mut control, member.terminal, 1 + u32::from(device), &[7; 6][..usize::from(device % 7)]);
        }
    }
    drop(control);
    table
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_in_place_is_what_the_table_held(
        parts in prop::collection::vec((1..6_u64, 1..40_u64, 1..=5_u8, 0..20_u16, any::<bool>()), 0..60)
    ) {
        let table = random_table(&parts);
        let archive = Archive::of(&table).unwrap();
        prop_assert_eq!(Snapshot::read(&archive).unwrap(), Snapshot::of(&table));
        let whence = archive.whence();
        prop_assert_eq!(whence.parts, u64::from(table.count_parts()));
        prop_assert_eq!(whence.terminals, u64::from(table.count_terminals()));
        // Marks are kept, and each domain is met with level 1 first.
        for number in 1..6 {
            let (mut at, mut met) = (0, Vec::new());
            while let Some(found) = archive.next_in(domain(number), at) {
                let segment = archive.segment(found).unwrap();
                met.extend((0..segment.len()).filter_map(|at| segment.get(at)?.part()));
                at = found + 1;
            }
            let mut expected: Vec<_> = table.parts_in(domain(number)).collect();
            expected.sort_by_key(|part| (part.level, part.meeting));
            prop_assert_eq!(met, expected);
        }
    }
}

/// There are more parts, and more members, than a segment takes.
#[test]
fn a_table_is_written_in_segments_of_bounded_length() {
    let table = table(4096, 20_000);
    let mut control = table.writer(OwnerId::CONTROL);
    for meeting in 1..=2500 {
        control.insert_part(&Part { run: crate::wire::Run(meeting), ..part(meeting, 1) }).unwrap();
    }
    for device in 1..=18_000 {
        let meeting = MeetingId(1 + u64::from(device) / 6000);
        control.join(meeting, domain(1), &member(1, device)).unwrap();
    }
    drop(control);
    let archive = Archive::of(&table).unwrap();
    let lengths: Vec<_> = (0..archive.segments()).map(|number| archive.segment(number).unwrap().len()).collect();
    assert_eq!(lengths, [2, 1024, 1024, 450], "members, then parts");
    assert_eq!(Snapshot::read(&archive).unwrap(), Snapshot::of(&table));
}

/// Each segment's border, and each byte around it: what was cut there, or cut out, is refused.
#[test]
fn a_cut_at_the_border_of_a_segment_is_refused() {
    let table = random_table(&[(1, 1, 1, 9, false), (1, 2, 3, 0, false), (2, 1, 1, 30, true), (3, 7, 5, 1, false)]);
    let mut bytes = Vec::new();
    let (_, head) = archive::write(&table, &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })
    .unwrap();
    assert!(matches!(Archive::open(FileBytes::heap(&bytes)), Err(SnapshotFault::NotASnapshot)), "not ended");
    bytes[..head.len()].copy_from_slice(&head);
    assert!(Snapshot::read(&Archive::open(FileBytes::heap(&bytes)).unwrap()).is_ok());
    for at in (64..bytes.len()).step_by(64).chain([bytes.len() - 1, bytes.len() - 8, bytes.len() - 9]) {
        let cut = Archive::open(FileBytes::heap(&bytes[..at]));
        assert!(matches!(cut, Err(SnapshotFault::Length { .. })), "{at}: {cut:?}");
        // As long as it says, with something cut out of it.
        let mut shorter = [&bytes[..at], bytes[at..].get(64..).unwrap_or(&[])].concat();
        let length = (shorter.len() as u64 - 64).to_le_bytes();
        shorter[24..32].copy_from_slice(&length);
        let read = Archive::open(FileBytes::heap(&shorter)).and_then(|archive| Snapshot::read(&archive));
        assert!(matches!(read, Err(SnapshotFault::Digest | SnapshotFault::Content(_))), "{at}: {read:?}");
    }
}

/// FAULT (mended with this test): header and footer were read before they were fetched. A page that
/// the disk cannot give, or that is gone, under one of them was a SIGBUS at every start, which no
/// start of an engine came past; it is to be an error, and the database serves.
#[test]
fn what_cannot_be_had_of_a_file_is_an_error_and_no_signal() {
    let folder = Folder::new();
    let path = folder.file("snapshot");
    let length = snapshot::write(&furnished(&folder.file("table")), &path).unwrap().head.bytes;
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let open = || Archive::open(FileBytes::open(&path).unwrap());
    file.set_len(length.next_multiple_of(4096) + 4096).unwrap();
    assert!(matches!(open(), Err(SnapshotFault::Length { .. })));
    // The footer's page is gone, then the header's.
    for left in [4096, 0] {
        file.set_len(3 * 4096).unwrap();
        let bytes = FileBytes::open(&path).unwrap();
        file.set_len(left).unwrap();
        let opened = Archive::open(bytes);
        assert!(matches!(opened, Err(SnapshotFault::Io { .. })), "{opened:?}");
    }
}
