//! Store of plain maps, small enough to see through: the oracle.

use std::collections::{BTreeMap, BTreeSet};

use crate::recovery::{Absence, Cursor, Listed, Lookup, Meet, Standing, Store, Unreadable, Written};
use crate::wire::{
    Address, Domain, Epoch, MeetingId, MeetingState, MeetingSummary, TakeoverEntry, TerminalState, digest_of,
};

/// A part on the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub version: u64,
    pub epoch: Epoch,
    pub state: MeetingState,
    pub terminals: BTreeMap<Address, TerminalState>,
    pub in_doubt: bool,
}

impl Item {
    pub fn new(version: u64, state: MeetingState) -> Self {
        Self { version, epoch: Epoch::NONE, state, terminals: BTreeMap::new(), in_doubt: false }
    }

    /// As it is in the cache when it came from the database.
    fn restored(&self) -> Self {
        Self { in_doubt: true, ..self.clone() }
    }
}

/// Cache and database of one domain.
#[derive(Default)]
pub struct FakeStore {
    pub cache: BTreeMap<MeetingId, Item>,
    pub database: BTreeMap<MeetingId, Item>,
    pub ended: BTreeSet<MeetingId>,
    pub database_closed: bool,
    /// Nor will it ever be opened.
    pub database_lost: bool,
    /// Numbers that a stranger's conference bears at the autonomous server.
    pub strangers: BTreeSet<MeetingId>,
    pub orphans: BTreeSet<MeetingId>,
    /// What was said of members that could not be read.
    pub unread: Vec<Address>,
    /// How often anything of it was changed, where that is counted, and how often all of it was
    /// looked at.
    pub changes: Option<u64>,
    pub audits: std::cell::Cell<u32>,
    /// How often a part's version was asked for.
    pub looks: std::cell::Cell<u32>,
    /// How often a part was taken over, and how often its members were written.
    pub takeovers: u32,
    pub updates: u32,
    /// Updates that the cache cannot take first.
    pub later: u32,
    /// What is in doubt in the cache is so because it came from a snapshot.
    pub is_warmed: bool,
}

impl FakeStore {
    /// A cache that holds these meetings, all at version 1.
    pub fn cached(meetings: impl IntoIterator<Item = u64>) -> Self {
        let item = |id| (MeetingId(id), Item::new(1, MeetingState::InMeeting));
        Self { cache: meetings.into_iter().map(item).collect(), ..Self::default() }
    }

    /// A database that holds them.
    pub fn stored(meetings: impl IntoIterator<Item = u64>) -> Self {
        Self { database: Self::cached(meetings).cache, ..Self::default() }
    }

    /// A cache whose meetings have each a member that no autonomous server counts.
    pub fn cut_short(meetings: impl IntoIterator<Item = u64>) -> Self {
        let mut store = Self::cached(meetings);
        for (meeting, item) in &mut store.cache {
            let member = super::scripted_peer::terminal(meeting.0, 999);
            item.terminals.insert(member.terminal, member);
        }
        store
    }

    pub fn state(&self, meeting: u64) -> MeetingState {
        self.cache[&MeetingId(meeting)].state
    }

    fn next(items: &BTreeMap<MeetingId, Item>, cursor: &mut Cursor) -> Option<TakeoverEntry> {
        let (&meeting, item) = items.range(MeetingId(cursor.0)..).next()?;
        cursor.0 = meeting.0 + 1;
        Some(TakeoverEntry { meeting, version: item.version })
    }
}

impl Store for FakeStore {
    fn walk_cache(&mut self, _: Domain, cursor: &mut Cursor, meet: Meet<'_>) -> bool {
        while let Some(entry) = Self::next(&self.cache, cursor) {
            if !meet(entry, *cursor) {
                return true;
            }
        }
        false
    }

    fn next_in_database(&mut self, _: Domain, cursor: &mut Cursor) -> Result<Option<TakeoverEntry>, Unreadable> {
        if self.database_closed {
            return Err(Unreadable);
        }
        let Some(entry) = Self::next(&self.database, cursor) else { return Ok(None) };
        self.cache.entry(entry.meeting).or_insert_with(|| self.database[&entry.meeting].restored());
        Ok(Some(entry))
    }

    fn walk_untaken(&mut self, _: Domain, epoch: Epoch, cursor: &mut Cursor, meet: Meet<'_>) -> bool {
        while let Some(entry) = Self::next(&self.cache, cursor) {
            if self.cache[&entry.meeting].epoch != epoch && !meet(entry, *cursor) {
                return true;
            }
        }
        false
    }

    fn walk_doubts(&mut self, _: Domain, epoch: Epoch, cursor: &mut Cursor, meet: Meet<'_>) -> bool {
        while let Some(entry) = Self::next(&self.cache, cursor) {
            let item = &self.cache[&entry.meeting];
            if item.in_doubt && item.epoch == epoch && !meet(entry, *cursor) {
                return true;
            }
        }
        false
    }

    fn is_as_listed(&self, _: Domain, summary: &MeetingSummary) -> bool {
        let listed = |item: &Item| item.in_doubt && item.version == summary.version;
        self.is_warmed && self.cache.get(&summary.meeting).is_some_and(listed)
    }

    fn look_up(&mut self, _: Domain, summary: &MeetingSummary) -> Lookup {
        let meeting = summary.meeting;
        if let Some(item) = self.cache.get(&meeting) {
            if self.strangers.contains(&meeting) {
                return Lookup::Another;
            }
            return Lookup::Found { version: item.version, epoch: item.epoch };
        }
        if self.database_closed {
            return if self.database_lost { Lookup::Unknowable } else { Lookup::NotYet };
        }
        match self.database.get(&meeting) {
            Some(item) => {
                self.cache.insert(meeting, item.restored());
                Lookup::Found { version: item.version, epoch: Epoch::NONE }
            }
            None if self.ended.contains(&meeting) => Lookup::Ended,
            None => Lookup::Unknown,
        }
    }

    fn version(&self, _: Domain, meeting: MeetingId) -> Option<u64> {
        self.looks.set(self.looks.get() + 1);
        self.cache.get(&meeting).map(|item| item.version)
    }

    fn member_versions(&self, _: Domain, meeting: MeetingId) -> Vec<(Address, u32)> {
        let members = self.cache.get(&meeting).into_iter().flat_map(|item| item.terminals.values());
        members.map(|member| (member.terminal, member.version)).collect()
    }

    fn owns(&self, domain: Domain, terminal: Address) -> bool {
        terminal.domain() == Some(domain) && terminal.device() != 0
    }

    fn is_database_lost(&self) -> bool {
        self.database_lost
    }

    fn changes(&self, _: Domain) -> Option<u64> {
        self.changes
    }

    fn taken_over(
        &mut self,
        _: Domain,
        meeting: MeetingId,
        _: Option<Cursor>,
        epoch: Epoch,
        participants: u16,
    ) -> Standing {
        self.takeovers += 1;
        let item = self.cache.get_mut(&meeting).expect("only what is held is taken over");
        item.epoch = epoch;
        match item.state {
            MeetingState::Starting | MeetingState::Ending => Standing::Unfinished,
            _ => {
                item.state = MeetingState::InMeeting;
                if self.is_warmed && item.in_doubt {
                    return Standing::InDoubt;
                }
                let agrees = !item.in_doubt && item.terminals.len() == usize::from(participants);
                if agrees { Standing::InMeeting } else { Standing::Differing }
            }
        }
    }

    fn update_meeting(&mut self, _: Domain, summary: &MeetingSummary, may_go_back: bool) -> bool {
        let Some(item) = self.cache.get_mut(&summary.meeting) else { return false };
        if summary.version > item.version || (may_go_back && summary.version < item.version) {
            (item.version, item.in_doubt) = (summary.version, true);
        }
        item.in_doubt
    }

    fn update_terminals(
        &mut self,
        _: Domain,
        meeting: MeetingId,
        listed: &Listed<'_>,
        _: &mut Vec<MeetingId>,
    ) -> Written {
        let terminals = listed.terminals;
        self.unread.extend(listed.unread);
        assert!(terminals.is_sorted_by_key(|state| state.terminal), "the list is ascending");
        if self.later > 0 {
            self.later -= 1;
            return Written::Later;
        }
        self.updates += 1;
        let item = self.cache.get_mut(&meeting).expect("only what is held is updated");
        item.terminals.retain(|terminal, _| listed.is_cut || listed.unread.contains(terminal));
        item.terminals.extend(terminals.iter().map(|state| (state.terminal, *state)));
        item.in_doubt = false;
        Written::Whole
    }

    fn missing(&mut self, _: Domain, meeting: MeetingId) -> Absence {
        let Some(item) = self.cache.get_mut(&meeting) else { return Absence::Gone };
        if matches!(item.state, MeetingState::Starting | MeetingState::Ending) {
            return Absence::Unfinished;
        }
        (item.epoch, item.state) = (Epoch::NONE, MeetingState::Missing);
        Absence::Missing
    }

    fn orphan(&mut self, _: Domain, summary: &MeetingSummary) {
        self.orphans.insert(summary.meeting);
    }

    fn keep_orphans(&mut self, _: Domain, is_left: &dyn Fn(MeetingId) -> bool) {
        self.orphans.retain(|meeting| is_left(*meeting));
    }

    fn adopt(&mut self, _: Domain, summary: &MeetingSummary) -> bool {
        self.cache.insert(summary.meeting, Item::new(summary.version, MeetingState::Recovering).restored());
        true
    }

    fn audit(&self, _: Domain, epoch: Epoch) -> (u32, u64) {
        self.audits.set(self.audits.get() + 1);
        let ours = self.cache.iter().filter(|(_, item)| item.epoch == epoch);
        ours.fold((0, 0), |(count, sum), (id, item)| (count + 1, sum.wrapping_add(digest_of(*id, item.version))))
    }
}
