//! The resources: everything that an engine is handed and that outlives it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use super::bpf_pins::{self, Pins};
use super::error::KeeperError;
use super::fd_store::Store;
use super::folders;
use super::hearing::Known;
use super::interfaces::{self, Found, Tags, Watch};
use super::table::KeptTable;
use crate::cascade::Hop;
use crate::config::{Auto, Config, Cores, Wait};
use crate::handover::Attached;
use crate::handover::compat::{HANDOVER, Identity};
use crate::handover::protocol::{self, Death, Frames, Manifest, Role, Served, TableOrigin};
use crate::sys::af_xdp::{self, Bound};
use crate::sys::bpf::{SteerError, SteerSettings, Steering};
use crate::sys::clock;
use crate::sys::cpu_topology::{self, Choice};
use crate::sys::exclusive::{Asked, InterfaceHold, LockFile};
use crate::sys::interface::Interface;
use crate::sys::process::User;
use crate::sys::robust_locks::RobustLocks;
use crate::wire::Domain;

/// Everything that outlives an engine. Dropped, it leaves the interface steered and the table in
/// its place, as a killed keeper does; `clear_away` is for a stop that was asked for.
pub struct Resources {
    pub(super) config: Config,
    pub(super) table: KeptTable,
    /// As they are configured.
    pub(super) interfaces: Vec<InterfaceResources>,
    /// What was wanted of each; less may have been granted.
    pub(super) wanted: Vec<af_xdp::Settings>,
    /// The rings were taken up, and are what an earlier keeper's engines left.
    pub(super) taken_up: bool,
    /// What engines have learned of where domains are.
    pub(super) next_hops: BTreeMap<Domain, Hop>,
    pub(super) succession: (RobustLocks, OwnedFd),
    pub(super) api: UnixListener,
    /// What is kept by the service manager serves the next keeper, after a stop too.
    pub(super) is_kept: bool,
    tags: Tags,
    _holds: (Vec<InterfaceHold>, LockFile, Pins),
}

/// The part of it that a service manager may have kept.
struct Opened {
    bound: Vec<Bound>,
    api: UnixListener,
    wanted: Vec<af_xdp::Settings>,
    taken_up: bool,
}

/// An interface with all that is on it.
pub(super) struct InterfaceResources {
    found: Found,
    pub(super) steering: Steering,
    pub(super) bound: Bound,
    watch: Watch,
}

impl Resources {
    /// Opens it: takes up what an earlier keeper left, makes what is missing.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub(super) fn open(mut config: Config, user: Option<&User>, mut store: Store<'_>) -> Result<Self, KeeperError> {
        let found = interfaces::find_all(&config)?;
        // Before anything is touched: what follows belongs to the holder of these.
        let holds = hold(&config)?;
        let table = KeptTable::open(&config)?;
        folders::open_database(&config, user)?;
        let (queues, rings) = interfaces::share_out(&config, &found)?;
        let pins = Pins::open(&config)?;
        let interfaces: Vec<_> = found.iter().map(|found| found.interface.clone()).collect();
        choose_cores(&mut config, &interfaces, (queues.iter().sum::<u32>() * rings) as usize);
        pins.clear_others(&config);
        // Before the sockets: a driver may reset its queues when it is given its first program, or
        // leaves tags on.
        let tags = Tags::keep(&config, &found);
        let mut steerings = Vec::new();
        let opened = interfaces
            .iter()
            .try_for_each(|interface| {
                steerings.push(steer(&config, interface, rings)?);
                Ok(())
            })
            .and_then(|()| {
                let queues = queues.iter().map(|&queues| (queues, rings));
                open_sockets(&config, interfaces.into_iter().zip(queues), &mut steerings, &mut store)
            });
        let Opened { bound, api, wanted, taken_up } = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // Where sockets are kept, frames wait in them for the next try: what brings them
                // there stays.
                let stays = |steering: &Steering| store.keeps() && steering.is_inherited();
                let (stays, goes): (Vec<_>, Vec<_>) =
                    config.interface.names.iter().zip(steerings).partition(|(_, steering)| stays(steering));
                for (name, steering) in goes {
                    bpf_pins::clear(&bpf_pins::folder_of(&config, name), steering);
                }
                if stays.is_empty() {
                    pins.unmount();
                    tags.put_back();
                }
                return Err(error);
            }
        };
        let parts = found.into_iter().zip(steerings).zip(bound);
        let interfaces = parts.map(|((found, steering), bound)| {
            let watch = Watch::begin(&found);
            InterfaceResources { found, steering, bound, watch }
        });
        let interfaces = interfaces.collect();
        let succession = RobustLocks::create()
            .map_err(|error| KeeperError::System { doing: "make the locks of the succession", error })?;
        let next_hops = BTreeMap::new();
        let is_kept = store.keeps();
        Ok(Self {
            config,
            table,
            interfaces,
            wanted,
            taken_up,
            next_hops,
            succession,
            api,
            is_kept,
            tags,
            _holds: (holds.0, holds.1, pins),
        })
    }

    /// With processors chosen, where the operator left that open.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// In a line for the log.
    pub fn describe(&self) -> String {
        let table = match &self.table.origin {
            TableOrigin::Kept => "the table of the last run serves".into(),
            TableOrigin::Fresh { why } => format!("the database serves: {why}"),
        };
        let served = self.config.interface.names.iter().zip(&self.interfaces).map(|(name, interface)| {
            let rings = interface.bound.sockets.len();
            format!("{name}: {rings} {}, steered {}", if rings == 1 { "ring" } else { "rings" }, interface.mode())
        });
        format!("{}; {table}", served.collect::<Vec<_>>().join("; "))
    }

    /// What became of the frames that steering saw, on all interfaces, by name.
    pub(super) fn steered(&self) -> Result<BTreeMap<String, u64>, SteerError> {
        let mut frames = BTreeMap::new();
        for interface in &self.interfaces {
            for (verdict, count) in interface.steering.counters()?.iter() {
                *frames.entry(verdict.name().to_owned()).or_default() += count;
            }
        }
        Ok(frames)
    }

    /// Whether the interfaces are still there that the sockets are bound to, and what they were;
    /// what can be is put right.
    pub(super) fn check_interfaces(&mut self) -> Result<(), KeeperError> {
        let gone = self.interfaces.iter().find(|interface| {
            let mut sockets = interface.bound.sockets.iter();
            sockets.any(|socket| af_xdp::is_gone(socket.as_fd()))
        });
        match gone {
            Some(interface) => Err(KeeperError::InterfaceGone(interface.bound.settings.interface.name.clone())),
            None => {
                let now = Instant::now();
                self.interfaces
                    .iter_mut()
                    .try_for_each(|InterfaceResources { found, steering, watch, .. }| watch.look(now, found, steering))
            }
        }
    }

    /// Sends all of it to an engine.
    pub(super) fn hand_over(
        &self,
        line: BorrowedFd<'_>,
        role: Role,
        incarnation: u32,
        predecessor: Option<Death>,
        active: Option<u32>,
    ) -> io::Result<()> {
        let manifest = Manifest {
            version: HANDOVER,
            keeper: Identity::ours(),
            role,
            incarnation,
            config: self.config.clone(),
            table: self.table.origin.clone(),
            predecessor,
            active,
            sent_ns: clock::now().0,
            next_hops: self.next_hops.iter().map(|(&domain, &hop)| (domain, hop)).collect(),
            interfaces: self.interfaces.iter().map(InterfaceResources::served).collect(),
        };
        let table = self.table.table.mapping().fd().expect("a keeper's table is a file");
        let frames: Vec<_> = self
            .interfaces
            .iter()
            .map(|interface| {
                let Bound { umem, sockets, .. } = &interface.bound;
                Frames { umem: umem.as_fd(), sockets: sockets.iter().map(AsFd::as_fd).collect() }
            })
            .collect();
        protocol::send(line, &manifest, [table, self.succession.1.as_fd(), self.api.as_fd()], &frames)
    }

    /// What notices of engines may name.
    pub(super) fn known(&self) -> Known {
        let domains = self.config.domains.iter().map(|domain| domain.number).collect();
        Known { domains, interfaces: self.interfaces.len() }
    }

    /// Worker threads of an engine.
    pub(super) fn workers(&self) -> usize {
        self.interfaces.iter().map(|interface| interface.bound.sockets.len()).sum()
    }

    /// The locks of the threads that work with table and rings.
    pub(super) fn succession(&self) -> &RobustLocks {
        &self.succession.0
    }

    /// Whether the table holds all that the database holds, so that the next engine goes by it.
    pub(super) fn is_complete(&self) -> bool {
        self.table.origin == TableOrigin::Kept
    }

    /// Where frames to a domain go, for engines that are started later.
    pub(super) fn learned(&mut self, domain: Domain, hop: Hop) {
        self.next_hops.insert(domain, hop);
    }

    /// The table holds all that the database holds.
    pub(super) fn complete(&mut self) {
        self.table.complete();
    }

    /// Removes what is of no use after a stop: steering, pins, the API's socket. The table stays,
    /// for the next start, and so does an empty BPF file system: to unmount it takes CAP_SYS_ADMIN.
    /// What the service manager keeps is for the next keeper, whose start may be the reason for
    /// this stop.
    pub(super) fn clear_away(self) {
        if self.is_kept {
            return;
        }
        let _ = fs::remove_file(self.config.runtime.api_socket());
        for (name, interface) in self.config.interface.names.iter().zip(self.interfaces) {
            bpf_pins::clear(&bpf_pins::folder_of(&self.config, name), interface.steering);
        }
        self.tags.put_back();
    }
}

impl InterfaceResources {
    /// Never [`Attached::Nowhere`]: it was attached.
    fn mode(&self) -> Attached {
        self.steering.mode().into()
    }

    fn served(&self) -> Served {
        Served { mac: self.found.mac, mode: self.mode(), xdp: self.bound.settings.clone() }
    }
}

/// Puts steering on an interface, by the configuration; where another build's is there, makes the
/// one that replaces it.
fn steer(config: &Config, interface: &Interface, rings: u32) -> Result<Steering, KeeperError> {
    let settings = SteerSettings {
        probe_port: config.interface.probe_port,
        source_rate: config.interface.source_rate,
        known_only: config.interface.known_macs_only,
        ..SteerSettings::new(config.interface.ethertype, rings)
    };
    let known = config.domains.iter().filter_map(|domain| domain.mac).collect();
    Ok(Steering::begin(interface, &settings, &known, Some(&bpf_pins::folder_of(config, &interface.name)))?)
}

/// Chooses processors where the configuration leaves that open.
fn choose_cores(config: &mut Config, interfaces: &[Interface], workers: usize) {
    if config.worker.cores != Cores::Chosen(Auto::Auto) {
        return;
    }
    config.worker.cores = Cores::default();
    match cpu_topology::choose(interfaces, workers) {
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
    interfaces: impl Iterator<Item = (Interface, (u32, u32))>,
    steerings: &mut [Steering],
    store: &mut Store<'_>,
) -> Result<Opened, KeeperError> {
    let wanted = interfaces.map(|(interface, (queues, rings))| af_xdp::Settings {
        rings,
        receive: config.interface.receive_ring,
        transmit: config.interface.transmit_ring,
        huge_pages: config.interface.huge_pages,
        zero_copy: config.interface.zero_copy,
        // A driver that copies has interrupts, or none at all, as a veth pair.
        busy_poll: config.interface.zero_copy && config.worker.wait == Wait::Busy,
        ..af_xdp::Settings::new(interface, queues)
    });
    let wanted: Vec<_> = wanted.collect();
    let kept = store.rings(&wanted).map_err(|error| KeeperError::System { doing: "take up the rings", error })?;
    let taken_up = kept.is_some();
    let bound = match kept {
        Some(bound) => bound,
        None => store
            .keep_rings(&wanted, wanted.iter().map(af_xdp::bind).collect::<Result<_, _>>()?)
            .map_err(|error| KeeperError::System { doing: "have the rings kept", error })?,
    };
    for (bound, steering) in bound.iter().zip(steerings) {
        fill_rings(bound, steering)?;
        // Another build's program may be there until now: no frame that comes meanwhile finds an
        // empty ring.
        steering.finish()?;
    }
    let path = config.runtime.api_socket();
    if let Some(api) = store.api(&path) {
        return Ok(Opened { bound, api, wanted, taken_up });
    }
    let api = listen(&path)?;
    store.keep_api(&api);
    Ok(Opened { bound, api, wanted, taken_up })
}

/// Has steering hand frames to these sockets.
pub(super) fn fill_rings(bound: &Bound, steering: &Steering) -> Result<(), SteerError> {
    let rings = bound.settings.rings;
    for (n, socket) in (0..).zip(&bound.sockets) {
        steering.set_ring(n / rings, n % rings, socket.as_fd())?;
    }
    Ok(())
}

/// Takes what only one keeper at a time may have.
fn hold(config: &Config) -> Result<(Vec<InterfaceHold>, LockFile), KeeperError> {
    let mut interfaces = Vec::new();
    for name in &config.interface.names {
        match bpf_pins::hold(name)? {
            Asked::Ours(hold) => interfaces.push(hold),
            Asked::Held(pid) => return Err(KeeperError::InterfaceHeld { name: name.clone(), pid }),
        }
    }
    let dir = &config.runtime.dir;
    folders::own(dir, 0o755)?;
    let path = dir.join("keeper.lock");
    match LockFile::ask(&path).map_err(|error| KeeperError::Folder { path, error })? {
        Asked::Ours(lock) => {
            folders::own(config.table.path.parent().unwrap_or(Path::new("/")), 0o700)?;
            Ok((interfaces, lock))
        }
        Asked::Held(pid) => Err(KeeperError::RuntimeHeld { dir: dir.clone(), pid }),
    }
}

/// The API's socket. A socket on which no process answers was left by a dead keeper, and is
/// removed; anything else in its place stays.
pub(super) fn listen(path: &Path) -> Result<UnixListener, KeeperError> {
    let failed = |error| KeeperError::Folder { path: path.into(), error };
    let taken = |what| failed(io::Error::new(io::ErrorKind::AlreadyExists, what));
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(taken(
                "the API's socket is to be here, and this is none: name another place in `runtime.api_socket`",
            ));
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => return Err(taken("another process listens here: name another place in `runtime.api_socket`")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}
