//! What came from a snapshot is asked about when both sides agree, and what disturbs that.

use std::time::Duration;

use super::fake_store::FakeStore;
use super::scripted_peer::{EPOCH, ScriptedPeer, entries, opcodes, summary, the};
use crate::recovery::{Path, Phase, Settings};
use crate::wire::{Epoch, MeetingSummary, Message, Opcode};

/// A machine whose cache has these meetings, and nothing more is to come from a snapshot.
fn warmed(path: Path, meetings: impl IntoIterator<Item = u64>) -> ScriptedPeer {
    ScriptedPeer::new(path, FakeStore::cached(meetings), Settings::default())
}

fn ours(meeting: u64) -> MeetingSummary {
    MeetingSummary { controller: EPOCH, ..summary(meeting, 1) }
}

/// Plays for so long, and answers proofs so.
fn play_for(hand: &mut ScriptedPeer, seconds: u64, held: &[MeetingSummary], proof: Option<(u32, u64)>) {
    for _ in 0..seconds {
        for _ in 0..100 {
            let requests = hand.requests();
            if requests.is_empty() {
                break;
            }
            for request in &requests {
                match proof {
                    Some((count, digest)) if opcodes(std::slice::from_ref(request)) == [Opcode::ReplayDone] => {
                        assert!(hand.answer(request, Message::Audit { count, digest }));
                    }
                    _ => hand.reply(request, held),
                }
            }
        }
        hand.sleep(Duration::from_secs(1));
    }
}

#[test]
fn what_came_from_a_snapshot_is_asked_about_when_both_sides_agree() {
    let mut hand = warmed(Path::Snapshot, [1]);
    hand.store.is_warmed = true;
    hand.store.cache.values_mut().for_each(|item| item.in_doubt = true);
    play_for(&mut hand, 2, &[ours(1)], None);
    assert_eq!((hand.server.phase(), hand.store.updates), (Phase::Reconciled, 1));
    assert!(hand.server.is_refreshed());
}

/// FAULT: `ServerRecovery::poll_refresh` waits for an agreement that may never come, and until then
/// `Shared::update_meeting` puts off what each listing of the rounds would have asked about. By the
/// database alone each terminal is asked for before the first proof, so there nothing hangs on it.
/// Reports that were acknowledged after the snapshot stay lost for as long as one other meeting of
/// the domain differs, and the part stays in doubt.
#[test]
fn what_came_from_a_snapshot_is_asked_about_although_both_sides_never_agree() {
    let mut hand = warmed(Path::Snapshot, [1]);
    hand.store.is_warmed = true;
    hand.store.cache.values_mut().for_each(|item| item.in_doubt = true);
    play_for(&mut hand, 300, &[ours(1)], Some((9, 9)));
    assert_eq!(hand.server.phase(), Phase::Differing);
    assert!(hand.server.progress().differing > 3, "several rounds went by");
    assert!(hand.store.updates > 0, "its terminals were never asked for");
}

/// FAULT: an autonomous server restarts while the takeovers of a snapshot's parts are on their way,
/// when the snapshot is used up already. The machine begins anew on the snapshot's path, which is
/// then `Walks::Rest` alone, and that leaves out what bears our epoch. A server that kept its
/// meetings and who controls them lists those as ours, so nobody asks for their terminals: recovery
/// is to begin anew then, including the state of every terminal. (On the cache's path it does.)
#[test]
fn a_restart_in_the_midst_has_every_terminal_asked_for() {
    const MEETINGS: u64 = 1000;
    for path in [Path::Cache, Path::Snapshot] {
        let mut hand = warmed(path, 1..=MEETINGS);
        let requests = hand.requests();
        let connect = the(&requests, Opcode::Connect);
        assert!(hand.connect_ack(&connect, 8));
        let first = the(&requests, Opcode::TakeoverBatch);
        hand.grant(&first);
        let granted = entries(&first);
        assert!(!granted.is_empty() && granted.len() < MEETINGS as usize);
        // It restarts, and has kept its meetings and who controls them.
        hand.heartbeat(MEETINGS as u32, 2, MEETINGS as u32);
        let held: Vec<_> = (1..=MEETINGS)
            .map(|meeting| if granted.contains(&meeting) { ours(meeting) } else { summary(meeting, 1) })
            .collect();
        for _ in 0..10_000 {
            let requests = hand.requests();
            if requests.is_empty() {
                break;
            }
            for request in &requests {
                if opcodes(std::slice::from_ref(request)) == [Opcode::Connect] {
                    let highest_epoch = Epoch::new(1, 6);
                    let ack = Message::ConnectAck { highest_epoch, boot_generation: 2, held: hand.held, window: 8 };
                    assert!(hand.answer(request, ack));
                } else {
                    hand.reply(request, &held);
                }
            }
        }
        assert_eq!((hand.server.phase(), hand.store.updates), (Phase::Reconciled, MEETINGS as u32), "by {path}");
    }
}
