//! The domains as workers see them: keys that do not change, and where their frames come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::cascade::{Hop, Marks, Speakers, Topology, is_group};
use crate::limits::DOMAINS_MAX;
use crate::sys::cmac::LaneKey;
use crate::wire::{Domain, Mac, MeetingId};

/// One domain.
pub struct Peer {
    /// Which.
    pub domain: Domain,
    /// Its place among all.
    pub place: usize,
    /// What frames from it are checked with.
    pub inbound: LaneKey,
    /// What frames to it are tagged with.
    pub outbound: LaneKey,
    /// What frames to it bear.
    pub marks: Marks,
    /// Its next hop, 0 where none is known: the control thread writes it, workers read it.
    hop: AtomicU64,
    /// Where its latest authentic frame came from, 0 before the first: workers write it, the
    /// control thread reads it.
    seen: AtomicU64,
    /// The meeting that one of its terminals reported out of, where the table has the terminal in
    /// the other one, or in none: workers write it, the control thread takes it. The first is 0
    /// where there is nothing to take.
    stray: [AtomicU64; 2],
    /// Another dispatch server controls it: the control thread writes it, workers read it.
    fenced: AtomicBool,
}

impl Peer {
    /// Notes that a terminal reports what the table does not have. Of several, one: the next comes
    /// when that was taken.
    #[cold]
    pub fn note_stray(&self, reported: MeetingId, held: MeetingId) {
        // Relaxed: workers that are here at once may make a pair of what both saw, and each number
        // is a question of its own.
        if self.stray[0].load(Ordering::Relaxed) == 0 {
            self.stray[1].store(held.0, Ordering::Relaxed);
            // Release pairs with the Acquire in `take_stray`.
            self.stray[0].store(reported.0, Ordering::Release);
        }
    }

    /// Takes what was noted last: the meeting that was reported, and the one that the table has.
    pub fn take_stray(&self) -> Option<[MeetingId; 2]> {
        // Acquire pairs with the Release in `note_stray`. A load first: hardly ever is there
        // anything, and it is asked often.
        let reported = Some(self.stray[0].load(Ordering::Acquire)).filter(|reported| *reported != 0)?;
        let held = self.stray[1].load(Ordering::Relaxed);
        self.stray[0].store(0, Ordering::Relaxed);
        Some([reported, held].map(MeetingId))
    }

    /// Notes where an authentic frame came from. A store only where that is new. A group is no
    /// place.
    #[inline]
    pub fn note(&self, from: Hop) -> bool {
        if is_group(from.mac) {
            return false;
        }
        let number = from.number();
        // Relaxed, here and below: the number is all there is, and nothing else is read by its
        // light.
        let new = self.seen.load(Ordering::Relaxed) != number;
        if new {
            self.seen.store(number, Ordering::Relaxed);
        }
        new
    }

    /// Another dispatch server controls it: its terminals are told nothing more.
    pub fn fence(&self) {
        self.fenced.store(true, Ordering::Relaxed);
    }

    /// Whether another dispatch server controls it.
    pub fn is_fenced(&self) -> bool {
        // Relaxed: a frame that is under way may still be answered, as it might have been a moment
        // before.
        self.fenced.load(Ordering::Relaxed)
    }

    /// Where its latest authentic frame came from.
    pub fn seen(&self) -> Option<Hop> {
        known(&self.seen)
    }

    /// Where frames to it go.
    pub fn hop(&self) -> Option<Hop> {
        known(&self.hop)
    }
}

/// Every domain of the configuration, by its number.
///
/// Each frame is looked up here, so a domain is found by its hash: a place after the other from
/// where that says, a quarter of them taken at most.
pub struct Peers {
    all: Box<[Peer]>,
    /// Places in `all`, 1 the first; 0 is nobody's. A power of two of them.
    places: Box<[u16]>,
    speakers: Arc<Speakers>,
    /// The MAC addresses of our interfaces.
    own: Box<[Mac]>,
}

const _: () = assert!(DOMAINS_MAX < u16::MAX as usize);

impl Peers {
    /// The domains of a topology.
    pub fn new(topology: &Topology) -> Self {
        let mut peers: Vec<_> = topology
            .domains()
            .filter_map(|domain| topology.route(domain))
            .map(|route| Peer {
                domain: route.domain,
                place: 0,
                inbound: LaneKey::new(route.from_it.clone()),
                outbound: LaneKey::new(route.to_it.clone()),
                marks: route.marks,
                hop: AtomicU64::new(route.hop().map_or(0, Hop::number)),
                seen: AtomicU64::new(0),
                stray: [AtomicU64::new(0), AtomicU64::new(0)],
                fenced: AtomicBool::new(false),
            })
            .collect();
        peers.sort_by_key(|peer| peer.domain);
        assert!(peers.len() < u16::MAX as usize, "a configuration names fewer domains");
        let mut places = vec![0; (peers.len() * 4).next_power_of_two()];
        for (peer, place) in peers.iter_mut().zip(1..) {
            peer.place = usize::from(place) - 1;
            let mut at = first(peer.domain, places.len());
            while places[at] != 0 {
                at = (at + 1) % places.len();
            }
            places[at] = place;
        }
        let (speakers, own) = (topology.speakers().clone(), topology.own_macs().into());
        Self { all: peers.into(), places: places.into(), speakers, own }
    }

    /// Who may speak for whom.
    pub fn speakers(&self) -> &Speakers {
        &self.speakers
    }

    /// Lets workers know where frames go now.
    pub fn follow(&self, topology: &Topology) {
        for peer in &self.all {
            let hop = topology.route(peer.domain).and_then(|route| route.hop());
            peer.hop.store(hop.map_or(0, Hop::number), Ordering::Relaxed);
        }
    }

    /// The MAC address of one of our interfaces.
    #[inline]
    pub fn own_mac(&self, interface: u8) -> Option<Mac> {
        self.own.get(usize::from(interface)).copied()
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "a configuration names at least one domain")]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// A domain and its place.
    #[inline]
    pub fn find(&self, domain: Domain) -> Option<(usize, &Peer)> {
        let mut at = first(domain, self.places.len());
        // Three of four are nobody's, so this ends.
        loop {
            let place = usize::from(*self.places.get(at)?).checked_sub(1)?;
            let peer = self.all.get(place)?;
            if peer.domain == domain {
                return Some((place, peer));
            }
            at = (at + 1) & (self.places.len() - 1);
        }
    }

    /// The domain at a place.
    ///
    /// # Panics
    /// If there is none.
    pub fn peer(&self, place: usize) -> &Peer {
        &self.all[place]
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.all.iter()
    }
}

fn known(number: &AtomicU64) -> Option<Hop> {
    // Relaxed: see `Peer::note`.
    let hop = Hop::from_number(number.load(Ordering::Relaxed));
    Some(hop).filter(|hop| hop.mac != Mac::default())
}

/// Where a domain is looked for first.
fn first(domain: Domain, places: usize) -> usize {
    // Fibonacci hashing: numbers in a row, or far apart alike, come to places of their own.
    (domain.number().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (places - 1)
}
