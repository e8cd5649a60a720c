//! The tags of frames that come together, compared side by side.

use arrayvec::ArrayVec;

use super::burst::Opened;
use super::peers::Peers;
use crate::sys::cmac::{self, LANES};

/// Compares the tags of up to [`LANES`] frames, and notes in each whether its own is right. Nothing
/// of a frame is believed before.
#[inline]
pub(super) fn check(frames: &mut [Option<Opened<'_>>], peers: &Peers) {
    let lanes: ArrayVec<_, LANES> =
        frames.iter().flatten().map(|opened| (&peers.peer(opened.domain).inbound, opened.frame.covered())).collect();
    let tags = cmac::tags(&lanes);
    for (opened, tag) in frames.iter_mut().flatten().zip(tags) {
        opened.is_authentic = opened.frame.bears(tag);
    }
}
