//! What a simulated autonomous server is told at its start.

use std::time::Duration;

use super::PreloadedDomain;
use crate::wire::{Address, DEFAULT_ETHERTYPE, Domain, Link, Mac, Secret};

/// A simulated autonomous server and its terminals. [`Self::new`] gives quiet defaults; change what
/// matters.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The domain that it speaks for.
    pub domain: Domain,
    /// What it shares with the dispatch server; none: the zero tag, no authentication.
    pub secret: Option<Secret>,
    /// Its own MAC.
    pub mac: Mac,
    /// The site's EtherType.
    pub ethertype: u16,
    /// The 802.1Q tag of frames that it sends unasked, until the dispatch server's frames say
    /// otherwise.
    pub vlan: Option<u16>,
    /// Whom to report to, until a dispatch server connects.
    pub dispatch: Address,
    /// That one's MAC; none: nothing is sent unasked before a dispatch server's frame has shown it.
    pub dispatch_mac: Option<Mac>,
    /// How many terminals the domain has, those of its meetings from the beginning at least. More
    /// than its device numbers reach are in domains behind it, and do not report.
    pub terminals: u32,
    /// The device number of the first terminal; the others follow it.
    pub first_device: u16,
    /// How many reports a second members of meetings make of their own accord, all together.
    pub reports_per_second: u32,
    /// How many probes a second are sent.
    pub probes_per_second: u32,
    /// One report of so many asks for an acknowledgement of its own; 0: only repeated ones do.
    pub ack_now_one_in: u32,
    /// A report is repeated when no acknowledgement came for so long, then for twice as long, and
    /// so on.
    pub rto: Duration,
    /// The longest such wait.
    pub rto_max: Duration,
    /// A heartbeat is sent as often; zero: none.
    pub heartbeat: Duration,
    /// Takeover pages that it lets the dispatch server have outstanding.
    pub window: u16,
    /// Meetings that it can hold.
    pub meetings_max: usize,
    /// Pages of INFO in one transaction; the dispatch server asks again for the rest.
    pub info_pages_max: u16,
    /// So many requests in a million are answered BUSY.
    pub busy_per_million: u32,
    /// What a BUSY answer says to wait.
    pub retry_after: Duration,
    /// Its links to other domains, for TOPOLOGY_QUERY.
    pub links: Vec<Link>,
    /// The meetings that it holds from the beginning.
    pub preload: Option<PreloadedDomain>,
}

impl Settings {
    /// A server of this domain with a hundred terminals from device 1001 on, in the laboratory,
    /// that sends nothing of its own accord but what commands bring about.
    pub fn new(domain: Domain) -> Self {
        let [.., a, b, c, d, e] = domain.number().to_be_bytes();
        Self {
            domain,
            secret: None,
            mac: Mac([0x02, a, b, c, d, e]),
            ethertype: DEFAULT_ETHERTYPE,
            vlan: None,
            // What a dispatch server has that is configured with nothing but its domains.
            dispatch: Address::from_number(0x1_FFFF),
            dispatch_mac: None,
            terminals: 100,
            first_device: 1001,
            reports_per_second: 0,
            probes_per_second: 0,
            ack_now_one_in: 0,
            rto: Duration::from_secs(1),
            rto_max: Duration::from_secs(8),
            heartbeat: Duration::ZERO,
            window: 16,
            meetings_max: 65_536,
            info_pages_max: 16,
            busy_per_million: 0,
            retry_after: Duration::from_millis(20),
            links: Vec::new(),
            preload: None,
        }
    }
}
