//! What is still to be made so in a conference: written ahead of the first command of an operation
//! that has several, so that a death, or a refusal in the midst, does not leave it half done.

use std::collections::BTreeMap;

use crate::wire::{Address, Layout, Role};

/// What is to be made so in one conference. A later wish for the same thing replaces an earlier
/// one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// For every part.
    pub layout: Option<Layout>,
    /// By member; a terminal that is no member by then needs no role.
    pub roles: BTreeMap<Address, Role>,
    /// The role with which a terminal is to be a member; none where it is to be no member.
    pub members: BTreeMap<Address, Option<Role>>,
}

impl Wanted {
    /// Whether nothing is left to be done.
    pub fn is_empty(&self) -> bool {
        self.layout.is_none() && self.roles.is_empty() && self.members.is_empty()
    }

    /// How many commands it takes at most, in a conference of so many parts.
    pub fn commands(&self, parts: usize) -> usize {
        self.roles.len() + self.members.len() + if self.layout.is_some() { parts } else { 0 }
    }

    /// This, and `newer` in place of what both speak of.
    #[must_use]
    pub fn with(mut self, newer: &Self) -> Self {
        self = self.without(newer);
        self.layout = newer.layout.or(self.layout);
        self.roles.extend(&newer.roles);
        self.members.extend(&newer.members);
        self
    }

    /// Whether somebody is to be chairman.
    pub fn names_chairman(&self) -> bool {
        let of_members = self.members.values().flatten();
        self.roles.values().chain(of_members).any(|&role| role == Role::Chairman)
    }

    /// There is one chairman: a later one replaces every terminal that was to be it before, and
    /// perhaps is.
    fn demote_chairmen(&mut self) {
        let of_members = self.members.values_mut().flatten();
        for role in self.roles.values_mut().chain(of_members).filter(|role| **role == Role::Chairman) {
            *role = Role::Participant;
        }
    }

    /// This but for what `done` speaks of.
    #[must_use]
    pub fn without(mut self, done: &Self) -> Self {
        if done.layout.is_some() {
            self.layout = None;
        }
        if done.names_chairman() {
            self.demote_chairmen();
        }
        for terminal in done.members.keys() {
            self.members.remove(terminal);
            self.roles.remove(terminal);
        }
        for terminal in done.roles.keys() {
            self.roles.remove(terminal);
            if let Some(Some(role)) = self.members.get_mut(terminal) {
                *role = done.roles[terminal];
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Domain;

    #[test]
    fn a_later_chairman_replaces_every_earlier_one() {
        let terminal = |device| Domain::new(1).unwrap().device(device);
        let earlier = Wanted {
            roles: [(terminal(1), Role::Chairman)].into(),
            members: [(terminal(2), Some(Role::Chairman))].into(),
            ..Wanted::default()
        };
        let newer = Wanted { roles: [(terminal(3), Role::Chairman)].into(), ..Wanted::default() };
        let left = Wanted {
            roles: [(terminal(1), Role::Participant)].into(),
            members: [(terminal(2), Some(Role::Participant))].into(),
            ..Wanted::default()
        };
        assert_eq!(earlier.clone().without(&newer), left);
        assert_eq!(earlier.with(&newer).roles[&terminal(3)], Role::Chairman);
    }

    #[test]
    fn a_later_wish_replaces_an_earlier_one() {
        let terminal = |device| Domain::new(1).unwrap().device(device);
        let layout = |windows| Layout::new(windows);
        let earlier = Wanted {
            layout: layout(4),
            roles: [(terminal(1), Role::Chairman), (terminal(2), Role::Participant)].into(),
            members: [(terminal(3), Some(Role::Participant)), (terminal(4), None)].into(),
        };
        let newer = Wanted {
            layout: layout(9),
            roles: [(terminal(2), Role::Chairman)].into(),
            members: [(terminal(1), None), (terminal(4), Some(Role::Participant))].into(),
        };
        let both = earlier.clone().with(&newer);
        let expected = Wanted {
            layout: layout(9),
            roles: [(terminal(2), Role::Chairman)].into(),
            members: [
                (terminal(1), None),
                (terminal(3), Some(Role::Participant)),
                (terminal(4), Some(Role::Participant)),
            ]
            .into(),
        };
        assert_eq!(both, expected);
        let rest = both.without(&newer);
        assert_eq!(rest.members.keys().copied().collect::<Vec<_>>(), [terminal(3)]);
        assert!(rest.layout.is_none() && rest.roles.is_empty() && !rest.is_empty());
        assert!(earlier.clone().without(&earlier).is_empty());
    }
}
