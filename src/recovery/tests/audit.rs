//! The proof, and what follows from its failing.

use super::fake_store::{FakeStore, Item};
use super::scripted_peer::{EPOCH, ScriptedPeer, domain, entries, opcodes, summary, the};
use crate::limits::AUDIT_SILENCE_ATTEMPTS;
use crate::recovery::{Body, Event, Path, Phase, Request, Settings};
use crate::wire::{MeetingId, MeetingState, MeetingSummary, Message, Opcode, Status, digest_of};

/// A machine that has come to its REPLAY_DONE.
fn replayed(meetings: &[u64], settings: Settings) -> (ScriptedPeer, Request) {
    let mut hand = ScriptedPeer::new(Path::Cache, FakeStore::cached(meetings.iter().copied()), settings);
    let requests = hand.requests();
    hand.connect_ack(&the(&requests, Opcode::Connect), 8);
    hand.grant(&the(&requests, Opcode::TakeoverBatch));
    let audit = hand.request();
    hand.events();
    (hand, audit)
}

#[test]
fn replay_done_says_what_is_held_under_this_epoch() {
    let (mut hand, audit) = replayed(&[1, 2], Settings::default());
    let digest = digest_of(MeetingId(1), 1).wrapping_add(digest_of(MeetingId(2), 1));
    assert_eq!(audit.body, Body::Message(Message::ReplayDone { count: 2, digest }));
    hand.agree(&audit);
    assert_eq!(hand.events(), [Event::Reconciled { domain: domain() }]);
}

#[test]
fn a_difference_is_an_alarm_and_a_listing_from_0() {
    let (mut hand, audit) = replayed(&[1, 2], Settings::default());
    let ours = hand.store.cache.iter().fold(0u64, |sum, (id, item)| sum.wrapping_add(digest_of(*id, item.version)));
    hand.answer(&audit, Message::Audit { count: 1, digest: 5 });
    assert_eq!(hand.events(), [Event::Differing { domain: domain(), ours: (2, ours), theirs: (1, 5) }]);
    let query = hand.request();
    assert_eq!(query.body, Body::Message(Message::InfoQuery { first: MeetingId(0) }));
    // Meeting 1 has another version than was known; meeting 2 is not listed, and asked for by name.
    let mine = |meeting, version| MeetingSummary { controller: EPOCH, ..summary(meeting, version) };
    hand.page(&query, Opcode::Info, (0, 1), &[mine(1, 4)]);
    let end = hand.request();
    hand.end_listing(&end);
    let requests = hand.requests();
    assert_eq!(entries(&requests[0]), [2]);
    hand.page(
        &requests[0],
        Opcode::TakeoverBatchAck,
        (0, 1),
        &[super::scripted_peer::result(2, Status::UnknownMeeting)],
    );
    let query = hand.request();
    assert_eq!((query.opcode(), query.header.meeting), (Opcode::StateQuery.wire(), MeetingId(1)));
    hand.page::<crate::wire::TerminalState>(&query, Opcode::State, (0, 1), &[]);
    let audit = hand.request();
    assert_eq!(audit.body, Body::Message(Message::ReplayDone { count: 1, digest: digest_of(MeetingId(1), 4) }));
    hand.agree(&audit);
    assert!(hand.server.is_reconciled());
    assert_eq!(hand.store.state(2), MeetingState::Missing);
}

#[test]
fn a_controller_that_is_not_us_any_more_is_taken_over_again() {
    let (mut hand, audit) = replayed(&[1], Settings::default());
    hand.answer(&audit, Message::Audit { count: 0, digest: 0 });
    let query = hand.request();
    hand.page(&query, Opcode::Info, (0, 1), &[summary(1, 1)]);
    let end = hand.request();
    hand.end_listing(&end);
    assert_eq!(entries(&hand.request()), [1]);
}

#[test]
fn rounds_are_bounded_and_then_come_with_pauses() {
    let settings = Settings { audit_rounds: 2, ..Settings::default() };
    let pause = settings.audit_pause;
    let (mut hand, audit) = replayed(&[1], settings);
    let differ = Message::Audit { count: 9, digest: 9 };
    let ours = MeetingSummary { controller: EPOCH, ..summary(1, 1) };
    hand.answer(&audit, differ);
    let query = hand.request();
    hand.page(&query, Opcode::Info, (0, 1), &[ours]);
    let end = hand.request();
    hand.end_listing(&end);
    let audit = hand.request();
    assert_eq!(opcodes(std::slice::from_ref(&audit)), [Opcode::ReplayDone], "what agrees is not asked for again");
    hand.answer(&audit, differ);
    assert_eq!((hand.requests(), hand.server.phase()), (vec![], Phase::Differing));
    assert_eq!(hand.server.poll_timeout(), Some(hand.now + pause));
    hand.wait();
    hand.play(&[ours]);
    assert_eq!((hand.server.phase(), hand.server.progress().differing), (Phase::Reconciled, 2));
}

#[test]
fn an_operation_between_question_and_answer_is_no_difference() {
    let (mut hand, audit) = replayed(&[1], Settings::default());
    hand.store.cache.insert(MeetingId(2), Item { epoch: EPOCH, ..Item::new(3, MeetingState::InMeeting) });
    let digest = digest_of(MeetingId(1), 1).wrapping_add(digest_of(MeetingId(2), 3));
    hand.answer(&audit, Message::Audit { count: 2, digest });
    assert_eq!(hand.events(), [], "the autonomous server compared with the question, and saw a difference");
    let again = hand.request();
    hand.agree(&again);
    assert_eq!(hand.events(), [Event::Reconciled { domain: domain() }]);
    assert_eq!(hand.server.progress().differing, 0);
}

#[test]
fn silence_is_an_alarm_once() {
    let (mut hand, _) = replayed(&[1], Settings::default());
    for _ in 0..3 * AUDIT_SILENCE_ATTEMPTS {
        hand.wait();
        assert_eq!(opcodes(&hand.requests()), [Opcode::ReplayDone]);
    }
    assert_eq!(hand.events(), [Event::Silent { domain: domain() }]);
}

#[test]
fn an_autonomous_server_whose_memory_went_back_is_believed_in_the_second_round() {
    let mut store = FakeStore::cached([1]);
    store.cache.get_mut(&MeetingId(1)).unwrap().version = 9;
    let mut hand = ScriptedPeer::new(Path::Cache, store, Settings::default());
    let requests = hand.requests();
    hand.connect_ack(&the(&requests, Opcode::Connect), 8);
    hand.grant(&the(&requests, Opcode::TakeoverBatch));
    let audit = hand.request();
    hand.answer(&audit, Message::Audit { count: 1, digest: digest_of(MeetingId(1), 4) });
    let query = hand.request();
    hand.page(&query, Opcode::Info, (0, 1), &[MeetingSummary { controller: EPOCH, ..summary(1, 4) }]);
    let end = hand.request();
    hand.end_listing(&end);
    let query = hand.request();
    assert_eq!((query.opcode(), query.header.meeting), (Opcode::StateQuery.wire(), MeetingId(1)));
    hand.page::<crate::wire::TerminalState>(&query, Opcode::State, (0, 1), &[]);
    let audit = hand.request();
    assert_eq!(audit.body, Body::Message(Message::ReplayDone { count: 1, digest: digest_of(MeetingId(1), 4) }));
}

#[test]
fn an_audit_on_its_way_does_not_answer_a_later_doubt() {
    let (mut hand, audit) = replayed(&[1], Settings::default());
    hand.server.doubt();
    hand.agree(&audit);
    assert_eq!(hand.events(), [], "it was answered before the command that nobody knows of was carried out");
    let again = hand.request();
    assert_ne!(again.header.transaction, audit.header.transaction);
    hand.agree(&again);
    assert!(hand.server.is_reconciled());
}
