//! A bounded queue of frames between two kinds of thread, of buffers that are made once.

use crossbeam::queue::ArrayQueue;

use crate::limits::FRAME_BYTES_MAX;
use crate::time::Nanos;

/// One frame on its way.
struct Letter {
    length: usize,
    arrived: Nanos,
    bytes: [u8; FRAME_BYTES_MAX],
}

/// Frames on their way from some threads to another. Full means full: the sender counts, nobody
/// waits.
///
/// Two queues pass the same buffers round, so that neither end allocates. A worker's buffer is
/// either free, on its way, or in the hands of one thread.
pub struct FrameQueue {
    free: ArrayQueue<Box<Letter>>,
    posted: ArrayQueue<Box<Letter>>,
}

impl FrameQueue {
    /// Room for this many frames.
    pub fn new(capacity: usize) -> Self {
        let free = ArrayQueue::new(capacity);
        for _ in 0..capacity {
            let _ = free.push(Box::new(Letter { length: 0, arrived: Nanos(0), bytes: [0; FRAME_BYTES_MAX] }));
        }
        Self { free, posted: ArrayQueue::new(capacity) }
    }

    /// Has `write` write a frame and say its length; false, and `write` not called, where there is
    /// no room.
    #[must_use]
    pub fn post(&self, arrived: Nanos, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let Some(mut letter) = self.free.pop() else { return false };
        letter.length = write(&mut letter.bytes);
        letter.arrived = arrived;
        // As many places as buffers: there is one for this.
        let _ = self.posted.push(letter);
        true
    }

    /// Shows the oldest frame to `read`; none where there is none.
    pub fn take<T>(&self, read: impl FnOnce(&[u8], Nanos) -> T) -> Option<T> {
        let letter = self.posted.pop()?;
        let result = read(&letter.bytes[..letter.length], letter.arrived);
        let _ = self.free.push(letter);
        Some(result)
    }

    /// Whether one more would find room.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.posted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_in_order_and_a_full_box_refuses() {
        let mailbox = FrameQueue::new(2);
        let write = |byte: u8| {
            move |bytes: &mut [u8]| {
                bytes[0] = byte;
                1
            }
        };
        assert!(mailbox.post(Nanos(1), write(1)) && mailbox.post(Nanos(2), write(2)));
        assert!(!mailbox.post(Nanos(3), write(3)));
        assert_eq!(mailbox.take(|bytes, arrived| (bytes.to_vec(), arrived)), Some((vec![1], Nanos(1))));
        assert!(mailbox.post(Nanos(4), write(4)));
        assert_eq!(mailbox.take(|bytes, _| bytes[0]), Some(2));
        assert_eq!(mailbox.take(|bytes, _| bytes[0]), Some(4));
        assert!(mailbox.is_empty() && mailbox.take(|_, _| ()).is_none());
    }
}
