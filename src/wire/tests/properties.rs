//! Round trips over arbitrary values, and readers over arbitrary bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::*;
use crate::limits::{FRAME_BYTES_MAX, INFO_BYTES_MAX};

fn address() -> impl Strategy<Value = Address> {
    any::<u64>().prop_map(Address::from_number)
}

fn domain() -> impl Strategy<Value = Domain> {
    (1..=Domain::MAX).prop_map(|number| Domain::new(number).unwrap())
}

fn meeting() -> impl Strategy<Value = MeetingId> {
    any::<u64>().prop_map(MeetingId)
}

fn level() -> impl Strategy<Value = Level> {
    (1..=5_u8).prop_map(|number| Level::new(number).unwrap())
}

fn layout() -> impl Strategy<Value = Layout> {
    select(vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 64]).prop_map(|windows| Layout::new(windows).unwrap())
}

fn state() -> impl Strategy<Value = MeetingState> {
    select(MeetingState::ALL)
}

fn status() -> impl Strategy<Value = Status> {
    select(Status::ALL)
}

fn flags() -> impl Strategy<Value = Flags> {
    any::<u8>().prop_map(Flags)
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let ethertype = any::<u16>().prop_filter("0x8100 is the VLAN tag's", |&ethertype| ethertype != 0x8100);
    let ends = (mac(), mac(), address(), address());
    (ends, any::<Option<u16>>(), ethertype, any::<Option<u16>>()).prop_map(|(ends, vlan, ethertype, label)| {
        let (dst_mac, src_mac, to, from) = ends;
        Envelope { dst_mac, src_mac, vlan, ethertype, to, from, label }
    })
}

fn header() -> impl Strategy<Value = Header> {
    (select(vec![Status::Ok, Status::Already]), any::<u8>(), any::<u32>(), any::<u64>(), meeting()).prop_map(
        |(status, flags, transaction, epoch, meeting)| Header {
            status: status.wire(),
            flags: FlagsHeader(flags),
            transaction: Transaction(transaction),
            epoch: Epoch(epoch),
            meeting,
        },
    )
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        Just(Key::Unauthenticated),
        any::<[u8; 16]>().prop_map(|bytes| Key::Keyed(Box::new(TagKey::new(bytes))))
    ]
}

const MEETING_ACKS: &[Opcode] = &[Opcode::MeetingStartAck, Opcode::LayoutSetAck, Opcode::MeetingEndAck];
const MEMBER_ACKS: &[Opcode] = &[
    Opcode::MemberAddAck,
    Opcode::MemberRemoveAck,
    Opcode::RoleSetAck,
    Opcode::FlagsSetAck,
    Opcode::WindowSetAck,
    Opcode::StreamSetAck,
    Opcode::InfoSetAck,
    Opcode::MemberCallAck,
    Opcode::TerminalReleaseAck,
];

/// The body of this opcode with arbitrary fields; none for opcodes whose body is a page.
fn message_of(opcode: Opcode) -> Option<BoxedStrategy<Message>> {
    let ns_and = |sequence| (any::<u64>(), sequence);
    Some(match opcode {
        Opcode::Connect => any::<u16>().prop_map(|window| Message::Connect { window }).boxed(),
        Opcode::ConnectAck => (any::<u64>(), any::<u32>(), any::<u32>(), any::<u16>())
            .prop_map(|(epoch, boot_generation, held, window)| Message::ConnectAck {
                highest_epoch: Epoch(epoch),
                boot_generation,
                held,
                window,
            })
            .boxed(),
        Opcode::Heartbeat => any::<u64>().prop_map(|sent_ns| Message::Heartbeat { sent_ns }).boxed(),
        Opcode::HeartbeatAck => (any::<u64>(), any::<u32>(), any::<u16>(), any::<u16>(), any::<u64>())
            .prop_map(|(sent_ns, held, boot_generation, age, highest)| Message::HeartbeatAck {
                sent_ns,
                held,
                boot_generation,
                age,
                highest_epoch: Epoch(highest),
            })
            .boxed(),
        Opcode::InfoQuery => meeting().prop_map(|first| Message::InfoQuery { first }).boxed(),
        Opcode::Takeover => any::<u64>().prop_map(|version| Message::Takeover { version }).boxed(),
        Opcode::TakeoverAck => (any::<u64>(), state(), level(), any::<u16>())
            .prop_map(|(version, state, level, participants)| Message::TakeoverAck {
                version,
                state,
                level,
                participants,
            })
            .boxed(),
        Opcode::StateQuery => Just(Message::StateQuery).boxed(),
        Opcode::ReplayDone => {
            (any::<u32>(), any::<u64>()).prop_map(|(count, digest)| Message::ReplayDone { count, digest }).boxed()
        }
        Opcode::Audit => {
            (any::<u32>(), any::<u64>()).prop_map(|(count, digest)| Message::Audit { count, digest }).boxed()
        }
        Opcode::MeetingStart => (level(), layout(), address(), any::<u16>(), any::<u64>().prop_map(Run))
            .prop_map(|(level, layout, chairman, participants, run)| Message::MeetingStart {
                level,
                layout,
                chairman,
                participants,
                run,
            })
            .boxed(),
        Opcode::MemberAdd => {
            (address(), select(Role::ALL)).prop_map(|(terminal, role)| Message::MemberAdd { terminal, role }).boxed()
        }
        Opcode::MemberRemove => address().prop_map(|terminal| Message::MemberRemove { terminal }).boxed(),
        Opcode::RoleSet => {
            (address(), select(Role::ALL)).prop_map(|(terminal, role)| Message::RoleSet { terminal, role }).boxed()
        }
        Opcode::LayoutSet => layout().prop_map(|layout| Message::LayoutSet { layout }).boxed(),
        Opcode::FlagsSet => (address(), flags(), flags())
            .prop_map(|(terminal, mask, value)| Message::FlagsSet { terminal, mask, value })
            .boxed(),
        Opcode::MeetingEnd => any::<u8>().prop_map(|reason| Message::MeetingEnd { reason }).boxed(),
        Opcode::WindowSet => {
            (address(), any::<u8>()).prop_map(|(terminal, window)| Message::WindowSet { terminal, window }).boxed()
        }
        Opcode::StreamSet => (address(), select(StreamKind::ALL), any::<u8>())
            .prop_map(|(terminal, stream, channel)| Message::StreamSet { terminal, stream, channel })
            .boxed(),
        Opcode::MemberCall => address().prop_map(|terminal| Message::MemberCall { terminal }).boxed(),
        Opcode::TerminalRelease => address().prop_map(|terminal| Message::TerminalRelease { terminal }).boxed(),
        opcode if MEETING_ACKS.contains(&opcode) => {
            any::<u64>().prop_map(move |version| Message::MeetingAck { opcode, version }).boxed()
        }
        opcode if MEMBER_ACKS.contains(&opcode) => (any::<u64>(), address())
            .prop_map(move |(version, terminal)| Message::MemberAck { opcode, version, terminal })
            .boxed(),
        Opcode::Report => {
            (
                (address(), any::<u32>(), select(Business::ALL), select(Decode::ALL), select(Role::ALL)),
                (flags(), any::<u8>(), select(StreamKind::ALL), any::<[u8; 6]>()),
            )
                .prop_map(|((terminal, version, business, decode, role), (flags, channel, stream, info))| {
                    Message::Report { terminal, version, business, decode, role, flags, channel, stream, info }
                })
                .boxed()
        }
        Opcode::ReportAck => {
            (address(), any::<u32>()).prop_map(|(terminal, version)| Message::ReportAck { terminal, version }).boxed()
        }
        Opcode::ReportInfoAck => (address(), any::<u32>())
            .prop_map(|(terminal, version)| Message::ReportInfoAck { terminal, version })
            .boxed(),
        Opcode::TopologyQuery => Just(Message::TopologyQuery).boxed(),
        Opcode::PathSet => (any::<u16>(), any::<u16>(), proptest::option::of(domain()))
            .prop_map(|(label_in, label_out, next)| Message::PathSet { label_in, label_out, next })
            .boxed(),
        Opcode::PathSetAck => any::<u16>().prop_map(|label_in| Message::PathSetAck { label_in }).boxed(),
        Opcode::Probe => {
            ns_and(any::<u64>()).prop_map(|(sent_ns, sequence)| Message::Probe { sent_ns, sequence }).boxed()
        }
        Opcode::ProbeEcho => {
            ns_and(any::<u64>()).prop_map(|(sent_ns, sequence)| Message::ProbeEcho { sent_ns, sequence }).boxed()
        }
        page => {
            assert!(page.is_page(), "{page} has a body of its own: teach this test");
            return None;
        }
    })
}

/// Every message, each with the same probability.
fn message() -> impl Strategy<Value = Message> {
    proptest::strategy::Union::new(Opcode::ALL.iter().filter_map(|&opcode| message_of(opcode)))
}

fn summary() -> impl Strategy<Value = MeetingSummary> {
    ((meeting(), any::<u64>(), any::<u64>(), state()), (level(), any::<u16>(), layout(), address(), any::<u64>()))
        .prop_map(|((meeting, version, epoch, state), (level, participants, layout, chairman, run))| MeetingSummary {
            meeting,
            version,
            controller: Epoch(epoch),
            state,
            level,
            participants,
            layout,
            chairman,
            run: Run(run),
        })
}

fn terminal_state() -> impl Strategy<Value = TerminalState> {
    let one = (meeting(), address(), any::<u32>(), select(Business::ALL), select(Decode::ALL), select(Role::ALL));
    let two = (flags(), any::<u8>(), select(StreamKind::ALL), vec(any::<u8>(), 0..=INFO_BYTES_MAX));
    (one, two).prop_map(|((meeting, terminal, version, business, decode, role), (flags, channel, stream, bytes))| {
        let info = Info::new(&bytes);
        TerminalState { meeting, terminal, version, business, decode, role, flags, channel, stream, info }
    })
}

/// Writes a page, reads it back, and compares what was read with what fitted.
fn page_round_trip<R: Record + PartialEq + Clone + std::fmt::Debug>(
    opcode: Opcode,
    envelope: &Envelope,
    header: &Header,
    key: &Key,
    records: &[R],
) -> Result<(), TestCaseError> {
    let mut buffer = [0xAA; FRAME_BYTES_MAX];
    let (length, taken) = encode_page(&mut buffer, envelope, opcode, header, (3, 7), records.iter().cloned(), key);
    prop_assert!(taken >= records.len().min(R::PER_PAGE), "a page holds at least PER_PAGE");
    let frame = Frame::parse(&buffer[..length], envelope.ethertype).unwrap();
    prop_assert!(frame.authentic(key));
    prop_assert_eq!(&frame.envelope(), envelope);
    prop_assert_eq!(frame.header(), *header);
    prop_assert_eq!(frame.opcode(), Ok(opcode));
    let page = frame.page().unwrap();
    prop_assert_eq!((page.page, page.pages, usize::from(page.count)), (3, 7, taken));
    let read: Vec<R> = page.records().unwrap().map(Result::unwrap).collect();
    prop_assert_eq!(&read[..], &records[..taken]);
    prop_assert_eq!(Frame::parse(&buffer[..length - 1], envelope.ethertype).err(), Some(Malformed::Short));
    Ok(())
}

/// The state that a REPORT has, read by its message.
fn reported(frame: &Frame<'_>) -> Option<TerminalState> {
    let Ok(Message::Report { terminal, version, business, decode, role, flags, channel, stream, info: short }) =
        frame.message()
    else {
        return None;
    };
    let info = Info::new(&short[..(0..=6).rev().find(|&len| len == 0 || short[len - 1] != 0).unwrap()]);
    let meeting = frame.header().meeting;
    Some(TerminalState { meeting, terminal, version, business, decode, role, flags, channel, stream, info })
}

/// Reads these bytes as every kind of frame, page and record.
fn read_in_every_way(bytes: &[u8]) {
    let _ = GeneratorProbe::parse(bytes);
    let Ok(frame) = Frame::parse(bytes, DEFAULT_ETHERTYPE) else { return };
    assert_eq!(frame.report().ok().map(|report| TerminalState::from(&report)), reported(&frame));
    let _ = (
        frame.authentic(&Key::Keyed(Box::new(TagKey::new([7; 16])))),
        frame.opcode(),
        frame.message(),
        frame.is_error_answer(),
    );
    let Ok(page) = frame.page() else { return };
    let _ = page.records::<MeetingSummary>().map(Iterator::count);
    let _ = page.records::<TakeoverEntry>().map(Iterator::count);
    let _ = page.records::<TakeoverResult>().map(Iterator::count);
    let _ = page.records::<Link>().map(Iterator::count);
    let _ = page.records::<ReportAck>().map(Iterator::count);
    let _ = page.records::<TerminalState>().map(Iterator::count);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_is_read_as_it_was_written(
        envelope in envelope(), header in header(), message in message(), key in key()
    ) {
        let mut buffer = [0xAA; FRAME_BYTES_MAX];
        let length = encode_message(&mut buffer, &envelope, &header, &message, &key);
        let frame = Frame::parse(&buffer[..length], envelope.ethertype).unwrap();
        prop_assert!(frame.authentic(&key));
        prop_assert_eq!(frame.packet_type(), PacketType::Protocol);
        prop_assert_eq!(frame.envelope(), envelope);
        prop_assert_eq!(frame.header(), header);
        prop_assert_eq!(frame.opcode().map(Opcode::wire), Ok(message.opcode()));
        prop_assert_eq!(frame.message(), Ok(message));
        let state = reported(&frame);
        prop_assert_eq!(frame.report().ok().map(|report| TerminalState::from(&report)), state);
        let subject = state.map(|state| (state.terminal, state.version));
        prop_assert_eq!(frame.reports_on(), subject.filter(|_| frame.opcode() == Ok(Opcode::Report)));
    }

    #[test]
    fn a_refusal_is_read_as_it_was_written(
        envelope in envelope(), header in header(), status in status(), opcode in select(Opcode::ALL), value: u64
    ) {
        prop_assume!(!status.is_success());
        let header = header.answer(status);
        let refused = Message::Refused { opcode: opcode.wire(), status, value };
        let mut buffer = [0; FRAME_BYTES_MAX];
        let length = encode_message(&mut buffer, &envelope, &header, &refused, &Key::Unauthenticated);
        let frame = Frame::parse(&buffer[..length], envelope.ethertype).unwrap();
        prop_assert_eq!(frame.message(), Ok(refused));
        prop_assert_eq!(frame.page().err(), Some(Malformed::Payload));
    }

    #[test]
    fn summaries_are_read_as_they_were_written(
        e in envelope(), h in header(), k in key(), records in vec(summary(), 0..30)
    ) {
        page_round_trip(Opcode::Info, &e, &h, &k, &records)?;
    }

    #[test]
    fn takeover_entries_are_read_as_they_were_written(
        e in envelope(), h in header(), k in key(), records in vec((meeting(), any::<u64>()), 0..80)
    ) {
        let records: Vec<_> =
            records.into_iter().map(|(meeting, version)| TakeoverEntry { meeting, version }).collect();
        page_round_trip(Opcode::TakeoverBatch, &e, &h, &k, &records)?;
    }

    #[test]
    fn takeover_results_are_read_as_they_were_written(
        e in envelope(), h in header(), k in key(), records in vec((meeting(), status(), state(), any::<u16>()), 0..80)
    ) {
        let records: Vec<_> = records
            .into_iter()
            .map(|(meeting, status, state, participants)| TakeoverResult { meeting, status, state, participants })
            .collect();
        page_round_trip(Opcode::TakeoverBatchAck, &e, &h, &k, &records)?;
    }

    #[test]
    fn links_are_read_as_they_were_written(
        e in envelope(), h in header(), k in key(),
        records in vec((domain(), any::<u16>(), any::<u16>(), 0..3_u8, any::<bool>()), 0..80)
    ) {
        let kinds = [LinkKind::Parent, LinkKind::Child, LinkKind::Peer];
        let records: Vec<_> = records
            .into_iter()
            .map(|(domain, label, cost, kind, up)| Link { domain, label, cost, kind: kinds[usize::from(kind)], up })
            .collect();
        page_round_trip(Opcode::Topology, &e, &h, &k, &records)?;
    }

    #[test]
    fn report_acks_are_read_as_they_were_written(
        e in envelope(), h in header(), k in key(), records in vec((address(), any::<u32>(), status()), 0..80)
    ) {
        let records: Vec<_> = records
            .into_iter()
            .map(|(terminal, version, status)| ReportAck { terminal, version, status })
            .collect();
        page_round_trip(Opcode::ReportAckBatch, &e, &h, &k, &records)?;
    }

    #[test]
    fn terminal_states_are_read_as_they_were_written(
        e in envelope(), h in header(), k in key(), records in vec(terminal_state(), 0..35)
    ) {
        for opcode in [Opcode::State, Opcode::ReportInfo, Opcode::InfoSet] {
            page_round_trip(opcode, &e, &h, &k, &records)?;
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..FRAME_BYTES_MAX + 64)) {
        read_in_every_way(&bytes);
    }

    /// Arbitrary bytes seldom get past the EtherType; these are V2V up to the header and arbitrary
    /// after it.
    #[test]
    fn an_arbitrary_payload_never_panics(
        kind in select(vec![1_u8, 2, 3, 0x81, 0x82, 0x83]),
        opcode in select(Opcode::ALL),
        status in prop_oneof![Just(0_u8), any::<u8>()],
        payload in vec(any::<u8>(), 1100),
        counts in proptest::option::of((0..3_u16, 0..3_u16, 0..70_u16, select(vec![0_u16, 16, 48]))),
        length in 0..FRAME_BYTES_MAX + 1,
    ) {
        let mut bytes = vec![0; 12];
        bytes.extend(DEFAULT_ETHERTYPE.to_be_bytes());
        bytes.push(kind);
        bytes.extend([0; 17]);
        if kind & 0x80 != 0 {
            bytes.extend([0; 4]);
        }
        let at = bytes.len();
        bytes.extend(payload);
        bytes[at..at + 3].copy_from_slice(&[2, opcode.wire(), status]);
        if let Some((page, pages, records, record_len)) = counts {
            for (place, value) in [page, pages, records, record_len].into_iter().enumerate() {
                bytes[at + 24 + place * 2..at + 26 + place * 2].copy_from_slice(&value.to_be_bytes());
            }
        }
        bytes.truncate(length);
        read_in_every_way(&bytes);
    }

    #[test]
    fn addresses_are_read_as_they_are_shown(domain in domain(), device: u16, mac in mac()) {
        let address = domain.device(device);
        prop_assert_eq!(address.to_string().parse(), Ok(address));
        prop_assert_eq!((address.domain(), address.device()), (Some(domain), device));
        prop_assert_eq!(mac.to_string().parse(), Ok(mac));
    }

    #[test]
    fn arbitrary_text_is_no_address(text in "\\PC{0,24}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert!(address.domain().is_some());
        }
        let _ = text.parse::<Mac>();
        let _ = text.parse::<MeetingId>();
    }
}
