//! What a worker works on: a table of a million meetings, and rings of reports in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use baton::cascade::Topology;
use baton::config::{AutonomousDomain, Heartbeat};
use baton::limits::{BURST, FRAME_BYTES_MAX};
use baton::link::{Flushed, FrameQueue, Peers, Received, Ring, Shared, Waker, Worker};
use baton::sys::clock;
use baton::sys::mapping::boot_id;
use baton::table::{Capacity, OwnerId, Part, Table, Terminal};
use baton::telemetry::{Collector, Counter, Counters, Recorder, recorder};
use baton::time::Nanos;
use baton::wire::{
    Address, Business, DEFAULT_ETHERTYPE, Decode, Direction, Domain, Envelope, Epoch, Flags, Header, Key, Layout,
    Level, Mac, MeetingId, MeetingState, Message, Role, Run, Secret, StreamKind, Transaction, encode_message,
};
use mio::{Poll, Token};

/// Terminals of a domain, which numbers at most 65,535 devices.
const DOMAIN_TERMINALS: u32 = 62_500;
/// Entries of a receive ring.
const ENTRIES: usize = 4096;
/// Bytes between two frames: a REPORT has 96.
const STRIDE: usize = 128;

/// Everything that workers share.
pub struct Rig {
    pub table: Arc<Table>,
    shared: Arc<Shared>,
    key: Key,
    /// The terminals, in an order that no cache foresees.
    order: Vec<Address>,
    /// How many rounds there were: each round's reports are newer than the last one's.
    version: u32,
    // Keeps the eventfd's registry alive.
    _poll: Poll,
}

/// A table of this process's own, in a file whose name is gone at once, or on the heap.
fn table(capacity: Capacity, memory: Option<&Path>) -> Table {
    let Some(folder) = memory else { return Table::on_heap(capacity) };
    let path = folder.join(format!("table-{}", std::process::id()));
    let table = Table::create_at(&path, capacity, boot_id().expect("a boot id")).expect("room for a table");
    std::fs::remove_file(&path).expect("it was just made");
    table
}

/// Domains that so many terminals are spread over.
pub fn domains(meetings: u32) -> u32 {
    meetings.div_ceil(DOMAIN_TERMINALS).max(16)
}

impl Rig {
    /// So many meetings with a terminal each in so many domains, with or without tags.
    pub fn new(tagged: bool, (meetings, domains): (u32, u32), memory: Option<&Path>) -> Self {
        let secret = tagged.then_some(Secret([7; 32]));
        let numbers = (1..=domains).map(|number| Domain::new(u64::from(number) * 3).expect("no number is 0"));
        let domains: Vec<_> = numbers
            .map(|number| AutonomousDomain {
                number,
                mac: Some(Mac([2, 0, 0, 0, 0, 2])),
                interface: None,
                vlan: None,
                label: None,
                secret: secret.clone(),
                behind: Vec::new(),
            })
            .collect();
        let own = Domain::new(1).expect("a domain").device(1);
        let topology =
            Topology::with(&domains, own, DEFAULT_ETHERTYPE, &[Mac([2, 0, 0, 0, 0, 1])], Heartbeat::default());
        let poll = Poll::new().expect("a poll");
        let wake = Waker::new(poll.registry(), Token(0)).expect("an eventfd");
        let steered = (DEFAULT_ETHERTYPE, None);
        let shared = Shared::new(own, steered, Arc::new(Peers::new(&topology)), FrameQueue::new(1024), wake, true);
        shared.begin(Epoch::new(1, 1));
        let table = Arc::new(table(Capacity { meetings, terminals: meetings }, memory));
        let mut writer = table.writer(OwnerId::CONTROL);
        let count = domains.len() as u32;
        let mut order = Vec::with_capacity(meetings as usize);
        for n in 0..meetings {
            let domain = domains[(n % count) as usize].number;
            let terminal = domain.device((n / count) as u16 + 1);
            let meeting = meeting_of(terminal);
            let part = Part {
                meeting,
                domain,
                version: 1,
                epoch: Epoch::new(1, 1),
                state: MeetingState::InMeeting,
                level: Level::HIGHEST,
                layout: Layout::new(4).expect("a layout"),
                participants: 0,
                chairman: terminal,
                in_doubt: false,
                is_unlisted: false,
                run: Run(7),
            };
            writer.insert_part(&part).expect("room for a part");
            writer.join(meeting, domain, &Terminal::new(terminal, meeting, Role::Chairman)).expect("room for a member");
            order.push(terminal);
        }
        drop(writer);
        // Fisher and Yates, with SplitMix64: the same order each time.
        let mut state = 1_u64;
        for last in (1..order.len()).rev() {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            order.swap(last, (baton::wire::mix(state) % (last as u64 + 1)) as usize);
        }
        let key = Key::derive(secret.as_ref(), Direction::Autonomous);
        Self { table, shared: Arc::new(shared), key, order, version: 0, _poll: poll }
    }

    /// A worker on an empty belt.
    pub fn worker(&self, number: u8) -> Bench {
        self.worker_with(number, recorder(&mut Collector::default()))
    }

    /// As [`Self::worker`], with this to record by.
    pub fn worker_with(&self, number: u8, recorder: Recorder) -> Bench {
        let writer = self.table.writer(OwnerId::worker(number));
        let counters = Arc::new(Counters::default());
        let outbox = Arc::new(FrameQueue::new(4));
        let worker = Worker::new((Belt::default(), 0), writer, self.shared.clone(), outbox, counters.clone(), recorder);
        Bench { worker, counters }
    }

    /// The next round's reports, for so many belts, `count` on each: every terminal at most once.
    pub fn reports<const BELTS: usize>(&mut self, count: usize) -> [Frames; BELTS] {
        self.version += 1;
        let begin = (self.version as usize * count * BELTS) % (self.order.len() - count * BELTS + 1);
        let mut of_belts = self.order[begin..][..count * BELTS].chunks(count);
        let mut buffer = [0; FRAME_BYTES_MAX];
        std::array::from_fn(|_| {
            let mut bytes = vec![0; count * STRIDE];
            let terminals = of_belts.next().expect("as many as belts");
            for (&terminal, to) in terminals.iter().zip(bytes.chunks_mut(STRIDE)) {
                let length = self.report(terminal, &mut buffer);
                assert_eq!(length, FRAME, "a REPORT is a protocol payload");
                to[..length].copy_from_slice(&buffer[..length]);
            }
            Frames { bytes, arrived: clock::now(), interval_ns: None }
        })
    }

    /// As [`Self::reports`], of which one in `one_in` gives way to a heartbeat's answer, which is
    /// for the control thread, and every other one of the rest says what was said in the round
    /// before. They arrive one by one, so far apart.
    pub fn mixed(&mut self, count: usize, one_in: usize, interval_ns: f64) -> Frames {
        let mut buffer = [0; FRAME_BYTES_MAX];
        let [mut frames] = self.reports(count);
        self.version -= 1;
        for (at, to) in frames.bytes.chunks_mut(STRIDE).enumerate() {
            let terminal = self.order[at];
            if at % one_in == 0 {
                let server = terminal.domain().expect("a member's domain").server();
                let message = Message::HeartbeatAck {
                    sent_ns: 1,
                    held: 1,
                    boot_generation: 1,
                    age: 0,
                    highest_epoch: Epoch::NONE,
                };
                self.frame(server, MeetingId::NONE, &message, &mut buffer);
            } else if at % 2 == 0 {
                self.report(terminal, &mut buffer);
            } else {
                self.version += 1;
                self.report(terminal, &mut buffer);
                self.version -= 1;
            }
            to[..FRAME].copy_from_slice(&buffer[..FRAME]);
        }
        self.version += 1;
        Frames { interval_ns: Some(interval_ns), ..frames }
    }

    /// The terminals' reports of the current version, in the order of [`Self::mixed`].
    pub fn first(&mut self, count: usize) -> Frames {
        let [mut frames] = self.reports(count);
        let mut buffer = [0; FRAME_BYTES_MAX];
        for (terminal, to) in self.order.iter().zip(frames.bytes.chunks_mut(STRIDE)) {
            self.report(*terminal, &mut buffer);
            to[..FRAME].copy_from_slice(&buffer[..FRAME]);
        }
        frames
    }

    /// How long each frame waited until the control thread had it.
    pub fn take_control(&self, waits: &mut Vec<u64>) {
        while self.shared.inbox.take(|_, arrived| waits.push(clock::now().0.saturating_sub(arrived.0))).is_some() {}
    }

    fn report(&self, terminal: Address, buffer: &mut [u8]) -> usize {
        let version = self.version;
        let message = Message::Report {
            terminal,
            version,
            business: Business::InMeeting,
            decode: Decode::Decoding,
            role: Role::Chairman,
            flags: Flags::AUDIO,
            channel: version as u8,
            stream: StreamKind::Main,
            info: *b"layout",
        };
        self.frame(terminal, meeting_of(terminal), &message, buffer)
    }

    fn frame(&self, from: Address, meeting: MeetingId, message: &Message, buffer: &mut [u8]) -> usize {
        let header = Header::request(Transaction(self.version), Epoch::NONE, meeting);
        let envelope = Envelope {
            dst_mac: Mac([2, 0, 0, 0, 0, 1]),
            src_mac: Mac([2, 0, 0, 0, 1, 0]),
            vlan: None,
            ethertype: DEFAULT_ETHERTYPE,
            to: self.shared.address,
            from,
            label: None,
        };
        encode_message(buffer, &envelope, &header, message, &self.key)
    }
}

fn meeting_of(terminal: Address) -> MeetingId {
    MeetingId(terminal.number())
}

/// Bytes of a REPORT's frame: Ethernet 14, addresses 18, payload 64.
const FRAME: usize = 14 + 18 + 64;

/// Reports that are about to arrive.
#[derive(Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// When the first one does.
    arrived: Nanos,
    /// What lies between two; none where all of them are there.
    interval_ns: Option<f64>,
}

/// Rings in memory, without a lock or an allocation of their own: what was received lies where it
/// was made.
#[derive(Default)]
pub struct Belt {
    frames: Frames,
    /// The oldest that is held, the next to be received.
    first: usize,
    next: usize,
    out: Vec<u8>,
    pub sent: u64,
}

impl Belt {
    fn left(&self) -> usize {
        let all = self.frames.bytes.len() / STRIDE;
        let arrived = self.frames.interval_ns.map_or(all, |interval| {
            all.min((clock::now().0.saturating_sub(self.frames.arrived.0) as f64 / interval) as usize)
        });
        arrived - self.next
    }
}

impl Ring for Belt {
    fn entries(&self) -> usize {
        ENTRIES
    }

    /// Never more than a burst where all of them are there: the feeder keeps pace.
    fn waiting(&self) -> usize {
        self.left().min(if self.frames.interval_ns.is_some() { ENTRIES } else { BURST })
    }

    fn receive(&mut self, max: usize) -> usize {
        self.next += self.left().min(max);
        self.next - self.first
    }

    fn received(&self, i: usize) -> Received<'_> {
        let bytes = &self.frames.bytes[(self.first + i) * STRIDE..][..FRAME];
        let after = self.frames.interval_ns.map_or(0, |interval| ((self.first + i + 1) as f64 * interval) as u64);
        Received { bytes, arrived: Some(Nanos(self.frames.arrived.0 + after)) }
    }

    fn release(&mut self, n: usize) {
        self.first += n;
    }

    fn transmit(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        self.out.resize(FRAME_BYTES_MAX, 0);
        self.sent += 1;
        write(&mut self.out) > 0
    }

    fn flush(&mut self) -> Flushed {
        Flushed::All
    }
}

/// A worker with what it counts.
pub struct Bench {
    worker: Worker<Belt>,
    counters: Arc<Counters>,
}

impl Bench {
    /// Lays reports on its belt.
    pub fn load(&mut self, frames: Frames) {
        let belt = self.worker.ring_mut();
        assert_eq!(belt.left(), 0, "the last were taken");
        (belt.frames, belt.first, belt.next) = (frames, 0, 0);
    }

    /// Takes all of them, as a worker's thread does.
    pub fn run(&mut self) -> Duration {
        let begun = Instant::now();
        while self.worker.step(clock::now()) {}
        self.worker.settle();
        begun.elapsed()
    }

    /// Takes them as they arrive, until the last is taken; `after` is called behind each step.
    pub fn keep_up(&mut self, mut after: impl FnMut()) {
        let belt = self.worker.ring_mut();
        belt.frames.arrived = clock::now();
        let all = belt.frames.bytes.len() / STRIDE;
        while self.worker.ring().next < all {
            self.worker.step(clock::now());
            after();
        }
        self.worker.settle();
    }

    /// What it counted.
    pub fn count(&self, counter: Counter) -> u64 {
        self.counters.read(counter)
    }

    /// How many reports are in the table and acknowledged; fails where the two differ.
    pub fn acknowledged(&self) -> u64 {
        let [applied, acknowledged] = [Counter::ReportsApplied, Counter::Acknowledged].map(|it| self.counters.read(it));
        assert_eq!(applied, acknowledged, "each report changed the table, and was acknowledged");
        applied
    }
}
