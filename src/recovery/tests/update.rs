//! Update backwards.

use std::time::{Duration, Instant};

use super::fake_store::FakeStore;
use super::scripted_peer::{ScriptedPeer, summary, terminal, the};
use crate::recovery::Request;
use crate::wire::{MeetingId, Opcode, Status};

/// A machine with one meeting taken over that has other members than the cache knows, and its
/// STATE_QUERY.
fn taken() -> (ScriptedPeer, Request) {
    let mut hand = ScriptedPeer::cache(FakeStore::cut_short([1]));
    let requests = hand.requests();
    hand.connect_ack(&the(&requests, Opcode::Connect), 8);
    hand.grant(&the(&requests, Opcode::TakeoverBatch));
    let query = hand.request();
    assert_eq!((query.opcode(), query.header.meeting), (Opcode::StateQuery.wire(), MeetingId(1)));
    (hand, query)
}

fn members(hand: &ScriptedPeer) -> Vec<u16> {
    hand.store.cache[&MeetingId(1)].terminals.keys().map(|terminal| terminal.device()).collect()
}

#[test]
fn only_a_whole_answer_counts() {
    let (mut hand, query) = taken();
    hand.page(&query, Opcode::State, (1, 3), &[terminal(1, 1003)]);
    hand.page(&query, Opcode::State, (0, 3), &[terminal(1, 1001), terminal(1, 1002)]);
    hand.page(&query, Opcode::State, (0, 3), &[terminal(1, 1001), terminal(1, 1002)]);
    assert_eq!(hand.store.updates, 0, "who is on the third page has not left");
    hand.page(&query, Opcode::State, (2, 3), &[terminal(1, 1004)]);
    assert_eq!(members(&hand), [1001, 1002, 1003, 1004]);
}

/// An autonomous server that keeps the last of many pages back and repeats another one would have
/// all of them looked through each time, a thousand times a second, and no other domain heard
/// meanwhile. Times are held against each other in one run.
#[test]
fn a_repeated_page_costs_no_more_the_more_pages_came() {
    let fastest = |pages: u16| {
        let (mut hand, query) = taken();
        let page = |number: u16| -> Vec<_> { (0..30).map(|at| terminal(1, 1 + number * 30 + at)).collect() };
        for number in 0..pages - 1 {
            hand.page(&query, Opcode::State, (number, pages), &page(number));
        }
        let first = page(0);
        let repeat = |_| {
            let began = Instant::now();
            hand.page(&query, Opcode::State, (0, pages), &first);
            began.elapsed()
        };
        (0..20).map(repeat).min().unwrap()
    };
    let (few, many) = (fastest(4), fastest(1024));
    assert!(many < few * 20, "{few:?} with 4 pages, {many:?} with 1,024");
}

/// Who has recorded a page can send it again for ever, without any key: it must not stand for the
/// page that was lost.
#[test]
fn a_page_that_is_repeated_does_not_put_off_asking_for_the_lost_one() {
    let (mut hand, query) = taken();
    let mut asked = 0;
    for _ in 0..1000 {
        hand.page(&query, Opcode::State, (0, 2), &[terminal(1, 1001)]);
        hand.sleep(Duration::from_millis(5));
        asked += hand.requests().iter().filter(|request| request.opcode() == Opcode::StateQuery.wire()).count();
    }
    assert!(asked > 3, "{asked} in five seconds");
}

#[test]
fn a_lost_page_is_had_by_asking_the_same_again() {
    let (mut hand, query) = taken();
    hand.page(&query, Opcode::State, (1, 2), &[terminal(1, 1002)]);
    hand.wait();
    let again = hand.request();
    assert_eq!(again, query, "one transaction, one answer: its pages fit those that came");
    hand.page(&again, Opcode::State, (0, 2), &[terminal(1, 1001)]);
    assert_eq!(members(&hand), [1001, 1002]);
}

#[test]
fn an_answer_to_a_question_older_than_the_part_is_asked_anew() {
    let (mut hand, query) = taken();
    // A member was added meanwhile, and the answer does not know of it.
    hand.store.cache.get_mut(&MeetingId(1)).unwrap().version = 2;
    hand.page(&query, Opcode::State, (0, 1), &[terminal(1, 1001)]);
    assert_eq!(hand.store.updates, 0);
    let again = hand.request();
    assert_ne!(again.header.transaction, query.header.transaction, "the old transaction's answer is the old one");
    hand.page(&again, Opcode::State, (0, 1), &[terminal(1, 1001), terminal(1, 1002)]);
    assert_eq!(members(&hand), [1001, 1002]);
}

#[test]
fn answers_of_two_lengths_to_one_transaction_are_both_dropped() {
    let (mut hand, query) = taken();
    hand.page(&query, Opcode::State, (0, 2), &[terminal(1, 1001)]);
    hand.page(&query, Opcode::State, (2, 3), &[terminal(1, 1003)]);
    let again = hand.request();
    hand.page(&again, Opcode::State, (0, 1), &[terminal(1, 1009)]);
    assert_eq!(members(&hand), [1009]);
}

#[test]
fn terminals_of_another_meeting_are_not_written() {
    let (mut hand, query) = taken();
    hand.page(&query, Opcode::State, (0, 1), &[terminal(2, 1001), terminal(1, 1002)]);
    assert_eq!(members(&hand), [1002]);
}

#[test]
fn a_record_held_by_another_writer_is_asked_for_again() {
    let (mut hand, query) = taken();
    hand.store.later = 1;
    hand.page(&query, Opcode::State, (0, 1), &[terminal(1, 1001)]);
    assert_eq!(hand.requests(), [], "not at once: a writer needs its time");
    hand.wait();
    let again = hand.request();
    hand.page(&again, Opcode::State, (0, 1), &[terminal(1, 1001)]);
    assert_eq!(members(&hand), [1001]);
}

#[test]
fn what_an_operation_holds_up_is_asked_for_with_growing_pauses() {
    let (mut hand, mut query) = taken();
    hand.store.later = 7;
    let mut pauses = Vec::new();
    for _ in 0..7 {
        hand.page(&query, Opcode::State, (0, 1), &[terminal(1, 1001)]);
        let before = hand.now;
        hand.wait();
        pauses.push(hand.now.since(before).as_millis());
        query = hand.request();
    }
    assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000]);
}

#[test]
fn a_meeting_ended_meanwhile_is_forgotten() {
    let (mut hand, query) = taken();
    hand.store.cache.clear();
    hand.refuse(&query, Status::UnknownMeeting, 0);
    hand.play(&[]);
    assert!(hand.server.is_reconciled());
    assert_eq!(hand.server.progress().missing, 0);
}

#[test]
fn a_newer_listing_has_the_members_asked_for_again() {
    let mut hand = ScriptedPeer::cache(FakeStore::cut_short([1]));
    hand.held = 2;
    let requests = hand.requests();
    hand.connect_ack(&the(&requests, Opcode::Connect), 8);
    hand.grant(&the(&requests, Opcode::TakeoverBatch));
    let requests = hand.requests();
    let query = the(&requests, Opcode::StateQuery);
    hand.page(&query, Opcode::State, (0, 1), &[terminal(1, 1001)]);
    assert_eq!(hand.store.updates, 1);
    hand.page(&the(&requests, Opcode::InfoQuery), Opcode::Info, (0, 1), &[summary(1, 6)]);
    let query = the(&hand.requests(), Opcode::StateQuery);
    hand.page(&query, Opcode::State, (0, 1), &[terminal(1, 1001), terminal(1, 1002)]);
    assert_eq!(members(&hand), [1001, 1002]);
}
