//! How much a page of records holds, and what a record is.

use super::malformed::Malformed;

/// Bytes of records in a page.
pub(super) const PAGE_BYTES: usize = 1008;

/// A type of record.
pub trait Record: Sized {
    /// Its length; none if it varies.
    const BYTES: Option<usize>;
    /// How many fit a page, also if all have the greatest length.
    const PER_PAGE: usize;

    /// Reads one from the front. Returns it, or what is wrong with its values, with the bytes after
    /// it; the outer error means that its end is unknown.
    fn read(bytes: &[u8]) -> Result<(Result<Self, Malformed>, &[u8]), Malformed>;

    /// Writes it to the front. Returns its length, or none if there is no room.
    fn write(&self, bytes: &mut [u8]) -> Option<usize>;
}
