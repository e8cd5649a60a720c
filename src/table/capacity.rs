//! How large a table is.

/// How much a table holds, fixed when it is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Parts of meetings.
    pub meetings: u32,
    /// Over all parts; a terminal is in one part at a time.
    pub terminals: u32,
}
