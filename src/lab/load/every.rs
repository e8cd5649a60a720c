//! One valid frame of every opcode, to test readers of captures.

use super::frames::{header, report};
use super::population::{Party, Speaker};
use crate::time::Nanos;
use crate::wire::{
    Domain, Envelope, Epoch, Flags, Header, Key, Layout, Level, Link, LinkKind, MeetingId, MeetingState,
    MeetingSummary, Message, Opcode, ReportAck, Role, Run, Status, StreamKind, TakeoverEntry, TakeoverResult,
    TerminalState, Transaction, digest_of, encode_message, encode_page,
};

/// The epoch of the dispatch server in the examples.
const EPOCH: Epoch = Epoch::new(1, 7);

/// Whether a dispatch server sends it. PROBE and HEARTBEAT go in both directions; here they come
/// from the domain.
const fn is_from_dispatch(opcode: Opcode) -> bool {
    use Opcode as O;
    matches!(
        opcode,
        O::Connect
            | O::HeartbeatAck
            | O::InfoQuery
            | O::Takeover
            | O::TakeoverBatch
            | O::StateQuery
            | O::ReplayDone
            | O::MeetingStart
            | O::MemberAdd
            | O::MemberRemove
            | O::RoleSet
            | O::LayoutSet
            | O::FlagsSet
            | O::MeetingEnd
            | O::WindowSet
            | O::ReportAck
            | O::ReportInfoAck
            | O::ReportAckBatch
            | O::ProbeEcho
            | O::StreamSet
            | O::InfoSet
            | O::MemberCall
            | O::TerminalRelease
            | O::TopologyQuery
            | O::PathSet
    )
}

/// Writes the example of this sequence number; returns its length. `from_speaker` is the envelope
/// of a frame of this terminal, which is in this state.
pub(super) fn write(
    speaker: &Speaker<'_>,
    state: &TerminalState,
    from_speaker: Envelope,
    sequence: u64,
    sent: Nanos,
    buffer: &mut [u8],
) -> usize {
    let opcode = Opcode::ALL[(sequence % Opcode::ALL.len() as u64) as usize];
    let (party, meeting, terminal) = (speaker.party, speaker.meeting, speaker.address);
    let speaks = matches!(opcode, Opcode::Report | Opcode::ReportInfo | Opcode::Probe);
    let answered = matches!(opcode, Opcode::ReportAck | Opcode::ReportInfoAck | Opcode::ProbeEcho);
    let sender = if speaks || answered { terminal } else { party.domain.server() };
    let from_dispatch = is_from_dispatch(opcode);
    let envelope = Envelope { from: sender, ..from_speaker };
    let envelope = if from_dispatch { envelope.reply() } else { envelope };
    let key = key_of(party, from_dispatch);
    // Unsolicited frames of terminals and autonomous servers have epoch 0, and so have the answers
    // to them.
    let asked = !matches!(opcode, Opcode::Heartbeat | Opcode::HeartbeatAck) && !speaks && !answered;
    let header = Header { epoch: if asked { EPOCH } else { Epoch::NONE }, ..header(sequence, meeting) };
    let all = Header { meeting: MeetingId::NONE, ..header };
    let version = state.version;
    let mut page = |records: Records| {
        let header = if matches!(records, Records::State(_)) { &header } else { &all };
        match records {
            Records::Summary(record) => encode_page(buffer, &envelope, opcode, header, (0, 1), [record], key),
            Records::Entry(record) => encode_page(buffer, &envelope, opcode, header, (0, 1), [record], key),
            Records::Result(record) => encode_page(buffer, &envelope, opcode, header, (0, 1), [record], key),
            Records::State(record) => encode_page(buffer, &envelope, opcode, header, (0, 1), [*record], key),
            Records::Ack(record) => encode_page(buffer, &envelope, opcode, header, (0, 1), [record], key),
            Records::Link(record) => encode_page(buffer, &envelope, opcode, header, (0, 1), [record], key),
        }
        .0
    };
    let (level, layout) = (Level::new(3).expect("a level"), Layout::new(9).expect("a layout"));
    let (number, participants) = (u64::from(version), 10);
    let message = match opcode {
        Opcode::Info => {
            return page(Records::Summary(MeetingSummary {
                meeting,
                version: number,
                controller: EPOCH,
                state: MeetingState::InMeeting,
                level,
                participants,
                layout,
                chairman: terminal,
                run: Run(number),
            }));
        }
        Opcode::TakeoverBatch => return page(Records::Entry(TakeoverEntry { meeting, version: number })),
        Opcode::TakeoverBatchAck => {
            let (status, state) = (Status::Already, MeetingState::InMeeting);
            return page(Records::Result(TakeoverResult { meeting, status, state, participants }));
        }
        Opcode::State | Opcode::ReportInfo | Opcode::InfoSet => return page(Records::State(Box::new(*state))),
        Opcode::ReportAckBatch => return page(Records::Ack(ReportAck { terminal, version, status: Status::Ok })),
        Opcode::Topology => {
            let domain = Domain::new(party.domain.number() % Domain::MAX + 1).expect("1 to the highest");
            return page(Records::Link(Link { domain, label: 16, cost: 10, kind: LinkKind::Child, up: true }));
        }
        Opcode::Connect => Message::Connect { window: 8 },
        Opcode::ConnectAck => Message::ConnectAck { highest_epoch: EPOCH, boot_generation: 3, held: 1, window: 16 },
        Opcode::Heartbeat => Message::Heartbeat { sent_ns: sent.0 },
        Opcode::HeartbeatAck => {
            Message::HeartbeatAck { sent_ns: sent.0, held: 1, boot_generation: 1, age: 0, highest_epoch: EPOCH }
        }
        Opcode::InfoQuery => Message::InfoQuery { first: meeting },
        Opcode::Takeover => Message::Takeover { version: number },
        Opcode::TakeoverAck => {
            Message::TakeoverAck { version: number, state: MeetingState::InMeeting, level, participants }
        }
        Opcode::StateQuery => Message::StateQuery,
        Opcode::ReplayDone => Message::ReplayDone { count: 1, digest: digest_of(meeting, number) },
        Opcode::Audit => Message::Audit { count: 1, digest: digest_of(meeting, number) },
        Opcode::MeetingStart => {
            Message::MeetingStart { level, layout, chairman: terminal, participants, run: Run(number) }
        }
        Opcode::MemberAdd => Message::MemberAdd { terminal, role: Role::Participant },
        Opcode::MemberRemove => Message::MemberRemove { terminal },
        Opcode::RoleSet => Message::RoleSet { terminal, role: Role::SpeakerOne },
        Opcode::LayoutSet => Message::LayoutSet { layout },
        Opcode::FlagsSet => Message::FlagsSet { terminal, mask: Flags::MUTED, value: Flags::MUTED },
        Opcode::MeetingEnd => Message::MeetingEnd { reason: 1 },
        Opcode::WindowSet => Message::WindowSet { terminal, window: 2 },
        Opcode::StreamSet => Message::StreamSet { terminal, stream: StreamKind::Main, channel: 1 },
        Opcode::MemberCall => Message::MemberCall { terminal },
        Opcode::TerminalRelease => Message::TerminalRelease { terminal },
        Opcode::MeetingStartAck | Opcode::LayoutSetAck | Opcode::MeetingEndAck => {
            Message::MeetingAck { opcode, version: number }
        }
        Opcode::MemberAddAck
        | Opcode::MemberRemoveAck
        | Opcode::RoleSetAck
        | Opcode::FlagsSetAck
        | Opcode::WindowSetAck
        | Opcode::StreamSetAck
        | Opcode::InfoSetAck
        | Opcode::MemberCallAck
        | Opcode::TerminalReleaseAck => Message::MemberAck { opcode, version: number, terminal },
        Opcode::Report => report(state),
        Opcode::ReportAck => Message::ReportAck { terminal, version },
        Opcode::ReportInfoAck => Message::ReportInfoAck { terminal, version },
        Opcode::TopologyQuery => Message::TopologyQuery,
        Opcode::PathSet => Message::PathSet { label_in: 16, label_out: 17, next: Some(party.domain) },
        Opcode::PathSetAck => Message::PathSetAck { label_in: 16 },
        Opcode::Probe => Message::Probe { sent_ns: sent.0, sequence },
        Opcode::ProbeEcho => Message::ProbeEcho { sent_ns: sent.0, sequence },
    };
    let without_meeting = matches!(
        opcode,
        Opcode::Connect
            | Opcode::ConnectAck
            | Opcode::Heartbeat
            | Opcode::HeartbeatAck
            | Opcode::InfoQuery
            | Opcode::ReplayDone
            | Opcode::Audit
            | Opcode::TopologyQuery
            | Opcode::PathSet
            | Opcode::PathSetAck
            | Opcode::Probe
            | Opcode::ProbeEcho
            | Opcode::TerminalRelease
            | Opcode::TerminalReleaseAck
    );
    let header = if without_meeting { all } else { header };
    debug_assert_eq!(header.transaction, Transaction(sequence as u32));
    encode_message(buffer, &envelope, &header, &message, key)
}

/// The records of an example's page.
enum Records {
    Summary(MeetingSummary),
    Entry(TakeoverEntry),
    Result(TakeoverResult),
    State(Box<TerminalState>),
    Ack(ReportAck),
    Link(Link),
}

/// Only the encoders compute tags; this says with which key an example is tagged.
pub(super) fn key_of(party: &Party, from_dispatch: bool) -> &Key {
    if from_dispatch { &party.inbound } else { &party.outbound }
}
