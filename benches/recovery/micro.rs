//! What the simulation itself takes for a takeover, so that nobody takes it for the dispatch
//! server's time.

use std::hint::black_box;
use std::time::Instant;

use baton::lab::sim::{AutonomousServer, Preload, Settings};
use baton::limits::FRAME_BYTES_MAX;
use baton::time::Nanos;
use baton::wire::{
    Address, Direction, Domain, Envelope, Epoch, Frame, Header, Key, Mac, MeetingId, Opcode, Secret, TakeoverEntry,
    Transaction, encode_page,
};
use serde::Serialize;

/// Entries of a full page.
const PAGE: usize = 63;
/// What each of four autonomous servers has of a million meetings.
const MEETINGS: u32 = 250_000;
/// The best of so many rounds counts: others share this machine.
const ROUNDS: u32 = 5;

/// One autonomous server of 250,000 meetings, in this process, without an interface.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Simulation {
    pub meetings: u32,
    /// To make all of it.
    pub set_up_ms: f64,
    /// A page of 63 entries: its tag checked, done, and its answer written and tagged.
    pub page_ns: f64,
    /// Of that, checking the tag.
    pub tag_check_ns: f64,
    /// Of that, writing the answer and tagging it.
    pub answer_ns: f64,
    /// What is left, for each entry.
    pub meeting_ns: f64,
    /// The digest over all of them.
    pub digest_ms: f64,
}

pub fn measure() -> Simulation {
    let domain = Domain::new(1).expect("a domain");
    let secret = Secret([7; 32]);
    let preload = Preload::new(MEETINGS, 10, None, 1).expect("ten members each");
    let begun = Instant::now();
    let preload = preload.domain(0, domain, 1001);
    let settings = Settings { secret: Some(secret.clone()), preload: Some(preload), ..Settings::new(domain) };
    let mut server = AutonomousServer::new(settings, 1);
    let set_up_ms = begun.elapsed().as_secs_f64() * 1e3;

    let key = Key::derive(Some(&secret), Direction::Dispatch);
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let from = Address::from_number(0x1_FFFF);
    let envelope =
        Envelope { dst_mac: mac, src_mac: mac, vlan: None, ethertype: 0x88B5, to: domain.server(), from, label: None };
    let entries: Vec<_> =
        preload.meetings().map(|it| TakeoverEntry { meeting: it.meeting, version: it.version }).collect();
    let mut buffer = [0; FRAME_BYTES_MAX];
    let (mut page_ns, mut tag_check_ns, mut answer_ns, mut digest_ms) = (f64::MAX, f64::MAX, f64::MAX, f64::MAX);
    for round in 0..ROUNDS {
        let epoch = Epoch::new(1, 2 + round as u16);
        let pages: Vec<_> = (1..)
            .zip(entries.chunks(PAGE))
            .map(|(number, entries)| {
                let header = Header::request(Transaction(number), epoch, MeetingId::NONE);
                let mut bytes = vec![0; FRAME_BYTES_MAX];
                let records = entries.iter().copied();
                let length =
                    encode_page(&mut bytes, &envelope, Opcode::TakeoverBatch, &header, (0, 1), records, &key).0;
                bytes.truncate(length);
                bytes
            })
            .collect();
        let each = |begun: Instant| begun.elapsed().as_nanos() as f64 / pages.len() as f64;
        let begun = Instant::now();
        for page in &pages {
            black_box(Frame::parse(page, 0x88B5).is_ok_and(|frame| frame.authentic(&key)));
        }
        tag_check_ns = tag_check_ns.min(each(begun));
        let (begun, mut answering) = (Instant::now(), 0);
        for page in &pages {
            server.handle_frame(Nanos(1), page);
            let answer = Instant::now();
            black_box(server.poll_transmit(Nanos(1), &mut buffer));
            answering += answer.elapsed().as_nanos();
        }
        page_ns = page_ns.min(each(begun));
        answer_ns = answer_ns.min(answering as f64 / pages.len() as f64);
        let begun = Instant::now();
        assert_eq!(black_box(server.digest(epoch)).0, MEETINGS, "each was taken over");
        digest_ms = digest_ms.min(begun.elapsed().as_secs_f64() * 1e3);
    }
    let meeting_ns = (page_ns - tag_check_ns - answer_ns) / PAGE as f64;
    Simulation { meetings: MEETINGS, set_up_ms, page_ns, tag_check_ns, answer_ns, meeting_ns, digest_ms }
}
