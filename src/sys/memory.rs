//! Having every page of this process in its place before it is needed.

use std::fs;
use std::io;

use rustix::mm::{Advice, madvise};

/// Touches everything that this process has mapped: program, heap, stacks, and what it shares. From then on nothing of it
/// costs a page fault, unless the system takes pages back. What cannot be touched is passed over. Gives the bytes touched.
///
/// Locking would promise more and needs a limit that is 8 MiB on many machines.
///
/// # Errors
/// `/proc/self/maps` cannot be read.
pub fn touch_all() -> io::Result<u64> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut touched = 0;
    for (from, to, advice) in maps.lines().filter_map(region) {
        // SAFETY: populating changes no byte of a mapping, whoever has it: it only has the kernel enter its pages, and where
        // there is no such mapping any more, the call fails.
        let done = unsafe { madvise(std::ptr::with_exposed_provenance_mut(from), to - from, advice) };
        if done.is_ok() {
            touched += (to - from) as u64;
        }
    }
    Ok(touched)
}

/// From a line such as `7f00-7f10 rw-s 00000000 00:01 17 /dev/shm/table`: where, and how it is touched. Written to where that is
/// allowed, for a page that is only read would be copied, or looked up again, at the first store.
fn region(line: &str) -> Option<(usize, usize, Advice)> {
    let mut fields = line.split_ascii_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let advice = match fields.next()?.as_bytes() {
        [_, b'w', ..] => Advice::LinuxPopulateWrite,
        [b'r', ..] => Advice::LinuxPopulateRead,
        _ => return None,
    };
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(from)?, number(to)?, advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_region_is_told_apart() {
        let written = region("7f00000-7f10000 rw-s 00000000 00:01 17 /dev/shm/table");
        assert!(matches!(written, Some((0x7f0_0000, 0x7f1_0000, Advice::LinuxPopulateWrite))), "{written:?}");
        assert!(matches!(region("10-20 r-xp 0 0 0 baton"), Some((0x10, 0x20, Advice::LinuxPopulateRead))));
        assert!(region("10-20 ---p 0 0 0").is_none() && region("").is_none() && region("x-y rw-p").is_none());
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
