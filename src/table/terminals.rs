//! Terminals: the record of one, how it is found, and its additional information. Each is a member
//! of one part.
//!
//! What reports change is in the terminal's line (`line`). Information of more than 6 bytes is in
//! an *extent*: two banks of 64 bytes, used like the line's, which the terminal's slot owns for as
//! long as its record names it. The check covers the extent too.
//!
//! Which part it is a member of is beside the line, with a checksum of its own, and changes as
//! address and meeting do: under the claim by which a free slot becomes a member's.

use std::ops::Deref;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::layout::{EXTENT_BANK, Words};
use super::line::{Check, Head, Line, LineClaim, Stated};
use super::slot::{Seen, Unreadable, checksum};
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

macro_rules! stated_of {
    ($state:ty) => {
        impl From<&$state> for Stated {
            #[inline(always)]
            fn from(state: &$state) -> Self {
                let (flags, channel) = (state.flags, state.channel);
                Self::new(state.version, state.business, state.decode, state.role, flags, channel, state.stream)
            }
        }
    };
}

stated_of!(Report);
stated_of!(Terminal);
stated_of!(TerminalState);

/// A terminal's record as the words of its line and its extent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Raw {
    head: Head,
    /// The extent's words; zero where there is none.
    info: [u64; EXTENT_BANK],
}

impl Deref for Raw {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

impl Raw {
    /// The record of a free slot.
    pub const FREE: Self = Self { head: Head::FREE, info: [0; EXTENT_BANK] };

    /// A member's record; its information is set separately.
    pub fn new(terminal: &Terminal, meeting: MeetingId) -> Self {
        let mut head = Head::new(terminal.terminal, meeting);
        head.set_window(terminal.window);
        head.set_stated(terminal.into());
        Self { head, ..Self::FREE }
    }

    pub fn set_stated(&mut self, stated: Stated) {
        self.head.set_stated(stated);
    }

    /// Sets the information, in the extent if one is given, which it is if there are more than
    /// [`INFO_BYTES_INLINE`] bytes. Bytes after the 64th are dropped.
    pub fn set_info(&mut self, info: &[u8], extent: Option<u32>) {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        self.info = [0; EXTENT_BANK];
        let Some(extent) = extent else {
            let short = &info[..info.len().min(INFO_BYTES_INLINE)];
            return self.head.set_short_info(short.len() as u8, word(short));
        };
        let info = &info[..info.len().min(INFO_BYTES_MAX)];
        self.head.set_extent(info.len() as u8, extent);
        self.info.iter_mut().zip(info.chunks(8)).for_each(|(to, bytes)| *to = word(bytes));
    }

    /// The terminal; none if a value is not one of its kind.
    #[inline]
    pub fn terminal(&self) -> Option<Terminal> {
        let mut info = [0; INFO_BYTES_MAX];
        let short = [self.short_info()];
        let words = if self.extent().is_some() { &self.info[..] } else { &short[..] };
        for (bytes, word) in info.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        Some(Terminal {
            terminal: self.address(),
            meeting: self.meeting(),
            version: self.version(),
            business: self.business()?,
            decode: self.decode()?,
            role: self.role()?,
            flags: self.flags(),
            channel: self.channel(),
            stream: self.stream()?,
            window: self.window(),
            info: Info::of_padded(info, self.info_len() as u8),
        })
    }

    /// Makes it the current record of a slot.
    pub fn publish(&self, words: Words<'_>, slot: u32, claim: LineClaim<'_, SharedWord>) {
        let Some(line) = words.terminal(slot) else { return };
        if let Some(extent) = self.extent().and_then(|extent| words.extent_bank(extent, claim.bank())) {
            for (to, from) in extent.iter().zip(self.info) {
                // Relaxed: as the bank's, ordered by the claim's fence and its publishing.
                to.store(from, Ordering::Relaxed);
            }
        }
        line.publish(claim, &self.head, self.check());
    }

    /// Makes a free slot this member's, of the part in `part`.
    pub fn enter(&self, words: Words<'_>, slot: u32, part: u32, claim: LineClaim<'_, SharedWord>) {
        let (Some(line), Some(of)) = (words.terminal(slot), words.terminal_part(slot)) else { return };
        line.identify(&claim, &self.head);
        // Relaxed: as address and meeting, ordered by the claim and its publishing.
        of.store(part_word(slot, part), Ordering::Relaxed);
        self.publish(words, slot, claim);
    }

    #[inline]
    fn check(&self) -> Check {
        self.head.check(self.info_words())
    }

    fn info_words(&self) -> &[u64] {
        if self.extent().is_some() { &self.info } else { &[] }
    }
}

/// A member's record, and the slot of the part that it is a member of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Member {
    raw: Raw,
    pub part: u32,
}

impl Deref for Member {
    type Target = Raw;

    fn deref(&self) -> &Raw {
        &self.raw
    }
}

/// How a part's slot lies beside the line of a member in `slot`.
fn part_word(slot: u32, part: u32) -> u64 {
    let sum = checksum(&[u64::from(slot) << 32 | u64::from(part)], &[]);
    u64::from(part) << 32 | sum >> 32
}

/// The hash that a terminal is found by.
#[inline]
pub(super) fn terminal_hash(terminal: Address) -> u64 {
    mix(terminal.number())
}

impl<'a> Words<'a> {
    /// A terminal's record, free or not.
    pub fn read_raw(self, slot: u32) -> Result<(Seen, Raw), Unreadable> {
        self.read_with(self.terminal(slot).ok_or(Unreadable::Damaged)?, Some)
    }

    /// The terminal in a slot; none if it is free or there is no such slot.
    #[inline]
    pub fn read_terminal(self, slot: u32) -> Result<Option<(Seen, Raw)>, Unreadable> {
        let Some(line) = self.terminal(slot) else { return Ok(None) };
        let (seen, raw) = self.read_with(line, Some)?;
        Ok((!raw.is_free()).then_some((seen, raw)))
    }

    /// As [`Self::read_terminal`], with its part: a second cache line, and damaged if that is.
    pub fn read_member(self, slot: u32) -> Result<Option<(Seen, Member)>, Unreadable> {
        let Some(line) = self.terminal(slot) else { return Ok(None) };
        let (seen, member) = self.read_with(line, |raw| {
            if raw.is_free() {
                return Some(None);
            }
            // Relaxed: as the line's, ordered by the control word around it.
            let word = self.terminal_part(slot)?.load(Ordering::Relaxed);
            let part = (word >> 32) as u32;
            (part_word(slot, part) == word).then_some(Some(Member { raw, part }))
        })?;
        Ok(member.map(|member| (seen, member)))
    }

    #[inline]
    fn read_with<T>(
        self,
        line: Line<'a, SharedWord>,
        mut take: impl FnMut(Raw) -> Option<T>,
    ) -> Result<(Seen, T), Unreadable> {
        line.read(|head, check, number| {
            let mut raw = Raw { head, ..Raw::FREE };
            if let Some(extent) = head.extent() {
                for (to, from) in raw.info.iter_mut().zip(self.extent_bank(extent, number)?) {
                    // Relaxed: as the bank's, ordered by the control word around it.
                    *to = from.load(Ordering::Relaxed);
                }
            }
            let is_whole = head.is_whole(check, raw.info_words()) && raw.info_len() <= INFO_BYTES_MAX;
            take(if head.is_free() { Raw::FREE } else { raw }).filter(|_| is_whole)
        })
    }

    #[inline]
    pub fn find_terminal(self, terminal: Address) -> Result<Option<(u32, Seen, Raw)>, Unreadable> {
        self.find_by(terminal, |slot| self.read_terminal(slot), |raw| raw.address())
    }

    /// As [`Self::find_terminal`], with its part.
    pub fn find_member(self, terminal: Address) -> Result<Option<(u32, Seen, Member)>, Unreadable> {
        self.find_by(terminal, |slot| self.read_member(slot), |member| member.address())
    }

    #[inline]
    fn find_by<T>(
        self,
        terminal: Address,
        read: impl Fn(u32) -> Result<Option<(Seen, T)>, Unreadable>,
        address: impl Fn(&T) -> Address,
    ) -> Result<Option<(u32, Seen, T)>, Unreadable> {
        let mut wrong = None;
        let found = self.terminal_index().find(terminal_hash(terminal), |slot| match read(slot) {
            Ok(Some((seen, raw))) if address(&raw) == terminal => Some((slot, seen, raw)),
            Ok(_) => None,
            Err(unreadable) => {
                wrong = Some(unreadable);
                None
            }
        });
        if found.is_some() { Ok(found) } else { wrong.map_or(Ok(None), Err) }
    }
}
