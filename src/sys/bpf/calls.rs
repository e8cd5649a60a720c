//! The bpf(2) calls that libbpf-rs does not offer in a safe form, each with the kernel's error as
//! an `io::Error`.

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libbpf_rs::libbpf_sys as sys;

use super::Mode;

/// libbpf returns a negative errno, or success.
fn checked(answer: c_int) -> io::Result<c_int> {
    if answer < 0 { Err(io::Error::from_raw_os_error(-answer)) } else { Ok(answer) }
}

fn owned(answer: c_int) -> io::Result<OwnedFd> {
    let fd = checked(answer)?;
    // SAFETY: the kernel has just opened this descriptor for the caller of this function, and
    // nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Attaches an XDP program to an interface, in this mode only.
pub(crate) fn link_xdp(program: BorrowedFd<'_>, interface: u32, mode: Mode) -> io::Result<OwnedFd> {
    let mut options = sys::bpf_link_create_opts {
        flags: match mode {
            Mode::Native => sys::XDP_FLAGS_DRV_MODE,
            Mode::Generic => sys::XDP_FLAGS_SKB_MODE,
        },
        ..Default::default()
    };
    options.sz = size_of_val(&options) as _;
    // SAFETY: the options are complete, state their own size, and outlive the call; libbpf reads
    // nothing else.
    owned(unsafe { sys::bpf_link_create(program.as_raw_fd(), interface as c_int, sys::BPF_XDP, &options) })
}

/// Replaces a link's program by another one, without a gap.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptors are borrowed and therefore open, and a null pointer is an allowed
    // value for the options.
    checked(unsafe { sys::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), std::ptr::null()) }).map(drop)
}

/// Removes a link's program from its interface. The link stays, dead.
pub(crate) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed and therefore open.
    checked(unsafe { sys::bpf_link_detach(link.as_raw_fd()) }).map(drop)
}

/// The interface of an XDP link (0: it is gone) and the id of its program.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut info = sys::bpf_link_info::default();
    let mut bytes = size_of_val(&info) as u32;
    // SAFETY: `info` is as long as `bytes` says, and the kernel writes no more than that.
    checked(unsafe { sys::bpf_link_get_info_by_fd(link.as_raw_fd(), &mut info, &mut bytes) })?;
    if info.type_ != sys::BPF_LINK_TYPE_XDP {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is the link of another kind of program"));
    }
    // SAFETY: the kernel said that this is an XDP link, so it wrote the `xdp` part of the union;
    // before, everything was zero.
    Ok((unsafe { info.__bindgen_anon_1.xdp.ifindex }, info.prog_id))
}

pub(crate) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = sys::bpf_prog_info::default();
    let mut bytes = size_of_val(&info) as u32;
    // SAFETY: `info` is as long as `bytes` says, and the kernel writes no more than that; it is not
    // asked to fill a buffer.
    checked(unsafe { sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut bytes) })?;
    Ok(info.id)
}

/// The ids of the maps that a program uses, unordered; only the first eight if there are more. Ours
/// has five.
pub(crate) fn maps_of(program: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; 8];
    let mut info =
        sys::bpf_prog_info { nr_map_ids: ids.len() as u32, map_ids: ids.as_mut_ptr() as u64, ..Default::default() };
    let mut bytes = size_of_val(&info) as u32;
    // SAFETY: `info` is as long as `bytes` says, `ids` as `nr_map_ids` says; both outlive the call.
    checked(unsafe { sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut bytes) })?;
    Ok(ids.into_iter().take(info.nr_map_ids as usize).collect())
}

/// Pins the object of a descriptor under a name on a bpffs: it lives as long as that name.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path ends in a zero byte and outlives the call.
    checked(unsafe { sys::bpf_obj_pin(fd.as_raw_fd(), path.as_ptr()) }).map(drop)
}

/// Opens what was pinned under this name.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: the path ends in a zero byte and outlives the call.
    owned(unsafe { sys::bpf_obj_get(path.as_ptr()) })
}

/// Runs the program on a frame that is in the second part of `data`, after `metadata` bytes;
/// returns its verdict, the resulting `data` and the length of the metadata.
pub(crate) fn test_run(
    program: BorrowedFd<'_>,
    data: &[u8],
    metadata: u32,
    (interface, queue): (u32, u32),
) -> io::Result<(u32, Vec<u8>, u32)> {
    let context = sys::xdp_md {
        data: metadata,
        data_end: data.len() as u32,
        ingress_ifindex: interface,
        rx_queue_index: queue,
        ..Default::default()
    };
    let mut context_after = sys::xdp_md::default();
    let mut data_after = vec![0; data.len() + 256];
    let mut options = sys::bpf_test_run_opts {
        data_in: data.as_ptr().cast(),
        data_size_in: data.len() as u32,
        data_out: data_after.as_mut_ptr().cast::<c_void>(),
        data_size_out: data_after.len() as u32,
        ctx_in: (&raw const context).cast(),
        ctx_size_in: size_of_val(&context) as u32,
        ctx_out: (&raw mut context_after).cast(),
        ctx_size_out: size_of_val(&context) as u32,
        repeat: 1,
        ..Default::default()
    };
    options.sz = size_of_val(&options) as _;
    // SAFETY: every pointer is to a buffer of the length beside it, all of which outlive the call.
    checked(unsafe { sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) })?;
    data_after.truncate(options.data_size_out as usize);
    Ok((options.retval, data_after, context_after.data))
}

/// Runs the program on `repeat` frames that the kernel makes, each a copy of `data`, and carries
/// out its verdicts on them. Blocks until all are processed, or the thread gets a signal.
#[cfg(any(test, feature = "lab"))]
pub(crate) fn run_live(program: BorrowedFd<'_>, data: &[u8], repeat: u32) -> io::Result<()> {
    let mut options = sys::bpf_test_run_opts {
        data_in: data.as_ptr().cast(),
        data_size_in: data.len() as u32,
        repeat: repeat.min(i32::MAX as u32) as c_int,
        flags: sys::BPF_F_TEST_XDP_LIVE_FRAMES,
        ..Default::default()
    };
    options.sz = size_of_val(&options) as _;
    // SAFETY: `data` is as long as stated and outlives the call, and nothing is to be written.
    checked(unsafe { sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) }).map(drop)
}

/// The XDP program on an interface of this network namespace: its id (0: none), and its mode.
pub(crate) fn xdp_on(interface: u32) -> io::Result<(u32, Mode)> {
    let mut options = sys::bpf_xdp_query_opts::default();
    options.sz = size_of_val(&options) as _;
    // SAFETY: the options are complete, state their own size, and outlive the call; libbpf writes
    // no more than that.
    checked(unsafe { sys::bpf_xdp_query(interface as c_int, 0, &mut options) })?;
    let generic = u32::from(options.attach_mode) == sys::XDP_ATTACHED_SKB;
    // If there are programs of several modes, `prog_id` is 0.
    let ids = [options.prog_id, options.drv_prog_id, options.skb_prog_id, options.hw_prog_id];
    let program = ids.into_iter().find(|&id| id != 0).unwrap_or(0);
    Ok((program, if generic { Mode::Generic } else { Mode::Native }))
}

/// What XDP can do on an interface (`NETDEV_XDP_ACT_*`); 0 if the kernel does not tell.
#[cfg(any(test, feature = "lab"))]
pub(crate) fn xdp_features(interface: u32) -> io::Result<u64> {
    let mut options = sys::bpf_xdp_query_opts::default();
    options.sz = size_of_val(&options) as _;
    // SAFETY: the options are complete, state their own size, and outlive the call; libbpf writes
    // no more than that.
    checked(unsafe { sys::bpf_xdp_query(interface as c_int, 0, &mut options) })?;
    Ok(options.feature_flags)
}
