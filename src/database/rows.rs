//! Types → rows.

use redb::{ReadableTable, ReadableTableMetadata};

use super::tables::{WANTED_IN, WANTED_LAYOUT, WANTED_OUT, WANTED_ROLE, Writer};
use super::{Change, CommitError, KeyParameters, Member, PartParameters, Wanted};
use crate::limits::MEETING_ID_MAX;
use crate::wire::{Domain, Epoch, MeetingId, MeetingState, Record};

/// The layout of a conference of which only its level is known; what is learned with that says
/// which it has.
const LAYOUT_UNKNOWN: u8 = 4;

/// The longest row of a terminal: 32 bytes and its information.
const TERMINAL_BYTES_MAX: usize = 32 + crate::limits::INFO_BYTES_MAX;

impl Writer<'_> {
    /// Whether a commit may be applied: decided before its first row is written, for a transaction
    /// is shared with other commits and cannot be rolled back for one of them.
    pub fn check(&self, changes: &[Change], epoch: Epoch) -> Result<Result<(), CommitError>, redb::Error> {
        let highest = Epoch(self.fact("epoch")?);
        if epoch < highest {
            return Ok(Err(CommitError::StaleEpoch { highest }));
        }
        let mut created = Vec::new();
        for change in changes {
            let (meeting, must_exist) = match change {
                Change::Create(parameters) => {
                    let meeting = parameters.meeting;
                    if created.contains(&meeting) || self.holds_other(parameters)? {
                        return Ok(Err(CommitError::Exists(meeting)));
                    }
                    created.push(meeting);
                    continue;
                }
                Change::Replace(KeyParameters { meeting, .. }) | Change::Known(meeting, ..) => {
                    created.push(*meeting);
                    continue;
                }
                Change::Part(meeting, _)
                | Change::Learned(meeting, _)
                | Change::Layout(meeting, _)
                | Change::Chairman(meeting, _)
                | Change::Member(meeting, _) => (*meeting, true),
                // That nothing is wanted is true of a conference that is not there, too.
                Change::Want(meeting, wanted) => (*meeting, !wanted.is_empty()),
                Change::RemovePart(..)
                | Change::RemoveMembers(..)
                | Change::RemoveMember(..)
                | Change::End(_)
                | Change::Forget(_)
                | Change::Chosen(_)
                | Change::Terminal(_)
                | Change::Fence(..) => continue,
            };
            if must_exist && !created.contains(&meeting) && self.meetings.get(meeting.0)?.is_none() {
                return Ok(Err(CommitError::Unknown(meeting)));
            }
        }
        Ok(Ok(()))
    }

    /// Writes a commit's rows. Applying it twice writes the same.
    pub fn apply(&mut self, changes: &[Change], epoch: Epoch, now_ms: u64) -> Result<(), redb::Error> {
        if epoch.0 > self.fact("epoch")? {
            self.facts.insert("epoch", epoch.0)?;
        }
        for change in changes {
            match change {
                Change::Create(parameters) | Change::Replace(parameters) => {
                    self.clear(parameters.meeting)?;
                    self.forget_end_of(parameters.meeting)?;
                    self.put(parameters)?;
                }
                Change::Known(meeting, level, run) => {
                    if self.meetings.get(meeting.0)?.is_none() {
                        self.forget_end_of(*meeting)?;
                        self.runs.insert(meeting.0, run.0)?;
                        self.meetings.insert(meeting.0, (level.number(), LAYOUT_UNKNOWN, 0, 0, ""))?;
                    }
                }
                Change::Learned(meeting, part) => {
                    let row = self.parts.get((meeting.0, part.domain.number()))?.map(|row| row.value().1);
                    let unfinished = [MeetingState::Starting.wire(), MeetingState::Ending.wire()];
                    let state = row.filter(|state| unfinished.contains(state)).and_then(MeetingState::from_wire);
                    self.put_part(*meeting, &PartParameters { state: state.unwrap_or(part.state), ..*part })?;
                }
                Change::Chosen(meeting) => {
                    if meeting.0 >= self.fact("next meeting")? {
                        self.facts.insert("next meeting", meeting.0.saturating_add(1))?;
                    }
                }
                Change::Want(meeting, wanted) => self.put_wanted(*meeting, wanted)?,
                Change::RemoveMembers(meeting, domain) => self.remove_members(*meeting, *domain)?,
                Change::Forget(meeting) => {
                    self.clear(*meeting)?;
                    self.runs.remove(meeting.0)?;
                }
                Change::Part(meeting, part) => self.put_part(*meeting, part)?,
                Change::RemovePart(meeting, domain) => self.remove_part(*meeting, *domain)?,
                Change::Layout(meeting, layout) => self.change_meeting(*meeting, |row| row.1 = layout.windows())?,
                Change::Chairman(meeting, chairman) => {
                    self.change_meeting(*meeting, |row| row.2 = chairman.number())?;
                }
                Change::Member(meeting, member) => self.put_member(*meeting, member)?,
                Change::RemoveMember(meeting, terminal) => {
                    self.members.remove((meeting.0, terminal.number()))?;
                }
                Change::End(meeting) => {
                    self.clear(*meeting)?;
                    self.forget_end_of(*meeting)?;
                    self.ended.insert(meeting.0, (now_ms, epoch.0))?;
                    self.by_time.insert((now_ms, meeting.0), ())?;
                }
                Change::Fence(domain, by) => {
                    let known = self.fences.get(domain.number())?.map_or(0, |known| known.value());
                    self.fences.insert(domain.number(), known.max(by.0))?;
                }
                Change::Terminal(state) => {
                    let mut bytes = [0; TERMINAL_BYTES_MAX];
                    let length = state.write(&mut bytes).expect("32 bytes and the longest information");
                    self.terminals.insert(state.terminal.number(), &bytes[..length])?;
                }
            }
        }
        Ok(())
    }

    /// Forgets of ended conferences those beyond `keep` that ended first.
    pub fn forget_ended(&mut self, keep: u64) -> Result<(), redb::Error> {
        for _ in keep..self.ended.len()? {
            let Some(first) = self.by_time.pop_first()?.map(|(key, _)| key.value()) else { break };
            self.ended.remove(first.1)?;
            self.runs.remove(first.1)?;
        }
        Ok(())
    }

    /// The id is used again, or ends again: its earlier end does not count.
    fn forget_end_of(&mut self, meeting: MeetingId) -> Result<(), redb::Error> {
        let ended = self.ended.remove(meeting.0)?.map(|row| row.value());
        if let Some((ended_ms, _)) = ended {
            self.by_time.remove((ended_ms, meeting.0))?;
        }
        Ok(())
    }

    /// Brings what a file of the first format holds into this one.
    pub fn migrate_first(&mut self) -> Result<(), redb::Error> {
        let mut times = Vec::new();
        for entry in self.ended.iter()? {
            let (meeting, row) = entry?;
            times.push((row.value().0, meeting.value()));
        }
        for time in times {
            self.by_time.insert(time, ())?;
        }
        // That format counted on from ids that a client chose, or an autonomous server had.
        if self.fact("next meeting")? > MEETING_ID_MAX {
            self.facts.insert("next meeting", 1)?;
        }
        Ok(())
    }

    /// Whether the id is taken by another conference. The very same one does not count: a commit
    /// whose flush failed is written again, and may have reached the disk the first time.
    fn holds_other(&self, parameters: &KeyParameters) -> Result<bool, redb::Error> {
        let KeyParameters { meeting, name, level, layout, chairman, created_ms, .. } = parameters;
        let same = (level.number(), layout.windows(), chairman.number(), *created_ms, name.as_str());
        let run = self.runs.get(meeting.0)?.map_or(0, |run| run.value());
        Ok(self.meetings.get(meeting.0)?.is_some_and(|row| row.value() != same || run != parameters.run.0))
    }

    fn fact(&self, name: &str) -> Result<u64, redb::Error> {
        Ok(self.facts.get(name)?.map_or(0, |fact| fact.value()))
    }

    fn put(&mut self, parameters: &KeyParameters) -> Result<(), redb::Error> {
        let KeyParameters { meeting, run, name, level, layout, chairman, created_ms, parts, members } = parameters;
        let row = (level.number(), layout.windows(), chairman.number(), *created_ms, name.as_str());
        self.meetings.insert(meeting.0, row)?;
        self.runs.insert(meeting.0, run.0)?;
        for part in parts {
            self.put_part(*meeting, part)?;
        }
        for member in members {
            self.put_member(*meeting, member)?;
        }
        Ok(())
    }

    fn put_part(&mut self, meeting: MeetingId, part: &PartParameters) -> Result<(), redb::Error> {
        let domain = part.domain.number();
        self.parts.insert((meeting.0, domain), (part.version, part.state.wire()))?;
        self.by_domain.insert((domain, meeting.0), ())?;
        Ok(())
    }

    fn put_member(&mut self, meeting: MeetingId, member: &Member) -> Result<(), redb::Error> {
        let row = (member.role.wire(), member.flags.0, member.window);
        self.members.insert((meeting.0, member.terminal.number()), row)?;
        Ok(())
    }

    fn remove_part(&mut self, meeting: MeetingId, domain: Domain) -> Result<(), redb::Error> {
        self.parts.remove((meeting.0, domain.number()))?;
        self.by_domain.remove((domain.number(), meeting.0))?;
        self.remove_members(meeting, domain)
    }

    fn remove_members(&mut self, meeting: MeetingId, domain: Domain) -> Result<(), redb::Error> {
        let members = (meeting.0, domain.device(0).number())..=(meeting.0, domain.device(u16::MAX).number());
        self.members.retain_in(members, |_, _| false)?;
        Ok(())
    }

    fn put_wanted(&mut self, meeting: MeetingId, wanted: &Wanted) -> Result<(), redb::Error> {
        self.wanted.retain_in((meeting.0, 0, 0)..=(meeting.0, u8::MAX, u64::MAX), |_, _| false)?;
        if let Some(layout) = wanted.layout {
            self.wanted.insert((meeting.0, WANTED_LAYOUT, 0), layout.windows())?;
        }
        for (terminal, role) in &wanted.roles {
            self.wanted.insert((meeting.0, WANTED_ROLE, terminal.number()), role.wire())?;
        }
        for (terminal, role) in &wanted.members {
            let (what, role) = role.map_or((WANTED_OUT, 0), |role| (WANTED_IN, role.wire()));
            self.wanted.insert((meeting.0, what, terminal.number()), role)?;
        }
        Ok(())
    }

    fn change_meeting(
        &mut self,
        meeting: MeetingId,
        change: impl FnOnce(&mut (u8, u8, u64, u64)),
    ) -> Result<(), redb::Error> {
        let Some((level, layout, chairman, created_ms, name)) = self.meetings.get(meeting.0)?.map(|row| {
            let (level, layout, chairman, created_ms, name) = row.value();
            (level, layout, chairman, created_ms, name.to_owned())
        }) else {
            return Ok(());
        };
        let mut row = (level, layout, chairman, created_ms);
        change(&mut row);
        self.meetings.insert(meeting.0, (row.0, row.1, row.2, row.3, name.as_str()))?;
        Ok(())
    }

    fn clear(&mut self, meeting: MeetingId) -> Result<(), redb::Error> {
        self.meetings.remove(meeting.0)?;
        let all = (meeting.0, 0)..=(meeting.0, u64::MAX);
        let mut domains = Vec::new();
        self.parts.retain_in(all.clone(), |(_, domain), _| {
            domains.push(domain);
            false
        })?;
        for domain in domains {
            self.by_domain.remove((domain, meeting.0))?;
        }
        self.members.retain_in(all, |_, _| false)?;
        self.put_wanted(meeting, &Wanted::default())
    }
}
