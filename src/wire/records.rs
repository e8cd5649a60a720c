//! Pages of records, the content of data payloads.
//!
//! ```text
//! page u16 │ pages u16 │ records u16 │ record_len u16 │ 1008 bytes of records
//! ```

use std::marker::PhantomData;

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::malformed::Malformed;
use super::page::{PAGE_BYTES, Record};
use super::terminal_state::TerminalStateBytes;
use super::{Address, Domain, Epoch, Layout, Level, MeetingId, MeetingState, Run, Status};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct PageBytes {
    page: U16,
    pages: U16,
    records: U16,
    record_len: U16,
}

impl PageBytes {
    pub fn new(page: u16, pages: u16, records: u16, record_len: u16) -> Self {
        Self {
            page: U16::new(page),
            pages: U16::new(pages),
            records: U16::new(records),
            record_len: U16::new(record_len),
        }
    }
}

/// One page of a listing: which of how many, and its records' bytes, not yet read.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Counted from 0.
    pub page: u16,
    /// At least 1.
    pub pages: u16,
    /// How many records it has, as its header says.
    pub count: u16,
    record_len: u16,
    body: &'a [u8],
}

impl<'a> Page<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (head, body) = PageBytes::ref_from_prefix(bytes).map_err(|_| Malformed::Short)?;
        let (page, pages) = (head.page.get(), head.pages.get());
        if page >= pages {
            return Err(Malformed::Page);
        }
        Ok(Self { page, pages, count: head.records.get(), record_len: head.record_len.get(), body })
    }

    /// Its records as `R`, one by one. A record with a value that is not in its table is an error,
    /// and those after it are read nevertheless. Only a record whose end is unknown ends them.
    pub fn records<R: Record>(&self) -> Result<Records<'a, R>, Malformed> {
        // An empty page has no record whose length could be wrong.
        if self.count > 0 && usize::from(self.record_len) != R::BYTES.unwrap_or(0) {
            return Err(Malformed::Record);
        }
        let least = R::BYTES.unwrap_or(size_of::<TerminalStateBytes>());
        if usize::from(self.count) * least > PAGE_BYTES {
            return Err(Malformed::Page);
        }
        Ok(Records { rest: self.body, left: self.count, record: PhantomData })
    }
}

/// The records of a page.
#[derive(Clone, Debug)]
pub struct Records<'a, R> {
    rest: &'a [u8],
    left: u16,
    record: PhantomData<R>,
}

impl<R> Records<'_, R> {
    /// The first two numbers of the next record: they tell what a record with a bad value is about.
    /// None after the last record.
    pub fn numbers(&self) -> Option<(u64, u64)> {
        let ([one, two], _) = <[U64; 2]>::ref_from_prefix(self.rest).ok().filter(|_| self.left > 0)?;
        Some((one.get(), two.get()))
    }
}

impl<R: Record> Iterator for Records<'_, R> {
    type Item = Result<R, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        match R::read(self.rest) {
            Ok((record, rest)) => {
                self.rest = rest;
                Some(record)
            }
            Err(cut) => {
                self.left = 0;
                Some(Err(cut))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left.into()))
    }
}

impl<R: Record> std::iter::FusedIterator for Records<'_, R> {}

/// A record of fixed length, through its zerocopy layout.
macro_rules! fixed_record {
    ($record:ident, $layout:ident, $bytes:literal, $per_page:literal,
     |$l:ident| $read:expr, |$r:ident| $write:expr) => {
        const _: () = assert!(size_of::<$layout>() == $bytes && PAGE_BYTES / $bytes == $per_page);

        impl $layout {
            fn record(&self) -> Result<$record, Malformed> {
                let $l = self;
                Ok($read)
            }
        }

        impl Record for $record {
            const BYTES: Option<usize> = Some($bytes);
            const PER_PAGE: usize = $per_page;

            fn read(bytes: &[u8]) -> Result<(Result<Self, Malformed>, &[u8]), Malformed> {
                let (layout, rest) = $layout::ref_from_prefix(bytes).map_err(|_| Malformed::Record)?;
                Ok((layout.record(), rest))
            }

            fn write(&self, bytes: &mut [u8]) -> Option<usize> {
                let $r = self;
                $write.write_to_prefix(bytes).ok()?;
                Some($bytes)
            }
        }
    };
}

/// INFO: one meeting as its autonomous server holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are those of docs/wire.md's MeetingSummary")]
pub struct MeetingSummary {
    pub meeting: MeetingId,
    /// Counts the changes to it at this server.
    pub version: u64,
    /// Under which epoch it was taken last.
    pub controller: Epoch,
    pub state: MeetingState,
    pub level: Level,
    /// Members in this domain.
    pub participants: u16,
    pub layout: Layout,
    /// Its chairman; [`Address`] 0 where there is none.
    pub chairman: Address,
    pub run: Run,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct MeetingSummaryBytes {
    meeting: U64,
    version: U64,
    controller: U64,
    state: u8,
    level: u8,
    participants: U16,
    layout: u8,
    zero: [u8; 3],
    chairman: U64,
    run: U64,
}

fixed_record!(
    MeetingSummary,
    MeetingSummaryBytes,
    48,
    21,
    |l| MeetingSummary {
        meeting: MeetingId(l.meeting.get()),
        version: l.version.get(),
        controller: Epoch(l.controller.get()),
        state: MeetingState::from_wire(l.state).ok_or(Malformed::Value)?,
        level: Level::new(l.level).ok_or(Malformed::Value)?,
        participants: l.participants.get(),
        layout: Layout::new(l.layout).ok_or(Malformed::Value)?,
        chairman: Address::from_number(l.chairman.get()),
        run: Run(l.run.get()),
    },
    |r| MeetingSummaryBytes {
        meeting: U64::new(r.meeting.0),
        version: U64::new(r.version),
        controller: U64::new(r.controller.0),
        state: r.state.wire(),
        level: r.level.number(),
        participants: U16::new(r.participants),
        layout: r.layout.windows(),
        zero: [0; 3],
        chairman: U64::new(r.chairman.number()),
        run: U64::new(r.run.0),
    }
);

/// TAKEOVER_BATCH: one meeting asked for, and the version that we know of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are those of docs/wire.md's TakeoverEntry")]
pub struct TakeoverEntry {
    pub meeting: MeetingId,
    pub version: u64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TakeoverEntryBytes {
    meeting: U64,
    version: U64,
}

fixed_record!(
    TakeoverEntry,
    TakeoverEntryBytes,
    16,
    63,
    |l| TakeoverEntry { meeting: MeetingId(l.meeting.get()), version: l.version.get() },
    |r| TakeoverEntryBytes { meeting: U64::new(r.meeting.0), version: U64::new(r.version) }
);

/// TAKEOVER_BATCH_ACK: what became of one entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are those of docs/wire.md's TakeoverResult")]
pub struct TakeoverResult {
    pub meeting: MeetingId,
    /// OK, ALREADY, or why not.
    pub status: Status,
    /// What it is in at the autonomous server.
    pub state: MeetingState,
    /// Members in this domain.
    pub participants: u16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct TakeoverResultBytes {
    meeting: U64,
    status: u8,
    state: u8,
    participants: U16,
    zero: [u8; 4],
}

fixed_record!(
    TakeoverResult,
    TakeoverResultBytes,
    16,
    63,
    |l| TakeoverResult {
        meeting: MeetingId(l.meeting.get()),
        status: Status::from_wire(l.status).ok_or(Malformed::Value)?,
        state: MeetingState::from_wire(l.state).ok_or(Malformed::Value)?,
        participants: l.participants.get(),
    },
    |r| TakeoverResultBytes {
        meeting: U64::new(r.meeting.0),
        status: r.status.wire(),
        state: r.state.wire(),
        participants: U16::new(r.participants),
        zero: [0; 4],
    }
);

/// How two domains stand to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum LinkKind {
    /// Towards the root.
    Parent = 0,
    /// Away from the root.
    Child = 1,
    /// Beside.
    Peer = 2,
}

/// TOPOLOGY: one link of the domain that answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// At its other end.
    pub domain: Domain,
    /// The label of its path.
    pub label: u16,
    /// The lower the better.
    pub cost: u16,
    /// How the other end stands to this one.
    pub kind: LinkKind,
    /// Whether it carries frames.
    pub up: bool,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct LinkBytes {
    domain: U64,
    label: U16,
    cost: U16,
    kind: u8,
    state: u8,
    zero: [u8; 2],
}

fixed_record!(
    Link,
    LinkBytes,
    16,
    63,
    |l| Link {
        domain: Domain::new(l.domain.get()).ok_or(Malformed::Value)?,
        label: l.label.get(),
        cost: l.cost.get(),
        kind: match l.kind {
            0 => LinkKind::Parent,
            1 => LinkKind::Child,
            2 => LinkKind::Peer,
            _ => return Err(Malformed::Value),
        },
        up: match l.state {
            0 => false,
            1 => true,
            _ => return Err(Malformed::Value),
        },
    },
    |r| LinkBytes {
        domain: U64::new(r.domain.number()),
        label: U16::new(r.label),
        cost: U16::new(r.cost),
        kind: r.kind as u8,
        state: r.up.into(),
        zero: [0; 2],
    }
);

/// REPORT_ACK_BATCH: one terminal's report, acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are those of docs/wire.md's ReportAck")]
pub struct ReportAck {
    pub terminal: Address,
    /// The last version that this acknowledges.
    pub version: u32,
    /// OK, or why not.
    pub status: Status,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ReportAckBytes {
    terminal: U64,
    version: U32,
    status: u8,
    zero: [u8; 3],
}

fixed_record!(
    ReportAck,
    ReportAckBytes,
    16,
    63,
    |l| ReportAck {
        terminal: Address::from_number(l.terminal.get()),
        version: l.version.get(),
        status: Status::from_wire(l.status).ok_or(Malformed::Value)?,
    },
    |r| ReportAckBytes {
        terminal: U64::new(r.terminal.number()),
        version: U32::new(r.version),
        status: r.status.wire(),
        zero: [0; 3],
    }
);
