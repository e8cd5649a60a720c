//! What the engine should know of.

use crate::wire::{Address, Domain, Epoch, MeetingId, MeetingSummary, Opcode, Status};

/// What the engine should know of at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The autonomous server has a newer controller: this domain is given up, and its machine sends
    /// nothing more. The others go on.
    Stale {
        /// Who said so.
        domain: Domain,
        /// The highest epoch that it has seen.
        highest: Epoch,
    },
    /// It has restarted since it was heard last: what it holds is asked for anew.
    Restarted {
        /// Who has.
        domain: Domain,
    },
    /// Alarm: it holds a meeting that we do not know.
    Orphan {
        /// Who holds it.
        domain: Domain,
        /// What it holds.
        summary: MeetingSummary,
    },
    /// Alarm: we hold a meeting that it does not.
    Missing {
        /// Who lacks it.
        domain: Domain,
        /// What it lacks.
        meeting: MeetingId,
    },
    /// It holds a meeting that the database knows to have ended: it is being ended there too.
    Remnant {
        /// Who holds it.
        domain: Domain,
        /// What has ended.
        meeting: MeetingId,
    },
    /// The death cut the start or end of this meeting short: the engine finishes it.
    Unfinished {
        /// Where it is unfinished.
        domain: Domain,
        /// Which meeting.
        meeting: MeetingId,
    },
    /// Alarm: a request was refused for a reason that waiting does not cure.
    Refused {
        /// Who refused.
        domain: Domain,
        /// Which meeting; [`MeetingId::NONE`] where the request named none.
        meeting: MeetingId,
        /// The request's answer's opcode, raw.
        opcode: u8,
        /// Why.
        status: Status,
    },
    /// Alarm, once for each opcode: a page has a record that cannot be. It is dropped, and the rest
    /// counts.
    BadRecord {
        /// Whose page.
        domain: Domain,
        /// Of the page.
        opcode: Opcode,
        /// What it is about, as far as that can be read.
        meeting: MeetingId,
    },
    /// Alarm, once: a list names a terminal that is not its domain's. It is dropped, and the rest
    /// counts.
    Foreign {
        /// Whose list.
        domain: Domain,
        /// The first such terminal.
        terminal: Address,
    },
    /// Alarm: a request was sent many times without a usable answer. It is sent further.
    Unanswered {
        /// Who does not answer.
        domain: Domain,
        /// Of the request.
        opcode: Opcode,
        /// What it asks about; [`MeetingId::NONE`] for no single meeting.
        meeting: MeetingId,
    },
    /// Alarm, once: it holds more meetings that we do not know than are noted; the others are
    /// counted.
    ManyOrphans {
        /// Who holds them.
        domain: Domain,
    },
    /// Alarm, once: its listing has no end. What was listed counts.
    Endless {
        /// Whose.
        domain: Domain,
    },
    /// Alarm: the cache has no room for what this meeting's part needs. It was created too small.
    Full {
        /// Where.
        domain: Domain,
        /// Which meeting.
        meeting: MeetingId,
    },
    /// Alarm: the audit differs. Another round of listing follows.
    Differing {
        /// With whom.
        domain: Domain,
        /// Count and digest of ours.
        ours: (u32, u64),
        /// Count and digest of its.
        theirs: (u32, u64),
    },
    /// Alarm: the audit was asked for several times and is not answered. It is asked for further.
    Silent {
        /// Who is silent.
        domain: Domain,
    },
    /// Every takeover at this autonomous server was answered.
    AllAcknowledged {
        /// Whose.
        domain: Domain,
    },
    /// Both sides agree, proven by the audit.
    Reconciled {
        /// With whom.
        domain: Domain,
    },
}
