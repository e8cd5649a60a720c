//! What was agreed is proven again, and what speaks against it is looked into.

use std::time::Duration;

use super::fake_store::{FakeStore, Item};
use super::scripted_peer::{EPOCH, ScriptedPeer, domain, entries, opcodes, result, summary, terminal, the};
use crate::limits::{AUDIT_CHASES_MAX, STRAYS_PAUSE};
use crate::recovery::{Event, Heard, Phase, Request, Settings};
use crate::wire::{Epoch, MeetingId, MeetingState, MeetingSummary, Message, Opcode, Status, digest_of};

/// A machine that has agreed about these meetings.
fn agreed(meetings: &[u64]) -> ScriptedPeer {
    let mut hand = ScriptedPeer::cache(FakeStore::cached(meetings.iter().copied()));
    hand.play(&[]);
    assert!(hand.server.is_reconciled());
    hand.events();
    hand
}

/// What a listing says of a meeting that is ours.
fn ours(meeting: u64, version: u64) -> MeetingSummary {
    MeetingSummary { controller: EPOCH, ..summary(meeting, version) }
}

fn asked_about(requests: &[Request]) -> Vec<u64> {
    let queries = requests.iter().filter(|request| request.opcode() == Opcode::StateQuery.wire());
    queries.map(|request| request.header.meeting.0).collect()
}

#[test]
fn agreement_is_proven_again_without_a_look_at_what_has_not_changed() {
    let mut hand = agreed(&[1, 2]);
    hand.store.changes = Some(1);
    for proof in 0..5 {
        hand.wait();
        let audit = hand.request();
        assert_eq!(opcodes(std::slice::from_ref(&audit)), [Opcode::ReplayDone]);
        hand.agree(&audit);
        assert_eq!((hand.server.phase(), hand.events()), (Phase::Reconciled, vec![]));
        if proof == 0 {
            hand.store.audits.set(0);
        }
    }
    assert_eq!(hand.store.audits.get(), 0);
    hand.store.changes = Some(2);
    hand.wait();
    hand.request();
    assert_eq!(hand.store.audits.get(), 1);
}

#[test]
fn a_proof_finds_what_happened_without_a_word() {
    let mut hand = agreed(&[1, 2]);
    hand.wait();
    let audit = hand.request();
    hand.answer(&audit, Message::Audit { count: 1, digest: digest_of(MeetingId(1), 1) });
    assert!(!hand.server.is_reconciled());
    assert!(matches!(hand.events()[..], [Event::Differing { .. }]));
    hand.play(&[ours(1, 1), summary(2, 1)]);
    assert!(hand.server.is_reconciled());
    assert_eq!(hand.store.takeovers, 3, "who had lost control of meeting 2 is asked for it once more");
}

/// The proof was due, and went out no more before the question was answered: the control thread
/// went round without a pause for as long as that took.
#[test]
fn a_proof_that_waits_for_a_question_wakes_nobody() {
    let mut hand = agreed(&[1]);
    hand.wait();
    assert_eq!(opcodes(&hand.requests()), [Opcode::ReplayDone]);
    hand.server.handle_stray(hand.now, [MeetingId(1), MeetingId::NONE], &mut hand.store);
    hand.wait();
    assert_eq!(opcodes(&hand.requests()), [Opcode::StateQuery]);
    assert!(hand.server.poll_timeout() > Some(hand.now));
}

#[test]
fn a_sign_against_agreement_has_it_proven_at_once() {
    let mut hand = agreed(&[1]);
    hand.server.prove();
    assert_eq!(hand.requests(), [], "not as often as there are signs");
    hand.sleep(Settings::default().rto_max);
    assert_eq!(opcodes(&hand.requests()), [Opcode::ReplayDone]);
    assert!(hand.server.is_reconciled(), "the sign may be an old one");
}

#[test]
fn a_restart_of_the_autonomous_server_begins_all_anew_and_believes_nothing() {
    let mut hand = agreed(&[1, 2]);
    hand.heartbeat(2, 1, 2);
    assert_eq!(hand.requests(), []);
    hand.heartbeat(2, 2, 2);
    assert_eq!(hand.events(), [Event::Restarted { domain: domain() }]);
    let requests = hand.requests();
    assert_eq!(entries(&the(&requests, Opcode::TakeoverBatch)), [1, 2]);
    let connect = the(&requests, Opcode::Connect);
    let highest_epoch = Epoch::new(1, 6);
    hand.answer(&connect, Message::ConnectAck { highest_epoch, boot_generation: 2, held: 2, window: 8 });
    hand.grant(&the(&requests, Opcode::TakeoverBatch));
    assert_eq!(asked_about(&hand.requests()), [1, 2], "terminals may have lost their memory with it");
    hand.heartbeat(2, 1, 2);
    assert_eq!(hand.events(), [Event::AllAcknowledged { domain: domain() }], "no more than one restart in a while");
}

/// One that comes and goes, or says another boot generation every time, would fill the log with
/// what is known.
#[test]
fn alarms_are_told_once_however_often_the_machine_begins_again() {
    let mut hand = agreed(&[1, 2]);
    let mut alarms = Vec::new();
    for boot in 1..6 {
        hand.heartbeat(2, boot, 2);
        hand.held = 3;
        // Meeting 2 is missing, and 8 and 9 are orphans.
        for _ in 0..40 {
            let requests = hand.requests();
            for request in &requests {
                if request.opcode() == Opcode::TakeoverBatch.wire() {
                    let status = |meeting| if meeting == 2 { Status::UnknownMeeting } else { Status::Ok };
                    let results: Vec<_> = entries(request).into_iter().map(|id| result(id, status(id))).collect();
                    hand.page(request, Opcode::TakeoverBatchAck, (0, 1), &results);
                } else if request.opcode() == Opcode::Connect.wire() {
                    let highest_epoch = Epoch::new(1, 6);
                    let ack = Message::ConnectAck { highest_epoch, boot_generation: boot.into(), held: 3, window: 8 };
                    hand.answer(request, ack);
                } else {
                    hand.reply(request, &[ours(1, 1), summary(8, 1), summary(9, 1)]);
                }
            }
            if requests.is_empty() {
                break;
            }
        }
        alarms.extend(hand.events().into_iter().filter_map(|event| match event {
            Event::Orphan { summary, .. } => Some(summary.meeting.0),
            Event::Missing { meeting, .. } => Some(meeting.0),
            _ => None,
        }));
        hand.sleep(Settings::default().audit_pause);
    }
    alarms.sort_unstable();
    assert_eq!(alarms, [2, 8, 9]);
}

#[test]
fn a_restart_that_the_connection_tells_is_one_too() {
    let mut hand = agreed(&[1]);
    hand.server.restart(hand.now);
    let requests = hand.requests();
    let highest_epoch = Epoch::new(1, 6);
    let ack = Message::ConnectAck { highest_epoch, boot_generation: 2, held: 1, window: 8 };
    hand.answer(&the(&requests, Opcode::Connect), ack);
    assert_eq!(hand.events(), [Event::Restarted { domain: domain() }]);
    let requests = hand.requests();
    hand.answer(&the(&requests, Opcode::Connect), ack);
    hand.grant(&the(&requests, Opcode::TakeoverBatch));
    assert_eq!(asked_about(&hand.requests()), [1]);
}

#[test]
fn a_number_held_that_nothing_explains_brings_a_listing_and_then_pauses() {
    let mut hand = agreed(&[1]);
    let held = [ours(1, 1), summary(9, 3)];
    hand.heartbeat(1, 1, 1);
    hand.play(&held);
    hand.heartbeat(2, 1, 1);
    // The doubt of one that has grown is settled by a proof, which an orphan does not disturb.
    let audit = hand.request();
    hand.agree(&audit);
    hand.events();
    hand.heartbeat(2, 1, 1);
    hand.heartbeat(2, 1, 1);
    hand.play(&held);
    assert_eq!(hand.events(), [Event::Orphan { domain: domain(), summary: summary(9, 3) }]);
    assert!(hand.store.orphans.contains(&MeetingId(9)));
    hand.heartbeat(2, 1, 1);
    hand.heartbeat(2, 1, 1);
    assert_eq!(hand.requests(), [], "it is explained now");
    let listings = |hand: &mut ScriptedPeer| {
        let mut times = 0;
        for _ in 0..100 {
            hand.sleep(Duration::from_secs(1));
            hand.heartbeat(5, 1, 1);
            let requests = hand.requests();
            times += u32::from(requests.iter().any(|request| request.opcode() == Opcode::InfoQuery.wire()));
            requests.iter().for_each(|request| hand.reply(request, &held));
            hand.play(&held);
        }
        times
    };
    let times = listings(&mut hand);
    assert!((3..=10).contains(&times), "{times} listings in a hundred seconds of a number that is wrong for good");
}

#[test]
fn our_own_starts_and_ends_explain_what_is_held() {
    let mut hand = agreed(&[1, 2]);
    for (held, ours) in [(2, 2), (2, 2), (5, 5), (4, 4), (4, 4)] {
        hand.heartbeat(held, 1, ours);
        assert!(hand.server.is_reconciled() && hand.requests().is_empty(), "{held} held, {ours} here");
    }
    hand.heartbeat(1, 1, 4);
    assert_eq!(opcodes(&hand.requests()), [Opcode::ReplayDone]);
}

#[test]
fn a_heartbeat_may_tell_of_a_newer_controller() {
    let mut hand = agreed(&[1]);
    let highest = Epoch::new(2, 1);
    hand.server.handle_heartbeat(hand.now, Heard { held: 1, boot_generation: 1, highest }, || 1);
    assert_eq!(hand.events(), [Event::Stale { domain: domain(), highest }]);
    assert_eq!((hand.server.fenced_by(), hand.server.phase()), (Some(highest), Phase::Stale));
    hand.sleep(Duration::from_secs(3600));
    assert_eq!((hand.requests(), hand.server.poll_timeout()), (vec![], None));
}

#[test]
fn a_newer_controller_that_answers_nothing_we_asked_is_none() {
    let mut hand = agreed(&[1]);
    hand.wait();
    let audit = hand.request();
    let highest = Epoch::new(9, 9);
    let stale = Message::Refused { opcode: Opcode::Audit.wire(), status: Status::StaleEpoch, value: highest.0 };
    let mut header = audit.header.answer(Status::StaleEpoch);
    header.transaction.0 += 1;
    hand.server.handle_message(hand.now, &header, &stale, &mut hand.store);
    header = audit.header.answer(Status::StaleEpoch);
    header.epoch = Epoch::new(1, 2);
    hand.server.handle_message(hand.now, &header, &stale, &mut hand.store);
    assert_eq!((hand.events(), hand.server.fenced_by()), (vec![], None));
    hand.answer(&audit, stale);
    assert_eq!(hand.server.fenced_by(), Some(highest));
}

#[test]
fn a_terminal_that_reports_out_of_another_meeting_has_both_asked_about() {
    let mut hand = agreed(&[1, 2]);
    let stray = [1, 2].map(MeetingId);
    hand.server.handle_stray(hand.now, stray, &mut hand.store);
    hand.server.handle_stray(hand.now, stray, &mut hand.store);
    hand.wait();
    let queries = hand.requests();
    assert_eq!(asked_about(&queries), [1, 2]);
    for query in &queries {
        hand.page(query, Opcode::State, (0, 1), &[terminal(query.header.meeting.0, 1001)]);
    }
    hand.play(&[]);
    hand.server.handle_stray(hand.now, stray, &mut hand.store);
    assert_eq!(hand.requests(), [], "not as fast as terminals report");
    hand.sleep(STRAYS_PAUSE);
    hand.server.handle_stray(hand.now, stray, &mut hand.store);
    hand.wait();
    assert_eq!(asked_about(&hand.requests()), [1, 2]);
}

#[test]
fn a_terminal_that_reports_out_of_what_nobody_knows_has_it_listed_and_an_orphans_has_not() {
    let mut hand = agreed(&[1]);
    let held = [ours(1, 1), summary(9, 3)];
    hand.sleep(STRAYS_PAUSE);
    hand.server.handle_stray(hand.now, [MeetingId(9), MeetingId::NONE], &mut hand.store);
    hand.play(&held);
    assert!(hand.events().contains(&Event::Orphan { domain: domain(), summary: summary(9, 3) }));
    hand.sleep(STRAYS_PAUSE);
    hand.server.handle_stray(hand.now, [MeetingId(9), MeetingId::NONE], &mut hand.store);
    assert_eq!(hand.requests(), []);
}

#[test]
fn operations_without_end_do_not_keep_agreement_away() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1]));
    let requests = hand.requests();
    hand.connect_ack(&the(&requests, Opcode::Connect), 8);
    hand.grant(&the(&requests, Opcode::TakeoverBatch));
    hand.events();
    let began = hand.now;
    for operation in 0..=u64::from(AUDIT_CHASES_MAX) {
        let audit = loop {
            match hand.requests().pop() {
                Some(audit) => break audit,
                None => hand.wait(),
            }
        };
        assert_eq!(audit.opcode(), Opcode::ReplayDone.wire());
        // Something is started here and there before the answer comes.
        let started = Item { epoch: EPOCH, ..Item::new(1, MeetingState::InMeeting) };
        hand.store.cache.insert(MeetingId(100 + operation), started);
        let (count, digest) = crate::recovery::Store::audit(&hand.store, domain(), EPOCH);
        hand.answer(&audit, Message::Audit { count, digest });
    }
    assert_eq!(hand.events(), [Event::Reconciled { domain: domain() }]);
    assert!(hand.now.since(began) > Settings::default().rto_min * 20, "and not as fast as they come");
}

#[test]
fn differences_of_before_an_agreement_do_not_slow_the_next_one_down() {
    let mut hand = agreed(&[1]);
    for _ in 0..5 {
        hand.server.doubt();
        let audit = hand.request();
        hand.answer(&audit, Message::Audit { count: 7, digest: 7 });
        assert_eq!(opcodes(&hand.requests()), [Opcode::InfoQuery], "at once");
        hand.sleep(Duration::from_secs(2));
        hand.play(&[ours(1, 1)]);
        assert!(hand.server.is_reconciled());
    }
}
