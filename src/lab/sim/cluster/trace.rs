//! What happens in a simulation, line by line, to see how it came to its end.

use crate::time::Nanos;
use crate::wire::{DEFAULT_ETHERTYPE, Frame, Opcode};

/// The lines; none are kept where nobody wants them.
#[derive(Default)]
pub struct Trace {
    lines: Option<Vec<String>>,
    are_frames_wanted: bool,
}

impl Trace {
    /// Keeps lines from now on, of frames as well where they are wanted.
    pub fn keep(&mut self, are_frames_wanted: bool) {
        self.lines = Some(Vec::new());
        self.are_frames_wanted = are_frames_wanted;
    }

    /// Those that were kept.
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    pub(super) fn say(&mut self, now: Nanos, say: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>12.6} {}", now.0 as f64 / 1e9, say()));
        }
    }

    pub(super) fn say_frame(&mut self, now: Nanos, how: &str, bytes: &[u8]) {
        if !self.are_frames_wanted {
            return;
        }
        let Ok(frame) = Frame::parse(bytes, DEFAULT_ETHERTYPE) else { return };
        if matches!(frame.opcode(), Ok(Opcode::Heartbeat | Opcode::HeartbeatAck)) {
            return;
        }
        let (header, opcode) = (frame.header(), frame.opcode());
        let (from, to) = (frame.envelope().from, frame.envelope().to);
        let message = frame.message();
        self.say(now, || format!("{how} {from} to {to} {opcode:?} {header:?} {message:?}"));
    }
}
