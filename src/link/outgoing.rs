//! Frames that leave together, whose tags are made side by side.

use super::peers::Peers;
use crate::limits::FRAME_BYTES_MAX;
use crate::sys::cmac::{self, LANES};
use crate::wire::{Key, seal_with, unsealed};

/// Frames that leave together. Each is written without its tag, with something that its sender
/// wants to know of it, and all get theirs at once.
pub(crate) struct Outgoing<T> {
    frames: Box<[Staged<T>; LANES]>,
    count: usize,
}

struct Staged<T> {
    /// The domain's, among the peers.
    place: usize,
    length: usize,
    with: T,
    bytes: [u8; FRAME_BYTES_MAX],
}

impl<T: Copy + Default> Default for Outgoing<T> {
    fn default() -> Self {
        let staged = || Staged { place: 0, length: 0, with: T::default(), bytes: [0; FRAME_BYTES_MAX] };
        Self { frames: Box::new(std::array::from_fn(|_| staged())), count: 0 }
    }
}

impl<T: Copy> Outgoing<T> {
    pub fn is_full(&self) -> bool {
        self.count == LANES
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// Has `write` write a frame to the domain at a place, under the key that it is given, and say
    /// its length.
    ///
    /// # Panics
    /// If it is full.
    pub fn write(&mut self, place: usize, with: T, write: impl FnOnce(&mut [u8], &Key) -> usize) {
        let staged = &mut self.frames[self.count];
        let length = write(&mut staged.bytes, &Key::Unauthenticated);
        (staged.place, staged.with, staged.length) = (place, with, length);
        self.count += 1;
    }

    /// Gives every frame its tag, and takes all of them out.
    pub fn take(&mut self, peers: &Peers) -> impl Iterator<Item = (T, &[u8])> {
        let frames = &mut self.frames[..std::mem::take(&mut self.count)];
        let tags = cmac::tags(frames.len(), |lane| {
            let staged = &frames[lane];
            (&peers.peer(staged.place).outbound, unsealed(&staged.bytes[..staged.length]))
        });
        for (staged, tag) in frames.iter_mut().zip(tags) {
            seal_with(&mut staged.bytes[..staged.length], tag);
        }
        frames.iter().map(|staged| (staged.with, &staged.bytes[..staged.length]))
    }
}
