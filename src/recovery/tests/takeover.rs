//! Connect and take over.

use super::fake_store::{FakeStore, Item};
use super::scripted_peer::{EPOCH, ScriptedPeer, domain, entries, opcodes, result, summary, the};
use crate::recovery::{Body, Event, Phase, Settings};
use crate::wire::{MeetingId, MeetingState, MeetingSummary, Message, Opcode, Status};

#[test]
fn cache_path_takes_over_before_it_is_told_anything() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached(1..=100));
    let requests = hand.requests();
    use Opcode::{Connect, TakeoverBatch};
    assert_eq!(opcodes(&requests), [TakeoverBatch, Connect, TakeoverBatch]);
    assert_eq!(entries(&requests[0]), (1..=63).collect::<Vec<_>>());
    assert_eq!(entries(&requests[2]), (64..=100).collect::<Vec<_>>());
    assert!(requests.iter().all(|request| request.header.epoch == EPOCH));
    assert_eq!(hand.server.timeline().first_takeover, Some(hand.now));
}

#[test]
fn database_path_goes_in_order() {
    let mut hand = ScriptedPeer::database(FakeStore::stored([3, 5]));
    let connect = hand.request();
    assert_eq!(opcodes(std::slice::from_ref(&connect)), [Opcode::Connect]);
    hand.connect_ack(&connect, 4);
    let query = hand.request();
    assert_eq!(query.body, Body::Message(Message::InfoQuery { first: MeetingId(0) }));
    hand.page(&query, Opcode::Info, (0, 1), &[summary(3, 8), summary(5, 9)]);
    let query = hand.request();
    assert_eq!(query.body, Body::Message(Message::InfoQuery { first: MeetingId(6) }));
    hand.end_listing(&query);
    let takeover = hand.request();
    assert_eq!(entries(&takeover), [3, 5]);
    assert_eq!(hand.store.cache[&MeetingId(3)].version, 1, "what is not taken over is not updated");
    hand.grant(&takeover);
    assert_eq!((hand.store.state(3), hand.store.cache[&MeetingId(3)].version), (MeetingState::InMeeting, 8));
    let queries = hand.requests();
    assert_eq!(opcodes(&queries), [Opcode::StateQuery; 2]);
    for query in &queries {
        hand.page::<crate::wire::TerminalState>(query, Opcode::State, (0, 1), &[]);
    }
    let audit = hand.request();
    hand.agree(&audit);
    assert!(hand.server.is_reconciled());
    let domain = domain();
    assert_eq!(hand.events(), [Event::AllAcknowledged { domain }, Event::Reconciled { domain }]);
    let next_proof = hand.now + Settings::default().prove_every;
    assert_eq!((hand.requests(), hand.server.poll_timeout()), (vec![], Some(next_proof)), "nothing is left to do");
}

#[test]
fn as_many_pages_are_outstanding_as_the_autonomous_server_takes() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached(1..=63 * 20));
    let takeovers = |requests: &[crate::recovery::Request]| requests.iter().filter(|r| r.is_takeover()).count();
    let first = hand.requests();
    assert_eq!(takeovers(&first), 8, "before it said how many");
    hand.connect_ack(&the(&first, Opcode::Connect), 10);
    let more = hand.requests();
    assert_eq!(takeovers(&more), 2);
    hand.grant(&the(&first, Opcode::TakeoverBatch));
    assert_eq!(takeovers(&hand.requests()), 1);
}

#[test]
fn a_domain_without_meetings_is_reconciled_too() {
    let mut hand = ScriptedPeer::cache(FakeStore::default());
    hand.play(&[]);
    assert!(hand.server.is_reconciled());
    assert_eq!(hand.server.timeline().first_takeover, None);
}

#[test]
fn a_page_answered_twice_takes_over_once() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1]));
    let takeover = the(&hand.requests(), Opcode::TakeoverBatch);
    hand.grant(&takeover);
    hand.grant(&takeover);
    assert_eq!(hand.store.takeovers, 1);
}

#[test]
fn entries_without_an_answer_are_asked_again() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1, 2, 3]));
    let takeover = the(&hand.requests(), Opcode::TakeoverBatch);
    let strange = result(99, Status::Ok);
    hand.page(&takeover, Opcode::TakeoverBatchAck, (0, 1), &[strange]);
    assert_eq!(hand.requests().iter().filter(|request| request.is_takeover()).count(), 0, "an answer about nothing");
    hand.page(&takeover, Opcode::TakeoverBatchAck, (0, 1), &[result(2, Status::Already), strange]);
    assert_eq!(entries(&the(&hand.requests(), Opcode::TakeoverBatch)), [1, 3]);
}

#[test]
fn only_its_own_word_makes_a_meeting_missing() {
    let mut hand = ScriptedPeer::database(FakeStore::stored([1, 2]));
    let connect = hand.request();
    hand.connect_ack(&connect, 4);
    let query = hand.request();
    hand.end_listing(&query);
    assert_eq!(hand.events(), [], "a listing without it proves nothing");
    let takeover = hand.request();
    assert_eq!(entries(&takeover), [1, 2]);
    let results = [result(1, Status::UnknownMeeting), result(2, Status::Ok)];
    hand.page(&takeover, Opcode::TakeoverBatchAck, (0, 1), &results);
    let domain = domain();
    let missing = Event::Missing { domain, meeting: MeetingId(1) };
    assert_eq!(hand.events(), [missing, Event::AllAcknowledged { domain }]);
    assert_eq!((hand.store.state(1), hand.store.state(2)), (MeetingState::Missing, MeetingState::InMeeting));
    hand.play(&[]);
    assert!(hand.server.is_reconciled(), "a missing meeting counts in no audit");
    assert_eq!(hand.server.report().missing_meetings, [MeetingId(1)]);
}

#[test]
fn what_the_death_cut_short_is_the_engines_to_finish() {
    let mut store = FakeStore::cached([1, 2]);
    store.cache.insert(MeetingId(1), Item::new(0, MeetingState::Starting));
    store.cache.insert(MeetingId(2), Item::new(4, MeetingState::Ending));
    let mut hand = ScriptedPeer::cache(store);
    let takeover = the(&hand.requests(), Opcode::TakeoverBatch);
    let results = [result(1, Status::UnknownMeeting), result(2, Status::Ok)];
    hand.page(&takeover, Opcode::TakeoverBatchAck, (0, 1), &results);
    let domain = domain();
    let unfinished = |meeting| Event::Unfinished { domain, meeting: MeetingId(meeting) };
    assert_eq!(hand.events(), [unfinished(1), unfinished(2), Event::AllAcknowledged { domain }]);
    assert_eq!((hand.store.state(1), hand.store.state(2)), (MeetingState::Starting, MeetingState::Ending));
}

/// The engine had taken it for settled when the listing came: nobody asked for its members then.
#[test]
fn what_was_cut_short_and_is_listed_otherwise_is_told_once_more() {
    let mut store = FakeStore::cached([1]);
    store.cache.insert(MeetingId(1), Item::new(2, MeetingState::Starting));
    let mut hand = ScriptedPeer::cache(store);
    let requests = hand.requests();
    hand.page(&the(&requests, Opcode::TakeoverBatch), Opcode::TakeoverBatchAck, (0, 1), &[result(1, Status::Ok)]);
    let unfinished = Event::Unfinished { domain: domain(), meeting: MeetingId(1) };
    assert!(hand.events().contains(&unfinished));
    hand.store.cache.insert(MeetingId(1), Item { epoch: EPOCH, ..Item::new(2, MeetingState::InMeeting) });
    // One more than was asked for: it is listed.
    let ack = Message::ConnectAck { highest_epoch: EPOCH, boot_generation: 1, held: 2, window: 8 };
    hand.answer(&the(&requests, Opcode::Connect), ack);
    hand.play(&[MeetingSummary { controller: EPOCH, ..summary(1, 9) }]);
    assert!(hand.events().contains(&unfinished));
}

/// The number was used again, and a round met the new conference's start.
#[test]
fn what_is_unfinished_again_is_told_again() {
    let mut store = FakeStore::cached([1]);
    store.cache.insert(MeetingId(1), Item::new(2, MeetingState::Starting));
    let mut hand = ScriptedPeer::cache(store);
    for _ in 0..2 {
        let requests = hand.requests();
        hand.page(&the(&requests, Opcode::TakeoverBatch), Opcode::TakeoverBatchAck, (0, 1), &[result(1, Status::Ok)]);
        assert!(hand.events().contains(&Event::Unfinished { domain: domain(), meeting: MeetingId(1) }));
        hand.server.restart(hand.now);
    }
}

#[test]
fn a_refused_meeting_is_an_alarm_and_holds_nothing_up() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1, 2]));
    let requests = hand.requests();
    let results = [result(1, Status::Conflict), result(2, Status::Ok)];
    hand.page(&the(&requests, Opcode::TakeoverBatch), Opcode::TakeoverBatchAck, (0, 1), &results);
    let opcode = Opcode::TakeoverBatchAck.wire();
    let refused = Event::Refused { domain: domain(), meeting: MeetingId(1), opcode, status: Status::Conflict };
    assert!(hand.events().contains(&refused));
    hand.connect_ack(&the(&requests, Opcode::Connect), 4);
    hand.play(&[]);
    assert_eq!((hand.server.phase(), hand.server.progress().refused), (Phase::Reconciled, 1));
}

#[test]
fn a_meeting_too_busy_to_give_is_asked_for_later() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1]));
    let takeover = the(&hand.requests(), Opcode::TakeoverBatch);
    hand.page(&takeover, Opcode::TakeoverBatchAck, (0, 1), &[result(1, Status::Busy)]);
    assert_eq!(hand.requests(), []);
    hand.sleep(Settings::default().rto_max);
    let again = the(&hand.requests(), Opcode::TakeoverBatch);
    assert_eq!(entries(&again), [1]);
    assert_ne!(again.header.transaction, takeover.header.transaction);
}
