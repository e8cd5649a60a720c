//! Listing, looking up, and what nobody knows.

use std::time::Duration;

use super::fake_store::FakeStore;
use super::scripted_peer::{ScriptedPeer, domain, entries, opcodes, summary, the};
use crate::limits::ORPHANS_MAX;
use crate::recovery::{Body, Event, Orphans, Path, Phase, Request, Settings};
use crate::wire::{Epoch, MeetingId, MeetingState, MeetingSummary, Message, Opcode, Status};

fn first(request: &Request) -> u64 {
    match request.body {
        Body::Message(Message::InfoQuery { first }) => first.0,
        ref other => panic!("not INFO_QUERY: {other:?}"),
    }
}

/// A machine on the database path whose link is up, and its first INFO_QUERY.
fn listing(store: FakeStore, settings: Settings) -> (ScriptedPeer, Request) {
    let mut hand = ScriptedPeer::new(Path::Database, store, settings);
    let connect = hand.request();
    hand.connect_ack(&connect, 8);
    let query = hand.request();
    (hand, query)
}

#[test]
fn pages_come_in_any_order_and_the_next_transaction_begins_behind_the_last() {
    let (mut hand, query) = listing(FakeStore::stored(1..=6), Settings::default());
    hand.page(&query, Opcode::Info, (2, 3), &[summary(5, 1), summary(6, 1)]);
    hand.page(&query, Opcode::Info, (0, 3), &[summary(1, 1), summary(2, 1)]);
    hand.page(&query, Opcode::Info, (0, 3), &[summary(1, 1), summary(2, 1)]);
    assert_eq!(hand.requests(), []);
    hand.page(&query, Opcode::Info, (1, 3), &[summary(3, 1), summary(4, 1)]);
    let next = hand.request();
    assert_eq!(first(&next), 7);
    hand.end_listing(&next);
    assert_eq!(entries(&hand.request()), [5, 6, 1, 2, 3, 4]);
}

#[test]
fn behind_a_lost_page_is_asked_again_from_the_last_contiguous_id() {
    let (mut hand, query) = listing(FakeStore::stored(1..=6), Settings::default());
    hand.page(&query, Opcode::Info, (0, 3), &[summary(1, 1), summary(2, 1)]);
    hand.page(&query, Opcode::Info, (2, 3), &[summary(5, 1), summary(6, 1)]);
    hand.wait();
    let again = hand.request();
    assert_eq!(first(&again), 3);
    assert_ne!(again.header.transaction, query.header.transaction, "pages of two answers never mix");
    hand.page(&query, Opcode::Info, (1, 3), &[summary(3, 1), summary(4, 1)]);
    assert_eq!(hand.server.progress().asked, 4, "a page of the old transaction came too late");
}

#[test]
fn listing_ends_behind_the_highest_id_there_can_be() {
    let (mut hand, query) = listing(FakeStore::stored([u64::MAX - 1]), Settings::default());
    let last = MeetingSummary { state: MeetingState::Ended, ..summary(u64::MAX, 1) };
    hand.page(&query, Opcode::Info, (0, 1), &[summary(u64::MAX - 1, 1), last]);
    assert_eq!(entries(&hand.request()), [u64::MAX - 1]);
}

#[test]
fn a_listing_that_is_not_ascending_is_sorted_and_goes_forward() {
    let (mut hand, query) = listing(FakeStore::stored(1..=3), Settings::default());
    hand.page(&query, Opcode::Info, (0, 1), &[summary(2, 1), summary(1, 1), summary(2, 1)]);
    let bad = |meeting| Event::BadRecord { domain: domain(), opcode: Opcode::Info, meeting: MeetingId(meeting) };
    assert_eq!(hand.events(), [bad(2)], "one came twice");
    let next = hand.request();
    assert_eq!(first(&next), 3);
    hand.page(&next, Opcode::Info, (0, 1), &[summary(1, 1), summary(3, 1)]);
    assert_eq!(hand.server.progress().malformed, 2, "an id before the one asked for would let it go round for ever");
    let next = hand.request();
    assert_eq!(first(&next), 4);
    hand.page(&next, Opcode::Info, (0, 1), &[summary(3, 1)]);
    assert_eq!(entries(&hand.request()), [1, 2, 3], "nothing more is listed");
    assert_eq!(hand.events(), [], "such an alarm is given once");
}

/// As of any answer: what somebody recorded and repeats is neither looked up again nor put in place
/// of what was lost.
#[test]
fn a_page_that_is_repeated_does_not_put_off_asking_for_the_lost_one() {
    let (mut hand, query) = listing(FakeStore::default(), Settings::default());
    let mut asked = Vec::new();
    for _ in 0..1000 {
        hand.page(&query, Opcode::Info, (0, 2), &[summary(9, 3)]);
        hand.sleep(Duration::from_millis(5));
        asked.extend(hand.requests());
        if !asked.is_empty() {
            break;
        }
    }
    assert_eq!(opcodes(&asked), [Opcode::InfoQuery]);
}

#[test]
fn an_orphan_is_alarmed_and_left() {
    let (mut hand, query) = listing(FakeStore::default(), Settings::default());
    hand.page(&query, Opcode::Info, (0, 1), &[summary(9, 3)]);
    hand.page(&query, Opcode::Info, (0, 1), &[summary(9, 3)]);
    assert_eq!(hand.events(), [Event::Orphan { domain: domain(), summary: summary(9, 3) }]);
    hand.play(&[]);
    assert!(hand.store.orphans.iter().eq([&MeetingId(9)]) && hand.store.takeovers == 0);
    assert!(hand.server.is_reconciled());
    assert_eq!(hand.server.report().orphan_meetings, [MeetingId(9)]);
}

#[test]
fn an_orphan_is_adopted_where_that_is_set() {
    let (mut hand, query) = listing(FakeStore::default(), Settings { orphans: Orphans::Adopt, ..Settings::default() });
    hand.page(&query, Opcode::Info, (0, 1), &[summary(9, 3)]);
    hand.play(&[summary(9, 3)]);
    assert_eq!((hand.store.state(9), hand.store.updates), (MeetingState::InMeeting, 1));
    assert!(hand.server.is_reconciled());
}

#[test]
fn an_orphan_is_ended_where_that_is_set() {
    let (mut hand, query) = listing(FakeStore::default(), Settings { orphans: Orphans::End, ..Settings::default() });
    hand.page(&query, Opcode::Info, (0, 1), &[summary(8, 1), summary(9, 3)]);
    let requests = hand.requests();
    use Opcode::{InfoQuery, MeetingEnd, MeetingEndAck};
    assert_eq!(opcodes(&requests), [InfoQuery, MeetingEnd, MeetingEnd]);
    assert_eq!(requests[1].header.meeting, MeetingId(8));
    hand.end_listing(&requests[0]);
    assert!(hand.answer(&requests[1], Message::MeetingAck { opcode: MeetingEndAck, version: 2 }));
    assert_eq!(hand.requests(), [], "the audit waits for the last of them");
    hand.refuse(&requests[2], Status::UnknownMeeting, 0);
    hand.play(&[]);
    assert!(hand.server.is_reconciled());
}

#[test]
fn ending_many_orphans_asks_once_whether_each_of_them_still_is_one() {
    let settings = Settings { orphans: Orphans::End, ..Settings::default() };
    let (mut hand, mut query) = listing(FakeStore::default(), settings);
    let all: Vec<_> = (1..=1000).map(|meeting| summary(meeting, 1)).collect();
    let mut ends = 0;
    for page in all.chunks(21).chain([&[][..]]) {
        hand.page(&query, Opcode::Info, (0, 1), page);
        for request in hand.requests() {
            if request.opcode() == Opcode::InfoQuery.wire() {
                query = request;
            } else {
                ends += 1;
                hand.answer(&request, Message::MeetingAck { opcode: Opcode::MeetingEndAck, version: 2 });
            }
        }
    }
    while let Some(request) = hand.requests().pop() {
        if request.opcode() != Opcode::MeetingEnd.wire() {
            break;
        }
        ends += 1;
        hand.answer(&request, Message::MeetingAck { opcode: Opcode::MeetingEndAck, version: 2 });
        hand.wait();
    }
    assert!(ends > 900, "{ends}");
    assert!(hand.store.looks.get() <= 3 * all.len() as u32, "{} looks", hand.store.looks.get());
}

#[test]
fn what_ended_on_either_side_is_no_orphan() {
    let mut store = FakeStore::default();
    store.ended.insert(MeetingId(1));
    let (mut hand, query) = listing(store, Settings::default());
    let ended = MeetingSummary { state: MeetingState::Ended, ..summary(2, 4) };
    hand.page(&query, Opcode::Info, (0, 1), &[summary(1, 4), ended]);
    assert_eq!(hand.events(), [Event::Remnant { domain: domain(), meeting: MeetingId(1) }]);
    let requests = hand.requests();
    assert_eq!(opcodes(&requests), [Opcode::InfoQuery, Opcode::MeetingEnd], "somebody was told that it has ended");
    hand.answer(&requests[1], Message::MeetingAck { opcode: Opcode::MeetingEndAck, version: 5 });
    hand.end_listing(&requests[0]);
    hand.play(&[]);
    assert!(hand.server.is_reconciled() && hand.store.orphans.is_empty());
}

#[test]
fn what_cannot_be_looked_up_yet_is_looked_up_later_and_holds_nothing_up() {
    let mut store = FakeStore::stored([4]);
    store.cache = FakeStore::cached([2]).cache;
    store.database_closed = true;
    let mut hand = ScriptedPeer::cache(store);
    let ours = MeetingSummary { controller: super::scripted_peer::EPOCH, ..summary(2, 1) };
    let held = [ours, summary(4, 1)];
    hand.held = 2;
    hand.play(&held);
    let domain = domain();
    assert_eq!(hand.events(), [Event::AllAcknowledged { domain }, Event::Reconciled { domain }], "not an orphan");
    for _ in 0..3 {
        hand.wait();
        assert_eq!(hand.requests(), [], "and nothing is listed again for it");
    }
    hand.store.database_closed = false;
    hand.wait();
    assert_eq!(entries(&hand.request()), [4]);
    hand.wait();
    hand.play(&held);
    assert!(hand.server.is_reconciled());
    assert_eq!(hand.store.takeovers, 2);
}

#[test]
fn without_a_database_for_good_what_is_not_known_is_left_alone() {
    let mut store = FakeStore::cached([2]);
    (store.database_closed, store.database_lost) = (true, true);
    let mut hand = ScriptedPeer::new(Path::Cache, store, Settings { orphans: Orphans::End, ..Settings::default() });
    hand.held = 2;
    hand.play(&[MeetingSummary { controller: super::scripted_peer::EPOCH, ..summary(2, 1) }, summary(4, 1)]);
    assert!(hand.server.is_reconciled());
    assert!(hand.store.orphans.iter().eq([&MeetingId(4)]), "nobody can say that it is not ours");
}

#[test]
fn a_meeting_that_ended_and_is_listed_again_is_looked_up_again() {
    let mut hand = ScriptedPeer::database(FakeStore::stored([7]));
    hand.play(&[summary(7, 1)]);
    assert!(hand.server.is_reconciled());
    // A client ends it; the autonomous server loses its memory of that.
    hand.store = FakeStore::default();
    hand.store.ended.insert(MeetingId(7));
    hand.server.doubt();
    let audit = hand.request();
    hand.answer(&audit, Message::Audit { count: 1, digest: 9 });
    hand.events();
    let query = hand.request();
    hand.page(
        &query,
        Opcode::Info,
        (0, 1),
        &[MeetingSummary { controller: super::scripted_peer::EPOCH, ..summary(7, 1) }],
    );
    assert_eq!(hand.events(), [Event::Remnant { domain: domain(), meeting: MeetingId(7) }]);
}

#[test]
fn a_stranger_under_our_number_is_an_orphan_and_ours_is_missing() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([7]));
    hand.store.strangers.insert(MeetingId(7));
    hand.play(&[]);
    assert!(hand.server.is_reconciled());
    hand.server.doubt();
    let audit = hand.request();
    hand.answer(&audit, Message::Audit { count: 0, digest: 0 });
    hand.events();
    let query = hand.request();
    let stranger = summary(7, 1);
    hand.page(&query, Opcode::Info, (0, 1), &[stranger]);
    let (domain, meeting) = (domain(), MeetingId(7));
    assert_eq!(hand.events(), [Event::Missing { domain, meeting }, Event::Orphan { domain, summary: stranger }]);
    hand.play(&[stranger]);
    assert!(hand.server.is_reconciled() && hand.store.state(7) == MeetingState::Missing);
    assert_eq!(hand.store.takeovers, 1, "it is not taken over, though its number is one of ours");
}

#[test]
fn orphans_beyond_their_bound_are_counted_and_the_list_shrinks_again() {
    let (mut hand, mut query) = listing(FakeStore::default(), Settings::default());
    let all: Vec<_> = (1..=ORPHANS_MAX as u64 + 30).map(|meeting| summary(meeting, 1)).collect();
    for page in all.chunks(21) {
        hand.page(&query, Opcode::Info, (0, 1), page);
        query = hand.request();
    }
    hand.end_listing(&query);
    let told = hand.events().iter().filter(|event| matches!(event, Event::Orphan { .. })).count();
    assert_eq!((told, hand.store.orphans.len()), (ORPHANS_MAX, ORPHANS_MAX));
    assert_eq!(hand.server.progress().orphans as usize, all.len());
    hand.play(&[]);
    // All but three have ended at their server.
    let left = &all[..3];
    (0..2).for_each(|_| hand.heartbeat(3, 1, 0));
    hand.play(left);
    assert!(hand.store.orphans.iter().copied().eq(left.iter().map(|summary| summary.meeting)));
    assert_eq!(hand.server.progress().orphans, 3);
}

#[test]
fn listing_behind_the_takeovers_asks_for_nothing_twice() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached(1..=2));
    hand.held = 3;
    let requests = hand.requests();
    hand.connect_ack(&the(&requests, Opcode::Connect), 8);
    hand.grant(&the(&requests, Opcode::TakeoverBatch));
    let query = hand.request();
    let ours =
        |meeting, version| MeetingSummary { controller: super::scripted_peer::EPOCH, ..summary(meeting, version) };
    hand.page(&query, Opcode::Info, (0, 1), &[ours(1, 5), ours(2, 1)]);
    assert_eq!(hand.store.cache[&MeetingId(1)].version, 5);
    hand.play(&[]);
    assert_eq!((hand.store.takeovers, hand.store.updates), (2, 1));
    assert!(hand.server.is_reconciled());
}

#[test]
fn what_was_started_under_this_epoch_is_not_taken_over_again() {
    let mut store = FakeStore::default();
    let (mut hand, query) = {
        store.database = FakeStore::cached([7]).cache;
        listing(store, Settings::default())
    };
    hand.store.cache = FakeStore::cached([7]).cache;
    hand.store.cache.get_mut(&MeetingId(7)).unwrap().epoch = super::scripted_peer::EPOCH;
    let ours = MeetingSummary { controller: super::scripted_peer::EPOCH, ..summary(7, 2) };
    hand.page(&query, Opcode::Info, (0, 1), &[ours]);
    hand.play(&[ours]);
    assert_eq!((hand.store.takeovers, hand.store.updates), (0, 1));
    assert!(hand.server.is_reconciled());
}

#[test]
fn a_meeting_of_no_id_is_nobodys() {
    let (mut hand, query) = listing(FakeStore::default(), Settings::default());
    let nobody = MeetingSummary { controller: Epoch::NONE, ..summary(0, 1) };
    hand.page(&query, Opcode::Info, (0, 1), &[nobody]);
    let meeting = MeetingId::NONE;
    assert_eq!(hand.events(), [Event::BadRecord { domain: domain(), opcode: Opcode::Info, meeting }]);
    hand.play(&[]);
    assert!(hand.server.is_reconciled());
}

#[test]
fn a_database_that_cannot_be_read_is_not_at_its_end() {
    let mut hand = ScriptedPeer::database(FakeStore::stored([1, 2]));
    hand.store.database_closed = true;
    let connect = hand.request();
    hand.connect_ack(&connect, 8);
    let query = hand.request();
    hand.end_listing(&query);
    for _ in 0..3 {
        assert_eq!((hand.requests(), hand.server.phase()), (vec![], Phase::TakingOver), "nothing is proven yet");
        hand.wait();
    }
    hand.store.database_closed = false;
    assert_eq!(entries(&hand.request()), [1, 2]);
}
