//! What the steps share: repetition, BUSY, epochs, beginning again; and the machines of several
//! domains.

use std::time::Duration;

use super::fake_store::FakeStore;
use super::scripted_peer::{EPOCH, ScriptedPeer, domain, opcodes, result, summary, the};
use crate::recovery::{Event, Path, Phase, Recovery, Report, Settings};
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Header, Message, Opcode, Status};

#[test]
fn the_unanswered_is_repeated_for_ever_with_growing_pauses() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1]));
    let first = hand.requests();
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let before = hand.now;
        hand.wait();
        pauses.push(hand.now.since(before).as_millis());
        let mut again = hand.requests();
        // The first takeover goes before CONNECT, once.
        again.sort_by_key(|request| !request.is_takeover());
        assert_eq!(again, first);
    }
    assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000, 1000, 1000]);
    assert_eq!(hand.server.progress().repeated, 20);
}

#[test]
fn busy_is_honoured_and_asked_again_anew() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1]));
    let requests = hand.requests();
    let takeover = the(&requests, Opcode::TakeoverBatch);
    hand.connect_ack(&the(&requests, Opcode::Connect), 4);
    hand.refuse(&takeover, Status::Busy, 500_000_000);
    let asked = hand.now;
    while hand.now < asked + Duration::from_millis(499) {
        assert_eq!(hand.requests(), [], "at {:?}", hand.now);
        hand.sleep(Duration::from_millis(1));
    }
    assert_eq!(hand.server.poll_timeout(), Some(asked + Duration::from_millis(500)));
    hand.wait();
    let again = the(&hand.requests(), Opcode::TakeoverBatch);
    assert_eq!(again.body, takeover.body);
    assert_ne!(again.header.transaction, takeover.header.transaction, "BUSY may be remembered as the answer");
}

#[test]
fn a_nonsense_busy_does_not_stop_recovery() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1]));
    let takeover = the(&hand.requests(), Opcode::TakeoverBatch);
    hand.refuse(&takeover, Status::Busy, u64::MAX);
    hand.sleep(Settings::default().busy_max);
    assert!(hand.requests().iter().any(|request| request.is_takeover()));
}

#[test]
fn a_newer_controller_stops_all_at_once() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached(1..=200));
    let takeover = the(&hand.requests(), Opcode::TakeoverBatch);
    let highest = Epoch::new(1, 8);
    hand.refuse(&takeover, Status::StaleEpoch, highest.0);
    assert_eq!(hand.events(), [Event::Stale { domain: domain(), highest }]);
    hand.grant(&takeover);
    hand.sleep(Duration::from_secs(3600));
    assert_eq!((hand.requests(), hand.server.poll_timeout()), (vec![], None));
    assert_eq!((hand.server.phase(), hand.store.takeovers), (Phase::Stale, 0));
    hand.server.restart(hand.now);
    assert_eq!(hand.requests(), [], "who was fenced off does not begin again");
}

#[test]
fn a_newer_controller_may_be_learned_of_from_connect_ack() {
    let mut hand = ScriptedPeer::cache(FakeStore::default());
    let connect = the(&hand.requests(), Opcode::Connect);
    let highest_epoch = Epoch::new(2, 1);
    hand.answer(&connect, Message::ConnectAck { highest_epoch, boot_generation: 1, held: 0, window: 1 });
    assert_eq!(hand.server.phase(), Phase::Stale);
}

#[test]
fn stale_under_no_newer_epoch_stops_nothing() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1]));
    let takeover = the(&hand.requests(), Opcode::TakeoverBatch);
    hand.refuse(&takeover, Status::StaleEpoch, EPOCH.0);
    assert_eq!(hand.server.phase(), Phase::Connecting);
    hand.sleep(Duration::from_secs(1));
    assert!(hand.requests().iter().any(|request| request.is_takeover()));
}

#[test]
fn answers_to_the_one_who_died_are_not_ours() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1]));
    let takeover = the(&hand.requests(), Opcode::TakeoverBatch);
    let before = Header { epoch: Epoch::new(1, 6), ..takeover.header.answer(Status::Ok) };
    assert!(hand.page_under(&before, Opcode::TakeoverBatchAck, (0, 1), &[result(1, Status::Ok)]));
    assert_eq!(hand.store.takeovers, 0);
}

#[test]
fn answers_to_other_commands_are_somebody_elses() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1]));
    let takeover = the(&hand.requests(), Opcode::TakeoverBatch);
    let mut other = takeover.clone();
    // Of nothing that recovery asks.
    other.header.transaction.0 += 100;
    assert!(!hand.answer(&other, Message::MeetingAck { opcode: Opcode::MeetingEndAck, version: 1 }));
    assert!(!hand.refuse(&other, Status::Busy, 1_000_000));
    assert!(!hand.answer(&takeover, Message::Heartbeat { sent_ns: 1 }));
    assert_eq!(hand.server.progress().busy, 0);
}

#[test]
fn a_refusal_that_waiting_does_not_cure_is_told_once_and_tried_on() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1]));
    for _ in 0..3 {
        let takeover = the(&hand.requests(), Opcode::TakeoverBatch);
        hand.refuse(&takeover, Status::UnsupportedVersion, 0);
        hand.sleep(Duration::from_secs(1));
    }
    assert!(matches!(hand.events()[..], [Event::Refused { status: Status::UnsupportedVersion, .. }]));
}

#[test]
fn a_machine_begins_again_when_the_other_side_did() {
    let mut hand = ScriptedPeer::cache(FakeStore::cached([1, 2]));
    hand.play(&[summary(1, 1), summary(2, 1)]);
    assert!(hand.server.is_reconciled());
    hand.sleep(Duration::from_secs(60));
    hand.server.restart(hand.now);
    assert_eq!(hand.server.phase(), Phase::Connecting);
    hand.play(&[summary(1, 2), summary(2, 1)]);
    assert!(hand.server.is_reconciled());
    assert_eq!((hand.store.takeovers, hand.server.timeline().began), (4, hand.now));
}

#[test]
fn phases_follow_each_other() {
    let mut hand = ScriptedPeer::cache(FakeStore::cut_short([1]));
    let requests = hand.requests();
    assert_eq!(hand.server.phase(), Phase::Connecting);
    hand.connect_ack(&the(&requests, Opcode::Connect), 8);
    assert_eq!(hand.server.phase(), Phase::TakingOver);
    hand.grant(&the(&requests, Opcode::TakeoverBatch));
    assert_eq!(hand.server.phase(), Phase::Updating);
    let query = hand.request();
    hand.page::<crate::wire::TerminalState>(&query, Opcode::State, (0, 1), &[]);
    assert_eq!(hand.server.phase(), Phase::Auditing);
}

fn domains() -> [Domain; 3] {
    [1, 2, 3].map(|number| Domain::new(number).expect("a domain"))
}

#[test]
fn domains_take_turns() {
    let mut recovery = Recovery::new(domains(), EPOCH, Path::Cache, &Settings::default(), Nanos(0));
    let mut store = FakeStore::cached([1]);
    let sent: Vec<_> = std::iter::from_fn(|| recovery.poll_transmit(Nanos(0), &mut store)).collect();
    let [a, b, c] = domains();
    let order: Vec<_> = sent.iter().map(|request| request.domain).collect();
    assert_eq!(order, [a, b, c, a, b, c]);
    assert_eq!(opcodes(&sent[..3]), [Opcode::TakeoverBatch; 3], "every domain's first takeover is among the first");
}

#[test]
fn one_autonomous_servers_newer_controller_stops_its_machine_alone() {
    let mut recovery = Recovery::new(domains(), EPOCH, Path::Cache, &Settings::default(), Nanos(0));
    let mut store = FakeStore::cached([1]);
    let request = recovery.poll_transmit(Nanos(0), &mut store).expect("its first takeover");
    let by = Epoch::new(1, 9);
    let stale = Message::Refused { opcode: Opcode::TakeoverBatchAck.wire(), status: Status::StaleEpoch, value: by.0 };
    let header = request.header.answer(Status::StaleEpoch);
    recovery.handle_message(Nanos(5), request.domain, &header, &stale, &mut store);
    let sent: Vec<_> = std::iter::from_fn(|| recovery.poll_transmit(Nanos(5), &mut store)).collect();
    let [given_up, others @ ..] = domains();
    assert_eq!(request.domain, given_up);
    for other in others {
        assert!(sent.iter().any(|request| request.domain == other), "domain {other} goes on");
    }
    assert!(sent.iter().all(|request| request.domain != given_up));
    assert_eq!(recovery.poll_event(), Some(Event::Stale { domain: given_up, highest: by }));
    assert_eq!(recovery.fenced().collect::<Vec<_>>(), [(given_up, by)]);
    assert_eq!(recovery.report().servers[0].fenced_by, Some(by));
    recovery.restart(Nanos(6), given_up);
    recovery.fence(others[0], by);
    let last = recovery.poll_transmit(Nanos(2_000_000_000), &mut store).expect("one is left");
    assert_eq!(last.domain, others[1]);
}

#[test]
fn a_report_says_it_all_in_json() {
    let mut recovery = Recovery::new(domains(), EPOCH, Path::Database, &Settings::default(), Nanos(1000));
    while recovery.poll_transmit(Nanos(2000), &mut FakeStore::default()).is_some() {}
    let report = recovery.report();
    let text = serde_json::to_string(&report).expect("plain values");
    assert!(text.contains(r#""path":"database""#) && text.contains(r#""phase":"connecting""#), "{text}");
    assert_eq!(serde_json::from_str::<Report>(&text).expect("its own words"), report);
}
