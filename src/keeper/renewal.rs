//! What engines can have damaged, made anew.
//!
//! An engine can leave what it can write to in a state in which every engine after it fails: a lock
//! that no thread has and none can get, a ring's entry that leads nowhere, memory with a hole in
//! it, a socket that sends no more. The locks are new for every engine that is started to control.
//! To make the others anew costs the frames that wait in them: the keeper does so when engines fail
//! one after the other, and then the service manager is to keep the new ones as well.

use std::io;

use super::error::KeeperError;
use super::fd_store::Store;
use super::resources::{Resources, fill_rings, listen};
use crate::sys::af_xdp;
use crate::sys::robust_locks::RobustLocks;
use crate::sys::sd_notify::ServiceManager;
use crate::table::file::OpenError;

impl Resources {
    /// New locks. Every engine that had the old ones is dead, or has given them back and wants
    /// none.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn renew_locks(&mut self) -> Result<(), KeeperError> {
        self.succession = RobustLocks::create()
            .map_err(|error| KeeperError::System { doing: "make the locks of the succession", error })?;
        Ok(())
    }

    /// New locks, sockets, memory of frames, and a new socket for clients; what engines had learned
    /// is forgotten. Every engine is dead.
    ///
    /// # Errors
    /// See [`KeeperError`]. What could not be made is missing: this keeper cannot go on.
    pub(super) fn renew(&mut self, manager: &ServiceManager) -> Result<(), KeeperError> {
        self.renew_locks()?;
        self.next_hops.clear();
        self.taken_up = false;
        let mut store = Store::open(manager, Vec::new(), self.is_kept);
        if self.is_kept {
            store.forget_all();
        }
        // A queue is free when its last socket is closed.
        for interface in &mut self.interfaces {
            interface.bound.sockets.clear();
        }
        let kept = |error: io::Error| KeeperError::System { doing: "have the rings kept", error };
        let bound = self.wanted.iter().map(af_xdp::bind).collect::<Result<_, _>>()?;
        let bound = store.keep_rings(&self.wanted, bound).map_err(kept)?;
        for (interface, bound) in self.interfaces.iter_mut().zip(bound) {
            fill_rings(&bound, &interface.steering)?;
            interface.bound = bound;
        }
        let path = self.config.runtime.api_socket();
        // Our own, in which clients wait that no engine will answer; one that is gone already is as
        // good.
        let _ = std::fs::remove_file(&path);
        self.api = listen(&path)?;
        store.keep_api(&self.api);
        Ok(())
    }

    /// Whether the rings are what an earlier keeper's engines left.
    pub(super) fn is_taken_up(&self) -> bool {
        self.taken_up
    }

    /// Whether the table could not be used if it were opened now.
    pub(super) fn has_bad_table(&self) -> bool {
        self.flaw().is_some()
    }

    /// Looks at the table as at a start. One that cannot be used is moved aside and a new one made,
    /// or it ends this keeper, as the configuration says. Every engine is dead, or there is nothing
    /// wrong with it.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub(super) fn judge_table(&mut self) -> Result<(), KeeperError> {
        match self.flaw() {
            Some(error) => self.table.replace(&self.config, error),
            None => Ok(()),
        }
    }

    fn flaw(&self) -> Option<OpenError> {
        self.table.look_again().err()
    }
}
