//! Writing a snapshot, segment after segment, while the table is in use.
//!
//! No writer is stopped: each record is read as by any reader. So it is not one instant of the
//! table, and a part can change between the reading of its record and of its members. Such a part
//! is written as in doubt, for its version would stand for members that it did not have.

use std::collections::BTreeSet;

use rkyv::rancor;

use super::header::{ALIGNMENT, FOOTER, HEADER_BYTES, Head, SnapshotFault};
use super::records::{Directory, Segment, SegmentRecord};
use crate::table::{Cursor, Part, Table, Terminal};
use crate::wire::{Domain, Level};

/// Parts of a segment, at most.
const PARTS: usize = 1024;
/// A segment that has so many members gets no further part.
const MEMBERS: usize = 8192;

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "counts of what it holds")]
pub struct Written {
    pub head: Head,
    pub parts: u64,
    pub terminals: u64,
}

/// Gives the bytes of a table's snapshot to `append`, from the header on, in pieces. The header is
/// zeros, which no snapshot begins with: what it is, is known at the end, and given back to be put
/// there.
pub(in crate::table) fn write(
    table: &Table,
    append: &mut dyn FnMut(&[u8]) -> Result<(), SnapshotFault>,
) -> Result<(Written, [u8; HEADER_BYTES]), SnapshotFault> {
    append(&[0; HEADER_BYTES])?;
    let mut writing = Writing { append, at: HEADER_BYTES, open: Segment::default(), place: None, segments: Vec::new() };
    let domains: BTreeSet<Domain> = table.parts().map(|part| part.domain).collect();
    let mut parts = Vec::with_capacity(PARTS);
    for domain in domains {
        let mut cursor = Cursor::default();
        loop {
            let more = table.walk_by_level(domain, &mut cursor, |_, part| {
                parts.push(part);
                parts.len() < PARTS
            });
            parts.sort_unstable_by_key(|part: &Part| (part.level, part.meeting));
            for part in parts.drain(..) {
                if let Some((part, members)) = settled(table, &part) {
                    writing.add(&part, &members)?;
                }
            }
            if !more {
                break;
            }
        }
    }
    writing.end(table)
}

/// The bytes of a table's snapshot, for tests and simulations.
///
/// # Errors
/// It is too large.
pub fn bytes_of(table: &Table) -> Result<Vec<u8>, SnapshotFault> {
    let mut bytes = Vec::new();
    let (_, head) = write(table, &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    bytes[..HEADER_BYTES].copy_from_slice(&head);
    Ok(bytes)
}

/// A part and its members, which were read after it. It is in doubt where it was, or where it is
/// another one afterwards; none where it is gone.
fn settled(table: &Table, part: &Part) -> Option<(Part, Vec<Terminal>)> {
    let mut members: Vec<Terminal> = table.members(part.meeting, part.domain).collect();
    let mut again = table.part(part.meeting, part.domain)?;
    members.sort_unstable_by_key(|member| member.terminal);
    again.in_doubt |= again != *part || members.len() != usize::from(again.participants);
    Some((again, members))
}

struct Writing<'a> {
    append: &'a mut dyn FnMut(&[u8]) -> Result<(), SnapshotFault>,
    /// Bytes so far.
    at: usize,
    /// Not written yet.
    open: Segment,
    /// Domain and level of `open`.
    place: Option<(Domain, Level)>,
    segments: Vec<SegmentRecord>,
}

impl Writing<'_> {
    fn add(&mut self, part: &Part, members: &[Terminal]) -> Result<(), SnapshotFault> {
        let place = (part.domain, part.level);
        let is_full = self.open.parts.len() >= PARTS || self.open.members.len() >= MEMBERS;
        if is_full || self.place != Some(place) {
            self.close()?;
            self.place = Some(place);
        }
        self.open.add(part, members);
        Ok(())
    }

    /// Writes the open segment.
    fn close(&mut self) -> Result<(), SnapshotFault> {
        let Some((domain, level)) = self.place.take() else { return Ok(()) };
        let archive = rkyv::to_bytes::<rancor::Error>(&self.open).map_err(too_large)?;
        let digest = self.put(&archive)?;
        self.segments.push(SegmentRecord {
            digest,
            length: archive.len() as u64,
            domain: domain.number(),
            parts: self.open.parts.len() as u32,
            members: self.open.members.len() as u32,
            level: level.number(),
        });
        self.open.clear();
        Ok(())
    }

    /// Writes an archive and zeros behind it; gives the digest of both.
    fn put(&mut self, archive: &[u8]) -> Result<[u8; 32], SnapshotFault> {
        let zeros = &[0; ALIGNMENT][..archive.len().next_multiple_of(ALIGNMENT) - archive.len()];
        (self.append)(archive)?;
        (self.append)(zeros)?;
        self.at += archive.len() + zeros.len();
        Ok(*blake3::Hasher::new().update(archive).update(zeros).finalize().as_bytes())
    }

    fn end(mut self, table: &Table) -> Result<(Written, [u8; HEADER_BYTES]), SnapshotFault> {
        self.close()?;
        let capacity = table.capacity();
        let sum = |count: fn(&SegmentRecord) -> u32| self.segments.iter().map(|record| u64::from(count(record))).sum();
        let (parts, terminals) = (sum(|record| record.parts), sum(|record| record.members));
        let directory = Directory {
            boot_id: table.boot_id().0,
            epoch: table.epoch().0,
            generation_end: table.generation_end(),
            meetings: capacity.meetings,
            terminals: capacity.terminals,
            segments: self.segments,
        };
        let archive = rkyv::to_bytes::<rancor::Error>(&directory).map_err(too_large)?;
        let length = (archive.len() as u64).to_le_bytes();
        (self.append)(&archive)?;
        (self.append)(&length)?;
        let digest = *blake3::Hasher::new().update(&archive).update(&length).finalize().as_bytes();
        let head = Head::ours((self.at + archive.len() + FOOTER) as u64, digest);
        Ok((Written { head, parts, terminals }, head.encode()))
    }
}

fn too_large(error: rancor::Error) -> SnapshotFault {
    SnapshotFault::TooLarge(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::table::tests::file::{Folder, furnished};
    use crate::table::{OwnerId, archive::Archive};
    use crate::wire::{MeetingId, Role};

    fn domain(number: u64) -> Domain {
        Domain::new(number).unwrap()
    }

    #[test]
    fn a_part_that_changes_while_its_members_are_read_is_in_doubt() {
        let folder = Folder::new();
        let table = furnished(&folder.file("table"));
        let before = table.part(MeetingId(1), domain(2)).unwrap();
        let (same, members) = settled(&table, &before).unwrap();
        assert_eq!((same, members.len()), (before, 6));
        let mut control = Arc::clone(&table).writer(OwnerId::CONTROL);
        control.update_part(MeetingId(1), domain(2), |part| part.version += 1).unwrap();
        let (changed, _) = settled(&table, &before).unwrap();
        assert_eq!((changed.version, changed.in_doubt), (before.version + 1, true));
        // Nobody counted it up, and there are more members all the same.
        let before = table.part(MeetingId(1), domain(2)).unwrap();
        let member = Terminal::new(domain(2).device(99), MeetingId(1), Role::Participant);
        control.join(MeetingId(1), domain(2), &member).unwrap();
        let (joined, members) = settled(&table, &before).unwrap();
        assert_eq!((joined.in_doubt, joined.participants, members.len()), (true, 7, 7));
        control.remove_part(MeetingId(1), domain(2)).unwrap();
        assert_eq!(settled(&table, &before), None);
    }

    /// Every digest fits, for it was made so.
    #[test]
    fn what_no_table_holds_is_refused_though_it_is_whole() {
        let member = |role: u8| {
            let mut segment = Segment::default();
            let folder = Folder::new();
            let table = furnished(&folder.file("table"));
            let part = table.part(MeetingId(1), domain(2)).unwrap();
            let members: Vec<_> = table.members(MeetingId(1), domain(2)).collect();
            segment.add(&part, &members);
            segment.break_role(role);
            segment
        };
        let refused = [member(9), {
            let mut segment = member(0);
            segment.break_count();
            segment
        }];
        for segment in refused {
            let bytes = std::cell::RefCell::new(Vec::new());
            let mut append = |piece: &[u8]| {
                bytes.borrow_mut().extend_from_slice(piece);
                Ok(())
            };
            append(&[0; HEADER_BYTES]).unwrap();
            let place = Some((domain(2), Level::HIGHEST));
            let writing = Writing { append: &mut append, at: HEADER_BYTES, open: segment, place, segments: Vec::new() };
            let (_, head) = writing.end(&Table::on_heap(crate::table::Capacity { meetings: 1, terminals: 1 })).unwrap();
            let mut bytes = bytes.into_inner();
            bytes[..HEADER_BYTES].copy_from_slice(&head);
            let archive = Archive::open(crate::sys::file_bytes::FileBytes::heap(&bytes)).unwrap();
            let error = archive.segment(0).unwrap_err();
            assert!(matches!(error, SnapshotFault::Content(_)), "{error}");
        }
    }
}
