//! A conference is its number and its run: one that another server started is neither joined nor
//! ended.

use super::world::{World, conference, domain, terminal};
use super::{ONE, perfect};
use crate::cms::ConferenceAnswer;
use crate::cms::{ConferenceRequest, RefusalKind};
use crate::wire::{Address, MeetingId, MeetingState, Message, Role, Run};

/// Autonomous server 1 starts a conference of its own.
fn starts_its_own(world: &mut World, meeting: u64, member: Address) {
    let now = world.now;
    let meeting = MeetingId(meeting);
    let start = Message::MeetingStart {
        level: crate::wire::Level::HIGHEST,
        layout: super::layout(4),
        chairman: Address::default(),
        participants: 1,
        run: Run::NONE,
    };
    world.servers[0].command_here(now, meeting, &start).unwrap();
    let add = Message::MemberAdd { terminal: member, role: Role::Participant };
    world.servers[0].command_here(now, meeting, &add).unwrap();
}

/// Those that the autonomous server holds and we did not start are as they were.
fn untouched(world: &World, numbers: &[u64]) {
    for &number in numbers {
        let members: Vec<_> = world.servers[0].members(MeetingId(number)).collect();
        assert_eq!(members, [terminal(1, 50 + number as u16)], "meeting {number}");
    }
}

#[test]
fn a_number_that_another_conference_bears_is_passed_over() {
    let mut world = perfect(2);
    for number in 1..=3 {
        starts_its_own(&mut world, number, terminal(1, 50 + number as u16));
    }
    // The third is not known to be an orphan.
    for number in [1, 2] {
        world.operations.handle_orphan(MeetingId(number));
    }
    let ConferenceAnswer::Started(started) = world.must(conference(None, &[terminal(1, 1), terminal(2, 1)])) else {
        panic!()
    };
    assert_eq!((started.meeting, started.members), (MeetingId(4), 2));
    let unfinished = |world: &World| world.operations.under_way() > 0 || world.operations.left() > 0;
    world.run_until(|world| !unfinished(world));
    untouched(&world, &[1, 2, 3]);
    assert_eq!(world.servers[1].meetings().map(|held| held.meeting.0).collect::<Vec<_>>(), [4]);
    assert_eq!(world.database.meeting(MeetingId(3)).unwrap(), None);
    assert_eq!(world.writer.table().parts().count(), 2);
}

#[test]
fn a_number_that_a_client_chose_and_another_conference_bears_is_refused() {
    let mut world = perfect(2);
    starts_its_own(&mut world, 1, terminal(1, 51));
    let refusal = world.refused(conference(1, &[terminal(1, 1), terminal(2, 1)]));
    assert!(refusal.kind == RefusalKind::Conflict && refusal.what.contains("holds another meeting 1"), "{refusal}");
    world.run_until(|world| world.operations.under_way() == 0 && world.operations.left() == 0);
    untouched(&world, &[1]);
    assert_eq!(world.servers[1].meetings().count(), 0, "what was started of it is ended");
    assert_eq!(world.writer.table().count_terminals(), 0);
    assert!(world.database.ended(ONE).unwrap().is_some(), "so that its run is known as one of ours");
    let refusal = world.refused(conference(1, &[terminal(1, 1)]));
    assert_eq!(refusal.kind, RefusalKind::Conflict, "{refusal}");
    untouched(&world, &[1]);
}

/// The autonomous server forgot the conference, and has one of its own under the number since.
#[test]
fn an_end_does_not_end_what_bears_the_number_since() {
    let mut world = perfect(1);
    world.must(conference(1, &[terminal(1, 1)]));
    let now = world.now;
    world.servers[0].command_here(now, ONE, &Message::MeetingEnd { reason: 0 }).unwrap();
    starts_its_own(&mut world, 1, terminal(1, 51));
    let missing = |part: &mut crate::table::Part| {
        (part.state, part.epoch) = (MeetingState::Missing, crate::wire::Epoch::NONE);
    };
    world.writer.update_part(ONE, domain(1), missing).unwrap();
    world.must(ConferenceRequest::End { meeting: ONE });
    assert_eq!(world.writer.table().count_parts(), 0);
    untouched(&world, &[1]);
}
