//! How many parts a domain has, counted no oftener than they change.
//!
//! Counting walks the whole table, and a heartbeat is cheap to repeat: one that was recorded is
//! authentic for ever, also if another sends it.

use std::collections::HashMap;

use crate::wire::Domain;

/// Counts, each with how often the domain's parts had been changed when it was made.
#[derive(Default)]
pub(super) struct Counted(HashMap<Domain, (u64, u32)>);

impl Counted {
    /// How many there are. `changes` says how often the domain's parts were changed, and `count`
    /// counts them.
    pub fn parts_in(&mut self, domain: Domain, changes: u64, count: impl FnOnce() -> u32) -> u32 {
        match self.0.get(&domain) {
            Some(&(then, counted)) if then == changes => counted,
            _ => {
                let counted = count();
                self.0.insert(domain, (changes, counted));
                counted
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_that_is_repeated_has_nothing_counted_again() {
        let (mut counted, domain) = (Counted::default(), Domain::new(366).unwrap());
        let mut counts = 0;
        for (changes, parts) in [(0, 7), (0, 7), (0, 7), (1, 8), (1, 8)] {
            let held = counted.parts_in(domain, changes, || {
                counts += 1;
                parts
            });
            assert_eq!(held, parts);
        }
        assert_eq!(counts, 2);
    }
}
