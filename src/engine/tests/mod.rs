//! The engine's start, without a keeper that would wait for it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::startup;
use crate::config::{Config, Overrides};
use crate::handover::compat::Identity;
use crate::handover::protocol::{self, Handover, Manifest, TableOrigin};
use crate::sys::fd_passing;
use crate::sys::robust_locks::RobustLocks;
use crate::time::Nanos;

/// Not after it has waited: it may be handed the locks before its keeper has looked at what it is.
#[test]
fn a_program_that_may_not_take_over_ends_before_it_waits_for_a_lock() {
    let file = || OwnedFd::from(tempfile::tempfile().unwrap());
    let (succession, locks) = RobustLocks::create().unwrap();
    let _held = succession.take(0).unwrap();
    let (ours, theirs) = fd_passing::pair().unwrap();
    let text = "[interface]\nname = \"eth0\"\n[[domain]]\nnumber = 366\ninsecure_no_authentication = true\n";
    let ours_is = Identity::ours();
    let manifest = Manifest {
        version: 0,
        keeper: Identity { layout: !ours_is.layout, ..ours_is },
        role: protocol::Role::Standby,
        incarnation: 1,
        config: Config::parse(Path::new("test"), text, &Overrides::default()).unwrap(),
        table: TableOrigin::Kept,
        predecessor: None,
        active: None,
        sent_ns: 0,
        next_hops: Vec::new(),
        interfaces: Vec::new(),
    };
    let (table, succession) = (file(), locks);
    let folder = tempfile::tempdir().unwrap();
    let api = UnixListener::bind(folder.path().join("api")).unwrap();
    let handover = Handover { manifest, table, succession, frames: Vec::new(), api, keeper: theirs.into() };
    startup::run(handover, Nanos(1));
    let mut buffer = [0; 4096];
    let bytes = fd_passing::receive(ours.as_fd(), &mut buffer, 0, false).unwrap().bytes;
    let said = String::from_utf8_lossy(&buffer[..bytes]);
    assert!(said.contains("may not take over") && said.contains("lays the table out otherwise"), "{said}");
}
