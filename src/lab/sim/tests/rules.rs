//! The rules that keep one controller and tell one conference from another: wire.md §6.

use std::time::Duration;

use super::{EPOCH, ONE, Rig, terminal};
use crate::lab::sim::Random;
use crate::lab::sim::answers::REMEMBERED_MAX;
use crate::wire::{
    Epoch, Frame, Header, Layout, Level, MeetingId, Message, Opcode, ReportAck, Role, Run, Status, Transaction,
};

fn start_of(run: Run) -> Message {
    let (level, layout) = (Level::new(2).unwrap(), Layout::new(9).unwrap());
    Message::MeetingStart { level, layout, chairman: terminal(5), participants: 0, run }
}

#[test]
fn number_of_another_run_is_in_conflict_and_changes_nothing() {
    let mut rig = Rig::new(|_| ());
    rig.start(ONE, 3, [1, 2]);
    let held = rig.server.meeting(ONE).unwrap();
    // The same number, of another: under a newer epoch, too.
    rig.epoch = Epoch::new(3, 8);
    let before = (rig.server.meetings().collect::<Vec<_>>(), rig.server.members(ONE).collect::<Vec<_>>());
    for run in [Run(8), Run(u64::MAX), Run::NONE] {
        let refused = Message::Refused { opcode: Opcode::MeetingStartAck.wire(), status: Status::Conflict, value: 0 };
        assert_eq!(rig.ask(ONE, start_of(run)), (Status::Conflict, refused));
        let now = (rig.server.meetings().collect::<Vec<_>>(), rig.server.members(ONE).collect::<Vec<_>>());
        assert_eq!(now, before, "{run:?}");
    }
    let done = Message::MeetingAck { opcode: Opcode::MeetingStartAck, version: held.version };
    assert_eq!(rig.ask(ONE, start_of(held.run)), (Status::Already, done));
    let now = rig.server.meeting(ONE).unwrap();
    assert_eq!((now.run, now.level, now.layout, now.chairman), (held.run, held.level, held.layout, held.chairman));
    // Once it has ended, its number is free for another run.
    assert_eq!(rig.ask(ONE, Message::MeetingEnd { reason: 0 }).0, Status::Ok);
    assert_eq!(rig.ask(ONE, start_of(Run(8))).0, Status::Ok);
    assert_eq!(rig.server.meeting(ONE).unwrap().run, Run(8));
}

#[test]
fn number_of_a_conference_that_the_server_started_itself_is_in_conflict() {
    let mut rig = Rig::new(|_| ());
    let (level, layout) = (Level::new(3).unwrap(), Layout::new(4).unwrap());
    rig.server.hold(rig.now, ONE, level, layout, &[(terminal(1), Role::Participant)]);
    let before: Vec<_> = rig.server.meetings().collect();
    assert_eq!((before[0].run, before[0].controller), (Run::NONE, Epoch::NONE));
    for run in [Run(7), Run::NONE] {
        assert_eq!(rig.ask(ONE, start_of(run)).0, Status::Conflict, "{run:?}");
        assert_eq!(rig.server.meetings().collect::<Vec<_>>(), before);
    }
    assert_eq!(rig.server.members(ONE).collect::<Vec<_>>(), [terminal(1)]);
}

#[test]
fn heartbeats_answer_tells_boot_age_and_highest_epoch() {
    let mut rig = Rig::new(|_| ());
    rig.start(ONE, 3, []);
    rig.server.restart();
    let lower = Epoch::new(3, 6);
    rig.epoch = lower;
    let beat = |rig: &mut Rig| {
        let (status, message) = rig.ask(MeetingId::NONE, Message::Heartbeat { sent_ns: 9 });
        let Message::HeartbeatAck { sent_ns: 9, held: 1, boot_generation, age, highest_epoch } = message else {
            panic!("{message:?}")
        };
        assert_eq!((status, boot_generation, highest_epoch), (Status::Ok, 2, EPOCH));
        age
    };
    rig.now = rig.now + Duration::from_micros(1750);
    assert_eq!(beat(&mut rig), 17, "tenths of a millisecond since the highest epoch was heard of");
    assert_eq!(beat(&mut rig), 17, "a lower one does not count");
    rig.now = rig.now + Duration::from_secs(7);
    assert_eq!(beat(&mut rig), 65_535, "more than it can say");
    rig.epoch = EPOCH;
    assert_eq!(beat(&mut rig), 0);
}

#[test]
fn acknowledgements_under_a_lower_epoch_are_dropped_and_counted() {
    let mut rig = Rig::new(|settings| settings.reports_per_second = 100);
    rig.acknowledges = false;
    rig.start(ONE, 3, [1]);
    let reports = rig.run(Duration::from_millis(100));
    let state = reports.iter().map(|(_, state, _)| *state).find(|state| state.terminal == terminal(1)).unwrap();
    let acked = |rig: &Rig| rig.server.terminal_acknowledged(terminal(1)).unwrap().1;
    assert_eq!(acked(&rig), None);
    let ack = ReportAck { terminal: state.terminal, version: state.version, status: Status::Ok };
    let mut dropped = 0;
    for (epoch, counts) in [(Epoch::new(3, 6), false), (Epoch::NONE, false), (EPOCH, true)] {
        rig.epoch = epoch;
        let single = Message::ReportAck { terminal: ack.terminal, version: ack.version };
        let (header, own) = (rig.header(MeetingId::NONE), rig.header(ONE));
        assert!(rig.page(&header, Opcode::ReportAckBatch, vec![ack]).is_empty());
        assert_eq!(acked(&rig).is_some(), counts, "{epoch}");
        assert!(rig.give(&rig.frame(&own, &single)).is_empty());
        dropped += if counts { 0 } else { 2 };
        assert_eq!(rig.server.counters().acks_stale, dropped, "{epoch}");
    }
    assert_eq!(acked(&rig), Some(state.version));
    assert_eq!(rig.server.highest_epoch(), EPOCH);
}

/// The status of what a request gets.
fn status(rig: &mut Rig, header: &Header, message: &Message) -> Status {
    let answer = rig.give(&rig.frame(header, message));
    Status::from_wire(Frame::parse(&answer[0], 0x88B5).unwrap().header().status).unwrap()
}

#[test]
fn request_older_than_what_is_remembered_is_refused_and_not_done_again() {
    let mut rig = Rig::new(|_| ());
    rig.start(ONE, 3, [1]);
    let skipped = rig.header(ONE);
    let remove = rig.header(ONE);
    let gone = Message::MemberRemove { terminal: terminal(1) };
    assert_eq!(status(&mut rig, &remove, &gone), Status::Ok);
    let add = Message::MemberAdd { terminal: terminal(1), role: Role::Participant };
    assert_eq!(rig.ask(ONE, add).0, Status::Ok);
    // As many as are remembered push both out.
    let same = Message::LayoutSet { layout: Layout::new(4).unwrap() };
    for _ in 0..REMEMBERED_MAX {
        assert_eq!(rig.ask(ONE, same).0, Status::Already);
    }
    assert_eq!(status(&mut rig, &remove, &gone), Status::Malformed, "its answer is forgotten, it is not done again");
    assert_eq!(rig.server.members(ONE).collect::<Vec<_>>(), [terminal(1)]);
    // One that was never sent, but is older than what was forgotten, cannot be told from one that
    // was.
    assert_eq!(status(&mut rig, &skipped, &gone), Status::Malformed);
    // The oldest that is remembered gets its answer; under another epoch, numbers count anew.
    let oldest = Header { transaction: Transaction(rig.transaction - REMEMBERED_MAX as u32 + 1), ..remove };
    assert_eq!(status(&mut rig, &oldest, &same), Status::Already);
    let next = Header { epoch: Epoch::new(3, 8), ..remove };
    assert_eq!(status(&mut rig, &next, &gone), Status::Ok);
    assert!(rig.server.members(ONE).next().is_none());
}

#[test]
fn requests_out_of_order_are_answered_as_long_as_their_neighbours_are_remembered() {
    let mut rig = Rig::new(|_| ());
    rig.start(ONE, 3, [1]);
    let mut random = Random::new(3);
    let mut delayed = Vec::new();
    for _ in 0..2 * REMEMBERED_MAX {
        let header = rig.header(ONE);
        delayed.push(header);
        if delayed.len() == 64 {
            let at = random.below(64) as usize;
            let header = delayed.swap_remove(at);
            assert_eq!(status(&mut rig, &header, &Message::StateQuery), Status::Ok);
        }
    }
    assert_eq!(rig.server.counters().frames_malformed, 0);
}
