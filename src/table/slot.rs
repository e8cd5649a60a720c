//! The two-bank slot: a record that is old or new, and whole, whenever its writer dies.
//!
//! ```text
//! word 0    control: sequence << 8 │ owner + 1, or 0 where nobody has claimed it
//! 1 ..      bank 0: the record while the sequence is even
//! 1 + B ..  bank 1: the record while the sequence is odd
//! ```
//!
//! A writer claims the slot by putting its owner number into the control word, writes the bank that
//! is *not* current, and publishes with one store of the next sequence. Until that store the old
//! record is current and untouched; after it the new one is. So a SIGKILL between any two
//! instructions leaves one of both, whole, and a claim that names the dead.
//!
//! A reader copies the current bank and looks at the sequence again. That bank is written to only
//! under a claim at a later sequence; where the sequence is the same, nothing of the copy is of a
//! later record. It takes no lock, and a claim does not stop it: it never waits for a writer,
//! living or dead.
//!
//! Two things keep the order of stores. Between living threads it is acquire and release, as each
//! access says. Against SIGKILL it is program order, which the processor keeps towards itself and
//! the same orderings keep in the compiler.

use std::sync::atomic::{Ordering, fence};

use super::OwnerId;
use crate::limits::READ_TRIES_MAX;
use crate::sys::mapping::SharedWord;

/// An atomic word: the real one, or the one of the model checker.
pub(super) trait Word {
    fn load(&self, ordering: Ordering) -> u64;
    fn store(&self, value: u64, ordering: Ordering);
    fn compare_exchange(&self, old: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64>;
    fn fetch_or(&self, bits: u64, ordering: Ordering) -> u64;
    fn fetch_and(&self, bits: u64, ordering: Ordering) -> u64;
    fn fence(ordering: Ordering);
    fn pause();
    /// Has the cache line fetched that it is in. Means nothing to the model checker.
    fn prefetch(&self) {}

    /// A bit for each of these words whose upper half may be this one: one that nobody changes
    /// meanwhile has its bit if it is, and any other says nothing until it is loaded. Without a
    /// branch for each: where in a bucket of the index a key lies cannot be predicted.
    #[inline]
    fn matching(words: &[Self; 8], upper: u32) -> u32
    where
        Self: Sized,
    {
        let bit = |word: &Self| u32::from((word.load(Ordering::Relaxed) >> 32) as u32 == upper);
        words.iter().rev().fold(0, |bits, word| bits << 1 | bit(word))
    }
}

impl Word for SharedWord {
    #[inline]
    fn load(&self, ordering: Ordering) -> u64 {
        self.load(ordering)
    }

    #[inline]
    fn store(&self, value: u64, ordering: Ordering) {
        self.store(value, ordering);
    }

    #[inline]
    fn compare_exchange(&self, old: u64, new: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        self.compare_exchange(old, new, success, failure)
    }

    #[inline]
    fn fetch_or(&self, bits: u64, ordering: Ordering) -> u64 {
        self.fetch_or(bits, ordering)
    }

    #[inline]
    fn fetch_and(&self, bits: u64, ordering: Ordering) -> u64 {
        self.fetch_and(bits, ordering)
    }

    #[inline]
    fn fence(ordering: Ordering) {
        fence(ordering);
    }

    #[inline]
    fn pause() {
        std::hint::spin_loop();
    }

    #[inline]
    fn prefetch(&self) {
        self.prefetch();
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn matching(words: &[Self; 8], upper: u32) -> u32 {
        Self::matching(words, upper)
    }
}

const OWNER_BITS: u32 = 8;
const OWNER_MASK: u64 = (1 << OWNER_BITS) - 1;

/// A slot of two banks of `B` words.
#[derive(Debug)]
pub(super) struct Slot<'a, W, const B: usize> {
    control: &'a W,
    banks: &'a [[W; B]; 2],
}

impl<W, const B: usize> Clone for Slot<'_, W, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W, const B: usize> Copy for Slot<'_, W, B> {}

/// The control word under which a record was read: what a claim has to find unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen(u64);

impl Seen {
    pub fn is_claimed(self) -> bool {
        self.0 & OWNER_MASK != 0
    }

    /// Who has the claim, as the word says.
    pub fn holder(self) -> Option<OwnerId> {
        ((self.0 & OWNER_MASK) as u8).checked_sub(1).map(OwnerId)
    }
}

/// Why no record could be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unreadable {
    /// Nobody disturbed the reading, and the record does not fit its checksum.
    Damaged,
    /// It was published anew every time.
    Contended,
}

impl<'a, W: Word, const B: usize> Slot<'a, W, B> {
    pub const WORDS: usize = 1 + 2 * B;

    /// The slot in these words; what is behind [`Self::WORDS`] is not its own.
    #[inline(always)]
    pub fn new(words: &'a [W]) -> Self {
        let Some((control, banks)) = words.split_first() else { panic!("a slot has words") };
        let Some(banks) = banks.as_chunks().0.first_chunk() else { panic!("a slot has two banks") };
        Self { control, banks }
    }

    /// Its control word alone: what claims are judged by.
    #[inline]
    pub fn control_only(self) -> Slot<'a, W, 0> {
        Slot { control: self.control, banks: &[[], []] }
    }

    /// For tests, which damage it.
    #[cfg(test)]
    pub fn word(self) -> &'a W {
        self.control
    }

    /// Reads the record. `take` gets the bank's copy and its number, and may read what belongs to
    /// that bank elsewhere; it gives none where the checksum does not fit. It is called on copies
    /// that may be torn, whose results are thrown away.
    #[inline(always)]
    pub fn read<T>(self, mut take: impl FnMut(&[u64; B], usize) -> Option<T>) -> Result<(Seen, T), Unreadable> {
        for _ in 0..READ_TRIES_MAX {
            // Acquire pairs with the Release store of `Claim::publish`: the bank that this sequence
            // makes current is seen as it was written.
            let before = self.control.load(Ordering::Acquire);
            let number = (before >> OWNER_BITS & 1) as usize;
            let mut copy = [0; B];
            for (to, from) in copy.iter_mut().zip(&self.banks[number]) {
                *to = from.load(Ordering::Relaxed);
            }
            let taken = take(&copy, number);
            // This fence pairs with the Release fence of `claim`: had a load above seen a store
            // made under a later claim, the load below would see that claim's sequence.
            W::fence(Ordering::Acquire);
            let after = self.control.load(Ordering::Relaxed);
            if before >> OWNER_BITS == after >> OWNER_BITS {
                return taken.map(|taken| (Seen(before), taken)).ok_or(Unreadable::Damaged);
            }
            W::pause();
        }
        Err(Unreadable::Contended)
    }

    /// Claims the slot, if it is still as it was `seen` and nobody has it. The owner's cell names
    /// the slot before.
    #[inline(always)]
    pub fn claim(self, seen: Seen, owner: OwnerId) -> Option<Claim<'a, W, B>> {
        if seen.is_claimed() {
            return None;
        }
        // Acquire pairs with the Release store of the last `publish`: our stores to a bank come
        // after those of its last writer. Release keeps the note in the owner's cell in front of
        // the claim. Where it succeeds, the sequence has been the same since the record was read,
        // so the copy that was read is the current record.
        let claimed = seen.0 | (u64::from(owner.0) + 1);
        self.control.compare_exchange(seen.0, claimed, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        // Pairs with the Acquire fence of `read`: one who sees a store made under this claim sees
        // its sequence too.
        W::fence(Ordering::Release);
        Some(Claim { slot: self, seen: seen.0, owner })
    }

    /// Takes the claim away from an owner that is dead. Gives whether it had one. The record stays
    /// the old one.
    pub fn evict(self, owner: OwnerId) -> bool {
        // The dead do not race, and that they are dead came to us by a lock of the kernel's: no
        // partner is needed.
        let control = self.control.load(Ordering::Relaxed);
        let held = control & OWNER_MASK == u64::from(owner.0) + 1;
        if held {
            // Release, so that all that recovery did to the slot before is in place when others may
            // claim it.
            self.control.store(control & !OWNER_MASK, Ordering::Release);
        }
        held
    }

    /// Takes a claim away that is nobody's, if the word is still as it was seen. The record stays.
    pub fn evict_seen(self, seen: Seen) -> bool {
        // As `evict`; and an exchange, for one who claims and publishes at this moment has changed
        // the word.
        self.control.compare_exchange(seen.0, seen.0 & !OWNER_MASK, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether its claimant is none of so many owners: damage, which no eviction would
    /// ever cure.
    pub fn is_claimed_beyond(self, owners: usize) -> bool {
        // Relaxed: asked before anybody writes.
        self.control.load(Ordering::Relaxed) & OWNER_MASK > owners as u64
    }

    /// The slot as it is, to be claimed although its record cannot be read.
    pub fn seen(self) -> Seen {
        Seen(self.control())
    }

    /// The bank that is not current: the record before this one, or what a writer is at.
    pub fn other_bank(self) -> [u64; B] {
        // Acquire as in `read`. One who is at it meanwhile makes a copy that does not fit its
        // checksum.
        let number = !(self.control.load(Ordering::Acquire) >> OWNER_BITS) as usize & 1;
        std::array::from_fn(|at| self.banks[number][at].load(Ordering::Relaxed))
    }

    /// The control word: while it is the same, the record is.
    pub fn control(self) -> u64 {
        // Acquire as in `read`.
        self.control.load(Ordering::Acquire)
    }

    /// Whether anybody has claimed it.
    pub fn is_claimed(self) -> bool {
        // Relaxed: a statement for people, when nobody writes.
        self.control.load(Ordering::Relaxed) & OWNER_MASK != 0
    }
}

/// The right to write a slot's next record. Dropped unpublished, it leaves the old one.
#[derive(Debug)]
pub(super) struct Claim<'a, W: Word, const B: usize> {
    slot: Slot<'a, W, B>,
    seen: u64,
    owner: OwnerId,
}

impl<'a, W: Word, const B: usize> Claim<'a, W, B> {
    /// The number of the bank that this claim writes.
    #[inline]
    pub fn bank(&self) -> usize {
        !(self.seen >> OWNER_BITS) as usize & 1
    }

    /// Makes `record` the current one.
    #[inline(always)]
    pub fn publish(self, record: &[u64; B]) {
        self.write(record);
        let next = (self.seen >> OWNER_BITS).wrapping_add(1) << OWNER_BITS;
        // Release pairs with the Acquire loads of `read` and `claim`: the bank is whole before it
        // is current.
        self.slot.control.store(next, Ordering::Release);
        std::mem::forget(self);
    }

    /// Makes `record` the current one, and keeps the slot from other writers until what goes with
    /// the record is in place too. Dropped, the claim leaves the new record.
    #[inline]
    pub fn publish_and_keep(self, record: &[u64; B]) -> Self {
        self.write(record);
        let next = (self.seen >> OWNER_BITS).wrapping_add(1) << OWNER_BITS;
        // Release as in `publish`. One who is killed from here on has the claim, and its record
        // stands.
        self.slot.control.store(next | (u64::from(self.owner.0) + 1), Ordering::Release);
        let kept = Self { seen: next, ..self };
        std::mem::forget(self);
        kept
    }

    /// Writes the bank that is not current.
    #[inline(always)]
    pub(super) fn write(&self, record: &[u64; B]) {
        for (to, from) in self.slot.banks[self.bank()].iter().zip(record) {
            // Relaxed: `publish` orders them for readers, the fence of `claim` for readers that
            // come too late.
            to.store(*from, Ordering::Relaxed);
        }
    }
}

impl<W: Word, const B: usize> Drop for Claim<'_, W, B> {
    fn drop(&mut self) {
        // Release pairs with the Acquire of the next `claim`: what we wrote to the bank comes
        // before what it writes.
        self.slot.control.store(self.seen, Ordering::Release);
    }
}

/// The checksum of a record's words. Each step is a bijection in the word that enters, so a change
/// of one word alone always shows. It is 0 for words that are all 0: zeroed memory holds free
/// slots.
#[inline]
pub(super) const fn checksum(head: &[u64], tail: &[u64]) -> u64 {
    fold(fold(SEED, head), tail) ^ blank(head.len() + tail.len())
}

const SEED: u64 = 0x4241_544f_4e5f_5345;

#[inline]
const fn fold(mut sum: u64, words: &[u64]) -> u64 {
    let mut at = 0;
    while at < words.len() {
        sum = (sum ^ words[at]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        sum ^= sum >> 32;
        at += 1;
    }
    sum
}

/// What so many zero words fold to.
#[inline]
const fn blank(words: usize) -> u64 {
    const BLANK: [u64; 17] = {
        let mut sums = [SEED; 17];
        let mut at = 1;
        while at < sums.len() {
            sums[at] = fold(sums[at - 1], &[0]);
            at += 1;
        }
        sums
    };
    BLANK[words]
}

/// Waits for a claim to end: some twenty stores, unless its holder was preempted.
pub(super) fn pause(tried: u32) {
    if tried % 64 == 63 { SharedWord::yield_now() } else { <SharedWord as Word>::pause() }
}
