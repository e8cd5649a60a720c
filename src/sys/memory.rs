//! Brings every page of this process into memory before it is needed.

use std::fs;
use std::io;

use rustix::mm::{Advice, madvise};

/// Touches everything that this process has mapped: program, heap, stacks, and shared memory. From
/// then on none of it costs a page fault, unless the system takes pages back. Memory that cannot be
/// touched is skipped. Returns the number of bytes touched.
///
/// What of the process's private memory was not touched before is put into huge pages if possible.
/// When the process dies, the kernel frees its memory page by page, on the core of the thread that
/// ends last, and nothing can interrupt that (2 to 3 ms for 40 MB of small pages). What has small
/// pages already keeps them: to collapse them (`MADV_COLLAPSE`) the kernel first waits for a thread
/// of its own on each processor (`lru_add_drain_all`, mm/khugepaged.c), and standbys were seen that
/// waited for a minute for one.
///
/// Locking would guarantee more, but needs a limit that is 8 MiB on many machines.
///
/// # Errors
/// `/proc/self/maps` cannot be read.
pub fn touch_all() -> io::Result<u64> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut touched = 0;
    for Region { from, to, advice, private } in maps.lines().filter_map(region) {
        let huge = from.next_multiple_of(HUGE_PAGE)..to / HUGE_PAGE * HUGE_PAGE;
        if private && !huge.is_empty() {
            let at = std::ptr::with_exposed_provenance_mut(huge.start);
            // SAFETY: as below; its bytes are the same in huge and small pages. A kernel without
            // huge pages refuses.
            let _ = unsafe { libc::madvise(at, huge.len(), libc::MADV_HUGEPAGE) };
        }
        // SAFETY: populating changes no byte of a mapping, whichever code owns it: the kernel only
        // enters its pages, and if the mapping no longer exists, the call fails.
        let done = unsafe { madvise(std::ptr::with_exposed_provenance_mut(from), to - from, advice) };
        if done.is_ok() {
            touched += (to - from) as u64;
        }
    }
    Ok(touched)
}

/// Makes the heap of the calling thread keep `bytes` more than it uses, for later allocations:
/// [`touch_all`] touches them as well, and from then on nothing is given back to the system. Call
/// this from the process's first thread, because others may have heaps of their own.
///
/// A page fault costs a microsecond on bare metal and more than ten in many virtual machines, and a
/// heap grows by pages.
#[cfg(target_env = "gnu")]
pub fn reserve_heap(bytes: usize) {
    // glibc puts blocks above its threshold into separate mappings, and adjusts the threshold by
    // itself unless it is set.
    const MMAP_THRESHOLD_MAX: libc::c_int = 32 << 20;
    assert!(bytes < MMAP_THRESHOLD_MAX as usize, "a block that large would not come from the heap");
    // SAFETY: mallopt only sets parameters of the allocator, under the allocator's own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
    drop(std::hint::black_box(Vec::<u8>::with_capacity(bytes)));
}

/// As above; for other allocators no suitable setting is known.
#[cfg(not(target_env = "gnu"))]
pub fn reserve_heap(_: usize) {}

/// Size of a huge page for anonymous memory, on the machines that Baton runs on.
const HUGE_PAGE: usize = 2 << 20;

/// A mapping of this process.
struct Region {
    from: usize,
    to: usize,
    /// How it is touched: by writing if that is permitted, because a page that was only read would
    /// be copied, or looked up again, at the first store.
    advice: Advice,
    /// Anonymous, writable and not shared.
    private: bool,
}

/// Parses a line such as `7f00-7f10 rw-s 00000000 00:01 17 /dev/shm/table`.
fn region(line: &str) -> Option<Region> {
    let mut fields = line.split_ascii_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?.as_bytes();
    let advice = match permissions {
        [_, b'w', ..] => Advice::LinuxPopulateWrite,
        [b'r', ..] => Advice::LinuxPopulateRead,
        _ => return None,
    };
    let number = |text| usize::from_str_radix(text, 16).ok();
    let private = permissions.starts_with(b"rw-p") && fields.nth(2) == Some("0");
    Some(Region { from: number(from)?, to: number(to)?, advice, private })
}

/// Makes the processor fetch the cache line at an address in the background. Changes nothing, and
/// may do nothing.
#[inline(always)]
pub(super) fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch has no visible effect on the program and never faults, with any
        // address; every x86-64 processor has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_region_is_told_apart() {
        let of = |line| region(line).map(|region| (region.from..region.to, region.advice as u32, region.private));
        let (write, read) = (Advice::LinuxPopulateWrite as u32, Advice::LinuxPopulateRead as u32);
        let shared = "7f00000-7f10000 rw-s 00000000 00:01 17 /dev/shm/table";
        assert_eq!(of(shared), Some((0x7f0_0000..0x7f1_0000, write, false)));
        assert_eq!(of("10-20 r-xp 0 00:00 0 baton"), Some((0x10..0x20, read, false)));
        assert_eq!(of("10-20 rw-p 00000000 00:00 0                   [heap]"), Some((0x10..0x20, write, true)));
        assert_eq!(of("10-20 rw-p 00003000 fe:00 12     /usr/bin/baton"), Some((0x10..0x20, write, false)));
        assert!(region("10-20 ---p 0 0 0").is_none() && region("").is_none() && region("x-y rw-p").is_none());
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn a_reserved_heap_stays() {
        // On a thread of its own, and so perhaps in its own arena: either way the block is not a
        // mapping that is given back.
        const BYTES: usize = 4 << 20;
        reserve_heap(BYTES);
        let block = Vec::<u8>::with_capacity(BYTES / 2);
        let at = block.as_ptr().addr();
        drop(block);
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let there = maps.lines().filter_map(region).any(|region| (region.from..region.to).contains(&at));
        assert!(there, "{at:x} is in none of\n{maps}");
    }

    #[test]
    fn what_was_mapped_and_not_used_is_there_afterwards() {
        const BYTES: usize = 8 << 20;
        let file = tempfile::tempfile().unwrap();
        file.set_len(BYTES as u64).unwrap();
        let map = memmap2::MmapOptions::new().len(BYTES).map_raw(&file).unwrap();
        let resident = || {
            let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
            let at = format!("{:x}-", map.as_ptr().addr());
            let from = smaps.split(&at).nth(1).map_or("", |rest| rest);
            let line = from.lines().find(|line| line.starts_with("Rss:")).unwrap_or("Rss: 0 kB").to_owned();
            line.split_ascii_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
        };
        let before = resident();
        assert!(touch_all().unwrap() >= BYTES as u64);
        assert!(before < BYTES && resident() >= BYTES, "{before}, {}", resident());
    }
}
