//! The steering program, run by the kernel on frames that did not arrive: every branch, with its
//! description, frame and verdict.

use std::mem::offset_of;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};

use baton::lab::testbed::need_root;
use baton::limits::SOURCE_BURST_MIN;
use baton::sys::bpf::{Action, OBJECT, RINGS_PER_QUEUE_MAX, SteerSettings, Steering, Verdict};
use baton::wire::{
    Address, DEFAULT_ETHERTYPE, Envelope, Epoch, FlagsHeader, Header, Key, Mac, MeetingId, MeetingSummary, Message,
    Opcode, Transaction, encode_message, encode_page, mix,
};
use libbpf_rs::btf::types::{MemberAttr, Struct};
use libbpf_rs::{Btf, HasSize};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

const PROBE_PORT: u16 = 9;
const MEETING: MeetingId = MeetingId(4711);
const SOURCE: &str = "366/1001";

fn settings() -> SteerSettings {
    SteerSettings { probe_port: Some(PROBE_PORT), ..SteerSettings::new(DEFAULT_ETHERTYPE, 1) }
}

/// Steering with a socket in the first `rings` rings of queue 0. The kernel accepts a socket that
/// is not bound yet.
fn steering(settings: &SteerSettings, rings: u32) -> (Steering, Vec<OwnedFd>) {
    need_root("loading BPF");
    let steering = Steering::load(settings).expect("the kernel takes the program");
    let sockets: Vec<_> = (0..rings)
        .map(|ring| {
            let socket = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None).unwrap();
            steering.set_ring(0, ring, socket.as_fd()).unwrap();
            socket
        })
        .collect();
    (steering, sockets)
}

fn envelope(vlan: Option<u16>, label: Option<u16>) -> Envelope {
    Envelope {
        dst_mac: Mac([2, 0, 0, 0, 0, 1]),
        src_mac: Mac([2, 0, 0, 0, 0, 2]),
        vlan,
        ethertype: DEFAULT_ETHERTYPE,
        to: "1/0".parse().unwrap(),
        from: SOURCE.parse().unwrap(),
        label,
    }
}

fn header(meeting: MeetingId) -> Header {
    Header { status: 0, flags: FlagsHeader::default(), transaction: Transaction(1), epoch: Epoch::default(), meeting }
}

fn protocol(vlan: Option<u16>, label: Option<u16>, meeting: MeetingId) -> Vec<u8> {
    let mut frame = vec![0; 2048];
    let message = Message::Heartbeat { sent_ns: 1 };
    let length = encode_message(&mut frame, &envelope(vlan, label), &header(meeting), &message, &Key::Unauthenticated);
    frame.truncate(length);
    frame
}

fn data(vlan: Option<u16>, label: Option<u16>) -> Vec<u8> {
    let mut frame = vec![0; 2048];
    let none: [MeetingSummary; 0] = [];
    let envelope = envelope(vlan, label);
    let (length, _) =
        encode_page(&mut frame, &envelope, Opcode::Info, &header(MEETING), (0, 1), none, &Key::Unauthenticated);
    frame.truncate(length);
    frame
}

/// The offset of the packet type in a frame without a tag.
const TYPE_AT: usize = 14;

fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

fn cut(mut frame: Vec<u8>, by: usize) -> Vec<u8> {
    frame.truncate(frame.len() - by);
    frame
}

/// A frame of pktgen: Ethernet, IPv4 with `options` words of options, UDP, magic, sequence, time.
fn generator_probe(options: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    frame.extend([0x45 + options, 0, 0, 60, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
    frame.extend(vec![1; usize::from(options) * 4]);
    frame.extend([0, 9, 0, PROBE_PORT as u8, 0, 24, 0, 0]);
    frame.extend([0xbe, 0x9b, 0xe9, 0x55, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    frame
}
const IP_AT: usize = 14;
const UDP_AT: usize = IP_AT + 20;

#[test]
fn every_branch_gives_its_verdict() {
    use Verdict::{NoSocket, OtherEtherType, Probe, Steered, Truncated, UnknownType};
    let (steering, _sockets) = steering(&settings(), 1);
    let arp = with(protocol(None, None, MEETING), 12, &[0x08, 0x06]);
    let double = {
        let mut frame = protocol(Some(7), None, MEETING);
        frame.splice(12..12, [0x81, 0x00, 0, 8]);
        frame
    };
    let cases: Vec<(&str, Vec<u8>, Verdict)> = vec![
        ("protocol payload, access form", protocol(None, None, MEETING), Steered),
        ("protocol payload, metro form", protocol(None, Some(9), MEETING), Steered),
        ("protocol payload behind a VLAN tag", protocol(Some(7), None, MEETING), Steered),
        ("protocol payload, metro form, behind a VLAN tag", protocol(Some(7), Some(9), MEETING), Steered),
        ("protocol payload of no meeting", protocol(None, None, MeetingId::NONE), Steered),
        ("protocol payload with Ethernet's padding", [protocol(None, None, MEETING), vec![0; 4]].concat(), Steered),
        ("unicast data payload", data(None, None), Steered),
        ("unicast data payload, metro form", data(None, Some(9)), Steered),
        ("unicast data payload behind a VLAN tag", data(Some(7), None), Steered),
        ("multicast data payload", with(data(None, None), TYPE_AT, &[0x03]), Steered),
        ("multicast data payload, metro form", with(data(None, Some(9)), TYPE_AT, &[0x83]), Steered),
        ("one byte short of a protocol payload", cut(protocol(None, None, MEETING), 1), Truncated),
        ("one byte short of a labelled protocol payload", cut(protocol(None, Some(9), MEETING), 1), Truncated),
        ("one byte short of a data payload", cut(data(None, None), 1), Truncated),
        ("one byte short of a labelled data payload", cut(data(None, Some(9)), 1), Truncated),
        ("data payload cut to a protocol payload's length", data(None, None)[..96].to_vec(), Truncated),
        ("our EtherType and nothing behind it", protocol(None, None, MEETING)[..14].to_vec(), Truncated),
        ("addresses and no more", protocol(None, None, MEETING)[..14 + 18].to_vec(), Truncated),
        ("a VLAN tag cut in half", protocol(Some(7), None, MEETING)[..16].to_vec(), Truncated),
        ("packet type 0", with(protocol(None, None, MEETING), TYPE_AT, &[0x00]), UnknownType),
        ("packet type 4", with(protocol(None, None, MEETING), TYPE_AT, &[0x04]), UnknownType),
        ("packet type 0x84, metro", with(protocol(None, None, MEETING), TYPE_AT, &[0x84]), UnknownType),
        ("packet type 0xBE outside of UDP", with(protocol(None, None, MEETING), TYPE_AT, &[0xBE]), UnknownType),
        ("ARP", arp, OtherEtherType),
        ("two VLAN tags: one is what we speak", double, OtherEtherType),
        ("generator probe", generator_probe(0), Probe),
        ("generator probe with IP options", generator_probe(3), Probe),
        ("generator probe to another port", with(generator_probe(0), UDP_AT + 3, &[10]), OtherEtherType),
        ("UDP to our port without the magic", with(generator_probe(0), UDP_AT + 8, &[0]), OtherEtherType),
        ("generator probe cut in its magic", generator_probe(0)[..UDP_AT + 11].to_vec(), OtherEtherType),
        ("generator probe cut in its IP header", generator_probe(0)[..IP_AT + 19].to_vec(), OtherEtherType),
        ("IP version 6 in an IPv4 frame", with(generator_probe(0), IP_AT, &[0x65]), OtherEtherType),
        ("an IP header shorter than its shortest", with(generator_probe(0), IP_AT, &[0x44]), OtherEtherType),
        ("TCP", with(generator_probe(0), IP_AT + 9, &[6]), OtherEtherType),
        ("a first fragment", with(generator_probe(0), IP_AT + 6, &[0x20, 0]), OtherEtherType),
        ("a later fragment", with(generator_probe(0), IP_AT + 6, &[0, 1]), OtherEtherType),
        ("a frame that must not be fragmented", with(generator_probe(0), IP_AT + 6, &[0x40, 0]), Probe),
    ];
    for (description, frame, verdict) in cases {
        check(&steering, description, &frame, verdict);
    }
    let (empty, _) = self::steering(&settings(), 0);
    check(&empty, "V2V, and nobody in the ring", &protocol(None, None, MEETING), NoSocket);
    check(&empty, "a generator probe, and nobody in the ring", &generator_probe(0), NoSocket);
    for rings in [0, RINGS_PER_QUEUE_MAX + 1] {
        steering.set(&SteerSettings { rings, ..settings() }).unwrap();
        check(&steering, "a number of rings that cannot be", &protocol(None, None, MEETING), NoSocket);
    }
    steering.set(&SteerSettings { probe_port: None, ..settings() }).unwrap();
    check(&steering, "a generator probe where none are awaited", &generator_probe(0), OtherEtherType);
    steering.set(&SteerSettings { ethertype: 0x88B6, ..settings() }).unwrap();
    check(&steering, "V2V where another EtherType was agreed", &protocol(None, None, MEETING), OtherEtherType);
}

/// Checks one frame: its action, that its bytes are unchanged, that it has a stamp if and only if
/// it goes to a socket, and that only its counter has changed.
fn check(steering: &Steering, description: &str, frame: &[u8], verdict: Verdict) {
    let before = steering.counters().unwrap();
    let earliest = baton::sys::clock::now();
    let run = steering.dry_run(frame, 0, (0, 0)).unwrap_or_else(|error| panic!("{description}: {error}"));
    let latest = baton::sys::clock::now();
    let after = steering.counters().unwrap();
    let counted: Vec<_> =
        Verdict::ALL.into_iter().filter(|&verdict| after.of(verdict) == before.of(verdict) + 1).collect();
    let taken = matches!(verdict, Verdict::Steered | Verdict::Probe);
    assert_eq!(counted, [verdict], "{description}");
    let action = match verdict {
        Verdict::Steered | Verdict::Probe => Action::Redirect,
        Verdict::Stranger | Verdict::OverRate => Action::Drop,
        _ => Action::Pass,
    };
    assert_eq!(run.action, action, "{description}");
    assert_eq!(run.frame, frame, "{description}: not one byte is changed");
    assert_eq!(run.arrived.is_some(), taken, "{description}: stamped if steered");
    if let Some(arrived) = run.arrived {
        assert!(earliest <= arrived && arrived <= latest, "{description}: stamped with the time that it came");
    }
}

fn from(mac: [u8; 6]) -> Vec<u8> {
    with(protocol(Some(7), Some(9), MEETING), 6, &mac)
}

#[test]
fn only_known_addresses_are_taken_where_that_is_asked_for() {
    let (steering, _sockets) = steering(&settings(), 1);
    let (one, other, stranger) = ([2, 0xff, 0, 0, 0xfe, 2], [2, 0xff, 0, 0, 0xfe, 3], [2, 0xff, 0, 0, 0xff, 2]);
    check(&steering, "nothing was asked for", &from(stranger), Verdict::Steered);
    steering.admit(&[Mac(one), Mac(other)].into()).unwrap();
    check(&steering, "it is told, and not asked for", &from(stranger), Verdict::Steered);
    steering.set(&SteerSettings { known_only: true, ..settings() }).unwrap();
    check(&steering, "known", &from(one), Verdict::Steered);
    check(&steering, "known too", &from(other), Verdict::Steered);
    check(&steering, "a stranger", &from(stranger), Verdict::Stranger);
    check(&steering, "a generator's probe, from any sender", &generator_probe(0), Verdict::Probe);
    check(&steering, "the kernel's", &with(from(stranger), 16, &[0x08, 0x06]), Verdict::OtherEtherType);
    steering.admit(&[Mac(stranger), Mac(other)].into()).unwrap();
    check(&steering, "not known any more", &from(one), Verdict::Stranger);
    check(&steering, "known still", &from(other), Verdict::Steered);
    check(&steering, "known now", &from(stranger), Verdict::Steered);
    steering.admit(&[].into()).unwrap();
    check(&steering, "nobody is known", &from(other), Verdict::Stranger);
}

#[test]
fn a_source_above_its_rate_is_cut_and_another_is_not() {
    let (steering, _sockets) = steering(&settings(), 1);
    let (loud, quiet) = ([2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 8]);
    // One a second: no test is so slow that its burst is available again.
    let slow = SteerSettings { source_rate: NonZeroU32::new(1), ..settings() };
    steering.set(&slow).unwrap();
    for number in 0..SOURCE_BURST_MIN {
        check(&steering, &format!("frame {number} of its burst"), &from(loud), Verdict::Steered);
    }
    let before = steering.counters().unwrap();
    for _ in 0..1000 {
        steering.dry_run(&from(loud), 0, (0, 0)).unwrap();
    }
    let after = steering.counters().unwrap();
    let taken = after.of(Verdict::Steered) - before.of(Verdict::Steered);
    assert_eq!(taken + after.of(Verdict::OverRate) - before.of(Verdict::OverRate), 1000);
    assert!(taken < 500, "{taken} of 1000 beyond the burst, at one a second");
    check(&steering, "another source", &from(quiet), Verdict::Steered);
    check(&steering, "a generator's probe", &generator_probe(0), Verdict::Probe);
    steering.set(&settings()).unwrap();
    check(&steering, "no limit", &from(loud), Verdict::Steered);
}

#[test]
fn a_meeting_keeps_to_its_ring_and_meetings_spread() {
    const RINGS: u32 = 4;
    let ring_of = |key: u64| ((u128::from(mix(key) >> 32) * u128::from(RINGS)) >> 32) as u32;
    let mut used = [0; RINGS as usize];
    for present in 0..RINGS {
        // Only one ring has a socket: exactly the keys of that ring are steered.
        need_root("loading BPF");
        let steering = Steering::load(&SteerSettings { rings: RINGS, ..settings() }).unwrap();
        let socket = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None).unwrap();
        steering.set_ring(0, present, socket.as_fd()).unwrap();
        for meeting in 1..=64 {
            for label in [None, Some(9)] {
                let run = steering.dry_run(&protocol(None, label, MeetingId(meeting)), 0, (0, 0)).unwrap();
                assert_eq!(run.action == Action::Redirect, ring_of(meeting) == present, "meeting {meeting}");
            }
            used[present as usize] += u32::from(ring_of(meeting) == present);
        }
        let source: Address = SOURCE.parse().unwrap();
        let run = steering.dry_run(&protocol(None, None, MeetingId::NONE), 0, (0, 0)).unwrap();
        assert_eq!(run.action == Action::Redirect, ring_of(source.number()) == present, "no meeting: by source");
    }
    assert!(used.iter().all(|&meetings| meetings > 0), "64 meetings in a row use all rings: {used:?}");
}

#[test]
fn a_frame_without_room_for_the_stamp_is_steered_without() {
    let (steering, _sockets) = steering(&settings(), 1);
    let frame = protocol(None, None, MEETING);
    // 256 bytes are available before a frame, of which the kernel keeps 40: beside 208 of another
    // program, there is no room for 16.
    const OTHERS: usize = 208;
    let run = steering.dry_run(&[vec![0; OTHERS], frame.clone()].concat(), OTHERS, (0, 0)).unwrap();
    assert_eq!((run.action, run.arrived), (Action::Redirect, None));
    assert_eq!(run.frame, frame);
}

#[test]
fn a_socket_that_is_closed_leaves_its_ring() {
    let (steering, sockets) = steering(&settings(), 1);
    check(&steering, "there", &protocol(None, None, MEETING), Verdict::Steered);
    drop(sockets);
    check(&steering, "gone", &protocol(None, None, MEETING), Verdict::NoSocket);
}

#[test]
fn a_ring_beyond_the_maps_is_refused() {
    let (steering, sockets) = steering(&settings(), 1);
    for (queue, ring) in [(64, 0), (0, 16), (u32::MAX, u32::MAX)] {
        let error = steering.set_ring(queue, ring, sockets[0].as_fd()).unwrap_err().to_string();
        assert!(error.contains("at most 64 queues of 16 rings"), "{error}");
    }
}

/// Compares what clang wrote about the structs into the object with what Rust was generated from.
#[test]
fn the_objects_own_description_agrees_with_rust() {
    let btf = Btf::from_raw("steer", OBJECT).unwrap().expect("the object was compiled with -g");
    let check = |name: &str, bytes: usize, members: &[(&str, usize)]| {
        let found: Struct<'_> = btf.type_by_name(name).unwrap_or_else(|| panic!("{name} is in the object"));
        assert_eq!(found.size(), bytes, "{name}");
        let offsets: Vec<_> = found
            .iter()
            .map(|member| {
                let MemberAttr::Normal { offset } = member.attr else { panic!("{name} has no bit fields") };
                (member.name.unwrap().to_str().unwrap().to_owned(), offset as usize / 8)
            })
            .collect();
        let members: Vec<_> = members.iter().map(|&(name, offset)| (name.to_owned(), offset)).collect();
        assert_eq!(offsets, members, "{name}");
    };
    macro_rules! members {
        ($of:ty: $($member:ident),*) => { &[$((stringify!($member), offset_of!($of, $member))),*] };
    }
    use baton::sys::bpf::abi::{baton_arrival, baton_settings};
    let members =
        members!(baton_settings: abi, rings, ethertype, probe_port, known_only, source_interval_ns, source_window_ns);
    check("baton_settings", size_of::<baton_settings>(), members);
    check("baton_arrival", size_of::<baton_arrival>(), members!(baton_arrival: magic, reserved, ns));
}
