//! Requests with one autonomous server: by hand, and against an oracle behind a network that loses,
//! repeats and reorders.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use proptest::prelude::*;

use super::super::exchange::{Exchange, Purpose};
use crate::limits::{COMMANDS_WINDOW, TAKEOVER_WINDOW_FIRST, TRANSACTIONS_REMEMBERED};
use crate::time::Nanos;
use crate::wire::{Epoch, Header, MeetingId, Opcode, Status, Transaction};

const EPOCH: Epoch = Epoch::new(3, 7);
const RTO_MIN: Duration = Duration::from_millis(20);
const RTO_MAX: Duration = Duration::from_millis(500);
const NONE: MeetingId = MeetingId::NONE;

fn exchange() -> Exchange {
    Exchange::new(EPOCH, RTO_MIN, RTO_MAX)
}

fn ms(milliseconds: u64) -> Nanos {
    Nanos(milliseconds * 1_000_000)
}

fn header(transaction: Transaction, meeting: MeetingId) -> Header {
    Header::request(transaction, EPOCH, meeting).answer(Status::Ok)
}

fn takeover(exchange: &mut Exchange, now: Nanos) -> Transaction {
    exchange.ask(now, Purpose::Takeover, Opcode::TakeoverBatch, NONE).expect("there is room")
}

#[test]
fn pauses_double_up_to_their_bound() {
    let mut exchange = exchange();
    takeover(&mut exchange, ms(0));
    let mut pauses = Vec::new();
    let mut before = ms(0);
    for attempt in 2..9 {
        let now = exchange.due(Purpose::Takeover).unwrap();
        assert_eq!(exchange.poll_due(Nanos(now.0 - 1), Purpose::Takeover), None);
        let due = exchange.poll_due(now, Purpose::Takeover).unwrap();
        assert_eq!((due.attempts, due.is_anew()), (attempt, false));
        pauses.push(now.since(before).as_millis());
        before = now;
    }
    assert_eq!(pauses, [20, 40, 80, 160, 320, 500, 500]);
}

#[test]
fn the_timeout_is_that_of_rfc_6298_and_a_repeated_request_tells_no_time() {
    let mut exchange = exchange();
    assert_eq!(exchange.rto(), RTO_MIN, "before the first sample");
    let once = takeover(&mut exchange, ms(0));
    assert_eq!(exchange.answered(ms(50), once), Some(Duration::from_millis(50)));
    assert_eq!(exchange.rto(), Duration::from_millis(150), "mean 50 ms and four times a deviation of 25 ms");
    let twice = takeover(&mut exchange, ms(100));
    assert!(exchange.poll_due(ms(250), Purpose::Takeover).is_some());
    assert_eq!(exchange.answered(ms(260), twice), Some(Duration::from_millis(160)), "from the first sending");
    assert_eq!(exchange.rto(), Duration::from_millis(300), "backed off until a request is answered that was sent once");
    let once = takeover(&mut exchange, ms(300));
    exchange.answered(ms(350), once);
    assert_eq!(exchange.rto(), Duration::from_nanos(50_000_000 + 4 * 18_750_000));
}

/// With a shortest pause below the way there and back every request is repeated before its answer
/// comes. If the pause were not kept, none would ever tell a time.
#[test]
fn a_way_longer_than_the_shortest_pause_is_learned() {
    let (mut exchange, way) = (exchange(), Duration::from_millis(90));
    let mut sent_more_than_once = Vec::new();
    let mut now = ms(0);
    for _ in 0..8 {
        let transaction = takeover(&mut exchange, now);
        let answer = now + way;
        while exchange.due(Purpose::Takeover).is_some_and(|due| due < answer) {
            now = exchange.due(Purpose::Takeover).unwrap();
            exchange.poll_due(now, Purpose::Takeover).unwrap();
        }
        sent_more_than_once.push(exchange.attempts(transaction) > 1);
        now = answer;
        exchange.answered(now, transaction);
    }
    assert_eq!(sent_more_than_once[..4], [true, true, false, false]);
}

#[test]
fn busy_is_asked_again_anew_and_its_repetition_puts_nothing_off() {
    let mut exchange = exchange();
    let asked = takeover(&mut exchange, ms(0));
    assert!(exchange.postpone(asked, ms(300)));
    assert!(!exchange.postpone(asked, ms(900)), "a recorded refusal may be sent again");
    assert_eq!(exchange.poll_due(ms(299), Purpose::Takeover), None);
    let due = exchange.poll_due(ms(300), Purpose::Takeover).unwrap();
    assert!(due.is_anew() && due.before == asked && due.transaction.is_after(asked));
    assert_eq!(exchange.asked(&header(asked, NONE), Opcode::TakeoverBatchAck.wire()), None);
    assert_eq!(
        exchange.asked(&header(due.transaction, NONE), Opcode::TakeoverBatchAck.wire()),
        Some(Purpose::Takeover)
    );
}

#[test]
fn an_answer_counts_by_transaction_epoch_meeting_and_opcode() {
    let mut exchange = exchange();
    let meeting = MeetingId(7);
    let asked = exchange.ask(ms(0), Purpose::State, Opcode::StateQuery, meeting).unwrap();
    let right = header(asked, meeting);
    let state = Opcode::State.wire();
    for wrong in [
        Header { transaction: Transaction(asked.0 + 1), ..right },
        Header { epoch: Epoch::new(3, 6), ..right },
        Header { meeting: MeetingId(8), ..right },
    ] {
        assert_eq!(exchange.asked(&wrong, state), None);
    }
    assert_eq!(exchange.asked(&right, Opcode::Info.wire()), None);
    assert_eq!(exchange.asked(&right, state), Some(Purpose::State));
    assert_eq!(exchange.asked(&right, Opcode::StateQuery.wire()), Some(Purpose::State), "a refusal of what it is");
}

#[test]
fn a_page_puts_off_the_rest_and_samples_once() {
    let mut exchange = exchange();
    let asked = exchange.ask(ms(0), Purpose::State, Opcode::StateQuery, MeetingId(1)).unwrap();
    exchange.heard(ms(10), asked);
    assert_eq!(exchange.due(Purpose::State), Some(ms(30)));
    let learned = exchange.rto();
    exchange.heard(ms(29), asked);
    assert_eq!((exchange.due(Purpose::State), exchange.rto()), (Some(ms(49)), learned));
}

#[test]
fn a_listing_is_never_repeated_under_its_number() {
    let mut exchange = exchange();
    let asked = exchange.ask(ms(0), Purpose::Listing, Opcode::InfoQuery, NONE).unwrap();
    let due = exchange.poll_due(ms(20), Purpose::Listing).unwrap();
    assert!(due.is_anew() && due.before == asked);
}

#[test]
fn a_window_that_shrinks_takes_nothing_back() {
    let mut exchange = exchange();
    while exchange.has_room(Purpose::Takeover) {
        takeover(&mut exchange, ms(0));
    }
    assert_eq!(exchange.outstanding(Purpose::Takeover), TAKEOVER_WINDOW_FIRST);
    exchange.set_window(Purpose::Takeover, 2);
    assert_eq!(exchange.outstanding(Purpose::Takeover), TAKEOVER_WINDOW_FIRST);
    assert_eq!(exchange.ask(ms(0), Purpose::Takeover, Opcode::TakeoverBatch, NONE), None);
    assert!(exchange.ask(ms(0), Purpose::Command, Opcode::LayoutSet, NONE).is_some(), "each purpose has its own");
    exchange.close_all(|purpose| purpose == Purpose::Takeover);
    assert_eq!((exchange.outstanding(Purpose::Takeover), exchange.outstanding(Purpose::Command)), (0, 1));
}

/// Numbers go round, and an autonomous server refuses one that it cannot know any more.
#[test]
fn numbers_go_round_and_a_repeat_is_never_older_than_is_remembered() {
    let mut exchange = exchange();
    exchange.last = Transaction(u32::MAX - 2);
    let asked = takeover(&mut exchange, ms(0));
    let drawn: Vec<_> = (0..3).map(|_| exchange.draw().0).collect();
    assert_eq!(drawn, [u32::MAX, 1, 2], "0 is of frames that nobody answers");
    let other = takeover(&mut exchange, ms(0));
    for transaction in [asked, other] {
        assert_eq!(exchange.attempts(transaction), 1);
    }
    for _ in 0..TRANSACTIONS_REMEMBERED {
        exchange.draw();
    }
    let due = exchange.poll_due(ms(20), Purpose::Takeover).unwrap();
    assert!(due.is_anew() && due.before == asked);
    assert!(exchange.asked(&header(other, NONE), Opcode::TakeoverBatchAck.wire()).is_some());
}

/// What becomes of one sending.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Lost,
    /// Answered, and the answer arrives after so many milliseconds, and once more after those.
    Answered(u64, Option<u64>),
    /// Refused as BUSY for so many milliseconds.
    Busy(u64, u64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => Just(Fate::Lost),
        6 => (0..120u64, prop::option::of(0..900u64)).prop_map(|(at, again)| Fate::Answered(at, again)),
        2 => (0..120u64, 0..300u64).prop_map(|(at, wait)| Fate::Busy(at, wait)),
    ]
}

const ASKED: [(Purpose, Opcode, u16); 3] = [
    (Purpose::Takeover, Opcode::TakeoverBatch, TAKEOVER_WINDOW_FIRST),
    (Purpose::End, Opcode::MeetingEnd, 4),
    (Purpose::Command, Opcode::LayoutSet, COMMANDS_WINDOW),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn each_request_is_answered_once_and_none_is_lost(
        fates in prop::collection::vec(fate(), 1..200),
        requests in prop::collection::vec(0..ASKED.len(), 1..80),
    ) {
        prop_assume!(fates.iter().any(|fate| matches!(fate, Fate::Answered(at, _) if *at < 19)));
        let mut exchange = exchange();
        exchange.set_window(Purpose::End, 4);
        let mut fates = fates.iter().cycle();
        // What is asked, by its meeting; what is on its way, by the transaction that it bears now.
        let mut to_ask: Vec<_> = requests.iter().enumerate().rev().map(|(n, &what)| (MeetingId(n as u64 + 1), ASKED[what])).collect();
        let mut outstanding: HashMap<Transaction, MeetingId> = HashMap::new();
        let mut answers: BTreeSet<(Nanos, u64, Transaction, MeetingId, Opcode, Option<u64>)> = BTreeSet::new();
        let mut sent: BTreeMap<Transaction, MeetingId> = BTreeMap::new();
        let mut answered = BTreeSet::new();
        let (mut now, mut last, mut copies) = (ms(1), Transaction(0), 0);
        while answered.len() < requests.len() {
            prop_assert!(now < ms(600_000), "it never ends");
            let mut out = Vec::new();
            for (purpose, opcode, window) in ASKED {
                while let Some(due) = exchange.poll_due(now, purpose) {
                    let meeting = outstanding.remove(&due.before);
                    prop_assert_eq!(meeting, Some(due.meeting), "what is repeated is outstanding");
                    prop_assert!(!outstanding.contains_key(&due.transaction));
                    outstanding.insert(due.transaction, due.meeting);
                    prop_assert_eq!(due.opcode, opcode);
                    out.push((due.transaction, due.meeting, opcode));
                }
                prop_assert!(exchange.outstanding(purpose) <= window);
            }
            while let Some(&(meeting, (purpose, opcode, window))) = to_ask.last() {
                let room = exchange.has_room(purpose);
                prop_assert_eq!(room, exchange.outstanding(purpose) < window);
                let Some(transaction) = exchange.ask(now, purpose, opcode, meeting) else { break };
                prop_assert!(room);
                to_ask.pop();
                outstanding.insert(transaction, meeting);
                out.push((transaction, meeting, opcode));
            }
            for (transaction, meeting, opcode) in out {
                match sent.insert(transaction, meeting) {
                    Some(before) => prop_assert_eq!(before, meeting, "a number is one request"),
                    None => {
                        prop_assert!(transaction.is_after(last), "numbers ascend");
                        last = transaction;
                    }
                }
                copies += 1;
                match *fates.next().unwrap() {
                    Fate::Lost => {}
                    Fate::Answered(at, again) => {
                        let at = now + Duration::from_millis(at);
                        answers.insert((at, copies, transaction, meeting, opcode, None));
                        if let Some(again) = again {
                            answers.insert((at + Duration::from_millis(again), copies, transaction, meeting, opcode, None));
                        }
                    }
                    Fate::Busy(at, wait) => {
                        answers.insert((now + Duration::from_millis(at), copies, transaction, meeting, opcode, Some(wait)));
                    }
                }
            }
            prop_assert!(exchange.rto() >= RTO_MIN && exchange.rto() <= RTO_MAX);
            let repeat = ASKED.iter().filter_map(|(purpose, ..)| exchange.due(*purpose)).min();
            let arrival = answers.first().map(|answer| answer.0);
            let next = repeat.into_iter().chain(arrival).min().expect("what is not answered is repeated");
            prop_assert!(next >= now);
            now = next;
            while let Some(&(at, ..)) = answers.first() && at <= now {
                let (_, _, transaction, meeting, opcode, busy) = answers.pop_first().unwrap();
                let asked = exchange.asked(&header(transaction, meeting), opcode.answer().unwrap().wire());
                prop_assert_eq!(asked.is_some(), outstanding.contains_key(&transaction), "what counts is outstanding");
                if asked.is_none() {
                    prop_assert!(exchange.answered(now, transaction).is_none() && !exchange.close(transaction));
                } else if let Some(wait) = busy {
                    exchange.postpone(transaction, now + Duration::from_millis(wait));
                } else {
                    prop_assert!(exchange.answered(now, transaction).is_some());
                    outstanding.remove(&transaction);
                    prop_assert!(answered.insert(meeting), "each is answered once");
                }
            }
        }
        prop_assert!(outstanding.is_empty() && ASKED.iter().all(|(purpose, ..)| exchange.outstanding(*purpose) == 0));
    }
}
