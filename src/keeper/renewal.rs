//! What engines can have damaged, made anew.
//!
//! Whatever an engine can write to it can leave so that none after it comes to anything: a lock
//! that nobody has and nobody gets, an entry of a ring that leads nowhere, memory with a hole in
//! it, a socket that sends no more. The locks are new for every engine that is started to control;
//! of the others, whose making costs the frames that wait in them, the keeper gets new ones when
//! engines come to nothing one after the other, and then the service manager is to keep the new
//! ones as well.

use std::io;

use super::error::KeeperError;
use super::fd_store::Store;
use super::resources::{Resources, fill_rings, listen};
use crate::sys::af_xdp;
use crate::sys::robust_locks::RobustLocks;
use crate::sys::sd_notify::ServiceManager;
use crate::table::file::OpenError;

impl Resources {
    /// New locks. Whoever had those of before is dead, or has none of them any more and wants none.
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
    /// See [`KeeperError`]. What was not made is not there: this keeper cannot go on.
    pub(super) fn renew(&mut self, manager: &ServiceManager) -> Result<(), KeeperError> {
        self.renew_locks()?;
        self.next_hops.clear();
        self.taken_up = false;
        let mut store = Store::open(manager, Vec::new(), self.is_kept);
        if self.is_kept {
            store.forget_all();
        }
        // A queue is free for others when its last socket is closed.
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
        // Our own, in which clients wait whom nobody will answer; a socket that is gone already is
        // as good.
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

    /// Looks at the table as at a start. One that cannot be used is moved aside, and a new one
    /// made, or it is what ends this keeper, as the configuration says. Every engine is dead, or
    /// there is nothing wrong with it.
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
