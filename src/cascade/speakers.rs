//! Whose a terminal is, and who may speak for whom.
//!
//! A tag proves which domain a frame is from, and no more. What a frame may say is decided here,
//! and nowhere else: workers ask for reports, the control thread for what is answered to it,
//! recovery for each record of a list.
//!
//! - A terminal is its own domain's, if that is configured; else that of the domain which it is
//!   *behind*, which the configuration names. One of neither is nobody's. Device 0 of a domain is
//!   its autonomous server, and never a terminal.
//! - An autonomous server (device 0 of a configured domain) speaks for each terminal that is its
//!   domain's; a terminal for itself alone.
//! - What is answered to a dispatch server, or asked of it beyond reports and probes, is an
//!   autonomous server's alone.

use crate::config::AutonomousDomain;
use crate::wire::{Address, Domain, Opcode};

/// Who sends an opcode to a dispatch server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Voice {
    /// All that is in a domain: terminals and autonomous servers.
    Anybody,
    /// Autonomous servers.
    Server,
    /// Nobody: it is what a dispatch server itself sends.
    Nobody,
}

impl Voice {
    /// Of which an opcode is.
    pub const fn of(opcode: Opcode) -> Self {
        match opcode {
            Opcode::Report | Opcode::ReportInfo | Opcode::Probe => Self::Anybody,
            Opcode::ConnectAck
            | Opcode::Heartbeat
            | Opcode::HeartbeatAck
            | Opcode::Info
            | Opcode::TakeoverAck
            | Opcode::TakeoverBatchAck
            | Opcode::State
            | Opcode::Audit
            | Opcode::MeetingStartAck
            | Opcode::MemberAddAck
            | Opcode::MemberRemoveAck
            | Opcode::RoleSetAck
            | Opcode::LayoutSetAck
            | Opcode::FlagsSetAck
            | Opcode::MeetingEndAck
            | Opcode::WindowSetAck
            | Opcode::StreamSetAck
            | Opcode::InfoSetAck
            | Opcode::MemberCallAck
            | Opcode::TerminalReleaseAck
            | Opcode::Topology
            | Opcode::PathSetAck => Self::Server,
            _ => Self::Nobody,
        }
    }
}

/// The domains of a configuration, and which domains are behind which of them.
///
/// ```
/// use baton::cascade::Speakers;
/// use baton::wire::Domain;
///
/// let [near, behind, far] = [1, 2, 3].map(|number| Domain::new(number).unwrap());
/// let speakers = Speakers::new([(near, &[behind][..])]);
/// assert_eq!(speakers.owner(behind.device(1001)), Some(near));
/// assert_eq!(speakers.owner(far.device(1001)), None);
/// assert!(speakers.speaks_for(near.server(), behind.device(1001)));
/// assert!(!speakers.speaks_for(near.device(1001), near.device(1002)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Speakers {
    /// Each domain with the one that it belongs to, which may be itself; ascending.
    owners: Box<[(Domain, Domain)]>,
}

impl Speakers {
    /// Of domains, each with those behind it.
    pub fn new<'a>(domains: impl IntoIterator<Item = (Domain, &'a [Domain])>) -> Self {
        let of = |(domain, behind): (Domain, &'a [Domain])| {
            [domain].into_iter().chain(behind.iter().copied()).map(move |one| (one, domain))
        };
        let mut owners: Vec<_> = domains.into_iter().flat_map(of).collect();
        owners.sort_unstable();
        Self { owners: owners.into() }
    }

    /// Of a configuration.
    pub fn of(domains: &[AutonomousDomain]) -> Self {
        Self::new(domains.iter().map(|domain| (domain.number, &*domain.behind)))
    }

    /// The domain that a terminal belongs to. None for what is no terminal, and for one of a domain
    /// that nobody named.
    pub fn owner(&self, terminal: Address) -> Option<Domain> {
        let domain = terminal.domain().filter(|_| terminal.device() != 0)?;
        let found = self.owners.binary_search_by_key(&domain, |(one, _)| *one).ok()?;
        Some(self.owners[found].1)
    }

    /// The domains behind one.
    pub fn behind(&self, owner: Domain) -> impl Iterator<Item = Domain> + '_ {
        self.owners.iter().filter(move |&&(one, of)| of == owner && one != owner).map(|(one, _)| *one)
    }

    /// Whose autonomous server an address is.
    pub fn server(&self, from: Address) -> Option<Domain> {
        let domain = from.domain().filter(|_| from.device() == 0)?;
        self.owners.binary_search(&(domain, domain)).is_ok().then_some(domain)
    }

    /// Whether what comes from one address may be about this terminal. That `from` is in a
    /// configured domain, the tag has proven.
    #[inline]
    pub fn speaks_for(&self, from: Address, terminal: Address) -> bool {
        if terminal.device() == 0 || from.domain().is_none() {
            return false;
        }
        // Nearly always one of the first two, which need no search.
        from == terminal
            || from.device() == 0 && (from.domain() == terminal.domain() || self.owner(terminal) == from.domain())
    }

    /// Whether a frame with this opcode may come from this address.
    pub fn may_send(&self, from: Address, opcode: Opcode) -> bool {
        match Voice::of(opcode) {
            Voice::Anybody => from.domain().is_some(),
            Voice::Server => from.device() == 0 && from.domain().is_some(),
            Voice::Nobody => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(number: u64) -> Domain {
        Domain::new(number).unwrap()
    }

    /// Domain 1 with 11 and 12 behind it, domain 2 with none.
    fn speakers() -> Speakers {
        Speakers::new([(domain(2), &[][..]), (domain(1), &[domain(12), domain(11)][..])])
    }

    #[test]
    fn a_terminal_is_its_domains_or_of_the_one_that_it_is_behind() {
        let speakers = speakers();
        for (of, owner) in [(1, Some(1)), (2, Some(2)), (11, Some(1)), (12, Some(1)), (3, None)] {
            assert_eq!(speakers.owner(domain(of).device(7)), owner.map(domain), "domain {of}");
            assert_eq!(speakers.owner(domain(of).server()), None, "device 0 is no terminal");
        }
        assert_eq!(speakers.owner(Address::from_number(7)), None, "domain 0 is no domain");
    }

    #[test]
    fn nobody_speaks_for_another_domains_terminal() {
        let speakers = speakers();
        for terminal in [1, 2, 3, 11, 12].map(|number| domain(number).device(7)) {
            for from in [1, 2].map(|number| domain(number).server()) {
                assert_eq!(speakers.speaks_for(from, terminal), speakers.owner(terminal) == from.domain(), "{from}");
            }
        }
        let one = domain(1);
        assert!(speakers.speaks_for(one.device(7), one.device(7)));
        assert!(!speakers.speaks_for(one.device(7), one.device(8)));
        assert!(!speakers.speaks_for(one.device(7), domain(11).device(7)));
        for nobody in [one.server(), domain(11).server(), Address::from_number(7), Address::from_number(0)] {
            assert!(!speakers.speaks_for(one.server(), nobody), "{nobody} is no terminal");
            assert!(!speakers.speaks_for(nobody, nobody), "{nobody}");
        }
    }

    #[test]
    fn what_is_answered_to_a_dispatch_server_is_an_autonomous_servers_alone() {
        let (speakers, one) = (speakers(), domain(1));
        for opcode in (0..=u8::MAX).filter_map(Opcode::from_wire) {
            let terminal_may = matches!(opcode, Opcode::Report | Opcode::ReportInfo | Opcode::Probe);
            assert_eq!(speakers.may_send(one.device(7), opcode), terminal_may, "{opcode:?}");
            assert_eq!(speakers.may_send(one.server(), opcode), Voice::of(opcode) != Voice::Nobody, "{opcode:?}");
            // What D asks is not asked of D.
            assert!(
                opcode.answer().is_none()
                    || terminal_may
                    || opcode == Opcode::Heartbeat
                    || Voice::of(opcode) == Voice::Nobody
            );
        }
        assert_eq!(speakers.server(one.server()), Some(one));
        assert_eq!(speakers.server(domain(11).server()), None, "a domain behind another has no server");
    }
}
