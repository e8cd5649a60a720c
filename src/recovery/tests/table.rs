//! The machine over the table itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::scripted_peer::{EPOCH, domain, entries, summary};
use crate::cascade::Speakers;
use crate::database::{Change, Database, KeyParameters, Member, PartParameters};
use crate::recovery::{
    DatabaseStore, Listed, Lookup, NoOrphans, Path, ServerRecovery, Settings, Standing, Store, TableStore, Written,
};
use crate::table::{Capacity, OwnerId, Part, Table, Terminal};
use crate::time::Nanos;
use crate::wire::{
    Address, Epoch, Flags, Layout, Level, MeetingId, MeetingState, Opcode, Record, Role, Run, TakeoverEntry,
    TerminalState,
};

fn part(meeting: u64, level: Level) -> Part {
    Part { level, ..Part::listed(domain(), &summary(meeting, 1)) }
}

#[test]
fn the_first_takeover_asks_for_level_1_although_it_was_entered_last() {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 1000, terminals: 8 }));
    let mut writer = table.writer(OwnerId::CONTROL);
    let per_page = TakeoverEntry::PER_PAGE as u64;
    let (low, high) = (3 * per_page, per_page / 2);
    for meeting in 1..=low {
        writer.insert_part(&part(meeting, Level::LOWEST)).unwrap();
    }
    for meeting in low + 1..=low + high {
        writer.insert_part(&part(meeting, Level::HIGHEST)).unwrap();
    }
    let mut server = ServerRecovery::new(domain(), EPOCH, Path::Cache, Settings::default(), Nanos(0));
    let mut holdings = TableStore {
        writer: &mut writer,
        store: &mut DatabaseStore { database: None, is_lost: false, write: drop },
        is_busy: &|_| false,
        speakers: &Speakers::new([(domain(), &[][..])]),
        orphans: &mut NoOrphans,
        replaced: &mut Vec::new(),
        warming: None,
    };
    let first = server.poll_transmit(Nanos(0), &mut holdings).expect("a request");
    assert_eq!(first.opcode(), Opcode::TakeoverBatch.wire());
    let asked = entries(&first);
    assert_eq!(asked.len(), TakeoverEntry::PER_PAGE);
    let expected: Vec<u64> = (low + 1..=low + high).chain(1..=per_page - high).collect();
    assert_eq!(asked, expected);
}

/// Clears the last word of the table that is this one: of a record, which is behind all that leads
/// to it.
fn damage(table: &Table, word: u64) {
    let words = table.mapping().words();
    let at = words.iter().rposition(|at| at.load(Ordering::Relaxed) == word).expect("in its record");
    words[at].store(0, Ordering::Relaxed);
}

fn database() -> (tempfile::TempDir, Database) {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let database = Database::open(&folder.path().join("database.redb")).unwrap();
    (folder, database)
}

/// The part's record is damaged, and that of one of its members too.
#[test]
fn a_member_that_cannot_be_read_comes_back_with_its_meeting() {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 1, terminals: 8 }));
    let mut writer = table.writer(OwnerId::CONTROL);
    let meeting = MeetingId(7);
    writer.insert_part(&part(7, Level::HIGHEST)).unwrap();
    let members = [1001, 1002, 1003].map(|device| domain().device(device));
    for member in members {
        writer.join(meeting, domain(), &Terminal::new(member, meeting, Role::Participant)).unwrap();
    }
    damage(&table, members[1].number());
    damage(&table, Epoch::new(1, 6).0);
    let (_folder, database) = database();
    let stored = Change::Create(KeyParameters {
        meeting,
        name: String::new(),
        level: Level::HIGHEST,
        layout: Layout::new(4).unwrap(),
        chairman: Address::default(),
        created_ms: 1,
        parts: vec![PartParameters { domain: domain(), version: 3, state: MeetingState::InMeeting }],
        members: members
            .map(|terminal| Member { terminal, role: Role::Participant, flags: Flags::default(), window: 2 })
            .to_vec(),
        run: Run(7),
    });
    database.commit(&[stored], EPOCH).unwrap();
    let mut holdings = TableStore {
        writer: &mut writer,
        store: &mut DatabaseStore { database: Some(&database), is_lost: false, write: drop },
        is_busy: &|_| false,
        speakers: &Speakers::new([(domain(), &[][..])]),
        orphans: &mut NoOrphans,
        replaced: &mut Vec::new(),
        warming: None,
    };
    assert_eq!(holdings.look_up(domain(), &summary(7, 5)), Lookup::Found { version: 3, epoch: Epoch::NONE });
    let mut there: Vec<_> = table.members(meeting, domain()).map(|member| (member.terminal, member.window)).collect();
    there.sort_unstable();
    assert_eq!(there, members.map(|member| (member, 2)));
    let restored = table.part(meeting, domain()).expect("it is whole again");
    assert_eq!((restored.state, restored.participants), (MeetingState::Recovering, 3));
    assert_eq!(table.verify(), Vec::<String>::new());
}

/// The chain still counts it, so a takeover agrees; what the autonomous server lists then makes it
/// whole.
#[test]
fn a_part_with_a_member_that_cannot_be_read_is_made_whole_by_its_list() {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 1, terminals: 8 }));
    let mut writer = table.writer(OwnerId::CONTROL);
    let meeting = MeetingId(7);
    writer.insert_part(&part(7, Level::HIGHEST)).unwrap();
    let members = [1001, 1002, 1003].map(|device| domain().device(device));
    for member in members {
        writer.join(meeting, domain(), &Terminal::new(member, meeting, Role::Participant)).unwrap();
    }
    let (_folder, database) = database();
    let mut holdings = TableStore {
        writer: &mut writer,
        store: &mut DatabaseStore { database: Some(&database), is_lost: false, write: drop },
        is_busy: &|_| false,
        speakers: &Speakers::new([(domain(), &[][..])]),
        orphans: &mut NoOrphans,
        replaced: &mut Vec::new(),
        warming: None,
    };
    let taken = (meeting, None, EPOCH, 3);
    let take_over = |holdings: &mut TableStore<'_, _>| {
        let (meeting, found, epoch, participants) = taken;
        holdings.taken_over(domain(), meeting, found, epoch, participants)
    };
    assert_eq!(take_over(&mut holdings), Standing::InMeeting);
    damage(&table, members[1].number());
    assert_eq!(take_over(&mut holdings), Standing::InMeeting);

    // One of them, whole or not, has left meanwhile: the list has the other two, or all.
    for stays in [true, false] {
        let list = members.into_iter().filter(|&member| stays || member != members[1]);
        let list: Vec<_> =
            list.map(|member| TerminalState::from(&Terminal::new(member, meeting, Role::Participant))).collect();
        let listed = Listed { terminals: &list, unread: &[], is_cut: false, asked: &[] };
        assert_eq!(holdings.update_terminals(domain(), meeting, &listed, &mut Vec::new()), Written::Whole);
        let part = table.part(meeting, domain()).unwrap();
        assert_eq!((usize::from(part.participants), part.in_doubt), (list.len(), false));
        assert_eq!(table.members(meeting, domain()).count(), list.len());
        assert_eq!(table.verify(), Vec::<String>::new());
        damage(&table, if stays { members[1].number() } else { members[0].number() });
    }
}

#[test]
fn what_neither_table_nor_database_can_say_is_an_orphan_and_can_be_adopted() {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 1, terminals: 8 }));
    let mut writer = table.writer(OwnerId::CONTROL);
    writer.insert_part(&part(7, Level::HIGHEST)).unwrap();
    damage(&table, Epoch::new(1, 6).0);
    let (_folder, database) = database();
    let mut written = Vec::new();
    let mut holdings = TableStore {
        writer: &mut writer,
        store: &mut DatabaseStore { database: Some(&database), is_lost: false, write: |changes| written.push(changes) },
        is_busy: &|_| false,
        speakers: &Speakers::new([(domain(), &[][..])]),
        orphans: &mut NoOrphans,
        replaced: &mut Vec::new(),
        warming: None,
    };
    let listed = summary(7, 5);
    assert_eq!(holdings.look_up(domain(), &listed), Lookup::Unknown);
    assert!(holdings.adopt(domain(), &listed), "in the slot of what was damaged, for there is no other");
    assert_eq!(holdings.look_up(domain(), &listed), Lookup::Found { version: 5, epoch: Epoch::NONE });
    assert_eq!((written.len(), table.verify()), (1, vec![]));
}

#[test]
fn a_part_that_cannot_be_read_comes_back_though_nobody_lists_it() {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 4, terminals: 8 }));
    let mut writer = table.writer(OwnerId::CONTROL);
    // Not settled: else it would be asked for unread.
    let damaged = Part { epoch: Epoch::new(1, 5), in_doubt: true, ..part(7, Level::HIGHEST) };
    writer.insert_part(&damaged).unwrap();
    writer.insert_part(&part(8, Level::HIGHEST)).unwrap();
    damage(&table, Epoch::new(1, 5).0);
    let (_folder, database) = database();
    let stored = Change::Create(KeyParameters {
        meeting: MeetingId(7),
        run: Run(7),
        name: String::new(),
        level: Level::HIGHEST,
        layout: Layout::new(4).expect("a layout"),
        chairman: Address::default(),
        created_ms: 1,
        parts: vec![PartParameters { domain: domain(), version: 3, state: MeetingState::InMeeting }],
        members: Vec::new(),
    });
    database.commit(&[stored], EPOCH).unwrap();
    let mut holdings = TableStore {
        writer: &mut writer,
        store: &mut DatabaseStore { database: Some(&database), is_lost: false, write: drop },
        is_busy: &|_| false,
        speakers: &Speakers::new([(domain(), &[][..])]),
        orphans: &mut NoOrphans,
        replaced: &mut Vec::new(),
        warming: None,
    };
    let mut server = ServerRecovery::new(domain(), EPOCH, Path::Cache, Settings::default(), Nanos(0));
    let requests = std::iter::from_fn(|| server.poll_transmit(Nanos(0), &mut holdings));
    let asked: Vec<_> =
        requests.filter(|request| request.is_takeover()).flat_map(|request| entries(&request)).collect();
    assert!(asked.contains(&7) && asked.contains(&8), "{asked:?}");
    assert_eq!(table.part(MeetingId(7), domain()).map(|part| part.state), Some(MeetingState::Recovering));
}
