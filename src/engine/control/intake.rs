//! What the control thread takes in: frames, the database's outcomes, clients' requests.

use super::journal::DatabaseHandle;
use super::upgrade::too_late;
use super::{Control, Orphans};
use crate::api::ApiRequest;
use crate::api::{Answer, Orphan, OrphanFate, Reply, Request};
use crate::cms::{Refusal, RefusalKind, ReplyId};
use crate::database::{DatabaseError, Job, Outcome};
use crate::handover::protocol::Notice;
use crate::limits::{CONTROL_BATCH, FILL_BATCH, GENERATION_BLOCK};
use crate::recovery::{Cursor, DatabaseStore, Heard, OrphanList, Store, TableStore};
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Frame, Header, MeetingId, MeetingSummary, Message, Status, encode_message};

/// A walk over the parts of database or table.
pub(in crate::engine) struct Filling {
    /// The domains that are left, the next one last.
    pub domains: Vec<Domain>,
    pub cursor: Cursor,
}

impl Control {
    /// Takes what the workers handed on.
    pub(super) fn take_frames(&mut self, now: Nanos) -> bool {
        let shared = self.shared.clone();
        for taken in 0..CONTROL_BATCH {
            if shared.inbox.take(|bytes, _| self.take_frame(now, bytes)).is_none() {
                return taken > 0;
            }
        }
        true
    }

    /// Takes one frame. The worker has checked its tag.
    pub(super) fn take_frame(&mut self, now: Nanos, bytes: &[u8]) {
        let Ok(frame) = Frame::parse(bytes, self.shared.ethertype) else { return };
        // What is for the control thread is said by autonomous servers alone: the worker asks the
        // same.
        let Some(domain) = self.topology.speakers().server(frame.envelope().from) else {
            self.unexpected += 1;
            return;
        };
        let (header, Ok(opcode)) = (frame.header(), frame.opcode()) else {
            self.unexpected += 1;
            return;
        };
        let expected = match (frame.message(), frame.page()) {
            (Ok(Message::Heartbeat { sent_ns }), _) => {
                let Self { counted, writer, .. } = self;
                let held =
                    counted.parts_in(domain, writer.changes_in(domain), || writer.table().count_parts_in(domain));
                let header = header.answer(Status::Ok);
                let message =
                    Message::HeartbeatAck { sent_ns, held, boot_generation: 0, age: 0, highest_epoch: Epoch::NONE };
                let asked = frame.envelope();
                let marks = self.topology.route(domain).map(|route| route.marks).unwrap_or_default();
                // The worker has seen to it that it bears our address there.
                if let Some(reply) = marks.answer(&asked, asked.dst_mac) {
                    self.sender.enveloped(domain, &reply, |buffer, key| {
                        encode_message(buffer, &reply, &header, &message, key)
                    });
                }
                true
            }
            (Ok(Message::HeartbeatAck { sent_ns, held, boot_generation, highest_epoch, .. }), _) => {
                // What was recorded and is sent again says nothing about now.
                if self.topology.handle_heartbeat_ack(now, domain, Nanos(sent_ns), held) {
                    let heard = Heard { held, boot_generation, highest: highest_epoch };
                    let Self { counted, writer, recovery, .. } = self;
                    let ours = || {
                        counted.parts_in(domain, writer.changes_in(domain), || writer.table().count_parts_in(domain))
                    };
                    recovery.handle_heartbeat(now, domain, heard, ours);
                }
                true
            }
            (Ok(message), _) => {
                self.recovery.handle_message(now, domain, &header, &message, &mut holdings!(self))
                    || self.take_acknowledgement(now, domain, &header, &message)
            }
            (_, Ok(page)) => self.recovery.handle_page(now, domain, opcode, &header, &page, &mut holdings!(self)),
            _ => false,
        };
        self.unexpected += u64::from(!expected);
    }

    /// Gives operations an answer to one of their commands. A version below the table's, though
    /// commands make it greater, is a sign that the autonomous server has lost its memory, or that
    /// the answer is an old one: which of the two is to be proven.
    fn take_acknowledgement(&mut self, now: Nanos, domain: Domain, header: &Header, message: &Message) -> bool {
        let ours = self.operations.handle_message(now, domain, header, message, &mut self.recovery, &mut self.writer);
        if let (true, Message::MeetingAck { version, .. } | Message::MemberAck { version, .. }) = (ours, message)
            && self.writer.table().part(header.meeting, domain).is_some_and(|part| part.version > *version)
        {
            self.recovery.prove(domain);
        }
        ours
    }

    /// Takes what the database says.
    pub(super) fn take_outcomes(&mut self, now: Nanos) -> bool {
        for taken in 0..CONTROL_BATCH {
            let Some(store) = &mut self.store else { return false };
            let Ok(outcome) = store.outcomes.try_recv() else { return taken > 0 };
            match outcome {
                Outcome::Waiting(error @ DatabaseError::Held { .. }) => {
                    tracing::info!(%error, "waiting for the database")
                }
                Outcome::Waiting(error) | Outcome::Failed(error) => {
                    tracing::error!(%error, "no database: operations are refused, control goes on, and it is tried again");
                    store.fault = Some(error.to_string());
                    self.journal.close();
                }
                Outcome::Unwritable(error) => {
                    tracing::error!(%error, "the database cannot be written: operations are refused until it can");
                    store.fault = Some(format!("open, and not written: {error}"));
                }
                Outcome::Writable => {
                    tracing::info!("the database is written again");
                    store.fault = None;
                }
                Outcome::Opened(opened) => {
                    if store.fault.take().is_some() {
                        tracing::info!("the database is open");
                        // What could not be looked up is listed again.
                        self.topology.domains().for_each(|domain| self.recovery.restart(now, domain));
                    }
                    self.journal.open();
                    self.view.set_database(opened.database.clone());
                    self.journal.forget_updates_of(&opened.unfinished);
                    let fences = opened.fences.clone();
                    store.opened = Some(opened);
                    let left = self.writer.table().generation_end().saturating_sub(self.epoch.generation().into());
                    if left < u32::from(GENERATION_BLOCK / 2) {
                        // A full queue: the next engine finds the block short again.
                        let _ = store.thread.submit(Job::Reserve { count: GENERATION_BLOCK });
                    }
                    self.compare_fences(&fences);
                }
                Outcome::Committed { id, result } => {
                    if let Some(result) = self.journal.committed(id, result) {
                        self.operations.handle_committed(now, id, result, &mut self.writer);
                    }
                }
                Outcome::Given(Ok(block)) => self.begin_term(now, block.epoch(), block.end),
                Outcome::Given(Err(error)) => self.refuse_control(&error),
                Outcome::Reserved(Ok(block)) => {
                    let table = self.writer.table();
                    // A block that does not follow on the old one belongs behind somebody else's:
                    // the old one is used up first, and then the database is asked.
                    if block.term == self.epoch.term() && u32::from(block.first) == table.generation_end() {
                        table.set_reservation(self.epoch, block.end);
                    }
                }
                Outcome::Reserved(Err(error)) => tracing::warn!(%error, "no generations reserved ahead"),
            }
        }
        true
    }

    /// Fills a new table with what the database holds, some meetings a round, and then lets
    /// operations begin: before, a conference that is not in the table might be one that is not
    /// there yet.
    pub(super) fn fill(&mut self, now: Nanos) -> bool {
        if self.store.as_ref().is_none_or(|store| store.opened.is_none()) {
            return false;
        }
        let Some(filling) = &mut self.filling else { return false };
        for _ in 0..FILL_BATCH {
            let Some(&domain) = filling.domains.last() else { break };
            let mut cursor = filling.cursor;
            // What cannot be read now is tried again in the next round; the table is whole after a
            // real end alone.
            let Ok(next) = holdings!(self).next_in_database(domain, &mut cursor) else { return false };
            filling.cursor = cursor;
            if next.is_none() {
                filling.domains.pop();
                filling.cursor = Cursor::default();
            }
        }
        if filling.domains.is_empty() {
            self.filling = None;
            let opened = self.store.as_mut().and_then(|store| store.opened.as_mut()).expect("looked at above");
            let (unfinished, wanted) = (std::mem::take(&mut opened.unfinished), std::mem::take(&mut opened.wanted));
            self.operations.handle_opened(now, opened.next_meeting, unfinished, wanted, &mut self.writer);
            let _ = self.keeper.tell(&Notice::Complete);
            let domains = self.topology.domains().collect();
            self.comparing = Some(Filling { domains, cursor: Cursor::default() });
        }
        true
    }

    /// Holds the table against the database, some parts a round, and has written what that lacks:
    /// it may have been closed while recovery had something for it, or be an older one, or a new
    /// one in place of one that was lost.
    pub(super) fn compare(&mut self) -> bool {
        let Some(comparing) = &mut self.comparing else { return false };
        let Some(&domain) = comparing.domains.last() else {
            self.comparing = None;
            return true;
        };
        let mut at = crate::table::Cursor(comparing.cursor.0);
        let mut parts = Vec::with_capacity(FILL_BATCH);
        let more = self.writer.table().walk_by_level(domain, &mut at, |_, part| {
            parts.push(part);
            parts.len() < FILL_BATCH
        });
        comparing.cursor = Cursor(at.0);
        if !more {
            comparing.domains.pop();
            comparing.cursor = Cursor::default();
        }
        for part in parts {
            holdings!(self).write_what_is_not_kept(&part);
        }
        true
    }

    /// The report of this engine's recovery, and whose death it followed.
    fn recovery_last(&self) -> serde_json::Value {
        let mut report = serde_json::json!(self.recovery.report());
        report["predecessor"] = serde_json::json!(self.predecessor);
        let since = |begun: Nanos| self.first_sent.map(|sent| sent.since(begun).as_nanos() as u64);
        report["first_takeover_sent_ns"] = serde_json::json!(since(self.begun));
        report["main_to_first_takeover_ns"] = serde_json::json!(self.born.and_then(since));
        report
    }

    /// Adopts or ends one orphan, wherever it is held.
    fn decide_orphan(&mut self, meeting: MeetingId, become_of: OrphanFate) -> Reply {
        let become_of = match become_of {
            OrphanFate::Adopted => crate::recovery::Orphans::Adopt,
            OrphanFate::Ended => crate::recovery::Orphans::End,
        };
        let held: Vec<_> = self.orphans.values().filter(|orphan| orphan.meeting == meeting).copied().collect();
        if held.is_empty() {
            let what = format!("no autonomous server was heard to hold an orphan {meeting}");
            return Err(Refusal::new(RefusalKind::NotFound, what, "see `baton recovery orphans`"));
        }
        let mut decided = Vec::with_capacity(held.len());
        for orphan in held {
            if self.recovery.decide_orphan(orphan.domain, meeting, become_of, &mut holdings!(self)) {
                self.orphans.remove(&(orphan.domain, meeting));
                decided.push(orphan);
            }
        }
        if decided.is_empty() {
            let what =
                format!("orphan {meeting} cannot be had: its number is a conference's of ours, or there is no room");
            return Err(Refusal::new(RefusalKind::Conflict, what, "see `baton meeting show` and the log"));
        }
        Ok(Answer::Orphans(decided))
    }

    /// Takes clients' requests.
    pub(super) fn take_requests(&mut self, now: Nanos) -> bool {
        for taken in 0..CONTROL_BATCH {
            let Ok(ApiRequest { request, deadline, reply }) = self.requests.try_recv() else { return taken > 0 };
            let answer = match request {
                Request::Conference(_) if self.upgrade.is_ordered() => {
                    let _ = reply.send(Err(too_late()));
                    continue;
                }
                Request::TakeControl => {
                    self.take_control(reply);
                    continue;
                }
                Request::Upgrade(form) => {
                    self.upgrade.ask(form, reply, &self.keeper);
                    continue;
                }
                Request::Conference(request) => {
                    self.next_reply += 1;
                    let id = ReplyId(self.next_reply);
                    self.waiting.insert(id, reply);
                    self.operations.handle_request(now, id, request, now + deadline, &mut self.writer);
                    continue;
                }
                Request::Status => Answer::Status(Box::new(self.status(now))),
                Request::RecoveryLast => Answer::Recovery(self.recovery_last()),
                Request::Orphan { meeting, become_of } => {
                    let _ = reply.send(self.decide_orphan(meeting, become_of));
                    continue;
                }
                Request::Orphans => Answer::Orphans(self.orphans.values().copied().collect()),
            };
            // A client that went away needs no answer.
            let _ = reply.send(Ok(answer));
        }
        true
    }
}

impl OrphanList for Orphans {
    fn note(&mut self, domain: Domain, summary: &MeetingSummary) {
        let orphan = Orphan {
            meeting: summary.meeting,
            domain,
            state: summary.state,
            level: summary.level,
            participants: summary.participants,
            controller: summary.controller,
        };
        self.insert((domain, summary.meeting), orphan);
    }

    fn keep(&mut self, domain: Domain, is_left: &dyn Fn(MeetingId) -> bool) {
        self.retain(|&(of, meeting), _| of != domain || is_left(meeting));
    }
}
