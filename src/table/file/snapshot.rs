//! Snapshots: the table as an immutable archive on disk, to warm the next table after a reboot or a
//! change of layout.
//!
//! ```text
//! magic 8 │ version 4 │ zero 4 │ layout hash 8 │ length 8 │ BLAKE3 of the archive 32 │ rkyv archive
//! ```
//!
//! The header comes first and never changes its shape, so any version of Baton can say what it
//! cannot read. All is little-endian. A snapshot is written beside its place, made durable, and
//! renamed: what is there is whole, old or new. Beside it each process has a file of its own, for
//! an engine that was followed may be writing its last while its successor writes the first.
//!
//! Taking one stops nobody: each record is read as any reader does. It is not one instant of the
//! table, and need not be: what changed while it was taken, the autonomous servers say again in the
//! update.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize, rancor};

pub use super::export::{Head, head, write_by_hand};

use crate::sys::mapping::BootId;
use crate::table::{Capacity, Part, Table, TableError, Terminal, Writer};
use crate::wire::{
    Address, Business, Decode, Domain, Epoch, Flags, Layout, Level, MeetingId, MeetingState, Role, Run, StreamKind,
};

pub(super) const MAGIC: [u8; 8] = *b"BATONSNP";
pub(crate) const VERSION: u32 = 1;
/// Counted up with each change to [`Contents`]'s fields.
pub(crate) const LAYOUT_HASH: u64 = crate::wire::mix(u64::from_le_bytes(MAGIC) ^ 2);
pub(super) const HEADER_BYTES: usize = 64;
/// Nobody writes a snapshot for as long.
const LEFT_AFTER: Duration = Duration::from_secs(600);

/// What a table held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// Under which boot.
    pub boot_id: BootId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// The end of the block of generations that it had.
    pub generation_end: u32,
    /// Its capacity.
    pub capacity: Capacity,
    /// Its parts, each with its members, in the order of meetings and domains.
    pub parts: Vec<(Part, Vec<Terminal>)>,
}

/// Why a snapshot was not written or not read. One that was there is as it was.
#[derive(Debug, thiserror::Error)]
#[error("snapshot {}: {what}", path.display())]
pub struct SnapshotError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub what: SnapshotFault,
}

/// What is wrong with a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFault {
    /// The kernel refused a step.
    #[error("cannot {step}: {error}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// It does not begin as one.
    #[error("this is not a snapshot of Baton's")]
    NotASnapshot,
    /// Another version wrote it.
    #[error(
        "it is of version {version}, layout {layout:016x}; this program reads version {VERSION}, layout \
             {LAYOUT_HASH:016x}"
    )]
    OtherVersion {
        /// As it says.
        version: u32,
        /// As it says.
        layout: u64,
    },
    /// It is shorter or longer than it says.
    #[error("it should be {expected} bytes long and is {found}: it was cut, or something was added")]
    Length {
        /// As its header says.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// Its bytes do not fit its digest.
    #[error("it is damaged: its bytes do not fit its digest")]
    Digest,
    /// It was written whole, and holds what no table holds.
    #[error("it holds what no table holds: {0}")]
    Content(String),
    /// There is more of it than an archive holds.
    #[error("the table is too large for an archive: {0}")]
    TooLarge(String),
}

/// What was put back into a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Parts.
    pub parts: u32,
    /// Terminals.
    pub terminals: u32,
    /// Parts and terminals that the table had already, or that another meeting has.
    pub known: u32,
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct Contents {
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
            // Whatever it is put back into, all of it is in doubt there.
            part.in_doubt = false;
        }
        Self {
            boot_id: table.boot_id(),
            epoch: table.epoch(),
            generation_end: table.generation_end(),
            capacity: table.capacity(),
            parts,
        }
    }

    /// Puts it into a table, beside what that holds: what is there is newer, and stays. Epoch and
    /// reservation are the database's to say, and are left. Stops where the table is full.
    pub fn restore(&self, writer: &mut Writer) -> Result<Restored, TableError> {
        let mut restored = Restored::default();
        for (part, members) in &self.parts {
            match writer.insert_part(&Part { in_doubt: true, ..*part }) {
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

    pub(super) fn archive(&self) -> Contents {
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
            info: terminal.info().to_vec(),
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
        terminal.set_info(&self.info);
        Some(terminal)
    }
}

/// Writes a snapshot of a table, durably, in the place of the last one. Gives its length in bytes.
pub fn write(table: &Table, path: &Path) -> Result<u64, SnapshotError> {
    write_snapshot(&Snapshot::of(table), path).map_err(|what| SnapshotError { path: path.to_owned(), what })
}

/// Reads a snapshot. The file is not changed.
pub fn read(path: &Path) -> Result<Snapshot, SnapshotError> {
    read_snapshot(path).map_err(|what| SnapshotError { path: path.to_owned(), what })
}

fn write_snapshot(snapshot: &Snapshot, path: &Path) -> Result<u64, SnapshotFault> {
    sweep(path);
    write_to(&mut Files(None), snapshot, path)
}

/// Removes what processes that were killed as they wrote have left beside the snapshot: what nobody
/// has written to for long. That it could not be is no reason to write none.
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

pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where this process writes what is to be at this path.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    beside.into()
}

/// What writing a snapshot asks of a file system: steps between which the power may go.
pub(in crate::table) trait Place {
    /// A new empty file, in the place of what has that name.
    fn create(&mut self, path: &Path) -> io::Result<()>;
    /// Puts bytes behind those that the file has.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what the file holds durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Gives a file another's name.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a folder's names durable.
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()>;
}

/// The file system, and the file that is being written.
struct Files(Option<File>);

impl Files {
    fn file(&mut self) -> io::Result<&mut File> {
        self.0.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Place for Files {
    fn create(&mut self, path: &Path) -> io::Result<()> {
        // Unlinked and not emptied: where a power cut tore a rename, it is the last snapshot's
        // other name.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.0 = Some(File::create_new(path)?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file()?.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file()?.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

pub(in crate::table) fn write_to(
    place: &mut impl Place,
    snapshot: &Snapshot,
    path: &Path,
) -> Result<u64, SnapshotFault> {
    let archive = rkyv::to_bytes::<rancor::Error>(&snapshot.archive())
        .map_err(|error| SnapshotFault::TooLarge(error.to_string()))?;
    let beside = beside(path);
    place.create(&beside).map_err(failed("create the file beside it"))?;
    let written = place.write(&header(&archive)).and_then(|()| place.write(&archive));
    written.map_err(failed("write it"))?;
    place.sync().map_err(failed("make it durable"))?;
    place.rename(&beside, path).map_err(failed("put it in its place"))?;
    // The name is durable with its folder.
    place.sync_folder(folder_of(path)).map_err(failed("make its name durable"))?;
    Ok((HEADER_BYTES + archive.len()) as u64)
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
