//! A table that the version before wrote: refused, and brought over by a resize.
//!
//! It has room for 24 parts and 80 terminals. Meetings 1 to 6 have parts in domains 1 and 2, but
//! for the last of these, which was removed; each has six members with 0, 6, 7, 16, 17 and 64 bytes
//! of information, in the order of their devices. Every third by its address has reported.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

use flate2::read::GzDecoder;

use super::domain;
use super::file::Folder;
use crate::sys::mapping::{BootId, Mapping};
use crate::sys::process::copies;
use crate::table::file::resize::{ResizeError, Wanted, resize};
use crate::table::file::{OpenError, Refusal};
use crate::table::*;
use crate::wire::{Business, Decode, Epoch, Flags, Info, Layout, Level, MeetingId, Role, Run};

/// Where the earlier layout has the first owner's cell, in words.
const CELL: usize = 64;

fn bytes() -> Vec<u8> {
    let packed = include_bytes!("../../../tests/data/table-of-the-version-before.gz");
    let mut bytes = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Writes the words of a table, changed, into a file.
fn written(folder: &Folder, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = bytes();
    change(&mut bytes);
    let path = folder.file("table");
    fs::write(&path, bytes).unwrap();
    path
}

fn set_word(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at * 8..][..8].copy_from_slice(&value.to_le_bytes());
}

/// What it holds, by the rule above.
fn expected() -> BTreeMap<(u64, u64), (Part, Vec<Terminal>)> {
    let mut device = 0;
    let mut expected = BTreeMap::new();
    for meeting in 1..=6 {
        for number in 1..=2 {
            let mut members = Vec::new();
            for info in [0, 6, 7, 16, 17, 64] {
                device += 1;
                let mut terminal = Terminal::new(domain(number).device(device), MeetingId(meeting), Role::Participant);
                terminal.window = device as u8;
                terminal.info = Info::new(&[device as u8; 64][..info]);
                if terminal.terminal.number().is_multiple_of(3) {
                    (terminal.version, terminal.business, terminal.decode) = (5, Business::InMeeting, Decode::Decoding);
                    (terminal.role, terminal.flags, terminal.channel) = (Role::SpeakerOne, Flags::ONLINE, 9);
                    terminal.stream = crate::wire::StreamKind::Main;
                }
                members.push(terminal);
            }
            let part = Part {
                version: 10 * meeting + number,
                epoch: Epoch::new(2, 40),
                level: Level::new(1 + (meeting % 5) as u8).unwrap(),
                layout: Layout::new(4).unwrap(),
                participants: 6,
                chairman: domain(number).device(1),
                in_doubt: meeting == 3,
                run: Run(meeting * 7),
                ..super::part(meeting, number)
            };
            expected.insert((meeting, number), (part, members));
        }
    }
    expected.remove(&(6, 2));
    expected
}

fn content(table: &Table) -> BTreeMap<(u64, u64), (Part, Vec<Terminal>)> {
    let with_members = |part: Part| {
        let mut members: Vec<_> = table.members(part.meeting, part.domain).collect();
        members.sort_by_key(|member| member.terminal);
        ((part.meeting.0, part.domain.number()), (part, members))
    };
    table.parts().map(with_members).collect()
}

#[test]
fn it_is_refused_by_name_and_brought_over_whole() {
    let _none_copied = copies::forbidden();
    let folder = Folder::new();
    let path = written(&folder, |_| {});
    let refused = Table::open_at(&path).unwrap_err();
    assert!(matches!(refused, OpenError::Refused(Refusal::EarlierLayout)), "{refused}");
    assert!(refused.to_string().contains("baton table resize"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), bytes());

    let wanted = Wanted { meetings: Some(100), ..Wanted::default() };
    let done = resize(&path, &wanted, &mut |_| {}).unwrap();
    assert_eq!((done.parts, done.terminals, done.damaged), (11, 66, 0));
    assert_eq!(done.after, Capacity { meetings: 100, terminals: 80 });
    assert_eq!(fs::read(done.kept.unwrap()).unwrap(), bytes(), "the old one stays as it was");
    let table = Table::open_at(&path).unwrap();
    assert_eq!(content(&table), expected());
    assert_eq!((table.boot_id(), table.generation_end()), (BootId(77), 90));
    assert_eq!(table.epoch(), Epoch::new(2, 40).with_nonce(0xbeef));
    assert_eq!(table.fences().collect::<Vec<_>>(), [(domain(9), Epoch::new(3, 1))]);
    assert_eq!(table.verify(), Vec::<String>::new());
}

/// Its own program would finish what a cell names.
#[test]
fn what_a_dead_writer_was_removing_is_gone() {
    let _none_copied = copies::forbidden();
    let slot_of = |bytes: &[u8], first: u64, second: u64| {
        let words: Vec<_> = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let parts = (0..words.len() - 1)
            .find(|&at| words[at] == first && words[at + 1] >> 48 != 0 && words[at + 1] & 0xff_ffff_ffff == second);
        parts.unwrap()
    };
    let folder = Folder::new();
    // The part of meeting 1 in domain 2 is in the second slot, bank 0 or 1.
    let path = written(&folder, |bytes| {
        let at = slot_of(bytes, 1, 2);
        let first = slot_of(bytes, 1, 1);
        let slot = (at / 16 - first / 16) as u64;
        set_word(bytes, CELL + 1, slot + 1);
        set_word(bytes, CELL, 2);
    });
    resize(&path, &Wanted { discard_old: true, ..Wanted::default() }, &mut |_| {}).unwrap();
    let mut left = expected();
    left.remove(&(1, 2));
    assert_eq!(content(&Table::open_at(&path).unwrap()), left);

    // And so with a member: its part is in doubt.
    let folder = Folder::new();
    let path = written(&folder, |bytes| {
        set_word(bytes, CELL + 2, 1);
        set_word(bytes, CELL, 4);
    });
    resize(&path, &Wanted { discard_old: true, ..Wanted::default() }, &mut |_| {}).unwrap();
    let mut left = expected();
    let (part, members) = left.get_mut(&(1, 1)).unwrap();
    members.remove(0);
    (part.participants, part.in_doubt) = (5, true);
    assert_eq!(content(&Table::open_at(&path).unwrap()), left);
}

/// Wherever it is cut or damaged, it is refused or brought over without what was damaged.
#[test]
fn damage_is_refused_or_left_out() {
    let _none_copied = copies::forbidden();
    let whole = bytes();
    let (mut refused, mut left_out, mut same) = (0, 0, 0);
    // A prime, so that every kind of word is met.
    for at in (0..whole.len()).step_by(61) {
        let folder = Folder::new();
        let path = written(&folder, |bytes| bytes[at] ^= 1 << (at % 8));
        match resize(&path, &Wanted { discard_old: true, ..Wanted::default() }, &mut |_| {}) {
            Err(ResizeError::Table { .. } | ResizeError::Flawed { .. } | ResizeError::Unfit { .. }) => refused += 1,
            Err(other) => panic!("byte {at}: {other}"),
            Ok(done) => {
                let table = Table::open_at(&path).unwrap();
                assert_eq!(table.verify(), Vec::<String>::new(), "byte {at}");
                let expected = expected();
                if done.damaged > 0 {
                    left_out += 1;
                    assert_eq!(done.terminals, 66 - done.damaged, "byte {at}");
                    let of = content(&table).into_iter().filter(|(key, held)| expected[key] != *held);
                    assert!(of.into_iter().all(|(_, (part, _))| part.in_doubt), "byte {at}");
                } else {
                    same += 1;
                }
            }
        }
    }
    assert!(refused > 10 && left_out > 10 && same > 10, "{refused} refused, {left_out} left out, {same} as before");
    for length in [0, 8, 511, 512, 4096, whole.len() - 8] {
        let folder = Folder::new();
        let path = written(&folder, |bytes| bytes.truncate(length));
        let error = resize(&path, &Wanted::default(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, ResizeError::Table { .. }), "{length}: {error}");
        assert!(Mapping::open(&path).map_or(true, |mapping| mapping.bytes() == length as u64));
    }
}
