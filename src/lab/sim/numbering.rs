//! The addresses of a simulated domain's terminals, by rule: a terminal is a number from 0, and its
//! address follows from it.
//!
//! A domain has 65,535 devices. An autonomous server that has more terminals has domains of
//! terminals behind it: the number of the n-th of them is the server's own with n in the bits from
//! 24 on. They are members of meetings like any other, for a dispatch server whose configuration
//! names them as behind; only those of the server's own domain report, because only for that domain
//! is there a secret to report under.

use crate::wire::{Address, Domain};

/// Where a domain's own number ends and that of a domain behind it begins.
const BEHIND_SHIFT: u32 = 24;
const OWN_BITS: u64 = (1 << BEHIND_SHIFT) - 1;

/// Which terminal has which address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Numbering {
    domain: Domain,
    first_device: u16,
    count: u32,
}

impl Numbering {
    /// So many terminals from this device on. A domain whose number reaches beyond 24 bits has none
    /// behind it.
    pub fn new(domain: Domain, first_device: u16, count: u32) -> Self {
        let one = Self { domain, first_device, count: u32::MAX };
        let room = if domain.number() > OWN_BITS { one.block() } else { u32::MAX };
        Self { count: count.min(room), ..one }
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.count as usize
    }

    /// How many of them are in the server's own domain: those from 0 on.
    pub fn own(&self) -> usize {
        self.count.min(self.block()) as usize
    }

    pub fn address(&self, index: usize) -> Address {
        let (behind, device) = (index as u64 / u64::from(self.block()), index as u32 % self.block());
        let number = self.domain.number() | behind << BEHIND_SHIFT;
        Domain::new(number).unwrap_or(self.domain).device(self.first_device + device as u16)
    }

    /// The domains behind the server's own that have any of them, ascending.
    pub fn behind(&self) -> impl Iterator<Item = Domain> + use<> {
        let (one, blocks) = (*self, self.count().div_ceil(self.block() as usize));
        (1..blocks).filter_map(move |block| one.address(block * one.block() as usize).domain())
    }

    /// The terminal that has an address; none where none does.
    pub fn index(&self, address: Address) -> Option<usize> {
        let (number, own) = (address.domain()?.number(), self.domain.number());
        let behind = if number == own { 0 } else { (number ^ own) >> BEHIND_SHIFT };
        let device = u64::from(address.device().checked_sub(self.first_device)?);
        let index = usize::try_from(behind * u64::from(self.block()) + device).ok()?;
        (index < self.count() && self.address(index) == address).then_some(index)
    }

    /// Devices of a domain from the first on.
    fn block(&self) -> u32 {
        u32::from(u16::MAX - self.first_device) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_terminal_has_an_address_of_its_own_and_is_found_by_it() {
        let domain = Domain::new(7).unwrap();
        let numbering = Numbering::new(domain, 65_000, 2000);
        let addresses: Vec<_> = (0..numbering.count()).map(|index| numbering.address(index)).collect();
        assert!(addresses.is_sorted_by(|a, b| a < b), "ascending, so that listings are sorted as they come");
        assert!(addresses.iter().enumerate().all(|(index, &address)| numbering.index(address) == Some(index)));
        assert_eq!((numbering.own(), addresses[535], addresses[536].device()), (536, domain.device(65_535), 65_000));
        for strange in [domain.server(), domain.device(64_999), Domain::new(8).unwrap().device(65_000)] {
            assert_eq!(numbering.index(strange), None, "{strange}");
        }
        let behind: Vec<_> = numbering.behind().collect();
        let mut of_others: Vec<_> = addresses.iter().filter_map(|address| address.domain()).collect();
        of_others.dedup();
        assert_eq!(behind, of_others[1..], "all that an operator has to name");
        assert_eq!(numbering.index(addresses[1999]), Some(1999));
        assert_eq!(Numbering::new(domain, 65_000, 1999).index(addresses[1999]), None);
    }

    #[test]
    fn domain_with_a_long_number_has_no_domain_behind_it() {
        let domain = Domain::new(1 << 24).unwrap();
        assert_eq!(Numbering::new(domain, 65_535, 9).count(), 1);
    }
}
