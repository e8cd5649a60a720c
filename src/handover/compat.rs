//! What has to be the same in two programs for one to take table and rings over from the other.
//!
//! It is looked at from both sides. The manifest says what the keeper is, and an engine that does
//! not match ends before it waits for a lock: one that waits may be handed all of them before
//! anybody has looked at it. A standby says what it is, too, and its keeper lets go whoever does
//! not say the same.

use serde::{Deserialize, Serialize};

use super::protocol;
use crate::{table, wire};

/// What a program is, as its engines say it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// Its version; any may follow any.
    pub version: String,
    /// How the table is laid out.
    pub layout: u64,
    /// The protocol that is spoken with autonomous servers.
    pub wire: u8,
    /// The conversation of keeper and engine.
    pub handover: u32,
}

impl Identity {
    /// Of this program.
    pub fn ours() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            layout: table::LAYOUT_HASH,
            wire: wire::VERSION,
            handover: protocol::VERSION,
        }
    }

    /// Whether this program's table and rings may be taken over by that one.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn admit(&self, other: &Self) -> Result<(), String> {
        let version = &other.version;
        if other.layout != self.layout {
            let (theirs, ours) = (other.layout, self.layout);
            return Err(format!(
                "version {version} lays the table out otherwise ({theirs:016x}, not {ours:016x}): stop the server and \
                 start that one with --path database"
            ));
        }
        if other.wire != self.wire {
            let (theirs, ours) = (other.wire, self.wire);
            return Err(format!(
                "version {version} speaks V2V in version {theirs}, not {ours}: stop and start the server"
            ));
        }
        if other.handover != self.handover {
            let (theirs, ours) = (other.handover, self.handover);
            return Err(format!(
                "version {version} hands over in version {theirs}, not {ours}: start the server again"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_admitted_if_all_else_is_the_same() {
        let ours = Identity::ours();
        assert_eq!(ours.admit(&Identity { version: "9.9.9".into(), ..ours.clone() }), Ok(()));
    }

    #[test]
    fn another_layout_wire_or_handover_is_refused_by_its_name() {
        let ours = Identity::ours();
        let others = [
            (Identity { layout: !ours.layout, ..ours.clone() }, "lays the table out otherwise"),
            (Identity { wire: ours.wire + 1, ..ours.clone() }, "speaks V2V in version"),
            (Identity { handover: ours.handover + 1, ..ours.clone() }, "hands over in version"),
        ];
        for (other, said) in others {
            let why = ours.admit(&other).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }
}
