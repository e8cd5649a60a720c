//! What stops a keeper.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::sys::af_xdp::XdpError;
use crate::sys::bpf::SteerError;
use crate::sys::interface::InterfaceError;
use crate::table::file::OpenError;
use crate::wire::{Epoch, Mac};

/// What stops a keeper.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each one's message says what it is, with its fields, and what to do about it")]
pub enum KeeperError {
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// Queues and workers of the configuration do not fit the interface.
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("another dispatch server{} serves interface {name} already; stop it first", by(*.pid))]
    InterfaceHeld { name: String, pid: Option<u32> },
    #[error("another dispatch server{} has {} already; give this one a `runtime.dir` of its own", by(*.pid), dir.display())]
    RuntimeHeld { dir: PathBuf, pid: Option<u32> },
    #[error("another dispatch server{} has the table {} already; give this one a `table.path` of its own", by(*.pid), path.display())]
    TableHeld { path: PathBuf, pid: Option<u32> },
    /// A table of an earlier run. It is as it was.
    #[error(
        "cannot use the table {}; it is left as it is. To go on by the database, start with `--path database` or \
         set `recovery.on_bad_table = \"database\"`: the file is moved aside then", error.at(path)
    )]
    BadTable { path: PathBuf, error: OpenError },
    /// A new table cannot be made.
    #[error("cannot make the table {}", error.at(path))]
    Table { path: PathBuf, error: OpenError },
    /// A folder or file cannot be used.
    #[error("{}: {error}", path.display())]
    Folder { path: PathBuf, error: io::Error },
    /// A folder of the keeper's belongs to another user, or others may write to it.
    #[error(
        "{} is {whose}, who could put another file in this one's place; choose a folder of its own, or give it back: \
         chown root {0} && chmod go-w {0}", path.display()
    )]
    Foreign { path: PathBuf, whose: String },
    #[error("there is no user `{name}` to run the engine as ({error}); set `runtime.user`")]
    User { name: String, error: io::Error },
    #[error(
        "the engine runs as `{user}`, who may not {what} {}; open it to that user, or set `database.path` or \
         `runtime.user`", folder.display()
    )]
    Barred { user: String, what: &'static str, folder: PathBuf },
    #[error("there is no service manager to keep descriptors (NOTIFY_SOCKET is not set): start it without --store")]
    NoManager,
    /// The sockets died with it. An interface of the same name needs others.
    #[error("interface {0} is gone; start again when it is back")]
    InterfaceGone(String),
    /// Frames would go on bearing the address that it had when it was opened.
    #[error("interface {interface} has the MAC address {is} now; it was {was}: start again, with that one")]
    MacChanged { interface: String, was: Mac, is: Mac },
    #[error(
        "{interface} has {has} receive queues, and interface.queues is {wanted}: set another, or \
         `ethtool -L {interface} combined {wanted}` (scripts/tune-nic.sh -i {interface} -q {wanted})"
    )]
    FewQueues { interface: String, has: u32, wanted: u32 },
    #[error("another dispatch server has {} already; give this one a `runtime.pin` of its own", folder.display())]
    PinsHeld { folder: PathBuf },
    #[error(
        "{} is on no BPF file system, and none can be mounted there ({error}): `mount -t bpf bpf /sys/fs/bpf`, or \
         name a folder of one by `runtime.pin`", folder.display()
    )]
    NoBpffs { folder: PathBuf, error: io::Error },
    #[error(
        "interfaces {one} and {other} have the same MAC address {mac}: give one another, or serve the bond that \
         they are members of, which is steered in generic mode"
    )]
    SameMac { one: String, other: String, mac: Mac },
    #[error(transparent)]
    Xdp(#[from] XdpError),
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// The first engine. What stopped it would stop the next.
    #[error("the engine cannot go on: {0}")]
    Engine(String),
    #[error(
        "another dispatch server controls, under epoch {0}, above this one's: it has been replaced, and never controls again by \
         being started. To give control to this one, stop the other and run `baton control take` here"
    )]
    Fenced(Epoch),
    /// The system refused something.
    #[error("cannot {doing}: {error}")]
    System { doing: &'static str, error: io::Error },
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}
