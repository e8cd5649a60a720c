//! The meetings that a simulated autonomous server holds, and what each command makes of them.

use std::collections::{BTreeMap, VecDeque};

use super::meeting::Meeting;
use super::meeting_map::MeetingMap;
use super::members::Members;
use super::numbering::Numbering;
use super::preload::PreloadedDomain;
use super::terminals::Terminals;
use crate::limits::MEMBERS_MAX;
use crate::time::Nanos;
use crate::wire::{
    Address, Epoch, Layout, Level, MeetingId, MeetingState, MeetingSummary, Message, Opcode, Role, Run, Status,
    TakeoverEntry, TakeoverResult, TerminalState, digest_of,
};

/// Ended meetings that are remembered, so that their end asked for again is ALREADY and their
/// versions go on.
const ENDED_MAX: usize = 4096;

/// What a command came to: its answer's message under this status, or a refusal.
pub(super) type Done = Result<(Status, Message), Status>;

/// All meetings of a domain.
pub(super) struct Meetings {
    held: MeetingMap,
    numbering: Numbering,
    ended: BTreeMap<MeetingId, u64>,
    ended_order: VecDeque<MeetingId>,
    capacity: usize,
}

impl Meetings {
    /// What is there from the beginning, and room for `capacity`.
    pub fn new(capacity: usize, numbering: Numbering, preload: Option<&PreloadedDomain>) -> Self {
        let held = preload.map(|preload| preload.held().collect()).unwrap_or_default();
        Self { held, numbering, ended: BTreeMap::new(), ended_order: VecDeque::new(), capacity }
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn find(&self, id: MeetingId) -> Option<&Meeting> {
        self.held.get(id)
    }

    /// By ascending address.
    pub fn members_of(&self, id: MeetingId) -> impl Iterator<Item = Address> + '_ {
        self.held.get(id).into_iter().flat_map(|meeting| meeting.members.iter(&self.numbering))
    }

    /// By ascending id, from `first` on.
    pub fn from(&self, first: MeetingId) -> impl Iterator<Item = MeetingSummary> + '_ {
        self.held.from(first).map(|(id, meeting)| meeting.summary(id))
    }

    /// Count and digest of those that are under `epoch`.
    pub fn digest(&self, epoch: Epoch) -> (u32, u64) {
        let under = self.held.from(MeetingId::NONE).filter(|(_, meeting)| meeting.controller == epoch);
        under.fold((0, 0), |(count, sum), (id, meeting)| (count + 1, sum.wrapping_add(digest_of(id, meeting.version))))
    }

    /// Members of one meeting, or, where none is named, of all under `epoch`.
    pub fn members(&self, id: MeetingId, epoch: Epoch) -> Result<Vec<Address>, Status> {
        if id != MeetingId::NONE {
            let meeting = self.held.get(id).ok_or(Status::UnknownMeeting)?;
            return Ok(meeting.members.iter(&self.numbering).collect());
        }
        let under = self.held.from(MeetingId::NONE).filter(|(_, meeting)| meeting.controller == epoch);
        Ok(under.flat_map(|(_, meeting)| meeting.members.iter(&self.numbering)).collect())
    }

    /// One entry of a takeover.
    pub fn take_over(&mut self, entry: TakeoverEntry, epoch: Epoch) -> TakeoverResult {
        let Some(meeting) = self.held.get_mut(entry.meeting) else {
            let ended = self.ended.contains_key(&entry.meeting);
            let state = if ended { MeetingState::Ended } else { MeetingState::None };
            return TakeoverResult { meeting: entry.meeting, status: Status::UnknownMeeting, state, participants: 0 };
        };
        let status = if meeting.controller == epoch { Status::Already } else { Status::Ok };
        meeting.controller = epoch;
        let participants = meeting.members.len() as u16;
        TakeoverResult { meeting: entry.meeting, status, state: meeting.state, participants }
    }

    /// Does what a command asks of a meeting, and of the terminals that it concerns.
    pub fn command(
        &mut self,
        now: Nanos,
        id: MeetingId,
        epoch: Epoch,
        message: &Message,
        terminals: &mut Terminals,
    ) -> Done {
        match *message {
            Message::MeetingStart { level, layout, chairman, run, .. } => {
                self.start(id, epoch, (level, layout, chairman, run))
            }
            Message::MeetingEnd { .. } => self.end(id, terminals),
            Message::LayoutSet { layout } => {
                let meeting = self.held.get_mut(id).ok_or(Status::UnknownMeeting)?;
                let changed = std::mem::replace(&mut meeting.layout, layout) != layout;
                let (status, version) = meeting.changed(changed);
                Ok((status, Message::MeetingAck { opcode: Opcode::LayoutSetAck, version }))
            }
            Message::MemberAdd { terminal, role } => self.add(now, id, terminal, role, terminals),
            Message::MemberRemove { terminal } => {
                let meeting = self.held.get_mut(id).ok_or(Status::UnknownMeeting)?;
                terminals.index(terminal).ok_or(Status::UnknownTerminal)?;
                let changed = meeting.members.remove(&self.numbering, terminal);
                if changed {
                    meeting.forget_chairman(terminal);
                    terminals.leave(terminal);
                }
                let (status, version) = meeting.changed(changed);
                Ok((status, Message::MemberAck { opcode: Opcode::MemberRemoveAck, version, terminal }))
            }
            Message::RoleSet { terminal, role } => {
                let changed = terminals.change(now, self.member(id, terminal)?, |state| state.role = role);
                let meeting = self.held.get_mut(id).ok_or(Status::UnknownMeeting)?;
                if role == Role::Chairman {
                    meeting.chairman = terminal;
                } else {
                    meeting.forget_chairman(terminal);
                }
                let (status, version) = meeting.changed(changed);
                Ok((status, Message::MemberAck { opcode: Opcode::RoleSetAck, version, terminal }))
            }
            Message::FlagsSet { terminal, mask, value } => {
                let member = self.member(id, terminal)?;
                let changed = terminals.change(now, member, |state| state.flags = state.flags.with(mask, value));
                self.member_changed(id, Opcode::FlagsSetAck, terminal, changed)
            }
            Message::StreamSet { terminal, stream, channel } => {
                let changed = terminals.change(now, self.member(id, terminal)?, |state| {
                    (state.stream, state.channel) = (stream, channel);
                });
                self.member_changed(id, Opcode::StreamSetAck, terminal, changed)
            }
            Message::WindowSet { terminal, window } => {
                let changed = terminals.set_window(self.member(id, terminal)?, window)?;
                self.member_changed(id, Opcode::WindowSetAck, terminal, changed)
            }
            // Whom it rings is the terminal's own state and not the meeting's: the meeting's
            // version stays.
            Message::MemberCall { terminal } => {
                let rings = terminals.call(now, self.member(id, terminal)?);
                let version = self.held.get(id).map_or(0, |meeting| meeting.version);
                let status = if rings { Status::Ok } else { Status::Already };
                Ok((status, Message::MemberAck { opcode: Opcode::MemberCallAck, version, terminal }))
            }
            Message::TerminalRelease { terminal } => self.release(terminal, terminals),
            _ => Err(Status::Malformed),
        }
    }

    /// Gives a member other additional information.
    pub fn set_info(&mut self, now: Nanos, new: &TerminalState, terminals: &mut Terminals) -> Done {
        let changed = terminals.change(now, self.member(new.meeting, new.terminal)?, |state| {
            state.info = new.info;
        });
        self.member_changed(new.meeting, Opcode::InfoSetAck, new.terminal, changed)
    }

    /// The meeting is over here without anybody's having asked for it.
    pub fn end_here(&mut self, id: MeetingId, terminals: &mut Terminals) -> bool {
        self.end(id, terminals).is_ok_and(|(status, _)| status == Status::Ok)
    }

    /// The meeting is gone, as after a fault, and not even its end is remembered.
    pub fn forget(&mut self, id: MeetingId, terminals: &mut Terminals) -> bool {
        let Some(meeting) = self.held.remove(id) else { return false };
        meeting.members.iter(&self.numbering).for_each(|member| terminals.leave(member));
        true
    }

    fn start(
        &mut self,
        id: MeetingId,
        epoch: Epoch,
        (level, layout, chairman, run): (Level, Layout, Address, Run),
    ) -> Done {
        if id == MeetingId::NONE {
            return Err(Status::Malformed);
        }
        let capacity = self.capacity;
        if let Some(meeting) = self.held.get_mut(id) {
            // Rule 8 of wire.md §6: a number that another conference bears, or one that was started
            // here, is not given away.
            if meeting.run != run || (run == Run::NONE && epoch != Epoch::NONE) {
                return Err(Status::Conflict);
            }
            // A server that starts what is there already controls it, with the level, layout and
            // chairman that it has.
            meeting.controller = epoch;
            let version = meeting.version;
            return Ok((Status::Already, Message::MeetingAck { opcode: Opcode::MeetingStartAck, version }));
        }
        if self.held.len() >= capacity {
            return Err(Status::Capacity);
        }
        let version = self.ended.remove(&id).unwrap_or(0) + 1;
        let members = Members::default();
        let state = MeetingState::InMeeting;
        self.held.insert(id, Meeting { version, controller: epoch, state, level, layout, chairman, run, members });
        Ok((Status::Ok, Message::MeetingAck { opcode: Opcode::MeetingStartAck, version }))
    }

    pub fn set_capacity(&mut self, meetings: usize) {
        self.capacity = meetings;
    }

    fn end(&mut self, id: MeetingId, terminals: &mut Terminals) -> Done {
        let opcode = Opcode::MeetingEndAck;
        let Some(meeting) = self.held.remove(id) else {
            let &version = self.ended.get(&id).ok_or(Status::UnknownMeeting)?;
            return Ok((Status::Already, Message::MeetingAck { opcode, version }));
        };
        meeting.members.iter(&self.numbering).for_each(|member| terminals.leave(member));
        let version = meeting.version + 1;
        if self.ended.insert(id, version).is_none() {
            self.ended_order.push_back(id);
        }
        // An id that was started again leaves its place in the order behind; the place goes when
        // its turn comes.
        while self.ended_order.len() > ENDED_MAX {
            if let Some(oldest) = self.ended_order.pop_front() {
                self.ended.remove(&oldest);
            }
        }
        Ok((Status::Ok, Message::MeetingAck { opcode, version }))
    }

    fn add(&mut self, now: Nanos, id: MeetingId, terminal: Address, role: Role, terminals: &mut Terminals) -> Done {
        let meeting = self.held.get(id).ok_or(Status::UnknownMeeting)?;
        let level = meeting.level;
        terminals.index(terminal).ok_or(Status::UnknownTerminal)?;
        if meeting.members.contains(&self.numbering, terminal) {
            let changed = terminals.change(now, terminal, |state| state.role = role);
            return self.joined(id, terminal, role, changed);
        }
        if meeting.members.len() >= MEMBERS_MAX {
            return Err(Status::Capacity);
        }
        let other = terminals.state(terminal).map_or(MeetingId::NONE, |state| state.meeting);
        if let Some(holder) = self.held.get_mut(other) {
            // Who has a terminal keeps it against his equals; only a higher level takes it away
            // from him.
            if holder.level <= level {
                return Err(Status::Conflict);
            }
            holder.members.remove(&self.numbering, terminal);
            holder.forget_chairman(terminal);
            holder.version += 1;
            terminals.leave(terminal);
        }
        terminals.join(now, terminal, id, role);
        self.held.get_mut(id).ok_or(Status::UnknownMeeting)?.members.insert(&self.numbering, terminal);
        self.joined(id, terminal, role, true)
    }

    fn joined(&mut self, id: MeetingId, terminal: Address, role: Role, changed: bool) -> Done {
        let meeting = self.held.get_mut(id).ok_or(Status::UnknownMeeting)?;
        if role == Role::Chairman {
            meeting.chairman = terminal;
        }
        self.member_changed(id, Opcode::MemberAddAck, terminal, changed)
    }

    fn release(&mut self, terminal: Address, terminals: &mut Terminals) -> Done {
        let opcode = Opcode::TerminalReleaseAck;
        let holder = terminals.state(terminal).ok_or(Status::UnknownTerminal)?.meeting;
        let Some(meeting) = self.held.get_mut(holder) else {
            return Ok((Status::Already, Message::MemberAck { opcode, version: 0, terminal }));
        };
        meeting.members.remove(&self.numbering, terminal);
        meeting.forget_chairman(terminal);
        terminals.leave(terminal);
        self.member_changed(holder, opcode, terminal, true)
    }

    /// The terminal, if it is a member of the meeting.
    fn member(&self, id: MeetingId, terminal: Address) -> Result<Address, Status> {
        let meeting = self.held.get(id).ok_or(Status::UnknownMeeting)?;
        if meeting.members.contains(&self.numbering, terminal) { Ok(terminal) } else { Err(Status::UnknownTerminal) }
    }

    fn member_changed(&mut self, id: MeetingId, opcode: Opcode, terminal: Address, changed: bool) -> Done {
        let meeting = self.held.get_mut(id).ok_or(Status::UnknownMeeting)?;
        let (status, version) = meeting.changed(changed);
        Ok((status, Message::MemberAck { opcode, version, terminal }))
    }
}
