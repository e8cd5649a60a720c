//! The order of versions: serial arithmetic, as on the wire.

/// Whether a terminal's version comes after another: serial arithmetic (RFC 1982), for versions
/// wrap. They skip 0, which is the version of a terminal that has not reported yet and comes before
/// all others.
pub(crate) const fn is_newer(version: u32, than: u32) -> bool {
    version != 0 && (than == 0 || (version.wrapping_sub(than) as i32) > 0)
}
