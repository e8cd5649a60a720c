//! The tag that proves who sent a packet, and the digest that proves two sides hold the same meetings.

use std::fmt;

use super::MeetingId;
use super::frame::{ADDRESSES_BYTES, LABEL_BYTES};

/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 16;

/// Which way a packet goes. A tag of one direction fails in the other, so a frame cannot be sent back to its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the dispatch server.
    Dispatch,
    /// To the dispatch server.
    Autonomous,
}

/// The 32 bytes that a domain and its dispatch server share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What tags are made and checked with: one direction's key, or the laboratory's zero tag.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// BLAKE3 keyed with the secret's key for one direction.
    Keyed([u8; 32]),
    /// The domain has no secret: the tag is zero. Laboratories only.
    Laboratory,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyed(_) => "Key(…)",
            Self::Laboratory => "Key(laboratory)",
        })
    }
}

impl Key {
    /// The key of one direction: `blake3::derive_key("baton v2v 2.0 " + direction, secret)`.
    pub fn derive(secret: Option<&Secret>, direction: Direction) -> Self {
        let context = match direction {
            Direction::Dispatch => "baton v2v 2.0 dispatch",
            Direction::Autonomous => "baton v2v 2.0 autonomous",
        };
        secret.map_or(Self::Laboratory, |secret| Self::Keyed(blake3::derive_key(context, &secret.0)))
    }

    /// The tag over a packet, from its addresses to where the tag goes, the label in between included if it has one.
    #[inline]
    pub(super) fn tag(&self, packet: &[u8], has_label: bool) -> [u8; TAG_BYTES] {
        match self {
            Self::Keyed(key) => keyed(key, packet, has_label),
            Self::Laboratory => [0; TAG_BYTES],
        }
    }
}

/// One frame after the other: a tag is two compressions, the second over what the first gives, and blake3 offers to work several messages
/// side by side only inside of itself.
fn keyed(key: &[u8; 32], packet: &[u8], has_label: bool) -> [u8; TAG_BYTES] {
    let hash = if has_label {
        // The label changes on the way, and is not covered.
        let (addresses, rest) = packet.split_at(ADDRESSES_BYTES);
        blake3::Hasher::new_keyed(key).update(addresses).update(&rest[LABEL_BYTES..]).finalize()
    } else {
        blake3::keyed_hash(key, packet)
    };
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&hash.as_bytes()[..TAG_BYTES]);
    tag
}

/// The SplitMix64 finaliser.
pub const fn mix(mut z: u64) -> u64 {
    z ^= z >> 30;
    z = z.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^= z >> 27;
    z = z.wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

/// What one meeting adds to the digest of REPLAY_DONE and AUDIT; the digest is the wrapping sum.
pub const fn digest_of(meeting: MeetingId, version: u64) -> u64 {
    mix(meeting.0 ^ mix(version))
}
