//! Parts that something other than Baton damaged, in the record or in the columns beside it, while
//! their autonomous server and the table agree about them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use baton::database::Database;
use baton::lab::sim::NetworkSettings;
use baton::recovery::{Event, Path, Settings};
use baton::table::{Capacity, Cursor, OwnerId, Part, Table, TakenOver};
use baton::wire::{Domain, Epoch, Layout, Level, MeetingId, MeetingState, Run};

use super::reconcile;
use super::world::{assert_table, cluster, events, settle};

/// As `damage`, without a look at the record: nobody has met it yet.
fn damage_unseen(table: &Table, meeting: MeetingId, domain: Domain) {
    let words: Vec<u64> = table.mapping().words().iter().map(|word| word.load(Ordering::Relaxed)).collect();
    let is_record = |at: &usize| {
        words[*at] == meeting.0 && words[at + 1] & Domain::MAX == domain.number() && words[at + 1] >> 48 != 0
    };
    for at in (0..words.len() - 2).filter(is_record) {
        table.mapping().words()[at + 2].store(words[at + 2] ^ 1, Ordering::Relaxed);
    }
}

/// Something damages a part that is held, and a client that lists all meetings is the first to meet
/// that. Then its autonomous server holds one meeting more, which is a reason to prove agreement
/// once more. Both sides agree, for the columns still have the part: it must not be thrown away as
/// one that neither side has.
#[test]
fn a_damaged_part_that_both_sides_hold_is_not_thrown_away() {
    let mut world = cluster(1, 1, 100, NetworkSettings::PERFECT);
    world.confer(1..=20, 3);
    world.start(Path::Cache, &Settings::default());
    reconcile(&mut world);
    settle(&mut world);
    damage_unseen(&world.table, MeetingId(3), world.sites[0].server.domain());
    assert_eq!(world.table.parts().count(), 19);
    let layout = Layout::new(4).expect("a layout");
    world.sites[0].server.hold(world.now, MeetingId(99), Level::HIGHEST, layout, &[]);
    for milliseconds in 0..60_000 {
        world.run_for(Duration::from_millis(1));
        let held = (world.table.count_parts(), world.table.count_terminals());
        assert_eq!(held, (20, 60), "after {milliseconds} ms");
    }
    assert_table(&world, &[MeetingId(99)]);
}

/// The database does not know the damaged part: a new one, in place of one that was lost. Its
/// autonomous server holds it all the same, so it is an orphan, which an operator can adopt or end.
/// Until then its members are nobody's here.
#[test]
fn a_damaged_part_that_the_database_does_not_know_does_not_stay_so() {
    let mut world = cluster(1, 2, 100, NetworkSettings::PERFECT);
    world.confer(1..=20, 3);
    world.disk.database = Database::in_memory().expect("memory takes everything");
    let meeting = MeetingId(3);
    damage_unseen(&world.table, meeting, world.sites[0].server.domain());
    world.start(Path::Cache, &Settings::default());
    reconcile(&mut world);
    settle(&mut world);
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.table.verify(), Vec::<String>::new(), "ten minutes later");
    let is_told = |event: &Event| matches!(event, Event::Orphan { summary, .. } if summary.meeting == meeting);
    assert!(events(&world).iter().any(is_told), "{:?}", events(&world));
}

const NOW: Epoch = Epoch::new(1, 2);
const VERSION: u64 = 0x1234_5678_9abc;

fn domain() -> Domain {
    Domain::new(366).expect("a domain")
}

/// A table with one part, taken over by its columns.
fn taken_over() -> (Arc<Table>, baton::table::Writer) {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 64, terminals: 8 }));
    let mut writer = table.writer(OwnerId::CONTROL);
    let part = Part {
        meeting: MeetingId(7),
        domain: domain(),
        version: VERSION,
        epoch: Epoch::new(1, 1),
        state: MeetingState::InMeeting,
        level: Level::HIGHEST,
        layout: Layout::new(4).expect("a layout"),
        participants: 0,
        chairman: domain().device(1),
        in_doubt: false,
        is_unlisted: false,
        run: Run(1),
    };
    writer.insert_part(&part).expect("room");
    writer.begin(NOW);
    let mut met = None;
    table.walk_to_take_over(domain(), &mut Cursor::default(), |at, _| {
        met = Some(at);
        true
    });
    let taken = TakenOver { meeting: MeetingId(7), domain: domain(), epoch: NOW, participants: 0 };
    assert!(writer.take_over(met.expect("it is there"), &taken));
    assert_eq!(writer.digest_of_parts(domain(), NOW).0, 1);
    (table, writer)
}

/// The audit keeps count and digest for as long as a domain's changes are the same.
#[test]
fn a_held_part_that_is_thrown_away_is_a_change_of_its_domain() {
    let (table, mut writer) = taken_over();
    damage_unseen(&table, MeetingId(7), domain());
    let (changes, digest) = (writer.changes_in(domain()), writer.digest_of_parts(domain(), NOW));
    assert_eq!(writer.discard_damaged_parts_in(domain()).map(|found| found.len()), Ok(1));
    assert_ne!(writer.digest_of_parts(domain(), NOW), digest);
    assert_ne!(writer.changes_in(domain()), changes, "else the audit goes on saying what it said before");
}

/// The columns have no checksum. Whatever happens to one, the digest comes back to what the records
/// say: else no audit agrees as long as this engine lives.
#[test]
fn a_damaged_column_does_not_spoil_the_digest_for_good() {
    let (table, mut writer) = taken_over();
    let words = table.mapping().words();
    let is_entry = |pair: &&[_]| {
        let [meeting, version] = pair else { return false };
        let load = |word: &baton::sys::mapping::SharedWord| word.load(Ordering::Relaxed);
        (load(meeting), load(version)) == (7, VERSION)
    };
    let entry = words.windows(2).find(is_entry).expect("it is in the columns");
    entry[1].store(VERSION ^ 1, Ordering::Relaxed);
    // Its autonomous server has changed it, and everything of it is written anew.
    assert_eq!(writer.update_part(MeetingId(7), domain(), |part| part.version += 1), Ok(true));
    assert_eq!(table.verify(), Vec::<String>::new());
    assert_eq!(writer.digest_of_parts(domain(), NOW), table.digest_of_parts(domain(), NOW));
}
