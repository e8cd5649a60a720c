//! An epoch's form in JSON: the number, to be compared, and beside it the text that logs and
//! commands write.
//!
//! For a field that is an epoch: `#[serde(flatten, with = "epoch_with_text")]`. Who reads it reads
//! the number alone.

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serializer};

use super::Epoch;

/// Writes `epoch` and `epoch_text`.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(epoch: &Epoch, serializer: S) -> Result<S::Ok, S::Error> {
    let mut both = serializer.serialize_struct("Epoch", 2)?;
    both.serialize_field("epoch", epoch)?;
    both.serialize_field("epoch_text", &format_args!("{epoch}"))?;
    both.end()
}

/// Reads `epoch`.
///
/// # Errors
/// It is not there, or not a number.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Epoch, D::Error> {
    #[derive(Deserialize)]
    struct Number {
        epoch: Epoch,
    }
    Number::deserialize(deserializer).map(|Number { epoch }| epoch)
}
