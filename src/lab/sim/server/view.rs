//! What goes on at an autonomous server without the dispatch server's asking, and what can be seen
//! of it.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::AutonomousServer;
use crate::lab::sim::ticker::Ticker;
use crate::lab::sim::{Counters, EpochSeen};
use crate::time::Nanos;
use crate::wire::{
    Address, Domain, Epoch, Layout, Level, MeetingId, MeetingSummary, Message, Role, Run, Status, TerminalState,
};

impl AutonomousServer {
    /// It restarts: what it holds and the highest epoch are kept, what it was about to send is not,
    /// nor which requests it has answered.
    pub fn restart(&mut self) {
        self.boot_generation += 1;
        self.answers.forget();
    }

    /// A meeting is held here that no dispatch server asked for: an orphan, to one that looks.
    pub fn hold(&mut self, now: Nanos, meeting: MeetingId, level: Level, layout: Layout, members: &[(Address, Role)]) {
        let nobody = Address::default();
        let start = Message::MeetingStart {
            level,
            layout,
            chairman: nobody,
            participants: members.len() as u16,
            run: Run::NONE,
        };
        let adds = members.iter().map(|&(terminal, role)| Message::MemberAdd { terminal, role });
        for command in std::iter::once(start).chain(adds) {
            // A meeting or member that cannot be is left out, as it would be for a dispatch server
            // that asked.
            let _ = self.meetings.command(now, meeting, Epoch::NONE, &command, &mut self.terminals);
        }
    }

    /// A command is carried out that no dispatch server sent, say an operator's at this domain.
    pub fn command_here(&mut self, now: Nanos, meeting: MeetingId, command: &Message) -> Result<Message, Status> {
        let controller = self.meetings.find(meeting).map_or(Epoch::NONE, |held| held.controller);
        let done = self.meetings.command(now, meeting, controller, command, &mut self.terminals);
        done.map(|(_, message)| message)
    }

    /// A meeting ends here of itself; false where there is none.
    pub fn end(&mut self, meeting: MeetingId) -> bool {
        self.meetings.end_here(meeting, &mut self.terminals)
    }

    /// A meeting is gone without a trace, as after a fault; false where there is none.
    pub fn forget(&mut self, meeting: MeetingId) -> bool {
        self.meetings.forget(meeting, &mut self.terminals)
    }

    /// Has room for so many meetings from now on; those that it holds stay.
    pub fn set_capacity(&mut self, meetings: usize) {
        self.meetings.set_capacity(meetings);
    }

    /// Until then, requests are answered BUSY; but heartbeats and probes.
    pub fn set_busy(&mut self, until: Nanos) {
        self.busy_until = until;
    }

    /// Nothing happens of its own accord any more, until told otherwise; what is outstanding is
    /// still repeated.
    pub fn set_quiesced(&mut self, quiesced: bool) {
        self.quiesced = quiesced;
    }

    /// From now on, so many reports and probes a second.
    pub fn set_rates(&mut self, reports: u32, probes: u32) {
        self.pace_reports = Ticker::per_second(reports);
        self.pace_probes = Ticker::per_second(probes);
    }

    /// Whether no report is outstanding, no terminal rings and no answer waits.
    pub fn is_quiet(&self) -> bool {
        self.terminals.is_quiet() && self.answers.is_empty()
    }

    /// The domain that it speaks for.
    pub const fn domain(&self) -> Domain {
        self.settings.domain
    }

    /// The highest epoch seen.
    pub const fn highest_epoch(&self) -> Epoch {
        self.highest
    }

    /// The meetings held, by ascending id.
    pub fn meetings(&self) -> impl Iterator<Item = MeetingSummary> + '_ {
        self.meetings.from(MeetingId::NONE)
    }

    /// The members of a meeting held here, by ascending address.
    pub fn members(&self, meeting: MeetingId) -> impl Iterator<Item = Address> + '_ {
        self.meetings.members_of(meeting)
    }

    /// Every terminal, by ascending address, with the last version of it that was acknowledged.
    pub fn terminals(&self) -> impl Iterator<Item = (TerminalState, Option<u32>)> + '_ {
        self.terminals.all()
    }

    /// As [`Self::terminals`], of those with which something has happened since the beginning, in
    /// the order in which it did.
    pub fn terminals_changed(&self) -> impl Iterator<Item = (&TerminalState, Option<u32>)> {
        self.terminals.changed()
    }

    /// How many meetings are held.
    pub fn count_meetings(&self) -> usize {
        self.meetings.len()
    }

    /// How many terminals are in one.
    pub const fn count_members(&self) -> usize {
        self.terminals.in_meetings()
    }

    /// A meeting that is held.
    pub fn meeting(&self, meeting: MeetingId) -> Option<MeetingSummary> {
        self.meetings.find(meeting).map(|held| held.summary(meeting))
    }

    /// What it would report now; none where it simulates no such terminal.
    pub fn terminal(&self, terminal: Address) -> Option<TerminalState> {
        self.terminals.state(terminal)
    }

    /// A terminal's state, and the last version of it that was acknowledged.
    pub fn terminal_acknowledged(&self, terminal: Address) -> Option<(TerminalState, Option<u32>)> {
        self.terminals.index(terminal).map(|index| self.terminals.look(index))
    }

    /// A terminal's window on the screen; 255 none.
    pub fn window(&self, terminal: Address) -> Option<u8> {
        self.terminals.window(terminal)
    }

    /// Count and digest of the meetings under an epoch, as AUDIT tells them.
    pub fn digest(&self, epoch: Epoch) -> (u32, u64) {
        self.meetings.digest(epoch)
    }

    /// What was seen of each epoch, oldest first.
    pub fn timeline(&self) -> impl ExactSizeIterator<Item = &EpochSeen> {
        self.timeline.epochs()
    }

    /// What was counted.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Reports not acknowledged yet.
    pub const fn reports_outstanding(&self) -> usize {
        self.terminals.outstanding()
    }

    /// From a report's first sending to its acknowledgement, and from a probe to its echo, in
    /// nanoseconds.
    pub const fn round_trips(&self) -> (&Histogram<u64>, &Histogram<u64>) {
        (self.terminals.round_trip(), self.probes.round_trip())
    }

    /// Counting begins anew. Reports that are outstanding now count when they are acknowledged, not
    /// as sent.
    pub fn reset_counters(&mut self) {
        self.counters = Counters::default();
        self.terminals.reset();
        self.probes.reset();
    }

    /// What a BUSY answer says to wait from now on.
    pub fn set_retry_after(&mut self, wait: Duration) {
        self.settings.retry_after = wait;
    }
}
