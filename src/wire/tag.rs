//! The tag that authenticates a packet, and the digest that shows that two sides hold the same
//! meetings.

use std::fmt;

use aes::Aes128;
use cmac::{Cmac, KeyInit, Mac as _};
use hkdf::Hkdf;
use sha2::Sha256;

use super::MeetingId;
use super::address::{ADDRESSES_BYTES, LABEL_BYTES};

/// An AES block: the tag is not shortened.
pub const TAG_BYTES: usize = 16;

/// Which way a packet goes. A tag of one direction fails in the other, so a frame cannot be sent
/// back to its sender.
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

/// Makes and checks tags: the key of one direction, or the zero tag of a domain without
/// authentication.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// The secret's key for one direction.
    Keyed(Box<TagKey>),
    /// The domain has no secret, and every tag is zero: `insecure_no_authentication`.
    Unauthenticated,
}

/// A key of AES-128-CMAC (RFC 4493) with its schedule, which is computed once: it costs more than
/// the tag of a short frame.
#[derive(Clone)]
pub struct TagKey {
    bytes: [u8; TAG_BYTES],
    mac: Cmac<Aes128>,
}

impl TagKey {
    /// The key of these bytes.
    pub fn new(bytes: [u8; TAG_BYTES]) -> Self {
        Self { bytes, mac: Cmac::new(&bytes.into()) }
    }

    pub(crate) fn bytes(&self) -> &[u8; TAG_BYTES] {
        &self.bytes
    }

    /// The tag over what of a packet a tag covers.
    #[inline]
    pub(crate) fn tag(&self, covered: &Covered<'_>) -> [u8; TAG_BYTES] {
        let mut mac = self.mac.clone();
        mac.update(covered.addresses);
        mac.update(covered.behind);
        mac.finalize().into_bytes().into()
    }
}

/// What of a packet its tag covers: all from its addresses to where the tag goes, but for a label,
/// which lies in between and changes on the way.
#[derive(Clone, Copy, Debug)]
pub struct Covered<'a> {
    pub(crate) addresses: &'a [u8; ADDRESSES_BYTES],
    /// All behind the addresses and the label: a block or more.
    pub(crate) behind: &'a [u8],
}

impl<'a> Covered<'a> {
    /// Of a packet without its tag, which has a label or has none.
    ///
    /// # Panics
    /// If that is shorter than any packet is.
    #[inline(always)]
    pub(crate) fn of(packet: &'a [u8], has_label: bool) -> Self {
        let (addresses, behind) = packet.split_first_chunk().expect("a packet has addresses");
        let behind = if has_label { &behind[LABEL_BYTES..] } else { behind };
        assert!(behind.len() >= TAG_BYTES, "a payload is longer than a block");
        Self { addresses, behind }
    }
}

impl PartialEq for TagKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for TagKey {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keyed(_) => "Key(…)",
            Self::Unauthenticated => "Key(none)",
        })
    }
}

impl Key {
    /// The key of one direction: the first 16 bytes of HKDF-SHA-256 (RFC 5869) of the secret,
    /// without a salt, with the info `baton v2v 2.0 ` and the direction.
    pub fn derive(secret: Option<&Secret>, direction: Direction) -> Self {
        let info: &[u8] = match direction {
            Direction::Dispatch => b"baton v2v 2.0 dispatch",
            Direction::Autonomous => b"baton v2v 2.0 autonomous",
        };
        secret.map_or(Self::Unauthenticated, |secret| {
            let mut bytes = [0; TAG_BYTES];
            Hkdf::<Sha256>::new(None, &secret.0).expand(info, &mut bytes).expect("16 bytes are fewer than 255 digests");
            Self::Keyed(Box::new(TagKey::new(bytes)))
        })
    }

    /// The tag over what of a packet a tag covers.
    #[inline]
    pub(crate) fn tag(&self, covered: &Covered<'_>) -> [u8; TAG_BYTES] {
        match self {
            Self::Keyed(key) => key.tag(covered),
            Self::Unauthenticated => [0; TAG_BYTES],
        }
    }
}

/// The SplitMix64 finaliser.
pub const fn mix(mut z: u64) -> u64 {
    z ^= z >> 30;
    z = z.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^= z >> 27;
    z = z.wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

/// One meeting's addend in the digest of REPLAY_DONE and AUDIT, which is the wrapping sum.
pub const fn digest_of(meeting: MeetingId, version: u64) -> u64 {
    mix(meeting.0 ^ mix(version))
}
