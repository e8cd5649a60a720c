//! From a key's hash to slots: two buckets of a cache line, and a stash.
//!
//! ```text
//! bucket: 8 words   entry: tag << 32 │ slot + 1, 0 where it is free
//! ```
//!
//! An entry is put into the emptier of the two buckets that its hash names, or, where both are full, into the stash that
//! all share; and there it stays until it is removed. Because nothing ever moves, a reader that looks at these places in
//! any order finds each key that is there all the while, without a lock, whatever changes beside it. Because nothing is
//! left behind by a removal, a look-up costs two cache lines (a miss: and the stash) for ever. At the load of at most one
//! half that the layout gives it, two choices leave buckets of eight practically never full; the stash takes the rest.
//!
//! One writer changes it at a time: whoever has the structure's claim.

use std::sync::atomic::Ordering;

use super::slot::Word;

pub(super) const BUCKET: usize = 8;
pub(super) const STASH: usize = 32;

const _: () = assert!(BUCKET <= 64 && STASH <= 64, "`Index::find` has a bit for each place");

/// An index over its words: buckets, then the stash.
#[derive(Debug)]
pub(super) struct Index<'a, W> {
    buckets: &'a [W],
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
        assert!(!buckets.is_empty() && buckets.len() % BUCKET == 0);
        Self { buckets, stash }
    }

    /// Offers the slots that may have this key to `look`, until it takes one.
    #[inline]
    pub fn find<T>(self, hash: u64, mut look: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let tag = tag(hash);
        for places in self.places(hash) {
            // Which of them may be it is told without a branch for each: where in a bucket a key lies nobody can predict.
            let mut matching = 0_u64;
            for (at, place) in places.iter().enumerate() {
                matching |= u64::from(place.load(Ordering::Relaxed) >> 32 == tag) << at;
            }
            while matching != 0 {
                let place = &places[matching.trailing_zeros() as usize];
                matching &= matching - 1;
                // Acquire pairs with the Release store of `insert`: the record that an entry names is published. What an entry
                // has become since the look above is judged here; that of a key which stays is never another's.
                let entry = place.load(Ordering::Acquire);
                if entry >> 32 == tag
                    && entry != 0
                    && let Some(found) = look((entry as u32).wrapping_sub(1))
                {
                    return Some(found);
                }
            }
        }
        None
    }

    /// Has the cache lines fetched that [`Self::find`] looks at first.
    #[inline]
    pub fn prefetch(self, hash: u64) {
        let [one, two, _] = self.places(hash);
        for bucket in [one, two] {
            if let Some(place) = bucket.first() {
                place.prefetch();
            }
        }
    }

    /// Whether there is an entry of this slot.
    pub fn contains(self, hash: u64, slot: u32) -> bool {
        self.place_of(hash, slot).is_some()
    }

    /// Puts a slot in. False, and nothing done, where there is no room.
    #[must_use]
    pub fn insert(self, hash: u64, slot: u32) -> bool {
        let [one, two, stash] = self.places(hash);
        // Relaxed: only we write, and what we read is our own or came with the structure's claim.
        let free = |places: &'a [W]| places.iter().filter(|place| place.load(Ordering::Relaxed) == 0).count();
        let emptier = if free(two) > free(one) { two } else { one };
        let mut free = emptier.iter().chain(stash).filter(|place| place.load(Ordering::Relaxed) == 0);
        let Some(place) = free.next() else { return false };
        // Release pairs with the Acquire load of `find`.
        place.store(entry(hash, slot), Ordering::Release);
        true
    }

    /// Lets the entry of one slot name another. Gives whether there was one.
    pub fn replace(self, hash: u64, old: u32, new: u32) -> bool {
        let place = self.place_of(hash, old);
        // Release pairs with the Acquire load of `find`.
        place.map(|place| place.store(entry(hash, new), Ordering::Release)).is_some()
    }

    /// Takes a slot's entry out. Gives whether there was one.
    pub fn remove(self, hash: u64, slot: u32) -> bool {
        let place = self.place_of(hash, slot);
        // Release keeps it behind what came before for whoever is killed here; readers need no order to miss it.
        place.map(|place| place.store(0, Ordering::Release)).is_some()
    }

    /// How many entries it has room for.
    pub fn room(self) -> usize {
        self.buckets.len() + self.stash.len()
    }

    /// The slot that the entry in a place names; none where the place is free, or there is no such place.
    pub fn slot_at(self, place: usize) -> Option<u32> {
        // Acquire as in `find`.
        let entry = self.place(place)?.load(Ordering::Acquire);
        (entry != 0).then_some((entry as u32).wrapping_sub(1))
    }

    /// Whether the entry in a place is of a key with this hash, as far as entries tell.
    pub fn is_filed_under(self, place: usize, hash: u64) -> bool {
        self.place(place).is_some_and(|place| place.load(Ordering::Acquire) >> 32 == tag(hash))
    }

    /// Lets the entry in a place name another slot, under whatever key it is filed; or takes it out.
    pub fn rename_at(self, place: usize, slot: Option<u32>) {
        let Some(place) = self.place(place) else { return };
        let filed = place.load(Ordering::Relaxed) >> 32 << 32;
        // Release pairs with the Acquire load of `find`.
        place.store(slot.map_or(0, |slot| filed | (u64::from(slot) + 1)), Ordering::Release);
    }

    /// Whether a place is the first that has this slot's entry: where it ought to be, and no second one.
    pub fn is_place_of(self, place: usize, hash: u64, slot: u32) -> bool {
        self.place(place).zip(self.place_of(hash, slot)).is_some_and(|(place, first)| std::ptr::eq(place, first))
    }

    fn place(self, place: usize) -> Option<&'a W> {
        self.buckets.get(place).or_else(|| self.stash.get(place.checked_sub(self.buckets.len())?))
    }

    fn place_of(self, hash: u64, slot: u32) -> Option<&'a W> {
        let mut places = self.places(hash).into_iter().flatten();
        places.find(|place| place.load(Ordering::Relaxed) == entry(hash, slot))
    }

    /// The two buckets of a hash, from its two halves, and the stash. Where both halves name the same bucket it is there once,
    /// so that no entry is met twice.
    #[inline]
    fn places(self, hash: u64) -> [&'a [W]; 3] {
        let buckets = (self.buckets.len() / BUCKET) as u64;
        let number = |half: u64| ((half * buckets) >> 32) as usize;
        let (one, two) = (number(hash & u64::from(u32::MAX)), number(hash >> 32));
        let bucket = |number: usize| &self.buckets[number * BUCKET..][..BUCKET];
        [bucket(one), if two == one { &[] } else { bucket(two) }, self.stash]
    }
}

/// 32 bits of the hash that do not tell its buckets.
const fn tag(hash: u64) -> u64 {
    hash.wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32
}

const fn entry(hash: u64, slot: u32) -> u64 {
    tag(hash) << 32 | (slot as u64 + 1)
}
