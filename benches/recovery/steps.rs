//! What a reboot is made of, each step for itself, in process: the database opened, the snapshot
//! written, mapped and checked, the new table filled with it and without it.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use baton::cascade::Speakers;
use baton::database::Database;
use baton::lab::testbed::Testbed;
use baton::recovery::{Cursor, DatabaseStore, NoOrphans, Store, TableStore, Warming};
use baton::table::file::snapshot;
use baton::table::{OwnerId, Table, Writer};
use baton::text::{thousands, time};
use baton::wire::{Domain, MeetingId};

use super::measure::say;
use super::prepare;
use super::sizes::{FIRST_DEVICE, Size};

/// Measures one size.
pub fn measure(size: &Size, testbed_name: &str) -> Result<(), Box<dyn Error>> {
    let preload = size.preload()?;
    let testbed = Testbed::set_with(testbed_name, 0)?;
    let begun = Instant::now();
    let reservation = prepare::database(&testbed, size, &preload)?;
    say(&format!("database of {} MiB filled in {}", length(&testbed)? >> 20, time(begun.elapsed())));
    let table = prepare::table(&testbed, size, &preload, reservation)?;
    let begun = Instant::now();
    let written = prepare::take_snapshot(&testbed, &table)?;
    say(&format!("snapshot of {} MiB written in {}", written.head.bytes >> 20, time(begun.elapsed())));
    drop(table);
    std::fs::remove_file(testbed.table())?;

    let begun = Instant::now();
    let database = Database::open(&testbed.database())?;
    say(&format!("database opened in {}", time(begun.elapsed())));
    // As a process leaves it that is killed: it is open, and something was written.
    database.reserve_generations(1)?;
    let left = testbed.database().with_extension("left");
    std::fs::copy(testbed.database(), &left)?;
    let begun = Instant::now();
    drop(Database::open(&left)?);
    say(&format!("after a kill, in {}", time(begun.elapsed())));
    let begun = Instant::now();
    database.reserve_generations(1)?;
    say(&format!("generations reserved in {}", time(begun.elapsed())));
    let begun = Instant::now();
    let unfinished = database.unfinished()?.len();
    say(&format!("{unfinished} unfinished conferences found in {}", time(begun.elapsed())));
    let begun = Instant::now();
    for _ in 0..1000 {
        database.last_commit()?;
    }
    say(&format!("a reader begun in {}", time(begun.elapsed() / 1000)));

    let begun = Instant::now();
    let archive = Arc::new(snapshot::open(&prepare::snapshot(&testbed))?);
    say(&format!("snapshot mapped in {}", time(begun.elapsed())));
    let begun = Instant::now();
    (0..archive.segments()).try_for_each(|number| archive.segment(number).map(drop))?;
    say(&format!("{} segments checked in {}", thousands(archive.segments() as u64), time(begun.elapsed())));

    let capacity = prepare::capacity(size);
    let domains: Vec<(Domain, Vec<Domain>)> = size
        .domains()
        .map(|(position, domain)| (domain, preload.domain(position, domain, FIRST_DEVICE).behind().collect()))
        .collect();
    let speakers = Speakers::new(domains.iter().map(|(domain, behind)| (*domain, &behind[..])));
    let table = Arc::new(Table::create_at(&testbed.table(), capacity, Default::default())?);
    let mut writer = table.writer(OwnerId::CONTROL);
    let begun = Instant::now();
    let mut warming = Warming::by(archive);
    for (domain, _) in &domains {
        let (mut cursor, mut more) = (Cursor::default(), true);
        while more {
            warming.begin_round();
            with(&mut writer, &database, &speakers, Some(&mut warming), |store| {
                more = store.walk_snapshot(*domain, &mut cursor, &mut |_, _| true)?;
                Ok(())
            })?;
        }
    }
    say(&format!("{} entered in {}", warming.warmed(), time(begun.elapsed())));
    let begun = Instant::now();
    fill(&mut writer, &database, &speakers, &domains)?;
    say(&format!("held against the database's list in {}", time(begun.elapsed())));
    let flaws = table.verify();
    if !flaws.is_empty() {
        return Err(flaws.join("; ").into());
    }
    drop((writer, table));

    std::fs::remove_file(testbed.table())?;
    let table = Arc::new(Table::create_at(&testbed.table(), capacity, Default::default())?);
    let mut writer = table.writer(OwnerId::CONTROL);
    let begun = Instant::now();
    fill(&mut writer, &database, &speakers, &domains)?;
    say(&format!("without it, {} parts from the database in {}", table.count_parts(), time(begun.elapsed())));
    Ok(())
}

fn length(testbed: &Testbed) -> Result<u64, Box<dyn Error>> {
    Ok(std::fs::metadata(testbed.database())?.len())
}

/// Enters what the database has and the table has not.
fn fill(
    writer: &mut Writer,
    database: &Database,
    speakers: &Speakers,
    domains: &[(Domain, Vec<Domain>)],
) -> Result<(), Box<dyn Error>> {
    for (domain, _) in domains {
        let mut next = MeetingId::NONE;
        with(writer, database, speakers, None, |store| {
            while store.fill(*domain, &mut next)? {}
            Ok(())
        })?;
    }
    Ok(())
}

fn with(
    writer: &mut Writer,
    database: &Database,
    speakers: &Speakers,
    warming: Option<&mut Warming>,
    act: impl FnOnce(&mut TableStore<'_, DatabaseStore<'_, fn(Vec<baton::database::Change>)>>) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut store = DatabaseStore { database: Some(database), is_lost: false, write: drop as fn(_) };
    act(&mut TableStore {
        writer,
        store: &mut store,
        is_busy: &|_| false,
        speakers,
        orphans: &mut NoOrphans,
        replaced: &mut Vec::new(),
        warming,
    })
}
