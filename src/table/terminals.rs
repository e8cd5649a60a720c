//! Terminals, each a member of one part.

use crate::limits::INFO_BYTES_MAX;
use crate::wire::{Address, Business, Decode, Flags, MeetingId, Role, StreamKind, TerminalState};

/// A terminal, as its last report or its autonomous server says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terminal {
    /// Its address.
    pub terminal: Address,
    /// The meeting that it is a member of.
    pub meeting: MeetingId,
    /// Counts its changes, in serial arithmetic: it wraps.
    pub version: u32,
    /// What it is busy with.
    pub business: Business,
    /// What its decoder does.
    pub decode: Decode,
    /// Its part in the conference.
    pub role: Role,
    /// Muted, hand raised and so on.
    pub flags: Flags,
    /// The channel that it decodes on.
    pub channel: u8,
    /// Which stream it takes.
    pub stream: StreamKind,
    /// Its window on the screen, from 0; [`Terminal::NO_WINDOW`] where it has none.
    pub window: u8,
    /// Bytes of `info` that count, at most 64.
    pub info_len: u8,
    /// Additional information; zero behind `info_len`.
    pub info: [u8; INFO_BYTES_MAX],
}

impl Terminal {
    /// The window of a terminal that is not on the screen.
    pub const NO_WINDOW: u8 = 255;

    /// A member that has not reported yet.
    pub const fn new(terminal: Address, meeting: MeetingId, role: Role) -> Self {
        Self {
            terminal,
            meeting,
            version: 0,
            business: Business::Invited,
            decode: Decode::Stopped,
            role,
            flags: Flags(0),
            channel: 0,
            stream: StreamKind::Sub,
            window: Self::NO_WINDOW,
            info_len: 0,
            info: [0; INFO_BYTES_MAX],
        }
    }

    /// The additional information.
    pub fn info(&self) -> &[u8] {
        &self.info[..usize::from(self.info_len).min(INFO_BYTES_MAX)]
    }

    /// Replaces the additional information; what is beyond 64 bytes is cut.
    pub fn set_info(&mut self, info: &[u8]) {
        let len = info.len().min(INFO_BYTES_MAX);
        self.info = [0; INFO_BYTES_MAX];
        self.info[..len].copy_from_slice(&info[..len]);
        self.info_len = len as u8;
    }

    /// Takes over what an autonomous server says of it; address, meeting and window stay.
    pub fn set_state(&mut self, state: &TerminalState) {
        self.version = state.version;
        self.business = state.business;
        self.decode = state.decode;
        self.role = state.role;
        self.flags = state.flags;
        self.channel = state.channel;
        self.stream = state.stream;
        self.set_info(state.info());
    }
}

impl From<&TerminalState> for Terminal {
    fn from(state: &TerminalState) -> Self {
        let mut terminal = Self::new(state.terminal, state.meeting, state.role);
        terminal.set_state(state);
        terminal
    }
}

impl From<&Terminal> for TerminalState {
    fn from(terminal: &Terminal) -> Self {
        Self {
            meeting: terminal.meeting,
            terminal: terminal.terminal,
            version: terminal.version,
            business: terminal.business,
            decode: terminal.decode,
            role: terminal.role,
            flags: terminal.flags,
            channel: terminal.channel,
            stream: terminal.stream,
            info_len: terminal.info_len,
            info: terminal.info,
        }
    }
}
