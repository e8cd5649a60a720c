//! The dispatcher's events as lines of the log.

use super::dispatcher::Event;
use crate::config::Config;
use crate::recovery::{self, Warmed};

/// Writes one event down.
pub(super) fn write(event: &Event, config: &Config) {
    match event {
        Event::LinkUp(domain) => tracing::info!(%domain, "link up"),
        Event::LinkDown(domain) => tracing::warn!(%domain, "link down: heartbeats are not answered"),
        Event::LinkUnknown(domain) => {
            tracing::warn!(%domain, "link down: no frame of it came yet to learn where it is; or name its `mac`");
        }
        Event::NextHop(domain, hop) => {
            let interface = config.interface.names.get(usize::from(hop.interface)).map_or("?", |name| name);
            tracing::info!(%domain, mac = %hop.mac, interface, "next hop learned");
        }
        Event::Recovery(event) => write_recovery(event),
        Event::Unfinished { meeting, why, pause } => {
            tracing::warn!(%meeting, %why, ?pause, "what was begun is not finished yet; it is tried again");
        }
        Event::Warning { meeting, what } => tracing::warn!(%meeting, "{what}"),
        Event::GivenUp(domain, by) => tracing::error!(
            %domain, epoch = %by,
            "not in control: another dispatch server controls this domain; `baton control take` takes it back"
        ),
        Event::FenceNotKept(domain) => {
            tracing::error!(%domain, "there is no room to write that down: a start may control it again");
        }
        Event::ControlGiven(epoch) => {
            tracing::info!(%epoch, "an operator has given this server control: this is the epoch of the next engine");
        }
        Event::ControlRefused(error) => {
            tracing::warn!(%error, "an operator asked for control, and it is not given");
        }
        Event::Full { terminal, room } => tracing::error!(
            %terminal,
            room,
            "its additional information is not in the table: `room` terminals may have more than 6 bytes of it, and have; its \
             reports are answered CAPACITY. Give the table more `terminals` (`baton table resize`)"
        ),
        Event::FullNamed => {
            tracing::error!("further terminals that find no room are counted (reports_full), and not named");
        }
        Event::PartReplaced(domain, meeting) => tracing::warn!(
            %domain,
            %meeting,
            "the table's record of a meeting was damaged, by something other than Baton; it was thrown away, and is written \
             anew"
        ),
        Event::PartDiscarded(domain, meeting) => {
            let meeting = meeting.map(|meeting| meeting.0);
            tracing::warn!(%domain, meeting, "the table's record of a meeting that nobody knows was damaged; it was thrown away");
        }
        Event::PartsNotDiscarded(domain, error) => {
            tracing::warn!(%domain, %error, "damaged records of meetings cannot be thrown away yet");
        }
        Event::TerminalDiscarded(terminal, meeting) => {
            let meeting = meeting.map(|meeting| meeting.0);
            tracing::warn!(
                %terminal,
                meeting,
                "the table's record of a terminal was damaged, by something other than Baton; it was thrown away, and its \
                 autonomous server is asked for it"
            );
        }
        Event::TerminalNotDiscarded(terminal, error) => {
            tracing::warn!(%terminal, %error, "the damaged record of a terminal cannot be thrown away yet");
        }
        Event::Warmed(Warmed { refused: Some(_), confirmed: 0, in_doubt: 0, .. }) => {}
        Event::Warmed(Warmed { parts, confirmed, in_doubt, left_out, .. }) => tracing::info!(
            parts,
            confirmed,
            in_doubt,
            left_out,
            "the table is whole: what the database confirmed of the snapshot's parts is in it"
        ),
        Event::SnapshotRefused(fault) => {
            tracing::warn!(snapshot = %config.database.snapshot().display(), %fault, "the snapshot is not read any further, and the database serves");
        }
        Event::DatabaseHeld(error) => tracing::info!(%error, "waiting for the database"),
        Event::DatabaseLost(error) => {
            tracing::error!(%error, "no database: operations are refused, control goes on, and it is tried again");
        }
        Event::DatabaseOpen => tracing::info!("the database is open"),
        Event::DatabaseUnwritable(error) => {
            tracing::error!(%error, "the database cannot be written: operations are refused until it can");
        }
        Event::DatabaseWritable => tracing::info!("the database is written again"),
        Event::UpdateNotWritten(error) => {
            tracing::warn!(%error, "what an autonomous server said was not stored");
        }
        Event::NoneReserved(error) => tracing::warn!(%error, "no generations reserved ahead"),
        Event::HandingOver(upgrading) => {
            tracing::info!(successor = upgrading.successor, version = %upgrading.version, "handing over");
        }
        Event::NotHandingOver { why } => tracing::info!(%why, "not handing over: this engine goes on"),
    }
}

fn write_recovery(event: &recovery::Event) {
    use recovery::Event;
    match *event {
        // Said as what follows from it.
        Event::Stale { .. } => {}
        Event::Orphan { domain, summary } => {
            tracing::warn!(%domain, meeting = %summary.meeting, "orphan: held there and not known here");
        }
        Event::Missing { domain, meeting } => {
            tracing::warn!(%domain, %meeting, "missing: known here and not held there");
        }
        // Operations learn of it from the database, which had it first.
        Event::Unfinished { domain, meeting } => {
            tracing::info!(%domain, %meeting, "an operation was cut short; it is being finished");
        }
        Event::Remnant { domain, meeting } => {
            tracing::warn!(%domain, %meeting, "it has ended, and is still held there: it is being ended there too");
        }
        Event::Refused { domain, meeting, opcode, status } => {
            tracing::warn!(%domain, %meeting, opcode, %status, "refused");
        }
        Event::Restarted { domain } => {
            tracing::warn!(%domain, "the autonomous server has restarted: what it holds is asked for again");
        }
        Event::BadRecord { domain, opcode, meeting } => tracing::warn!(
            %domain, ?opcode, %meeting,
            "a list has a record that cannot be (a value, a number that is out of order or comes twice): such are \
             dropped; see malformed in `baton recovery last`"
        ),
        Event::Foreign { domain, terminal } => tracing::warn!(
            %domain, %terminal,
            "its list names a terminal that is not its domain's: such are dropped; if it has the terminal, name \
             the terminal's domain in `behind`"
        ),
        Event::Unanswered { domain, opcode, meeting } => {
            tracing::warn!(%domain, ?opcode, %meeting, "asked many times without a usable answer; it is asked further");
        }
        Event::ManyOrphans { domain } => {
            tracing::warn!(%domain, "it holds more orphans than are shown; the others are counted");
        }
        Event::Endless { domain } => tracing::error!(%domain, "its listing does not end; what was listed counts"),
        Event::Full { domain, meeting } => {
            tracing::error!(%domain, %meeting, "no room in the table: create it with more");
        }
        Event::Silent { domain } => {
            tracing::warn!(%domain, "no answer to REPLAY_DONE: nothing proves that both sides agree");
        }
        Event::Differing { domain, ours, theirs } => {
            tracing::warn!(%domain, ?ours, ?theirs, "audit differs: listing again");
        }
        Event::AllAcknowledged { domain } => tracing::debug!(%domain, "all takeovers acknowledged"),
        Event::Reconciled { domain } => tracing::info!(%domain, "reconciled"),
    }
}
