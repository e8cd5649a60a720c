//! From a key's hash to slots: two buckets of a cache line, and a stash.
//!
//! ```text
//! bucket: 8 words   entry: tag << 32 │ slot + 1, 0 where it is free
//! ```
//!
//! An entry is put into the first of the two buckets that its hash names, while that has more than
//! [`SPARE`] places free; else into the emptier of the two, or, where both are full, into the stash
//! that all share. There it stays until it is removed. Because nothing ever moves, a reader that
//! looks at these places in any order finds each key that is there throughout, without a lock,
//! while others come and go; and because a removal leaves nothing behind, a look-up costs for ever
//! what it costs at first.
//!
//! The layout gives an index a load of one half at most. Of a full one fewer than one key in
//! eighteen is in its second bucket, so that a look-up is hardly ever more than one cache line (a
//! miss: two, and the stash), and the stash is empty; a test holds both. With the emptier bucket
//! each time it would be nearly every third key. With the first one to its last place it would be
//! fewer; but then keys find both buckets full, more of them than the stash has places.
//!
//! One writer changes it at a time: the one with the structure's claim.

use std::sync::atomic::Ordering;

use super::slot::Word;

pub(super) const BUCKET: usize = 8;
pub(super) const STASH: usize = 32;
/// Places of a first bucket that are left for keys whose second bucket is as full.
const SPARE: usize = 2;

const _: () = assert!(STASH.is_multiple_of(BUCKET), "the stash is looked through as buckets are");

/// An index over its words: buckets, then the stash.
#[derive(Debug)]
pub(super) struct Index<'a, W> {
    buckets: &'a [[W; BUCKET]],
    stash: &'a [W],
}

impl<W> Clone for Index<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Index<'_, W> {}

impl<'a, W: Word> Index<'a, W> {
    /// Words of an index for so many entries.
    pub const fn words(entries: usize) -> usize {
        (entries * 2).next_multiple_of(BUCKET) + STASH
    }

    /// The index in these words.
    pub fn new(words: &'a [W]) -> Self {
        let (buckets, stash) = words.split_at(words.len() - STASH);
        let (buckets, rest) = buckets.as_chunks();
        assert!(!buckets.is_empty() && rest.is_empty());
        Self { buckets, stash }
    }

    /// Offers the slots that may have this key to `look`, until it takes one.
    #[inline]
    pub fn find<T>(self, hash: u64, mut look: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let one = self.bucket(hash);
        take_first(one, hash, &mut look).or_else(|| {
            let two = self.second_bucket(hash);
            let in_two = if std::ptr::eq(one, two) { None } else { take_first(two, hash, &mut look) };
            in_two.or_else(|| self.stash.as_chunks().0.iter().find_map(|places| take_first(places, hash, &mut look)))
        })
    }

    /// Prefetches the cache line that [`Self::find`] looks at first, and hardly ever goes beyond.
    #[inline]
    pub fn prefetch(self, hash: u64) {
        self.bucket(hash)[0].prefetch();
    }

    /// Whether there is an entry of this slot.
    pub fn contains(self, hash: u64, slot: u32) -> bool {
        self.place_of(hash, slot).is_some()
    }

    /// Adds a slot. False, and nothing is changed, if there is no room.
    #[must_use]
    pub fn insert(self, hash: u64, slot: u32) -> bool {
        // Relaxed: only we write, and what we read is our own or came with the structure's claim.
        let free = |places: &'a [W]| places.iter().filter(|place| place.load(Ordering::Relaxed) == 0);
        let [one, two, stash] = self.places(hash);
        let left = free(one).count();
        let bucket = if left > SPARE || left >= free(two).count() { one } else { two };
        let mut free = free(bucket).chain(free(stash));
        let Some(place) = free.next() else { return false };
        // Release pairs with the Acquire load of `find`.
        place.store(entry(hash, slot), Ordering::Release);
        true
    }

    /// Makes the entry of one slot name another. Returns whether there was one.
    pub fn replace(self, hash: u64, old: u32, new: u32) -> bool {
        let place = self.place_of(hash, old);
        // Release pairs with the Acquire load of `find`.
        place.map(|place| place.store(entry(hash, new), Ordering::Release)).is_some()
    }

    /// Removes a slot's entry. Returns whether there was one.
    pub fn remove(self, hash: u64, slot: u32) -> bool {
        let place = self.place_of(hash, slot);
        // Release keeps it after the earlier stores, which matters if we are killed here; readers
        // need no order to miss it.
        place.map(|place| place.store(0, Ordering::Release)).is_some()
    }

    /// How many entries it has room for.
    pub fn room(self) -> usize {
        self.buckets.as_flattened().len() + self.stash.len()
    }

    /// The slot that the entry in a place names; none where the place is free, or there is no such
    /// place.
    pub fn slot_at(self, place: usize) -> Option<u32> {
        // Acquire as in `find`.
        let entry = self.place(place)?.load(Ordering::Acquire);
        (entry != 0).then_some((entry as u32).wrapping_sub(1))
    }

    /// Whether the entry in a place is of a key with this hash, as far as entries tell.
    pub fn is_filed_under(self, place: usize, hash: u64) -> bool {
        self.place(place).is_some_and(|place| place.load(Ordering::Acquire) >> 32 == tag(hash))
    }

    /// Makes the entry in a place name another slot, whichever key it is filed under; or removes
    /// it.
    pub fn rename_at(self, place: usize, slot: Option<u32>) {
        let Some(place) = self.place(place) else { return };
        let filed = place.load(Ordering::Relaxed) >> 32 << 32;
        // Release pairs with the Acquire load of `find`.
        place.store(slot.map_or(0, |slot| filed | (u64::from(slot) + 1)), Ordering::Release);
    }

    /// Whether a place is the first that has this slot's entry: where it ought to be, and no second
    /// one.
    pub fn is_place_of(self, place: usize, hash: u64, slot: u32) -> bool {
        self.place(place).zip(self.place_of(hash, slot)).is_some_and(|(place, first)| std::ptr::eq(place, first))
    }

    fn place(self, place: usize) -> Option<&'a W> {
        let in_buckets = self.buckets.as_flattened();
        in_buckets.get(place).or_else(|| self.stash.get(place.checked_sub(in_buckets.len())?))
    }

    fn place_of(self, hash: u64, slot: u32) -> Option<&'a W> {
        let mut places = self.places(hash).into_iter().flatten();
        places.find(|place| place.load(Ordering::Relaxed) == entry(hash, slot))
    }

    /// The two buckets of a hash, and the stash. Where both halves name the same bucket it is there
    /// once, so that no entry is met twice.
    fn places(self, hash: u64) -> [&'a [W]; 3] {
        let (one, two) = (self.bucket(hash), self.second_bucket(hash));
        [one, if std::ptr::eq(one, two) { &[] } else { two }, self.stash]
    }

    /// The first bucket of a hash, from its lower half.
    #[inline(always)]
    fn bucket(self, hash: u64) -> &'a [W; BUCKET] {
        &self.buckets[(((hash & u64::from(u32::MAX)) * self.buckets.len() as u64) >> 32) as usize]
    }

    /// And the second, from its upper half.
    #[inline]
    fn second_bucket(self, hash: u64) -> &'a [W; BUCKET] {
        self.bucket(hash >> 32)
    }
}

/// Offers the slots in the matching ones of these places to `look`, until it takes one.
#[inline(always)]
fn take_first<W: Word, T>(places: &[W; BUCKET], hash: u64, look: &mut impl FnMut(u32) -> Option<T>) -> Option<T> {
    let tag = tag(hash);
    let mut matching = W::matching(places, tag as u32);
    while matching != 0 {
        // Acquire pairs with the Release store of `insert`: the record that an entry names is
        // published. What an entry has become since it was looked at is judged here; that of a key
        // which stays is never another's.
        let entry = places[matching.trailing_zeros() as usize].load(Ordering::Acquire);
        if entry >> 32 == tag
            && entry != 0
            && let Some(found) = look((entry as u32).wrapping_sub(1))
        {
            return Some(found);
        }
        matching &= matching - 1;
    }
    None
}

/// 32 bits of the hash that do not tell its buckets.
const fn tag(hash: u64) -> u64 {
    hash.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32
}

/// Whether entries do not tell two hashes apart.
pub(super) const fn is_filed_alike(one: u64, other: u64) -> bool {
    tag(one) == tag(other)
}

const fn entry(hash: u64, slot: u32) -> u64 {
    tag(hash) << 32 | (slot as u64 + 1)
}
