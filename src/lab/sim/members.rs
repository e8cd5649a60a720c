//! Who is in a simulated meeting.
//!
//! A meeting that was there from the beginning has a run of terminals, whose addresses follow from
//! a rule: ten million members cost nothing until somebody joins or leaves.

use std::collections::BTreeSet;

use super::numbering::Numbering;
use crate::wire::Address;

/// The members of one meeting, by ascending address.
#[derive(Clone, Debug)]
pub(super) enum Members {
    /// So many terminals one behind the other.
    Run { first: u32, count: u16 },
    /// Those that commands made it.
    Own(BTreeSet<Address>),
}

impl Default for Members {
    fn default() -> Self {
        Self::Run { first: 0, count: 0 }
    }
}

impl Members {
    pub fn len(&self) -> usize {
        match self {
            Self::Run { count, .. } => usize::from(*count),
            Self::Own(own) => own.len(),
        }
    }

    pub fn contains(&self, numbering: &Numbering, terminal: Address) -> bool {
        match *self {
            Self::Run { first, count } => {
                let run = first as usize..first as usize + usize::from(count);
                numbering.index(terminal).is_some_and(|index| run.contains(&index))
            }
            Self::Own(ref own) => own.contains(&terminal),
        }
    }

    pub fn iter(&self, numbering: &Numbering) -> impl Iterator<Item = Address> + '_ {
        let (run, own) = match *self {
            Self::Run { first, count } => (first as usize..first as usize + usize::from(count), None),
            Self::Own(ref own) => (0..0, Some(own)),
        };
        let numbering = *numbering;
        run.map(move |index| numbering.address(index)).chain(own.into_iter().flat_map(|own| own.iter().copied()))
    }

    pub fn insert(&mut self, numbering: &Numbering, terminal: Address) -> bool {
        self.own(numbering).insert(terminal)
    }

    pub fn remove(&mut self, numbering: &Numbering, terminal: Address) -> bool {
        self.contains(numbering, terminal) && self.own(numbering).remove(&terminal)
    }

    fn own(&mut self, numbering: &Numbering) -> &mut BTreeSet<Address> {
        if let Self::Run { .. } = self {
            let own = self.iter(numbering).collect();
            *self = Self::Own(own);
        }
        match self {
            Self::Own(own) => own,
            Self::Run { .. } => unreachable!("it was made its own above"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Domain;

    #[test]
    fn run_is_the_set_of_the_same_terminals() {
        let numbering = Numbering::new(Domain::new(3).unwrap(), 1001, 100);
        let all: Vec<_> = (20..30).map(|index| numbering.address(index)).collect();
        let mut members = Members::Run { first: 20, count: 10 };
        assert_eq!((members.len(), members.iter(&numbering).collect::<Vec<_>>()), (10, all.clone()));
        assert!(!members.contains(&numbering, numbering.address(19)));
        assert!(!members.remove(&numbering, numbering.address(30)), "who is no member cannot leave");
        assert!(matches!(members, Members::Run { .. }));
        assert!(members.remove(&numbering, all[0]) && !members.remove(&numbering, all[0]));
        assert!(members.insert(&numbering, numbering.address(50)) && !members.insert(&numbering, all[1]));
        let expected: Vec<_> = all[1..].iter().copied().chain([numbering.address(50)]).collect();
        assert_eq!((members.len(), members.iter(&numbering).collect::<Vec<_>>()), (10, expected));
        assert!(members.contains(&numbering, all[1]) && !members.contains(&numbering, all[0]));
    }
}
