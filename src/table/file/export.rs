//! Snapshots for people: reading the header of a file that any version wrote, and writing one to a
//! path of their choice.

use std::io::{self, Read};
use std::path::Path;

use super::snapshot::{SnapshotError, SnapshotFault, failed, fill, not_opened};
use crate::sys::durable::{Existing, replace_file};
use crate::sys::file_bytes::open_file;
use crate::table::Table;
use crate::table::archive::{HEADER_BYTES, Head, Written};

/// Reads a snapshot's header, and nothing after it.
///
/// # Errors
/// It cannot be read, or is no snapshot.
pub fn head(path: &Path) -> Result<Head, SnapshotError> {
    read_head(path).map_err(|what| SnapshotError { path: path.to_owned(), what })
}

fn read_head(path: &Path) -> Result<Head, SnapshotFault> {
    let mut file = open_file(path).map_err(not_opened)?;
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
pub(super) fn write_by_hand(table: &Table, path: &Path) -> Result<Written, SnapshotError> {
    let wrong = |what| SnapshotError { path: path.to_owned(), what };
    let existing = match path.symlink_metadata() {
        Ok(found) if found.is_file() => head(path).map(|_| Existing::Replaced)?,
        Ok(_) => return Err(wrong(SnapshotFault::NotASnapshot)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Existing::Kept,
        Err(error) => return Err(wrong(failed("look at what is there")(error))),
    };
    replace_file(path, existing, |files| fill(table, files)).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::table::file::snapshot::{Snapshot, read, write};
    use crate::table::tests::file::{Folder, furnished};

    #[test]
    fn a_header_says_what_it_is_whoever_wrote_it() {
        let folder = Folder::new();
        let path = folder.file("snapshot");
        let written = write(&furnished(&folder.file("table")), &path).unwrap();
        let ours = head(&path).unwrap();
        assert_eq!((ours.is_ours(), ours), (true, written.head));
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(ours.bytes, whole.len() as u64);
        // Of the directory and the length behind it.
        let length = u64::from_le_bytes(*whole.last_chunk().unwrap()) as usize + 8;
        assert_eq!(ours.digest_text(), blake3::hash(&whole[whole.len() - length..]).to_hex().as_str());
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
        let write_by_hand = |path: &Path| write_by_hand(&table, path);
        // The server's own snapshot, half written.
        std::fs::write(folder.file("snapshot.new"), "half").unwrap();
        let first = write_by_hand(&path).unwrap().head;
        assert_eq!(read(&path).unwrap(), taken);
        assert_eq!(first, head(&path).unwrap());
        // Another snapshot replaces it.
        let mut control = Arc::clone(&table).writer(super::super::super::OwnerId::CONTROL);
        control.remove_part(crate::wire::MeetingId(1), crate::wire::Domain::new(2).unwrap()).unwrap();
        assert_ne!(write_by_hand(&path).unwrap().head.digest, first.digest);
        assert_eq!(std::fs::read(folder.file("snapshot.new")).unwrap(), b"half");
        // What is not a snapshot is not replaced: a file, a link, a folder.
        std::fs::write(folder.file("mine"), "mine").unwrap();
        std::os::unix::fs::symlink(&path, folder.file("link")).unwrap();
        std::fs::create_dir(folder.file("folder")).unwrap();
        for other in ["mine", "link", "folder"] {
            let refused = write_by_hand(&folder.file(other)).unwrap_err();
            assert!(matches!(refused.what, SnapshotFault::NotASnapshot), "{refused}");
        }
        assert_eq!(std::fs::read(folder.file("mine")).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 6, "and nothing is left beside them");
    }
}
