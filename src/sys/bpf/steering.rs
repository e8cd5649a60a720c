//! The steering program on its interface: loads, attaches, pins it and takes it over.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapInfo, ObjectBuilder, ProgramHandle};

use super::libbpf::{os_error, talk_through_tracing};
use super::{
    ARRIVAL_BYTES, Counters, Mode, QUEUES_MAX, RINGS_PER_QUEUE_MAX, SteerError, SteerSettings, arrival, calls,
};
use crate::sys::interface::Interface;
use crate::sys::mounts::is_bpf;
use crate::time::Nanos;
use crate::wire::Mac;

/// The compiled program, an ELF object with its BTF.
pub const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

const PROGRAM: &str = "steer";
/// The name of a link's pin. The maps are pinned beside it, and before it: if a link exists, so do
/// they.
const LINK: &str = "link";
const MAPS: [&str; 4] = ["settings", "rings", "verdicts", "known"];

/// The steering program and, unless it is only loaded, its attachment to an interface.
///
/// Pinned, it outlives the process; not pinned, it leaves the interface when this is dropped.
#[derive(Debug)]
pub struct Steering {
    program: ProgramHandle,
    maps: Maps,
    link: Option<Link>,
    /// Another build's program is still on the link; this one replaces it when its rings are
    /// filled.
    follows: bool,
    /// An earlier process had pinned it.
    inherited: bool,
}

#[derive(Debug)]
struct Maps {
    settings: MapHandle,
    rings: MapHandle,
    verdicts: MapHandle,
    known: MapHandle,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) fd: OwnedFd,
    pub(crate) mode: Mode,
    pub(crate) pins: Option<PathBuf>,
}

impl Drop for Link {
    /// What is not pinned ends here. Closing it would not be enough: if another thread is just
    /// starting a program, the child has a copy of the descriptor until it executes that.
    fn drop(&mut self) {
        if self.pins.is_none() {
            let _ = calls::detach_link(self.fd.as_fd());
        }
    }
}

/// The program's verdict on a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// To a socket.
    Redirect,
    /// To the kernel.
    Pass,
    /// The frame is discarded.
    Drop,
    /// Another XDP action, none of which the program ever returns.
    Other(u32),
}

/// The result of running the program on a frame that did not arrive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DryRun {
    /// What it would do with the frame.
    pub action: Action,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// The stamp before the frame, if it wrote one.
    pub arrived: Option<Nanos>,
}

impl Steering {
    /// Loads the program without attaching it.
    pub fn load(settings: &SteerSettings) -> Result<Self, SteerError> {
        talk_through_tracing();
        let refused = |error: libbpf_rs::Error| match os_error(&error) {
            denied if denied.kind() == io::ErrorKind::PermissionDenied => {
                SteerError::Privilege { what: "loading a program" }
            }
            error => SteerError::Load { error },
        };
        let open = ObjectBuilder::default().open_memory(OBJECT).map_err(refused)?;
        let object = open.load().map_err(refused)?;
        let map = |name: &str| {
            let map =
                object.maps().find(|map| map.name() == name).expect("the object has the map: one build made both");
            MapHandle::try_from(&map).map_err(refused)
        };
        let maps =
            Maps { settings: map("settings")?, rings: map("rings")?, verdicts: map("verdicts")?, known: map("known")? };
        let program = object.progs_mut().find(|program| program.name() == PROGRAM).expect("and the program");
        let program = ProgramHandle::try_from(&program).map_err(refused)?;
        let steering = Self { program, maps, link: None, follows: false, inherited: false };
        steering.set(settings)?;
        Ok(steering)
    }

    /// Puts steering on the interface: in native mode if possible, otherwise in generic mode. With
    /// a folder (on a bpffs) it is pinned there. Steering that an earlier process pinned there
    /// continues; if it is another build's, its program is replaced without a gap. Closed sockets
    /// have left their rings: [`Self::set_ring`] fills them.
    pub fn attach(interface: &Interface, settings: &SteerSettings, pins: Option<&Path>) -> Result<Self, SteerError> {
        let mut steering = Self::begin(interface, settings, &BTreeSet::new(), pins)?;
        steering.finish()?;
        Ok(steering)
    }

    /// As [`Self::attach`], but from the first frame on only these MAC addresses may send, if that
    /// is set; and another build's program stays until [`Self::finish`], so that rings can be
    /// filled before.
    pub fn begin(
        interface: &Interface,
        settings: &SteerSettings,
        known: &BTreeSet<Mac>,
        pins: Option<&Path>,
    ) -> Result<Self, SteerError> {
        if let Some(folder) = pins {
            prepare(folder)?;
            if let Some(found) = Self::take_up(interface, settings, known, folder)? {
                return Ok(found);
            }
        }
        check_free(interface, pins)?;
        let mut steering = Self::load(settings)?;
        steering.admit(known)?;
        let (fd, mode) = steering.link(interface)?;
        if let Some(folder) = pins {
            steering.pin(folder)?;
            pin(fd.as_fd(), &folder.join(LINK))?;
        }
        steering.link = Some(Link { fd, mode, pins: pins.map(Path::to_owned) });
        Ok(steering)
    }

    /// Replaces the program of another build, if that is still there.
    pub fn finish(&mut self) -> Result<(), SteerError> {
        let Some(link) = self.link.as_ref().filter(|_| self.follows) else { return Ok(()) };
        calls::update_link(link.fd.as_fd(), self.program.as_fd()).map_err(call("replacing another build's program"))?;
        link.pins.as_deref().map_or(Ok(()), |folder| self.pin(folder))?;
        self.follows = false;
        Ok(())
    }

    /// Attaches it to its interface again if somebody removed it. True if that was so.
    pub fn mend(&mut self, interface: &Interface) -> Result<bool, SteerError> {
        let Some(there) = &mut self.link else { return Ok(false) };
        let (index, _) = calls::link_info(there.fd.as_fd()).map_err(call("reading the link"))?;
        if index != 0 {
            return Ok(false);
        }
        let (fd, mode) = link(self.program.as_fd(), interface)?;
        if let Some(folder) = &there.pins {
            let path = folder.join(LINK);
            remove(&path)?;
            pin(fd.as_fd(), &path)?;
        }
        (there.fd, there.mode) = (fd, mode);
        Ok(true)
    }

    /// Whether an earlier process had attached and pinned it.
    pub fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// Whether it is attached to this interface: the link gives the interface's index, but not its
    /// network namespace.
    pub fn is_on(&self, interface: &Interface) -> bool {
        self.link.as_ref().is_some_and(|link| is_on(link.fd.as_fd(), interface).unwrap_or(false))
    }

    /// The steering that an earlier process pinned, unchanged.
    pub fn open(folder: &Path) -> Result<Self, SteerError> {
        let path = folder.join(LINK);
        let fd = calls::open_pin(&path).map_err(|error| SteerError::Pin { path, error })?;
        let (index, program) = calls::link_info(fd.as_fd()).map_err(call("reading the link"))?;
        let program = attached(program, folder)?;
        let mode = mode_on(index)?;
        let link = Some(Link { fd, mode, pins: Some(folder.to_owned()) });
        Ok(Self { program, maps: Maps::open(folder)?, link, follows: false, inherited: true })
    }

    /// How it is attached; none if it is only loaded.
    pub fn mode(&self) -> Option<Mode> {
        self.link.as_ref().map(|link| link.mode)
    }

    /// Changes what it goes by.
    pub fn set(&self, settings: &SteerSettings) -> Result<(), SteerError> {
        let update = self.maps.settings.update(&0_u32.to_ne_bytes(), &settings.bytes(), MapFlags::ANY);
        update.map_err(|error| call("changing its settings")(os_error(&error)))
    }

    /// Sets whose frames are accepted if only known MAC addresses may send: these, and no others.
    pub fn admit(&self, macs: &BTreeSet<Mac>) -> Result<(), SteerError> {
        let key = |mac: &Mac| mac.0.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)).to_ne_bytes();
        let wanted: BTreeSet<_> = macs.iter().map(key).collect();
        let failed = |error: libbpf_rs::Error| call("setting which MAC addresses may send")(os_error(&error));
        let there: Vec<_> = self.maps.known.keys().collect();
        // Removals first: there may be no room for both.
        for gone in there.iter().filter(|there| !wanted.iter().any(|key| key[..] == there[..])) {
            self.maps.known.delete(gone).map_err(failed)?;
        }
        wanted
            .iter()
            .try_for_each(|key| self.maps.known.update(key, &1_u32.to_ne_bytes(), MapFlags::ANY))
            .map_err(failed)
    }

    /// Assigns a socket to a place: frames for this ring of this queue go to it from now on. When
    /// its last descriptor is closed it leaves the place by itself.
    pub fn set_ring(&self, queue: u32, ring: u32, socket: BorrowedFd<'_>) -> Result<(), SteerError> {
        if queue >= QUEUES_MAX || ring >= RINGS_PER_QUEUE_MAX {
            return Err(SteerError::NoSuchRing { queue, ring });
        }
        let slot = queue * RINGS_PER_QUEUE_MAX + ring;
        let update = self.maps.rings.update(&slot.to_ne_bytes(), &socket.as_raw_fd().to_ne_bytes(), MapFlags::ANY);
        update.map_err(|error| call("assigning a socket to its ring")(os_error(&error)))
    }

    /// The counts of frames by verdict so far.
    pub fn counters(&self) -> Result<Counters, SteerError> {
        let mut counters = Counters::default();
        for (index, count) in counters.0.iter_mut().enumerate() {
            let by_cpu = self.maps.verdicts.lookup_percpu(&(index as u32).to_ne_bytes(), MapFlags::ANY);
            let by_cpu = by_cpu.map_err(|error| call("reading its counters")(os_error(&error)))?.unwrap_or_default();
            *count =
                by_cpu.iter().filter_map(|bytes| Some(u64::from_ne_bytes(bytes.as_slice().try_into().ok()?))).sum();
        }
        Ok(counters)
    }

    /// What the program would do with a frame on this queue of this interface, `(0, 0)` for none in
    /// particular. The counters count it. `metadata` bytes before the frame are another program's
    /// stamp.
    pub fn dry_run(&self, data: &[u8], metadata: usize, on: (u32, u32)) -> Result<DryRun, SteerError> {
        let (action, data, metadata) =
            calls::test_run(self.program.as_fd(), data, metadata as u32, on).map_err(call("running it on a frame"))?;
        let (before, frame) = data.split_at(metadata as usize);
        let action = match action {
            libbpf_rs::libbpf_sys::XDP_REDIRECT => Action::Redirect,
            libbpf_rs::libbpf_sys::XDP_PASS => Action::Pass,
            libbpf_rs::libbpf_sys::XDP_DROP => Action::Drop,
            other => Action::Other(other),
        };
        let arrived = before.first_chunk::<ARRIVAL_BYTES>().and_then(arrival);
        Ok(DryRun { action, frame: frame.to_owned(), arrived })
    }

    /// Removes steering from the interface, and its pins.
    pub fn detach(mut self) -> Result<(), SteerError> {
        let Some(link) = self.link.take() else { return Ok(()) };
        calls::detach_link(link.fd.as_fd()).map_err(call("removing it from the interface"))?;
        link.pins.as_deref().map_or(Ok(()), unpin)
    }

    /// The steering that is pinned in the folder, if it is there and alive. If it is another
    /// build's, this build's, ready to replace it.
    fn take_up(
        interface: &Interface,
        settings: &SteerSettings,
        known: &BTreeSet<Mac>,
        folder: &Path,
    ) -> Result<Option<Self>, SteerError> {
        let path = folder.join(LINK);
        let fd = match calls::open_pin(&path) {
            Ok(fd) => fd,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                unpin(folder)?;
                return Ok(None);
            }
            Err(error) => return Err(SteerError::Pin { path, error }),
        };
        let (index, program) = calls::link_info(fd.as_fd()).map_err(call("reading the link"))?;
        if index == 0 {
            // The interface was removed, and its attachment with it; a new interface of that name
            // is another one.
            unpin(folder)?;
            return Ok(None);
        }
        if !is_on(fd.as_fd(), interface).map_err(call("reading which program is on the interface"))? {
            return Err(SteerError::PinnedElsewhere { folder: folder.to_owned(), interface: index });
        }
        let fresh = Self::load(settings)?;
        let mode = mode_on(index)?;
        let link = Some(Link { fd, mode, pins: Some(folder.to_owned()) });
        // One that cannot be opened counts as another build's: a keeper that died between replacing
        // the program and pinning the new one leaves a program without a name, and a keeper may
        // lack the privileges to open that.
        if let Ok(found) = attached(program, folder)
            && let Some(maps) = Maps::of_build(folder, &found, &fresh)?
        {
            let steering = Self { program: found, maps, link, follows: false, inherited: true };
            if settings.known_only {
                steering.admit(known)?;
            }
            steering.set(settings)?;
            return Ok(Some(steering));
        }
        fresh.admit(known)?;
        Ok(Some(Self { link, follows: true, inherited: true, ..fresh }))
    }

    /// Pins program and maps.
    fn pin(&self, folder: &Path) -> Result<(), SteerError> {
        let path = folder.join(PROGRAM);
        remove(&path)?;
        pin(self.program.as_fd(), &path)?;
        self.maps.pin(folder)
    }

    fn link(&self, interface: &Interface) -> Result<(OwnedFd, Mode), SteerError> {
        link(self.program.as_fd(), interface)
    }
}

/// Attaches a program to an interface: natively if possible, otherwise generically, which is logged
/// with its reason.
pub(crate) fn link(program: BorrowedFd<'_>, interface: &Interface) -> Result<(OwnedFd, Mode), SteerError> {
    let attach = |mode| calls::link_xdp(program, interface.index, mode).map(|fd| (fd, mode));
    let native = match interface.unites() {
        // The kernel would run the program in the members' drivers, whose frames cannot go to a
        // socket of the combined interface (`xsk_rcv_check`, net/xdp/xsk.c: the socket's device has
        // to be the queue's): all would be lost without being counted.
        Some(kind) => io::Error::other(format!(
            "it is a {kind}: native mode would put the program on its members, where its sockets get no frames"
        )),
        None => match attach(Mode::Native) {
            Ok(link) => return Ok(link),
            Err(error) => error,
        },
    };
    let generic = match attach(Mode::Generic) {
        Ok(link) => {
            tracing::warn!("{} is steered in generic mode, at about a third of the rate: {native}", interface.name);
            return Ok(link);
        }
        Err(error) => error,
    };
    // Busy in both modes, or busy with a program of the other mode (EEXIST): the place is taken.
    let taken = |error: &io::Error| matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::AlreadyExists);
    if taken(&native) || taken(&generic) {
        let program = calls::xdp_on(interface.index).map_or(0, |(program, _)| program);
        return Err(SteerError::Occupied { interface: interface.name.clone(), program });
    }
    if native.kind() == io::ErrorKind::PermissionDenied {
        return Err(SteerError::Privilege { what: "attaching a program" });
    }
    Err(SteerError::Refused { interface: interface.name.clone(), native, generic })
}

/// Whether steering can be attached to an interface: no program is there, or only the one that is
/// pinned in the folder. Changes nothing.
///
/// # Errors
/// Another program is there, and which; or the kernel does not tell.
pub fn check_free(interface: &Interface, pins: Option<&Path>) -> Result<(), SteerError> {
    let (program, _) = calls::xdp_on(interface.index).map_err(call("reading which program is on the interface"))?;
    let ours = || {
        let link = calls::open_pin(&pins?.join(LINK)).ok()?;
        is_on(link.as_fd(), interface).ok()
    };
    if program == 0 || ours() == Some(true) {
        return Ok(());
    }
    Err(SteerError::Occupied { interface: interface.name.clone(), program })
}

/// Whether a link's program is the one on this interface. Programs are numbered over all network
/// namespaces, interfaces are not.
fn is_on(link: BorrowedFd<'_>, interface: &Interface) -> io::Result<bool> {
    let (index, program) = calls::link_info(link)?;
    Ok(index == interface.index && calls::xdp_on(index)?.0 == program)
}

impl Maps {
    fn open(folder: &Path) -> Result<Self, SteerError> {
        let open = |name| {
            let path = folder.join(name);
            MapHandle::from_pinned_path(&path).map_err(|error| SteerError::Pin { path, error: os_error(&error) })
        };
        Ok(Self {
            settings: open("settings")?,
            rings: open("rings")?,
            verdicts: open("verdicts")?,
            known: open("known")?,
        })
    }

    /// The folder's maps, if the program that was found is of this build and really uses them. The
    /// tag is the kernel's hash over the instructions. The maps are checked too, because a
    /// replacement may have been interrupted.
    fn of_build(folder: &Path, found: &ProgramHandle, fresh: &Steering) -> Result<Option<Self>, SteerError> {
        if found.tag() != fresh.program.tag() {
            return Ok(None);
        }
        let Ok(maps) = Self::open(folder) else { return Ok(None) };
        let used = calls::maps_of(found.as_fd()).map_err(call("reading its maps"))?;
        let own =
            maps.each().iter().all(|(_, map)| MapInfo::new(map.as_fd()).is_ok_and(|info| used.contains(&info.info.id)));
        Ok(own.then_some(maps))
    }

    fn each(&self) -> [(&'static str, &MapHandle); MAPS.len()] {
        [("settings", &self.settings), ("rings", &self.rings), ("verdicts", &self.verdicts), ("known", &self.known)]
    }

    /// Pins each under its name, and replaces an existing pin.
    fn pin(&self, folder: &Path) -> Result<(), SteerError> {
        self.each().into_iter().try_for_each(|(name, map)| {
            let path = folder.join(name);
            remove(&path)?;
            pin(map.as_fd(), &path)
        })
    }
}

fn call(what: &'static str) -> impl FnOnce(io::Error) -> SteerError {
    move |error| SteerError::Call { what, error }
}

fn pin(fd: BorrowedFd<'_>, path: &Path) -> Result<(), SteerError> {
    calls::pin(fd, path).map_err(|error| SteerError::Pin { path: path.to_owned(), error })
}

/// Removes a pin; a missing one counts as removed.
fn remove(path: &Path) -> Result<(), SteerError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SteerError::Pin { path: path.to_owned(), error }),
        _ => Ok(()),
    }
}

/// Removes all pins, the link's first: what remains of an interrupted removal is treated as
/// nothing.
fn unpin(folder: &Path) -> Result<(), SteerError> {
    remove(&folder.join(LINK))?;
    MAPS.into_iter().chain([PROGRAM]).try_for_each(|name| remove(&folder.join(name)))
}

/// Makes the folder of pins, which only a BPF file system can hold.
fn prepare(folder: &Path) -> Result<(), SteerError> {
    let failed = |error| SteerError::Pin { path: folder.to_owned(), error };
    fs::create_dir_all(folder).map_err(failed)?;
    if is_bpf(folder).map_err(failed)? { Ok(()) } else { Err(SteerError::NotBpffs { folder: folder.to_owned() }) }
}

/// The attached program, from its pin. Opening a program by its id takes CAP_SYS_ADMIN, and is used
/// only if an interrupted replacement, or an older version, pinned something else.
fn attached(id: u32, folder: &Path) -> Result<ProgramHandle, SteerError> {
    if let Ok(pinned) = ProgramHandle::from_pinned_path(folder.join(PROGRAM))
        && calls::program_id(pinned.as_fd()).is_ok_and(|pinned| pinned == id)
    {
        return Ok(pinned);
    }
    ProgramHandle::from_prog_id(id).map_err(|error| call("opening the attached program")(os_error(&error)))
}

/// The mode in which the interface is steered.
fn mode_on(interface: u32) -> Result<Mode, SteerError> {
    Ok(calls::xdp_on(interface).map_err(call("reading how it is attached"))?.1)
}
