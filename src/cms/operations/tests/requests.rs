//! For any request and any content of the table there is an answer, and no panic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::world::{conference, domain, exchanges, layout};
use crate::cascade::Purpose;
use crate::cms::{CommandSettings, ConferenceRequest, NewMember, Operations, ReplyId};
use crate::database::{CommitError, Wanted};
use crate::table::{Capacity, OwnerId, Part, Table, Terminal};
use crate::time::Nanos;
use crate::wire::{Address, Domain, Epoch, Flags, Level, MeetingId, MeetingState, Message, Opcode, Role, Run, Status};

/// Domains of the configuration: 1 and 2. Terminals have addresses in 1 to 4, and are members
/// wherever.
const CONFIGURED: u64 = 2;

fn any_address() -> impl Strategy<Value = Address> {
    (0..5u64, 0..4u16)
        .prop_map(|(number, device)| Domain::new(number).map_or(Address::default(), |it| it.device(device)))
}

fn any_role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Participant), Just(Role::Chairman), Just(Role::SpeakerOne)]
}

fn any_part() -> impl Strategy<Value = (u64, u64, MeetingState, bool, Address, Vec<(Address, Role)>)> {
    let state = prop_oneof![
        4 => Just(MeetingState::InMeeting),
        1 => Just(MeetingState::Missing),
        1 => Just(MeetingState::Ending),
        1 => Just(MeetingState::Ended),
        1 => Just(MeetingState::Starting),
        1 => Just(MeetingState::Recovering),
    ];
    let members = prop::collection::vec((any_address(), any_role()), 0..4);
    (1..4u64, 1..5u64, state, any::<bool>(), any_address(), members)
}

fn any_request() -> impl Strategy<Value = ConferenceRequest> {
    let meeting = || (0..5u64).prop_map(MeetingId);
    let member = (any_address(), any_role()).prop_map(|(terminal, role)| NewMember { terminal, role });
    let members = prop::collection::vec(member, 0..5);
    prop_oneof![
        (prop::option::of(0..5u64), prop::collection::vec(any_address(), 0..4))
            .prop_map(|(meeting, members)| conference(meeting, &members)),
        (meeting(), members).prop_map(|(meeting, members)| ConferenceRequest::Add { meeting, members }),
        (meeting(), any_address()).prop_map(|(meeting, terminal)| ConferenceRequest::Remove { meeting, terminal }),
        (meeting(), any_address(), any_role()).prop_map(|(meeting, terminal, role)| ConferenceRequest::SetRole {
            meeting,
            terminal,
            role
        }),
        (meeting(), any_address()).prop_map(|(meeting, terminal)| ConferenceRequest::SetFlags {
            meeting,
            terminal,
            mask: Flags::MUTED,
            value: Flags::MUTED
        }),
        meeting().prop_map(|meeting| ConferenceRequest::SetLayout { meeting, layout: layout(9) }),
        meeting().prop_map(|meeting| ConferenceRequest::End { meeting }),
    ]
}

/// How an autonomous server answers, and whether the disk does.
fn any_outcomes() -> impl Strategy<Value = Vec<(u8, bool)>> {
    prop::collection::vec((0..8u8, prop::bool::weighted(0.8)), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_answered_whatever_the_table_holds(
        parts in prop::collection::vec(any_part(), 0..6),
        wanted in prop::collection::vec((any_address(), prop::option::of(any_role())), 0..3),
        requests in prop::collection::vec(any_request(), 1..5),
        outcomes in any_outcomes(),
    ) {
        let epoch = Epoch::new(1, 5);
        let table = Arc::new(Table::on_heap(Capacity { meetings: 64, terminals: 64 }));
        let mut writer = table.writer(OwnerId::CONTROL);
        for (meeting, number, state, ours, chairman, members) in parts {
            let (meeting, domain) = (MeetingId(meeting), domain(number));
            let part = Part {
                meeting,
                domain,
                version: 3,
                epoch: if ours { epoch } else { Epoch::NONE },
                state,
                level: Level::HIGHEST,
                layout: layout(4),
                participants: 0,
                chairman,
                in_doubt: false,
                is_unlisted: false,
                run: Run(meeting.0),
            };
            let _ = writer.insert_part(&part);
            for (terminal, role) in members {
                let _ = writer.join(meeting, domain, &Terminal::new(terminal, meeting, role));
            }
        }
        let domains = (1..=CONFIGURED).map(domain);
        let mut exchanges = exchanges(domains.clone(), epoch);
        let mut operations = Operations::new(epoch, domains, CommandSettings::default());
        let roles: BTreeMap<_, _> = wanted.iter().filter_map(|&(terminal, role)| Some((terminal, role?))).collect();
        let wanted = Wanted { layout: Some(layout(9)), roles, members: wanted.into_iter().collect() };
        let mut now = Nanos(1);
        operations.handle_opened(now, MeetingId(1), Vec::new(), vec![(MeetingId(1), wanted)], &mut writer);
        let asked = requests.len();
        for (id, request) in requests.into_iter().enumerate() {
            operations.handle_request(now, ReplyId(id as u64), request, now + Duration::from_millis(400), &mut writer);
        }
        let mut answered = 0;
        let mut outcomes = outcomes.into_iter().cycle();
        for _ in 0..1000 {
            while let Some(command) = operations.poll_transmit(now, &mut exchanges) {
                let header = command.header.answer(Status::Ok);
                let opcode = Opcode::from_wire(command.message.opcode()).and_then(Opcode::answer).unwrap();
                let refused = |status| Message::Refused { opcode: opcode.wire(), status, value: 0 };
                let message = match (outcomes.next().unwrap().0, command.message) {
                    (0, _) => continue,
                    (1, _) => refused(Status::UnknownTerminal),
                    (2, _) => refused(Status::Conflict),
                    (3, _) => refused(Status::UnknownMeeting),
                    (_, Message::MemberAdd { terminal, .. }
                        | Message::MemberRemove { terminal }
                        | Message::RoleSet { terminal, .. }
                        | Message::FlagsSet { terminal, .. }) => Message::MemberAck { opcode, version: 4, terminal },
                    _ => Message::MeetingAck { opcode, version: 4 },
                };
                operations.handle_message(now, command.domain, &header, &message, &mut exchanges, &mut writer);
            }
            while let Some((job, _)) = operations.poll_commit() {
                let written = outcomes.next().unwrap().1;
                let result = if written { Ok(()) } else { Err(CommitError::Storage("full".into())) };
                operations.handle_committed(now, job, result, &mut writer);
            }
            while operations.poll_reply().is_some() {
                answered += 1;
            }
            while operations.poll_event().is_some() {}
            if answered == asked && now > Nanos(10_000_000_000) {
                break;
            }
            let repeat = exchanges.values().filter_map(|exchange| exchange.due(Purpose::Command)).min();
            let Some(due) = operations.poll_timeout().into_iter().chain(repeat).min() else { break };
            now = now.max(due) + Duration::from_millis(1);
            operations.handle_timeout(now, &mut writer);
        }
        prop_assert_eq!(answered, asked, "each client is answered once");
    }
}

/// A terminal behind another domain's autonomous server is commanded by way of its part, not of its
/// address.
#[test]
fn a_member_is_commanded_by_way_of_its_part() {
    let mut world = super::perfect(2);
    world.must(conference(1, &[super::terminal(1, 1), super::terminal(2, 1)]));
    for number in [2, 9] {
        let behind = domain(number).device(77);
        let state = Terminal::new(behind, MeetingId(1), Role::Participant);
        world.writer.join(MeetingId(1), domain(1), &state).unwrap();
        for request in [
            ConferenceRequest::SetRole { meeting: MeetingId(1), terminal: behind, role: Role::SpeakerOne },
            ConferenceRequest::Remove { meeting: MeetingId(1), terminal: behind },
        ] {
            world.ask_within(request, Duration::from_millis(10));
            let command = world.poll_transmit().expect("it is commanded");
            assert_eq!(command.domain, domain(1), "{behind}");
            world.step();
            world.run_until(|world| world.operations.under_way() == 0);
        }
    }
}
