//! Finishing what a death cut short.

use super::Operations;
use super::enter::{part_of, warn};
use super::operation::{Scope, Task};
use crate::database::{KeyParameters, Wanted};
use crate::table::{Part, Writer};
use crate::time::Nanos;
use crate::wire::{MeetingId, MeetingState};

impl Operations {
    /// The database is open: whoever waits for it may begin, and what the last engine left
    /// unfinished is finished. `next_meeting`, `unfinished` and `wanted` are what the database
    /// says; see [`crate::database::Opened`].
    ///
    /// The table is held against that. A part that is `starting`, `ending` or `ended` in the table
    /// alone is taken out: a start is written ahead before anybody hears of it, so nobody has; an
    /// end is entered into the database before the table forgets it, so everybody has.
    pub fn handle_opened(
        &mut self,
        now: Nanos,
        next_meeting: MeetingId,
        unfinished: Vec<KeyParameters>,
        wanted: Vec<(MeetingId, Wanted)>,
        writer: &mut Writer,
    ) {
        self.next_meeting = Some(next_meeting);
        let is_known = |part: &Part| {
            let found = unfinished.binary_search_by_key(&part.meeting, |parameters| parameters.meeting).ok();
            found.and_then(|index| unfinished[index].part(part.domain)).is_some()
        };
        let left = |part: &Part| {
            matches!(part.state, MeetingState::Starting | MeetingState::Ending | MeetingState::Ended) && !is_known(part)
        };
        let alone: Vec<_> = writer.table().parts().filter(left).collect();
        for part in alone {
            warn(|| writer.remove_part(part.meeting, part.domain));
        }
        for parameters in unfinished {
            self.resume(now, parameters, writer);
        }
        for (meeting, wanted) in wanted {
            self.wanted.insert(meeting, wanted);
            self.leave(now, meeting, Task::Settle, 0);
        }
        self.ready.append(&mut self.waiting);
        self.run(now, writer);
    }

    /// Leaves what one conference needs in the backlog. All of it is idempotent at the autonomous
    /// servers.
    fn resume(&mut self, now: Nanos, parameters: KeyParameters, writer: &mut Writer) {
        let meeting = parameters.meeting;
        let in_state = |state| parameters.parts.iter().filter(move |part| part.state == state);
        let unfinished = in_state(MeetingState::Ending).chain(in_state(MeetingState::Starting));
        for part in unfinished {
            let entered = part_of(&parameters, part.domain, part.state);
            match writer.table().part(meeting, part.domain) {
                // The last engine died between the database and the table.
                Some(found) if found.state != part.state => {
                    warn(|| writer.update_part(meeting, part.domain, |found| found.state = part.state));
                }
                Some(_) => {}
                None => warn(|| writer.insert_part(&entered)),
            }
        }
        let ending: Vec<_> = in_state(MeetingState::Ending).map(|part| part.domain).collect();
        if ending.len() == parameters.parts.len() {
            self.leave(now, meeting, Task::End(Scope::All), 0);
            return;
        }
        for domain in ending {
            self.leave(now, meeting, Task::End(Scope::Part(domain)), 0);
        }
        if in_state(MeetingState::Starting).next().is_some() {
            self.leave(now, meeting, Task::Resume(Box::new(parameters)), 0);
        }
    }
}
