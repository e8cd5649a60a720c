//! The database on a real file, held against a model of what it must say.

mod format;
mod power_cut;
mod thread;

use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::wire::{Business, Decode, Flags, Info, Layout, Level, MeetingState, Role, Run, StreamKind};

pub(super) const EPOCH: Epoch = Epoch::new(1, 1);

pub(super) fn domain(number: u64) -> Domain {
    Domain::new(number).unwrap()
}

pub(super) fn member(terminal: Address, role: Role) -> Member {
    Member { terminal, role, flags: Flags::MUTED, window: 3 }
}

pub(super) fn part(number: u64, version: u64, state: MeetingState) -> PartParameters {
    PartParameters { domain: domain(number), version, state }
}

pub(super) fn conference(meeting: u64) -> KeyParameters {
    KeyParameters {
        meeting: MeetingId(meeting),
        name: format!("Conference {meeting}"),
        level: Level::HIGHEST,
        layout: Layout::new(9).unwrap(),
        chairman: domain(1).device(1),
        created_ms: 1_700_000_000_000,
        parts: vec![part(1, 4, MeetingState::InMeeting), part(2, 7, MeetingState::InMeeting)],
        members: vec![
            member(domain(1).device(1), Role::Chairman),
            member(domain(1).device(u16::MAX), Role::Participant),
            member(domain(2).device(1), Role::SpeakerOne),
        ],
        run: Run(7),
    }
}

pub(super) fn open() -> (TempDir, Database) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("baton.redb")).unwrap();
    (folder, database)
}

pub(super) fn reopened((folder, database): (TempDir, Database)) -> (TempDir, Database) {
    let path = database.path().to_owned();
    drop(database);
    (folder, Database::open(&path).unwrap())
}

pub(super) fn all(database: &Database) -> Vec<KeyParameters> {
    let mut all = Vec::new();
    database.for_each_meeting(|meeting| all.push(meeting)).unwrap();
    all
}

#[test]
fn restart_keeps_committed_meetings() {
    let (folder, database) = open();
    database.commit(&[Change::Create(conference(3)), Change::Create(conference(5))], EPOCH).unwrap();
    let (_folder, database) = reopened((folder, database));
    assert_eq!(all(&database), [conference(3), conference(5)]);
    assert_eq!(database.meeting(MeetingId(5)).unwrap(), Some(conference(5)));
    assert_eq!(database.meeting(MeetingId(4)).unwrap(), None);
    assert_eq!(database.epoch().unwrap(), EPOCH);
    assert_eq!(database.next_meeting().unwrap(), MeetingId(1), "no id was chosen here");
    assert_eq!(database.names().unwrap()[&MeetingId(3)], ("Conference 3".to_owned(), 1_700_000_000_000));
    assert_eq!(database.name(MeetingId(4)).unwrap(), None);
}

#[test]
fn a_refused_commit_writes_nothing_and_spoils_no_other_of_its_group() {
    let (_folder, database) = open();
    database.commit(&[Change::Create(conference(1))], EPOCH).unwrap();
    let taken =
        [Change::Create(conference(2)), Change::Create(KeyParameters { name: "other".into(), ..conference(1) })];
    let unknown = [Change::Create(conference(7)), Change::Layout(MeetingId(8), Layout::new(1).unwrap())];
    let good = [Change::Create(conference(3))];
    let results = database.commit_group(&[(&taken, EPOCH), (&unknown, EPOCH), (&good, EPOCH)]).unwrap();
    assert_eq!(results[0], Err(CommitError::Exists(MeetingId(1))));
    assert_eq!(results[1], Err(CommitError::Unknown(MeetingId(8))));
    assert_eq!(results[2], Ok(()));
    assert_eq!(all(&database), [conference(1), conference(3)]);
}

/// A flush that failed may have reached the disk, so the same commit comes twice.
#[test]
fn the_same_conference_is_created_twice_without_harm() {
    let (_folder, database) = open();
    for _ in 0..2 {
        database.commit(&[Change::Create(conference(1))], EPOCH).unwrap();
    }
    database.reopen().unwrap();
    assert_eq!(all(&database), [conference(1)]);
}

#[test]
fn an_older_epoch_is_fenced_out() {
    let (folder, database) = open();
    let newer = Epoch::new(1, 9);
    database.commit(&[Change::Create(conference(1))], newer).unwrap();
    let (_folder, database) = reopened((folder, database));
    let late = database.commit(&[Change::End(MeetingId(1))], Epoch::new(1, 8));
    assert_eq!(late, Err(CommitError::StaleEpoch { highest: newer }));
    assert_eq!(all(&database), [conference(1)]);
    database.commit(&[Change::End(MeetingId(1))], newer).unwrap();
}

#[test]
fn an_ended_meeting_is_remembered_until_its_id_is_used_again() {
    let (_folder, database) = open();
    let meeting = MeetingId(1);
    assert!(database.ended(meeting).unwrap().is_none());
    database.commit(&[Change::Create(conference(1))], EPOCH).unwrap();
    database.commit(&[Change::End(meeting)], EPOCH).unwrap();
    assert!(database.ended(meeting).unwrap().is_some());
    assert_eq!(database.meeting(meeting).unwrap(), None);
    assert_eq!(database.parts_in(domain(1), MeetingId(0), 10).unwrap(), []);
    database.commit(&[Change::Create(conference(1))], EPOCH).unwrap();
    assert!(database.ended(meeting).unwrap().is_none());
    assert_eq!(all(&database), [conference(1)]);
}

pub(super) fn wants(windows: u8) -> Wanted {
    Wanted {
        layout: Layout::new(windows),
        roles: [(domain(1).device(1), Role::Chairman)].into(),
        members: [(domain(2).device(1), None), (domain(2).device(2), Some(Role::SpeakerTwo))].into(),
    }
}

#[test]
fn parts_of_a_domain_are_listed_in_pages() {
    let (_folder, database) = open();
    let changes: Vec<_> = (1..=5).map(|meeting| Change::Create(conference(meeting))).collect();
    database.commit(&changes, EPOCH).unwrap();
    database.commit(&[Change::RemovePart(MeetingId(2), domain(2))], EPOCH).unwrap();
    let ids = |first, limit| -> Vec<_> {
        let found = database.parts_in(domain(2), MeetingId(first), limit).unwrap();
        found.into_iter().map(|(meeting, part)| (meeting.0, part.version)).collect()
    };
    assert_eq!(ids(0, 2), [(1, 7), (3, 7)]);
    assert_eq!(ids(4, 2), [(4, 7), (5, 7)]);
    assert_eq!(ids(6, 2), []);
    let second = database.meeting(MeetingId(2)).unwrap().unwrap();
    assert_eq!(second.members.len(), 2, "the members of the removed part have left: {second:?}");
}

#[test]
fn unfinished_meetings_are_found() {
    let (_folder, database) = open();
    let mut starting = conference(2);
    starting.parts[1].state = MeetingState::Starting;
    let changes = [Change::Create(conference(1)), Change::Create(starting.clone()), Change::Create(conference(3))];
    database.commit(&changes, EPOCH).unwrap();
    let ending = Change::Part(MeetingId(3), part(1, 5, MeetingState::Ending));
    database.commit(&[ending], EPOCH).unwrap();
    let unfinished: Vec<_> = database.unfinished().unwrap().into_iter().map(|meeting| meeting.meeting.0).collect();
    assert_eq!(unfinished, [2, 3]);
}

#[test]
fn no_generation_is_reserved_twice() {
    let (mut folder, mut database) = open();
    let bounds = |block: Reservation| (block.term, block.first, block.end);
    let mut end = 1;
    for count in [1, 60_000, 7] {
        let reservation = database.reserve_generations(count).unwrap();
        assert_eq!(bounds(reservation), (1, end, u32::from(end + count)));
        end += count;
        (folder, database) = reopened((folder, database));
    }
    let rest = u16::MAX - end + 1;
    assert_eq!(database.reserve_generations(rest).unwrap().end, 1 << 16);
    // Generations of the term are used up.
    assert_eq!(bounds(database.reserve_generations(10).unwrap()), (2, 1, 11));
    drop(folder);
}

/// Two empty databases, one backup on two hosts, a disk that was rolled back: the same generations
/// are reserved again, and the epochs are others all the same.
#[test]
fn a_block_that_is_reserved_again_gives_another_epoch() {
    let first = |_| open().1.reserve_generations(8).unwrap().epoch();
    let epochs: std::collections::BTreeSet<_> = (0..8).map(first).collect();
    assert!(epochs.len() > 1, "eight times the same of 65,536 nonces");
    assert!(epochs.iter().all(|epoch| (epoch.term(), epoch.generation()) == (1, 1)));
}

#[test]
fn generations_that_are_used_up_do_not_pass_a_fence() {
    let (folder, database) = open();
    let last = database.reserve_generations(u16::MAX).unwrap();
    let by = Epoch::new(1, 9);
    database.commit(&[Change::Fence(domain(366), by)], last.epoch()).unwrap();
    database.commit(&[Change::Fence(domain(366), Epoch::new(1, 8))], last.epoch()).unwrap();
    assert_eq!(database.fences().unwrap(), [(domain(366), by)], "a lower epoch does not lower it");
    let refused = database.reserve_generations(1).unwrap_err();
    assert_eq!(refused, CommitError::Fenced { term: 1, domain: domain(366), by });
    let (folder, database) = reopened((folder, database));
    assert_eq!(database.reserve_generations(1), Err(refused));
    let taken = database.take_control(Epoch::new(5, 1), 10).unwrap();
    assert_eq!((taken.term, taken.first), (6, 1));
    assert_eq!(database.reserve_generations(1).unwrap().term, 6);
    drop(folder);
}

/// An autonomous server that names an epoch out of this world keeps itself from being controlled,
/// and no other: neither are the terms used up, nor is there one that another server could not
/// pass.
#[test]
fn an_epoch_that_is_made_up_uses_up_no_terms() {
    for made_up in [Epoch(u64::MAX), Epoch::new(u32::MAX - 1, 1)] {
        let (_folder, database) = open();
        let first = database.reserve_generations(8).unwrap();
        let fences = [Change::Fence(domain(366), made_up), Change::Fence(domain(367), Epoch::new(4, 1))];
        database.commit(&fences, first.epoch()).unwrap();
        assert_eq!(database.take_control(first.epoch(), 8).unwrap().term, 5, "{made_up}");
        assert_eq!(database.take_control(made_up, 8).unwrap().term, 6, "{made_up}");
    }
}

#[test]
fn a_terminal_comes_back_as_it_was() {
    let (folder, database) = open();
    let mut state = TerminalState {
        meeting: MeetingId(9),
        terminal: domain(3).device(7),
        version: u32::MAX,
        business: Business::InMeeting,
        decode: Decode::Decoding,
        role: Role::SpeakerTwo,
        flags: Flags(0b11_1111),
        channel: 255,
        stream: StreamKind::Main,
        info: Info::new(&std::array::from_fn::<_, 64, _>(|at| at as u8 + 1)),
    };
    database.commit(&[Change::Terminal(state)], EPOCH).unwrap();
    let (_folder, database) = reopened((folder, database));
    assert_eq!(database.terminal(state.terminal).unwrap(), Some(state));
    state.info = Info::EMPTY;
    database.commit(&[Change::Terminal(state)], EPOCH).unwrap();
    assert_eq!(database.terminal(state.terminal).unwrap(), Some(state));
}

#[test]
fn what_is_no_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("baton.redb");
    for bytes in [vec![7; 10_000], b"not a database".to_vec()] {
        std::fs::write(&path, &bytes).unwrap();
        let error = Database::open(&path).unwrap_err();
        assert!(matches!(error, DatabaseError::Foreign { .. }), "{error:?}");
        assert!(error.to_string().contains("baton.redb"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

/// What the database must say, kept in maps.
#[derive(Debug, Default)]
struct Model {
    meetings: BTreeMap<u64, KeyParameters>,
}

impl Model {
    fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Create(parameters) => {
                let meeting = parameters.meeting.0;
                let head =
                    |it: &KeyParameters| (it.run, it.name.clone(), it.level, it.layout, it.chairman, it.created_ms);
                let free = self.meetings.get(&meeting).is_none_or(|found| head(found) == head(parameters));
                if free {
                    self.meetings.insert(meeting, parameters.clone());
                }
                return free;
            }
            Change::Replace(parameters) => drop(self.meetings.insert(parameters.meeting.0, parameters.clone())),
            Change::End(meeting) => drop(self.meetings.remove(&meeting.0)),
            Change::RemovePart(meeting, domain) => {
                if let Some(found) = self.meetings.get_mut(&meeting.0) {
                    found.parts.retain(|part| part.domain != *domain);
                    found.members.retain(|member| member.terminal.domain() != Some(*domain));
                }
            }
            Change::RemoveMember(meeting, terminal) => {
                if let Some(found) = self.meetings.get_mut(&meeting.0) {
                    found.members.retain(|member| member.terminal != *terminal);
                }
            }
            Change::Part(meeting, part) => {
                let Some(found) = self.meetings.get_mut(&meeting.0) else { return false };
                found.parts.retain(|other| other.domain != part.domain);
                found.parts.push(*part);
                found.parts.sort_by_key(|part| part.domain);
            }
            Change::Member(meeting, member) => {
                let Some(found) = self.meetings.get_mut(&meeting.0) else { return false };
                found.members.retain(|other| other.terminal != member.terminal);
                found.members.push(*member);
                found.members.sort_by_key(|member| member.terminal);
            }
            Change::Layout(meeting, layout) => {
                let Some(found) = self.meetings.get_mut(&meeting.0) else { return false };
                found.layout = *layout;
            }
            Change::Chairman(meeting, chairman) => {
                let Some(found) = self.meetings.get_mut(&meeting.0) else { return false };
                found.chairman = *chairman;
            }
            Change::Known(meeting, level, run) => {
                let new = || KeyParameters {
                    meeting: *meeting,
                    run: *run,
                    name: String::new(),
                    level: *level,
                    layout: Layout::new(4).unwrap(),
                    chairman: Address::default(),
                    created_ms: 0,
                    parts: Vec::new(),
                    members: Vec::new(),
                };
                self.meetings.entry(meeting.0).or_insert_with(new);
            }
            Change::Learned(meeting, part) => {
                let Some(found) = self.meetings.get_mut(&meeting.0) else { return false };
                let before = found.part(part.domain).map(|part| part.state);
                let ahead = |state: &MeetingState| matches!(state, MeetingState::Starting | MeetingState::Ending);
                let state = before.filter(ahead).unwrap_or(part.state);
                found.parts.retain(|other| other.domain != part.domain);
                found.parts.push(PartParameters { state, ..*part });
                found.parts.sort_by_key(|part| part.domain);
            }
            Change::RemoveMembers(meeting, domain) => {
                if let Some(found) = self.meetings.get_mut(&meeting.0) {
                    found.members.retain(|member| member.terminal.domain() != Some(*domain));
                }
            }
            Change::Forget(meeting) => drop(self.meetings.remove(&meeting.0)),
            Change::Want(meeting, wanted) => return wanted.is_empty() || self.meetings.contains_key(&meeting.0),
            Change::Chosen(_) | Change::Terminal(_) | Change::Fence(..) => {}
        }
        true
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    let meeting = 1..6u64;
    let terminal = (1..4u64, prop_oneof![Just(0), 1..4u16, Just(u16::MAX)])
        .prop_map(|(number, device)| domain(number).device(device));
    let parameters = (meeting.clone(), 0..3u8)
        .prop_map(|(meeting, name)| KeyParameters { name: name.to_string(), ..conference(meeting) });
    let id = meeting.prop_map(MeetingId);
    prop_oneof![
        3 => parameters.clone().prop_map(Change::Create),
        1 => parameters.prop_map(Change::Replace),
        1 => id.clone().prop_map(Change::End),
        2 => (id.clone(), 1..4u64).prop_map(|(id, number)| Change::RemovePart(id, domain(number))),
        3 => (id.clone(), 1..4u64, 0..99u64)
            .prop_map(|(id, number, version)| Change::Part(id, part(number, version, MeetingState::Starting))),
        3 => (id.clone(), terminal.clone()).prop_map(|(id, who)| Change::Member(id, member(who, Role::SpeakerThree))),
        2 => (id.clone(), terminal.clone()).prop_map(|(id, who)| Change::RemoveMember(id, who)),
        1 => (id.clone(), 1..13u8).prop_map(|(id, windows)| Change::Layout(id, Layout::new(windows).unwrap())),
        2 => (id.clone(), 1..4u64, 0..99u64)
            .prop_map(|(id, number, version)| Change::Learned(id, part(number, version, MeetingState::InMeeting))),
        1 => id.clone().prop_map(|id| Change::Known(id, Level::HIGHEST, Run(4))),
        1 => (id.clone(), 1..4u64).prop_map(|(id, number)| Change::RemoveMembers(id, domain(number))),
        1 => id.clone().prop_map(Change::Forget),
        1 => (id.clone(), 1..13u8).prop_map(|(id, windows)| Change::Want(id, wants(windows))),
        1 => (id, terminal).prop_map(|(id, who)| Change::Chairman(id, who)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_says_what_its_model_says(commits in prop::collection::vec(any_change(), 1..60)) {
        let (folder, database) = open();
        let mut model = Model::default();
        for change in &commits {
            let expected = model.apply(change);
            let result = database.commit(std::slice::from_ref(change), EPOCH);
            prop_assert_eq!(result.is_ok(), expected, "{:?}: {:?}", change, result);
        }
        let (_folder, database) = reopened((folder, database));
        let expected: Vec<_> = model.meetings.values().cloned().collect();
        prop_assert_eq!(all(&database), expected);
        for number in 1..4 {
            let found = database.parts_in(domain(number), MeetingId(0), 100).unwrap();
            let parts = model.meetings.values().filter_map(|meeting| Some((meeting.meeting, *meeting.part(domain(number))?)));
            prop_assert_eq!(found, parts.collect::<Vec<_>>());
        }
    }
}

/// However it came to the last of all terms.
#[test]
fn no_control_is_given_where_no_term_is_above() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("db")).unwrap();
    let transaction = begin_write(&database.redb.read()).unwrap();
    transaction.open_table(FACTS).unwrap().insert("term", u64::from(u32::MAX)).unwrap();
    transaction.commit().unwrap();
    let none = CommitError::NoTerm { highest: u32::MAX };
    let first = database.reserve_generations(65_000).unwrap();
    assert_eq!(first.term, u32::MAX);
    assert_eq!(database.take_control(first.epoch(), 8), Err(none.clone()));
    assert_eq!(database.reserve_generations(65_000), Err(none), "no generation of it is given twice");
    assert_eq!(database.term().unwrap(), Some(u32::MAX));
}
