//! Captures, in the classic format with nanoseconds, which every reader of captures knows.
//!
//! ```text
//! magic A1B23C4D │ version 2.4 │ zone 0 │ accuracy 0 │ longest frame │ Ethernet 1
//! then for each frame:  seconds │ nanoseconds │ bytes here │ bytes on the wire │ frame
//! ```
//! Numbers are in the writer's byte order, which the magic number shows. The format is that of
//! draft-ietf-opsawg-pcap.

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::time::Duration;

use super::{Composer, Pace};
use crate::limits::LOAD_FRAME_BYTES_MAX;
use crate::time::Nanos;

const MAGIC_NANOSECONDS: u32 = 0xA1B2_3C4D;
const ETHERNET: u32 = 1;
/// The rate of the time stamps if the load has none.
const RATE: NonZeroU64 = NonZeroU64::new(1_000_000).expect("not zero");

/// Writes `count` frames of a load as if they had been sent from `begin` (since 1970) on.
///
/// # Errors
/// The writer's.
pub fn write(
    mut out: impl Write,
    composer: &Composer,
    count: u64,
    rate: Option<NonZeroU64>,
    begin: Duration,
) -> io::Result<()> {
    for word in [MAGIC_NANOSECONDS, 4 << 16 | 2, 0, 0, LOAD_FRAME_BYTES_MAX as u32, ETHERNET] {
        // The major version comes first in memory: on a big-endian machine the halves are in the
        // other order.
        let word = if word == 4 << 16 | 2 && cfg!(target_endian = "big") { word.rotate_left(16) } else { word };
        out.write_all(&word.to_ne_bytes())?;
    }
    let pace = Pace::new(Nanos(begin.as_nanos() as u64), rate.unwrap_or(RATE));
    let mut buffer = [0; LOAD_FRAME_BYTES_MAX];
    for sequence in 0..count {
        let at = pace.due(sequence);
        let length = composer.frame(sequence, at, &mut buffer);
        let (seconds, nanoseconds) = (at.0 / 1_000_000_000, at.0 % 1_000_000_000);
        for word in [seconds as u32, nanoseconds as u32, length as u32, length as u32] {
            out.write_all(&word.to_ne_bytes())?;
        }
        out.write_all(&buffer[..length])?;
    }
    out.flush()
}
