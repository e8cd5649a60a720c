//! What the database keeps of what the table holds, where that is lost, older, or written ahead of
//! what is heard.

use std::sync::Arc;

use crate::cascade::Speakers;
use crate::database::{Change, Database, Member, PartParameters};
use crate::recovery::{Absence, DatabaseStore, NoOrphans, Standing, Store, TableStore};
use crate::table::{Capacity, OwnerId, Part, Table, Terminal, Writer};
use crate::wire::{Domain, Epoch, Layout, Level, MeetingId, MeetingState, Role, Run};

const EPOCH: Epoch = Epoch::new(1, 7);
const ONE: MeetingId = MeetingId(1);

fn domain() -> Domain {
    Domain::new(1).unwrap()
}

struct Rig {
    writer: Writer,
    database: Database,
    _folder: tempfile::TempDir,
}

impl Rig {
    /// A conference with two members in this state, in the table alone.
    fn new(state: MeetingState) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let database = Database::open(&folder.path().join("database.redb")).unwrap();
        let table = Arc::new(Table::on_heap(Capacity { meetings: 4, terminals: 8 }));
        let mut writer = table.writer(OwnerId::CONTROL);
        let part = Part {
            meeting: ONE,
            domain: domain(),
            version: 5,
            epoch: EPOCH,
            state,
            level: Level::HIGHEST,
            layout: Layout::new(9).unwrap(),
            participants: 0,
            chairman: domain().device(1),
            in_doubt: false,
            is_unlisted: false,
            run: Run(77),
        };
        writer.insert_part(&part).unwrap();
        for device in 1..=2 {
            writer.join(ONE, domain(), &Terminal::new(domain().device(device), ONE, Role::Participant)).unwrap();
        }
        Self { writer, database, _folder: folder }
    }

    fn with<T>(&mut self, busy: bool, act: impl FnOnce(&mut dyn Act) -> T) -> (T, usize) {
        let mut written = 0;
        let database = &self.database;
        let write = |changes: Vec<Change>| {
            written += 1;
            database.commit(&changes, EPOCH).unwrap();
        };
        let done = act(&mut TableStore {
            writer: &mut self.writer,
            store: &mut DatabaseStore { database: Some(database), is_lost: false, write },
            is_busy: &|_| busy,
            speakers: &Speakers::new([(domain(), &[][..])]),
            orphans: &mut NoOrphans,
            replaced: &mut Vec::new(),
            warming: None,
        });
        (done, written)
    }

    fn part(&self) -> Part {
        self.writer.table().part(ONE, domain()).unwrap()
    }
}

/// What the tests do to a store of any kind.
trait Act: Store {
    fn keep(&mut self, part: &Part);
}

impl<S: crate::recovery::KeyStore> Act for TableStore<'_, S> {
    fn keep(&mut self, part: &Part) {
        self.write_what_is_not_kept(part);
    }
}

#[test]
fn what_the_database_lacks_or_has_older_is_written_from_the_table() {
    let mut rig = Rig::new(MeetingState::InMeeting);
    let part = rig.part();
    assert_eq!(rig.with(false, |holdings| holdings.keep(&part)).1, 1);
    let kept = rig.database.meeting(ONE).unwrap().unwrap();
    assert_eq!((kept.run, kept.layout.windows(), kept.chairman), (Run(77), 9, domain().device(1)));
    assert_eq!((kept.parts[0].version, kept.members.len()), (5, 2));
    assert_eq!(rig.with(false, |holdings| holdings.keep(&part)).1, 0, "what is kept is not written again");
    let whole = rig.database.part(ONE, domain()).unwrap();
    let older = PartParameters { version: 4, ..kept.parts[0] };
    let another = Member { terminal: domain().device(3), ..kept.members[1] };
    let promoted = Member { role: Role::SpeakerOne, ..kept.members[1] };
    let changes = [
        vec![Change::Part(ONE, older)],
        vec![Change::RemoveMember(ONE, domain().device(2))],
        // As many as before, at the same version.
        vec![Change::RemoveMember(ONE, domain().device(2)), Change::Member(ONE, another)],
        vec![Change::Member(ONE, promoted)],
    ];
    for changes in changes {
        rig.database.commit(&changes, EPOCH).unwrap();
        assert_eq!(rig.with(true, |holdings| holdings.keep(&part)).1, 0, "an operation under way writes it itself");
        assert_eq!(rig.with(false, |holdings| holdings.keep(&part)).1, 1);
        assert_eq!(rig.database.part(ONE, domain()).unwrap(), whole);
    }
}

/// The last commit of a start failed, and its client was told so: no operation has it any more.
#[test]
fn a_start_that_is_done_and_was_not_written_does_not_stay_begun_in_the_database() {
    for state in [MeetingState::Starting, MeetingState::Ending] {
        let mut rig = Rig::new(MeetingState::InMeeting);
        let part = rig.part();
        rig.with(false, |holdings| holdings.keep(&part));
        let begun = PartParameters { domain: domain(), version: 5, state };
        rig.database.commit(&[Change::Part(ONE, begun)], EPOCH).unwrap();
        assert_eq!(rig.with(true, |holdings| holdings.keep(&part)).1, 0, "an operation under way ends it itself");
        rig.with(false, |holdings| holdings.keep(&part));
        let (kept, _) = rig.database.part(ONE, domain()).unwrap().unwrap();
        assert_eq!(kept.state, MeetingState::InMeeting);
    }
}

#[test]
fn an_end_that_is_under_way_is_not_written_over() {
    for state in [MeetingState::InMeeting, MeetingState::Ending, MeetingState::Ended] {
        let mut rig = Rig::new(state);
        let (absence, written) = rig.with(true, |holdings| holdings.missing(domain(), ONE));
        assert_eq!((absence, written, rig.part().state), (Absence::Unfinished, 0, state));
    }
    let mut rig = Rig::new(MeetingState::Ended);
    let take = |holdings: &mut dyn Act| holdings.taken_over(domain(), ONE, None, EPOCH, 2);
    assert_eq!(rig.with(false, take).0, Standing::Unfinished);
    assert_eq!(rig.part().state, MeetingState::Ended, "what has ended there is not in meeting again");
}
