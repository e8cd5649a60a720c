//! What stops a keeper.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::sys::af_xdp::XdpError;
use crate::sys::bpf::SteerError;
use crate::sys::interface::InterfaceError;
use crate::table::file::OpenError;
use crate::wire::{Epoch, Mac};

/// What stops a keeper. Each says what an operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The interface is not there, or cannot be looked at.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// Queues and workers of the configuration do not fit the interface.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another keeper serves the interface.
    #[error("another dispatch server{} serves interface {name} already; stop it first", by(*.pid))]
    InterfaceHeld {
        /// The interface.
        name: String,
        /// That keeper.
        pid: Option<u32>,
    },
    /// Another keeper has the runtime folder.
    #[error("another dispatch server{} has {} already; give this one a `runtime.dir` of its own", by(*.pid), dir.display())]
    RuntimeHeld {
        /// The folder.
        dir: PathBuf,
        /// That keeper.
        pid: Option<u32>,
    },
    /// Another keeper has the table.
    #[error("another dispatch server{} has the table {} already; give this one a `table.path` of its own", by(*.pid), path.display())]
    TableHeld {
        /// The table.
        path: PathBuf,
        /// That keeper.
        pid: Option<u32>,
    },
    /// A table of an earlier run cannot be used. It is as it was.
    #[error(
        "the table {} cannot be used: {error}; it is left as it is. To go on by the database, start with `--path database` or \
         set `recovery.on_bad_table = \"database\"`: the file is moved aside then", path.display()
    )]
    BadTable {
        /// The table.
        path: PathBuf,
        /// What is wrong with it.
        error: OpenError,
    },
    /// A new table cannot be made.
    #[error("the table {} cannot be had: {error}", path.display())]
    Table {
        /// The table.
        path: PathBuf,
        /// Why.
        error: OpenError,
    },
    /// A folder or file cannot be used.
    #[error("{}: {error}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A folder of the keeper's belongs to somebody else, or others may write to it.
    #[error(
        "{} is {whose}, who could put another file in this one's place; choose a folder of its own, or give it back: \
         chown root {0} && chmod go-w {0}", path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose.
        whose: String,
    },
    /// The engine's user is not known.
    #[error("there is no user `{name}` to run the engine as ({error}); set `runtime.user`")]
    User {
        /// As configured.
        name: String,
        /// What came of looking.
        error: io::Error,
    },
    /// The engine's user cannot get to the database.
    #[error(
        "the engine runs as `{user}`, who may not {what} {}; open it to that user, or set `database.path` or \
         `runtime.user`", folder.display()
    )]
    Barred {
        /// The user.
        user: String,
        /// What is not allowed.
        what: &'static str,
        /// Where.
        folder: PathBuf,
    },
    /// Descriptors are to be kept by a service manager that is not there.
    #[error("there is no service manager to keep descriptors (NOTIFY_SOCKET is not set): start it without --store")]
    NoManager,
    /// The interface went, and the sockets died with it. One of the same name needs others.
    #[error("interface {0} is gone; start again when it is back")]
    InterfaceGone(String),
    /// The interface has another MAC address than the one that frames are sent from.
    #[error("interface {interface} has the MAC address {is} now; it was {was}: start again, with that one")]
    MacChanged {
        /// The interface.
        interface: String,
        /// When it was opened.
        was: Mac,
        /// Now.
        is: Mac,
    },
    /// The configuration asks for more queues than there are.
    #[error(
        "{interface} has {has} receive queues, and interface.queues is {wanted}: set another, or \
         `ethtool -L {interface} combined {wanted}` (scripts/tune-nic.sh -i {interface} -q {wanted})"
    )]
    FewQueues {
        /// The interface.
        interface: String,
        /// That it has.
        has: u32,
        /// That are asked for.
        wanted: u32,
    },
    /// Another keeper has the pins.
    #[error("another dispatch server has {} already; give this one a `runtime.pin` of its own", folder.display())]
    PinsHeld {
        /// Their folder.
        folder: PathBuf,
    },
    /// There is no BPF file system where pins are to be, and none can be mounted.
    #[error(
        "{} is on no BPF file system, and none can be mounted there ({error}): `mount -t bpf bpf /sys/fs/bpf`, or \
         name a folder of one by `runtime.pin`", folder.display()
    )]
    NoBpffs {
        /// The folder of pins.
        folder: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Two interfaces have one MAC address.
    #[error(
        "interfaces {one} and {other} have the same MAC address {mac}: give one another, or serve the bond that \
         they are members of, which is steered in generic mode"
    )]
    SameMac {
        /// The first.
        one: String,
        /// The second.
        other: String,
        /// Theirs.
        mac: Mac,
    },
    /// No sockets.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// No steering.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// The first engine could not go on. What stopped it would stop the next.
    #[error("the engine cannot go on: {0}")]
    Engine(String),
    /// Another dispatch server controls every domain.
    #[error(
        "another dispatch server controls, under epoch {0}, above this one's: it has been replaced, and never controls again by \
         being started. To give control to this one, stop the other and run `baton control take` here"
    )]
    Fenced(Epoch),
    /// The system refused something.
    #[error("cannot {doing}: {error}")]
    System {
        /// What.
        doing: &'static str,
        /// What it said.
        error: io::Error,
    },
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}
