//! The tags of frames that come together, compared side by side.

use super::burst::Opened;
use crate::sys::cmac::{self, LANES};
use crate::wire::{Key, TAG_BYTES};

const _: () = assert!(crate::limits::FETCH_AHEAD <= LANES, "a group of a burst has a lane for each frame");

/// Compares the tags of up to [`LANES`] frames, and notes in each whether its own is right. Nothing
/// of a frame is believed before.
#[inline]
pub(super) fn check(frames: &mut [Opened<'_>]) {
    let mut is_keyed = false;
    for opened in &mut *frames {
        match opened.peer.inbound.key() {
            Key::Unauthenticated => opened.is_authentic = opened.frame.bears([0; TAG_BYTES]),
            Key::Keyed(_) => is_keyed = true,
        }
    }
    if !is_keyed {
        return;
    }
    let tags = cmac::tags(frames.len(), |lane| (&frames[lane].peer.inbound, frames[lane].frame.covered()));
    for (opened, tag) in frames.iter_mut().zip(tags) {
        opened.is_authentic = opened.frame.bears(tag);
    }
}
