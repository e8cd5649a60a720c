//! Changing a table's capacity, or bringing over one of the version before: a new file with the old
//! one's content replaces it.
//!
//! What always holds: the table's name leads to the old table, whole, or to the new one, whole. The
//! new one is filled without a name, compared with the old one, and named `<path>.resizing`; one
//! rename puts it in place. A resize that is killed leaves at most that name and one more for the
//! old table, `<path>.before-resize`; the next attempt recognises both.
//!
//! The lock of the old table's file is held throughout, so that no server can begin to use it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use super::old::{File, Old};
use super::{OpenError, Refusal, earlier};
use crate::limits::{INFO_BYTES_INLINE, PROGRESS_EVERY, SLOTS_MAX, TERMINALS_PER_EXTENT};
use crate::sys::exclusive::lock_taker;
use crate::sys::mapping::{Mapping, MappingError};
use crate::table::{Capacity, OwnerId, Table, TableError, Terminal};
use crate::wire::Epoch;

/// Why a table was not resized. It is unchanged.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum ResizeError {
    /// It cannot be opened, or the new one cannot be made.
    #[error("{}", error.at(path))]
    Table { path: PathBuf, error: OpenError },
    /// A server uses it.
    #[error(
        "{}: {} has this table; stop that server (SIGTERM to `baton run`), resize, and start it again",
        path.display(), by(*.pid)
    )]
    Held {
        path: PathBuf,
        /// Who took its lock.
        pid: Option<u32>,
    },
    /// Another file has got its name meanwhile.
    #[error("{}: another file got this name just now; look who did that, and try again", .0.display())]
    Moved(PathBuf),
    /// It holds more than the new one could.
    #[error("{}: it holds {holds} {what}, and was to have room for {room}; ask for more", path.display())]
    TooSmall { path: PathBuf, what: &'static str, holds: u32, room: u32 },
    /// What it holds does not fit for another reason.
    #[error(
        "{}: what it holds does not fit into a table of this capacity: {error}; ask for more (`--meetings`, `--terminals`; one \
         terminal in {TERMINALS_PER_EXTENT} can have more than {INFO_BYTES_INLINE} bytes of additional information)",
        path.display()
    )]
    Unfit { path: PathBuf, error: TableError },
    /// A file is in the way.
    #[error("{}: is in the way; look what it is, and take it away or rename it", .0.display())]
    InTheWay(PathBuf),
    /// It has flaws.
    #[error(
        "{}: something is wrong with this table, which copying would hide: {flaw}; a start with `--path database` moves it \
         aside and goes by the database",
        path.display()
    )]
    Flawed { path: PathBuf, flaw: String },
    /// The copy differs from the original.
    #[error("{}: the new table does not hold what the old one does, {what}; it was thrown away", path.display())]
    Differs { path: PathBuf, what: String },
    /// The system refused a step.
    #[error("{}: cannot {step}: {error}", path.display())]
    Io { path: PathBuf, step: &'static str, error: io::Error },
}

fn by(pid: Option<u32>) -> String {
    pid.map_or("another process".into(), |pid| format!("process {pid}"))
}

/// What to change; fields that are none stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// Parts of meetings.
    pub meetings: Option<u32>,
    /// None keeps what the file has.
    pub terminals: Option<u32>,
    /// Whether to delete the old table, instead of keeping it as `<path>.before-resize`.
    pub discard_old: bool,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names say it: counts, and what was before and after")]
pub struct Resized {
    pub before: Capacity,
    pub after: Capacity,
    pub parts: u32,
    pub terminals: u32,
    /// Terminals whose records were damaged: they were discarded, and their parts are in doubt.
    pub damaged: u32,
    pub bytes: u64,
    /// Where the old table is, if it was kept.
    pub kept: Option<PathBuf>,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The old table is verified: so much, of so much.
    Verifying(u64, u64),
    /// Its records are copied: so many, of so many.
    Copying(u64, u64),
    /// Both are compared: so many records, of so many.
    Comparing(u64, u64),
    /// The new one is whole, and has a name beside the old one.
    Named,
    /// The old one has its second name.
    Kept,
    /// The new one is in place.
    Swapped,
}

/// Changes a table's capacity. `tell` is called after each step.
///
/// # Errors
/// The table is unchanged, except that operations of dead writers may have been finished.
pub fn resize(path: &Path, wanted: &Wanted, tell: &mut dyn FnMut(Step)) -> Result<Resized, ResizeError> {
    let broken = |error| ResizeError::Table { path: path.to_owned(), error };
    let failed = |step| move |error| ResizeError::Io { path: path.to_owned(), step, error };
    let mapping = Mapping::open(path).map_err(|error| broken(error.into()))?;
    // Before its lock is taken, of which a refusal has no need.
    let is_earlier = earlier::is_earlier(&mapping);
    let file =
        if is_earlier { File::Earlier(mapping) } else { File::Ours(Box::new(Table::open(mapping).map_err(broken)?)) };
    let locked = file.mapping();
    if !locked.try_lock().map_err(failed("lock it"))? {
        let pid = locked.fd().and_then(|file| lock_taker(file).ok().flatten());
        return Err(ResizeError::Held { path: path.to_owned(), pid });
    }
    if !locked.is_at(path).map_err(failed("look at it"))? {
        return Err(ResizeError::Moved(path.to_owned()));
    }
    // We have the lock: all its writers are dead.
    let old = Old::read(file).map_err(|refusal| broken(refusal.into()))?;
    let before = old.capacity();
    let after = Capacity {
        meetings: wanted.meetings.unwrap_or(before.meetings),
        terminals: wanted.terminals.unwrap_or(before.terminals),
    };
    let bytes = Table::bytes(after);
    if bytes == 0 {
        let Capacity { meetings, terminals } = after;
        return Err(broken(OpenError::Capacity { meetings, terminals, max: SLOTS_MAX }));
    }
    let (parts, terminals) = old.counts();
    for (what, holds, room) in [("parts of meetings", parts, after.meetings), ("terminals", terminals, after.terminals)]
    {
        if holds > room {
            return Err(ResizeError::TooSmall { path: path.to_owned(), what, holds, room });
        }
    }
    let names = Names { path, new: beside(path, ".resizing"), old: beside(path, ".before-resize") };
    names.clear(old.mapping(), wanted.discard_old)?;
    // It has no name until it is whole, and goes with this process if it never is.
    let mapping = Mapping::create(path, bytes).map_err(|error| broken(error.into()))?;
    let new = Table::create(mapping, after, old.head().0).map_err(broken)?;
    let new = Arc::new(new);
    let damaged = old.settle().map_err(|error| ResizeError::Unfit { path: path.to_owned(), error })?;
    if let Some(flaw) = old.flaws(&mut |done, of| tell(Step::Verifying(done, of))).into_iter().next() {
        return Err(ResizeError::Flawed { path: path.to_owned(), flaw });
    }
    copy(&old, &new, tell).map_err(|error| ResizeError::Unfit { path: path.to_owned(), error })?;
    compare(&old, &new, tell).map_err(|what| ResizeError::Differs { path: path.to_owned(), what })?;
    let (parts, terminals) = old.counts();
    let bytes = new.mapping().bytes();
    let kept = names.swap(new.mapping(), wanted.discard_old, tell)?;
    Ok(Resized { before, after, parts, terminals, damaged, bytes, kept })
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// The table's name, and the two others that a resize uses.
struct Names<'a> {
    path: &'a Path,
    new: PathBuf,
    old: PathBuf,
}

impl Names<'_> {
    /// Removes what a killed resize left, and nothing else.
    fn clear(&self, old: &Mapping, discard_old: bool) -> Result<(), ResizeError> {
        let io = |path: &Path, step| {
            let path = path.to_owned();
            move |error| ResizeError::Io { path, step, error }
        };
        if self.new.symlink_metadata().is_ok() {
            match Table::inspect(&self.new) {
                Ok(_) | Err(OpenError::Refused(Refusal::EarlierLayout)) => {}
                Err(_) => return Err(ResizeError::InTheWay(self.new.clone())),
            }
            fs::remove_file(&self.new).map_err(io(&self.new, "take away what a killed resize left"))?;
        }
        if !discard_old && self.old.symlink_metadata().is_ok() {
            // The table's own second name: a resize was killed before its last step.
            if !old.is_at(&self.old).map_err(io(&self.old, "look at it"))? {
                return Err(ResizeError::InTheWay(self.old.clone()));
            }
            fs::remove_file(&self.old).map_err(io(&self.old, "take away what a killed resize left"))?;
        }
        Ok(())
    }

    /// Puts the new table in the old one's place. Returns where the old one is now.
    fn swap(
        &self,
        new: &Mapping,
        discard_old: bool,
        tell: &mut dyn FnMut(Step),
    ) -> Result<Option<PathBuf>, ResizeError> {
        let mut swap = || {
            new.publish(&self.new).map_err(|error| match error {
                MappingError::Exists(path) => ResizeError::InTheWay(path),
                error => ResizeError::Table { path: self.path.to_owned(), error: error.into() },
            })?;
            tell(Step::Named);
            if !discard_old {
                fs::hard_link(self.path, &self.old).map_err(|error| match error.kind() {
                    io::ErrorKind::AlreadyExists => ResizeError::InTheWay(self.old.clone()),
                    _ => ResizeError::Io { path: self.old.clone(), step: "give it to the old table", error },
                })?;
                tell(Step::Kept);
            }
            fs::rename(&self.new, self.path).map_err(|error| ResizeError::Io {
                path: self.path.to_owned(),
                step: "put the new table in its place",
                error,
            })?;
            tell(Step::Swapped);
            Ok(())
        };
        let swapped = swap();
        if swapped.is_err() && new.is_at(&self.new).unwrap_or(false) {
            let _ = fs::remove_file(&self.new);
        }
        swapped.map(|()| (!discard_old).then(|| self.old.clone()))
    }
}

/// Copies all that one table holds into an empty one.
fn copy(old: &Old, new: &Arc<Table>, tell: &mut dyn FnMut(Step)) -> Result<(), TableError> {
    let (_, epoch, generation_end) = old.head();
    if epoch != Epoch::NONE || generation_end != 0 {
        new.set_reservation(epoch, generation_end);
    }
    for (domain, by) in old.fences() {
        // Both have room for as many domains as a configuration may name.
        let _ = new.set_fence(domain, by);
    }
    let mut writer = new.writer(OwnerId::CONTROL);
    let mut pace = Pace::over(old);
    old.try_for_each(|part, members| {
        writer.insert_part(part)?;
        pace.done(|done, of| tell(Step::Copying(done, of)));
        // A member that joins goes in front of the others.
        for member in members.iter().rev() {
            writer.join(part.meeting, part.domain, member)?;
            pace.done(|done, of| tell(Step::Copying(done, of)));
        }
        Ok(())
    })
}

/// Says how two tables differ: in a part, a member, or the header.
fn compare(old: &Old, new: &Table, tell: &mut dyn FnMut(Step)) -> Result<(), String> {
    let head = (new.boot_id(), new.epoch(), new.generation_end());
    let counts = (new.count_parts(), new.count_terminals());
    if !old.fences().into_iter().eq(new.fences()) {
        return Err("its fences are others".into());
    }
    if old.head() != head {
        return Err(format!("its header says {head:?} for {:?}", old.head()));
    }
    if old.counts() != counts {
        return Err(format!("parts and terminals are {counts:?} for {:?}", old.counts()));
    }
    let mut pace = Pace::over(old);
    old.try_for_each(|part, members| {
        let found = new.part(part.meeting, part.domain);
        if found != Some(*part) {
            return Err(format!("{found:?} is there for {part:?}"));
        }
        pace.done(|done, of| tell(Step::Comparing(done, of)));
        let after: Vec<Terminal> = new.members(part.meeting, part.domain).collect();
        if members.len() != usize::from(part.participants) || members != after {
            return Err(format!("the members of {:?} in {:?} differ", part.meeting, part.domain));
        }
        for member in members {
            if new.terminal(member.terminal) != Some(*member) {
                return Err(format!("{} is not found as it was", member.terminal));
            }
            pace.done(|done, of| tell(Step::Comparing(done, of)));
        }
        Ok(())
    })?;
    match new.verify().into_iter().next() {
        None => Ok(()),
        Some(flaw) => Err(flaw),
    }
}

/// Counts records, and reports now and then.
struct Pace {
    done: u64,
    of: u64,
}

impl Pace {
    fn over(table: &Old) -> Self {
        let (parts, terminals) = table.counts();
        Self { done: 0, of: u64::from(parts) + u64::from(terminals) }
    }

    fn done(&mut self, tell: impl FnOnce(u64, u64)) {
        self.done += 1;
        if self.done.is_multiple_of(PROGRESS_EVERY) {
            tell(self.done, self.of);
        }
    }
}
