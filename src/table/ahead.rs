//! Fetching what a walk comes to next: records lie where no processor foresees them, and one that has to be waited for takes
//! as long as all that is done with it.

use crate::limits::WALK_AHEAD;

/// Slots in the order in which `slots` gives them, each asked for from memory some slots before it is given.
pub(super) struct Ahead<I, F> {
    slots: I,
    fetch: F,
    asked: [u32; WALK_AHEAD],
    next: usize,
    count: usize,
}

impl<I: Iterator<Item = u32>, F: Fn(u32)> Ahead<I, F> {
    /// `fetch` has a slot's memory fetched.
    pub fn of(slots: I, fetch: F) -> Self {
        Self { slots, fetch, asked: [0; WALK_AHEAD], next: 0, count: 0 }
    }
}

impl<I: Iterator<Item = u32>, F: Fn(u32)> Iterator for Ahead<I, F> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        while self.count < WALK_AHEAD {
            let Some(slot) = self.slots.next() else { break };
            (self.fetch)(slot);
            self.asked[(self.next + self.count) % WALK_AHEAD] = slot;
            self.count += 1;
        }
        self.count = self.count.checked_sub(1)?;
        let slot = self.asked[self.next];
        self.next = (self.next + 1) % WALK_AHEAD;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn every_slot_is_given_once_in_order_and_fetched_before() {
        for length in [0, 1, WALK_AHEAD as u32 - 1, WALK_AHEAD as u32, 3 * WALK_AHEAD as u32 + 1] {
            let fetched = RefCell::new(Vec::new());
            let mut ahead = Ahead::of((0..length).map(|slot| slot * 3), |slot| fetched.borrow_mut().push(slot));
            for expected in 0..length {
                assert_eq!(ahead.next(), Some(expected * 3));
                let asked = fetched.borrow().len() as u32;
                assert_eq!(asked, length.min(expected + WALK_AHEAD as u32), "of {length}");
            }
            assert_eq!(ahead.next(), None);
        }
    }
}
