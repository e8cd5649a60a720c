//! What every contestant can do.

use baton::wire::Address;

/// What is done with a contestant.
pub trait Store: Sync {
    /// Enters a report of each of these terminals; gives how many were newer, which is to be all.
    /// `thread` tells the callers apart that do so at the same time.
    fn update(&self, thread: usize, terminals: &[Address], version: u32) -> u64;

    /// Copies the record of each of these terminals; gives the sum of the versions.
    fn look_up(&self, terminals: &[Address]) -> u64;
}
