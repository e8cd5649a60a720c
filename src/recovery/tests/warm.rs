//! A new table that is warmed from a snapshot: each row of what the database may say of a part,
//! over the table and the database that run in production.

use std::sync::Arc;

use super::scripted_peer::{EPOCH, domain, summary, terminal};
use crate::cascade::Speakers;
use crate::database::{Change, Database, KeyParameters, Member, PartParameters};
use crate::recovery::{Cursor, DatabaseStore, NoOrphans, Standing, Store, TableStore, Unreadable, Warmed, Warming};
use crate::sys::file_bytes::FileBytes;
use crate::table::archive::{self, Archive};
use crate::table::{Capacity, OwnerId, Part, Table, Terminal, Writer};
use crate::wire::{
    Address, Business, Domain, Epoch, Flags, Layout, Level, MeetingId, MeetingState, Role, Run, TakeoverEntry,
    TerminalState, WINDOW_NONE,
};

const CAPACITY: Capacity = Capacity { meetings: 4096, terminals: 4096 };

/// A table that is gone, the database beside it, and the table after the reboot.
struct Reboot {
    before: Writer,
    database: Database,
    after: Writer,
    warming: Option<Warming>,
    asked: Vec<(MeetingId, u64)>,
    _folder: tempfile::TempDir,
}

impl Reboot {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let database = Database::open(&folder.path().join("database.redb")).unwrap();
        let writer = || Arc::new(Table::on_heap(CAPACITY)).writer(OwnerId::CONTROL);
        Self { before: writer(), database, after: writer(), warming: None, asked: Vec::new(), _folder: folder }
    }

    /// A part in the table, with a member that has reported its version 5.
    fn held(&mut self, meeting: u64, device: u16, change: impl FnOnce(&mut Part)) {
        let mut part =
            Part { epoch: EPOCH, state: MeetingState::InMeeting, ..Part::listed(domain(), &summary(meeting, 3)) };
        change(&mut part);
        self.before.insert_part(&part).unwrap();
        let mut member = Terminal::new(domain().device(device), part.meeting, Role::Chairman);
        (member.version, member.business, member.window) = (5, Business::InMeeting, 2);
        self.before.join(part.meeting, domain(), &member).unwrap();
    }

    /// A conference in the database, with this member.
    fn stored(&self, meeting: u64, device: u16, change: impl FnOnce(&mut KeyParameters)) {
        let part = PartParameters { domain: domain(), version: 3, state: MeetingState::InMeeting };
        let terminal = domain().device(device);
        let member = Member { terminal, role: Role::Participant, flags: Flags::default(), window: WINDOW_NONE };
        let mut parameters = KeyParameters {
            meeting: MeetingId(meeting),
            name: String::new(),
            level: Level::HIGHEST,
            layout: Layout::new(16).unwrap(),
            chairman: Address::default(),
            created_ms: 1,
            parts: vec![part],
            members: vec![member],
            run: summary(meeting, 3).run,
        };
        change(&mut parameters);
        self.commit(&[Change::Create(parameters)]);
    }

    fn commit(&self, changes: &[Change]) {
        self.database.commit(changes, Epoch::new(1, 1)).unwrap();
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut dyn Store) -> T) -> T {
        let Self { after, database, warming, .. } = self;
        act(&mut TableStore {
            writer: after,
            store: &mut DatabaseStore { database: Some(database), is_lost: false, write: drop },
            is_busy: &|_| false,
            speakers: &Speakers::new([(domain(), &[][..])]),
            orphans: &mut NoOrphans,
            replaced: &mut Vec::new(),
            warming: warming.as_mut(),
        })
    }

    /// Walks over the whole snapshot of the table before; gives what came of it.
    fn warm(&mut self) -> Warmed {
        self.warm_by(archive::bytes_of(self.before.table()).unwrap())
    }

    fn warm_by(&mut self, bytes: Vec<u8>) -> Warmed {
        self.warming = Some(Warming::by(Archive::open(FileBytes::heap(&bytes)).unwrap()));
        let (mut cursor, mut asked) = (Cursor::default(), Vec::new());
        let mut meet = |entry: TakeoverEntry, _| {
            asked.push((entry.meeting, entry.version));
            true
        };
        while self.with(|holdings| holdings.walk_snapshot(domain(), &mut cursor, &mut meet)).unwrap() {
            self.warming.iter_mut().for_each(Warming::begin_round);
        }
        self.asked = asked;
        let warming = self.warming.as_mut().unwrap();
        warming.end();
        warming.warmed().clone()
    }

    fn part(&self, meeting: u64) -> Option<Part> {
        self.after.table().part(MeetingId(meeting), domain())
    }

    fn members(&self, meeting: u64) -> Vec<Terminal> {
        self.after.table().members(MeetingId(meeting), domain()).collect()
    }

    /// How a part stands when its autonomous server has given it, with so many members.
    fn taken_over(&mut self, meeting: u64, participants: u16) -> Standing {
        self.with(|holdings| holdings.taken_over(domain(), MeetingId(meeting), None, EPOCH, participants))
    }

    fn audited(&mut self) -> u32 {
        self.with(|holdings| holdings.audit(domain(), EPOCH)).0
    }
}

fn warmed(parts: u64, confirmed: u64, in_doubt: u64, left_out: u64) -> Warmed {
    Warmed { parts, confirmed, in_doubt, left_out, refused: None }
}

#[test]
fn what_the_database_confirms_is_as_the_snapshot_has_it_and_counts_in_the_audit() {
    let mut reboot = Reboot::new();
    reboot.held(1, 1001, |_| {});
    reboot.stored(1, 1001, |_| {});
    assert_eq!(reboot.warm(), warmed(1, 1, 0, 0));
    assert_eq!(reboot.asked, [(MeetingId(1), 3)]);
    let before = reboot.before.table().part(MeetingId(1), domain()).unwrap();
    let expected = Part { epoch: Epoch::NONE, state: MeetingState::Recovering, in_doubt: true, ..before };
    assert_eq!(reboot.part(1), Some(expected), "its own layout and chairman, and not the whole conference's");
    assert_eq!(reboot.members(1), reboot.before.table().members(MeetingId(1), domain()).collect::<Vec<_>>());
    assert_eq!((reboot.taken_over(1, 1), reboot.audited()), (Standing::InDoubt, 1));
    // Its members are not those that the autonomous server counts: nobody waits with that question.
    assert_eq!(reboot.taken_over(1, 2), Standing::Unlisted);
    assert_eq!(reboot.after.table().verify(), Vec::<String>::new());
}

/// It is not known which of them is later: the autonomous server says that.
#[test]
fn where_the_versions_differ_the_database_has_the_members_and_the_snapshot_their_states() {
    for version in [2, 4] {
        let mut reboot = Reboot::new();
        reboot.held(1, 1001, |part| part.version = version);
        reboot.stored(1, 1001, |parameters| {
            parameters.members.push(Member { terminal: domain().device(1002), ..parameters.members[0] });
        });
        assert_eq!(reboot.warm(), warmed(1, 0, 1, 0));
        assert_eq!(reboot.asked, [(MeetingId(1), 3)]);
        let part = reboot.part(1).unwrap();
        assert_eq!((part.version, part.in_doubt, part.is_unlisted), (3, true, true));
        assert_eq!(part.layout, Layout::new(16).unwrap());
        let mut members = reboot.members(1);
        members.sort_by_key(|member| member.terminal);
        let seen: Vec<_> = members.iter().map(|one| (one.version, one.business, one.role, one.window)).collect();
        let invited = (0, Business::Invited, Role::Participant, WINDOW_NONE);
        assert_eq!(seen, [(5, Business::InMeeting, Role::Participant, WINDOW_NONE), invited]);
        assert_eq!((reboot.taken_over(1, 2), reboot.audited()), (Standing::Unlisted, 0));
    }
}

#[test]
fn what_was_in_doubt_is_in_doubt_again() {
    let marks: [fn(&mut Part); 2] = [|part| part.in_doubt = true, |part| part.is_unlisted = true];
    for mark in marks {
        let mut reboot = Reboot::new();
        reboot.held(1, 1001, mark);
        reboot.stored(1, 1001, |_| {});
        assert_eq!(reboot.warm(), warmed(1, 0, 1, 0));
        assert_eq!(reboot.taken_over(1, 1), Standing::Unlisted);
    }
}

#[test]
fn what_an_operation_had_is_as_the_database_has_it() {
    for state in [MeetingState::Starting, MeetingState::Ending] {
        // Written ahead before the snapshot, or after it.
        for before in [MeetingState::InMeeting, state] {
            let mut reboot = Reboot::new();
            reboot.held(1, 1001, |part| part.state = before);
            reboot.stored(1, 1002, |parameters| parameters.parts[0].state = state);
            assert_eq!(reboot.warm(), warmed(1, 0, 1, 0));
            assert_eq!(reboot.part(1).unwrap().state, state);
            assert_eq!(reboot.members(1)[0].terminal, domain().device(1002));
            assert_eq!(reboot.taken_over(1, 1), Standing::Unfinished);
        }
    }
}

#[test]
fn what_the_database_has_not_or_as_another_conference_is_left_out() {
    let mut reboot = Reboot::new();
    for meeting in 1..=4 {
        reboot.held(meeting, 1000 + meeting as u16, |_| {});
    }
    reboot.stored(2, 1002, |_| {});
    reboot.commit(&[Change::End(MeetingId(2))]);
    reboot.stored(3, 1003, |parameters| parameters.run = Run(99));
    reboot.stored(4, 1004, |parameters| parameters.parts[0].domain = Domain::new(77).unwrap());
    assert_eq!(reboot.warm(), warmed(4, 0, 0, 4));
    assert_eq!((reboot.asked.len(), reboot.after.table().count_parts()), (0, 0));
    // The other conference comes by the walk over the database, with nothing of the snapshot.
    let found = reboot.with(|holdings| holdings.next_in_database(domain(), &mut Cursor::default()));
    assert_eq!(found.unwrap().unwrap().meeting, MeetingId(3));
    assert_eq!(reboot.members(3)[0].version, 0);
}

#[test]
fn a_terminal_that_moved_is_where_the_database_has_it() {
    let mut reboot = Reboot::new();
    // The snapshot was taken while it moved: it has read the first part before, and not the other.
    reboot.held(1, 1001, |_| {});
    reboot.held(2, 1002, |_| {});
    reboot.stored(1, 1002, |parameters| parameters.parts[0].version = 4);
    reboot.commit(&[Change::RemoveMember(MeetingId(1), domain().device(1002))]);
    reboot.stored(2, 1001, |parameters| parameters.parts[0].version = 4);
    assert_eq!(reboot.warm(), warmed(2, 0, 2, 0));
    assert_eq!((reboot.members(1).len(), reboot.members(2).len()), (0, 1));
    let moved = reboot.members(2)[0];
    assert_eq!(
        (moved.terminal, moved.version),
        (domain().device(1001), 0),
        "what it was in the other is not this one's"
    );
}

/// Both parts are as the database has them, and both have it: one of the two lists is a lie.
#[test]
fn a_terminal_that_two_parts_have_puts_the_second_in_doubt() {
    let mut reboot = Reboot::new();
    reboot.held(1, 1001, |_| {});
    let mut other = Reboot::new();
    other.held(2, 1001, |_| {});
    reboot.stored(1, 1001, |_| {});
    reboot.stored(2, 1001, |_| {});
    assert_eq!(reboot.warm(), warmed(1, 1, 0, 0));
    let bytes = archive::bytes_of(other.before.table()).unwrap();
    assert_eq!(reboot.warm_by(bytes), warmed(1, 0, 1, 0));
    assert_eq!((reboot.members(1).len(), reboot.members(2).len()), (1, 0));
    assert!(reboot.part(2).unwrap().is_unlisted);
}

#[test]
fn the_newer_state_of_a_terminal_counts() {
    for (version, newer) in [(4, 5), (6, 6)] {
        let mut reboot = Reboot::new();
        reboot.held(1, 1001, |_| {});
        reboot.stored(1, 1001, |_| {});
        reboot.commit(&[Change::Terminal(TerminalState { version, ..terminal(1, 1001) })]);
        reboot.warm();
        assert_eq!((reboot.members(1)[0].version, reboot.members(1)[0].window), (newer, 2));
    }
}

#[test]
fn what_the_table_has_already_stays_as_it_is() {
    let mut reboot = Reboot::new();
    reboot.held(1, 1001, |_| {});
    reboot.stored(1, 1001, |_| {});
    let newer = Part { version: 9, ..Part::listed(domain(), &summary(1, 9)) };
    reboot.after.insert_part(&newer).unwrap();
    assert_eq!(reboot.warm(), warmed(1, 0, 0, 1));
    assert_eq!((reboot.part(1), &reboot.asked[..]), (Some(newer), &[(MeetingId(1), 9)][..]));
    // Of an engine that died while it entered the part, nothing is believed.
    let mut reboot = Reboot::new();
    reboot.held(1, 1001, |_| {});
    reboot.stored(1, 1001, |_| {});
    let half = Part { state: MeetingState::Prepared, version: 1, ..newer };
    reboot.after.insert_part(&half).unwrap();
    assert_eq!(reboot.warm(), warmed(1, 1, 0, 0));
    assert_eq!((reboot.members(1).len(), reboot.taken_over(1, 1)), (1, Standing::InDoubt));
}

/// Level 1 comes first, in bounded walks; damage in the midst ends them, and nothing more.
#[test]
fn a_damaged_segment_ends_the_walk_and_what_came_before_it_stays() {
    let mut reboot = Reboot::new();
    for meeting in 1..=1500 {
        let level = Level::new(1 + (meeting % 5) as u8).unwrap();
        let part = Part { level, state: MeetingState::InMeeting, ..Part::listed(domain(), &summary(meeting, 3)) };
        reboot.before.insert_part(&part).unwrap();
        reboot.stored(meeting, 1, |parameters| {
            parameters.level = level;
            parameters.members.clear();
        });
    }
    let mut bytes = archive::bytes_of(reboot.before.table()).unwrap();
    let mut calls = 0;
    assert_eq!(reboot.warm_by(bytes.clone()), warmed(1500, 1500, 0, 0));
    let levels: Vec<_> = reboot.asked.iter().map(|(meeting, _)| 1 + meeting.0 % 5).collect();
    assert!(levels.is_sorted() && levels.len() == 1500);

    let mut reboot = Reboot { after: Arc::new(Table::on_heap(CAPACITY)).writer(OwnerId::CONTROL), ..reboot };
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    reboot.warming = Some(Warming::by(Archive::open(FileBytes::heap(&bytes)).unwrap()));
    let mut cursor = Cursor::default();
    while reboot.with(|holdings| holdings.walk_snapshot(domain(), &mut cursor, &mut |_, _| true)).unwrap() {
        calls += 1;
        reboot.warming.iter_mut().for_each(Warming::begin_round);
    }
    assert!(calls >= 300 / 64, "{calls} calls");
    let warming = reboot.warming.as_mut().unwrap();
    let refused = warming.warmed().clone();
    assert!(warming.take_fault().is_some() && warming.take_fault().is_none());
    assert!(refused.refused.unwrap().contains("damaged"));
    assert!((1..1500).contains(&refused.confirmed) && refused.confirmed.is_multiple_of(300), "whole segments");
    assert_eq!(reboot.after.table().count_parts() as u64, refused.confirmed);
    // The rest comes from the database.
    let mut next = Cursor::default();
    while reboot.with(|holdings| holdings.next_in_database(domain(), &mut next)).unwrap().is_some() {}
    assert_eq!(reboot.after.table().count_parts(), 1500);
}

/// As one that is refused when it is opened: `baton status` has nothing else that says which file.
#[test]
fn a_snapshot_that_is_refused_in_the_midst_is_named() {
    let mut reboot = Reboot::new();
    reboot.held(1, 1001, |_| {});
    reboot.stored(1, 1001, |_| {});
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("baton.snapshot");
    let mut bytes = archive::bytes_of(reboot.before.table()).unwrap();
    bytes[64] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    reboot.warming = Some(Warming::by(crate::table::file::snapshot::open(&path).unwrap()));
    let mut cursor = Cursor::default();
    assert_eq!(reboot.with(|holdings| holdings.walk_snapshot(domain(), &mut cursor, &mut |_, _| true)), Ok(false));
    let why = reboot.warming.as_ref().unwrap().warmed().refused.clone().unwrap();
    assert!(why.contains(path.to_str().unwrap()), "{why}");
}

/// Nothing is left out for want of a database that can be read.
#[test]
fn a_database_that_cannot_be_read_is_waited_for() {
    let mut reboot = Reboot::new();
    reboot.held(1, 1001, |_| {});
    let archive = Archive::of(reboot.before.table()).unwrap();
    let mut warming = Warming::by(archive);
    let mut cursor = Cursor::default();
    let mut store = TableStore {
        writer: &mut reboot.after,
        store: &mut DatabaseStore { database: None, is_lost: false, write: drop },
        is_busy: &|_| false,
        speakers: &Speakers::new([(domain(), &[][..])]),
        orphans: &mut NoOrphans,
        replaced: &mut Vec::new(),
        warming: Some(&mut warming),
    };
    let walked = store.walk_snapshot(domain(), &mut cursor, &mut |_, _| panic!("nobody confirms it"));
    assert_eq!((walked, cursor), (Err(Unreadable), Cursor::default()));
    assert!(!store.is_whole());
}

/// What a round of the control thread enters is bounded, by members as well.
#[test]
fn a_round_enters_no_more_than_it_has_time_for() {
    let mut reboot = Reboot::new();
    for meeting in 1..=4 {
        let part = Part { state: MeetingState::InMeeting, ..Part::listed(domain(), &summary(meeting, 3)) };
        reboot.before.insert_part(&part).unwrap();
        for device in 1..=1000 {
            let terminal = domain().device(meeting as u16 * 1000 + device);
            reboot
                .before
                .join(part.meeting, domain(), &Terminal::new(terminal, part.meeting, Role::Participant))
                .unwrap();
        }
        reboot.stored(meeting, 1, |_| {});
    }
    let archive = Archive::of(reboot.before.table()).unwrap();
    let mut warming = Warming::by(archive);
    warming.spend(crate::limits::WARM_ROUND - 1500);
    reboot.warming = Some(warming);
    let mut cursor = Cursor::default();
    for entered in [2, 2] {
        assert_eq!(reboot.with(|holdings| holdings.walk_snapshot(domain(), &mut cursor, &mut |_, _| true)), Ok(true));
        assert_eq!(reboot.after.table().count_parts(), entered);
    }
    reboot.warming.as_mut().unwrap().begin_round();
    assert_eq!(reboot.with(|holdings| holdings.walk_snapshot(domain(), &mut cursor, &mut |_, _| true)), Ok(false));
    assert_eq!(reboot.after.table().count_parts(), 4);
}
