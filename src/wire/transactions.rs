//! The source of a dispatch server's transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Transaction;

/// The transactions of one epoch. All requests to autonomous servers draw from one source, because
/// transactions ascend within an epoch: an autonomous server that remembers its last answers takes
/// a lower one for an old repeat, and refuses it. Recovery has the odd ones, so that the
/// transaction alone tells whether an answer is for recovery or for a command. Clones draw from the
/// same source. Numbers wrap, and serial arithmetic compares them.
#[derive(Clone, Debug, Default)]
pub struct Transactions(Arc<AtomicU32>);

impl Transactions {
    const RECOVERY: u32 = 1;
    const STEP: u32 = 2;

    /// The next one of a command or a heartbeat.
    pub fn next(&self) -> Transaction {
        // Relaxed: one thread sends the requests, and the number orders nothing else.
        Transaction(self.0.fetch_add(Self::STEP, Ordering::Relaxed).wrapping_add(Self::STEP))
    }

    /// The next one of recovery.
    pub fn next_of_recovery(&self) -> Transaction {
        Transaction(self.next().0 | Self::RECOVERY)
    }

    /// Whether an answer with this transaction answers recovery.
    pub const fn is_recovery(transaction: Transaction) -> bool {
        transaction.0 & Self::RECOVERY != 0
    }
}

impl Transaction {
    /// Whether this one was drawn after `other`, in serial arithmetic (RFC 1982).
    pub const fn is_after(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0).cast_signed() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_recovery_draw_one_ascending_sequence() {
        let source = Transactions(Arc::new(AtomicU32::new(u32::MAX - 9)));
        let other = source.clone();
        let mut last = source.next();
        for turn in 0..20 {
            let recovery = turn % 3 == 0;
            let drawn = if recovery { other.next_of_recovery() } else { source.next() };
            assert!(drawn.is_after(last) && !last.is_after(drawn), "{drawn:?} behind {last:?}");
            assert_eq!(Transactions::is_recovery(drawn), recovery);
            last = drawn;
        }
        assert!(!last.is_after(last));
    }
}
