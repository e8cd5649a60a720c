//! A set of slots, one bit each: a hash table would take too much memory where the set is as large
//! as the table.

/// Slots below a bound that is given at creation.
#[derive(Debug)]
pub(super) struct SlotSet(Vec<u64>);

impl SlotSet {
    pub fn new(slots: u32) -> Self {
        Self(vec![0; (slots as usize).div_ceil(64)])
    }

    /// Adds a slot. False if it was in the set, or there is no such slot.
    pub fn insert(&mut self, slot: u32) -> bool {
        let Some(word) = self.0.get_mut(slot as usize / 64) else { return false };
        let bit = 1 << (slot % 64);
        let first = *word & bit == 0;
        *word |= bit;
        first
    }

    pub fn contains(&self, slot: u32) -> bool {
        self.0.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }
}
