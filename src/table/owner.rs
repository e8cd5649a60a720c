//! Who writes.

/// A writer's number, in its claims and of its owner cell. Each thread has its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OwnerId(pub u8);

impl OwnerId {
    /// The control thread.
    pub const CONTROL: Self = Self(0);

    /// Worker `n`, counted from 0.
    pub const fn worker(n: u8) -> Self {
        Self(n + 1)
    }
}
