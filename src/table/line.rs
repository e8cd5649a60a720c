//! A terminal's *line*: one cache line, which is all that a report reads and writes.
//!
//! ```text
//! 0 control │ 1, 2 bank 0 │ 3, 4 bank 1 │ 5 check of bank 0 (32) and of bank 1 (32) │ 6 address │ 7 meeting
//!
//! bank   0 version (32) business decode role stream (4 each) flags (8) channel (8)
//!        1 information up to 6 bytes (48), else its extent (32) │ window (8) │ its length (7) │ live (1)
//! ```
//!
//! Control and banks are a slot as any other ([`super::slot`]). The word of checks has a half for
//! each bank. A writer changes the half of the bank that it writes, under its claim, by storing the
//! word with the other half as it was: no other writer is at it, and a reader of the current bank
//! finds that bank's half the same before and after.
//!
//! Address and meeting are there once. They change only while the slot is free: the writer that
//! enters a member stores them under the claim that publishes it, and they stay after it has left.
//! So what they say of a free slot means nothing, and the check of a free record, which is 0 as the
//! record is, does not cover them; that of a member does.

use std::sync::atomic::Ordering;

use super::slot::{Claim, Seen, Slot, Unreadable, Word, checksum};
use crate::limits::INFO_BYTES_INLINE;
use crate::wire::{Address, Business, Decode, Flags, MeetingId, Role, StreamKind};

pub(super) const LINE_WORDS: usize = 8;
const BANK: usize = 2;
const CHECKS: usize = 5;
const ADDRESS: usize = 6;
const MEETING: usize = 7;

const _: () = assert!(Slot::<'_, crate::sys::mapping::SharedWord, BANK>::WORDS == CHECKS);
const _: () = assert!(INFO_BYTES_INLINE * 8 == WINDOW as usize, "the window lies above the information");

const WINDOW: u32 = 48;
const INFO_LEN: u32 = 56;
const INFO: u64 = (1 << WINDOW) - 1;
const LIVE: u64 = 1 << 63;

/// A claim of a line's slot.
pub(super) type LineClaim<'a, W> = Claim<'a, W, BANK>;

/// The words of a line, with what they mean.
#[derive(Debug)]
pub(super) struct Line<'a, W>(&'a [W; LINE_WORDS]);

impl<W> Clone for Line<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Line<'_, W> {}

impl<'a, W: Word> Line<'a, W> {
    #[inline]
    pub fn new(words: &'a [W; LINE_WORDS]) -> Self {
        Self(words)
    }

    #[inline(always)]
    pub fn slot(self) -> Slot<'a, W, BANK> {
        Slot::new(self.0)
    }

    #[inline]
    pub fn prefetch(self) {
        self.0[0].prefetch();
    }

    /// Reads the record. `take` gets it with its bank's number, and its check, as
    /// [`Slot::read`]'s does.
    #[inline(always)]
    pub fn read<T>(self, mut take: impl FnMut(Head, Check, usize) -> Option<T>) -> Result<(Seen, T), Unreadable> {
        self.slot().read(|&[stated, rest], number| {
            // Relaxed: as the bank's, ordered by the control word around it.
            let load = |at: usize| self.0[at].load(Ordering::Relaxed);
            let (checks, address, meeting) = (load(CHECKS), load(ADDRESS), load(MEETING));
            take(Head { address, meeting, stated, rest }, Check(half(checks, number)), number)
        })
    }

    /// What address and meeting say, whether or not the record can be read.
    pub fn identity(self) -> (Address, MeetingId) {
        let [address, meeting] = [ADDRESS, MEETING].map(|at| self.0[at].load(Ordering::Relaxed));
        (Address::from_number(address), MeetingId(meeting))
    }

    /// Says whose the line is from now on. The slot is free, and `claim` publishes its record next.
    pub fn identify(self, _claim: &LineClaim<'a, W>, head: &Head) {
        // Relaxed: the claim's fence orders them for readers of the free slot, which find its
        // sequence gone then, and publishing for those of the member.
        self.0[ADDRESS].store(head.address, Ordering::Relaxed);
        self.0[MEETING].store(head.meeting, Ordering::Relaxed);
    }

    /// Makes it the current record.
    #[inline(always)]
    pub fn publish(self, claim: LineClaim<'a, W>, head: &Head, check: Check) {
        // Relaxed: the last writer's store came with the claim; ours is ordered as the bank's are.
        let checks = self.0[CHECKS].load(Ordering::Relaxed);
        self.0[CHECKS].store(with_half(checks, claim.bank(), check.0), Ordering::Relaxed);
        claim.publish(&[head.stated, head.rest]);
    }
}

/// 32 bits that fit one record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Check(u32);

#[inline(always)]
const fn half(checks: u64, bank: usize) -> u32 {
    (checks >> (32 * bank)) as u32
}

#[inline(always)]
const fn with_half(checks: u64, bank: usize, check: u32) -> u64 {
    checks & !(0xffff_ffff << (32 * bank)) | (check as u64) << (32 * bank)
}

/// A terminal's record as the words of its line, without its extent: the hot path works on this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    address: u64,
    meeting: u64,
    stated: u64,
    rest: u64,
}

/// What a report or an autonomous server says, as it lies in a record, without the additional
/// information.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stated(u64);

impl Stated {
    #[inline(always)]
    pub fn new(
        version: u32,
        business: Business,
        decode: Decode,
        role: Role,
        flags: Flags,
        channel: u8,
        stream: StreamKind,
    ) -> Self {
        let kinds = u64::from(business.wire())
            | u64::from(decode.wire()) << 4
            | u64::from(role.wire()) << 8
            | u64::from(stream.wire()) << 12;
        Self(u64::from(version) | kinds << 32 | u64::from(flags.0) << 48 | u64::from(channel) << 56)
    }
}

impl Head {
    /// The record of a free slot.
    pub const FREE: Self = Self { address: 0, meeting: 0, stated: 0, rest: 0 };

    /// The record of a member that nothing is known of yet.
    pub fn new(terminal: Address, meeting: MeetingId) -> Self {
        Self { address: terminal.number(), meeting: meeting.0, stated: 0, rest: LIVE }
    }

    /// Whether it is a member's, whole, with no extent.
    #[inline(always)]
    pub fn is_short(&self, check: Check) -> bool {
        !self.is_free() && self.info_len() <= INFO_BYTES_INLINE && self.check(&[]) == check
    }

    /// Whether the record is whole, with these words of its extent.
    pub fn is_whole(&self, check: Check, info: &[u64]) -> bool {
        if self.is_free() {
            return self.stated | self.rest == 0 && check == Check(0);
        }
        self.check(info) == check
    }

    /// The check of this record, with these words of its extent.
    #[inline(always)]
    pub fn check(&self, info: &[u64]) -> Check {
        if self.is_free() {
            return Check(0);
        }
        let Self { address, meeting, stated, rest } = *self;
        // The upper half, to which every bit of the last word has come.
        Check((checksum(&[address, meeting, stated, rest], info) >> 32) as u32)
    }

    #[inline]
    pub const fn is_free(&self) -> bool {
        self.rest & LIVE == 0
    }

    #[inline]
    pub fn address(&self) -> Address {
        Address::from_number(self.address)
    }

    #[inline]
    pub fn meeting(&self) -> MeetingId {
        MeetingId(self.meeting)
    }

    #[inline]
    pub fn version(&self) -> u32 {
        self.stated as u32
    }

    pub fn business(&self) -> Option<Business> {
        Business::from_wire(self.kind(0))
    }

    pub fn decode(&self) -> Option<Decode> {
        Decode::from_wire(self.kind(1))
    }

    pub fn role(&self) -> Option<Role> {
        Role::from_wire(self.kind(2))
    }

    pub fn stream(&self) -> Option<StreamKind> {
        StreamKind::from_wire(self.kind(3))
    }

    pub fn flags(&self) -> Flags {
        Flags((self.stated >> 48) as u8)
    }

    pub fn channel(&self) -> u8 {
        (self.stated >> 56) as u8
    }

    pub fn window(&self) -> u8 {
        (self.rest >> WINDOW) as u8
    }

    fn kind(&self, place: u32) -> u8 {
        (self.stated >> (32 + 4 * place)) as u8 & 0xf
    }

    #[inline]
    pub fn info_len(&self) -> usize {
        (self.rest >> INFO_LEN) as usize & 0x7f
    }

    /// The information of a record without an extent, as a word.
    pub fn short_info(&self) -> u64 {
        self.rest & INFO
    }

    #[inline]
    pub fn extent(&self) -> Option<u32> {
        (self.info_len() > INFO_BYTES_INLINE).then_some(self.rest as u32)
    }

    #[inline(always)]
    pub fn set_stated(&mut self, stated: Stated) {
        self.stated = stated.0;
    }

    pub fn set_window(&mut self, window: u8) {
        self.rest = self.rest & !(0xff << WINDOW) | u64::from(window) << WINDOW;
    }

    /// Sets information that needs no extent: its length, and its bytes as a word, zero after the
    /// last byte.
    #[inline(always)]
    pub fn set_short_info(&mut self, len: u8, info: u64) {
        self.rest = self.rest & !(INFO | 0x7f << INFO_LEN) | u64::from(len) << INFO_LEN | info & INFO;
    }

    /// Sets the extent that has the information, and the length of that.
    pub fn set_extent(&mut self, len: u8, extent: u32) {
        self.set_short_info(len, extent.into());
    }
}
