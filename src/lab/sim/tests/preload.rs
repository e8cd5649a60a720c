//! Meetings that are there from the beginning are meetings like those that were started.

use std::time::Duration;

use super::{Rig, domain, terminal};
use crate::lab::sim::{Preload, World};
use crate::time::Nanos;
use crate::wire::{
    Address, Epoch, Frame, Layout, Level, MeetingId, Message, Opcode, Role, Run, Status, TakeoverEntry, TakeoverResult,
};

const PRELOAD: (u32, u16) = (9000, 10);

/// A domain that holds every third of 9,000 meetings, with more terminals than have device numbers
/// from 45,001 on.
fn rig() -> (Rig, Preload) {
    let preload = Preload::new(PRELOAD.0, PRELOAD.1, None, 3).unwrap();
    let rig = Rig::new(|settings| {
        settings.first_device = 45_001;
        settings.terminals = 0;
        settings.preload = Some(preload.domain(1, domain(), 45_001));
    });
    (rig, preload)
}

#[test]
fn preloaded_meetings_are_taken_over_and_their_digest_is_that_of_the_rule() {
    let (mut rig, preload) = rig();
    let rule = preload.domain(1, domain(), 45_001);
    assert_eq!((rule.len(), rule.terminals()), (3000, 30_000));
    let summaries: Vec<_> = rule.meetings().collect();
    assert_eq!(rig.server.meetings().collect::<Vec<_>>(), summaries);
    let all = rig.server.digest(preload.epoch());
    assert_eq!(all.0, 3000);
    for page in summaries.chunks(63) {
        let header = rig.header(MeetingId::NONE);
        let entries = page.iter().map(|it| TakeoverEntry { meeting: it.meeting, version: it.version }).collect();
        let answer = rig.page(&header, Opcode::TakeoverBatch, entries).remove(0);
        let frame = Frame::parse(&answer, 0x88B5).unwrap();
        let results = frame.page().unwrap().records::<TakeoverResult>().unwrap().flatten();
        let taken = results.filter(|result| result.status == Status::Ok && result.participants == 10).count();
        assert_eq!(taken, page.len());
    }
    assert_eq!((rig.server.digest(preload.epoch()), rig.server.digest(rig.epoch)), ((0, 0), all));
}

#[test]
fn commands_change_preloaded_meetings_and_only_what_changed_has_a_record() {
    let (mut rig, preload) = rig();
    let rule = preload.domain(1, domain(), 45_001);
    let (first, second) = (MeetingId(2), MeetingId(5));
    let members: Vec<_> = rule.members(0).collect();
    assert_eq!(rig.server.members(first).collect::<Vec<_>>(), members.iter().map(|it| it.terminal).collect::<Vec<_>>());
    assert!(members.iter().all(|it| rig.server.terminal(it.terminal) == Some(*it)));
    assert_eq!(rig.server.terminals_changed().count(), 0);

    let leaves = members[3].terminal;
    let (status, answer) = rig.ask(first, Message::MemberRemove { terminal: leaves });
    assert_eq!(
        (status, answer),
        (Status::Ok, Message::MemberAck { opcode: Opcode::MemberRemoveAck, version: 12, terminal: leaves })
    );
    assert_eq!(rig.server.members(first).count(), 9);
    assert_eq!(rig.ask(second, Message::MemberAdd { terminal: leaves, role: Role::Participant }).0, Status::Ok);
    assert_eq!(rig.server.members(second).count(), 11);
    assert_eq!(rig.server.count_members(), 30_000);
    let stranger = terminal(1);
    assert_eq!(
        rig.ask(first, Message::MemberAdd { terminal: stranger, role: Role::Participant }).0,
        Status::UnknownTerminal
    );

    assert_eq!(rig.ask(first, Message::MeetingEnd { reason: 0 }).0, Status::Ok);
    let start = Message::MeetingStart {
        level: Level::LOWEST,
        layout: Layout::new(4).unwrap(),
        chairman: Address::default(),
        participants: 0,
        run: Run(7),
    };
    assert_eq!(rig.ask(first, start).0, Status::Ok);
    assert_eq!((rig.server.count_meetings(), rig.server.count_members()), (3000, 29_991));
    rig.run(Duration::from_secs(1));
    assert!(rig.server.is_quiet());
    // Ten of the first meeting, and for each that left who took its place among those that report.
    let changed = rig.server.terminals_changed().count();
    assert!((10..=20).contains(&changed), "{changed}");
}

#[test]
fn only_terminals_of_the_own_domain_report() {
    let (mut rig, preload) = rig();
    let rule = preload.domain(1, domain(), 45_001);
    let behind = rule.members(2999).last().unwrap().terminal;
    assert_ne!(behind.domain(), Some(domain()), "the last terminal has no device number left");
    assert_eq!(rig.server.terminal(behind).unwrap().meeting, MeetingId(8999));
    rig.ask(MeetingId::NONE, Message::Connect { window: 1 });
    rig.server.set_rates(20_000, 0);
    let reports = rig.run(Duration::from_secs(2));
    assert!(reports.len() > 39_000, "{}", reports.len());
    assert!(reports.iter().all(|(_, state, _)| state.terminal.domain() == Some(domain())));
    let changed = rig.server.terminals_changed().count();
    assert_eq!(changed, usize::from(u16::MAX - 45_001) + 1, "each has had its turn");
}

#[test]
fn few_words_say_what_the_whole_says() {
    let (mut rig, preload) = rig();
    let entry = TakeoverEntry { meeting: MeetingId(2), version: 11 };
    let header = rig.header(MeetingId::NONE);
    rig.page(&header, Opcode::TakeoverBatch, vec![entry]);
    let (count, digest) = rig.server.digest(rig.epoch);
    rig.ask(MeetingId::NONE, Message::ReplayDone { count, digest });
    let (epoch, now) = (rig.epoch, rig.now);
    let world = World::new(0x88B5, vec![rig.server]);
    let seen = world.recovery_after(preload.epoch(), now);
    assert_eq!((seen.epoch, seen.taken_over, seen.meetings), (epoch, 1, 3000));
    assert_eq!([seen.takeover_first_ns, seen.takeover_last_ns, seen.replay_done_ns], [Some(now.0); 3]);
    assert_eq!(world.recovery_after(epoch, Nanos(1)).epoch, Epoch::NONE);
    assert_eq!(world.digests(epoch)[0].digest, digest);
    let (sample, whole) = (world.sample(MeetingId(5), 1000), world.dump());
    let ids: Vec<_> = sample.parts().map(|part| part.meeting.0).collect();
    assert_eq!(ids, [2, 5, 2000, 5000, 8000]);
    assert!(sample.parts.iter().all(|it| whole.parts.contains(it)));
    assert_eq!((sample.terminals.len(), whole.terminals.len()), (50, 30_000));
    assert!(sample.terminals.iter().all(|it| whole.terminals.contains(it)));
}
