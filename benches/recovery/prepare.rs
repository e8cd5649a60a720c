//! What a dispatch server finds that held all these conferences when it died: its table, and its
//! database.
//!
//! Both are made through the library by the rule that the simulation begins with, so that
//! `baton run` takes the table up as one that it kept, and finds the other side in agreement.

use std::error::Error;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use baton::database::{Change, Database, KeyParameters, Member, PartParameters, Reservation};
use baton::lab::sim::{Preload, PreloadedDomain};
use baton::lab::testbed::Testbed;
use baton::lab::testbed::workload::{Expected, Ledger};
use baton::limits::GENERATION_BLOCK;
use baton::sys::mapping::boot_id;
use baton::table::archive::Written;
use baton::table::{Capacity, OwnerId, Table};
use baton::wire::{Flags, MeetingId, MeetingState, MeetingSummary, WINDOW_NONE};

use super::sizes::{FIRST_DEVICE, Size};

/// Conferences that operators change.
pub const OPERATED: u32 = 64;
/// Room in the table beyond what is held.
const ROOM: u32 = 1024;
/// Conferences in a commit, and commits in a flush.
const COMMIT: usize = 128;
const FLUSH: usize = 64;
/// Whom the engine runs as.
const ENGINE: &str = "nobody";

/// Room for a size, and no more than a little beyond.
pub fn capacity(size: &Size) -> Capacity {
    Capacity { meetings: size.meetings + ROOM, terminals: size.terminals + ROOM }
}

fn domains(size: &Size, preload: &Preload) -> Vec<PreloadedDomain> {
    size.domains().map(|(position, domain)| preload.domain(position, domain, FIRST_DEVICE)).collect()
}

/// Makes the database, and reserves the first generations in it for the table.
pub fn database(testbed: &Testbed, size: &Size, preload: &Preload) -> Result<Reservation, Box<dyn Error>> {
    let file = testbed.database();
    let folder = file.parent().ok_or("the database has a folder")?;
    fs::create_dir_all(folder)?;
    let database = Database::open(&file)?;
    let reservation = database.reserve_generations(GENERATION_BLOCK)?;
    let epoch = reservation.epoch();
    if epoch.with_nonce(0) != preload.epoch() {
        return Err(format!("a fresh database begins with {epoch:?}, the rule with {:?}", preload.epoch()).into());
    }
    for domain in domains(size, preload) {
        let parameters: Vec<_> = (0..)
            .zip(domain.meetings())
            .map(|(nth, meeting)| Change::Create(parameters(&domain, nth, &meeting)))
            .collect();
        let commits: Vec<_> = parameters.chunks(COMMIT).map(|changes| (changes, epoch)).collect();
        for flush in commits.chunks(FLUSH) {
            database.commit_group(flush)?.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
    }
    drop(database);
    hand_to_engine(folder)?;
    hand_to_engine(&file)?;
    Ok(reservation)
}

fn parameters(domain: &PreloadedDomain, nth: u32, meeting: &MeetingSummary) -> KeyParameters {
    let member = |state: baton::wire::TerminalState| Member {
        terminal: state.terminal,
        role: state.role,
        flags: state.flags,
        window: WINDOW_NONE,
    };
    KeyParameters {
        meeting: meeting.meeting,
        name: String::new(),
        level: meeting.level,
        layout: meeting.layout,
        chairman: meeting.chairman,
        created_ms: 0,
        parts: vec![PartParameters {
            domain: domain.domain(),
            version: meeting.version,
            state: MeetingState::InMeeting,
        }],
        members: domain.members(nth).map(member).collect(),
        run: meeting.run,
    }
}

fn hand_to_engine(path: &Path) -> Result<(), Box<dyn Error>> {
    let user = baton::sys::process::User::find(ENGINE)?;
    Ok(chown(path, Some(user.uid), Some(user.gid))?)
}

/// Where the dispatch server keeps its snapshots.
pub fn snapshot(testbed: &Testbed) -> PathBuf {
    testbed.database().with_extension("snapshot")
}

/// Takes a snapshot of the table as it is, as the engine does every so often.
pub fn take_snapshot(testbed: &Testbed, table: &Table) -> Result<Written, Box<dyn Error>> {
    let path = snapshot(testbed);
    let written = baton::table::file::snapshot::write(table, &path)?;
    hand_to_engine(&path)?;
    Ok(written)
}

/// Makes the table.
pub fn table(
    testbed: &Testbed,
    size: &Size,
    preload: &Preload,
    reservation: Reservation,
) -> Result<Arc<Table>, Box<dyn Error>> {
    Table::create_at(&testbed.table(), capacity(size), boot_id()?)?;
    // As the dispatch server will: what it would not take is found here.
    let table = Arc::new(Table::open_at(&testbed.table())?);
    table.set_reservation(reservation.epoch(), reservation.end);
    let mut writer = table.writer(OwnerId::CONTROL);
    for domain in domains(size, preload) {
        domain.enter(&mut writer)?;
    }
    drop(writer);
    Ok(table)
}

/// The conferences that operators change, as they begin.
pub fn ledger(size: &Size, preload: &Preload) -> Ledger {
    let mut ledger = Ledger::default();
    for domain in domains(size, preload) {
        for (nth, meeting) in (0..).zip(domain.meetings()) {
            if meeting.meeting > MeetingId(OPERATED.into()) {
                break;
            }
            let muted = |flags: Flags| flags.0 & Flags::MUTED.0 != 0;
            let members = domain.members(nth).map(|state| (state.terminal, (state.role, muted(state.flags)))).collect();
            ledger.meetings.insert(meeting.meeting, Expected { layout: meeting.layout, members });
        }
    }
    ledger
}
