//! What a living cache costs: a takeover page and an audit, and beyond that only what differs.

use super::fake_store::FakeStore;
use super::scripted_peer::{EPOCH, ScriptedPeer, domain, entries, opcodes, result, summary, terminal, the};
use crate::recovery::{Body, Event, Request, Settings};
use crate::wire::{MeetingId, MeetingSummary, Message, Opcode, Status, TakeoverResult};

/// A machine whose link is up, with its first takeovers.
fn connected(store: FakeStore, held: u32) -> (ScriptedPeer, Request) {
    let mut hand = ScriptedPeer::cache(store);
    hand.held = held;
    let requests = hand.requests();
    assert_eq!(opcodes(&requests), [Opcode::TakeoverBatch, Opcode::Connect]);
    hand.connect_ack(&requests[1], 8);
    (hand, requests[0].clone())
}

/// What a listing says of a meeting that is ours.
fn ours(meeting: u64, version: u64) -> MeetingSummary {
    MeetingSummary { controller: EPOCH, ..summary(meeting, version) }
}

fn asked_about(requests: &[Request]) -> Vec<u64> {
    requests.iter().filter(|r| r.opcode() == Opcode::StateQuery.wire()).map(|r| r.header.meeting.0).collect()
}

fn is_listing(request: &Request) -> bool {
    request.body == Body::Message(Message::InfoQuery { first: MeetingId(0) })
}

#[test]
fn a_cache_that_agrees_costs_a_takeover_page_and_an_audit() {
    let (mut hand, takeover) = connected(FakeStore::cached([1, 2]), 2);
    assert_eq!(hand.requests(), []);
    hand.grant(&takeover);
    let audit = hand.request();
    assert_eq!(opcodes(std::slice::from_ref(&audit)), [Opcode::ReplayDone]);
    hand.agree(&audit);
    let domain = domain();
    assert_eq!(hand.events(), [Event::AllAcknowledged { domain }, Event::Reconciled { domain }]);
    let next_proof = hand.now + Settings::default().prove_every;
    assert_eq!((hand.requests(), hand.server.poll_timeout()), (vec![], Some(next_proof)), "and nothing else");
    let progress = hand.server.progress();
    assert_eq!((progress.asked, progress.taken_over, progress.updated), (2, 2, 2));
    assert_eq!((hand.store.takeovers, hand.store.updates), (2, 0));
}

#[test]
fn another_count_held_brings_a_listing() {
    for held in [0, 1, 3] {
        let (mut hand, takeover) = connected(FakeStore::cached([1, 2]), held);
        assert_eq!(hand.requests(), [], "no listing runs beside the takeovers");
        hand.grant(&takeover);
        let query = hand.request();
        assert!(is_listing(&query), "{held} held: {query:?}");
    }
}

#[test]
fn what_is_held_is_compared_when_the_link_is_up() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1]));
    hand.held = 2;
    let requests = hand.requests();
    hand.grant(&the(&requests, Opcode::TakeoverBatch));
    assert_eq!(hand.requests(), []);
    hand.connect_ack(&the(&requests, Opcode::Connect), 8);
    assert!(is_listing(&hand.request()));
}

#[test]
fn a_meeting_that_is_missing_is_not_held() {
    let (mut hand, takeover) = connected(FakeStore::cached([1, 2]), 1);
    let results = [result(1, Status::UnknownMeeting), result(2, Status::Ok)];
    hand.page(&takeover, Opcode::TakeoverBatchAck, (0, 1), &results);
    assert_eq!(opcodes(&hand.requests()), [Opcode::ReplayDone]);
}

#[test]
fn a_meeting_answered_more_than_once_is_held_once() {
    let (mut hand, takeover) = connected(FakeStore::cached([1, 2]), 2);
    let results = [result(1, Status::Busy), result(2, Status::Ok), result(2, Status::Ok)];
    hand.page(&takeover, Opcode::TakeoverBatchAck, (0, 1), &results);
    assert_eq!(hand.store.takeovers, 1);
    hand.wait();
    let again = hand.request();
    assert_eq!(entries(&again), [1]);
    hand.grant(&again);
    assert_eq!(opcodes(&hand.requests()), [Opcode::ReplayDone]);
}

#[test]
fn differing_participants_bring_state_of_that_meeting_alone() {
    let (mut hand, takeover) = connected(FakeStore::cached([1, 2, 3]), 3);
    let more = TakeoverResult { participants: 1, ..result(2, Status::Ok) };
    let results = [result(1, Status::Ok), more, result(3, Status::Ok)];
    hand.page(&takeover, Opcode::TakeoverBatchAck, (0, 1), &results);
    let query = hand.request();
    assert_eq!(asked_about(std::slice::from_ref(&query)), [2]);
    hand.page(&query, Opcode::State, (0, 1), &[terminal(2, 1001)]);
    assert_eq!(hand.store.cache[&MeetingId(2)].terminals.len(), 1);
    let audit = hand.request();
    hand.agree(&audit);
    assert!(hand.server.is_reconciled());
    let progress = hand.server.progress();
    assert_eq!((progress.asked, progress.taken_over, progress.updated), (3, 3, 3));
}

#[test]
fn a_differing_audit_brings_a_listing_and_state_only_of_what_differs() {
    let (mut hand, takeover) = connected(FakeStore::cached([1, 2, 3]), 3);
    hand.grant(&takeover);
    let audit = hand.request();
    hand.answer(&audit, Message::Audit { count: 3, digest: 5 });
    let query = hand.request();
    assert!(is_listing(&query));
    hand.page(&query, Opcode::Info, (0, 1), &[ours(1, 1), ours(2, 4), ours(3, 1)]);
    let end = hand.request();
    hand.end_listing(&end);
    let query = hand.request();
    assert_eq!(asked_about(std::slice::from_ref(&query)), [2]);
    hand.page(&query, Opcode::State, (0, 1), &[terminal(2, 1001)]);
    let audit = hand.request();
    hand.agree(&audit);
    assert!(hand.server.is_reconciled());
    assert_eq!((hand.store.takeovers, hand.store.updates), (3, 1));
}

#[test]
fn an_orphan_is_found_through_what_is_held() {
    let (mut hand, takeover) = connected(FakeStore::cached([1]), 2);
    hand.grant(&takeover);
    hand.play(&[ours(1, 1), summary(9, 3)]);
    let orphan = Event::Orphan { domain: domain(), summary: summary(9, 3) };
    assert!(hand.events().contains(&orphan));
    assert!(hand.store.orphans.iter().eq([&MeetingId(9)]));
    assert!(hand.server.is_reconciled());
    assert_eq!(hand.store.updates, 0, "what agrees is not asked about");
}

#[test]
fn what_came_from_the_database_is_asked_about() {
    let mut store = FakeStore::stored([4]);
    store.cache = FakeStore::cached([2]).cache;
    let (mut hand, takeover) = connected(store, 2);
    hand.grant(&takeover);
    let query = hand.request();
    hand.page(&query, Opcode::Info, (0, 1), &[ours(2, 1), summary(4, 1)]);
    let requests = hand.requests();
    let takeover = the(&requests, Opcode::TakeoverBatch);
    assert_eq!(entries(&takeover), [4]);
    hand.end_listing(&the(&requests, Opcode::InfoQuery));
    hand.grant(&takeover);
    assert_eq!(asked_about(&hand.requests()), [4]);
}

#[test]
fn a_restart_in_the_midst_of_the_database_path_still_asks_for_the_states_that_did_not_come() {
    let mut hand = ScriptedPeer::database(FakeStore::stored([1, 2]));
    hand.held = 2;
    let connect = hand.request();
    hand.connect_ack(&connect, 8);
    let query = hand.request();
    hand.end_listing(&query);
    let takeover = hand.request();
    hand.grant(&takeover);
    let queries = hand.requests();
    assert_eq!(asked_about(&queries), [1, 2]);
    hand.page(&queries[0], Opcode::State, (0, 1), &[terminal(1, 1001)]);
    hand.server.restart(hand.now);
    let requests = hand.requests();
    hand.connect_ack(&the(&requests, Opcode::Connect), 8);
    let results = [TakeoverResult { participants: 1, ..result(1, Status::Already) }, result(2, Status::Already)];
    hand.page(&the(&requests, Opcode::TakeoverBatch), Opcode::TakeoverBatchAck, (0, 1), &results);
    let query = hand.request();
    assert_eq!(asked_about(std::slice::from_ref(&query)), [2]);
    hand.page(&query, Opcode::State, (0, 1), &[terminal(2, 1002)]);
    let audit = hand.request();
    hand.agree(&audit);
    assert!(hand.server.is_reconciled());
}

#[test]
fn a_restart_does_not_forget_what_was_in_doubt() {
    let (mut hand, takeover) = connected(FakeStore::cached([1, 2]), 2);
    hand.grant(&takeover);
    let audit = hand.request();
    hand.answer(&audit, Message::Audit { count: 2, digest: 5 });
    let query = hand.request();
    hand.page(&query, Opcode::Info, (0, 1), &[ours(1, 1), ours(2, 4)]);
    // The version is the cache's now, and no later audit will tell that the members of meeting 2
    // were never asked for.
    hand.server.restart(hand.now);
    for _ in 0..2 {
        let requests = hand.requests();
        hand.connect_ack(&the(&requests, Opcode::Connect), 8);
        hand.grant(&the(&requests, Opcode::TakeoverBatch));
        assert_eq!(asked_about(&hand.requests()), [2]);
        hand.server.restart(hand.now);
    }
    hand.play(&[]);
    assert!(hand.server.is_reconciled());
    hand.server.restart(hand.now);
    hand.play(&[]);
    assert_eq!(hand.store.updates, 1, "what was answered is in doubt no more");
}

#[test]
fn a_death_between_a_version_and_its_members_does_not_forget_the_members() {
    let (mut hand, takeover) = connected(FakeStore::cached([1, 2]), 2);
    hand.grant(&takeover);
    let audit = hand.request();
    hand.answer(&audit, Message::Audit { count: 2, digest: 5 });
    let query = hand.request();
    hand.page(&query, Opcode::Info, (0, 1), &[ours(1, 1), ours(2, 4)]);
    let (mut next, takeover) = connected(hand.store, 2);
    next.grant(&takeover);
    let query = next.request();
    assert_eq!(
        asked_about(std::slice::from_ref(&query)),
        [2],
        "its version is the listed one, and its members are not"
    );
    next.page(&query, Opcode::State, (0, 1), &[terminal(2, 1001)]);
    let audit = next.request();
    next.agree(&audit);
    let (mut last, takeover) = connected(next.store, 2);
    last.page(
        &takeover,
        Opcode::TakeoverBatchAck,
        (0, 1),
        &[result(1, Status::Ok), TakeoverResult { participants: 1, ..result(2, Status::Ok) }],
    );
    assert_eq!(opcodes(&last.requests()), [Opcode::ReplayDone], "what was answered is in doubt no more");
}

#[test]
fn a_death_after_the_walk_over_the_database_still_asks_for_all_states() {
    let mut hand = ScriptedPeer::database(FakeStore::stored([1, 2]));
    let connect = hand.request();
    hand.connect_ack(&connect, 8);
    let query = hand.request();
    hand.end_listing(&query);
    // The cache is whole now, and its members are as old as the database's.
    let takeover = hand.request();
    hand.grant(&takeover);
    let (mut next, takeover) = connected(hand.store, 2);
    next.grant(&takeover);
    assert_eq!(asked_about(&next.requests()), [1, 2]);
}

#[test]
fn a_meeting_started_meanwhile_does_not_make_up_for_an_orphan() {
    // CONNECT_ACK counted meeting 1 and an orphan; a client started meeting 2 after it and before
    // the sweep came there.
    let (mut hand, takeover) = connected(FakeStore::cached([1, 2]), 2);
    hand.page(&takeover, Opcode::TakeoverBatchAck, (0, 1), &[result(1, Status::Ok), result(2, Status::Already)]);
    assert!(is_listing(&hand.request()));
}
