//! Huge pages of 2 MiB that the kernel lends and gets back. Every test, bench and demonstration
//! that wants some borrows them here.
//!
//! What always holds: `nr_hugepages` is raised by as many as were lent, and lowered by as many,
//! under a lock, so borrowers beside each other do not give back each other's. A note in shared
//! memory says how many a borrower has, so that those of a process that was killed are given back
//! too: by name ([`give_back`]), or by the next borrower.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::command::command;
use crate::output::tell;
use crate::sys::process::lives;

const FILE: &str = "/proc/sys/vm/nr_hugepages";
/// The notes lie here: gone with a reboot, as the pages are.
const NOTES: &str = "/dev/shm";
const NOTE: &str = "baton-huge-pages.";
const FOLDER: &str = "baton-huge-folder.";

/// Pages that this process borrowed, until it is dropped.
#[derive(Debug)]
pub struct HugePages {
    borrower: String,
    lent: u64,
}

impl HugePages {
    /// Asks for so many more than there are. Too little contiguous memory is no error: fewer are
    /// lent then, or none.
    ///
    /// # Errors
    /// They cannot be asked for, which needs root.
    pub fn borrow(wanted: u64) -> io::Result<Self> {
        static BORROWED: AtomicU32 = AtomicU32::new(0);
        give_back_for_the_dead()?;
        let borrower = format!("{}-{}", std::process::id(), BORROWED.fetch_add(1, Ordering::Relaxed));
        Ok(Self { lent: borrow(&borrower, wanted)?, borrower })
    }

    /// As [`Self::borrow`]; none where not all of them are lent.
    ///
    /// # Errors
    /// As there.
    pub fn borrow_all(wanted: u64) -> io::Result<Option<Self>> {
        Self::borrow(wanted).map(|pages| Some(pages).filter(|pages| pages.lent >= wanted))
    }

    /// How many the kernel lent.
    pub const fn lent(&self) -> u64 {
        self.lent
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Err(error) = give_back(&self.borrower) {
            tell!("baton: {} huge pages could not be given back: {error}", self.lent);
        }
    }
}

/// A folder for a table, as on dispatch hardware: on hugetlbfs where the kernel lends enough pages,
/// else on tmpfs. Gone when it is dropped.
#[derive(Debug)]
pub struct HugeFolder {
    path: PathBuf,
    is_huge: bool,
    /// Given back after the folder is gone.
    _pages: Option<HugePages>,
}

impl HugeFolder {
    /// A folder on so many huge pages, if they are lent; if not, that is said.
    ///
    /// # Errors
    /// There is no folder to be had in shared memory.
    pub fn new(pages: u64) -> io::Result<Self> {
        let lent = HugePages::borrow_all(pages).unwrap_or_else(|error| {
            tell!("baton: huge pages cannot be asked for: {error}");
            None
        });
        let path = Path::new(NOTES).join(format!("{FOLDER}{}", std::process::id()));
        fs::create_dir_all(&path)?;
        let mut folder = Self { path, is_huge: false, _pages: lent };
        if folder._pages.is_some() {
            match mount(&folder.path) {
                Ok(()) => folder.is_huge = true,
                Err(error) => tell!("baton: {error}"),
            }
        }
        if !folder.is_huge {
            tell!("baton: no {pages} huge pages: the table lies on small ones");
        }
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is on huge pages.
    pub const fn is_huge(&self) -> bool {
        self.is_huge
    }
}

impl Drop for HugeFolder {
    fn drop(&mut self) {
        if let Err(error) = remove_folder(&self.path) {
            tell!("baton: {} could not be removed: {error}", self.path.display());
        }
    }
}

/// Has this folder be on huge pages. They have to have been borrowed.
///
/// # Errors
/// It cannot be mounted.
pub fn mount(folder: &Path) -> io::Result<()> {
    // The engine is nobody, and the keeper hands it the open file.
    let options = ["-t", "hugetlbfs", "-o", "pagesize=2M,mode=0755", "none", &folder.display().to_string()];
    command("mount", &options).map(drop).map_err(io::Error::other)
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    if mounts.lines().filter_map(|line| line.split(' ').nth(1)).any(|point| Path::new(point) == folder) {
        // What is mapped stays with those who have it, and goes with them.
        command("umount", &["--lazy", &folder.display().to_string()]).map_err(io::Error::other)?;
    }
    fs::remove_dir_all(folder)
}

/// Borrows in the name of something that outlives this process; see [`give_back`]. Gives how many
/// were lent.
///
/// # Errors
/// They cannot be asked for, which needs root.
pub fn borrow(borrower: &str, wanted: u64) -> io::Result<u64> {
    let mut count = Count::lock()?;
    let before = count.read()?;
    count.write(before + wanted)?;
    let lent = count.read()?.saturating_sub(before);
    if let Err(error) = fs::write(note(borrower), lent.to_string()) {
        count.write(before)?;
        return Err(error);
    }
    Ok(lent)
}

/// Gives back what was borrowed in this name; nothing borrowed is fine.
///
/// # Errors
/// The system's.
pub fn give_back(borrower: &str) -> io::Result<()> {
    let mut count = Count::lock_if_allowed()?;
    let note = note(borrower);
    let lent = match fs::read_to_string(&note) {
        Ok(text) => text.trim().parse().unwrap_or(0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if let Some(count) = &mut count {
        let left = count.read()?.saturating_sub(lent);
        count.write(left)?;
    }
    fs::remove_file(note)
}

/// Gives back the pages, and removes the folders, of processes that were killed.
///
/// # Errors
/// The system's.
pub fn give_back_for_the_dead() -> io::Result<()> {
    let is_dead = |pid: &str| pid.parse().is_ok_and(|pid| !lives(pid));
    for entry in fs::read_dir(NOTES)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else { continue };
        if name.strip_prefix(FOLDER).is_some_and(is_dead) {
            remove_folder(&path)?;
        } else if let Some(borrower) = name.strip_prefix(NOTE)
            && borrower.split_once('-').is_some_and(|(pid, _)| is_dead(pid))
        {
            give_back(borrower)?;
        }
    }
    Ok(())
}

fn note(borrower: &str) -> PathBuf {
    Path::new(NOTES).join(format!("{NOTE}{borrower}"))
}

/// The number of huge pages that the kernel has set aside.
///
/// # Errors
/// The system's.
pub fn count() -> io::Result<u64> {
    fs::read_to_string(FILE).map(|text| text.trim().parse().unwrap_or(0))
}

/// The kernel's number of huge pages, locked against other borrowers.
struct Count(File);

impl Count {
    fn lock() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(FILE)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Self(file))
    }

    /// None for who is not root: he has borrowed nothing.
    fn lock_if_allowed() -> io::Result<Option<Self>> {
        match Self::lock() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            lock => lock.map(Some),
        }
    }

    fn read(&mut self) -> io::Result<u64> {
        let mut text = String::new();
        self.0.seek(SeekFrom::Start(0))?;
        self.0.read_to_string(&mut text)?;
        Ok(text.trim().parse().unwrap_or(0))
    }

    fn write(&mut self, pages: u64) -> io::Result<()> {
        // The kernel takes a number as a whole, from the file's beginning.
        self.0.seek(SeekFrom::Start(0))?;
        self.0.write_all(pages.to_string().as_bytes())
    }
}
