//! The rows of a file: those of the first format, and what came with the second.

use super::{EPOCH, all, conference, domain, open, part, reopened, wants};
use crate::database::*;
use crate::wire::{Layout, Level, MeetingState};

#[test]
fn what_is_wanted_is_there_until_it_is_done_or_its_conference_has_ended() {
    let (folder, database) = open();
    let want = |meeting, wanted: &Wanted| Change::Want(MeetingId(meeting), wanted.clone());
    assert_eq!(database.commit(&[want(1, &wants(4))], EPOCH), Err(CommitError::Unknown(MeetingId(1))));
    let create = |meeting| Change::Create(conference(meeting));
    let changes = [create(1), want(1, &wants(4)), create(2), want(2, &wants(4)), want(2, &wants(9)), create(3)];
    database.commit(&changes, EPOCH).unwrap();
    let (folder, database) = reopened((folder, database));
    assert_eq!(database.wanted().unwrap(), [(MeetingId(1), wants(4)), (MeetingId(2), wants(9))]);
    database.commit(&[want(1, &Wanted::default()), Change::End(MeetingId(2))], EPOCH).unwrap();
    assert_eq!(database.wanted().unwrap(), []);
    drop(folder);
}

/// Ids are not given out ascending alone: clients choose some.
#[test]
fn of_ended_conferences_those_that_ended_first_are_forgotten() {
    let (_folder, database) = open();
    let transaction = begin_write(&database.redb.read()).unwrap();
    {
        let mut rows = tables::Writer::open(&transaction).unwrap();
        for (meeting, ended_ms) in [(9, 1), (1, 2), (5, 3), (7, 4), (5, 5)] {
            rows.apply(&[Change::End(MeetingId(meeting))], EPOCH, ended_ms).unwrap();
        }
        rows.forget_ended(2).unwrap();
    }
    transaction.commit().unwrap();
    let ended = [9, 1, 5, 7].map(|meeting| database.ended(MeetingId(meeting)).unwrap().is_some());
    assert_eq!(ended, [false, false, true, true], "5 ended twice, the second time last");
}

#[test]
fn an_id_counts_from_those_that_were_chosen_here() {
    let (_folder, database) = open();
    let far = KeyParameters { meeting: MeetingId(u64::MAX - 1), ..conference(1) };
    database
        .commit(&[Change::Create(far), Change::Create(conference(5)), Change::Chosen(MeetingId(5))], EPOCH)
        .unwrap();
    database.commit(&[Change::Create(conference(3)), Change::Chosen(MeetingId(3))], EPOCH).unwrap();
    assert_eq!(database.next_meeting().unwrap(), MeetingId(6));
}

/// What an update of recovery's says of a part does not undo what was written ahead of it, and of a
/// conference that the file lacks it brings one about.
#[test]
fn what_is_learned_undoes_nothing_that_was_written_ahead() {
    let (_folder, database) = open();
    let ending = Change::Part(MeetingId(1), part(1, 5, MeetingState::Ending));
    database.commit(&[Change::Create(conference(1)), ending], EPOCH).unwrap();
    let learned = |number| Change::Learned(MeetingId(1), part(number, 8, MeetingState::Missing));
    database.commit(&[learned(1), learned(2)], EPOCH).unwrap();
    let states = database.meeting(MeetingId(1)).unwrap().unwrap().parts;
    assert_eq!(states, [part(1, 8, MeetingState::Ending), part(2, 8, MeetingState::Missing)]);
    let known = [
        Change::Known(MeetingId(6), Level::HIGHEST, Run(4)),
        Change::Learned(MeetingId(6), part(1, 2, MeetingState::InMeeting)),
        Change::Layout(MeetingId(6), Layout::new(9).unwrap()),
    ];
    database.commit(&known, EPOCH).unwrap();
    let found = database.meeting(MeetingId(6)).unwrap().unwrap();
    assert_eq!((found.parts, found.layout.windows()), (vec![part(1, 2, MeetingState::InMeeting)], 9));
}

/// A file as the version before wrote it, row by row.
pub(super) fn first_format(raw: &redb::Database) {
    let transaction = raw.begin_write().unwrap();
    {
        let pairs = redb::TableDefinition::<(u64, u64), (u64, u8)>::new;
        let mut meetings =
            transaction.open_table(redb::TableDefinition::<u64, (u8, u8, u64, u64, &str)>::new("meetings")).unwrap();
        meetings.insert(1, (1, 9, domain(1).device(1).number(), 1_700_000_000_000, "Conference 1")).unwrap();
        let mut parts = transaction.open_table(pairs("parts")).unwrap();
        let mut by_domain =
            transaction.open_table(redb::TableDefinition::<(u64, u64), ()>::new("parts by domain")).unwrap();
        for (number, version) in [(1, 4), (2, 7)] {
            parts.insert((1, number), (version, MeetingState::InMeeting.wire())).unwrap();
            by_domain.insert((number, 1), ()).unwrap();
        }
        let mut members =
            transaction.open_table(redb::TableDefinition::<(u64, u64), (u8, u8, u8)>::new("members")).unwrap();
        for member in conference(1).members {
            members.insert((1, member.terminal.number()), (member.role.wire(), member.flags.0, 3)).unwrap();
        }
        transaction.open_table(redb::TableDefinition::<u64, &[u8]>::new("terminals")).unwrap();
        let mut ended = transaction.open_table(redb::TableDefinition::<u64, (u64, u64)>::new("ended")).unwrap();
        ended.insert(8, (100, EPOCH.0)).unwrap();
        ended.insert(9, (50, EPOCH.0)).unwrap();
        let mut facts = transaction.open_table(redb::TableDefinition::<&str, u64>::new("facts")).unwrap();
        let all = [("format", 1), ("epoch", EPOCH.0), ("term", 1), ("generation end", 65_537), ("next meeting", 10)];
        all.into_iter().for_each(|(name, value)| drop(facts.insert(name, value).unwrap()));
    }
    transaction.commit().unwrap();
}

#[test]
fn a_file_of_the_first_format_is_brought_into_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("baton.redb");
    first_format(&redb::Database::create(&path).unwrap());
    for _ in 0..2 {
        let database = Database::open(&path).unwrap();
        assert_eq!(database.read(|reader| reader.fact("format")).unwrap(), Some(FORMAT));
        assert_eq!(all(&database), [KeyParameters { run: Run::NONE, ..conference(1) }]);
        assert_eq!((database.epoch().unwrap(), database.next_meeting().unwrap()), (EPOCH, MeetingId(10)));
        assert!([8, 9].iter().all(|&meeting| database.ended(MeetingId(meeting)).unwrap() == Some(Run::NONE)));
    }
    let database = Database::open(&path).unwrap();
    let last = Epoch(1 << 32 | 65_536);
    assert!(database.reserve_generations(1).unwrap().epoch() > last, "what was reserved stays so");
    let transaction = begin_write(&database.redb.read()).unwrap();
    tables::Writer::open(&transaction).unwrap().forget_ended(1).unwrap();
    transaction.commit().unwrap();
    let ended = [8, 9].map(|meeting| database.ended(MeetingId(meeting)).unwrap().is_some());
    assert_eq!(ended, [true, false], "when each ended is known of them too");
}

#[test]
fn rows_of_another_format_are_refused() {
    let (folder, database) = open();
    let path = database.path().to_owned();
    drop(database);
    let raw = redb::Database::open(&path).unwrap();
    let transaction = raw.begin_write().unwrap();
    transaction.open_table(FACTS).unwrap().insert("format", FORMAT + 1).unwrap();
    transaction.commit().unwrap();
    drop(raw);
    let error = Database::open(&path).unwrap_err();
    assert!(matches!(error, DatabaseError::Foreign { .. }), "{error:?}");
    drop(folder);
}
