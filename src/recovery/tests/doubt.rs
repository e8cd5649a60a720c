//! What the table's mark says of a part whose version and members are written one after the other: over the table and the
//! database that run in production.

use std::sync::Arc;

use super::hand::{EPOCH, domain, summary, terminal};
use crate::cms::{Change, Database, KeyParameters, Member, PartParameters, WINDOW_NONE};
use crate::recovery::{Cursor, DatabaseStore, Holdings, Lookup, Standing, TableHoldings, Written};
use crate::table::{Capacity, OwnerId, Part, Table, Terminal, Writer};
use crate::wire::{
    Address, Epoch, Flags, Layout, Level, MeetingId, MeetingState, MeetingSummary, Role, Run, TerminalState,
};

/// Table and database of a dispatch server.
struct Memory {
    writer: Writer,
    database: Database,
    /// What went to the database and is not in it.
    written: Vec<Vec<Change>>,
    busy: bool,
    _folder: tempfile::TempDir,
}

impl Memory {
    fn new(capacity: Capacity) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let database = Database::open(&folder.path().join("database.redb")).unwrap();
        let writer = Arc::new(Table::on_heap(capacity)).writer(OwnerId::CONTROL);
        Self { writer, database, written: Vec::new(), busy: false, _folder: folder }
    }

    /// A table with meeting 1 in meeting at version 1, with these members, and believed.
    fn with_members(devices: &[u16]) -> Self {
        let mut memory = Self::new(Capacity { meetings: 16, terminals: 64 });
        memory.enter(1, MeetingState::InMeeting, devices);
        memory
    }

    fn enter(&mut self, meeting: u64, state: MeetingState, devices: &[u16]) {
        let meeting = MeetingId(meeting);
        let part = Part {
            meeting,
            domain: domain(),
            version: 1,
            epoch: EPOCH,
            state,
            level: Level::HIGHEST,
            layout: Layout::new(4).unwrap(),
            participants: 0,
            chairman: Address::default(),
            in_doubt: false,
            run: Run(7),
        };
        self.writer.insert_part(&part).unwrap();
        for &device in devices {
            let member = Terminal::new(domain().device(device), meeting, Role::Participant);
            self.writer.join(meeting, domain(), &member).unwrap();
        }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut dyn Holdings) -> T) -> T {
        let Self { writer, database, written, busy, .. } = self;
        let mut store = DatabaseStore { database: Some(&*database), write: |changes| written.push(changes) };
        let mut orphan = |_, _: &MeetingSummary| {};
        act(&mut TableHoldings { writer, store: &mut store, is_busy: &|_| *busy, orphan: &mut orphan })
    }

    fn part(&self, meeting: u64) -> Part {
        self.writer.table().part(MeetingId(meeting), domain()).expect("it is there")
    }

    fn members(&self, meeting: u64) -> Vec<u16> {
        let members = self.writer.table().members(MeetingId(meeting), domain());
        let mut devices: Vec<_> = members.map(|member| member.terminal.device()).collect();
        devices.sort_unstable();
        devices
    }

    fn taken_over(&mut self, meeting: u64, participants: u16) -> Standing {
        let state = MeetingState::InMeeting;
        self.with(|holdings| holdings.taken_over(domain(), MeetingId(meeting), None, EPOCH, state, participants))
    }

    fn update_meeting(&mut self, summary: &MeetingSummary) -> bool {
        self.with(|holdings| holdings.update_meeting(domain(), summary, false))
    }

    fn update_terminals(&mut self, meeting: u64, terminals: &[TerminalState]) -> Written {
        self.with(|holdings| holdings.update_terminals(domain(), MeetingId(meeting), terminals))
    }
}

/// Members of the database: one meeting with one of them.
fn stored(memory: &Memory, meeting: u64) {
    let part = PartParameters { domain: domain(), version: 1, state: MeetingState::InMeeting };
    let terminal = domain().device(1001);
    let member = Member { terminal, role: Role::Participant, flags: Flags::default(), window: WINDOW_NONE };
    let parameters = KeyParameters {
        meeting: MeetingId(meeting),
        name: String::new(),
        level: Level::HIGHEST,
        layout: Layout::new(4).unwrap(),
        chairman: Address::default(),
        created_ms: 1,
        parts: vec![part],
        members: vec![member],
        run: Run(7),
    };
    memory.database.commit(&[Change::Create(parameters)], Epoch::new(1, 1)).unwrap();
}

#[test]
fn a_newer_version_is_in_doubt_until_its_members_are_written() {
    let mut memory = Memory::with_members(&[1001]);
    let listed = MeetingSummary { participants: 1, ..summary(1, 5) };
    assert!(memory.update_meeting(&listed));
    assert!(memory.part(1).version == 5 && memory.part(1).in_doubt);
    // Whoever comes next has another list with as many members, and must not believe the one that is here.
    assert_eq!(memory.taken_over(1, 1), Standing::Differing);
    assert!(memory.update_meeting(&listed), "the same version again says nothing new");
    assert_eq!(memory.update_terminals(1, &[terminal(1, 1002)]), Written::Whole);
    assert_eq!((memory.part(1).in_doubt, memory.members(1)), (false, vec![1002]));
    assert_eq!(memory.taken_over(1, 1), Standing::InMeeting);
    assert!(!memory.update_meeting(&listed));
}

#[test]
fn a_list_of_which_only_some_is_written_leaves_doubt() {
    let mut memory = Memory::new(Capacity { meetings: 16, terminals: 2 });
    memory.enter(1, MeetingState::InMeeting, &[1001, 1002]);
    let list = [1002, 1003, 1004].map(|device| terminal(1, device));
    assert_eq!(memory.update_terminals(1, &list), Written::Full);
    assert_eq!(memory.members(1).len(), 2);
    assert_eq!(memory.taken_over(1, 2), Standing::Differing, "they are as many as before");
}

#[test]
fn what_came_from_the_database_is_in_doubt() {
    let mut memory = Memory::new(Capacity { meetings: 16, terminals: 64 });
    stored(&memory, 1);
    stored_elsewhere(&memory, 2);
    memory.with(|holdings| holdings.next_in_database(domain(), &mut Cursor::default())).unwrap().expect("it is stored");
    let found = memory.with(|holdings| holdings.look_up(domain(), &summary(2, 1)));
    assert!(matches!(found, Lookup::Found { version: 1, .. }), "{found:?}");
    assert_eq!([1, 2].map(|meeting| memory.taken_over(meeting, 1)), [Standing::Differing; 2]);
    assert_eq!(memory.update_terminals(1, &[terminal(1, 1001)]), Written::Whole);
    assert_eq!([1, 2].map(|meeting| memory.part(meeting).in_doubt), [false, true]);
}

/// As [`stored`], with another member.
fn stored_elsewhere(memory: &Memory, meeting: u64) {
    stored(memory, meeting);
    let (meeting, terminal) = (MeetingId(meeting), domain().device(1002));
    let member = Member { terminal, role: Role::Participant, flags: Flags::default(), window: WINDOW_NONE };
    let changes = [Change::RemoveMember(meeting, domain().device(1001)), Change::Member(meeting, member)];
    memory.database.commit(&changes, Epoch::new(1, 1)).unwrap();
}

#[test]
fn what_is_adopted_is_in_doubt() {
    let mut memory = Memory::new(Capacity { meetings: 16, terminals: 64 });
    let orphan = MeetingSummary { participants: 0, ..summary(9, 3) };
    assert!(memory.with(|holdings| holdings.adopt(domain(), &orphan)));
    assert_eq!(memory.taken_over(9, 0), Standing::Differing);
}

#[test]
fn members_of_what_is_unfinished_are_left_to_whoever_finishes_it() {
    for state in [MeetingState::Starting, MeetingState::Ending] {
        let mut memory = Memory::new(Capacity { meetings: 16, terminals: 64 });
        memory.enter(1, state, &[1001, 1002]);
        // Only the first of them was asked for before the death.
        assert_eq!(memory.update_terminals(1, &[terminal(1, 1001)]), Written::Whole);
        assert_eq!((memory.members(1), memory.written.len()), (vec![1001, 1002], 0), "{state}");
    }
}

#[test]
fn a_version_goes_back_where_it_may_and_nothing_is_under_way() {
    let mut memory = Memory::with_members(&[1001]);
    let listed = |version| MeetingSummary { participants: 1, ..summary(1, version) };
    assert!(memory.update_meeting(&listed(5)));
    assert_eq!(memory.update_terminals(1, &[terminal(1, 1001)]), Written::Whole);
    assert!(!memory.update_meeting(&listed(3)), "what is listed may be older than what was acknowledged");
    memory.busy = true;
    assert!(!memory.with(|holdings| holdings.update_meeting(domain(), &listed(3), true)));
    assert_eq!(memory.part(1).version, 5);
    memory.busy = false;
    assert!(memory.with(|holdings| holdings.update_meeting(domain(), &listed(3), true)));
    assert!(memory.part(1).version == 3 && memory.part(1).in_doubt);
}

#[test]
fn another_number_of_members_is_asked_about_though_the_versions_agree() {
    let mut memory = Memory::with_members(&[1001]);
    let listed = MeetingSummary { participants: 2, ..summary(1, 1) };
    assert!(memory.update_meeting(&listed));
    memory.busy = true;
    assert!(!memory.update_meeting(&listed), "one may be entered ahead of its command");
}

#[test]
fn a_remembered_answer_does_not_take_a_terminal_out_of_its_newer_meeting() {
    let mut memory = Memory::with_members(&[1001]);
    memory.enter(2, MeetingState::InMeeting, &[]);
    let newer = TerminalState { version: 7, ..terminal(1, 1001) };
    assert_eq!(memory.update_terminals(1, &[newer]), Written::Whole);
    assert_eq!(memory.update_terminals(2, &[TerminalState { version: 3, ..terminal(2, 1001) }]), Written::Whole);
    assert_eq!((memory.members(1), memory.members(2)), (vec![1001], vec![]));
    assert!(memory.part(2).in_doubt && !memory.part(1).in_doubt, "one of them has what the other was said to have");
    assert_eq!(memory.update_terminals(2, &[TerminalState { version: 8, ..terminal(2, 1001) }]), Written::Whole);
    assert_eq!((memory.members(1), memory.members(2)), (vec![], vec![1001]));
    assert!(memory.part(1).in_doubt && !memory.part(2).in_doubt, "whom it was taken from is asked about once more");
}
