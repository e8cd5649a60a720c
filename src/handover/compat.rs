//! What has to be the same in two programs for one to understand what the other wrote or says.
//!
//! [`NUMBERS`] lists every number that stands for such a thing, and what a change of it costs.
//! Three of them are an [`Identity`]: they have to be the same for an engine of one program to take
//! table and rings over from an engine of another. That is looked at from both sides. The manifest
//! says what the keeper is, and an engine that does not match ends before it waits for a lock: one
//! that waits may be handed all of them before anybody has looked at it. A standby says what it is,
//! too, and its keeper lets it go if that does not match.

use serde::{Deserialize, Serialize};

use crate::sys::{af_xdp, bpf, robust_locks};
use crate::table::archive;
use crate::{database, table, wire};

/// The version of what keeper and engine say to each other, [manifest](super::protocol::Manifest),
/// notices and orders. They are one program, but a keeper that has run for long may start an engine
/// whose file was replaced meanwhile.
pub(crate) const HANDOVER: u32 = 8;
/// The version of the inventory of what the service manager keeps: from one keeper to the next.
pub(crate) const DESCRIPTOR_STORE: u32 = 2;

/// A number by which a program tells whether it understands what another wrote or says.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    /// Of what.
    pub name: &'static str,
    /// Where it is set: the path of the constant in this crate.
    pub path: &'static str,
    /// What it is.
    pub value: u64,
    /// What happens where a program meets one from before the change.
    pub change: &'static str,
}

/// All of them.
pub const NUMBERS: [Number; 10] = [
    Number {
        name: "wire",
        path: "wire::pdu::VERSION",
        value: wire::VERSION as u64,
        change: "autonomous servers and terminals of another version are not spoken with, and no engine takes over \
                 from one: all of them change, and the server is stopped and started",
    },
    Number {
        name: "table",
        path: "table::layout::LAYOUT_HASH",
        value: table::LAYOUT_HASH,
        change: "an older table is refused, and no engine takes over from one: the server is stopped, and `baton \
                 table resize` brings the table of the version before over; or it is started with --path database",
    },
    Number {
        name: "hand-over",
        path: "handover::compat::HANDOVER",
        value: HANDOVER as u64,
        change: "an engine ends before it has taken anything over, and an upgrade is refused: the keeper is started \
                 again, and its engines go on by the table",
    },
    Number {
        name: "locks",
        path: "sys::robust_locks::MAGIC",
        value: robust_locks::MAGIC,
        change: "an engine ends before it waits for a lock, and an upgrade is refused: the keeper is started again, \
                 and its engines go on by the table. It differs by C library and processor as well",
    },
    Number {
        name: "frames' memory",
        path: "sys::af_xdp::umem::MAGIC",
        value: af_xdp::UMEM_MAGIC,
        change: "older rings are closed and opened anew, with the frames that wait in them; an upgrade is refused, \
                 for the engine of the new program ends",
    },
    Number {
        name: "descriptor store",
        path: "handover::compat::DESCRIPTOR_STORE",
        value: DESCRIPTOR_STORE as u64,
        change: "what the service manager kept of rings is closed and opened anew, with the frames that wait in them",
    },
    Number {
        name: "steering",
        path: "sys::bpf::abi::BATON_ABI",
        value: bpf::ABI as u64,
        change: "a program that is found on an interface is replaced together with its maps, as a keeper starts; the \
                 interface is never without",
    },
    Number {
        name: "snapshot",
        path: "table::archive::header::VERSION",
        value: archive::VERSION as u64,
        change: "an older snapshot is refused by its version, and the database alone serves after a reboot",
    },
    Number {
        name: "snapshot's content",
        path: "table::archive::header::LAYOUT_HASH",
        value: archive::LAYOUT_HASH,
        change: "an older snapshot is refused by its layout, and the database alone serves after a reboot",
    },
    Number {
        name: "database",
        path: "database::FORMAT",
        value: database::FORMAT,
        change: "an older file is brought into the new form as it is opened, which has to be written, or is \
                 refused; older programs do not open it afterwards: there is no way back but a copy",
    },
];

/// What a program is, as its engines say it. See [`NUMBERS`].
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
            handover: HANDOVER,
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
                "version {version} lays the table out otherwise ({theirs:016x}, not {ours:016x}): stop the server, and \
                 have that one's `baton table resize` bring the table over, or start it with --path database"
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
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Numbers that only look like one, and why.
    const OTHERS: [(&str, &str); 7] = [
        ("database::FIRST_FORMAT", "the form that is still brought into the present one"),
        ("sys::mounts::BPF_FS_MAGIC", "the kernel's"),
        ("sys::mounts::SYSFS_MAGIC", "the kernel's"),
        ("table::file::open::EARLIER_LAYOUT_HASH", "the layout that a resize brings into the present one"),
        ("table::archive::header::MAGIC", "says that it is a snapshot, not which"),
        ("telemetry::hlog::VERSION", "of HdrHistogram's log"),
        ("wire::generator::MAGIC", "of the kernel's packet generator"),
    ];

    /// The paths of all constants below a folder whose names say that they may be such a number.
    fn numbers_below(folder: &Path, path: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_stem().unwrap().to_str().unwrap();
            let path = if name == "mod" { path.to_owned() } else { format!("{path}::{name}") };
            // What others write and read, of any version, is what the lab is for.
            if entry.is_dir() && !["lab", "tests"].contains(&name) {
                numbers_below(&entry, &path, found);
            }
            let Ok(text) = fs::read_to_string(&entry) else { continue };
            for (_, rest) in text.lines().filter_map(|line| line.split_once("const ")) {
                let Some((constant, _)) = rest.split_once(':') else { continue };
                let words: Vec<_> = constant.split('_').collect();
                if ["ABI", "FORMAT", "HASH", "MAGIC", "VERSION"].iter().any(|word| words.contains(word)) {
                    found.insert(format!("{}::{constant}", path.trim_start_matches("::")));
                }
            }
        }
    }

    #[test]
    fn every_number_that_decides_whether_two_programs_understand_each_other_is_listed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeSet::new();
        numbers_below(&root.join("src"), "", &mut found);
        assert!(fs::read_to_string(root.join("bpf/abi.h")).unwrap().contains("#define BATON_ABI "));
        let made = ["sys::bpf::abi::BATON_ABI", "handover::compat::HANDOVER", "handover::compat::DESCRIPTOR_STORE"];
        found.extend(made.map(String::from));
        // It goes into the layout's hash.
        found.remove("table::layout::MAGIC");
        let listed = NUMBERS.iter().map(|number| number.path).chain(OTHERS.map(|(path, _)| path));
        let listed: BTreeSet<_> = listed.map(String::from).collect();
        assert_eq!(listed, found, "listed; found in src and bpf/abi.h");
        let identity = Identity::ours();
        let value = |name| NUMBERS.iter().find(|number| number.name == name).unwrap().value;
        assert_eq!(
            [value("wire"), value("table"), value("hand-over")],
            [identity.wire.into(), identity.layout, identity.handover.into()]
        );
    }

    /// Who does what this says keeps what the table holds.
    #[test]
    fn a_program_that_can_bring_the_table_over_is_not_to_be_started_without_it() {
        let ours = Identity::ours();
        let before = Identity { layout: 0x5fed_a0a6_3af0_08f4, ..ours.clone() };
        let why = before.admit(&ours).unwrap_err();
        assert!(why.contains("baton table resize"), "{why}");
        let table = NUMBERS.iter().find(|number| number.name == "table").unwrap();
        assert!(table.change.contains("baton table resize"), "{}", table.change);
    }

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
