//! Rows → types.

use std::collections::HashMap;

use redb::ReadableTable;

use super::tables::{Reader, WANTED_IN, WANTED_LAYOUT, WANTED_OUT, WANTED_ROLE, corrupted, read_fences};
use super::{KeyParameters, Member, PartParameters, Wanted};
use crate::wire::{
    Address, Domain, Epoch, Flags, Layout, Level, MeetingId, MeetingState, Record, Role, Run, TerminalState,
};

impl Reader {
    pub fn fact(&self, name: &str) -> Result<Option<u64>, redb::Error> {
        Ok(self.facts.get(name)?.map(|fact| fact.value()))
    }

    pub fn ended(&self, meeting: MeetingId) -> Result<Option<Run>, redb::Error> {
        if self.ended.get(meeting.0)?.is_none() {
            return Ok(None);
        }
        self.run(meeting).map(Some)
    }

    fn run(&self, meeting: MeetingId) -> Result<Run, redb::Error> {
        Ok(Run(self.runs.get(meeting.0)?.map_or(0, |run| run.value())))
    }

    pub fn fences(&self) -> Result<Vec<(Domain, Epoch)>, redb::Error> {
        read_fences(&self.fences)
    }

    /// What is still to be made so in conferences, by ascending id.
    pub fn wanted(&self) -> Result<Vec<(MeetingId, Wanted)>, redb::Error> {
        let mut all: Vec<(MeetingId, Wanted)> = Vec::new();
        for entry in self.wanted.iter()? {
            let (key, value) = entry?;
            let ((meeting, what, terminal), value) = (key.value(), value.value());
            let (meeting, terminal) = (MeetingId(meeting), Address::from_number(terminal));
            if all.last().is_none_or(|&(last, _)| last != meeting) {
                all.push((meeting, Wanted::default()));
            }
            let Some((_, wanted)) = all.last_mut() else { continue };
            let role = || Role::from_wire(value).ok_or_else(|| corrupted("what is wanted of", meeting));
            match what {
                WANTED_LAYOUT => {
                    let layout = Layout::new(value).ok_or_else(|| corrupted("what is wanted of", meeting))?;
                    wanted.layout = Some(layout);
                }
                WANTED_ROLE => drop(wanted.roles.insert(terminal, role()?)),
                WANTED_IN => drop(wanted.members.insert(terminal, Some(role()?))),
                WANTED_OUT => drop(wanted.members.insert(terminal, None)),
                _ => return Err(corrupted("what is wanted of", meeting)),
            }
        }
        Ok(all)
    }

    pub fn meeting(&self, meeting: MeetingId) -> Result<Option<KeyParameters>, redb::Error> {
        let Some(row) = self.meetings.get(meeting.0)? else { return Ok(None) };
        self.assemble(meeting, row.value()).map(Some)
    }

    pub fn name(&self, meeting: MeetingId) -> Result<Option<(String, u64)>, redb::Error> {
        let row = self.meetings.get(meeting.0)?;
        Ok(row.map(|row| {
            let (_, _, _, created_ms, name) = row.value();
            (name.to_owned(), created_ms)
        }))
    }

    pub fn names(&self) -> Result<HashMap<MeetingId, (String, u64)>, redb::Error> {
        let mut names = HashMap::new();
        for entry in self.meetings.iter()? {
            let (meeting, row) = entry?;
            let (_, _, _, created_ms, name) = row.value();
            names.insert(MeetingId(meeting.value()), (name.to_owned(), created_ms));
        }
        Ok(names)
    }

    pub fn for_each_meeting(&self, each: &mut dyn FnMut(KeyParameters)) -> Result<(), redb::Error> {
        for entry in self.meetings.iter()? {
            let (meeting, row) = entry?;
            each(self.assemble(MeetingId(meeting.value()), row.value())?);
        }
        Ok(())
    }

    /// Those of which an operation was begun and not finished, by ascending id. Of the others only
    /// their parts are read: the database is opened before anything is taken over.
    pub fn unfinished(&self) -> Result<Vec<KeyParameters>, redb::Error> {
        let unfinished = [MeetingState::Starting.wire(), MeetingState::Ending.wire()];
        let mut found: Vec<KeyParameters> = Vec::new();
        for entry in self.parts.iter()? {
            let (key, row) = entry?;
            let meeting = MeetingId(key.value().0);
            let is_known = found.last().is_some_and(|last| last.meeting == meeting);
            if unfinished.contains(&row.value().1) && !is_known {
                found.extend(self.meeting(meeting)?);
            }
        }
        Ok(found)
    }

    fn assemble(
        &self,
        meeting: MeetingId,
        (level, layout, chairman, created_ms, name): (u8, u8, u64, u64, &str),
    ) -> Result<KeyParameters, redb::Error> {
        let all = (meeting.0, 0)..=(meeting.0, u64::MAX);
        let mut parts = Vec::new();
        for entry in self.parts.range(all.clone())? {
            let (key, row) = entry?;
            let (_, domain) = key.value();
            parts.push(part(meeting, domain, row.value())?);
        }
        let mut members = Vec::new();
        for entry in self.members.range(all)? {
            let (key, row) = entry?;
            let ((_, terminal), (role, flags, window)) = (key.value(), row.value());
            let role = Role::from_wire(role).ok_or_else(|| corrupted("member of", meeting))?;
            members.push(Member { terminal: Address::from_number(terminal), role, flags: Flags(flags), window });
        }
        Ok(KeyParameters {
            meeting,
            run: self.run(meeting)?,
            name: name.to_owned(),
            level: Level::new(level).ok_or_else(|| corrupted("level of", meeting))?,
            layout: Layout::new(layout).ok_or_else(|| corrupted("layout of", meeting))?,
            chairman: Address::from_number(chairman),
            created_ms,
            parts,
            members,
        })
    }

    /// A part and the digest of its members ([`Member::digest`]).
    pub fn part(&self, meeting: MeetingId, domain: Domain) -> Result<Option<(PartParameters, u64)>, redb::Error> {
        let Some(row) = self.parts.get((meeting.0, domain.number()))?.map(|row| row.value()) else { return Ok(None) };
        let members = (meeting.0, domain.device(0).number())..=(meeting.0, domain.device(u16::MAX).number());
        let mut digest = 0_u64;
        for entry in self.members.range(members)? {
            let (key, row) = entry?;
            digest = digest.wrapping_add(Member::digest(Address::from_number(key.value().1), row.value().0));
        }
        Ok(Some((part(meeting, domain.number(), row)?, digest)))
    }

    pub fn parts_in(
        &self,
        domain: Domain,
        first: MeetingId,
        limit: usize,
    ) -> Result<Vec<(MeetingId, PartParameters)>, redb::Error> {
        let mut found = Vec::new();
        let range = (domain.number(), first.0)..=(domain.number(), u64::MAX);
        for entry in self.by_domain.range(range)?.take(limit) {
            let (_, meeting) = entry?.0.value();
            let meeting = MeetingId(meeting);
            let row = self.parts.get((meeting.0, domain.number()))?.ok_or_else(|| corrupted("index of", meeting))?;
            found.push((meeting, part(meeting, domain.number(), row.value())?));
        }
        Ok(found)
    }

    pub fn meetings_in(&self, domain: Domain, first: MeetingId, limit: usize) -> Result<Vec<MeetingId>, redb::Error> {
        let range = (domain.number(), first.0)..=(domain.number(), u64::MAX);
        let found = self.by_domain.range(range)?.take(limit);
        found.map(|entry| Ok(MeetingId(entry?.0.value().1))).collect()
    }

    pub fn run_and_part(
        &self,
        meeting: MeetingId,
        domain: Domain,
    ) -> Result<Option<(Run, PartParameters)>, redb::Error> {
        let Some(row) = self.parts.get((meeting.0, domain.number()))?.map(|row| row.value()) else { return Ok(None) };
        Ok(Some((self.run(meeting)?, part(meeting, domain.number(), row)?)))
    }

    pub fn terminal(&self, terminal: Address) -> Result<Option<TerminalState>, redb::Error> {
        let Some(row) = self.terminals.get(terminal.number())? else { return Ok(None) };
        let state = TerminalState::read(row.value()).and_then(|(state, _)| state);
        state.map(Some).map_err(|_| corrupted("terminal", terminal))
    }
}

fn part(meeting: MeetingId, domain: u64, (version, state): (u64, u8)) -> Result<PartParameters, redb::Error> {
    Ok(PartParameters {
        domain: Domain::new(domain).ok_or_else(|| corrupted("domain of", meeting))?,
        version,
        state: MeetingState::from_wire(state).ok_or_else(|| corrupted("state of", meeting))?,
    })
}
