//! The tags of frames that come together, compared side by side.

use arrayvec::ArrayVec;

use super::burst::Opened;
use crate::sys::cmac::{self, LANES};
use crate::wire::{Key, TAG_BYTES};

const _: () = assert!(crate::limits::FETCH_AHEAD <= LANES, "a group of a burst has a lane for each frame");

/// Compares the tags of up to [`LANES`] frames, and notes in each whether its own is right. Nothing
/// of a frame is believed before.
#[inline]
pub(super) fn check(frames: &mut [Opened<'_>]) {
    let (mut lanes, mut keyed) = (ArrayVec::<_, LANES>::new(), ArrayVec::<_, LANES>::new());
    for opened in frames {
        let key = &opened.peer.inbound;
        match key.key() {
            Key::Unauthenticated => opened.is_authentic = opened.frame.bears([0; TAG_BYTES]),
            Key::Keyed(_) => {
                lanes.push((key, opened.frame.covered()));
                keyed.push(opened);
            }
        }
    }
    if lanes.is_empty() {
        return;
    }
    for (opened, tag) in keyed.into_iter().zip(cmac::tags(&lanes)) {
        opened.is_authentic = opened.frame.bears(tag);
    }
}
