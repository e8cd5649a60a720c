//! What the table's mark says of a part whose version and members are written one after the other:
//! over the table and the database that run in production.

use std::sync::Arc;

use super::scripted_peer::{EPOCH, domain, summary, terminal};
use crate::cascade::Speakers;
use crate::database::{Change, Database, KeyParameters, Member, PartParameters};
use crate::recovery::{Cursor, DatabaseStore, Listed, Lookup, NoOrphans, Standing, Store, TableStore, Written};
use crate::table::{Capacity, OwnerId, Part, Table, Terminal, Writer};
use crate::wire::{
    Address, Domain, Epoch, Flags, Layout, Level, MeetingId, MeetingState, MeetingSummary, Role, Run, TerminalState,
    WINDOW_NONE,
};

/// Table and database of a dispatch server.
struct Memory {
    writer: Writer,
    database: Database,
    /// What went to the database and is not in it.
    written: Vec<Vec<Change>>,
    busy: bool,
    speakers: Speakers,
    /// The meetings that the last update would have asked about too.
    others: Vec<MeetingId>,
    _folder: tempfile::TempDir,
}

impl Memory {
    fn new(capacity: Capacity) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let database = Database::open(&folder.path().join("database.redb")).unwrap();
        let writer = Arc::new(Table::on_heap(capacity)).writer(OwnerId::CONTROL);
        let speakers = Speakers::new([(domain(), &[][..])]);
        Self { writer, database, written: Vec::new(), busy: false, speakers, others: Vec::new(), _folder: folder }
    }

    /// A table with meeting 1 in meeting at version 1, with these members, and believed.
    fn with_members(devices: &[u16]) -> Self {
        let mut memory = Self::new(Capacity { meetings: 16, terminals: 64 });
        memory.enter(1, MeetingState::InMeeting, devices);
        memory
    }

    fn enter(&mut self, meeting: u64, state: MeetingState, devices: &[u16]) {
        let part = Part { epoch: EPOCH, state, ..Part::listed(domain(), &summary(meeting, 1)) };
        let meeting = part.meeting;
        self.writer.insert_part(&part).unwrap();
        for &device in devices {
            let member = Terminal::new(domain().device(device), meeting, Role::Participant);
            self.writer.join(meeting, domain(), &member).unwrap();
        }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut dyn Store) -> T) -> T {
        let Self { writer, database, written, busy, speakers, .. } = self;
        let (database, write) = (Some(&*database), |changes| written.push(changes));
        let mut store = DatabaseStore { database, is_lost: false, write };
        let is_busy = &|_| *busy;
        act(&mut TableStore {
            writer,
            store: &mut store,
            is_busy,
            speakers,
            orphans: &mut NoOrphans,
            replaced: &mut Vec::new(),
            warming: None,
        })
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
        self.with(|holdings| holdings.taken_over(domain(), MeetingId(meeting), None, EPOCH, participants))
    }

    fn update_meeting(&mut self, summary: &MeetingSummary) -> bool {
        self.with(|holdings| holdings.update_meeting(domain(), summary, false))
    }

    fn update_terminals(&mut self, meeting: u64, terminals: &[TerminalState]) -> Written {
        self.update_asked(meeting, terminals, &[])
    }

    /// As [`Self::update_terminals`], where the members had these versions when it was asked.
    fn update_asked(&mut self, meeting: u64, terminals: &[TerminalState], asked: &[(Address, u32)]) -> Written {
        let listed = Listed { terminals, unread: &[], is_cut: false, asked };
        self.others.clear();
        let mut others = Vec::new();
        let meeting = MeetingId(meeting);
        let written = self.with(|holdings| holdings.update_terminals(domain(), meeting, &listed, &mut others));
        self.others = others;
        written
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
    // The next engine has another list with as many members, and must not believe the one that
    // is here.
    assert_eq!(memory.taken_over(1, 1), Standing::InDoubt);
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
    assert_eq!(memory.taken_over(1, 2), Standing::InDoubt, "they are as many as before");
}

#[test]
fn what_came_from_the_database_is_in_doubt() {
    let mut memory = Memory::new(Capacity { meetings: 16, terminals: 64 });
    stored(&memory, 1);
    stored_elsewhere(&memory, 2);
    memory.with(|holdings| holdings.next_in_database(domain(), &mut Cursor::default())).unwrap().expect("it is stored");
    let found = memory.with(|holdings| holdings.look_up(domain(), &summary(2, 1)));
    assert!(matches!(found, Lookup::Found { version: 1, .. }), "{found:?}");
    assert_eq!([1, 2].map(|meeting| memory.taken_over(meeting, 1)), [Standing::Unlisted; 2]);
    assert_eq!(memory.update_terminals(1, &[terminal(1, 1001)]), Written::Whole);
    assert_eq!([1, 2].map(|meeting| memory.part(meeting).in_doubt), [false, true]);
}

/// The database has one layout for all parts. A part's members do not say which one it has itself,
/// and the engine that is to ask may die between the two.
#[test]
fn only_its_summary_settles_what_a_part_from_the_database_is() {
    let mut memory = Memory::new(Capacity { meetings: 16, terminals: 64 });
    stored(&memory, 1);
    let listed = MeetingSummary { participants: 1, layout: Layout::new(9).unwrap(), ..summary(1, 1) };
    assert!(matches!(memory.with(|holdings| holdings.look_up(domain(), &listed)), Lookup::Found { .. }));
    assert_eq!(memory.taken_over(1, 1), Standing::Unlisted);
    assert_eq!(memory.update_terminals(1, &[terminal(1, 1001)]), Written::Whole);
    let audited = |memory: &mut Memory| memory.with(|holdings| holdings.audit(domain(), EPOCH)).0;
    assert_eq!((audited(&mut memory), memory.taken_over(1, 1)), (0, Standing::Unlisted));
    memory.update_meeting(&listed);
    assert_eq!(memory.part(1).layout, listed.layout);
    assert_eq!((audited(&mut memory), memory.taken_over(1, 1)), (1, Standing::InMeeting));
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
    assert_eq!(memory.taken_over(9, 0), Standing::InDoubt);
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

#[test]
fn an_answer_is_the_truth_though_its_versions_be_older_but_for_what_was_reported_since() {
    let mut memory = Memory::with_members(&[1001, 1002]);
    let [first, second] = [1001, 1002].map(|device| domain().device(device));
    let newer = [1001, 1002].map(|device| TerminalState { version: 13, ..terminal(1, device) });
    assert_eq!(memory.update_terminals(1, &newer), Written::Whole);
    let asked = memory.with(|holdings| holdings.member_versions(domain(), MeetingId(1)));
    assert_eq!(asked, [(first, 13), (second, 13)]);
    // The second one reports while the question is on its way; then both are said to have begun
    // anew.
    let reported = TerminalState { version: 14, channel: 9, ..terminal(1, 1002) };
    memory.writer.report_state(&reported);
    let anew = [1001, 1002].map(|device| TerminalState { version: 2, channel: 5, ..terminal(1, device) });
    assert_eq!(memory.update_asked(1, &anew, &asked), Written::Whole);
    let state = |terminal| {
        let known = memory.writer.table().terminal(terminal).unwrap();
        (known.version, known.channel)
    };
    assert_eq!((state(first), state(second)), ((2, 5), (14, 9)));
}

#[test]
fn nothing_of_another_domain_is_touched() {
    let mut memory = Memory::with_members(&[1001]);
    let other = Domain::new(367).unwrap();
    let theirs = Part { domain: other, meeting: MeetingId(2), ..memory.part(1) };
    memory.writer.insert_part(&theirs).unwrap();
    // Their part has one of ours, as before the configuration named whose it is.
    for device in [other.device(1001), domain().device(1007)] {
        let member = Terminal::new(device, MeetingId(2), Role::Participant);
        memory.writer.join(MeetingId(2), other, &member).unwrap();
    }
    let before = memory.writer.table().part(MeetingId(2), other);
    let named = |address| TerminalState { version: 4_000_000, terminal: address, ..terminal(1, 1) };
    let list = [domain().device(1001), domain().device(1007), other.device(1001)].map(named);
    memory.update_terminals(1, &list);
    assert_eq!(memory.writer.table().part(MeetingId(2), other), before, "nor is it in doubt");
    assert_eq!((memory.members(1), memory.writer.table().members(MeetingId(2), other).count()), (vec![1001], 2));
    assert!(memory.part(1).in_doubt);
}

#[test]
fn terminals_of_two_lists_have_both_meetings_asked_about_again() {
    let mut memory = Memory::with_members(&[1001]);
    memory.enter(2, MeetingState::InMeeting, &[]);
    let moved = TerminalState { version: 8, ..terminal(2, 1001) };
    assert_eq!(memory.update_terminals(2, &[moved]), Written::Whole);
    assert_eq!(memory.others, [MeetingId(1)], "which still lists it");
    assert_eq!(memory.update_terminals(1, &[TerminalState { version: 3, ..terminal(1, 1001) }]), Written::Whole);
    assert_eq!(memory.others, [MeetingId(1), MeetingId(2)]);
}

#[test]
fn terminals_behind_a_domain_are_its_own_and_leave_the_database_with_its_part() {
    let mut memory = Memory::new(Capacity { meetings: 16, terminals: 64 });
    let behind = Domain::new(1366).unwrap();
    memory.speakers = Speakers::new([(domain(), &[behind][..])]);
    stored(&memory, 1);
    let far =
        Member { terminal: behind.device(1001), role: Role::Participant, flags: Flags::default(), window: WINDOW_NONE };
    memory.database.commit(&[Change::Member(MeetingId(1), far)], Epoch::new(1, 1)).unwrap();
    assert!(matches!(memory.with(|holdings| holdings.look_up(domain(), &summary(1, 1))), Lookup::Found { .. }));
    assert_eq!(memory.part(1).participants, 2);
    assert_eq!(memory.update_terminals(1, &[terminal(1, 1001)]), Written::Whole);
    let written = memory.written.concat();
    memory.database.commit(&written, Epoch::new(1, 1)).unwrap();
    let members = memory.database.meeting(MeetingId(1)).unwrap().unwrap().members;
    assert_eq!(members.iter().map(|member| member.terminal).collect::<Vec<_>>(), [domain().device(1001)]);
}

#[test]
fn a_meeting_is_its_number_and_its_run() {
    let mut memory = Memory::with_members(&[1001]);
    stored(&memory, 5);
    stored(&memory, 6);
    memory.database.commit(&[Change::End(MeetingId(6))], Epoch::new(1, 1)).unwrap();
    let mut look_up = |meeting, run| {
        let listed = MeetingSummary { run, ..summary(meeting, 9) };
        memory.with(|holdings| (holdings.look_up(domain(), &listed), holdings.holds(domain(), &listed)))
    };
    for stranger in [Run(8), Run::NONE] {
        assert_eq!(look_up(1, stranger), (Lookup::Another, false), "in the table");
        assert_eq!(look_up(5, stranger), (Lookup::Unknown, false), "in the database");
        assert_eq!(look_up(6, stranger), (Lookup::Unknown, false), "what ended was another one: it is not ended");
    }
    assert_eq!(look_up(6, Run(7)), (Lookup::Ended, false));
    assert!(matches!(look_up(1, Run(7)), (Lookup::Found { version: 1, .. }, true)));
    assert!(!memory.update_meeting(&MeetingSummary { run: Run(8), ..summary(1, 9) }));
    assert_eq!(memory.part(1).version, 1, "and what is listed of another one says nothing of ours");
}
