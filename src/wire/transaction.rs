//! Which request an answer answers.

/// Chosen by the asker, echoed by the answerer. Ascends within an epoch and goes round.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Transaction(pub u32);

impl Transaction {
    /// Whether this one was drawn after `other`, in serial arithmetic (RFC 1982).
    pub const fn is_after(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0).cast_signed() > 0
    }
}
