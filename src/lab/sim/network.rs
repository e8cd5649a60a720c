//! A network in one process: loses, doubles, delays, reorders and corrupts frames by a seed.

use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::Random;
use crate::time::Nanos;
use crate::wire::Mac;

/// Frames under way at once; a network that has more drops the newest, as a switch with a full
/// buffer does.
const FRAMES_MAX: usize = 1 << 16;

/// What befalls frames. Chances are in a million.
#[derive(Clone, Copy, Debug)]
pub struct NetworkSettings {
    /// A frame never arrives.
    pub loss: u32,
    /// A frame arrives twice, the second at a time of its own.
    pub duplicate: u32,
    /// A frame arrives with one bit flipped.
    pub corrupt: u32,
    /// The least time under way.
    pub delay_min: Duration,
    /// The most. Frames overtake each other where this is more than the least.
    pub delay_max: Duration,
}

impl NetworkSettings {
    /// Nothing befalls a frame but 10 µs under way.
    pub const PERFECT: Self = Self {
        loss: 0,
        duplicate: 0,
        corrupt: 0,
        delay_min: Duration::from_micros(10),
        delay_max: Duration::from_micros(10),
    };

    /// One frame in ten lost, one in twenty doubled, one in a hundred corrupted, and most of them
    /// out of order.
    pub const BAD: Self = Self {
        loss: 100_000,
        duplicate: 50_000,
        corrupt: 10_000,
        delay_min: Duration::from_micros(10),
        delay_max: Duration::from_millis(5),
    };
}

/// What befell frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetworkCounters {
    /// Given to the network.
    pub sent: u64,
    /// Given to a port.
    pub delivered: u64,
    /// Lost by chance, over a cut port, or for want of room.
    pub lost: u64,
    /// Arrived twice.
    pub duplicated: u64,
    /// Arrived with a bit flipped.
    pub corrupted: u64,
    /// For a MAC that no port has.
    pub unknown: u64,
}

/// A place to plug in at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Port(usize);

struct UnderWay {
    due: Nanos,
    /// Breaks ties, so that frames of one time arrive in the order they were sent, on every run.
    order: u64,
    port: Port,
    bytes: Vec<u8>,
}

/// The network. Calls in turn: [`Self::attach`] for each node, then [`Self::send`] whenever one has
/// a frame, and at [`Self::poll_timeout`] [`Self::receive`] until it gives none.
///
/// ```
/// use baton::lab::sim::{Network, NetworkSettings};
/// use baton::time::Nanos;
/// use baton::wire::Mac;
///
/// let mut network = Network::new(NetworkSettings::PERFECT, 1);
/// let port = network.attach(Mac([2, 0, 0, 0, 0, 1]));
/// network.send(Nanos(0), &[2, 0, 0, 0, 0, 1, 9, 9]);
/// let due = network.poll_timeout().unwrap();
/// assert_eq!(network.receive(due).unwrap(), (port, vec![2, 0, 0, 0, 0, 1, 9, 9]));
/// ```
pub struct Network {
    settings: NetworkSettings,
    random: Random,
    ports: BTreeMap<[u8; 6], Port>,
    cut: Vec<bool>,
    under_way: BinaryHeap<UnderWay>,
    order: u64,
    counters: NetworkCounters,
}

impl Network {
    /// A network without nodes.
    pub fn new(settings: NetworkSettings, seed: u64) -> Self {
        Self {
            settings,
            random: Random::new(seed),
            ports: BTreeMap::new(),
            cut: Vec::new(),
            under_way: BinaryHeap::new(),
            order: 0,
            counters: NetworkCounters::default(),
        }
    }

    /// A port for the node with this MAC. The same MAC again takes its old port over.
    pub fn attach(&mut self, mac: Mac) -> Port {
        let next = Port(self.cut.len());
        let port = *self.ports.entry(mac.0).or_insert(next);
        if port == next {
            self.cut.push(false);
        }
        port
    }

    /// Cuts a port off, or joins it again. What was under way to it is lost.
    pub fn set_cut(&mut self, port: Port, cut: bool) {
        self.cut[port.0] = cut;
    }

    /// From now on, this befalls frames.
    pub fn set_settings(&mut self, settings: NetworkSettings) {
        self.settings = settings;
    }

    /// A frame sets out for the port of its destination MAC.
    pub fn send(&mut self, now: Nanos, bytes: &[u8]) {
        self.counters.sent += 1;
        let Some(&port) = bytes.first_chunk().and_then(|mac: &[u8; 6]| self.ports.get(mac)) else {
            self.counters.unknown += 1;
            return;
        };
        if self.random.chance(self.settings.loss) {
            self.counters.lost += 1;
            return;
        }
        self.set_out(now, port, bytes);
        if self.random.chance(self.settings.duplicate) {
            self.counters.duplicated += 1;
            self.set_out(now, port, bytes);
        }
    }

    /// The next frame that has arrived by `now`.
    pub fn receive(&mut self, now: Nanos) -> Option<(Port, Vec<u8>)> {
        while self.poll_timeout()? <= now {
            let UnderWay { port, bytes, .. } = self.under_way.pop()?;
            if self.cut[port.0] {
                self.counters.lost += 1;
                continue;
            }
            self.counters.delivered += 1;
            return Some((port, bytes));
        }
        None
    }

    /// When the next frame arrives.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.under_way.peek().map(|frame| frame.due)
    }

    /// What befell frames so far.
    pub const fn counters(&self) -> &NetworkCounters {
        &self.counters
    }

    fn set_out(&mut self, now: Nanos, port: Port, bytes: &[u8]) {
        if self.under_way.len() >= FRAMES_MAX {
            self.counters.lost += 1;
            return;
        }
        let mut bytes = bytes.to_vec();
        if self.random.chance(self.settings.corrupt) {
            self.counters.corrupted += 1;
            let bit = self.random.below(bytes.len() as u64 * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let spread = self.settings.delay_max.saturating_sub(self.settings.delay_min).as_nanos() as u64;
        let delay = self.settings.delay_min + Duration::from_nanos(self.random.below(spread + 1));
        self.order += 1;
        self.under_way.push(UnderWay { due: now + delay, order: self.order, port, bytes });
    }
}

/// The earliest is the greatest, because the heap gives out its greatest.
impl Ord for UnderWay {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.order).cmp(&(self.due, self.order))
    }
}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for UnderWay {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for UnderWay {}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn frame(number: u16) -> Vec<u8> {
        [&NODE.0[..], &number.to_be_bytes()].concat()
    }

    fn run(settings: NetworkSettings, seed: u64) -> (Vec<Vec<u8>>, NetworkCounters) {
        let mut network = Network::new(settings, seed);
        network.attach(NODE);
        for number in 0..1000 {
            network.send(Nanos(u64::from(number) * 1000), &frame(number));
        }
        let mut arrived = Vec::new();
        while let Some(due) = network.poll_timeout() {
            while let Some((_, bytes)) = network.receive(due) {
                arrived.push(bytes);
            }
        }
        (arrived, *network.counters())
    }

    #[test]
    fn perfect_network_keeps_order_and_loses_nothing() {
        let (arrived, counters) = run(NetworkSettings::PERFECT, 1);
        assert_eq!(arrived, (0..1000).map(frame).collect::<Vec<_>>());
        assert_eq!((counters.sent, counters.delivered, counters.lost), (1000, 1000, 0));
    }

    #[test]
    fn bad_network_does_all_that_it_says_and_does_it_again_by_the_same_seed() {
        let (arrived, counters) = run(NetworkSettings::BAD, 2);
        assert!(counters.lost > 50 && counters.duplicated > 20 && counters.corrupted > 2, "{counters:?}");
        assert_eq!(arrived.len() as u64, 1000 - counters.lost + counters.duplicated);
        assert!(!arrived.is_sorted(), "frames overtake each other");
        assert_eq!(arrived, run(NetworkSettings::BAD, 2).0);
    }

    #[test]
    fn cut_port_gets_nothing_until_joined() {
        let mut network = Network::new(NetworkSettings::PERFECT, 3);
        let port = network.attach(NODE);
        network.set_cut(port, true);
        network.send(Nanos(0), &frame(1));
        assert_eq!(network.receive(Nanos(1_000_000)), None);
        network.set_cut(port, false);
        network.send(Nanos(0), &frame(2));
        assert_eq!(network.receive(Nanos(1_000_000)), Some((port, frame(2))));
        network.send(Nanos(0), &[0; 64]);
        assert_eq!(network.counters().unknown, 1);
    }
}
