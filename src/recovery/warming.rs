//! A snapshot that a new table is warmed from, as it is handed from call to call, and what came of
//! it, for people.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::WARM_ROUND;
use crate::table::archive::{Archive, SnapshotFault};

/// A snapshot that a new table is warmed from, and what came of it.
#[derive(Debug, Default)]
pub struct Warming {
    /// None where it was refused, or is used up.
    archive: Option<Arc<Archive>>,
    warmed: Warmed,
    is_whole: bool,
    /// Parts and members that may still come into the table before the next round.
    left: u32,
    /// Refused in the midst, and not told yet.
    fault: Option<SnapshotFault>,
}

/// What came of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Warmed {
    /// How many parts it has, as its directory says.
    pub parts: u64,
    /// Of these, entered as the snapshot has them, because the database confirmed them.
    pub confirmed: u64,
    /// Entered as the database has them, with the snapshot's states of terminals.
    pub in_doubt: u64,
    /// Not entered: the database has them not, or ended, or as other conferences; or the table had
    /// them already. It counts when all was looked at.
    pub left_out: u64,
    /// Why it was not read, or not to its end: the database served instead.
    pub refused: Option<String>,
}

impl fmt::Display for Warmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parts, confirmed, in_doubt, left_out, refused } = self;
        if *parts > 0 {
            write!(f, "{parts} parts: {confirmed} confirmed, {in_doubt} in doubt, {left_out} left out")?;
        }
        match refused {
            Some(why) if *parts > 0 => write!(f, "; refused: {why}"),
            Some(why) => write!(f, "refused: {why}"),
            None if *parts == 0 => f.pad("empty"),
            None => Ok(()),
        }
    }
}

/// What is counted while parts come into the table.
pub(super) struct Counts<'a> {
    pub warmed: &'a mut Warmed,
    pub left: &'a mut u32,
}

impl Warming {
    /// By this snapshot.
    pub fn by(archive: impl Into<Arc<Archive>>) -> Self {
        let archive = archive.into();
        let warmed = Warmed { parts: archive.whence().parts, ..Warmed::default() };
        Self { archive: Some(archive), warmed, left: WARM_ROUND, ..Self::default() }
    }

    /// By none, because it was refused.
    pub fn refused(why: String) -> Self {
        Self { warmed: Warmed { refused: Some(why), ..Warmed::default() }, ..Self::default() }
    }

    /// A round of the control thread begins: as much as it has time for may come into the table.
    pub fn begin_round(&mut self) {
        self.left = WARM_ROUND;
    }

    /// What came of it so far.
    pub fn warmed(&self) -> &Warmed {
        &self.warmed
    }

    /// The table holds all that the database holds: nothing more is read of the snapshot.
    pub fn end(&mut self) {
        self.is_whole = true;
        if self.archive.take().is_some() {
            let Warmed { parts, confirmed, in_doubt, .. } = self.warmed;
            self.warmed.left_out = parts.saturating_sub(confirmed + in_doubt);
        }
    }

    /// Why it was refused in the midst, once.
    pub fn take_fault(&mut self) -> Option<SnapshotFault> {
        self.fault.take()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The rest of it is not read: the database serves.
    pub(super) fn refuse(&mut self, fault: SnapshotFault) {
        let archive = self.archive.take();
        let named =
            archive.as_deref().and_then(Archive::path).map(|path| format!("snapshot {}: {fault}", path.display()));
        self.warmed.refused = Some(named.unwrap_or_else(|| fault.to_string()));
        self.fault = Some(fault);
    }

    /// The snapshot, where it is still read, and where what comes of it is counted.
    pub(super) fn parts(&mut self) -> Option<(&Archive, Counts<'_>)> {
        Some((self.archive.as_deref()?, Counts { warmed: &mut self.warmed, left: &mut self.left }))
    }

    /// So much less may come into the table in this round.
    #[cfg(test)]
    pub(super) fn spend(&mut self, spent: u32) {
        self.left -= spent;
    }
}
