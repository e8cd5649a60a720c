//! The estate: everything that an engine is handed and that outlives it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::handover::{self, Death, Manifest, Role, TableOrigin};
use super::program::Identity;
use super::store::Store;
use super::table::KeptTable;
use crate::config::{Auto, Config, ConfigError, Cores, Wait};
use crate::sys::af_xdp::{self, Bound, XdpError};
use crate::sys::bpf::{Mode, SteerError, SteerSettings, Steering};
use crate::sys::clock;
use crate::sys::holds::{Asked, LockFile, NetworkName};
use crate::sys::interface::{Interface, InterfaceError};
use crate::sys::mounts;
use crate::sys::process::User;
use crate::sys::processors::{self, Choice};
use crate::sys::succession::Succession;
use crate::table::OpenError;
use crate::wire::{Domain, Mac};

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
    /// No sockets.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// No steering.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// The first engine could not go on. What stopped it would stop the next.
    #[error("the engine cannot go on: {0}")]
    Engine(String),
    /// Another dispatch server controls.
    #[error(
        "another dispatch server controls, under epoch {0:#x}, above this one's: it has been replaced, and stays stopped"
    )]
    Fenced(u64),
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

/// Everything that outlives an engine. Dropped, it leaves the interface steered and the table in its place, as a
/// killed keeper does; `clear_away` is for a stop that was asked for.
pub struct Estate {
    config: Config,
    table: KeptTable,
    bound: Bound,
    mac: Mac,
    /// What engines have learned of where domains are.
    next_hops: BTreeMap<Domain, Mac>,
    steering: Steering,
    succession: (Succession, OwnedFd),
    api: UnixListener,
    /// What is kept by the service manager serves the next keeper, after a stop too.
    is_kept: bool,
    _holds: (NetworkName, LockFile),
}

impl Estate {
    /// Opens it: takes up what an earlier keeper left, makes what is missing.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub(super) fn open(mut config: Config, user: Option<&User>, mut store: Store<'_>) -> Result<Self, KeeperError> {
        let interface = Interface::find(&config.interface.name)?;
        let mac = interface.mac()?;
        // Before anything is touched: what follows belongs to whoever has these.
        let holds = hold(&config)?;
        let table = KeptTable::open(&config)?;
        open_database_folder(&config, user)?;
        let mounted = open_pins(&config.runtime.pin())?;

        let queues = match config.interface.queues {
            Some(queues) => queues,
            None => interface.queues()?,
        };
        let rings = config.rings_per_queue(queues)?;
        choose_cores(&mut config, &interface, (queues * rings) as usize);
        // Before the sockets: a driver may reset its queues when it is given its first program.
        let steer = SteerSettings {
            probe_port: config.interface.probe_port,
            source_rate: config.interface.source_rate,
            ..SteerSettings::new(config.interface.ethertype, rings)
        };
        let steering = Steering::attach(&interface, &steer, Some(&config.runtime.pin()))?;
        if config.interface.known_macs_only {
            steering.admit(&config.domains.iter().filter_map(|domain| domain.mac).collect())?;
            // Now that it knows them.
            steering.set(&SteerSettings { known_only: true, ..steer })?;
        }
        let (bound, api) = match open_sockets(&config, interface, (queues, rings), &steering, &mut store) {
            Ok(opened) => opened,
            Err(error) => {
                clear_steering(steering, mounted.as_deref(), &config.interface.name);
                return Err(error);
            }
        };
        let succession = Succession::create()
            .map_err(|error| KeeperError::System { doing: "make the locks of the succession", error })?;
        let next_hops = BTreeMap::new();
        let is_kept = store.keeps();
        Ok(Self { config, table, bound, mac, next_hops, steering, succession, api, is_kept, _holds: holds })
    }

    /// What it was opened with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What it is, in a line for the log.
    pub fn describe(&self) -> String {
        let table = match &self.table.origin {
            TableOrigin::Kept => "the table of before serves".into(),
            TableOrigin::Fresh { why } => format!("the database serves: {why}"),
        };
        format!(
            "{}: {} {}, steered {}; {table}",
            self.config.interface.name,
            self.bound.sockets.len(),
            if self.bound.sockets.len() == 1 { "ring" } else { "rings" },
            self.mode()
        )
    }

    fn mode(&self) -> &'static str {
        match self.steering.mode() {
            Some(Mode::Native) => "native",
            Some(Mode::Generic) => "generic",
            // Steering that is loaded and not attached, which `attach` never gives.
            None => "nowhere",
        }
    }

    /// What became of the frames that steering saw, by name.
    pub(super) fn steered(&self) -> Result<BTreeMap<String, u64>, SteerError> {
        Ok(self.steering.counters()?.iter().map(|(verdict, count)| (verdict.name().to_owned(), count)).collect())
    }

    /// Whether the interface is still there that the sockets are bound to.
    pub(super) fn check_interface(&self) -> Result<(), KeeperError> {
        match self.bound.sockets.iter().any(|socket| af_xdp::is_gone(socket.as_fd())) {
            true => Err(KeeperError::InterfaceGone(self.config.interface.name.clone())),
            false => Ok(()),
        }
    }

    /// Sends it to an engine.
    pub(super) fn hand_over(
        &self,
        line: BorrowedFd<'_>,
        role: Role,
        incarnation: u32,
        predecessor: Option<Death>,
        active: Option<u32>,
    ) -> io::Result<()> {
        let manifest = Manifest {
            version: handover::VERSION,
            keeper: Identity::ours(),
            role,
            incarnation,
            config: self.config.clone(),
            table: self.table.origin.clone(),
            predecessor,
            active,
            sent_ns: clock::now().0,
            mac: self.mac,
            next_hops: self.next_hops.iter().map(|(&domain, &mac)| (domain, mac)).collect(),
            mode: self.mode().into(),
            xdp: self.bound.settings.clone(),
            sockets: self.bound.sockets.len(),
        };
        let table = self.table.table.mapping().fd().expect("a keeper's table is a file");
        let sockets: Vec<_> = self.bound.sockets.iter().map(AsFd::as_fd).collect();
        let (umem, succession, api) = (self.bound.umem.as_fd(), self.succession.1.as_fd(), self.api.as_fd());
        handover::send(line, &manifest, [table, umem, succession, api], &sockets)
    }

    /// The locks of who works with table and rings.
    pub(super) fn succession(&self) -> &Succession {
        &self.succession.0
    }

    /// Whether the table holds all that the database holds, so that whoever comes next goes by it.
    pub(super) fn is_complete(&self) -> bool {
        self.table.origin == TableOrigin::Kept
    }

    /// An engine has learned where frames to a domain go.
    pub(super) fn learned(&mut self, domain: Domain, mac: Mac) {
        self.next_hops.insert(domain, mac);
    }

    /// An engine has said that the table holds all that the database holds.
    pub(super) fn complete(&mut self) {
        self.table.complete();
    }

    /// Takes away what serves nobody after a stop: steering, pins, the API's socket. The table stays, for the next start,
    /// and so does an empty BPF file system: to unmount it takes CAP_SYS_ADMIN. What the service manager keeps is
    /// for the next keeper, whose start may be what this stop is for.
    pub(super) fn clear_away(self) {
        if self.is_kept {
            return;
        }
        let _ = fs::remove_file(self.config.runtime.api_socket());
        clear_steering(self.steering, None, &self.config.interface.name);
    }
}

/// Chooses processors where the operator leaves that to us.
fn choose_cores(config: &mut Config, interface: &Interface, workers: usize) {
    if config.worker.cores != Cores::Chosen(Auto::Auto) {
        return;
    }
    config.worker.cores = Cores::default();
    match processors::choose(interface, workers) {
        Some(Choice { workers, control }) => {
            config.worker.control_core = config.worker.control_core.or(control);
            let control = config.worker.control_core;
            tracing::info!(?workers, ?control, "processors are chosen");
            config.worker.cores = Cores::These(workers);
        }
        None => tracing::warn!("there are too few cores to give {workers} workers one each: none is pinned"),
    }
}

fn open_sockets(
    config: &Config,
    interface: Interface,
    (queues, rings): (u32, u32),
    steering: &Steering,
    store: &mut Store<'_>,
) -> Result<(Bound, UnixListener), KeeperError> {
    let wanted = af_xdp::Settings {
        rings,
        receive: config.interface.receive_ring,
        transmit: config.interface.transmit_ring,
        huge_pages: config.interface.huge_pages,
        zero_copy: config.interface.zero_copy,
        // A driver that copies has interrupts, or none at all, as a veth pair.
        busy_poll: config.interface.zero_copy && config.worker.wait == Wait::Busy,
        ..af_xdp::Settings::new(interface, queues)
    };
    let kept = store.rings(&wanted).map_err(|error| KeeperError::System { doing: "take up the rings", error })?;
    let bound = match kept {
        Some(bound) => bound,
        None => store
            .keep_rings(&wanted, af_xdp::bind(&wanted)?)
            .map_err(|error| KeeperError::System { doing: "have the rings kept", error })?,
    };
    for (n, socket) in (0..).zip(&bound.sockets) {
        steering.set_ring(n / rings, n % rings, socket.as_fd())?;
    }
    let path = config.runtime.api_socket();
    if let Some(api) = store.api(&path) {
        return Ok((bound, api));
    }
    let api = listen(&path)?;
    store.keep_api(&api);
    Ok((bound, api))
}

fn clear_steering(steering: Steering, mounted: Option<&Path>, interface: &str) {
    if let Err(error) = steering.detach() {
        tracing::warn!("{interface} stays steered: {error}");
    }
    if let Some(folder) = mounted
        && let Err(error) = mounts::unmount_from(folder)
    {
        tracing::warn!("{} stays mounted: {error}", folder.display());
    }
}

/// Takes what only one keeper at a time may have.
fn hold(config: &Config) -> Result<(NetworkName, LockFile), KeeperError> {
    let name = &config.interface.name;
    let system = |error| KeeperError::System { doing: "take hold of the interface", error };
    let interface = match NetworkName::ask(&format!("baton.keeper.{name}")).map_err(system)? {
        Asked::Ours(hold) => hold,
        Asked::Held(pid) => return Err(KeeperError::InterfaceHeld { name: name.clone(), pid }),
    };
    let dir = &config.runtime.dir;
    own_folder(dir, 0o755)?;
    let path = dir.join("keeper.lock");
    match LockFile::ask(&path).map_err(|error| KeeperError::Folder { path, error })? {
        Asked::Ours(lock) => {
            own_folder(config.table.path.parent().unwrap_or(Path::new("/")), 0o700)?;
            Ok((interface, lock))
        }
        Asked::Held(pid) => Err(KeeperError::RuntimeHeld { dir: dir.clone(), pid }),
    }
}

/// Makes a folder if there is none. What is there must be this user's, and nobody else's to write to.
fn own_folder(path: &Path, mode: u32) -> Result<(), KeeperError> {
    let failed = |error| KeeperError::Folder { path: path.into(), error };
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed)?;
    let metadata = fs::metadata(path).map_err(failed)?;
    let whose = match metadata {
        _ if metadata.uid() != rustix::process::geteuid().as_raw() => format!("user {}'s", metadata.uid()),
        _ if metadata.mode() & 0o022 != 0 => "open to other users".into(),
        _ => return Ok(()),
    };
    Err(KeeperError::Foreign { path: path.into(), whose })
}

/// Makes the database's folder if there is none, and sees to it that the engine can get there.
fn open_database_folder(config: &Config, user: Option<&User>) -> Result<(), KeeperError> {
    let folder = match config.database.path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let failed = |error| KeeperError::Folder { path: folder.into(), error };
    let is_new = !folder.try_exists().map_err(failed)?;
    if is_new {
        if let Some(parent) = folder.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed)?;
        }
        DirBuilder::new().mode(0o750).create(folder).map_err(failed)?;
    }
    let Some(user) = user else { return Ok(()) };
    if is_new {
        chown(folder, Some(user.uid), Some(user.gid)).map_err(failed)?;
    }
    let barred = |what, folder: PathBuf| KeeperError::Barred { user: user.name.clone(), what, folder };
    if let Some(closed) = user.barred(folder).map_err(failed)? {
        return Err(barred("enter", closed));
    }
    if !user.may(&fs::metadata(folder).map_err(failed)?, 0o3) {
        return Err(barred("write to", folder.into()));
    }
    Ok(())
}

/// Makes the folder of the pins, on a BPF file system; gives it back if that had to be mounted.
fn open_pins(folder: &Path) -> Result<Option<PathBuf>, KeeperError> {
    let failed = |error| KeeperError::Folder { path: folder.into(), error };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    if mounts::is_bpf(folder).map_err(failed)? {
        return Ok(None);
    }
    mounts::mount_bpf(folder)
        .map_err(|error| KeeperError::System { doing: "mount a BPF file system for the pins", error })?;
    Ok(Some(folder.into()))
}

/// The API's socket. What a dead keeper left in its place goes; the runtime folder's lock says that it is dead.
fn listen(path: &Path) -> Result<UnixListener, KeeperError> {
    let failed = |error| KeeperError::Folder { path: path.into(), error };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}
