//! A bounded queue of frames between two kinds of thread, of buffers that are made once.

use crossbeam::queue::ArrayQueue;

use crate::limits::FRAME_BYTES_MAX;
use crate::time::Nanos;

/// One frame on its way.
struct Buffer {
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
    free: ArrayQueue<Box<Buffer>>,
    posted: ArrayQueue<Box<Buffer>>,
}

impl FrameQueue {
    /// Room for this many frames.
    pub fn new(capacity: usize) -> Self {
        let free = ArrayQueue::new(capacity);
        for _ in 0..capacity {
            let _ = free.push(Box::new(Buffer { length: 0, arrived: Nanos(0), bytes: [0; FRAME_BYTES_MAX] }));
        }
        Self { free, posted: ArrayQueue::new(capacity) }
    }

    /// Has `write` write a frame and say its length; false, and `write` not called, where there is
    /// no room.
    #[must_use]
    pub fn post(&self, arrived: Nanos, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let Some(mut buffer) = self.free.pop() else { return false };
        buffer.length = write(&mut buffer.bytes);
        buffer.arrived = arrived;
        // As many places as buffers: there is one for this.
        let _ = self.posted.push(buffer);
        true
    }

    /// Shows the oldest frame to `read`; none where there is none.
    pub fn take<T>(&self, read: impl FnOnce(&[u8], Nanos) -> T) -> Option<T> {
        let buffer = self.posted.pop()?;
        let result = read(&buffer.bytes[..buffer.length], buffer.arrived);
        let _ = self.free.push(buffer);
        Some(result)
    }

    /// For how many more there is room.
    pub fn room(&self) -> usize {
        self.free.len()
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
        let queue = FrameQueue::new(2);
        let write = |byte: u8| {
            move |bytes: &mut [u8]| {
                bytes[0] = byte;
                1
            }
        };
        assert!(queue.post(Nanos(1), write(1)) && queue.post(Nanos(2), write(2)));
        assert!(!queue.post(Nanos(3), write(3)));
        assert_eq!(queue.take(|bytes, arrived| (bytes.to_vec(), arrived)), Some((vec![1], Nanos(1))));
        assert!(queue.post(Nanos(4), write(4)));
        assert_eq!(queue.take(|bytes, _| bytes[0]), Some(2));
        assert_eq!(queue.take(|bytes, _| bytes[0]), Some(4));
        assert!(queue.is_empty() && queue.take(|_, _| ()).is_none());
    }
}
