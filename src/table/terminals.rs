//! Terminals: the record of one, how it is found, and its additional information. Each is a member
//! of one part.
//!
//! ```text
//! 0 address (56) info_len │ 1 meeting │ 2 version (32) business decode role flags
//! 3 part's slot (32) channel stream window │ 4, 5 information up to 16 bytes, else 4 its extent │ 6 checksum
//! ```
//!
//! A slot is free if the address is 0. Information of more than 16 bytes is in an *extent*: two
//! banks of 64 bytes, used like the slot's, which the terminal's slot owns for as long as its
//! record names it. The checksum covers the extent too.

use std::ops::Deref;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::layout::{BANK, EXTENT_BANK, TableSlot, Words};
use super::slot::{Claim, Seen, Unreadable, checksum};
use crate::limits::{INFO_BYTES_INLINE, INFO_BYTES_MAX};
use crate::sys::mapping::SharedWord;
use crate::wire::{
    Address, Business, Decode, Flags, Info, MeetingId, Report, Role, StreamKind, TerminalState, WINDOW_NONE, mix,
};

/// A terminal's state, from its last report or from its autonomous server. In JSON it is what
/// `docs/api.md` documents, for the API, `baton table inspect` and `baton sim` alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the other fields are those of docs/wire.md's TerminalState")]
pub struct Terminal {
    pub terminal: Address,
    /// The meeting that it is a member of; [`MeetingId::NONE`] where it is in none, which no table
    /// holds.
    pub meeting: MeetingId,
    /// Counts its changes, in serial arithmetic; it wraps, and skips 0, which is a terminal's that
    /// has not reported.
    pub version: u32,
    pub business: Business,
    pub decode: Decode,
    pub role: Role,
    pub flags: Flags,
    pub channel: u8,
    pub stream: StreamKind,
    /// Its window on the screen, from 0; [`WINDOW_NONE`] where it has none.
    pub window: u8,
    pub info: Info,
}

impl Terminal {
    /// A member that has not reported yet, with version 0.
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
            window: WINDOW_NONE,
            info: Info::EMPTY,
        }
    }

    /// Replaces the state by what an autonomous server lists; address, meeting and window stay.
    pub fn set_state(&mut self, state: &TerminalState) {
        let window = self.window;
        *self = Self { terminal: self.terminal, meeting: self.meeting, window, ..Self::from(state) };
    }
}

/// The state that an autonomous server lists. It does not list the window.
impl From<&TerminalState> for Terminal {
    fn from(state: &TerminalState) -> Self {
        let TerminalState { meeting, terminal, version, business, decode, role, flags, channel, stream, info } = *state;
        let window = WINDOW_NONE;
        Self { terminal, meeting, version, business, decode, role, flags, channel, stream, window, info }
    }
}

impl From<&Terminal> for TerminalState {
    fn from(terminal: &Terminal) -> Self {
        let Terminal { meeting, terminal, version, business, decode, role, flags, channel, stream, window: _, info } =
            *terminal;
        Self { meeting, terminal, version, business, decode, role, flags, channel, stream, info }
    }
}

/// A terminal's record as the words of its slot, without its extent: the hot path works on this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head([u64; BANK - 1]);

/// What a report or an autonomous server says, as it lies in a record, without the additional
/// information.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stated {
    /// Word 2.
    stated: u64,
    /// Of word 3: channel and stream.
    place: u64,
}

macro_rules! stated_of {
    ($state:ty) => {
        impl From<&$state> for Stated {
            #[inline(always)]
            fn from(state: &$state) -> Self {
                let stated = u64::from(state.version)
                    | u64::from(state.business.wire()) << 32
                    | u64::from(state.decode.wire()) << 40
                    | u64::from(state.role.wire()) << 48
                    | u64::from(state.flags.0) << 56;
                Self { stated, place: u64::from(state.channel) << 32 | u64::from(state.stream.wire()) << 40 }
            }
        }
    };
}

stated_of!(Report);
stated_of!(Terminal);
stated_of!(TerminalState);

/// A terminal's record as the words of its slot and its extent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Raw {
    head: Head,
    /// The extent's words; zero where there is none.
    info: [u64; EXTENT_BANK],
}

impl Head {
    /// The record in a bank, if the bank is whole and the record has no extent.
    #[inline(always)]
    pub fn alone(bank: &[u64; BANK]) -> Option<Self> {
        let [words @ .., sum] = *bank;
        let head = Self(words);
        (head.extent().is_none() && checksum(&head.0, &[]) == sum).then_some(head)
    }

    /// The bank of a record that has no extent.
    #[inline(always)]
    pub fn bank(&self) -> [u64; BANK] {
        let [a, b, c, d, e, f] = self.0;
        [a, b, c, d, e, f, checksum(&self.0, &[])]
    }

    #[inline]
    pub fn is_free(&self) -> bool {
        self.address().number() == 0
    }

    #[inline]
    pub fn address(&self) -> Address {
        Address::from_number(self.0[0])
    }

    #[inline]
    pub fn meeting(&self) -> MeetingId {
        MeetingId(self.0[1])
    }

    #[inline]
    pub fn version(&self) -> u32 {
        self.0[2] as u32
    }

    #[inline]
    pub fn part(&self) -> u32 {
        self.0[3] as u32
    }

    #[inline]
    fn info_len(&self) -> usize {
        (self.0[0] >> 56) as usize
    }

    #[inline]
    pub fn extent(&self) -> Option<u32> {
        (self.info_len() > INFO_BYTES_INLINE).then_some(self.0[4] as u32)
    }

    #[inline(always)]
    pub fn set_stated(&mut self, Stated { stated, place }: Stated) {
        self.0[2] = stated;
        self.0[3] = self.0[3] & !(0xffff << 32) | place;
    }

    pub fn set_window(&mut self, window: u8) {
        self.0[3] = self.0[3] & !(0xff << 48) | u64::from(window) << 48;
    }

    /// Sets information that needs no extent: its length, and its bytes as words, zero after the
    /// last byte.
    #[inline(always)]
    pub fn set_short_info(&mut self, len: u8, [front, behind]: [u64; 2]) {
        self.0[0] = self.address().number() | u64::from(len) << 56;
        (self.0[4], self.0[5]) = (front, behind);
    }
}

impl Deref for Raw {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

impl Raw {
    /// The record of a free slot.
    pub const FREE: Self = Self { head: Head([0; BANK - 1]), info: [0; EXTENT_BANK] };

    /// A terminal's record as a member of the part in a slot; its information is set separately.
    pub fn new(terminal: &Terminal, meeting: MeetingId, part: u32) -> Self {
        let mut raw = Self::FREE;
        raw.head.0[0] = terminal.terminal.number();
        raw.head.0[1] = meeting.0;
        raw.head.0[3] = part.into();
        raw.head.set_window(terminal.window);
        raw.head.set_stated(terminal.into());
        raw
    }

    pub fn set_stated(&mut self, stated: Stated) {
        self.head.set_stated(stated);
    }

    /// Sets the information, in the extent if one is given, which it is if there are more than
    /// [`INFO_BYTES_INLINE`] bytes. Bytes after the 64th are dropped.
    pub fn set_info(&mut self, info: &[u8], extent: Option<u32>) {
        self.info = [0; EXTENT_BANK];
        let Some(extent) = extent else {
            let len = info.len().min(INFO_BYTES_INLINE);
            let mut short = [0; INFO_BYTES_INLINE];
            short[..len].copy_from_slice(&info[..len]);
            let [front, behind] = *short.as_chunks().0 else { unreachable!("sixteen bytes are two words") };
            return self.head.set_short_info(len as u8, [front, behind].map(u64::from_le_bytes));
        };
        let info = &info[..info.len().min(INFO_BYTES_MAX)];
        self.head.0[0] = self.address().number() | (info.len() as u64) << 56;
        (self.head.0[4], self.head.0[5]) = (extent.into(), 0);
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        self.info.iter_mut().zip(info.chunks(8)).for_each(|(to, bytes)| *to = word(bytes));
    }

    /// The terminal; none if a value is not one of its kind.
    #[inline]
    pub fn terminal(&self) -> Option<Terminal> {
        let [_, _, stated, place, ..] = self.head.0;
        let mut info = [0; INFO_BYTES_MAX];
        let words = if self.extent().is_some() { &self.info } else { &self.head.0[4..] };
        for (bytes, word) in info.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        Some(Terminal {
            terminal: self.address(),
            meeting: self.meeting(),
            version: self.version(),
            business: Business::from_wire((stated >> 32) as u8)?,
            decode: Decode::from_wire((stated >> 40) as u8)?,
            role: Role::from_wire((stated >> 48) as u8)?,
            flags: Flags((stated >> 56) as u8),
            channel: (place >> 32) as u8,
            stream: StreamKind::from_wire((place >> 40) as u8)?,
            window: (place >> 48) as u8,
            info: Info::of_padded(info, self.info_len() as u8),
        })
    }

    /// Makes it the current record.
    pub fn publish(&self, words: Words<'_>, claim: Claim<'_, SharedWord, BANK>) {
        let mut bank = [0; BANK];
        bank[..BANK - 1].copy_from_slice(&self.head.0);
        bank[BANK - 1] = self.checksum();
        if let Some(extent) = self.extent().and_then(|extent| words.extent_bank(extent, claim.bank())) {
            for (to, from) in extent.iter().zip(self.info) {
                // Relaxed: as the bank's, ordered by the claim's fence and its publishing.
                to.store(from, Ordering::Relaxed);
            }
        }
        claim.publish(&bank);
    }

    #[inline]
    fn checksum(&self) -> u64 {
        let info = if self.extent().is_some() { &self.info[..] } else { &[] };
        checksum(&self.head.0, info)
    }
}

/// The hash that a terminal is found by.
pub(super) fn terminal_hash(terminal: Address) -> u64 {
    mix(terminal.number())
}

impl<'a> Words<'a> {
    /// A terminal's record, free or not.
    pub fn read_raw(self, slot: TableSlot<'a>) -> Result<(Seen, Raw), Unreadable> {
        slot.read(|bank, number| {
            let mut raw = Raw::FREE;
            raw.head.0.copy_from_slice(&bank[..BANK - 1]);
            if let Some(extent) = raw.extent() {
                for (to, from) in raw.info.iter_mut().zip(self.extent_bank(extent, number)?) {
                    // Relaxed: as the bank's, ordered by the control word around it.
                    *to = from.load(Ordering::Relaxed);
                }
            }
            (raw.checksum() == bank[BANK - 1] && raw.info_len() <= INFO_BYTES_MAX).then_some(raw)
        })
    }

    /// The terminal in a slot; none if it is free or there is no such slot.
    #[inline]
    pub fn read_terminal(self, slot: u32) -> Result<Option<(Seen, Raw)>, Unreadable> {
        let Some(words) = self.terminal(slot) else { return Ok(None) };
        let (seen, raw) = self.read_raw(words)?;
        Ok((!raw.is_free()).then_some((seen, raw)))
    }

    #[inline]
    pub fn find_terminal(self, terminal: Address) -> Result<Option<(u32, Seen, Raw)>, Unreadable> {
        let mut wrong = None;
        let found = self.terminal_index().find(terminal_hash(terminal), |slot| match self.read_terminal(slot) {
            Ok(Some((seen, raw))) if raw.address() == terminal => Some((slot, seen, raw)),
            Ok(_) => None,
            Err(unreadable) => {
                wrong = Some(unreadable);
                None
            }
        });
        if found.is_some() { Ok(found) } else { wrong.map_or(Ok(None), Err) }
    }
}
