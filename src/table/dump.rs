//! All that a table holds, as one value: what `GET /table` answers.

use serde::{Deserialize, Serialize};

use super::{Part, Terminal};
use crate::wire::{Epoch, epoch_with_text};

/// The content of a table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableDump {
    /// The epoch of the engine that controls.
    #[serde(flatten, with = "epoch_with_text")]
    pub epoch: Epoch,
    /// By ascending meeting, then domain.
    pub parts: Vec<Part>,
    /// By ascending address.
    pub terminals: Vec<Terminal>,
}
