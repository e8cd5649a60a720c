//! An autonomous server may say anything: nothing panics, nothing goes round without end, and
//! nothing of another domain is touched.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::scripted_peer::{EPOCH, PAGE, domain, page_frame, summary, terminal};
use crate::cascade::Speakers;
use crate::recovery::{
    Body, DatabaseStore, Heard, NoOrphans, Orphans, Path, Request, ServerRecovery, Settings, TableStore,
};
use crate::table::{Capacity, OwnerId, Part, Table, Terminal, Writer};
use crate::time::Nanos;
use crate::wire::{
    DEFAULT_ETHERTYPE, Domain, Epoch, Frame, Header, MeetingId, MeetingState, MeetingSummary, Message, Opcode, Record,
    Role, Run, Status, TakeoverResult, TerminalState,
};

/// What the autonomous server does to an answer, besides what is right.
#[derive(Clone, Debug)]
struct Whim {
    /// Bytes of the answer's records that become others.
    spoils: Vec<(u16, u8)>,
    /// What it lists, and in what order.
    listed: Vec<(u8, u8, u8)>,
    status: Status,
    refuses: bool,
    answers: bool,
}

fn whim() -> impl Strategy<Value = Whim> {
    let spoils = vec((0..200_u16, any::<u8>()), 0..3);
    let listed = vec((0..6_u8, 0..6_u8, 0..4_u8), 0..8);
    let status = proptest::sample::select(Status::ALL);
    (spoils, listed, status, prop::bool::weighted(0.2), prop::bool::weighted(0.9))
        .prop_map(|(spoils, listed, status, refuses, answers)| Whim { spoils, listed, status, refuses, answers })
}

fn other() -> Domain {
    Domain::new(367).expect("a domain")
}

/// A table of meetings 1 to 4 of ours and of another domain, some of them the same conference, with
/// two terminals each.
fn table() -> (Arc<Table>, Writer) {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 32, terminals: 64 }));
    let mut writer = table.writer(OwnerId::CONTROL);
    for (of, first) in [(domain(), 1), (other(), 3)] {
        for meeting in first..first + 4 {
            let part = Part::listed(of, &summary(meeting, 1));
            writer.insert_part(&part).expect("there is room");
            for device in [2 * meeting, 2 * meeting + 1] {
                let mut member = Terminal::new(of.device(device as u16), MeetingId(meeting), Role::Participant);
                member.version = 5;
                writer.join(MeetingId(meeting), of, &member).expect("there is room");
            }
        }
    }
    (table, writer)
}

/// All that the table has of a domain.
fn all_of(table: &Table, of: Domain) -> (Vec<Part>, Vec<Terminal>) {
    let mut parts: Vec<_> = table.parts_in(of).collect();
    parts.sort_by_key(|part| part.meeting);
    let mut members: Vec<_> = parts.iter().flat_map(|part| table.members(part.meeting, of)).collect();
    members.sort_by_key(|member| member.terminal);
    (parts, members)
}

fn answer(
    server: &mut ServerRecovery,
    holdings: &mut TableStore<'_, impl crate::recovery::KeyStore>,
    now: Nanos,
    request: &Request,
    whim: &Whim,
) {
    let opcode = Opcode::from_wire(request.opcode()).and_then(Opcode::answer).expect("a request");
    if whim.refuses {
        let refused = Message::Refused { opcode: opcode.wire(), status: whim.status, value: 0 };
        server.handle_message(now, &request.header.answer(whim.status), &refused, holdings);
        return;
    }
    let header = request.header.answer(Status::Ok);
    match &request.body {
        Body::Takeover(wanted) => {
            let results: Vec<_> = (wanted.iter())
                .map(|(entry, _)| TakeoverResult {
                    meeting: entry.meeting,
                    status: Status::Ok,
                    state: MeetingState::InMeeting,
                    participants: 2,
                })
                .collect();
            page(server, holdings, now, opcode, &header, &results, whim);
        }
        Body::Message(Message::InfoQuery { first }) => {
            let all = whim.listed.iter().map(|&(meeting, version, _)| MeetingSummary {
                version: version.into(),
                run: Run(u64::from(version / 3) * 7),
                ..summary(meeting.into(), 1)
            });
            // It lists what was not asked for as well, now and then.
            let listed: Vec<_> = all.filter(|summary| whim.status == Status::Ok || summary.meeting >= *first).collect();
            page(server, holdings, now, opcode, &header, &listed, whim);
        }
        Body::Message(Message::StateQuery) => {
            let of = [domain(), other(), domain(), Domain::new(9).expect("a domain")];
            let listed: Vec<_> = (whim.listed.iter())
                .map(|&(device, version, whose)| TerminalState {
                    terminal: of[usize::from(whose)].device(device.into()),
                    version: u32::from(version).wrapping_mul(1_000_000_000),
                    ..terminal(request.header.meeting.0, 1)
                })
                .collect();
            page(server, holdings, now, opcode, &header, &listed, whim);
        }
        Body::Message(Message::Connect { .. }) => {
            let (highest_epoch, boot_generation) = (Epoch::new(1, 6), whim.spoils.len() as u32);
            let ack = Message::ConnectAck { highest_epoch, boot_generation, held: 4, window: 3 };
            server.handle_message(now, &header, &ack, holdings);
        }
        Body::Message(Message::ReplayDone { count, digest }) => {
            let agrees = Message::Audit { count: *count, digest: digest.wrapping_add(whim.spoils.len() as u64 / 2) };
            server.handle_message(now, &header, &agrees, holdings);
        }
        Body::Message(_) => {
            let ended = Message::MeetingAck { opcode: Opcode::MeetingEndAck, version: 2 };
            server.handle_message(now, &header, &ended, holdings);
        }
    }
}

fn page<R: Record + Copy>(
    server: &mut ServerRecovery,
    holdings: &mut TableStore<'_, impl crate::recovery::KeyStore>,
    now: Nanos,
    opcode: Opcode,
    header: &Header,
    records: &[R],
    whim: &Whim,
) {
    let (mut buffer, length) = page_frame(opcode, header, (0, 1), records);
    for &(at, byte) in &whim.spoils {
        // From the counts of the page's head on.
        buffer[PAGE + usize::from(at)] = byte;
    }
    let Ok(frame) = Frame::parse(&buffer[..length], DEFAULT_ETHERTYPE) else { return };
    if let Ok(page) = frame.page() {
        server.handle_page(now, opcode, &frame.header(), &page, holdings);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_said_another_domains_records_stay_as_they_are(whims in vec(whim(), 1..60), is_cache: bool) {
        let (table, mut writer) = table();
        let before = all_of(&table, other());
        let speakers = Speakers::new([(domain(), &[][..]), (other(), &[][..])]);
        let path = if is_cache { Path::Cache } else { Path::Database };
        let settings = Settings { orphans: Orphans::Adopt, ..Settings::default() };
        let mut server = ServerRecovery::new(domain(), EPOCH, path, settings, Nanos(0));
        let mut holdings = TableStore {
            writer: &mut writer,
            store: &mut DatabaseStore { database: None, is_lost: true, write: drop },
            is_busy: &|_| false,
            speakers: &speakers,
            orphans: &mut NoOrphans,
            replaced: &mut Vec::new(),
            warming: None,
        };
        let mut now = Nanos(0);
        let mut whims = whims.iter().cycle();
        for _ in 0..60 {
            for _ in 0..200 {
                let Some(request) = server.poll_transmit(now, &mut holdings) else { break };
                let whim = whims.next().expect("there is one");
                if whim.answers {
                    answer(&mut server, &mut holdings, now, &request, whim);
                }
            }
            while server.poll_event().is_some() {}
            let whim = whims.next().expect("there is one");
            let heard = Heard { held: whim.listed.len() as u32, boot_generation: whim.spoils.len() as u16, highest: EPOCH };
            server.handle_heartbeat(now, heard, || 4);
            server.handle_stray(now, [MeetingId(1), MeetingId(5)], &mut holdings);
            let Some(next) = server.poll_timeout() else { break };
            now = Nanos(next.0.max(now.0 + 1));
        }
        prop_assert_eq!(all_of(&table, other()), before);
        prop_assert!(table.verify().is_empty(), "{:?}", table.verify());
    }
}
