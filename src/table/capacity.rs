//! How large a table is.

/// How much a table holds, fixed when it is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Parts of meetings.
    pub meetings: u32,
    /// Terminals.
    pub terminals: u32,
}
