//! What an operator may expect of a conference: what was answered is so, and what was asked and not
//! answered, or refused half-way, may be so.

use std::collections::BTreeMap;

use super::site::Site;
use crate::cms::{ConferenceAnswer, ConferenceReply, ConferenceRequest, NewMember, RefusalKind};
use crate::wire::{Address, Flags, Layout, MeetingId, Role};

/// The values that something may have.
#[derive(Clone, Debug)]
struct Possible<T>(Vec<T>);

impl<T: PartialEq + Copy> Possible<T> {
    fn only(value: T) -> Self {
        Self(vec![value])
    }

    /// It was set to this, surely or perhaps.
    fn set(&mut self, value: T, is_sure: bool) {
        if is_sure {
            self.0.clear();
        }
        if !self.allows(value) {
            self.0.push(value);
        }
    }

    fn allows(&self, value: T) -> bool {
        self.0.contains(&value)
    }

    fn is_surely(&self, value: T) -> bool {
        self.0 == [value]
    }
}

#[derive(Clone, Debug)]
struct ExpectedMember {
    is_there: Possible<bool>,
    role: Possible<Role>,
}

/// One conference, from the first request for it.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub meeting: MeetingId,
    is_there: Possible<bool>,
    layout: Possible<Layout>,
    members: BTreeMap<Address, ExpectedMember>,
}

/// Which terminals are muted: that stays with them from one conference to the next.
pub(super) type Muted = BTreeMap<Address, MutedTerminal>;

/// Whether one is.
#[derive(Clone, Debug)]
pub(super) struct MutedTerminal(Possible<bool>);

impl Default for MutedTerminal {
    fn default() -> Self {
        Self(Possible::only(false))
    }
}

impl Expected {
    /// Of a conference that nobody has asked for yet.
    pub fn new(meeting: MeetingId) -> Self {
        Self { meeting, is_there: Possible::only(false), layout: Possible(Vec::new()), members: BTreeMap::new() }
    }

    /// Whether a terminal is surely not a member.
    pub fn lacks(&self, terminal: Address) -> bool {
        self.members.get(&terminal).is_none_or(|member| member.is_there.is_surely(false))
    }

    /// Takes what became of a request; none where nobody will ever hear. Gives whether the
    /// conference is over.
    pub fn learn(&mut self, request: &ConferenceRequest, reply: Option<&ConferenceReply>, muted: &mut Muted) -> bool {
        let answer = reply.and_then(|reply| reply.as_ref().ok());
        let is_sure = answer.is_some();
        let refused = match answer {
            Some(ConferenceAnswer::Started(started)) => &started.refused[..],
            Some(ConferenceAnswer::Changed(changed)) => &changed.refused[..],
            None => &[],
        };
        let is_refused = |terminal: Address| refused.iter().any(|refused| refused.terminal == terminal);
        if is_sure && !matches!(request, ConferenceRequest::End { .. }) {
            self.is_there.set(true, true);
        }
        match request {
            ConferenceRequest::Start(start) => {
                self.is_there.set(true, is_sure);
                self.layout.set(start.layout, is_sure);
                for new in &start.members {
                    let role = if start.chairman == Some(new.terminal) { Role::Chairman } else { new.role };
                    self.add(NewMember { role, ..*new }, is_sure, is_refused(new.terminal));
                }
            }
            ConferenceRequest::Add { members, .. } => {
                for &new in members {
                    self.add(new, is_sure, is_refused(new.terminal));
                }
            }
            ConferenceRequest::Remove { terminal, .. } => {
                if let Some(member) = self.members.get_mut(terminal) {
                    member.is_there.set(false, is_sure);
                }
            }
            ConferenceRequest::SetRole { terminal, role, .. } => self.set_role(*terminal, *role, is_sure),
            ConferenceRequest::SetLayout { layout, .. } => self.layout.set(*layout, is_sure),
            ConferenceRequest::SetFlags { terminal, value, .. } => {
                muted.entry(*terminal).or_default().0.set(*value == Flags::MUTED, is_sure);
            }
            ConferenceRequest::End { .. } => {
                let is_unknown = matches!(reply, Some(Err(refusal)) if refusal.kind == RefusalKind::NotFound);
                self.is_there.set(false, is_sure || is_unknown);
                return is_sure || is_unknown;
            }
        }
        false
    }

    fn add(&mut self, new: NewMember, is_sure: bool, is_refused: bool) {
        let nobody = || ExpectedMember { is_there: Possible::only(false), role: Possible(Vec::new()) };
        let member = self.members.entry(new.terminal).or_insert_with(nobody);
        member.is_there.set(!is_refused, is_sure);
        if !is_refused {
            self.set_role(new.terminal, new.role, is_sure);
        }
    }

    fn set_role(&mut self, terminal: Address, role: Role, is_sure: bool) {
        // Of two requests for the chair that nobody heard of the earlier may be finished last,
        // after a death or a failure of the disk, and then the later one's terminal gives the chair
        // up.
        let may_be_another =
            |(&address, member): (&Address, &ExpectedMember)| address != terminal && member.role.allows(Role::Chairman);
        let may_lose_it = role == Role::Chairman && !is_sure && self.members.iter().any(may_be_another);
        for (&address, member) in &mut self.members {
            if address == terminal {
                member.role.set(role, is_sure);
                if may_lose_it {
                    member.role.set(Role::Participant, false);
                }
            } else if role == Role::Chairman && member.role.allows(Role::Chairman) {
                // There is one chairman: another becomes a participant.
                member.role.set(Role::Participant, false);
                if is_sure {
                    member.role.0.retain(|&role| role != Role::Chairman);
                }
            }
        }
    }

    /// What of the autonomous servers' conference is not as it may be.
    pub fn flaws(&self, sites: &[Site], muted: &Muted) -> Vec<String> {
        let meeting = self.meeting;
        let parts: Vec<_> = sites.iter().filter_map(|site| site.server.meeting(meeting)).collect();
        let mut flaws = Vec::new();
        if !self.is_there.allows(!parts.is_empty()) {
            flaws.push(format!("{meeting}: held by {}, and expected {:?}", parts.len(), self.is_there));
        }
        if parts.is_empty() {
            return flaws;
        }
        for part in parts.iter().filter(|part| !self.layout.allows(part.layout)) {
            flaws.push(format!("{meeting}: layout {:?}, and expected {:?}", part.layout, self.layout));
        }
        for (&terminal, member) in &self.members {
            let state = sites.iter().find_map(|site| site.server.terminal(terminal)).expect("it is one of theirs");
            let is_there = state.meeting == meeting;
            if !member.is_there.allows(is_there) {
                flaws.push(format!("{meeting}: {terminal} a member: {is_there}, and expected {:?}", member.is_there));
            }
            if is_there && !member.role.allows(state.role) {
                flaws.push(format!("{meeting}: {terminal} is {:?}, and expected {:?}", state.role, member.role));
            }
            let is_muted = state.flags.0 & Flags::MUTED.0 != 0;
            let expected = muted.get(&terminal).cloned().unwrap_or_default().0;
            if is_there && !expected.allows(is_muted) {
                flaws.push(format!("{meeting}: {terminal} muted: {is_muted}, and expected {expected:?}"));
            }
        }
        flaws
    }
}
