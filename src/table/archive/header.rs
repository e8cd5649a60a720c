//! The beginning of a snapshot, which every version writes alike.

use std::io;

/// The first bytes of every snapshot.
pub(in crate::table) const MAGIC: [u8; 8] = *b"BATONSNP";
/// Of the format: counted up where header, segments or directory are arranged otherwise.
pub(crate) const VERSION: u32 = 2;
/// Counted up with each change to the fields of what is archived.
pub(crate) const LAYOUT_HASH: u64 = crate::wire::mix(u64::from_le_bytes(MAGIC) ^ 3);
pub(in crate::table) const HEADER_BYTES: usize = 64;
/// Segments and directory begin at multiples of this: no value in them needs more.
pub(super) const ALIGNMENT: usize = 64;
const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGNMENT));
/// The directory's length, in the last bytes of the file.
pub(super) const FOOTER: usize = 8;

/// What is wrong with a snapshot, or why none was written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum SnapshotFault {
    /// The kernel refused a step.
    #[error("cannot {step}: {error}")]
    Io { step: &'static str, error: io::Error },
    /// It does not begin like a snapshot.
    #[error("this is not a snapshot of Baton's")]
    NotASnapshot,
    /// Another version wrote it.
    #[error(
        "it is of version {version}, layout {layout:016x}; this program reads version {VERSION}, layout \
             {LAYOUT_HASH:016x}"
    )]
    OtherVersion { version: u32, layout: u64 },
    /// It is shorter or longer than it says.
    #[error("it should be {expected} bytes long and is {found}: it was cut, or something was added")]
    Length { expected: u64, found: u64 },
    /// Its bytes do not match a digest.
    #[error("it is damaged: its bytes do not fit its digest")]
    Digest,
    /// It was written whole, and holds what no table holds.
    #[error("it holds what no table holds: {0}")]
    Content(String),
    /// There is more than an archive holds.
    #[error("the table is too large for an archive: {0}")]
    TooLarge(String),
}

/// What a snapshot says of itself first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The version of the format.
    pub version: u32,
    /// The layout of what is archived.
    pub layout: u64,
    /// The length of the whole file in bytes.
    pub bytes: u64,
    /// BLAKE3 of the directory, which has the digests of all the rest.
    pub digest: [u8; 32],
}

impl Head {
    /// Of a file of this program's format.
    pub(super) fn ours(bytes: u64, digest: [u8; 32]) -> Self {
        Self { version: VERSION, layout: LAYOUT_HASH, bytes, digest }
    }

    /// Whether this program can read what is after it.
    pub const fn is_ours(&self) -> bool {
        self.version == VERSION && self.layout == LAYOUT_HASH
    }

    /// The digest in hexadecimal digits.
    pub fn digest_text(&self) -> String {
        blake3::Hash::from_bytes(self.digest).to_hex().to_string()
    }

    /// The head in these bytes, whichever version wrote it; none where they are no snapshot's.
    pub(in crate::table) fn parse(head: &[u8; HEADER_BYTES]) -> Option<Self> {
        let number = |at: usize| u64::from_le_bytes(*head[at..].first_chunk().unwrap_or(&[0; 8]));
        (head[..8] == MAGIC).then(|| Self {
            // The four bytes behind it are zero: in a file in which they are not, no version is
            // ours.
            version: u32::try_from(number(8)).unwrap_or(u32::MAX),
            layout: number(16),
            bytes: number(24).saturating_add(HEADER_BYTES as u64),
            digest: *head[32..].first_chunk().unwrap_or(&[0; 32]),
        })
    }

    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut head = [0; HEADER_BYTES];
        head[..8].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&self.version.to_le_bytes());
        head[16..24].copy_from_slice(&self.layout.to_le_bytes());
        head[24..32].copy_from_slice(&self.bytes.saturating_sub(HEADER_BYTES as u64).to_le_bytes());
        head[32..].copy_from_slice(&self.digest);
        head
    }
}
