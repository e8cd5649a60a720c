//! Snapshots for people: reading the header of a file that any version wrote, and writing one to a
//! path of their choice.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::snapshot::{
    HEADER_BYTES, LAYOUT_HASH, MAGIC, Snapshot, SnapshotError, SnapshotFault, VERSION, failed, header, to_archive,
};
use crate::sys::durable::{Existing, replace_file};

/// A snapshot's header, which every version writes alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The version of the format.
    pub version: u32,
    /// The layout of the archive.
    pub layout: u64,
    /// The length of the whole file in bytes.
    pub bytes: u64,
    /// BLAKE3 of the archive.
    pub digest: [u8; 32],
}

impl Head {
    /// Whether this program can read the archive after it.
    pub const fn is_ours(&self) -> bool {
        self.version == VERSION && self.layout == LAYOUT_HASH
    }

    /// The digest in hexadecimal digits.
    pub fn digest_text(&self) -> String {
        blake3::Hash::from_bytes(self.digest).to_hex().to_string()
    }

    fn parse(head: &[u8; HEADER_BYTES]) -> Option<Self> {
        let number = |at: usize| u64::from_le_bytes(*head[at..].first_chunk().unwrap_or(&[0; 8]));
        (head[..8] == MAGIC).then(|| Self {
            version: number(8) as u32,
            layout: number(16),
            bytes: number(24).saturating_add(HEADER_BYTES as u64),
            digest: *head[32..].first_chunk().unwrap_or(&[0; 32]),
        })
    }
}

/// Reads a snapshot's header, and nothing after it.
///
/// # Errors
/// It cannot be read, or is no snapshot.
pub fn head(path: &Path) -> Result<Head, SnapshotError> {
    read_head(path).map_err(|what| SnapshotError { path: path.to_owned(), what })
}

fn read_head(path: &Path) -> Result<Head, SnapshotFault> {
    let mut file = File::open(path).map_err(failed("open it"))?;
    let mut head = [0; HEADER_BYTES];
    match file.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(SnapshotFault::NotASnapshot),
        Err(error) => Err(failed("read it")(error)),
        Ok(()) => Head::parse(&head).ok_or(SnapshotFault::NotASnapshot),
    }
}

/// Writes a snapshot to a given path, durably. It replaces a snapshot that is there; anything else
/// stays, and is an error. It does not collide with a snapshot that a server writes to the same
/// path meanwhile: each has its own file until it is whole. And it follows no link, because root
/// may run it in a folder that others can write to.
///
/// # Errors
/// What is there is as it was.
pub fn write_by_hand(snapshot: &Snapshot, path: &Path) -> Result<Head, SnapshotError> {
    let wrong = |what| SnapshotError { path: path.to_owned(), what };
    let existing = match path.symlink_metadata() {
        Ok(found) if found.is_file() => head(path).map(|_| Existing::Replaced)?,
        Ok(_) => return Err(wrong(SnapshotFault::NotASnapshot)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Existing::Kept,
        Err(error) => return Err(wrong(failed("look at what is there")(error))),
    };
    let write = || {
        let archive = to_archive(snapshot)?;
        let head = header(&archive);
        replace_file(path, existing, &[&head, &archive])?;
        Head::parse(&head).ok_or(SnapshotFault::NotASnapshot)
    };
    write().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::table::file::snapshot::{read, write};
    use crate::table::tests::file::{Folder, furnished};

    #[test]
    fn a_header_says_what_it_is_whoever_wrote_it() {
        let folder = Folder::new();
        let path = folder.file("snapshot");
        let bytes = write(&furnished(&folder.file("table")), &path).unwrap();
        let ours = head(&path).unwrap();
        assert_eq!((ours.is_ours(), ours.bytes), (true, bytes));
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(ours.digest_text(), blake3::hash(&whole[HEADER_BYTES..]).to_hex().as_str());
        let mut later = whole.clone();
        later[8] = 9;
        std::fs::write(&path, &later[..HEADER_BYTES]).unwrap();
        let theirs = head(&path).unwrap();
        assert_eq!((theirs.version, theirs.is_ours(), theirs.digest), (9, false, ours.digest));
        std::fs::write(&path, &whole[..HEADER_BYTES - 1]).unwrap();
        assert!(matches!(head(&path).unwrap_err().what, SnapshotFault::NotASnapshot));
    }

    #[test]
    fn one_by_hand_meets_neither_the_servers_nor_what_is_none() {
        let folder = Folder::new();
        let table = furnished(&folder.file("table"));
        let path = folder.file("snapshot");
        let taken = Snapshot::of(&table);
        // The server's own snapshot, half written.
        std::fs::write(folder.file("snapshot.new"), "half").unwrap();
        let first = write_by_hand(&taken, &path).unwrap();
        assert_eq!(read(&path).unwrap(), taken);
        assert_eq!(first, head(&path).unwrap());
        // Another snapshot replaces it.
        let mut control = Arc::clone(&table).writer(super::super::super::OwnerId::CONTROL);
        control.remove_part(crate::wire::MeetingId(1), crate::wire::Domain::new(2).unwrap()).unwrap();
        assert_ne!(write_by_hand(&Snapshot::of(&table), &path).unwrap().digest, first.digest);
        assert_eq!(std::fs::read(folder.file("snapshot.new")).unwrap(), b"half");
        // What is not a snapshot is not replaced: a file, a link, a folder.
        std::fs::write(folder.file("mine"), "mine").unwrap();
        std::os::unix::fs::symlink(&path, folder.file("link")).unwrap();
        std::fs::create_dir(folder.file("folder")).unwrap();
        for other in ["mine", "link", "folder"] {
            let refused = write_by_hand(&taken, &folder.file(other)).unwrap_err();
            assert!(matches!(refused.what, SnapshotFault::NotASnapshot), "{refused}");
        }
        assert_eq!(std::fs::read(folder.file("mine")).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 6, "and nothing is left beside them");
    }
}
