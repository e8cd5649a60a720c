//! AES-128-CMAC (RFC 4493) over several messages side by side.
//!
//! A tag is a chain: each block waits for the one before, and each of its ten rounds for the round
//! before, four cycles or so, while the processor could begin a round or two in each. So eight
//! chains take as long as one. Each has a key of its own, because the frames of a burst are of many
//! domains; the `aes` crate works side by side under one key alone.
//!
//! Where the processor has no AES instructions the tags are made one after the other.

use arrayvec::ArrayVec;

use crate::wire::{Covered, Key, TAG_BYTES};

/// Messages that are worked on together.
pub const LANES: usize = 8;

type Tag = [u8; TAG_BYTES];

/// A key, ready for tags side by side.
#[derive(Clone)]
pub struct LaneKey {
    key: Key,
    /// None where there is none, and where the processor has no AES instructions.
    schedule: Option<Schedule>,
}

impl LaneKey {
    /// Computes the key's schedule.
    pub fn new(key: Key) -> Self {
        let schedule = match &key {
            Key::Keyed(key) => Schedule::new(*key.bytes()),
            Key::Unauthenticated => None,
        };
        Self { key, schedule }
    }

    /// For one frame alone.
    pub fn key(&self) -> &Key {
        &self.key
    }
}

/// The tags of up to [`LANES`] messages, each under its key. Those of the same length take the time
/// of one.
///
/// # Panics
/// If there are more.
#[inline]
pub fn tags(messages: &[(&LaneKey, Covered<'_>)]) -> ArrayVec<Tag, LANES> {
    assert!(messages.len() <= LANES, "{} messages, and {LANES} lanes", messages.len());
    let mut tags: ArrayVec<Tag, LANES> = messages.iter().map(|_| [0; TAG_BYTES]).collect();
    let is_keyed = |at: &usize| matches!(messages[*at].0.key, Key::Keyed(_));
    let mut left: ArrayVec<usize, LANES> = (0..messages.len()).filter(is_keyed).collect();
    while let Some(&first) = left.first() {
        let length = messages[first].1.rest.len();
        let alike: ArrayVec<usize, LANES> =
            left.iter().copied().filter(|&at| messages[at].1.rest.len() == length).collect();
        left.retain(|at| messages[*at].1.rest.len() != length);
        // What has no message of its own does the first one's once more, for nothing.
        let lane = |lane: usize| &messages[alike.get(lane).copied().unwrap_or(first)];
        let made = Schedule::side_by_side(
            std::array::from_fn(|at| lane(at).0.schedule.as_ref()),
            &std::array::from_fn(|at| &lane(at).1),
        );
        for (lane, &at) in alike.iter().enumerate() {
            let (key, message) = &messages[at];
            tags[at] = made.map_or_else(|| key.key.tag(message), |made| made[lane]);
        }
    }
    tags
}

#[cfg(not(target_arch = "x86_64"))]
mod schedule {
    use super::{LANES, Tag};
    use crate::wire::{Covered, TAG_BYTES};

    /// Nobody has one.
    #[derive(Clone)]
    pub(super) enum Schedule {}

    impl Schedule {
        pub fn new(_: [u8; TAG_BYTES]) -> Option<Self> {
            None
        }

        pub fn side_by_side(_: [Option<&Self>; LANES], _: &[&Covered<'_>; LANES]) -> Option<[Tag; LANES]> {
            None
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod schedule {
    use core::arch::x86_64::{
        __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128, _mm_setzero_si128,
        _mm_shuffle_epi32, _mm_slli_si128, _mm_xor_si128,
    };

    use zerocopy::transmute;

    use super::{LANES, Tag};
    use crate::wire::{Covered, TAG_BYTES};

    /// A key's eleven round keys, and the two that its last block is changed by. That there is one
    /// proves that the processor has AES instructions.
    #[derive(Clone)]
    pub(super) struct Schedule {
        rounds: [__m128i; 11],
        /// For a last block that is whole, and one that is filled up.
        last: [__m128i; 2],
    }

    impl Schedule {
        pub fn new(key: [u8; TAG_BYTES]) -> Option<Self> {
            if !is_x86_feature_detected!("aes") {
                return None;
            }
            // SAFETY: the processor has AES instructions, as was just asked; SSE2 is a part of
            // x86_64.
            Some(unsafe { expand(key) })
        }

        /// None unless every lane has a schedule.
        #[inline]
        pub fn side_by_side(keys: [Option<&Self>; LANES], messages: &[&Covered<'_>; LANES]) -> Option<[Tag; LANES]> {
            let first = keys[0]?;
            if keys.iter().any(Option::is_none) {
                return None;
            }
            // SAFETY: a schedule exists only where the processor has AES instructions, see `new`.
            Some(unsafe { tags(&keys.map(|key| key.unwrap_or(first)), messages) })
        }
    }

    #[target_feature(enable = "aes,sse2")]
    fn expand(key: [u8; TAG_BYTES]) -> Schedule {
        let mut rounds = [_mm_setzero_si128(); 11];
        rounds[0] = transmute!(key);
        /// FIPS 197 §5.2: the next round key from the one before, with its constant.
        macro_rules! expand {
            ($($round:literal: $constant:literal),*) => {$(
                let mut key = rounds[$round - 1];
                let word = _mm_shuffle_epi32(_mm_aeskeygenassist_si128(key, $constant), 0xff);
                for _ in 0..3 {
                    key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
                }
                rounds[$round] = _mm_xor_si128(key, word);
            )*};
        }
        expand!(1: 0x01, 2: 0x02, 3: 0x04, 4: 0x08, 5: 0x10, 6: 0x20, 7: 0x40, 8: 0x80, 9: 0x1b, 10: 0x36);
        let mut schedule = Schedule { rounds, last: [_mm_setzero_si128(); 2] };
        let mut zeros = [_mm_setzero_si128(); LANES];
        encrypt(&[&schedule; LANES], &mut zeros);
        let whole = doubled(transmute!(zeros[0]));
        schedule.last = [transmute!(whole), transmute!(doubled(whole))];
        schedule
    }

    /// RFC 4493 §2.3: times x in GF(2^128).
    fn doubled(block: [u8; TAG_BYTES]) -> [u8; TAG_BYTES] {
        let number = u128::from_be_bytes(block);
        let carry = if number >> 127 == 1 { 0x87 } else { 0 };
        ((number << 1) ^ carry).to_be_bytes()
    }

    #[inline]
    #[target_feature(enable = "aes,sse2")]
    fn encrypt(keys: &[&Schedule; LANES], blocks: &mut [__m128i; LANES]) {
        for (block, key) in blocks.iter_mut().zip(keys) {
            *block = _mm_xor_si128(*block, key.rounds[0]);
        }
        for round in 1..10 {
            for (block, key) in blocks.iter_mut().zip(keys) {
                *block = _mm_aesenc_si128(*block, key.rounds[round]);
            }
        }
        for (block, key) in blocks.iter_mut().zip(keys) {
            *block = _mm_aesenclast_si128(*block, key.rounds[10]);
        }
    }

    /// The messages are equally long.
    #[target_feature(enable = "aes,sse2")]
    fn tags(keys: &[&Schedule; LANES], messages: &[&Covered<'_>; LANES]) -> [Tag; LANES] {
        let mut chains = [_mm_setzero_si128(); LANES];
        for (chain, message) in chains.iter_mut().zip(messages) {
            *chain = transmute!(message.first);
        }
        encrypt(keys, &mut chains);
        for (chain, message) in chains.iter_mut().zip(messages) {
            *chain = _mm_xor_si128(*chain, transmute!(message.second));
        }
        let length = messages[0].rest.len();
        // The last block, whole or not, is not one of these.
        let whole = length.saturating_sub(1) / TAG_BYTES;
        for at in 0..whole {
            encrypt(keys, &mut chains);
            for (chain, message) in chains.iter_mut().zip(messages) {
                let block: [u8; TAG_BYTES] =
                    message.rest[at * TAG_BYTES..(at + 1) * TAG_BYTES].try_into().expect("16 bytes");
                *chain = _mm_xor_si128(*chain, transmute!(block));
            }
        }
        encrypt(keys, &mut chains);
        let left = length - whole * TAG_BYTES;
        for ((chain, message), key) in chains.iter_mut().zip(messages).zip(keys) {
            let last =
                _mm_xor_si128(transmute!(last_block(message.rest, left)), key.last[usize::from(left < TAG_BYTES)]);
            *chain = _mm_xor_si128(*chain, last);
        }
        encrypt(keys, &mut chains);
        let mut tags = [[0; TAG_BYTES]; LANES];
        for (tag, chain) in tags.iter_mut().zip(chains) {
            *tag = transmute!(chain);
        }
        tags
    }

    /// The bytes that are left for the last block: as they are, or with a bit behind them and
    /// zeros.
    #[inline]
    fn last_block(rest: &[u8], left: usize) -> [u8; TAG_BYTES] {
        let Some(last) = rest.last_chunk::<TAG_BYTES>() else {
            let mut block = [0; TAG_BYTES];
            block[..left].copy_from_slice(rest);
            block[left] = 0x80;
            return block;
        };
        if left == TAG_BYTES {
            return *last;
        }
        // Without a copy of so many bytes: those before them are shifted out.
        let bits = 8 * left as u32;
        (u128::from_le_bytes(*last) >> (u128::BITS - bits) | 0x80 << bits).to_le_bytes()
    }
}

use schedule::Schedule;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::TagKey;
    use proptest::prelude::*;

    fn covered(message: &[u8]) -> Covered<'_> {
        Covered::of(message, false)
    }

    /// RFC 4493 §4 has four examples of one key; these two are long enough to be a packet's.
    #[test]
    fn the_examples_of_the_rfc() {
        let key =
            LaneKey::new(Key::Keyed(Box::new(TagKey::new(0x2b7e1516_28aed2a6_abf71588_09cf4f3c_u128.to_be_bytes()))));
        let message: Vec<u8> = [
            0x6bc1bee2_2e409f96_e93d7e11_7393172a_u128,
            0xae2d8a57_1e03ac9c_9eb76fac_45af8e51,
            0x30c81c46_a35ce411_e5fbc119_1a0a52ef,
            0xf69f2445_df4f9b17_ad2b417b_e66c3710,
        ]
        .into_iter()
        .flat_map(u128::to_be_bytes)
        .collect();
        let of = |length| u128::from_be_bytes(tags(&[(&key, covered(&message[..length]))])[0]);
        assert_eq!(of(40), 0xdfa66747_de9ae630_30ca3261_1497c827);
        assert_eq!(of(64), 0x51f0bebf_7e3b9d92_fc497417_79363cfe);
    }

    proptest! {
        /// Side by side they are what they are alone, under any keys and lengths.
        #[test]
        fn each_lane_is_as_it_is_alone(
            lanes in prop::collection::vec(
                (any::<Option<[u8; 16]>>(), prop_oneof![Just(66), Just(1040), 37usize..200], any::<u8>(), any::<bool>()),
                0..=LANES,
            )
        ) {
            let made: Vec<_> = lanes
                .into_iter()
                .map(|(key, length, first, has_label)| {
                    let key = key.map_or(Key::Unauthenticated, |key| Key::Keyed(Box::new(TagKey::new(key))));
                    let message: Vec<u8> = (0..length).map(|at| first.wrapping_add(at as u8).rotate_left(3)).collect();
                    (LaneKey::new(key), message, has_label)
                })
                .collect();
            let messages: Vec<_> =
                made.iter().map(|(key, message, has_label)| (key, Covered::of(message, *has_label))).collect();
            let tags = tags(&messages);
            prop_assert_eq!(tags.len(), made.len());
            for ((key, message, has_label), tag) in made.iter().zip(tags) {
                prop_assert_eq!(tag, key.key().tag(&Covered::of(message, *has_label)));
            }
        }
    }
}
