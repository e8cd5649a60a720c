//! Whose autonomous server a command goes to, and whether it may go.

use super::Operations;
use super::begin::NotNow;
use super::operation::{Operation, OperationId, Step, Waiting};
use crate::cms::{Refusal, RefusalKind};
use crate::table::{Part, Table, Terminal, Writer};
use crate::wire::{Address, Domain, Epoch, MeetingId, MeetingState, Message};

impl Operations {
    /// The parts of a conference by domain; refused where there are none.
    pub(super) fn parts(&self, meeting: MeetingId, writer: &Writer) -> Result<Vec<Part>, NotNow> {
        let mut parts: Vec<_> = writer.table().parts_of(meeting).collect();
        parts.sort_by_key(|part| part.domain);
        if parts.is_empty() {
            let what = format!("there is no meeting {meeting}");
            return Err(Refusal::new(RefusalKind::NotFound, what, "see `baton meeting list`").into());
        }
        Ok(parts)
    }

    /// Whether a part may be commanded: taken over under this epoch, and in meeting.
    pub(super) fn controlled(&self, part: &Part) -> Result<(), NotNow> {
        let domain = part.domain;
        let refuse = |kind, what, remedy: &str| Err(NotNow::Refuse(Refusal::new(kind, what, remedy)));
        if let Some(by) = self.lanes.fenced_by(domain) {
            return Err(given_up(domain, by).into());
        }
        match part.state {
            _ if !self.lanes.has(domain) => Err(unconfigured(domain).into()),
            MeetingState::Ending | MeetingState::Ended => {
                refuse(RefusalKind::Conflict, "the conference is being ended".to_owned(), "start another one")
            }
            MeetingState::Missing => {
                let what = format!("the autonomous server of domain {domain} does not hold the conference any more");
                refuse(RefusalKind::Declined, what, "end it and start it again, or bring that autonomous server back")
            }
            MeetingState::InMeeting if part.epoch == self.epoch => Ok(()),
            _ => Err(NotNow::Wait(Waiting::TakeOver(domain))),
        }
    }

    /// The domain whose autonomous server has a member, and whose part may be commanded. Remembers
    /// the version of its state.
    pub(super) fn member(
        &self,
        operation: &mut Operation,
        terminal: Address,
        writer: &Writer,
    ) -> Result<Domain, NotNow> {
        let parts = self.parts(operation.meeting, writer)?;
        let place = place(writer.table(), operation.meeting, terminal);
        let home = place.as_ref().map(|&(_, domain)| domain).or(terminal.domain());
        if let Some(part) = parts.iter().find(|part| Some(part.domain) == home) {
            self.controlled(part)?;
        }
        let Some((state, domain)) = place else {
            let what = format!("{terminal} is not in meeting {}", operation.meeting);
            let remedy = format!("see `baton meeting show {}`", operation.meeting);
            return Err(Refusal::new(RefusalKind::NotFound, what, remedy).into());
        };
        operation.seen.insert(terminal, state.version);
        operation.homes.insert(terminal, domain);
        Ok(domain)
    }

    /// Commands an autonomous server; refused where there is no way to it.
    pub(super) fn send(
        &mut self,
        id: OperationId,
        operation: &mut Operation,
        domain: Domain,
        message: Message,
    ) -> Result<(), Refusal> {
        if !self.lanes.push(domain, id, operation.meeting, message) {
            return Err(self.lanes.fenced_by(domain).map_or_else(|| unconfigured(domain), |by| given_up(domain, by)));
        }
        operation.step = Step::Commanding;
        *operation.outstanding.entry(domain).or_default() += 1;
        Ok(())
    }
}

/// A terminal that is in this meeting, and the domain of its part.
pub(super) fn place(table: &Table, meeting: MeetingId, terminal: Address) -> Option<(Terminal, Domain)> {
    table.membership(terminal).filter(|(state, _)| state.meeting == meeting)
}

/// Who is chairman, by the part that each is a member of: the other parts are not told of a change,
/// and keep whom they were started with. More than one only between two commands.
pub(super) fn chairmen(table: &Table, parts: &[Part]) -> Vec<Address> {
    let is_there = |part: &&Part| {
        let place = place(table, part.meeting, part.chairman);
        place.map_or(part.chairman.domain(), |(_, domain)| Some(domain)) == Some(part.domain)
    };
    parts.iter().filter(is_there).map(|part| part.chairman).collect()
}

/// Another dispatch server controls a domain.
pub(super) fn given_up(domain: Domain, by: Epoch) -> Refusal {
    let what = format!("another dispatch server controls domain {domain}, under epoch {by}");
    Refusal::new(RefusalKind::NotInControl, what, "ask that one, or take the domain back: `baton control take`")
}

fn unconfigured(domain: Domain) -> Refusal {
    let what = format!("domain {domain} is not in the configuration");
    Refusal::new(RefusalKind::NotFound, what, "add the domain to the configuration")
}
