//! Parts that cannot be read, found while a machine is at something else.

use std::collections::BTreeSet;

use super::fake_store::FakeStore;
use super::scripted_peer::{ScriptedPeer, entries, result};
use crate::recovery::Body;
use crate::wire::{MeetingId, MeetingState, Opcode, Status};

/// The comparison waits for takeovers for some seconds and no longer: the autonomous server may
/// answer after that. What the cache holds is asked for all the same.
#[test]
fn what_is_to_be_mended_does_not_end_the_walk_over_the_cache() {
    let all = 3000;
    let mut hand = ScriptedPeer::cache(FakeStore::cached(1..=all));
    let first = hand.requests();
    let mut asked: BTreeSet<u64> = BTreeSet::new();
    for request in &first {
        if let Body::Takeover(_) = request.body {
            asked.extend(entries(request));
        }
    }
    assert!(!asked.is_empty() && asked.len() < all as usize, "the first window does not hold all");
    // The autonomous server has these, and no others.
    let held = asked.clone();
    hand.held = held.len() as u32;
    hand.server.mend();
    let mut requests = first;
    for _ in 0..1000 {
        if requests.is_empty() {
            break;
        }
        for request in &requests {
            if let Body::Takeover(_) = request.body {
                let of = entries(request);
                asked.extend(&of);
                let status = |meeting| if held.contains(&meeting) { Status::Ok } else { Status::UnknownMeeting };
                let results: Vec<_> = of.into_iter().map(|meeting| result(meeting, status(meeting))).collect();
                hand.page(request, Opcode::TakeoverBatchAck, (0, 1), &results);
            } else {
                hand.reply(request, &[]);
            }
        }
        requests = hand.requests();
    }
    assert!(hand.server.is_reconciled());
    let believed = (1..=all).filter(|meeting| {
        !held.contains(meeting) && hand.store.cache[&MeetingId(*meeting)].state == MeetingState::InMeeting
    });
    assert_eq!(believed.count(), 0, "are believed to be in meeting, and were never asked for");
    assert_eq!(asked.len(), all as usize);
}
