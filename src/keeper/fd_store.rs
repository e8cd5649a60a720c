//! The service manager's descriptor store: rings that outlive the keeper.
//!
//! AF_XDP sockets end with a keeper that is killed or restarted, unless another process has them
//! too. With `baton run --store` the service manager has: the sockets, the UMEM, the API's
//! listening socket, and an [`Inventory`] that says what they are. Frames and clients that come
//! while no process of ours lives wait there for the next.
//!
//! What always holds:
//!
//! - What is taken up is what this configuration would open: same interfaces, same queues and
//!   sizes, same layout, all of it there and bound. Else it is closed, by the manager too, and
//!   opened anew.
//! - Before the rings are taken up, every engine that worked on them is dead. The proof is a lock
//!   of each UMEM, on an open file description of our own that engines are handed: it is free when
//!   the last of them is gone. What the manager has is another description of the same memory,
//!   without a lock, which would otherwise never come free.
//! - The table is not kept there. Its file has a name and outlives every process by that; and its
//!   lock must not.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::handover::compat::DESCRIPTOR_STORE;
use crate::limits::{INTERFACES_MAX, PREDECESSOR_WAIT_MS, STORED_MAX, WORKERS_MAX};
use crate::sys::af_xdp::{self, Bound, Settings};
use crate::sys::sd_notify::{ServiceManager, Stored};
use crate::sys::sealed;

const INVENTORY: &str = "manifest";
const API: &str = "api";
const _: () = assert!(WORKERS_MAX + INTERFACES_MAX + 2 <= STORED_MAX, "all of it fits what the unit allows");
/// How often the lock of dead engines is asked for while the kernel takes them apart.
const LOCK_PAUSE: Duration = Duration::from_micros(200);

/// The name by which a socket is kept; they are numbered interface by interface.
fn socket_name(number: usize) -> String {
    format!("socket-{number}")
}

/// The name by which an interface's UMEM is kept.
fn umem_name(number: usize) -> String {
    format!("umem-{number}")
}

/// What the kept descriptors are.
#[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Inventory {
    version: u32,
    /// What the configuration asked for, for each interface.
    wanted: Vec<Settings>,
    /// What there was: sizes are halved where memory that may be locked is short.
    granted: Vec<Settings>,
}

/// What the manager kept for us, and is to keep.
#[derive(Debug)]
pub(super) struct Store<'a> {
    manager: &'a ServiceManager,
    stored: Vec<Stored>,
    keeps: bool,
}

impl<'a> Store<'a> {
    /// Takes what was kept. Nothing new is kept unless `keeps`.
    pub fn open(manager: &'a ServiceManager, stored: Vec<Stored>, keeps: bool) -> Self {
        let mut store = Self { manager, stored, keeps };
        if !keeps && !store.stored.is_empty() {
            store.clear("it is started without --store now");
        }
        store
    }

    /// Whether what is opened now is kept.
    pub const fn keeps(&self) -> bool {
        self.keeps
    }

    /// The rings that were kept, if they are what is wanted. Waits until no other process works on
    /// them.
    ///
    /// # Errors
    /// One still does.
    pub fn rings(&mut self, wanted: &[Settings]) -> io::Result<Option<Vec<Bound>>> {
        if self.stored.is_empty() {
            return Ok(None);
        }
        match self.take_rings(wanted) {
            Ok(bound) => bound.into_iter().map(owned).collect::<io::Result<_>>().map(Some),
            Err(why) => {
                self.clear(&why);
                Ok(None)
            }
        }
    }

    /// As [`Self::rings`], without waiting; or, in words, why not.
    fn take_rings(&mut self, wanted: &[Settings]) -> Result<Vec<Bound>, String> {
        let inventory = self.take(INVENTORY).ok_or("nothing says what they are")?;
        let inventory = read_inventory(inventory)?;
        let Inventory { wanted: was, granted, .. } = inventory;
        let other = was.iter().zip(wanted).find(|(was, now)| was.interface != now.interface);
        if let Some((was, now)) = other.map(|(was, now)| (&was.interface, &now.interface)) {
            return Err(format!(
                "they are {} number {}'s, and this is {} number {}",
                was.name, was.index, now.name, now.index
            ));
        }
        if was != wanted || granted.len() != wanted.len() {
            return Err("the configuration has other rings now".into());
        }
        let mut next = 0..;
        let mut take = |(number, settings): (usize, Settings)| {
            let umem = self.take(&umem_name(number)).ok_or("the frames' memory is not among them")?;
            af_xdp::check(&settings, umem.as_fd()).map_err(|error| error.to_string())?;
            let sockets = next.by_ref().take(settings.sockets()).map(|number| self.take_socket(number));
            let sockets = sockets.collect::<Result<Vec<_>, _>>()?;
            Ok(Bound { settings, umem, sockets })
        };
        granted.into_iter().enumerate().map(&mut take).collect()
    }

    fn take_socket(&mut self, number: usize) -> Result<OwnedFd, String> {
        let socket = self.take(&socket_name(number)).ok_or_else(|| format!("socket {number} is not among them"))?;
        if af_xdp::is_gone(socket.as_fd()) {
            return Err("the interface went, and they died with it".into());
        }
        Ok(socket)
    }

    /// Has new rings kept; gives them back with UMEMs that are locked for us.
    ///
    /// # Errors
    /// The system's.
    pub fn keep_rings(&self, wanted: &[Settings], bound: Vec<Bound>) -> io::Result<Vec<Bound>> {
        if !self.keeps {
            return Ok(bound);
        }
        let granted = bound.iter().map(|bound| bound.settings.clone()).collect();
        let inventory = write_inventory(&Inventory { version: DESCRIPTOR_STORE, wanted: wanted.to_vec(), granted })?;
        for (number, bound) in bound.iter().enumerate() {
            self.keep(&umem_name(number), bound.umem.as_fd());
        }
        for (number, socket) in bound.iter().flat_map(|bound| &bound.sockets).enumerate() {
            self.keep(&socket_name(number), socket.as_fd());
        }
        // What it names is there before it is.
        self.keep(INVENTORY, inventory.as_fd());
        bound.into_iter().map(owned).collect()
    }

    /// The API's socket that was kept, if it is at this path, in which clients find it.
    pub fn api(&mut self, path: &Path) -> Option<UnixListener> {
        let api = UnixListener::from(self.take(API)?);
        let there = api.local_addr().is_ok_and(|address| address.as_pathname() == Some(path)) && path.exists();
        if !there {
            self.forget(API);
        }
        there.then_some(api)
    }

    /// Has the API's new socket kept.
    pub fn keep_api(&self, api: &UnixListener) {
        if self.keeps {
            self.keep(API, api.as_fd());
        }
    }

    fn keep(&self, name: &str, descriptor: BorrowedFd<'_>) {
        if let Err(error) = self.manager.store(name, descriptor) {
            tracing::warn!("the service manager does not keep `{name}`: {error}; the next keeper opens it anew");
        }
    }

    fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let at = self.stored.iter().position(|(stored, _)| stored == name)?;
        Some(self.stored.swap_remove(at).1)
    }

    fn forget(&self, name: &str) {
        if let Err(error) = self.manager.forget(name) {
            tracing::warn!("the service manager cannot be told that `{name}` is not kept any more: {error}");
        }
    }

    /// Has the manager close all that it keeps for us.
    pub fn forget_all(&mut self) {
        self.clear("they are made anew");
        self.forget(API);
    }

    /// Closes what was kept of the rings, by the manager too: their queues are to be free.
    fn clear(&mut self, why: &str) {
        tracing::warn!("the rings that the service manager kept are not taken up: {why}");
        let api = self.take(API);
        // Those of another version may have names that this one would not give, and are in the way
        // all the same.
        let found: BTreeSet<_> = self.stored.drain(..).map(|(name, _)| name).collect();
        let ours = (0..INTERFACES_MAX).map(umem_name).chain((0..WORKERS_MAX).map(socket_name));
        for name in found.into_iter().chain([INVENTORY.into()]).chain(ours).collect::<BTreeSet<_>>() {
            self.forget(&name);
        }
        if let Err(error) = self.manager.settle() {
            tracing::warn!("whether the service manager has let them go is not known: {error}");
        }
        self.stored.extend(api.map(|api| (API.into(), api)));
    }
}

/// The same rings, with a UMEM that is locked for us.
fn owned(bound: Bound) -> io::Result<Bound> {
    Ok(Bound { umem: own(bound.umem.as_fd())?, ..bound })
}

/// Another open file description of the same memory, locked: every living process that was handed
/// it holds the lock.
fn own(memory: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let file = File::options().read(true).write(true).open(path)?;
    let end = Instant::now() + Duration::from_millis(PREDECESSOR_WAIT_MS);
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file.into()),
            Err(Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => {
                return Err(io::Error::other("an engine of an earlier keeper still works on them"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn write_inventory(inventory: &Inventory) -> io::Result<OwnedFd> {
    sealed::write("baton-manifest", &serde_json::to_vec(inventory)?)
}

fn read_inventory(memory: OwnedFd) -> Result<Inventory, String> {
    let foreign = |error: &dyn std::fmt::Display| format!("what says what they are cannot be read: {error}");
    let mut file = File::from(memory);
    file.rewind().map_err(|error| foreign(&error))?;
    let text = io::read_to_string(&file).map_err(|error| foreign(&error))?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| foreign(&error))?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(DESCRIPTOR_STORE) => {
            serde_json::from_value(value).map_err(|error| foreign(&error))
        }
        version => Err(format!("they are of version {version:?}, and this program's are of {DESCRIPTOR_STORE}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;
    use crate::sys::interface::Interface;

    fn inventory() -> Inventory {
        let settings = Settings::new(Interface { name: "eth0".into(), index: 2 }, 4);
        Inventory {
            version: DESCRIPTOR_STORE,
            wanted: vec![settings.clone()],
            granted: vec![Settings { receive: 64, ..settings }],
        }
    }

    #[test]
    fn an_inventory_is_read_as_it_was_written_and_cannot_be_changed() {
        let memory = write_inventory(&inventory()).unwrap();
        let mut copy = File::from(memory.try_clone().unwrap());
        assert!(copy.write_all(b"x").is_err());
        assert_eq!(read_inventory(memory).unwrap(), inventory());
    }

    #[test]
    fn an_inventory_of_another_version_is_refused_by_its_version() {
        let memory = write_inventory(&Inventory { version: DESCRIPTOR_STORE + 1, ..inventory() }).unwrap();
        assert!(read_inventory(memory).unwrap_err().contains("version"));
    }

    #[test]
    fn memory_is_owned_by_one_at_a_time_though_others_keep_it() {
        let _none_copied = crate::sys::process::copies::forbidden();
        let kept = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        let owned = own(kept.as_fd()).unwrap();
        let other = File::options().read(true).write(true).open(format!("/proc/self/fd/{}", kept.as_raw_fd())).unwrap();
        assert_eq!(flock(&other, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
        drop(owned);
        drop(other);
        own(kept.as_fd()).unwrap();
    }
}
