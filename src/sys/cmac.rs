//! AES-128-CMAC (RFC 4493) over several messages side by side.
//!
//! A tag is a chain: each block waits for the one before, and each of its ten rounds for the round
//! before, four cycles or so, while the processor could begin a round or two in each. So eight
//! chains take as long as one. Each has a key of its own, because the frames of a burst are of many
//! domains; the `aes` crate works side by side under one key alone.
//!
//! Where the processor has no AES instructions the tags are made one after the other.

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

/// The tags of so many messages, each under its key, zeros where it has none. Those of the same
/// length take the time of one. What is behind the last message's tag means nothing.
///
/// # Panics
/// If there are more than [`LANES`].
#[inline]
pub fn tags<'a>(count: usize, message: impl Fn(usize) -> (&'a LaneKey, Covered<'a>)) -> [Tag; LANES] {
    assert!(count <= LANES, "{count} messages, and {LANES} lanes");
    let mut tags = [[0; TAG_BYTES]; LANES];
    // A bit for each that has its tag.
    let mut done = 0_u32;
    for first in 0..count {
        if done >> first & 1 != 0 {
            continue;
        }
        let (key, covered) = message(first);
        let Some(schedule) = &key.schedule else {
            tags[first] = key.key.tag(&covered);
            continue;
        };
        let mut alike = 0;
        let lanes = std::array::from_fn(|lane| {
            if (first..count).contains(&lane) {
                let (key, other) = message(lane);
                if let Some(schedule) = &key.schedule
                    && other.behind.len() == covered.behind.len()
                {
                    alike |= 1 << lane;
                    return (schedule, other);
                }
            }
            // What has no message of its own does the first one's once more, for nothing.
            (schedule, covered)
        });
        let made = Schedule::side_by_side(lanes);
        for (lane, tag) in tags.iter_mut().enumerate() {
            if alike >> lane & 1 != 0 {
                *tag = made[lane];
            }
        }
        done |= alike;
    }
    tags
}

#[cfg(not(target_arch = "x86_64"))]
mod schedule {
    use super::{LANES, Tag};
    use crate::wire::{Covered, TAG_BYTES};

    /// Nobody has one.
    #[derive(Clone, Copy)]
    pub(super) enum Schedule {}

    impl Schedule {
        pub fn new(_: [u8; TAG_BYTES]) -> Option<Self> {
            None
        }

        pub fn side_by_side([(schedule, _), ..]: [(&Self, Covered<'_>); LANES]) -> [Tag; LANES] {
            match *schedule {}
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod schedule {
    use core::arch::x86_64::{
        __m128i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_aeskeygenassist_si128, _mm_insert_epi16, _mm_loadu_si128,
        _mm_or_si128, _mm_setzero_si128, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_slli_si128, _mm_xor_si128,
    };

    use zerocopy::transmute;

    use super::{LANES, Tag};
    use crate::wire::{Covered, TAG_BYTES};

    /// A key's eleven round keys, and the two that its last block is changed by. That there is one
    /// proves that the processor has AES instructions, and SSSE3.
    #[derive(Clone)]
    pub(super) struct Schedule {
        rounds: [__m128i; 11],
        /// For a last block that is whole, and one that is filled up.
        last: [__m128i; 2],
    }

    /// Bytes that the second block has of the addresses: the first has the others.
    const ADDRESSES_LEFT: usize = 2;
    /// And of what is behind them.
    const BEGUN: usize = TAG_BYTES - ADDRESSES_LEFT;

    impl Schedule {
        pub fn new(key: [u8; TAG_BYTES]) -> Option<Self> {
            if !is_x86_feature_detected!("aes") || !is_x86_feature_detected!("ssse3") {
                return None;
            }
            // SAFETY: the processor has AES instructions and SSSE3, as was just asked.
            Some(unsafe { expand(key) })
        }

        /// # Panics
        /// If the messages are not equally long.
        #[inline]
        pub fn side_by_side(lanes: [(&Self, Covered<'_>); LANES]) -> [Tag; LANES] {
            // SAFETY: a schedule exists only where the processor has AES instructions and SSSE3,
            // see `new`.
            unsafe { tags(lanes) }
        }
    }

    #[target_feature(enable = "aes,ssse3")]
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
        let [zeros] = encrypt([&schedule], [_mm_setzero_si128()]);
        let whole = doubled(transmute!(zeros));
        schedule.last = [transmute!(whole), transmute!(doubled(whole))];
        schedule
    }

    /// RFC 4493 §2.3: times x in GF(2^128).
    fn doubled(block: [u8; TAG_BYTES]) -> [u8; TAG_BYTES] {
        let number = u128::from_be_bytes(block);
        let carry = if number >> 127 == 1 { 0x87 } else { 0 };
        ((number << 1) ^ carry).to_be_bytes()
    }

    /// Each block under its key. By value, and called at one place for all lanes: so that the
    /// blocks stay in registers, and an instruction is a round of one of them.
    #[inline]
    #[target_feature(enable = "aes,ssse3")]
    fn encrypt<const N: usize>(keys: [&Schedule; N], mut blocks: [__m128i; N]) -> [__m128i; N] {
        macro_rules! round {
            ($with:ident: $($round:literal)*) => {$(
                for lane in 0..N {
                    blocks[lane] = $with(blocks[lane], keys[lane].rounds[$round]);
                }
            )*};
        }
        round!(_mm_xor_si128: 0);
        round!(_mm_aesenc_si128: 1 2 3 4 5 6 7 8 9);
        round!(_mm_aesenclast_si128: 10);
        blocks
    }

    #[target_feature(enable = "aes,ssse3")]
    fn tags(lanes: [(&Schedule, Covered<'_>); LANES]) -> [Tag; LANES] {
        let length = lanes[0].1.behind.len();
        assert!(length >= TAG_BYTES && lanes.iter().all(|(_, message)| message.behind.len() == length));
        let mut keys = lanes.map(|(schedule, _)| schedule);
        let addresses = lanes.map(|(_, message)| message.addresses);
        let behind = lanes.map(|(_, message)| message.behind.as_ptr());
        // SAFETY: `at` is at most `length - TAG_BYTES`, and each message has `length` bytes behind
        // its addresses.
        let block = |lane: usize, at: usize| unsafe { _mm_loadu_si128(behind[lane].add(at).cast()) };
        let mut chains = [_mm_setzero_si128(); LANES];
        for lane in 0..LANES {
            let [first @ .., _, _] = addresses[lane];
            chains[lane] = transmute!(*first);
        }
        // The last block, whole or not, is not one of these.
        let whole = (length - BEGUN - 1) / TAG_BYTES;
        let left = length - BEGUN - whole * TAG_BYTES;
        let (bytes, filling) = last_block(left);
        for at in 0.. {
            keys = keys.map(anew);
            chains = encrypt(keys, chains);
            if at == 0 {
                for lane in 0..LANES {
                    let [.., a, b] = *addresses[lane];
                    let second = _mm_slli_si128(block(lane, 0), ADDRESSES_LEFT as i32);
                    let second = _mm_insert_epi16(second, u16::from_le_bytes([a, b]).into(), 0);
                    chains[lane] = _mm_xor_si128(chains[lane], second);
                }
            } else if at <= whole {
                for (lane, chain) in chains.iter_mut().enumerate() {
                    *chain = _mm_xor_si128(*chain, block(lane, BEGUN + (at - 1) * TAG_BYTES));
                }
            } else if at == whole + 1 {
                for lane in 0..LANES {
                    let last = _mm_shuffle_epi8(block(lane, length - TAG_BYTES), bytes);
                    let last =
                        _mm_xor_si128(_mm_or_si128(last, filling), keys[lane].last[usize::from(left < TAG_BYTES)]);
                    chains[lane] = _mm_xor_si128(chains[lane], last);
                }
            } else {
                break;
            }
        }
        let mut tags = [[0; TAG_BYTES]; LANES];
        for (tag, chain) in tags.iter_mut().zip(chains) {
            *tag = transmute!(chain);
        }
        tags
    }

    /// How the last block comes from a message's last 16 bytes: which of them it begins with, where
    /// so many are left for it, and what it is filled up with: a bit, and zeros.
    fn last_block(left: usize) -> (__m128i, __m128i) {
        // Past the sixteenth a number has its high bit set, which means a zero.
        const BYTES: [u8; 2 * TAG_BYTES] = {
            let mut bytes = [0x80; 2 * TAG_BYTES];
            let mut at = 0;
            while at < TAG_BYTES {
                bytes[at] = at as u8;
                at += 1;
            }
            bytes
        };
        const FILLING: [u8; 2 * TAG_BYTES] = {
            let mut filling = [0; 2 * TAG_BYTES];
            filling[TAG_BYTES] = 0x80;
            filling
        };
        let window = |of: &[u8; 2 * TAG_BYTES]| -> [u8; TAG_BYTES] {
            *of[TAG_BYTES - left..].first_chunk().expect("a block at most is left")
        };
        (transmute!(window(&BYTES)), transmute!(window(&FILLING)))
    }

    /// Has the compiler take a schedule for another from here on. It would load what does not
    /// change in a loop in front of it; there are more round keys than registers, so it would load
    /// them onto the stack.
    #[inline(always)]
    fn anew(schedule: &Schedule) -> &Schedule {
        let mut at: *const Schedule = schedule;
        // SAFETY: there is no instruction, so the pointer is what it was: a reference's.
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) at, options(pure, readonly, nostack, preserves_flags));
            &*at
        }
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
        let of = |length| u128::from_be_bytes(tags(1, |_| (&key, covered(&message[..length])))[0]);
        assert_eq!(of(40), 0xdfa66747_de9ae630_30ca3261_1497c827);
        assert_eq!(of(64), 0x51f0bebf_7e3b9d92_fc497417_79363cfe);
    }

    proptest! {
        /// Side by side they are what they are alone, under any keys and lengths.
        #[test]
        fn each_lane_is_as_it_is_alone(
            lanes in prop::collection::vec(
                (any::<Option<[u8; 16]>>(), prop_oneof![Just(66), Just(1040), 38usize..200], any::<u8>(), any::<bool>()),
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
            let tags = tags(made.len(), |lane| {
                let (key, message, has_label) = &made[lane];
                (key, Covered::of(message, *has_label))
            });
            for ((key, message, has_label), tag) in made.iter().zip(tags) {
                prop_assert_eq!(tag, key.key().tag(&Covered::of(message, *has_label)));
            }
        }
    }
}
