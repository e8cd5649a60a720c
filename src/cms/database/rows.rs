//! Rows ⇄ types.

use std::collections::HashMap;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition};

use super::{Change, CommitError};
use crate::cms::{KeyParameters, Member, PartParameters};
use crate::wire::{
    Address, Domain, Epoch, Flags, Layout, Level, MeetingId, MeetingState, Record, Role, Run, TerminalState,
};

type MeetingRow = (u8, u8, u64, u64, &'static str);
type Pair = (u64, u64);

const MEETINGS: TableDefinition<u64, MeetingRow> = TableDefinition::new("meetings");
const PARTS: TableDefinition<Pair, (u64, u8)> = TableDefinition::new("parts");
const BY_DOMAIN: TableDefinition<Pair, ()> = TableDefinition::new("parts by domain");
const MEMBERS: TableDefinition<Pair, (u8, u8, u8)> = TableDefinition::new("members");
const TERMINALS: TableDefinition<u64, &'static [u8]> = TableDefinition::new("terminals");
const ENDED: TableDefinition<u64, (u64, u64)> = TableDefinition::new("ended");
/// Of conferences that have not ended, and of those that are remembered as ended.
const RUNS: TableDefinition<u64, u64> = TableDefinition::new("runs");
pub(super) const FENCES: TableDefinition<u64, u64> = TableDefinition::new("fences");
pub(super) const FACTS: TableDefinition<&'static str, u64> = TableDefinition::new("facts");

/// The longest row of a terminal: 32 bytes and its information.
const TERMINAL_BYTES_MAX: usize = 32 + crate::limits::INFO_BYTES_MAX;

fn corrupted(what: &str, row: impl std::fmt::Debug) -> redb::Error {
    redb::Error::Corrupted(format!("{what} {row:?} holds a value that no version writes"))
}

/// Every table, open for one write transaction.
pub(super) struct Writer<'t> {
    meetings: Table<'t, u64, MeetingRow>,
    parts: Table<'t, Pair, (u64, u8)>,
    by_domain: Table<'t, Pair, ()>,
    members: Table<'t, Pair, (u8, u8, u8)>,
    terminals: Table<'t, u64, &'static [u8]>,
    ended: Table<'t, u64, (u64, u64)>,
    runs: Table<'t, u64, u64>,
    fences: Table<'t, u64, u64>,
    facts: Table<'t, &'static str, u64>,
}

impl<'t> Writer<'t> {
    pub fn open(transaction: &'t redb::WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            meetings: transaction.open_table(MEETINGS)?,
            parts: transaction.open_table(PARTS)?,
            by_domain: transaction.open_table(BY_DOMAIN)?,
            members: transaction.open_table(MEMBERS)?,
            terminals: transaction.open_table(TERMINALS)?,
            ended: transaction.open_table(ENDED)?,
            runs: transaction.open_table(RUNS)?,
            fences: transaction.open_table(FENCES)?,
            facts: transaction.open_table(FACTS)?,
        })
    }

    /// Whether a commit may be applied: decided before its first row is written, for a transaction is shared with
    /// other commits and cannot be rolled back for one of them.
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
                Change::Replace(parameters) => {
                    created.push(parameters.meeting);
                    continue;
                }
                Change::Part(meeting, _)
                | Change::Layout(meeting, _)
                | Change::Chairman(meeting, _)
                | Change::Member(meeting, _) => (*meeting, true),
                Change::RemovePart(..)
                | Change::RemoveMember(..)
                | Change::End(_)
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
                    self.ended.remove(parameters.meeting.0)?;
                    self.put(parameters)?;
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
                    self.ended.insert(meeting.0, (now_ms, epoch.0))?;
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

    /// Forgets the lowest ids of ended conferences beyond `keep`. Ids are given out ascending, so these are the
    /// oldest, and "next meeting" is above them for good.
    pub fn forget_ended(&mut self, keep: u64) -> Result<(), redb::Error> {
        for _ in keep..self.ended.len()? {
            if let Some((meeting, _)) = self.ended.pop_first()? {
                self.runs.remove(meeting.value())?;
            }
        }
        Ok(())
    }

    /// Whether the id is taken. By the very same conference does not count: a commit whose flush failed is written
    /// again, and may have reached the disk the first time.
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
        if meeting.0 >= self.fact("next meeting")?.max(1) {
            self.facts.insert("next meeting", meeting.0.saturating_add(1))?;
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
        let members = (meeting.0, domain.device(0).number())..=(meeting.0, domain.device(u16::MAX).number());
        self.members.retain_in(members, |_, _| false)?;
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
        Ok(())
    }
}

/// Every table, as the last commit left them.
pub(super) struct Reader {
    meetings: ReadOnlyTable<u64, MeetingRow>,
    parts: ReadOnlyTable<Pair, (u64, u8)>,
    by_domain: ReadOnlyTable<Pair, ()>,
    members: ReadOnlyTable<Pair, (u8, u8, u8)>,
    terminals: ReadOnlyTable<u64, &'static [u8]>,
    ended: ReadOnlyTable<u64, (u64, u64)>,
    runs: ReadOnlyTable<u64, u64>,
    fences: ReadOnlyTable<u64, u64>,
    facts: ReadOnlyTable<&'static str, u64>,
}

impl Reader {
    pub fn open(transaction: &ReadTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            meetings: transaction.open_table(MEETINGS)?,
            parts: transaction.open_table(PARTS)?,
            by_domain: transaction.open_table(BY_DOMAIN)?,
            members: transaction.open_table(MEMBERS)?,
            terminals: transaction.open_table(TERMINALS)?,
            ended: transaction.open_table(ENDED)?,
            runs: transaction.open_table(RUNS)?,
            fences: transaction.open_table(FENCES)?,
            facts: transaction.open_table(FACTS)?,
        })
    }

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
        let mut fences = Vec::new();
        for entry in self.fences.iter()? {
            let (domain, by) = entry?;
            let domain = Domain::new(domain.value()).ok_or_else(|| corrupted("fence of", domain.value()))?;
            fences.push((domain, Epoch(by.value())));
        }
        Ok(fences)
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
