//! Which slot a new part gets: parts of one domain and level in the same groups of 64 slots as far
//! as there is room, so that a walk over them finds them side by side.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::layout::Words;
use super::membership::first_free;
use crate::wire::{Domain, Level};

/// The group that each domain and level fills at present. A writer's own: its successor begins new
/// groups, and where there are none left parts go wherever there is room.
#[derive(Debug, Default)]
pub(super) struct Groups(HashMap<(Domain, Level), u32>);

impl Groups {
    /// A free slot for a part; the search for one in any group begins at `hint`.
    pub fn choose(&mut self, words: Words<'_>, domain: Domain, level: Level, hint: u32) -> Option<u32> {
        let capacity = words.capacity().meetings;
        let bits = words.part_bits();
        // Relaxed, here and below: the caller has the structure's claim.
        let free_in = |group: u32| {
            let taken = bits.get(group as usize)?.load(Ordering::Relaxed);
            let slot = group * 64 + taken.trailing_ones();
            (taken != u64::MAX && slot < capacity).then_some(slot)
        };
        if let Some(slot) = self.0.get(&(domain, level)).and_then(|&group| free_in(group)) {
            return Some(slot);
        }
        let groups = bits.len() as u32;
        let first = hint / 64 % groups;
        let empty = |&group: &u32| bits[group as usize].load(Ordering::Relaxed) == 0;
        let begun = (first..groups).chain(0..first).find(empty);
        let slot = begun.and_then(free_in).or_else(|| first_free(bits, capacity, hint))?;
        self.0.insert((domain, level), slot / 64);
        Some(slot)
    }
}
