//! Loads are composed, paced and counted as requested; frames pass over memory, not over an
//! interface.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

use super::*;
use crate::limits::LOAD_FRAME_BYTES_MAX;
use crate::wire::{
    Address, DEFAULT_ETHERTYPE, Domain, Envelope, FlagsHeader, Frame, Header, Mac, Malformed, Message, Opcode,
    ReportAck, Secret, Status, TerminalState, encode_message, encode_page,
};

fn composer(kind: Kind, secret: Option<Secret>) -> Composer {
    let parties = (1..=3).filter_map(Domain::new).map(|domain| Party::new(domain, secret.as_ref())).collect();
    Composer {
        population: Population::new(parties, 1001, 50, 10).unwrap(),
        kind,
        size: None,
        dispatch: Address::from_number(0x1_FFFF),
        dst_mac: Mac([2, 0, 0, 0, 0, 1]),
        src_mac: Mac([2, 0, 0, 0, 0, 2]),
        ethertype: DEFAULT_ETHERTYPE,
        first_version: 7,
        ack_now: false,
        seed: 1,
    }
}

fn frame_of(composer: &Composer, sequence: u64) -> Vec<u8> {
    let mut buffer = vec![0xAA; LOAD_FRAME_BYTES_MAX];
    let length = composer.frame(sequence, Nanos(sequence * 1000), &mut buffer);
    buffer.truncate(length);
    buffer
}

#[test]
fn every_opcode_has_a_valid_frame_of_its_own() {
    let composer = composer(Kind::All, Some(Secret([3; 32])));
    let mut seen = BTreeSet::new();
    for sequence in 0..composer.kind.variety() {
        let bytes = frame_of(&composer, sequence);
        let frame = Frame::parse(&bytes, DEFAULT_ETHERTYPE).unwrap();
        let opcode = frame.opcode().unwrap();
        let (from, to) = (frame.envelope().from, frame.envelope().to);
        let from_dispatch = from == composer.dispatch;
        let domain = if from_dispatch { to } else { from }.domain().unwrap();
        let (_, party) = composer.population.find(domain).unwrap();
        assert!(frame.authentic(if from_dispatch { &party.inbound } else { &party.outbound }), "{opcode}");
        assert!(opcode.is_page() == frame.message().is_err() && opcode.is_page() == frame.page().is_ok(), "{opcode}");
        seen.insert(opcode.wire());
    }
    assert_eq!(seen, Opcode::ALL.iter().map(|opcode| opcode.wire()).collect());
}

#[test]
fn a_terminal_reports_its_next_version_in_every_turn() {
    for kind in [Kind::Reports, Kind::Infos] {
        let composer = composer(kind, None);
        let terminals = u64::from(composer.population.terminals());
        let mut speakers = BTreeSet::new();
        for sequence in 0..3 * terminals {
            let bytes = frame_of(&composer, sequence);
            let frame = Frame::parse(&bytes, DEFAULT_ETHERTYPE).unwrap();
            let (terminal, version, meeting) = match kind {
                Kind::Reports => match frame.message().unwrap() {
                    Message::Report { terminal, version, .. } => (terminal, version, frame.header().meeting),
                    other => panic!("{other:?}"),
                },
                _ => {
                    let state = frame.page().unwrap().records::<TerminalState>().unwrap().flatten().next().unwrap();
                    (state.terminal, state.version, state.meeting)
                }
            };
            assert_eq!(frame.envelope().from, terminal);
            assert_eq!(version, 7 + (sequence / terminals) as u32);
            assert_eq!(composer.sequence_of(terminal, version), Some(sequence));
            speakers.insert((terminal, meeting));
        }
        assert_eq!(speakers.len() as u64, terminals, "each terminal in one meeting");
    }
}

#[test]
fn forgeries_are_whole_and_none_would_be_believed() {
    let composer = composer(Kind::Forgeries, Some(Secret([3; 32])));
    for sequence in 0..400 {
        let bytes = frame_of(&composer, sequence);
        let frame = Frame::parse(&bytes, DEFAULT_ETHERTYPE).unwrap();
        let Message::Report { terminal, .. } = frame.message().unwrap() else { panic!("a report") };
        let Envelope { from, to, .. } = frame.envelope();
        let party = from.domain().and_then(|domain| composer.population.find(domain));
        let believed = to == composer.dispatch
            && party.is_some_and(|(_, party)| frame.authentic(&party.outbound))
            && (terminal == from || from.device() == 0);
        assert!(!believed, "{sequence}");
    }
}

#[test]
fn garbage_comes_again_by_its_seed_and_is_never_longer_than_said() {
    let mut composer = composer(Kind::Garbage, None);
    composer.size = Some(64);
    assert_eq!(composer.check(), Ok(()));
    let mut wrong = BTreeSet::new();
    for sequence in 0..1000 {
        let bytes = frame_of(&composer, sequence);
        assert_eq!(bytes, frame_of(&composer, sequence));
        assert!((14..=64).contains(&bytes.len()));
        wrong.extend(Frame::parse(&bytes, DEFAULT_ETHERTYPE).err().map(|malformed| malformed.to_string()));
    }
    assert!(wrong.contains(&Malformed::Short.to_string()) && wrong.contains(&Malformed::PacketType.to_string()));
}

#[test]
fn sizes_are_what_the_wire_permits() {
    let mut reports = composer(Kind::Reports, None);
    for (size, good) in [(64, false), (95, false), (96, true), (128, true), (1100, true), (1514, true), (1515, false)] {
        reports.size = Some(size);
        assert_eq!(reports.check().is_ok(), good, "{size}");
    }
    reports.size = Some(128);
    let bytes = frame_of(&reports, 5);
    assert!(bytes.len() == 128 && bytes[96..].iter().all(|&byte| byte == 0), "padding is zero");
    assert!(Frame::parse(&bytes, DEFAULT_ETHERTYPE).unwrap().message().is_ok());
}

#[test]
fn pace_names_every_moment_once() {
    for rate in [1, 3, 999, 1_000_000, 3_333_333] {
        let pace = Pace::new(Nanos(1_000_000), NonZeroU64::new(rate).unwrap());
        assert_eq!(pace.by(Nanos(999_999)), 0);
        for nth in (0..1000).chain([1 << 31]) {
            let due = pace.due(nth);
            assert!(pace.by(due) > nth, "what is due is among what was due by then: {rate} {nth}");
            assert!(pace.by(Nanos(due.0 - 1)) <= nth, "and not among what was due before: {rate} {nth}");
        }
    }
}

/// Gives the answers of a dispatch server.
struct Desk<'a>(&'a Composer);

impl Desk<'_> {
    fn to(&self, sequence: u64) -> (Envelope, &Party) {
        let speaker = self.0.population.speaker(sequence);
        (self.0.envelope(speaker.party, speaker.address).reply(), speaker.party)
    }

    fn echo(&self, sequence: u64) -> Vec<u8> {
        let (envelope, party) = self.to(sequence);
        let mut buffer = vec![0; 2048];
        let message = Message::ProbeEcho { sent_ns: 0, sequence };
        let length = encode_message(&mut buffer, &envelope, &Header::default(), &message, &party.inbound);
        buffer.truncate(length);
        buffer
    }

    fn acknowledge(&self, sequences: &[u64], status: Status) -> Vec<u8> {
        let (envelope, party) = self.to(sequences[0]);
        let acks = sequences.iter().map(|&sequence| ReportAck {
            terminal: self.0.population.speaker(sequence).address,
            version: self.0.version(sequence),
            status,
        });
        let mut buffer = vec![0; 2048];
        let header = Header { flags: FlagsHeader::default(), ..Header::default() };
        let (length, _) =
            encode_page(&mut buffer, &envelope, Opcode::ReportAckBatch, &header, (0, 1), acks, &party.inbound);
        buffer.truncate(length);
        buffer
    }
}

#[test]
fn latency_counts_from_when_a_frame_was_to_be_sent() {
    let composer = composer(Kind::Probes, Some(Secret([3; 32])));
    let mut tally = Tally::new(0);
    tally.set_pace(Pace::new(Nanos(1_000_000), NonZeroU64::new(1000).unwrap()));
    // The sender was delayed by 10 ms, and all ten probes were sent and answered at the end of that
    // time.
    let late = Nanos(11_000_000);
    for sequence in 0..10 {
        tally.note_sent(late);
        tally.handle(&Desk(&composer).echo(sequence), late, &composer);
    }
    let latency = tally.latency(Class::Probe).unwrap();
    let near = |value: u64, of: u64| value.abs_diff(of) * 1000 <= of;
    assert!(near(latency.max(), 10_000_000) && near(latency.min(), 1_000_000), "{} {}", latency.max(), latency.min());
}

#[test]
fn each_answer_counts_once_and_order_is_judged() {
    let composer = composer(Kind::Probes, Some(Secret([3; 32])));
    let mut tally = Tally::new(0);
    for _ in 0..6 {
        tally.note_sent(Nanos(1));
    }
    for sequence in [0, 2, 1, 2, 5, 6] {
        tally.handle(&Desk(&composer).echo(sequence), Nanos(2), &composer);
    }
    let mut forged = Desk(&composer).echo(3);
    *forged.last_mut().unwrap() ^= 1;
    tally.handle(&forged, Nanos(2), &composer);
    let expected = Counts { answered: 4, reordered: 1, repeated: 1, strange: 1, unauthentic: 1, ..Counts::default() };
    assert_eq!(*tally.counts(), expected);
}

#[test]
fn an_acknowledgement_covers_the_terminal_s_earlier_reports() {
    let composer = composer(Kind::Reports, None);
    let terminals = u64::from(composer.population.terminals());
    let mut tally = Tally::new(0);
    tally.set_sent(4 * terminals);
    let desk = Desk(&composer);
    tally.handle(&desk.acknowledge(&[0], Status::Ok), Nanos(5), &composer);
    tally.handle(&desk.acknowledge(&[3 * terminals, 1], Status::Ok), Nanos(5), &composer);
    tally.handle(&desk.acknowledge(&[2], Status::UnknownTerminal), Nanos(5), &composer);
    // The third turn of one terminal came before the first of two others.
    let expected = Counts { answered: 6, covered: 2, refused: 1, reordered: 2, ..Counts::default() };
    assert_eq!(*tally.counts(), expected);
    assert_eq!(composer.kind.answers(0, 4 * terminals), 4 * terminals);
}

#[test]
fn versions_of_an_earlier_load_are_strangers_to_a_later_one() {
    let composer = composer(Kind::Reports, None);
    let terminals = composer.population.terminals();
    let plan = Plan::lasting(NonZeroU64::new(1000), Duration::from_secs(1), Duration::ZERO);
    let first = plan.next_first(1000, terminals);
    assert!(first >= 1000 && first.is_multiple_of(u64::from(terminals)));
    let mut tally = Tally::new(first);
    tally.set_sent(1000);
    tally.handle(&Desk(&composer).acknowledge(&[5], Status::Ok), Nanos(5), &composer);
    tally.handle(&Desk(&composer).acknowledge(&[first + 5], Status::Ok), Nanos(5), &composer);
    assert_eq!(*tally.counts(), Counts { answered: 1, strange: 1, ..Counts::default() });
}

/// Simulates a server that can take this rate, and loses a growing share of what is above.
fn find(bears: f64, sender: f64, settings: SearchSettings) -> Search {
    let mut search = Search::new(settings);
    while let Some(asked) = search.next() {
        let rate = asked.map_or(sender, |asked| (asked as f64).min(sender));
        let loss_ratio = ((rate - bears) / rate).max(0.0);
        let sent = (rate * 5.0) as u64;
        let lost = (loss_ratio * sent as f64).ceil() as u64;
        search.record(Trial { asked, rate, sent, lost, loss_ratio });
    }
    search
}

#[test]
fn search_finds_both_rates_within_its_resolution() {
    let settings = SearchSettings { from: 1000, to: None, loss_ratio: 0.1, resolution: 0.01 };
    for bears in [5_000.0, 123_456.0, 1_999_999.0] {
        let search = find(bears, 2_000_000.0, settings);
        let none_lost = search.non_drop_rate().unwrap();
        assert!(none_lost <= bears && none_lost >= bears * 0.98, "{none_lost} of {bears}");
        let some_lost = search.partial_drop_rate().unwrap();
        let exact = (bears / 0.9).min(2_000_000.0);
        assert!(some_lost <= exact * 1.001 && some_lost >= exact * 0.98, "{some_lost} of {exact}");
        assert!(!search.is_limited_by_sender() && search.trials().len() <= 30);
    }
}

#[test]
fn search_says_when_the_sender_is_the_limit_and_when_nothing_passes() {
    let settings = SearchSettings { from: 1000, to: None, loss_ratio: 0.0, resolution: 0.01 };
    let search = find(3_000_000.0, 2_000_000.0, settings);
    assert!(search.is_limited_by_sender() && search.trials().len() == 1);
    assert_eq!(search.non_drop_rate(), Some(2_000_000.0));
    let search = find(10.0, 2_000_000.0, settings);
    assert_eq!((search.non_drop_rate(), search.partial_drop_rate()), (None, None));
}

#[test]
fn capture_has_every_frame_with_its_time() {
    let composer = composer(Kind::All, None);
    let mut file = Vec::new();
    pcap::write(&mut file, &composer, 60, NonZeroU64::new(4), Duration::from_secs(1_700_000_000)).unwrap();
    let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(16), word(20)), (0xA1B2_3C4D, LOAD_FRAME_BYTES_MAX as u32, 1));
    assert_eq!(file[4..8], [2_u16.to_ne_bytes(), 4_u16.to_ne_bytes()].concat());
    let (mut at, mut frames) = (24, 0);
    while at < file.len() {
        assert_eq!((word(at), word(at + 4)), (1_700_000_000 + frames / 4, frames % 4 * 250_000_000));
        let length = word(at + 8) as usize;
        assert_eq!(word(at + 12) as usize, length);
        assert!(Frame::parse(&file[at + 16..at + 16 + length], DEFAULT_ETHERTYPE).is_ok());
        (at, frames) = (at + 16 + length, frames + 1);
    }
    assert_eq!(frames, 60);
}
