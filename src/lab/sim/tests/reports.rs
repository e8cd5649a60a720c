//! What terminals and servers send unasked: reports, their repetition, probes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ONE, Rig, SECRET, domain, report_of, terminal};
use crate::lab::sim::{AutonomousServer, Network, NetworkSettings, Settings};
use crate::limits::FRAME_BYTES_MAX;
use crate::time::Nanos;
use crate::wire::{
    Business, Decode, Direction, Envelope, Frame, Key, Layout, Level, Mac, MeetingId, Message, Opcode, Role,
    encode_message,
};

#[test]
fn called_terminal_rings_takes_the_call_and_reports_until_acknowledged() {
    let mut rig = Rig::new(|_| ());
    rig.acknowledges = false;
    rig.start(ONE, 3, [1]);
    let begin = rig.now;
    let reports = rig.run(Duration::from_secs(10));
    let told: Vec<_> = reports.iter().map(|(at, r, now)| (at.since(begin).as_millis(), r.business, *now)).collect();
    let took = told[1].0;
    assert!((20..=40).contains(&took), "{told:?}");
    assert_eq!(
        told,
        [
            (5, Business::Invited, false),
            (took, Business::InMeeting, false),
            (took + 1000, Business::InMeeting, true),
            (took + 3000, Business::InMeeting, true),
            (took + 7000, Business::InMeeting, true),
        ]
    );
    assert!(!rig.server.is_quiet());
    rig.acknowledges = true;
    assert_eq!(rig.run(Duration::from_secs(30)).len(), 1);
    assert!(rig.server.is_quiet());
    let counters = *rig.server.counters();
    assert_eq!((counters.reports_sent, counters.reports_retransmitted), (2, 4));
    assert_eq!((counters.reports_acknowledged, counters.reports_unanswered), (1, 2), "one overtaken, one late");
    let state = rig.server.terminal(terminal(1)).unwrap();
    assert_eq!((state.decode, state.version), (Decode::Decoding, 2));
    assert_eq!(rig.server.terminals().next().unwrap().1, Some(2));
}

#[test]
fn reports_come_at_the_set_rate_and_none_is_lost_or_repeated_while_acknowledged() {
    let mut rig = Rig::new(|settings| {
        settings.reports_per_second = 5000;
        settings.terminals = 400;
    });
    rig.start(ONE, 3, 1..=400);
    rig.run(Duration::from_secs(1));
    rig.server.reset_counters();
    let reports = rig.run(Duration::from_secs(1));
    assert!((4990..=5010).contains(&reports.len()), "{}", reports.len());
    let captions = reports.iter().filter(|(_, state, _)| state.info.len() > 6).count();
    assert!(captions > 50, "some information takes a REPORT_INFO: {captions}");
    rig.server.set_quiesced(true);
    rig.run(Duration::from_millis(100));
    assert!(rig.server.is_quiet());
    let counters = rig.server.counters();
    assert_eq!(counters.reports_sent, counters.reports_acknowledged);
    assert_eq!((counters.reports_retransmitted, counters.reports_unanswered, counters.reports_held_back), (0, 0, 0));
    assert!(rig.server.terminals().all(|(state, acknowledged)| acknowledged == Some(state.version)));
}

#[test]
fn probes_leave_from_terminal_after_terminal_and_are_never_repeated() {
    let mut rig = Rig::new(|settings| settings.probes_per_second = 1000);
    rig.ask(MeetingId::NONE, Message::Connect { window: 1 });
    rig.now = rig.now + Duration::from_millis(1);
    let first = rig.sent();
    let frame = Frame::parse(&first[0], 0x88B5).unwrap();
    let Ok(Message::Probe { sent_ns, sequence }) = frame.message() else { panic!("a probe") };
    let from = frame.envelope().from;
    let (mut bytes, header) = (vec![0; FRAME_BYTES_MAX], frame.header());
    let back = Envelope { to: from, ..rig.envelope() };
    let echo = Message::ProbeEcho { sent_ns, sequence };
    let length = encode_message(&mut bytes, &back, &header, &echo, &rig.key());
    rig.give(&bytes[..length]);
    rig.give(&bytes[..length]);
    let counters = rig.server.counters();
    assert_eq!((counters.probes_echoed, counters.probes_strange), (1, 1));
    rig.now = rig.now + Duration::from_millis(5);
    assert_eq!(rig.sent().len(), 5);
}

/// A dispatch server that acknowledges what reaches it, each report by itself, and remembers the
/// newest.
fn acknowledge(bytes: &[u8], newest: &mut BTreeMap<u64, u32>) -> Option<Vec<u8>> {
    let frame = Frame::parse(bytes, 0x88B5).ok()?;
    if !frame.authentic(&Key::derive(Some(&SECRET), Direction::Autonomous)) {
        return None;
    }
    let state = report_of(&frame);
    let last = newest.entry(state.terminal.number()).or_default();
    *last = (*last).max(state.version);
    let (terminal, version) = (state.terminal, state.version);
    let answer = match frame.opcode() {
        Ok(Opcode::Report) => Message::ReportAck { terminal, version },
        _ => Message::ReportInfoAck { terminal, version },
    };
    let mut bytes = vec![0; FRAME_BYTES_MAX];
    let key = Key::derive(Some(&SECRET), Direction::Dispatch);
    let length = encode_message(&mut bytes, &frame.envelope().reply(), &frame.header(), &answer, &key);
    bytes.truncate(length);
    Some(bytes)
}

#[test]
fn over_a_bad_network_every_version_arrives_in_the_end() {
    for seed in 1..=20 {
        println!("seed {seed}");
        let (near, far) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 1, 0x6e]));
        let mut network = Network::new(NetworkSettings::BAD, seed);
        let (dispatch, autonomous) = (network.attach(near), network.attach(far));
        let mut server = AutonomousServer::new(
            Settings {
                secret: Some(SECRET),
                mac: far,
                dispatch_mac: Some(near),
                reports_per_second: 2000,
                ack_now_one_in: 8,
                ..Settings::new(domain())
            },
            seed,
        );
        let members: Vec<_> = (1..=80).map(|number| (terminal(number), Role::Participant)).collect();
        server.hold(Nanos(0), ONE, Level::HIGHEST, Layout::new(4).unwrap(), &members);
        let mut newest = BTreeMap::new();
        let (mut now, mut buffer) = (Nanos(0), [0; FRAME_BYTES_MAX]);
        while now < Nanos(120_000_000_000) && !(now > Nanos(3_000_000_000) && server.is_quiet()) {
            server.set_quiesced(now > Nanos(3_000_000_000));
            server.handle_timeout(now);
            while let Some(length) = server.poll_transmit(now, &mut buffer) {
                network.send(now, &buffer[..length]);
            }
            while let Some((port, bytes)) = network.receive(now) {
                if port == autonomous {
                    server.handle_frame(now, &bytes);
                } else if let Some(answer) =
                    Some(bytes).filter(|_| port == dispatch).and_then(|bytes| acknowledge(&bytes, &mut newest))
                {
                    network.send(now, &answer);
                }
            }
            let next = server.poll_timeout().into_iter().chain(network.poll_timeout()).min();
            now = next.map_or(now + Duration::from_millis(1), |next| next.max(now + Duration::from_micros(1)));
        }
        let counters = server.counters();
        assert!(server.is_quiet(), "{counters:?}");
        assert!(counters.reports_retransmitted > 100 && counters.frames_unauthentic > 0, "{counters:?}");
        for (state, acknowledged) in server.terminals().filter(|(state, _)| state.meeting == ONE) {
            assert_eq!(acknowledged, Some(state.version));
            assert_eq!(newest.get(&state.terminal.number()), Some(&state.version), "acknowledged, so it had arrived");
        }
    }
}
