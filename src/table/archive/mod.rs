//! The table's content as bytes that are read where they lie: what a snapshot is.
//!
//! ```text
//! header │ segment │ segment │ … │ directory │ its length 8
//! header: magic 8 │ version 4 │ zero 4 │ layout hash 8 │ length of the rest 8 │ BLAKE3 of the directory 32
//! ```
//!
//! The header comes first and never changes its shape, so any version of Baton can say what it
//! cannot read. A segment is an archive of a bounded number of parts with their members, so that
//! writing needs memory for one segment and reading for none, whatever the table's size. Each is of
//! one domain and one level, so that those of a domain can be read with level 1 first. The
//! directory says where each is and what its digest is; the header's digest is the directory's, and
//! covers so all of it. All is little-endian.
//!
//! What always holds of an [`Archive`]: its directory is whole, and what a segment gives was
//! checked: by its digest, and value by value. Nothing in the bytes can make this module panic or
//! read outside of them.

mod header;
mod records;
mod write;

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rkyv::rancor;

use self::header::{ALIGNMENT, FOOTER};
use self::records::{DirectoryView, PartView, SegmentView};
use super::{Capacity, Part, Table, Terminal};
use crate::sys::file_bytes::FileBytes;
use crate::sys::mapping::BootId;
use crate::wire::{Address, Domain, Epoch, Level};

pub(in crate::table) use header::HEADER_BYTES;
pub use header::{Head, SnapshotFault};
pub(crate) use header::{LAYOUT_HASH, VERSION};
pub(in crate::table) use write::write;
pub use write::{Written, bytes_of};

/// A snapshot, where it lies.
#[derive(Debug)]
pub struct Archive {
    bytes: FileBytes,
    head: Head,
    of: Whence,
    /// One for each thousand parts or so.
    segments: Vec<Place>,
}

/// What the table was, apart from what it held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "as the methods of [`super::Table`] of these names document them")]
pub struct Whence {
    pub boot_id: BootId,
    pub epoch: Epoch,
    pub generation_end: u32,
    pub capacity: Capacity,
    /// Parts and members in all.
    pub parts: u64,
    pub terminals: u64,
}

/// Where a segment is, and what the directory says of it.
#[derive(Debug)]
struct Place {
    domain: Domain,
    level: Level,
    /// With the zeros behind it.
    range: Range<usize>,
    /// Of the archive in it.
    length: usize,
    digest: [u8; 32],
    parts: u32,
    members: u32,
    is_checked: AtomicBool,
}

/// A segment that was checked.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    domain: Domain,
    level: Level,
    archive: &'a SegmentView,
}

/// A part in a segment.
#[derive(Clone, Copy, Debug)]
pub struct ArchivedPart<'a> {
    segment: Segment<'a>,
    record: &'a PartView,
}

impl Archive {
    /// Which file it is in, where it is in one.
    pub fn path(&self) -> Option<&Path> {
        self.bytes.path()
    }

    /// A snapshot in these bytes. Of the segments nothing is read yet.
    ///
    /// # Errors
    /// It is none, or none of this version, or not whole as far as was looked.
    pub fn open(bytes: FileBytes) -> Result<Self, SnapshotFault> {
        let all = bytes.as_slice();
        // Before the first look at them; the rest of the tail when it is known where it begins.
        for end in [0..all.len().min(HEADER_BYTES), all.len().saturating_sub(FOOTER)..all.len()] {
            bytes.fetch(end).map_err(unread)?;
        }
        let head = all.first_chunk::<HEADER_BYTES>().and_then(Head::parse).ok_or(SnapshotFault::NotASnapshot)?;
        if !head.is_ours() {
            return Err(SnapshotFault::OtherVersion { version: head.version, layout: head.layout });
        }
        if head.bytes != all.len() as u64 {
            return Err(SnapshotFault::Length { expected: head.bytes, found: all.len() as u64 });
        }
        let tail = tail(all).ok_or(SnapshotFault::Digest)?;
        bytes.fetch(tail.clone()).map_err(unread)?;
        if blake3::hash(&all[tail.clone()]) != blake3::Hash::from_bytes(head.digest) {
            return Err(SnapshotFault::Digest);
        }
        let directory = rkyv::access::<DirectoryView, rancor::Error>(&all[tail.start..tail.end - FOOTER])
            .map_err(|error| SnapshotFault::Content(error.to_string()))?;
        let segments = places(directory, tail.start).map_err(SnapshotFault::Content)?;
        let sum = |count: fn(&Place) -> u32| segments.iter().map(|place| u64::from(count(place))).sum();
        let of = Whence {
            boot_id: BootId(directory.boot_id.to_native()),
            epoch: Epoch(directory.epoch.to_native()),
            generation_end: directory.generation_end.to_native(),
            capacity: Capacity { meetings: directory.meetings.to_native(), terminals: directory.terminals.to_native() },
            parts: sum(|place| place.parts),
            terminals: sum(|place| place.members),
        };
        Ok(Self { bytes, head, of, segments })
    }

    /// A table's content now, on the heap, for tests and simulations.
    ///
    /// # Errors
    /// It is too large.
    pub fn of(table: &Table) -> Result<Self, SnapshotFault> {
        Self::open(FileBytes::heap(&bytes_of(table)?))
    }

    /// What its header says.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What it is a snapshot of.
    pub fn whence(&self) -> &Whence {
        &self.of
    }

    /// How many segments it has.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The first segment of a domain from this one on. They come with level 1 first.
    pub fn next_in(&self, domain: Domain, from: usize) -> Option<usize> {
        let places = self.segments.get(from..)?;
        places.iter().position(|place| place.domain == domain).map(|at| from + at)
    }

    /// A segment, which is checked when it is asked for first.
    ///
    /// # Errors
    /// It is damaged, or there is no such segment.
    pub fn segment(&self, number: usize) -> Result<Segment<'_>, SnapshotFault> {
        let content = |what: String| SnapshotFault::Content(what);
        let place = self.segments.get(number).ok_or_else(|| content("fewer segments than that".into()))?;
        // Relaxed: two threads that check the same do no harm, and what is checked never changes.
        let is_checked = place.is_checked.load(Ordering::Relaxed);
        if !is_checked {
            self.bytes.fetch(place.range.clone()).map_err(unread)?;
            if blake3::hash(&self.bytes.as_slice()[place.range.clone()]) != blake3::Hash::from_bytes(place.digest) {
                return Err(SnapshotFault::Digest);
            }
        }
        let bytes = &self.bytes.as_slice()[place.range.start..place.range.start + place.length];
        let archive = rkyv::access::<SegmentView, rancor::Error>(bytes).map_err(|error| content(error.to_string()))?;
        if !is_checked {
            let counts = (archive.parts.len(), archive.members.len());
            if counts != (place.parts as usize, place.members as usize) {
                return Err(content(format!("a segment of {counts:?} parts and members for {place:?}")));
            }
            if let Some(flaw) = archive.flaw(place.domain, place.level) {
                return Err(content(flaw));
            }
            place.is_checked.store(true, Ordering::Relaxed);
        }
        Ok(Segment { domain: place.domain, level: place.level, archive })
    }

    /// Calls `each` with every part.
    ///
    /// # Errors
    /// Some of it is damaged. What was given before is not.
    pub fn for_each(&self, mut each: impl FnMut(ArchivedPart<'_>)) -> Result<(), SnapshotFault> {
        for number in 0..self.segments() {
            let segment = self.segment(number)?;
            (0..segment.len()).filter_map(|at| segment.get(at)).for_each(&mut each);
        }
        Ok(())
    }
}

impl<'a> Segment<'a> {
    /// How many parts it has.
    pub fn len(&self) -> usize {
        self.archive.parts.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of its parts, counted from 0.
    pub fn get(&self, at: usize) -> Option<ArchivedPart<'a>> {
        self.archive.parts.get(at).map(|record| ArchivedPart { segment: *self, record })
    }
}

impl<'a> ArchivedPart<'a> {
    /// As it was in the table, with the number of its members. It was in doubt there, or changed
    /// while its members were read, where it is marked so. There is one, unless somebody has
    /// written to the file since the segment was checked.
    pub fn part(&self) -> Option<Part> {
        let Segment { domain, level, .. } = self.segment;
        self.record.part(domain, level)
    }

    /// One of its members.
    pub fn member(&self, terminal: Address) -> Option<Terminal> {
        let archive = self.segment.archive;
        let members = archive.members_of(self.record)?;
        let at = members.binary_search_by_key(&terminal, |member| member.address()).ok()?;
        archive.terminal(self.record.meeting(), &members[at])
    }

    /// Its members, by ascending address.
    pub fn members(&self) -> impl Iterator<Item = Terminal> + use<'a> {
        let (archive, meeting) = (self.segment.archive, self.record.meeting());
        let members = archive.members_of(self.record).unwrap_or(&[]);
        members.iter().filter_map(move |member| archive.terminal(meeting, member))
    }
}

/// The directory and its length, as far as it can be there.
fn tail(all: &[u8]) -> Option<Range<usize>> {
    let length = u64::from_le_bytes(*all.last_chunk::<FOOTER>()?);
    let length = usize::try_from(length).ok()?.checked_add(FOOTER)?;
    let start = all.len().checked_sub(length)?;
    (start >= HEADER_BYTES && start % ALIGNMENT == 0).then_some(start..all.len())
}

/// Where the segments are: one behind the other, from the header to the directory.
fn places(directory: &DirectoryView, end: usize) -> Result<Vec<Place>, String> {
    let mut at = HEADER_BYTES;
    let mut places = Vec::with_capacity(directory.segments.len());
    for record in directory.segments.iter() {
        let there = || {
            let length = usize::try_from(record.length.to_native()).ok()?;
            let range = at..at.checked_add(length.checked_next_multiple_of(ALIGNMENT)?).filter(|&to| to <= end)?;
            Some(Place {
                domain: Domain::new(record.domain.to_native())?,
                level: Level::new(record.level)?,
                range,
                length,
                digest: record.digest,
                parts: record.parts.to_native(),
                members: record.members.to_native(),
                is_checked: AtomicBool::new(false),
            })
        };
        let place = there().ok_or("a segment in no place, or of no domain or level")?;
        at = place.range.end;
        places.push(place);
    }
    if at == end { Ok(places) } else { Err("bytes of no segment".into()) }
}

fn unread(error: std::io::Error) -> SnapshotFault {
    SnapshotFault::Io { step: "read it", error }
}
