//! Operations against autonomous servers, with a real table and a real database.

mod deaths;
mod halves;
mod identity;
mod requests;
mod world;

use std::time::Duration;

use self::world::{World, conference, domain, layout, terminal};
use crate::cms::ConferenceAnswer;
use crate::cms::{ConferenceRequest, NewMember, RefusalKind, Refused};
use crate::lab::sim::NetworkSettings;
use crate::wire::{Address, Epoch, Flags, Header, MeetingId, MeetingState, Message, Opcode, Role, Status, Transaction};

const ONE: MeetingId = MeetingId(1);

fn perfect(domains: u64) -> World {
    World::open(domains, 100, NetworkSettings::PERFECT, 1)
}

fn add(meeting: MeetingId, members: &[Address]) -> ConferenceRequest {
    let members = members.iter().map(|&terminal| NewMember::participant(terminal)).collect();
    ConferenceRequest::Add { meeting, members }
}

fn role(terminal: Address, role: Role) -> ConferenceRequest {
    ConferenceRequest::SetRole { meeting: ONE, terminal, role }
}

#[test]
fn a_conference_is_started_in_all_of_its_domains() {
    let mut world = perfect(3);
    let members = [terminal(1, 1), terminal(2, 1), terminal(1, 2), terminal(3, 9)];
    let ConferenceAnswer::Started(started) = world.must(conference(None, &members)) else { panic!("it is started") };
    assert_eq!((started.meeting, started.members, started.parts.len()), (ONE, 4, 3));
    assert!(started.parts.iter().all(|part| part.state == MeetingState::InMeeting));
    world.settle();
    world.check();
    assert_eq!(world.servers[0].meetings().next().unwrap().chairman, terminal(1, 1));
    assert_eq!(world.database.name(ONE).unwrap(), Some(("Conference".into(), 1)));
    let ConferenceAnswer::Started(next) = world.must(conference(None, &[terminal(1, 5)])) else {
        panic!("it is started")
    };
    assert_eq!(next.meeting, MeetingId(2));
}

#[test]
fn every_operation_is_known_to_servers_table_and_database() {
    for (settings, seed) in [(NetworkSettings::PERFECT, 0), (NetworkSettings::BAD, 1), (NetworkSettings::BAD, 2)] {
        println!("seed {seed}");
        let mut world = World::open(3, 100, settings, seed);
        let (a, b, c, d) = (terminal(1, 1), terminal(1, 2), terminal(2, 1), terminal(3, 1));
        world.must(conference(1, &[a, b, c]));
        world.must(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(16) });
        world.must(add(ONE, &[d, terminal(3, 2), terminal(2, 2)]));
        assert_eq!(world.writer.table().parts_of(ONE).count(), 3, "a domain came into the conference");
        world.must(role(b, Role::SpeakerOne));
        world.must(role(b, Role::Chairman));
        world.settle();
        assert_eq!(world.servers[0].terminal(a).unwrap().role, Role::Participant, "there is one chairman");
        world.must(ConferenceRequest::SetFlags { meeting: ONE, terminal: c, mask: Flags::MUTED, value: Flags::MUTED });
        world.must(ConferenceRequest::Remove { meeting: ONE, terminal: terminal(3, 2) });
        world.must(ConferenceRequest::Remove { meeting: ONE, terminal: a });
        world.settle();
        assert_ne!(world.servers[1].terminal(c).unwrap().flags.0 & Flags::MUTED.0, 0);
        let kept = world.database.meeting(ONE).unwrap().unwrap();
        assert_eq!(kept.members.iter().find(|member| member.terminal == c).unwrap().flags.0 & Flags::MUTED.0, 1);
        assert_eq!(kept.chairman, b);
        world.must(ConferenceRequest::End { meeting: ONE });
        assert!(world.servers.iter().all(|server| server.meetings().next().is_none()));
        assert!(world.database.ended(ONE).unwrap().is_some());
        assert_eq!(world.writer.table().count_terminals(), 0);
        world.must(conference(1, &[a, c]));
        world.settle();
        world.check();
    }
}

#[test]
fn a_thousand_conferences_are_started_at_once() {
    let mut world = World::open(4, 2500, NetworkSettings::PERFECT, 7);
    let mut asked = Vec::new();
    for meeting in 0..1000u16 {
        // Ten members in two domains each.
        let (first, second) = (u64::from(meeting % 4) + 1, u64::from((meeting + 1) % 4) + 1);
        let members: Vec<_> = (0..5).flat_map(|n| [(first, n), (second, 1250 + n)]).collect();
        let number = meeting / 4 * 5 + 1;
        let members: Vec<_> = members.into_iter().map(|(domain, n)| terminal(domain, number + n)).collect();
        asked.push(world.ask(conference(u64::from(meeting) + 1, &members)));
    }
    world.run_until(|world| world.replies.len() == 1000);
    for id in asked {
        let Ok(ConferenceAnswer::Started(started)) = &world.replies[&id] else { panic!("{:?}", world.replies[&id]) };
        assert_eq!((started.members, started.parts.len(), started.refused.len()), (10, 2, 0));
    }
    assert!(world.operations.take_round_trips().count() > 0);
    world.settle();
    world.check();
}

#[test]
fn a_conference_goes_on_without_whom_its_server_refused() {
    let mut world = perfect(1);
    let stranger = terminal(1, 101);
    let ConferenceAnswer::Started(started) = world.must(conference(1, &[terminal(1, 1), stranger])) else {
        panic!("started")
    };
    assert_eq!(started.refused, [Refused { terminal: stranger, why: Status::UnknownTerminal }]);
    assert_eq!(started.members, 1);
    world.settle();
    world.check();
    let refusal = world.refused(conference(2, &[stranger]));
    assert_eq!(refusal.kind, RefusalKind::Declined, "{refusal}");
    world.settle();
    world.check();
    assert!(world.database.ended(MeetingId(2)).unwrap().is_some());
}

#[test]
fn a_terminal_is_in_one_conference() {
    let mut world = perfect(2);
    let (a, b) = (terminal(1, 1), terminal(2, 1));
    world.must(conference(1, &[a, terminal(1, 2)]));
    for request in [conference(2, &[b, a]), conference(1, &[b])] {
        let refusal = world.refused(request);
        assert_eq!(refusal.kind, RefusalKind::Conflict, "{refusal}");
        assert!(refusal.what.contains("meeting 1"), "{refusal}");
    }
    world.must(conference(2, &[b]));
    let refusal = world.refused(add(ONE, &[terminal(1, 3), b]));
    assert_eq!(refusal.kind, RefusalKind::Conflict, "{refusal}");
    world.must(add(ONE, &[terminal(1, 2)]));
    world.settle();
    world.check();
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    let mut world = perfect(1);
    let a = terminal(1, 1);
    world.must(conference(1, &[a]));
    let nobody = terminal(1, 50);
    let cases = [
        (conference(2, &[]), RefusalKind::BadRequest, "no member"),
        (conference(2, &[a, a]), RefusalKind::BadRequest, "twice"),
        (conference(2, &[domain(1).server()]), RefusalKind::BadRequest, "not a terminal"),
        (conference(2, &[domain(9).device(1)]), RefusalKind::NotFound, "domain 9"),
        (conference(0, &[nobody]), RefusalKind::BadRequest, "not a meeting's id"),
        (conference(1 << 60, &[nobody]), RefusalKind::BadRequest, "not a meeting's id"),
        (ConferenceRequest::End { meeting: MeetingId(9) }, RefusalKind::NotFound, "no meeting 9"),
        (ConferenceRequest::Remove { meeting: ONE, terminal: nobody }, RefusalKind::NotFound, "not in meeting 1"),
        (role(nobody, Role::Chairman), RefusalKind::NotFound, "not in meeting 1"),
        (ConferenceRequest::SetLayout { meeting: MeetingId(2), layout: layout(1) }, RefusalKind::NotFound, "meeting 2"),
        (add(MeetingId(2), &[nobody]), RefusalKind::NotFound, "meeting 2"),
    ];
    for (request, kind, what) in cases {
        let refusal = world.refused(request);
        assert!(refusal.kind == kind && refusal.what.contains(what) && !refusal.remedy.is_empty(), "{refusal:?}");
    }
    world.settle();
    world.check();
}

#[test]
fn an_end_is_finished_when_the_server_answers_again() {
    let mut world = perfect(2);
    let (a, b) = (terminal(1, 1), terminal(2, 1));
    world.must(conference(1, &[a, b]));
    let port = world.ports[1];
    world.network.set_cut(port, true);
    let refusal = world.refused(ConferenceRequest::End { meeting: ONE });
    assert_eq!(refusal.kind, RefusalKind::Unreachable);
    assert!(refusal.what.contains("domain 2 does not answer"), "{refusal}");
    let part = world.writer.table().part(ONE, domain(2)).unwrap();
    assert_eq!(part.state, MeetingState::Ending);
    let refusal = world.refused(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(1) });
    assert_eq!(refusal.kind, RefusalKind::Conflict, "it is being ended: {refusal}");
    world.network.set_cut(port, false);
    world.settle();
    world.check();
    assert!(world.database.ended(ONE).unwrap().is_some());
}

/// The client asks once more, and for another conference of the number, while the errand of its
/// first request waits for its turn.
#[test]
fn an_end_that_is_tried_again_leaves_what_was_started_since() {
    let mut world = perfect(2);
    let members = [terminal(1, 1), terminal(2, 1)];
    world.must(conference(1, &members));
    let port = world.ports[1];
    world.network.set_cut(port, true);
    assert_eq!(world.refused(ConferenceRequest::End { meeting: ONE }).kind, RefusalKind::Unreachable);
    assert_eq!(world.operations.left(), 1);
    let asked = [ConferenceRequest::End { meeting: ONE }, conference(1, &members)].map(|request| world.ask(request));
    world.run_until(|world| world.operations.left() == 0);
    world.network.set_cut(port, false);
    world.settle();
    assert!(asked.iter().all(|asked| world.replies[asked].is_ok()), "{:?}", world.replies);
    world.check();
    assert!(world.servers.iter().all(|server| server.meetings().count() == 1));
}

/// Every autonomous server has ended it, and the disk is full when that is to be written.
#[test]
fn what_has_ended_and_is_not_forgotten_yet_grows_no_more() {
    let mut world = perfect(2);
    world.must(conference(1, &[terminal(1, 1)]));
    world.commits_fail = 4..5;
    let requests = [ConferenceRequest::End { meeting: ONE }, add(ONE, &[terminal(2, 1)])];
    let asked = requests.map(|request| world.ask(request));
    world.settle();
    let kinds = asked.map(|asked| world.replies[&asked].clone().unwrap_err().kind);
    assert_eq!(kinds, [RefusalKind::Database, RefusalKind::Conflict]);
    world.check();
    assert_eq!(world.writer.table().count_parts(), 0);
}

#[test]
fn a_start_that_one_domain_does_not_answer_is_taken_back() {
    let mut world = perfect(2);
    let port = world.ports[1];
    world.network.set_cut(port, true);
    let refusal = world.refused(conference(1, &[terminal(1, 1), terminal(2, 1)]));
    assert_eq!(refusal.kind, RefusalKind::Unreachable, "{refusal}");
    world.network.set_cut(port, false);
    world.settle();
    world.check();
    assert_eq!(world.writer.table().count_parts(), 0);
    world.must(conference(1, &[terminal(1, 1), terminal(2, 1)]));
}

#[test]
fn members_of_a_domain_that_does_not_answer_are_not_added() {
    let mut world = perfect(2);
    world.must(conference(1, &[terminal(1, 1)]));
    let port = world.ports[1];
    world.network.set_cut(port, true);
    let refusal = world.refused(add(ONE, &[terminal(1, 2), terminal(2, 1)]));
    assert_eq!(refusal.kind, RefusalKind::Unreachable, "{refusal}");
    world.network.set_cut(port, false);
    world.settle();
    world.check();
    assert_eq!(world.writer.table().count_terminals(), 1, "nor is the one that answered: all of it or nothing");
    world.must(add(ONE, &[terminal(2, 1)]));
    world.settle();
    world.check();
}

#[test]
fn a_request_waits_for_the_take_over_and_not_beyond_its_deadline() {
    let mut world = perfect(1);
    world.must(conference(1, &[terminal(1, 1)]));
    world.writer.update_part(ONE, domain(1), |part| part.epoch = Epoch::new(0, 1)).unwrap();
    let late =
        world.ask_within(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(1) }, Duration::from_millis(50));
    let patient = world.ask(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(9) });
    world.run_until(|world| world.replies.contains_key(&late));
    let refusal = world.replies[&late].clone().unwrap_err();
    assert!(refusal.kind == RefusalKind::Busy && refusal.what.contains("not taken over"), "{refusal}");
    let epoch = world.epoch;
    world.writer.update_part(ONE, domain(1), |part| part.epoch = epoch).unwrap();
    world.operations.handle_taken_over(world.now, &mut world.writer);
    world.run_until(|world| world.replies.contains_key(&patient));
    assert!(world.replies[&patient].is_ok());
    world.settle();
    world.check();
}

#[test]
fn a_request_waits_for_the_database() {
    let mut world = World::new(1, 100, NetworkSettings::PERFECT, 1);
    let asked = world.ask(conference(None, &[terminal(1, 1)]));
    for _ in 0..10 {
        world.step();
    }
    assert!(world.replies.is_empty());
    world.open_database();
    world.run_until(|world| world.replies.contains_key(&asked));
    assert!(world.replies[&asked].is_ok());
    let mut world = World::new(1, 100, NetworkSettings::PERFECT, 1);
    let refusal = world.refused(conference(None, &[terminal(1, 1)]));
    assert!(refusal.kind == RefusalKind::Busy && refusal.what.contains("database"), "{refusal}");
}

#[test]
fn nobody_is_told_before_it_is_durable() {
    let mut world = perfect(1);
    world.must(conference(1, &[terminal(1, 1)]));
    world.commits_run = false;
    let asked = world.ask(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(9) });
    world.run_until(|world| world.servers[0].meetings().next().unwrap().layout == layout(9));
    for _ in 0..3 {
        world.step();
    }
    assert!(world.replies.is_empty());
    let started = world.ask(conference(2, &[terminal(1, 2)]));
    world.run_until(|world| world.replies.len() == 2);
    assert_eq!(world.servers[0].meetings().count(), 1, "a start is written ahead of its first command");
    let kinds = [asked, started].map(|id| world.replies[&id].clone().unwrap_err().kind);
    assert_eq!(kinds, [RefusalKind::Database; 2]);
    world.commits_run = true;
    world.settle();
    world.check();
}

#[test]
fn a_newer_dispatch_server_has_the_domain_to_itself() {
    let mut world = perfect(2);
    world.must(conference(1, &[terminal(1, 1)]));
    let old = world.epoch;
    let newer = Epoch::new(2, 1);
    let asked = world.ask(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(9) });
    let command = world.poll_transmit().unwrap();
    let header = Header { status: Status::StaleEpoch.wire(), ..command.header };
    let opcode = Opcode::LayoutSetAck.wire();
    let refused = Message::Refused { opcode, status: Status::StaleEpoch, value: newer.0 };
    assert!(world.handle_message(domain(1), &header, &refused));
    let event = world.operations.poll_event();
    assert_eq!(event, Some(super::OperationsEvent::Fenced { domain: domain(1), by: newer }));
    assert_eq!(world.operations.poll_event(), None);
    world.run_until(|world| world.replies.contains_key(&asked));
    assert_eq!(world.replies[&asked].clone().unwrap_err().kind, RefusalKind::NotInControl);
    assert_eq!(world.refused(conference(2, &[terminal(1, 2)])).kind, RefusalKind::NotInControl);
    assert_eq!((world.epoch, world.operations.commands()), (old, 0));
    world.must(conference(3, &[terminal(2, 2)]));
}

/// It would be ended as soon as an operator gives control back, however long the other dispatch
/// server has gone on with it.
#[test]
fn an_end_that_is_refused_for_another_dispatch_server_is_not_left_for_later() {
    let mut world = perfect(1);
    world.must(conference(1, &[terminal(1, 1)]));
    world.operations.handle_fence(world.now, domain(1), Epoch::new(2, 1), &mut world.writer);
    assert_eq!(world.refused(ConferenceRequest::End { meeting: ONE }).kind, RefusalKind::NotInControl);
    world.settle();
    assert_eq!(world.writer.table().part(ONE, domain(1)).unwrap().state, MeetingState::InMeeting);
    assert_eq!(world.database.unfinished().unwrap(), []);
}

#[test]
fn one_that_has_written_to_the_database_stops_everything() {
    let mut world = perfect(1);
    world.must(conference(1, &[terminal(1, 1)]));
    let newer = Epoch::new(2, 1);
    world.database.commit(&[], newer).unwrap();
    let asked = world.ask(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(9) });
    world.run_until(|world| world.replies.contains_key(&asked));
    assert_eq!(world.replies[&asked].clone().unwrap_err().kind, RefusalKind::NotInControl);
    assert_eq!(world.refused(conference(2, &[terminal(1, 2)])).kind, RefusalKind::NotInControl);
}

#[test]
fn an_answer_counts_only_from_whom_and_to_what_was_asked() {
    let mut world = perfect(2);
    world.must(conference(1, &[terminal(1, 1)]));
    world.ask(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(9) });
    let command = world.poll_transmit().unwrap();
    let header = command.header;
    let ack = |opcode| Message::MeetingAck { opcode, version: 9 };
    let right = ack(Opcode::LayoutSetAck);
    let wrong = [
        (domain(2), header, right),
        (domain(1), Header { epoch: Epoch::new(1, 9), ..header }, right),
        (domain(1), Header { meeting: MeetingId(2), ..header }, right),
        (domain(1), Header { transaction: Transaction(1), ..header }, right),
        (domain(1), header, ack(Opcode::MeetingEndAck)),
    ];
    for (from, header, message) in wrong {
        assert!(!world.handle_message(from, &header, &message), "{header:?}");
    }
    assert!(world.handle_message(domain(1), &header, &right));
    assert!(!world.handle_message(domain(1), &header, &right), "only once");
}

#[test]
fn a_busy_server_is_asked_again_when_it_said() {
    let mut world = perfect(1);
    world.servers[0].set_busy(world.now + Duration::from_millis(700));
    world.must(conference(1, &[terminal(1, 1)]));
    world.settle();
    world.check();
}

/// An autonomous server gives a repeated request the answer that it remembers (wire.md), BUSY too;
/// and anyone who recorded that answer may repeat it.
#[test]
fn what_was_busy_is_asked_under_another_transaction_and_a_repeated_refusal_puts_nothing_off() {
    let mut world = perfect(1);
    world.must(conference(1, &[terminal(1, 1)]));
    world.ask(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(9) });
    let command = world.poll_transmit().unwrap();
    let busy = Message::Refused { opcode: Opcode::LayoutSetAck.wire(), status: Status::Busy, value: 20_000_000 };
    let header = command.header.answer(Status::Busy);
    let mut again = None;
    for _ in 0..20 {
        world.handle_message(domain(1), &header, &busy);
        world.now = world.now + Duration::from_millis(5);
        world.operations.handle_timeout(world.now, &mut world.writer);
        again = again.or(world.poll_transmit());
    }
    let again = again.expect("it is asked again when the autonomous server said");
    assert_eq!((again.message, again.header.meeting), (command.message, ONE));
    assert_ne!(again.header.transaction, command.header.transaction);
}

/// The version that the table has of a part, and the one that its autonomous server has.
fn versions(world: &World, meeting: MeetingId) -> (u64, u64) {
    let part = world.writer.table().part(meeting, domain(1)).unwrap();
    (part.version, world.servers[0].meetings().find(|held| held.meeting == meeting).unwrap().version)
}

#[test]
fn a_command_whose_answer_was_lost_is_not_hidden_by_the_next_ones() {
    let mut world = perfect(1);
    let (a, b) = (terminal(1, 1), terminal(1, 2));
    world.must(conference(1, &[a]));
    let port = world.ports[0];
    world.network.set_cut(port, true);
    let asked = world.ask_within(add(ONE, &[b]), Duration::from_millis(50));
    world.run_until(|world| world.replies.contains_key(&asked));
    assert_eq!(world.replies[&asked].clone().unwrap_err().kind, RefusalKind::Unreachable);
    world.network.set_cut(port, false);
    // What the command did there before its answers were lost.
    let now = world.now;
    world.servers[0].command_here(now, ONE, &Message::MemberAdd { terminal: b, role: Role::Participant }).unwrap();
    world.doubted.clear();
    world.must(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(9) });
    // Added there, taken out again by the undoing, and the layout.
    assert_eq!(versions(&world, ONE), (2, 5), "an audit would find that the table lacks a change");
    assert!(world.doubted.contains(&domain(1)), "and is asked for");
    world.settle();
    world.check();
}

#[test]
fn what_was_so_before_tells_of_no_change() {
    let mut world = perfect(1);
    world.must(conference(1, &[terminal(1, 1)]));
    let now = world.now;
    world.servers[0].command_here(now, ONE, &Message::LayoutSet { layout: layout(9) }).unwrap();
    world.must(ConferenceRequest::SetLayout { meeting: ONE, layout: layout(9) });
    assert_eq!(versions(&world, ONE), (2, 3));
    assert!(world.doubted.contains(&domain(1)));
    world.settle();
    world.check();
}

/// A change of chairman that is under way: its two commands, and the version before.
fn change_of_chairman(world: &mut World) -> (u64, [super::Command; 2], u64) {
    world.must(conference(1, &[terminal(1, 1), terminal(1, 2)]));
    let before = versions(world, ONE).0;
    let asked = world.ask_within(role(terminal(1, 2), Role::Chairman), Duration::from_millis(40));
    assert_eq!(world.poll_transmit(), None, "two commands are written ahead");
    world.commit_what_is_decided();
    let commands = [(); 2].map(|()| world.poll_transmit().unwrap());
    let port = world.ports[0];
    world.network.set_cut(port, true);
    (asked, commands, before)
}

fn acknowledge_role(world: &mut World, command: &super::Command, version: u64) {
    let Message::RoleSet { terminal, .. } = command.message else { panic!("{command:?}") };
    let message = Message::MemberAck { opcode: Opcode::RoleSetAck, version, terminal };
    let header = command.header.answer(Status::Ok);
    assert!(world.handle_message(domain(1), &header, &message));
}

#[test]
fn a_later_answer_alone_does_not_stand_for_the_one_before() {
    let mut world = perfect(1);
    let (asked, commands, before) = change_of_chairman(&mut world);
    acknowledge_role(&mut world, &commands[1], before + 2);
    world.run_until(|world| world.replies.contains_key(&asked));
    assert_eq!(versions(&world, ONE).0, before);
    assert!(world.doubted.contains(&domain(1)));
}

#[test]
fn answers_that_overtake_each_other_count_when_both_have_come() {
    let mut world = perfect(1);
    let (_, commands, before) = change_of_chairman(&mut world);
    acknowledge_role(&mut world, &commands[1], before + 2);
    assert_eq!(versions(&world, ONE).0, before);
    acknowledge_role(&mut world, &commands[0], before + 1);
    world.step();
    assert_eq!(versions(&world, ONE).0, before + 2);
    assert!(world.doubted.is_empty());
}
