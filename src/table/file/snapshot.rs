//! Snapshots: the table as an immutable archive on disk, to warm the next table after a reboot or a
//! change of layout.
//!
//! ```text
//! magic 8 │ version 4 │ zero 4 │ layout hash 8 │ length 8 │ BLAKE3 of the archive 32 │ rkyv archive
//! ```
//!
//! The header comes first and never changes its shape, so any version of Baton can say what it
//! cannot read. All is little-endian. A snapshot is written beside its place, made durable, and
//! renamed: the file is whole, old or new. Each process writes a file of its own there, because an
//! engine may still be writing its last snapshot while its successor writes the first.
//!
//! Taking one stops no writer: each record is read as by any reader. It is not one instant of the
//! table, and need not be: the autonomous servers report what changed meanwhile in the update.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize, rancor};

use crate::sys::durable::{self, Existing, FileSystem, Files, ReplaceError, beside, folder_of};
use crate::sys::mapping::BootId;
use crate::table::{Capacity, Part, Table, TableError, Terminal, Writer};
use crate::wire::{
    Address, Business, Decode, Domain, Epoch, Flags, Info, Layout, Level, MeetingId, MeetingState, Role, Run,
    StreamKind,
};

pub(super) const MAGIC: [u8; 8] = *b"BATONSNP";
pub(crate) const VERSION: u32 = 1;
/// Counted up with each change to [`Contents`]'s fields.
pub(crate) const LAYOUT_HASH: u64 = crate::wire::mix(u64::from_le_bytes(MAGIC) ^ 2);
pub(super) const HEADER_BYTES: usize = 64;
/// No snapshot takes as long to write: an older file was left by a killed process.
const LEFT_AFTER: Duration = Duration::from_secs(600);

/// What a table held.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "as the methods of [`Table`] of these names document them")]
pub struct Snapshot {
    pub boot_id: BootId,
    pub epoch: Epoch,
    pub generation_end: u32,
    pub capacity: Capacity,
    /// Its parts, each with its members, in the order of meetings and domains.
    pub parts: Vec<(Part, Vec<Terminal>)>,
}

/// Why a snapshot was not written or not read. An existing one is unchanged.
#[derive(Debug, thiserror::Error)]
#[error("snapshot {}: {what}", path.display())]
#[expect(missing_docs, reason = "the file, and what is wrong with it")]
pub struct SnapshotError {
    pub path: PathBuf,
    pub what: SnapshotFault,
}

/// What is wrong with a snapshot.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum SnapshotFault {
    /// The kernel refused a step.
    #[error("cannot {step}: {error}")]
    Io { step: &'static str, error: io::Error },
    /// It does not begin like a snapshot.
    #[error("this is not a snapshot of Baton's")]
    NotASnapshot,
    /// Another version wrote it.
    #[error(
        "it is of version {version}, layout {layout:016x}; this program reads version {VERSION}, layout \
             {LAYOUT_HASH:016x}"
    )]
    OtherVersion { version: u32, layout: u64 },
    /// It is shorter or longer than it says.
    #[error("it should be {expected} bytes long and is {found}: it was cut, or something was added")]
    Length { expected: u64, found: u64 },
    /// Its bytes do not match its digest.
    #[error("it is damaged: its bytes do not fit its digest")]
    Digest,
    /// It was written whole, and holds what no table holds.
    #[error("it holds what no table holds: {0}")]
    Content(String),
    /// There is more than an archive holds.
    #[error("the table is too large for an archive: {0}")]
    TooLarge(String),
}

impl From<ReplaceError> for SnapshotFault {
    fn from(ReplaceError { step, error }: ReplaceError) -> Self {
        Self::Io { step, error }
    }
}

/// What was put back into a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "counts of what was added")]
pub struct Restored {
    pub parts: u32,
    pub terminals: u32,
    /// Parts and terminals that the table had already, and terminals that another meeting has.
    pub known: u32,
}

#[derive(Archive, Serialize, Deserialize)]
struct Contents {
    boot_id: u128,
    epoch: u64,
    generation_end: u32,
    meetings: u32,
    terminals: u32,
    parts: Vec<ArchivedPart>,
}

#[derive(Archive, Serialize, Deserialize)]
#[rkyv(archived = PartArchive)]
struct ArchivedPart {
    meeting: u64,
    domain: u64,
    version: u64,
    epoch: u64,
    chairman: u64,
    run: u64,
    state: u8,
    level: u8,
    layout: u8,
    members: Vec<ArchivedTerminal>,
}

#[derive(Archive, Serialize, Deserialize)]
#[rkyv(archived = TerminalArchive)]
struct ArchivedTerminal {
    terminal: u64,
    version: u32,
    business: u8,
    decode: u8,
    role: u8,
    flags: u8,
    channel: u8,
    stream: u8,
    window: u8,
    info: Vec<u8>,
}

impl Snapshot {
    /// What a table holds now.
    pub fn of(table: &Table) -> Self {
        let mut parts: Vec<_> =
            table.parts().map(|part| (part, table.members(part.meeting, part.domain).collect::<Vec<_>>())).collect();
        parts.sort_by_key(|(part, _)| (part.meeting, part.domain));
        for (part, members) in &mut parts {
            members.sort_by_key(|member| member.terminal);
            part.participants = members.len() as u16;
            // Wherever it is restored, all of it is in doubt and to be listed.
            (part.in_doubt, part.is_unlisted) = (false, false);
        }
        Self {
            boot_id: table.boot_id(),
            epoch: table.epoch(),
            generation_end: table.generation_end(),
            capacity: table.capacity(),
            parts,
        }
    }

    /// Adds its content to a table. What the table has already is newer, and stays. Epoch and
    /// reservation come from the database, and are not restored. Stops if the table is full.
    pub fn restore(&self, writer: &mut Writer) -> Result<Restored, TableError> {
        let mut restored = Restored::default();
        for (part, members) in &self.parts {
            match writer.insert_part(&Part { in_doubt: true, is_unlisted: true, ..*part }) {
                Ok(()) => restored.parts += 1,
                Err(TableError::Exists) => restored.known += 1,
                Err(error) => return Err(error),
            }
            for member in members {
                match writer.join(part.meeting, part.domain, member) {
                    Ok(()) => restored.terminals += 1,
                    Err(TableError::Exists | TableError::Conflict(_)) => restored.known += 1,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(restored)
    }

    fn archive(&self) -> Contents {
        Contents {
            boot_id: self.boot_id.0,
            epoch: self.epoch.0,
            generation_end: self.generation_end,
            meetings: self.capacity.meetings,
            terminals: self.capacity.terminals,
            parts: self.parts.iter().map(|(part, members)| ArchivedPart::of(part, members)).collect(),
        }
    }

    fn from_archive(archive: &ArchivedContents) -> Result<Self, String> {
        Ok(Self {
            boot_id: BootId(archive.boot_id.into()),
            epoch: Epoch(archive.epoch.into()),
            generation_end: archive.generation_end.into(),
            capacity: Capacity { meetings: archive.meetings.into(), terminals: archive.terminals.into() },
            parts: archive.parts.iter().map(PartArchive::read).collect::<Result<_, _>>()?,
        })
    }
}

impl ArchivedPart {
    fn of(part: &Part, members: &[Terminal]) -> Self {
        Self {
            meeting: part.meeting.0,
            domain: part.domain.number(),
            version: part.version,
            epoch: part.epoch.0,
            chairman: part.chairman.number(),
            run: part.run.0,
            state: part.state.wire(),
            level: part.level.number(),
            layout: part.layout.windows(),
            members: members.iter().map(ArchivedTerminal::of).collect(),
        }
    }
}

impl PartArchive {
    fn read(&self) -> Result<(Part, Vec<Terminal>), String> {
        let meeting = MeetingId(self.meeting.into());
        let wrong = |what| format!("{meeting:?} has {what}");
        let members: Vec<Terminal> = self
            .members
            .iter()
            .map(|member| member.read(meeting))
            .collect::<Option<_>>()
            .ok_or(wrong("a member of no kind"))?;
        let part = Part {
            meeting,
            domain: Domain::new(self.domain.into()).ok_or(wrong("a part in no domain"))?,
            version: self.version.into(),
            epoch: Epoch(self.epoch.into()),
            state: MeetingState::from_wire(self.state).ok_or(wrong("no state"))?,
            level: Level::new(self.level).ok_or(wrong("no level"))?,
            layout: Layout::new(self.layout).ok_or(wrong("no layout"))?,
            participants: u16::try_from(members.len()).map_err(|_| wrong("too many members"))?,
            chairman: Address::from_number(self.chairman.into()),
            in_doubt: false,
            is_unlisted: false,
            run: Run(self.run.into()),
        };
        Ok((part, members))
    }
}

impl ArchivedTerminal {
    fn of(terminal: &Terminal) -> Self {
        Self {
            terminal: terminal.terminal.number(),
            version: terminal.version,
            business: terminal.business.wire(),
            decode: terminal.decode.wire(),
            role: terminal.role.wire(),
            flags: terminal.flags.0,
            channel: terminal.channel,
            stream: terminal.stream.wire(),
            window: terminal.window,
            info: terminal.info.to_vec(),
        }
    }
}

impl TerminalArchive {
    fn read(&self, meeting: MeetingId) -> Option<Terminal> {
        let address = Address::from_number(self.terminal.into());
        let mut terminal = Terminal::new(address, meeting, Role::from_wire(self.role)?);
        terminal.version = self.version.into();
        terminal.business = Business::from_wire(self.business)?;
        terminal.decode = Decode::from_wire(self.decode)?;
        terminal.flags = Flags(self.flags);
        terminal.channel = self.channel;
        terminal.stream = StreamKind::from_wire(self.stream)?;
        terminal.window = self.window;
        terminal.info = Info::new(&self.info);
        Some(terminal)
    }
}

/// Writes a snapshot of a table, durably, in the place of the last one. Returns its length in
/// bytes.
pub fn write(table: &Table, path: &Path) -> Result<u64, SnapshotError> {
    write_snapshot(&Snapshot::of(table), path).map_err(|what| SnapshotError { path: path.to_owned(), what })
}

/// Reads a snapshot. The file is not changed.
pub fn read(path: &Path) -> Result<Snapshot, SnapshotError> {
    read_snapshot(path).map_err(|what| SnapshotError { path: path.to_owned(), what })
}

fn write_snapshot(snapshot: &Snapshot, path: &Path) -> Result<u64, SnapshotFault> {
    sweep(path);
    write_to(&mut Files::default(), snapshot, path)
}

/// Removes the files that killed processes have left beside the snapshot: those not written to for
/// long. A failure to remove them is no reason to write no snapshot.
fn sweep(path: &Path) {
    let (Some(name), Ok(beside)) = (path.file_name().and_then(OsStr::to_str), fs::read_dir(folder_of(path))) else {
        return;
    };
    for entry in beside.flatten() {
        let found = entry.file_name();
        let left =
            found.to_str().is_some_and(|found| found.starts_with(&format!("{name}.")) && found.ends_with(".new"));
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if left && age().is_some_and(|age| age >= LEFT_AFTER) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Writes a snapshot on this file system. Gives its length in bytes.
pub(in crate::table) fn write_to(
    files: &mut impl FileSystem,
    snapshot: &Snapshot,
    path: &Path,
) -> Result<u64, SnapshotFault> {
    let archive = to_archive(snapshot)?;
    durable::replace(files, path, &beside(path), Existing::Replaced, &[&header(&archive), &archive])?;
    Ok((HEADER_BYTES + archive.len()) as u64)
}

pub(super) fn to_archive(snapshot: &Snapshot) -> Result<AlignedVec, SnapshotFault> {
    rkyv::to_bytes::<rancor::Error>(&snapshot.archive()).map_err(|error| SnapshotFault::TooLarge(error.to_string()))
}

pub(super) fn header(archive: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&LAYOUT_HASH.to_le_bytes());
    header[24..32].copy_from_slice(&(archive.len() as u64).to_le_bytes());
    header[32..].copy_from_slice(blake3::hash(archive).as_bytes());
    header
}

fn read_snapshot(path: &Path) -> Result<Snapshot, SnapshotFault> {
    parse(&fs::read(path).map_err(failed("read it"))?)
}

pub(in crate::table) fn parse(bytes: &[u8]) -> Result<Snapshot, SnapshotFault> {
    let (head, archive) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(SnapshotFault::NotASnapshot)?;
    if head[..8] != MAGIC {
        return Err(SnapshotFault::NotASnapshot);
    }
    let [version, layout, length] =
        [8, 16, 24].map(|at| u64::from_le_bytes(*head[at..].first_chunk().unwrap_or(&[0; 8])));
    if version != u64::from(VERSION) || layout != LAYOUT_HASH {
        return Err(SnapshotFault::OtherVersion { version: version as u32, layout });
    }
    if length != archive.len() as u64 {
        let expected = length.saturating_add(HEADER_BYTES as u64);
        return Err(SnapshotFault::Length { expected, found: bytes.len() as u64 });
    }
    if head[32..] != *blake3::hash(archive).as_bytes() {
        return Err(SnapshotFault::Digest);
    }
    let mut aligned = AlignedVec::<16>::with_capacity(archive.len());
    aligned.extend_from_slice(archive);
    let archive = rkyv::access::<ArchivedContents, rancor::Error>(&aligned)
        .map_err(|error| SnapshotFault::Content(error.to_string()))?;
    Snapshot::from_archive(archive).map_err(SnapshotFault::Content)
}

pub(super) fn failed(step: &'static str) -> impl FnOnce(io::Error) -> SnapshotFault {
    move |error| SnapshotFault::Io { step, error }
}
