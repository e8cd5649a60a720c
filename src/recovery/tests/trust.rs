//! Records that cannot be, or that are about somebody else's terminal; and refusals: each concerns
//! its own meeting alone.

use std::time::Duration;

use super::fake_store::FakeStore;
use super::scripted_peer::{ScriptedPeer, domain, entries, result, summary, terminal, the};
use crate::limits::{ATTEMPTS_SAID_AFTER, NONSENSE_MAX};
use crate::recovery::{Event, Request, Settings};
use crate::wire::{Address, Domain, MeetingId, Opcode, Status, TerminalState};

/// Where the value stands in a MeetingSummary's, a TakeoverResult's and a TerminalState's bytes
/// that the tests spoil.
const STATE_AT: usize = 24;
const STATUS_AT: usize = 8;
const BUSINESS_AT: usize = 20;
const NO_VALUE: u8 = 99;

fn bad(opcode: Opcode, meeting: u64) -> Event {
    Event::BadRecord { domain: domain(), opcode, meeting: MeetingId(meeting) }
}

/// A machine with one meeting taken over that has members 1001 and 1002, and its STATE_QUERY.
fn asked() -> (ScriptedPeer, Request) {
    let mut store = FakeStore::cut_short([1]);
    let item = store.cache.get_mut(&MeetingId(1)).unwrap();
    item.terminals = [1001, 1002].map(|device| (domain().device(device), terminal(1, device))).into();
    let mut hand = ScriptedPeer::cache(store);
    let requests = hand.requests();
    hand.connect_ack(&the(&requests, Opcode::Connect), 8);
    hand.grant(&the(&requests, Opcode::TakeoverBatch));
    let query = hand.request();
    hand.events();
    (hand, query)
}

fn members(hand: &ScriptedPeer) -> Vec<u16> {
    hand.store.cache[&MeetingId(1)].terminals.keys().map(|terminal| terminal.device()).collect()
}

#[test]
fn a_summary_that_cannot_be_is_passed_over_and_told_once() {
    let mut hand = ScriptedPeer::database(FakeStore::stored([1, 2, 3, 4]));
    let connect = hand.request();
    hand.connect_ack(&connect, 8);
    let query = hand.request();
    let listed = [1, 2, 3, 4].map(|meeting| summary(meeting, 1));
    hand.spoilt(&query, Opcode::Info, &listed, |records| {
        records[48 + STATE_AT] = NO_VALUE;
        records[3 * 48 + STATE_AT] = NO_VALUE;
    });
    assert_eq!(hand.events(), [bad(Opcode::Info, 2)]);
    assert_eq!(hand.server.progress().malformed, 2);
    let end = hand.request();
    assert_eq!(end.body, crate::recovery::Body::Message(crate::wire::Message::InfoQuery { first: MeetingId(5) }));
    hand.end_listing(&end);
    assert_eq!(entries(&hand.request()), [1, 3, 2, 4], "what it could not say it is asked for by name");
}

#[test]
fn pages_of_nothing_but_bad_records_do_not_end_the_listing() {
    let mut hand = ScriptedPeer::database(FakeStore::default());
    let connect = hand.request();
    hand.connect_ack(&connect, 8);
    let query = hand.request();
    hand.spoilt(&query, Opcode::Info, &[summary(4, 1)], |records| records[STATE_AT] = NO_VALUE);
    let next = hand.request();
    hand.page(&next, Opcode::Info, (0, 1), &[summary(5, 1)]);
    assert!(hand.store.orphans.contains(&MeetingId(5)));
}

#[test]
fn a_result_that_cannot_be_refuses_its_meeting_alone() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1, 2, 3]));
    let requests = hand.requests();
    hand.connect_ack(&the(&requests, Opcode::Connect), 8);
    let results = [1, 2, 3].map(|meeting| result(meeting, Status::Ok));
    let takeover = the(&requests, Opcode::TakeoverBatch);
    hand.spoilt(&takeover, Opcode::TakeoverBatchAck, &results, |records| records[16 + STATUS_AT] = NO_VALUE);
    assert_eq!((hand.store.takeovers, hand.server.progress().refused), (2, 1));
    assert!(hand.events().contains(&bad(Opcode::TakeoverBatchAck, 2)));
    hand.play(&[]);
    assert!(hand.server.is_reconciled());
    hand.wait();
    assert_eq!(entries(&hand.request()), [2], "and it is not given up");
}

#[test]
fn a_refused_takeover_is_tried_again_with_growing_pauses_until_it_is_given() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1, 2]));
    let requests = hand.requests();
    hand.connect_ack(&the(&requests, Opcode::Connect), 8);
    let mut takeover = the(&requests, Opcode::TakeoverBatch);
    hand.page(&takeover, Opcode::TakeoverBatchAck, (0, 1), &[result(1, Status::Conflict), result(2, Status::Ok)]);
    hand.play(&[]);
    assert!(hand.server.is_reconciled());
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let before = hand.now;
        takeover = loop {
            hand.wait();
            let mut requests = hand.requests();
            requests.iter().filter(|request| !request.is_takeover()).for_each(|audit| hand.agree(audit));
            requests.retain(Request::is_takeover);
            if let Some(takeover) = requests.pop() {
                break takeover;
            }
        };
        assert_eq!(entries(&takeover), [1]);
        pauses.push(hand.now.since(before).as_secs());
        hand.page(&takeover, Opcode::TakeoverBatchAck, (0, 1), &[result(1, Status::Conflict)]);
    }
    assert_eq!(pauses, [1, 2, 4]);
    hand.sleep(Duration::from_secs(60));
    let takeover = the(&hand.requests(), Opcode::TakeoverBatch);
    hand.grant(&takeover);
    hand.play(&[]);
    let progress = hand.server.progress();
    assert_eq!((progress.refused, hand.store.takeovers), (0, 2));
}

#[test]
fn answers_about_nothing_that_was_asked_do_not_hold_the_domain_up() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1, 2]));
    let requests = hand.requests();
    hand.connect_ack(&the(&requests, Opcode::Connect), 8);
    let takeover = the(&requests, Opcode::TakeoverBatch);
    for _ in 0..NONSENSE_MAX {
        hand.page(&takeover, Opcode::TakeoverBatchAck, (0, 1), &[result(99, Status::Ok)]);
    }
    assert_eq!(hand.server.progress().refused, 2);
    hand.play(&[]);
    assert!(hand.server.is_reconciled());
}

#[test]
fn a_terminal_whose_record_cannot_be_read_stays_what_it_is() {
    let (mut hand, query) = asked();
    let listed = [1002, 1003].map(|device| terminal(1, device));
    hand.spoilt(&query, Opcode::State, &listed, |records| records[BUSINESS_AT] = NO_VALUE);
    assert_eq!(members(&hand), [1002, 1003], "1001 has left, and 1002 has not");
    assert_eq!((hand.events(), hand.store.unread.len()), (vec![bad(Opcode::State, 1)], 1));
    hand.play(&[]);
    assert!(hand.server.is_reconciled());
}

#[test]
fn nobody_has_left_a_list_that_cannot_be_read_to_its_end() {
    let (mut hand, query) = asked();
    // The length of its information is no length: where the next one begins nobody can say.
    hand.spoilt(&query, Opcode::State, &[terminal(1, 1002), terminal(1, 1003)], |records| records[26] = NO_VALUE);
    assert_eq!(members(&hand), [1001, 1002]);
    hand.play(&[]);
    assert!(hand.server.is_reconciled());
}

#[test]
fn terminals_of_another_domain_and_what_is_no_terminal_are_dropped_and_told_once() {
    let (mut hand, query) = asked();
    let other = Domain::new(367).unwrap();
    let named = |terminal, device| TerminalState { terminal, ..super::scripted_peer::terminal(1, device) };
    let strange = [other.device(1002), domain().server(), Address::from_number(1002)];
    let listed = [strange.map(|address| named(address, 1)).as_slice(), &[terminal(1, 1001)]].concat();
    hand.page(&query, Opcode::State, (0, 1), &listed);
    assert_eq!(members(&hand), [1001]);
    assert_eq!(hand.events(), [Event::Foreign { domain: domain(), terminal: strange[0] }]);
    assert_eq!(hand.server.progress().foreign, 3);
}

#[test]
fn a_refused_state_concerns_its_meeting_alone_and_is_asked_for_again() {
    let (mut hand, query) = asked();
    hand.refuse(&query, Status::Malformed, 0);
    assert!(matches!(hand.events()[..], [Event::Refused { meeting: MeetingId(1), status: Status::Malformed, .. }]));
    hand.play(&[]);
    assert!(hand.server.is_reconciled());
    hand.wait();
    let again = the(&hand.requests(), Opcode::StateQuery);
    hand.page(&again, Opcode::State, (0, 1), &[terminal(1, 1001)]);
    assert_eq!(members(&hand), [1001]);
}

#[test]
fn a_state_that_never_has_room_is_put_off() {
    let (mut hand, mut query) = asked();
    for _ in 0..=ATTEMPTS_SAID_AFTER {
        hand.refuse(&query, Status::Capacity, 0);
        if hand.requests().iter().any(|request| request.opcode() == Opcode::ReplayDone.wire()) {
            return;
        }
        hand.sleep(Settings::default().rto_max);
        query = the(&hand.requests(), Opcode::StateQuery);
    }
    panic!("it holds the domain up");
}

#[test]
fn a_refused_listing_is_given_up_and_what_is_held_is_asked_for_by_name() {
    let mut hand = ScriptedPeer::database(FakeStore::stored([1]));
    let connect = hand.request();
    hand.connect_ack(&connect, 8);
    for _ in 0..=ATTEMPTS_SAID_AFTER {
        let request = hand.request();
        if request.is_takeover() {
            break;
        }
        hand.refuse(&request, Status::Malformed, 0);
        hand.sleep(Settings::default().rto_max);
    }
    hand.play(&[]);
    assert!(hand.server.is_reconciled() && hand.store.takeovers == 1);
}

#[test]
fn what_is_never_answered_is_said_once() {
    let mut hand = ScriptedPeer::cache(FakeStore::default());
    for _ in 0..3 * ATTEMPTS_SAID_AFTER {
        hand.requests();
        hand.wait();
    }
    let (domain, meeting) = (domain(), MeetingId::NONE);
    let said: Vec<_> = hand.events().into_iter().filter(|event| matches!(event, Event::Unanswered { .. })).collect();
    assert_eq!(said, [Event::Unanswered { domain, opcode: Opcode::Connect, meeting }]);
}
