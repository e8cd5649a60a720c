//! [`Store`] over table and database: where a lookup finds, and what the update writes back to.
//!
//! The table is written at once, the database soon: the last step of each meeting's recovery, its
//! members, writes all that the database keeps of its part in one commit, so the database is never
//! between two states of it.

use super::database::{Held, KeyStore, Unreadable};
use super::store::{Absence, Cursor, Listed, Lookup, Meet, OrphanList, Standing, Store, Written, is_same};
use super::warming::Warming;
use crate::cascade::Speakers;
use crate::database::{Change, KeyParameters, Member, PartParameters};
use crate::table::{self, Part, Table, TableError, TakenOver, Terminal, Writer};
use crate::wire::{
    Address, Domain, Epoch, Layout, MeetingId, MeetingState, MeetingSummary, Run, TakeoverEntry, TerminalState,
};

/// The table and the database as [`Store`]. Made anew for each call of a machine; it keeps nothing.
pub struct TableStore<'a, S> {
    /// The control thread's writer.
    pub writer: &'a mut Writer,
    /// The database.
    pub store: &'a mut S,
    /// Whether an operation on this meeting is under way: its members may be ahead of what an
    /// autonomous server said.
    pub is_busy: &'a dyn Fn(MeetingId) -> bool,
    /// Whose a terminal is.
    pub speakers: &'a Speakers,
    /// The orphans that operators are shown.
    pub orphans: &'a mut dyn OrphanList,
    /// Parts whose records were damaged, by something other than Baton: each was thrown away and
    /// written anew.
    pub replaced: &'a mut Vec<(MeetingId, Domain)>,
    /// The snapshot that a new table is warmed from, where there is one.
    pub warming: Option<&'a mut Warming>,
}

impl<S: KeyStore> TableStore<'_, S> {
    pub(super) fn table(&self) -> &Table {
        self.writer.table()
    }

    /// The part, if it is in the table whole.
    pub(super) fn part(&self, meeting: MeetingId, domain: Domain) -> Option<Part> {
        self.table().part(meeting, domain).filter(|part| part.state != MeetingState::Prepared)
    }

    /// Marks a part as in doubt or takes the mark away; false where another writer holds the part.
    pub(super) fn set_doubt(&mut self, meeting: MeetingId, domain: Domain, in_doubt: bool) -> bool {
        self.writer.update_part(meeting, domain, |part| part.in_doubt = in_doubt).is_ok()
    }

    /// Layout and chairman of the whole conference, which the database has once and every part has
    /// of its own. Where parts disagree, the lowest domain that has it says the layout, and the
    /// chairman's own domain the chairman: whichever part is updated last, the same comes out.
    fn of_whole(&self, part: &Part) -> (Layout, Address) {
        let mut parts: Vec<Part> = self.table().parts_of(part.meeting).collect();
        // A missing part is the last to ask: nobody has said anything of it since.
        parts.sort_unstable_by_key(|part| (part.state == MeetingState::Missing, part.domain));
        let elsewhere = |chairman: &Address| parts.iter().all(|part| Some(part.domain) != chairman.domain());
        let own = parts.iter().find(|part| part.chairman.domain() == Some(part.domain)).map(|part| part.chairman);
        let chairman = own.or_else(|| parts.iter().map(|part| part.chairman).find(elsewhere));
        (parts.first().map_or(part.layout, |first| first.layout), chairman.unwrap_or_default())
    }

    /// Has the database no longer hold terminals where they were: one that asks again finds them
    /// here already.
    pub(super) fn write_moved(&mut self, moved: &[(MeetingId, Address)]) {
        if !moved.is_empty() {
            let removed = moved.iter().map(|&(meeting, terminal)| Change::RemoveMember(meeting, terminal));
            self.store.write(removed.collect());
        }
    }

    /// Has the database hold what the table holds of a part, and `moved` no longer where they were
    /// before.
    pub(super) fn write_back(&mut self, part: &Part, moved: &[(MeetingId, Address)]) {
        let (meeting, domain) = (part.meeting, part.domain);
        let members: Vec<Terminal> = self.table().members(meeting, domain).collect();
        // Members go and come back in one commit, which is how those that the table no longer has
        // go too.
        let mut changes = Vec::with_capacity(4 + 2 * members.len());
        changes.extend(moved.iter().map(|&(meeting, terminal)| Change::RemoveMember(meeting, terminal)));
        changes.push(Change::Known(meeting, part.level, part.run));
        changes.push(Change::RemoveMembers(meeting, domain));
        // Members of the domains behind it are filed under those.
        changes.extend(self.speakers.behind(domain).map(|behind| Change::RemoveMembers(meeting, behind)));
        changes.push(Change::Learned(meeting, PartParameters { domain, version: part.version, state: part.state }));
        let (layout, chairman) = self.of_whole(part);
        changes.push(Change::Layout(meeting, layout));
        changes.push(Change::Chairman(meeting, chairman));
        for terminal in &members {
            let Terminal { terminal: address, role, flags, window, .. } = *terminal;
            changes.push(Change::Member(meeting, Member { terminal: address, role, flags, window }));
            changes.push(Change::Terminal(TerminalState::from(terminal)));
        }
        self.store.write(changes);
    }
}

impl<S: KeyStore> Store for TableStore<'_, S> {
    fn walk_cache(&mut self, domain: Domain, cursor: &mut Cursor, meet: Meet<'_>) -> bool {
        let mut at = table::Cursor(cursor.0);
        let more = self.table().walk_to_take_over(domain, &mut at, |at, entry| meet(entry, Cursor(at.0)));
        cursor.0 = at.0;
        more
    }

    fn next_in_database(&mut self, domain: Domain, cursor: &mut Cursor) -> Result<Option<TakeoverEntry>, Unreadable> {
        loop {
            let Some((meeting, part)) = self.store.next_part(domain, MeetingId(cursor.0))? else { return Ok(None) };
            // What the table has need not be read: what has a part in the database has not ended.
            let is_here = self.part(meeting, domain).is_some();
            // Before the cursor moves: what cannot be read now is come back to.
            let held = if is_here { None } else { Some(self.store.meeting(meeting)?) };
            // The highest number is nobody's id: the database gives ids out ascending from 1.
            let Some(next) = meeting.0.checked_add(1) else { return Ok(None) };
            cursor.0 = next;
            match held {
                None => {}
                // Without room it is asked for nonetheless, for the autonomous server's answer is
                // worth having.
                Some(Held::Alive(parameters)) => drop(self.restore(domain, &parameters, &part, |_| None)),
                Some(_) => continue,
            }
            return Ok(Some(TakeoverEntry { meeting, version: part.version }));
        }
    }

    fn walk_snapshot(&mut self, domain: Domain, cursor: &mut Cursor, meet: Meet<'_>) -> Result<bool, Unreadable> {
        self.warm(domain, cursor, meet)
    }

    fn is_whole(&self) -> bool {
        self.warming.as_ref().is_none_or(|warming| warming.is_whole())
    }

    fn walk_untaken(&mut self, domain: Domain, epoch: Epoch, cursor: &mut Cursor, meet: Meet<'_>) -> bool {
        self.walk_wanted(domain, cursor, |part| part.epoch != epoch, meet)
    }

    fn walk_doubts(&mut self, domain: Domain, epoch: Epoch, cursor: &mut Cursor, meet: Meet<'_>) -> bool {
        let is_doubted = |part: &Part| part.in_doubt && part.epoch == epoch && part.state == MeetingState::InMeeting;
        self.walk_wanted(domain, cursor, is_doubted, meet)
    }

    fn is_as_listed(&self, domain: Domain, summary: &MeetingSummary) -> bool {
        self.part(summary.meeting, domain).is_some_and(|part| {
            let listed = (summary.version, summary.participants, summary.run);
            part.in_doubt && !part.is_unlisted && (part.version, part.participants, part.run) == listed
        })
    }

    fn look_up(&mut self, domain: Domain, summary: &MeetingSummary) -> Lookup {
        let meeting = summary.meeting;
        if let Some(part) = self.part(meeting, domain) {
            if !is_same(part.run, summary.run) {
                return Lookup::Another;
            }
            return Lookup::Found { version: part.version, epoch: part.epoch };
        }
        let parameters = match self.store.meeting(meeting) {
            Ok(Held::Alive(parameters)) if is_same(parameters.run, summary.run) => parameters,
            // Only what is known to be ours is ended: a number may have been given twice.
            Ok(Held::Ended(run)) if run != Run::NONE && run == summary.run => return Lookup::Ended,
            Ok(_) => return Lookup::Unknown,
            Err(Unreadable) if self.store.is_lost() => return Lookup::Unknowable,
            Err(Unreadable) => return Lookup::NotYet,
        };
        let Some(&part) = parameters.part(domain) else { return Lookup::Unknown };
        match self.restore(domain, &parameters, &part, |_| None) {
            Ok(()) => Lookup::Found { version: part.version, epoch: Epoch::NONE },
            Err(TableError::Contended) => Lookup::NotYet,
            Err(_) => Lookup::Full,
        }
    }

    fn version(&self, domain: Domain, meeting: MeetingId) -> Option<u64> {
        self.table().part(meeting, domain).map(|part| part.version)
    }

    fn holds(&self, domain: Domain, summary: &MeetingSummary) -> bool {
        self.part(summary.meeting, domain).is_some_and(|part| is_same(part.run, summary.run))
    }

    fn member_versions(&self, domain: Domain, meeting: MeetingId) -> Vec<(Address, u32)> {
        let members = self.table().members(meeting, domain);
        let mut versions: Vec<_> = members.map(|member| (member.terminal, member.version)).collect();
        versions.sort_unstable();
        versions
    }

    fn owns(&self, domain: Domain, terminal: Address) -> bool {
        self.speakers.owner(terminal) == Some(domain)
    }

    fn has_damaged(&self, domain: Domain) -> bool {
        // A walk over them all has met it, if there is one: otherwise nothing is read again.
        self.table().unreadable() > 0 && self.table().damaged_parts_in(domain).next().is_some()
    }

    fn recount(&mut self, domain: Domain) {
        self.writer.recount(domain);
    }

    fn is_database_lost(&self) -> bool {
        self.store.is_lost()
    }

    fn changes(&self, domain: Domain) -> Option<u64> {
        Some(self.writer.changes_in(domain))
    }

    fn taken_over(
        &mut self,
        domain: Domain,
        meeting: MeetingId,
        found: Option<Cursor>,
        epoch: Epoch,
        participants: u16,
    ) -> Standing {
        if let Some(found) = found
            && self.writer.take_over(table::Cursor(found.0), &TakenOver { meeting, domain, epoch, participants })
        {
            return Standing::InMeeting;
        }
        // A part that is not there is not held up by it; the audit will differ and bring the
        // machine here again.
        let mut standing = Standing::InMeeting;
        let change = |part: &mut Part| {
            part.epoch = epoch;
            match part.state {
                MeetingState::Starting | MeetingState::Ending | MeetingState::Ended => standing = Standing::Unfinished,
                _ => {
                    part.state = MeetingState::InMeeting;
                    // As many as the chain has. One of them that is damaged is found when it
                    // reports: to read them all here would cost a takeover more than all the rest
                    // of it.
                    let differs = part.participants != participants;
                    standing = match part.in_doubt {
                        _ if part.is_unlisted => Standing::Unlisted,
                        true if differs => Standing::Unlisted,
                        true => Standing::InDoubt,
                        false if differs => Standing::Differing,
                        false => Standing::InMeeting,
                    };
                }
            }
        };
        let _ = match found {
            Some(found) => self.writer.update_part_near(table::Cursor(found.0), meeting, domain, change),
            None => self.writer.update_part(meeting, domain, change),
        };
        standing
    }

    fn update_meeting(&mut self, domain: Domain, summary: &MeetingSummary, may_go_back: bool) -> bool {
        let is_busy = (self.is_busy)(summary.meeting);
        let mut in_doubt = false;
        let change = |part: &mut Part| {
            if !is_same(part.run, summary.run) {
                return;
            }
            // What is listed while a command is under way may be older than its acknowledgement.
            if summary.version >= part.version || (may_go_back && !is_busy) {
                // In one store with the version: a death before the members are written must not
                // leave it believed.
                part.in_doubt |= summary.version != part.version;
                part.version = summary.version;
                part.level = summary.level;
                part.layout = summary.layout;
                part.chairman = summary.chairman;
                part.is_unlisted = false;
            }
            in_doubt = part.in_doubt || (summary.participants != part.participants && !is_busy);
        };
        let _ = self.writer.update_part(summary.meeting, domain, change);
        in_doubt
    }

    fn update_terminals(
        &mut self,
        domain: Domain,
        meeting: MeetingId,
        listed: &Listed<'_>,
        others: &mut Vec<MeetingId>,
    ) -> Written {
        self.write_list(domain, meeting, listed, others, |store, part, moved| store.write_back(part, moved))
    }

    fn refresh_terminals(
        &mut self,
        domain: Domain,
        meeting: MeetingId,
        listed: &Listed<'_>,
        others: &mut Vec<MeetingId>,
    ) -> Written {
        self.write_list(domain, meeting, listed, others, |store, part, moved| {
            store.write_moved(moved);
            store.write_what_is_not_kept(part);
        })
    }

    fn missing(&mut self, domain: Domain, meeting: MeetingId) -> Absence {
        let Some(part) = self.table().part(meeting, domain) else { return Absence::Gone };
        // What an operation has begun it finishes, and what it has written ahead stays.
        let is_unfinished = matches!(part.state, MeetingState::Starting | MeetingState::Ending | MeetingState::Ended);
        if (self.is_busy)(meeting) || is_unfinished {
            return Absence::Unfinished;
        }
        let change = |part: &mut Part| (part.epoch, part.state) = (Epoch::NONE, MeetingState::Missing);
        let _ = self.writer.update_part(meeting, domain, change);
        let (layout, chairman) = self.of_whole(&part);
        let known = Change::Known(meeting, part.level, part.run);
        let part = PartParameters { domain, version: part.version, state: MeetingState::Missing };
        let whole = [Change::Layout(meeting, layout), Change::Chairman(meeting, chairman)];
        self.store.write([known, Change::Learned(meeting, part)].into_iter().chain(whole).collect());
        Absence::Missing
    }

    fn orphan(&mut self, domain: Domain, summary: &MeetingSummary) {
        self.orphans.note(domain, summary);
    }

    fn keep_orphans(&mut self, domain: Domain, is_left: &dyn Fn(MeetingId) -> bool) {
        self.orphans.keep(domain, is_left);
    }

    fn adopt(&mut self, domain: Domain, summary: &MeetingSummary) -> bool {
        let meeting = summary.meeting;
        let known = self.table().parts_of(meeting).next().is_some()
            || !matches!(self.store.meeting(meeting), Ok(Held::Unknown | Held::Ended(_)));
        let part = Part {
            epoch: Epoch::NONE,
            state: MeetingState::Recovering,
            in_doubt: true,
            ..Part::listed(domain, summary)
        };
        match self.insert_part(&part) {
            Ok(()) => {}
            Err(TableError::Exists) if self.set_doubt(meeting, domain, true) => {}
            Err(_) => return false,
        }
        let part = PartParameters { domain, version: summary.version, state: MeetingState::InMeeting };
        self.store.write(vec![if known {
            Change::Part(meeting, part)
        } else {
            // Nobody knows when it was asked for, nor under what name.
            Change::Create(KeyParameters {
                meeting,
                run: summary.run,
                name: String::new(),
                level: summary.level,
                layout: summary.layout,
                chairman: summary.chairman,
                created_ms: 0,
                parts: vec![part],
                members: Vec::new(),
            })
        }]);
        true
    }

    fn audit(&self, domain: Domain, epoch: Epoch) -> (u32, u64) {
        self.writer.digest_of_parts(domain, epoch)
    }
}
