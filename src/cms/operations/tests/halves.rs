//! Done or not: what is refused or not answered in the midst is undone, and what both sides know is
//! the same.

use std::time::Duration;

use super::world::{World, conference, domain, layout, terminal};
use super::{ONE, add, perfect, role};
use crate::cms::{ConferenceRequest, NewMember, OperationsEvent, RefusalKind};
use crate::database::Member;
use crate::table::Part;
use crate::wire::{Flags, Header, MeetingId, MeetingState, Message, Opcode, Role, Status};

/// What table and database say of a member.
fn member(world: &World, terminal: crate::wire::Address) -> (Role, Member) {
    let kept = world.database.meeting(ONE).unwrap().unwrap();
    let kept = *kept.members.iter().find(|member| member.terminal == terminal).unwrap();
    (world.writer.table().terminal(terminal).unwrap().role, kept)
}

#[test]
fn a_role_that_was_acknowledged_is_in_table_and_database() {
    let mut world = perfect(2);
    let (a, b, c) = (terminal(1, 1), terminal(1, 2), terminal(2, 1));
    world.must(conference(1, &[a, b, c]));
    // No terminal reports: the acknowledgement is all that comes.
    world.reports = false;
    world.must(role(b, Role::SpeakerThree));
    assert_eq!(member(&world, b).0, Role::SpeakerThree);
    assert_eq!(member(&world, b).1.role, Role::SpeakerThree);
    for (new, old) in [(b, a), (c, b), (a, c)] {
        world.must(role(new, Role::Chairman));
        for (terminal, role) in [(new, Role::Chairman), (old, Role::Participant)] {
            let (ours, kept) = member(&world, terminal);
            assert_eq!((ours, kept.role), (role, role), "{terminal}");
        }
        assert_eq!(world.database.meeting(ONE).unwrap().unwrap().chairman, new);
    }
}

#[test]
fn a_member_that_is_added_as_chairman_is_the_only_one() {
    let mut world = perfect(2);
    let (a, b) = (terminal(1, 1), terminal(2, 1));
    world.must(conference(1, &[a]));
    let members = vec![NewMember { terminal: b, role: Role::Chairman }];
    world.must(ConferenceRequest::Add { meeting: ONE, members });
    world.settle();
    world.check();
    assert_eq!(world.servers[0].terminal(a).unwrap().role, Role::Participant);
    assert_eq!(world.database.meeting(ONE).unwrap().unwrap().chairman, b);
    world.must(ConferenceRequest::Remove { meeting: ONE, terminal: b });
    assert_eq!(world.database.meeting(ONE).unwrap().unwrap().chairman, crate::wire::Address::default());
}

#[test]
fn a_chairman_that_is_refused_leaves_the_old_one() {
    let mut world = perfect(2);
    let (a, b) = (terminal(1, 1), terminal(2, 1));
    world.must(conference(1, &[a, b]));
    let now = world.now;
    // Its server does not know it as a member any more.
    world.servers[1].command_here(now, ONE, &Message::MemberRemove { terminal: b }).unwrap();
    world.refused(role(b, Role::Chairman));
    world.settle();
    world.check();
    assert_eq!(world.servers[0].terminal(a).unwrap().role, Role::Chairman);
    assert_eq!(world.database.meeting(ONE).unwrap().unwrap().chairman, a);
}

#[test]
fn who_is_there_already_keeps_its_flags_when_it_is_added_again() {
    let mut world = perfect(1);
    let a = terminal(1, 1);
    world.must(conference(1, &[a]));
    world.must(ConferenceRequest::SetFlags { meeting: ONE, terminal: a, mask: Flags::MUTED, value: Flags::MUTED });
    world.must(add(ONE, &[a]));
    assert_ne!(member(&world, a).1.flags.0 & Flags::MUTED.0, 0);
}

/// Layout, chairman and members, one domain of two being silent: all is as it was, or becomes so
/// when that domain answers again.
#[test]
fn what_one_domain_does_not_answer_is_undone_in_the_others() {
    let mut world = perfect(2);
    let (a, b) = (terminal(1, 1), terminal(2, 1));
    world.must(conference(1, &[a, b]));
    let port = world.ports[1];
    world.network.set_cut(port, true);
    let requests = [
        ConferenceRequest::SetLayout { meeting: ONE, layout: layout(9) },
        role(b, Role::Chairman),
        add(ONE, &[terminal(1, 2), terminal(2, 2)]),
    ];
    for request in requests {
        let refusal = world.refused(request);
        assert_eq!(refusal.kind, RefusalKind::Unreachable, "{refusal}");
    }
    assert_eq!(world.writer.table().terminal(terminal(2, 2)), None, "it is free for other conferences at once");
    world.network.set_cut(port, false);
    world.settle();
    world.check();
    for server in &world.servers {
        let held = server.meetings().next().unwrap();
        assert_eq!((held.layout, held.participants), (layout(4), 1));
    }
    assert_eq!(world.servers[0].terminal(a).unwrap().role, Role::Chairman);
    assert_eq!(world.servers[1].terminal(b).unwrap().role, Role::Participant);
    assert_eq!(world.database.wanted().unwrap(), []);
}

#[test]
fn a_later_request_stands_in_place_of_what_is_to_be_undone() {
    let mut world = perfect(2);
    world.must(conference(1, &[terminal(1, 1), terminal(2, 1)]));
    let port = world.ports[1];
    world.network.set_cut(port, true);
    world.refused(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(9) });
    world.network.set_cut(port, false);
    world.must(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(13) });
    world.settle();
    world.check();
    assert!(world.servers.iter().all(|server| server.meetings().next().unwrap().layout == layout(13)));
}

/// The disk is full when it is to be written that what was wanted is done: what the database still
/// wants then is older than what clients are told from there on.
#[test]
fn what_the_database_wants_for_want_of_room_undoes_nothing_later() {
    let is_wanted = |world: &World| !world.database.wanted().unwrap().is_empty();
    for dies in [false, true] {
        let mut world = perfect(1);
        let (a, b) = (terminal(1, 1), terminal(1, 2));
        world.must(conference(1, &[a, b]));
        world.commits_fail = 4..5;
        assert_eq!(world.refused(role(b, Role::Chairman)).kind, RefusalKind::Database);
        assert!(is_wanted(&world), "it was written ahead");
        if dies {
            world.must(role(a, Role::SpeakerOne));
            world.die(true);
            world.open_database();
        }
        world.settle();
        assert!(!is_wanted(&world), "dies: {dies}");
        let roles = [a, b].map(|terminal| world.servers[0].terminal(terminal).unwrap().role);
        assert_eq!(roles, [if dies { Role::SpeakerOne } else { Role::Participant }, Role::Chairman]);
    }
}

/// A death cut short the command that made somebody chairman: its terminal has reported that, and
/// the table's part does not say so before it was updated.
#[test]
fn who_is_chairman_by_its_report_alone_gives_the_chair_up() {
    let mut world = perfect(1);
    let (a, b, c) = (terminal(1, 1), terminal(1, 2), terminal(1, 3));
    world.must(conference(1, &[a, b, c]));
    world.must(role(a, Role::Participant));
    let now = world.now;
    world.servers[0].command_here(now, ONE, &Message::RoleSet { terminal: b, role: Role::Chairman }).unwrap();
    world.run_until(|world| world.writer.table().terminal(b).unwrap().role == Role::Chairman);
    assert_eq!(world.writer.table().part(ONE, domain(1)).unwrap().chairman, crate::wire::Address::default());
    world.must(role(c, Role::Chairman));
    world.settle();
    let roles = [a, b, c].map(|terminal| world.servers[0].terminal(terminal).unwrap().role);
    assert_eq!(roles, [Role::Participant, Role::Participant, Role::Chairman]);
}

/// Who is in the chair of a part whose members are still to be asked for is not known.
#[test]
fn the_chair_is_not_taken_while_members_are_in_doubt() {
    for state in [MeetingState::InMeeting, MeetingState::Recovering] {
        let mut world = perfect(2);
        let (a, b) = (terminal(1, 1), terminal(1, 2));
        world.must(conference(1, &[a, b, terminal(2, 1)]));
        let doubt = |part: &mut Part| (part.state, part.in_doubt) = (state, true);
        world.writer.update_part(ONE, domain(2), doubt).unwrap();
        let asked = world.ask(role(b, Role::Chairman));
        for _ in 0..20 {
            world.step();
        }
        assert_eq!((world.replies.get(&asked), world.servers[0].terminal(b).unwrap().role), (None, Role::Participant));
        let settled = |part: &mut Part| (part.state, part.in_doubt) = (MeetingState::InMeeting, false);
        world.writer.update_part(ONE, domain(2), settled).unwrap();
        world.settle();
        world.replies[&asked].clone().unwrap();
        world.check();
    }
}

#[test]
fn members_of_a_start_that_failed_are_free_at_once() {
    let mut world = perfect(2);
    let port = world.ports[1];
    world.network.set_cut(port, true);
    world.refused(conference(1, &[terminal(1, 1), terminal(2, 1)]));
    assert_eq!(world.writer.table().count_terminals(), 0);
    world.must(conference(2, &[terminal(1, 1)]));
}

/// A command that was given up is not sent again, and its answer, if it comes after all, is a
/// reason to look.
#[test]
fn a_late_answer_to_what_was_given_up_is_heard() {
    let mut world = perfect(1);
    world.must(conference(1, &[terminal(1, 1)]));
    world.commits_run = false;
    let late = terminal(1, 2);
    let asked = world.ask_within(add(ONE, &[late]), Duration::from_millis(50));
    let command = world.poll_transmit().unwrap();
    let port = world.ports[0];
    world.network.set_cut(port, true);
    world.now = world.now + Duration::from_millis(50);
    world.operations.handle_timeout(world.now, &mut world.writer);
    assert_eq!(world.poll_transmit(), None, "given up, and not sent while that is written");
    world.commits_run = true;
    world.run_until(|world| world.replies.contains_key(&asked));
    assert!(world.doubted.remove(&domain(1)));
    let answer = Message::MemberAck { opcode: Opcode::MemberAddAck, version: 3, terminal: late };
    let header = command.header.answer(Status::Ok);
    assert!(world.handle_message(domain(1), &header, &answer));
    assert_eq!(world.operations.poll_event(), Some(OperationsEvent::Unanswered { domain: domain(1) }));
    assert!(!world.handle_message(domain(1), &header, &answer), "once");
}

#[test]
fn an_answer_about_another_terminal_is_none() {
    let mut world = perfect(1);
    world.must(conference(1, &[terminal(1, 1)]));
    world.ask(add(ONE, &[terminal(1, 2)]));
    let command = world.poll_transmit().unwrap();
    let header: Header = command.header.answer(Status::Ok);
    let answer = |number| {
        let terminal = terminal(1, number);
        Message::MemberAck { opcode: Opcode::MemberAddAck, version: 3, terminal }
    };
    assert!(!world.handle_message(domain(1), &header, &answer(3)));
    assert!(world.handle_message(domain(1), &header, &answer(2)));
}

#[test]
fn a_server_whose_memory_went_back_is_held_against_the_table() {
    let mut world = perfect(1);
    world.must(conference(1, &[terminal(1, 1)]));
    world.writer.update_part(ONE, domain(1), |part| part.version = 11).unwrap();
    world.must(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(9) });
    assert!(world.doubted.contains(&domain(1)));
    assert_eq!(world.writer.table().part(ONE, domain(1)).unwrap().version, 11, "that is what the audit finds it by");
}

/// The disk is full for a while when what was refused is undone.
#[test]
fn an_errand_is_tried_until_it_is_done() {
    let mut world = perfect(2);
    world.servers[1].set_capacity(0);
    world.commits_fail = 4..12;
    let asked = world.ask(conference(1, &[terminal(1, 1), terminal(2, 1)]));
    world.run_until(|world| world.replies.contains_key(&asked));
    world.settle();
    assert!(world.commits_fail.is_empty(), "it was tried as often as it failed: {:?}", world.commits_fail);
    assert!(world.unfinished > 0, "and said");
    world.servers[1].set_capacity(100);
    world.check();
    assert_eq!(world.servers[0].meetings().count(), 0);
    world.must(conference(2, &[terminal(1, 1)]));
}

/// The file was lost, or an older one was brought back, while the table lives.
#[test]
fn a_conference_that_the_database_lacks_is_written_with_the_next_change() {
    let mut world = perfect(2);
    world.must(conference(1, &[terminal(1, 1), terminal(2, 1)]));
    let requests = [
        ConferenceRequest::SetLayout { meeting: ONE, layout: layout(9) },
        ConferenceRequest::SetFlags { meeting: ONE, terminal: terminal(1, 1), mask: Flags::MUTED, value: Flags::MUTED },
    ];
    for request in requests {
        let epoch = world.epoch;
        world.database.commit(&[crate::database::Change::Forget(ONE)], epoch).unwrap();
        world.must(request);
        world.settle();
        world.check();
    }
}

#[test]
fn a_conference_with_a_part_out_of_the_configuration_can_be_ended() {
    let mut world = perfect(2);
    world.must(conference(1, &[terminal(1, 1), terminal(2, 1)]));
    world.configured = vec![domain(1)];
    world.die(false);
    world.open_database();
    world.refused(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(9) });
    world.must(ConferenceRequest::End { meeting: ONE });
    assert_eq!(world.writer.table().count_parts(), 0);
    assert!(
        world.database.ended(MeetingId(1)).unwrap().is_some(),
        "so that the other part is ended when it comes back"
    );
}
