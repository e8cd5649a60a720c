//! Everything that the autonomous servers hold, to be held against what the dispatch server holds.
//!
//! Its records are the table's, so that both sides say the same thing under the same name; beside
//! each is what this side alone knows.

use serde::{Deserialize, Serialize};

use super::{AutonomousServer, World};
use crate::table::{Part, Terminal};
use crate::wire::{Address, MeetingId, TerminalState};

/// What is held in all domains.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Dump {
    /// By id, then domain.
    pub parts: Vec<HeldPart>,
    /// By address.
    pub terminals: Vec<HeldTerminal>,
}

/// A part of a meeting. Its epoch is the one under which it was taken last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldPart {
    /// As the table would have it.
    #[serde(flatten)]
    pub part: Part,
    /// By ascending address.
    pub members: Vec<Address>,
}

/// A terminal, in a meeting or in none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldTerminal {
    /// As the table would have it.
    #[serde(flatten)]
    pub terminal: Terminal,
    /// The last version that the dispatch server acknowledged.
    pub acknowledged: Option<u32>,
}

impl Dump {
    /// Its parts alone.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().map(|held| &held.part)
    }

    /// Its terminals alone.
    pub fn terminals(&self) -> impl Iterator<Item = &Terminal> {
        self.terminals.iter().map(|held| &held.terminal)
    }
}

impl World {
    /// Everything held.
    pub fn dump(&self) -> Dump {
        let mut dump = self.dump_of(&|_| true);
        dump.terminals = self.all().iter().flat_map(|server| server.terminals().map(held_terminal(server))).collect();
        dump
    }

    /// Of everything held, the meetings with ids up to `up_to`, and of the others one in so many;
    /// with their members alone.
    pub fn sample(&self, up_to: MeetingId, one_in: u64) -> Dump {
        self.dump_of(&|id| id <= up_to || (one_in > 0 && id.0.is_multiple_of(one_in)))
    }

    /// Some of the meetings, and their members.
    fn dump_of(&self, wanted: &dyn Fn(MeetingId) -> bool) -> Dump {
        let mut dump = Dump::default();
        for server in self.all() {
            for summary in server.meetings().filter(|summary| wanted(summary.meeting)) {
                let members: Vec<_> = server.members(summary.meeting).collect();
                let states = members.iter().filter_map(|&member| server.terminal_acknowledged(member));
                dump.terminals.extend(states.map(held_terminal(server)));
                dump.parts.push(HeldPart { part: Part::listed(server.domain(), &summary), members });
            }
        }
        dump.parts.sort_by_key(|HeldPart { part, .. }| (part.meeting, part.domain));
        dump.terminals.sort_by_key(|held| held.terminal.terminal);
        dump
    }
}

fn held_terminal(server: &AutonomousServer) -> impl Fn((TerminalState, Option<u32>)) -> HeldTerminal + '_ {
    |(state, acknowledged)| {
        let terminal = Terminal::from(&state);
        let window = server.window(state.terminal).unwrap_or(terminal.window);
        HeldTerminal { terminal: Terminal { window, ..terminal }, acknowledged }
    }
}
