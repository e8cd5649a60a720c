//! What every frame of a load is made with.

use crate::limits::INFO_BYTES_SHORT;
use crate::wire::{Epoch, Header, MeetingId, Message, TerminalState, Transaction};

/// A request's header; its transaction is the low half of the sequence number.
pub(super) fn header(sequence: u64, meeting: MeetingId) -> Header {
    Header::request(Transaction(sequence as u32), Epoch::NONE, meeting)
}

pub(super) fn report(state: &TerminalState) -> Message {
    let TerminalState { terminal, version, business, decode, role, flags, channel, stream, .. } = *state;
    let mut info = [0; INFO_BYTES_SHORT];
    info.copy_from_slice(&state.info[..INFO_BYTES_SHORT]);
    Message::Report { terminal, version, business, decode, role, flags, channel, stream, info }
}
