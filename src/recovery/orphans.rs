//! What the autonomous server holds and we do not know: listed, alarmed, and left, adopted or ended
//! by the operator's setting.

use super::event::Event;
use super::request::Request;
use super::settings::Orphans;
use super::shared::Shared;
use super::step::Step;
use super::store::Store;
use crate::cascade::Purpose;
use crate::time::Nanos;
use crate::wire::{MeetingId, MeetingSummary, Message, Opcode, Transaction};

/// The reason that a MEETING_END of an orphan bears: ended by recovery.
const REASON_ORPHAN: u8 = 1;

/// Makes of an orphan what is set. False where it is not noted, because there are too many: how
/// many there are is the autonomous server's to say, and how many of them are noted is ours.
pub(super) fn handle_orphan(
    shared: &mut Shared,
    summary: &MeetingSummary,
    become_of: Orphans,
    holdings: &mut dyn Store,
) -> bool {
    let meeting = summary.meeting;
    if shared.meetings.step(meeting) == Some(Step::OrphanEnding) {
        return true;
    }
    if become_of == Orphans::Adopt && holdings.adopt(shared.domain, summary) {
        shared.alarms.orphan(summary);
        shared.meetings.take_over(meeting, summary.version, Some(summary));
        return true;
    }
    if !shared.alarms.has_room_for_orphan(meeting) {
        shared.alarms.many_orphans();
        return false;
    }
    shared.alarms.orphan(summary);
    match become_of {
        Orphans::Leave | Orphans::Adopt => {
            shared.meetings.leave(summary);
            holdings.orphan(shared.domain, summary);
        }
        Orphans::End => shared.meetings.end(meeting),
    }
    true
}

/// Makes of one orphan what an operator says, against the setting for all. False where none is held
/// under that number that was listed, or the number is one of ours, or there is no room to adopt
/// it.
pub(super) fn decide(shared: &mut Shared, meeting: MeetingId, become_of: Orphans, holdings: &mut dyn Store) -> bool {
    let is_orphan = shared.meetings.step(meeting) == Some(Step::Orphan);
    let Some(summary) = shared.meetings.summary(meeting).filter(|_| is_orphan) else { return false };
    if holdings.version(shared.domain, meeting).is_some() {
        return false;
    }
    handle_orphan(shared, &summary, become_of, holdings);
    shared.meetings.step(meeting) != Some(Step::Orphan)
}

/// A meeting that the database knows to have ended lives on at the autonomous server, whose memory
/// went back.
pub(super) fn end_remnant(shared: &mut Shared, meeting: MeetingId) {
    if shared.meetings.step(meeting) != Some(Step::OrphanEnding) {
        shared.alarms.tell(Event::Remnant { domain: shared.domain, meeting });
        shared.meetings.end(meeting);
    }
}

/// Whether no end is wanted or on its way.
pub(super) fn is_idle(shared: &Shared) -> bool {
    shared.meetings.ends.is_empty() && shared.exchange.outstanding(Purpose::End) == 0
}

/// The next end to send.
pub(super) fn poll_end(shared: &mut Shared, now: Nanos, holdings: &dyn Store) -> Option<Request> {
    // What a client has started meanwhile under the same id is not the orphan any more. That is
    // asked of what is about to be sent alone: a queue may be long.
    let domain = shared.domain;
    let is_orphan = |meeting: MeetingId| holdings.version(domain, meeting).is_none();
    let message = Message::MeetingEnd { reason: REASON_ORPHAN };
    while let Some(due) = shared.exchange.poll_due(now, Purpose::End) {
        if is_orphan(due.meeting) {
            shared.note_repeat(&due);
            return Some(shared.request(due.transaction, due.meeting, message));
        }
        shared.exchange.close(due.transaction);
    }
    while shared.exchange.has_room(Purpose::End)
        && let Some(meeting) = shared.meetings.ends.pop_front()
    {
        if is_orphan(meeting) {
            let transaction = shared.exchange.ask(now, Purpose::End, Opcode::MeetingEnd, meeting)?;
            return Some(shared.request(transaction, meeting, message));
        }
    }
    None
}

/// It is ended, or was before.
pub(super) fn handle_end_ack(shared: &mut Shared, now: Nanos, transaction: Transaction, meeting: MeetingId) {
    shared.exchange.answered(now, transaction);
    shared.alarms.answered(Opcode::MeetingEnd);
    shared.meetings.set_step(meeting, Step::OrphanEnded);
}
