//! The terminals that a load sends for.
//!
//! Terminals are numbered over all domains, round robin over the domains; `members` consecutive
//! terminals of one domain are a meeting. The simulation's preload uses the same rule: a server
//! that was filled by it knows every terminal.

use crate::config::AutonomousDomain;
use crate::limits::LOAD_TERMINALS_MAX;
use crate::wire::{Address, Direction, Domain, Key, MeetingId, Role, Secret};

/// A domain, and the properties of its frames.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Party {
    /// Its number.
    pub domain: Domain,
    /// The 802.1Q tag of its frames.
    pub vlan: Option<u16>,
    /// The label of its path.
    pub label: Option<u16>,
    /// The key for its frames to the dispatch server.
    pub outbound: Key,
    /// The key for the dispatch server's frames to it.
    pub inbound: Key,
}

impl Party {
    /// A domain with this secret; without one, its tags are zero.
    pub fn new(domain: Domain, secret: Option<&Secret>) -> Self {
        Self {
            domain,
            vlan: None,
            label: None,
            outbound: Key::derive(secret, Direction::Autonomous),
            inbound: Key::derive(secret, Direction::Dispatch),
        }
    }

    /// A domain from a dispatch server's configuration.
    pub fn configured(domain: &AutonomousDomain, vlan: Option<u16>) -> Self {
        let vlan = domain.vlan.or(vlan);
        Self { vlan, label: domain.label, ..Self::new(domain.number, domain.secret.as_ref()) }
    }

    /// Whether its frames have zero tags (`insecure_no_authentication`).
    pub fn has_no_secret(&self) -> bool {
        self.outbound == Key::Unauthenticated
    }
}

/// One of the terminals that a load sends for.
#[derive(Clone, Copy, Debug)]
pub struct Speaker<'a> {
    /// The domain of the terminal.
    pub party: &'a Party,
    /// The V2V address.
    pub address: Address,
    /// See [`Population`] for the rule.
    pub meeting: MeetingId,
    /// The role in that meeting.
    pub role: Role,
}

/// All terminals that a load sends for.
#[derive(Clone, Debug)]
pub struct Population {
    parties: Vec<Party>,
    first_device: u16,
    terminals: u32,
    members: u16,
}

impl Population {
    /// `terminals_each` terminals of each of these domains from `first_device` on, `members` to a
    /// meeting.
    ///
    /// # Errors
    /// In words, if there are none or more than possible.
    pub fn new(mut parties: Vec<Party>, first_device: u16, terminals_each: u32, members: u16) -> Result<Self, String> {
        parties.sort_by_key(|party| party.domain);
        parties.dedup_by_key(|party| party.domain);
        let room = u32::from(u16::MAX - first_device) + 1;
        if terminals_each == 0 || terminals_each > room {
            return Err(format!(
                "{terminals_each} terminals of a domain from device {first_device} on: 1 to {room} are possible"
            ));
        }
        if members == 0 {
            return Err("meetings of no members".into());
        }
        let terminals = parties.len() as u64 * u64::from(terminals_each);
        match u32::try_from(terminals) {
            Ok(terminals @ 1..=LOAD_TERMINALS_MAX) => Ok(Self { parties, first_device, terminals, members }),
            _ => Err(format!("{terminals} terminals over all domains: 1 to {LOAD_TERMINALS_MAX} are possible")),
        }
    }

    /// The number of terminals.
    pub const fn terminals(&self) -> u32 {
        self.terminals
    }

    /// Their domains, ascending.
    pub fn parties(&self) -> &[Party] {
        &self.parties
    }

    /// The terminal of a sequence number, all terminals in turn.
    pub fn speaker(&self, number: u64) -> Speaker<'_> {
        let (number, domains) = (number % u64::from(self.terminals), self.parties.len() as u64);
        let (place, nth) = (number % domains, number / domains);
        let (party, members) = (&self.parties[place as usize], u64::from(self.members));
        let role = if nth.is_multiple_of(members) { Role::Chairman } else { Role::Participant };
        Speaker {
            party,
            address: party.domain.device(self.first_device + nth as u16),
            meeting: MeetingId(nth / members * domains + place + 1),
            role,
        }
    }

    /// The number of the terminal with this address; none if there is none.
    pub fn number(&self, address: Address) -> Option<u64> {
        let (place, _) = self.find(address.domain()?)?;
        let nth = u64::from(address.device().checked_sub(self.first_device)?);
        let number = nth * self.parties.len() as u64 + place as u64;
        (number < u64::from(self.terminals)).then_some(number)
    }

    /// A domain and its index.
    pub fn find(&self, domain: Domain) -> Option<(usize, &Party)> {
        let place = self.parties.binary_search_by_key(&domain, |party| party.domain).ok()?;
        Some((place, &self.parties[place]))
    }
}
