//! Huge pages that the kernel lends a test.

const FILE: &str = "/proc/sys/vm/nr_hugepages";

/// So many more than the machine had, and as many less in the end.
pub struct HugePages(u64);

impl HugePages {
    /// None, and that is said, where the machine has not so much memory in one piece.
    pub fn lent(pages: u64) -> Option<Self> {
        let before = count();
        let lent = Self(pages);
        set(before + pages);
        if count() >= before + pages {
            return Some(lent);
        }
        eprintln!("THIS MACHINE HAS NO {} MiB LEFT IN PIECES OF TWO: huge pages are not tested", 2 * pages);
        set(before);
        std::mem::forget(lent);
        None
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        set(count().saturating_sub(self.0));
    }
}

fn count() -> u64 {
    std::fs::read_to_string(FILE).unwrap().trim().parse().unwrap()
}

fn set(pages: u64) {
    std::fs::write(FILE, pages.to_string()).unwrap();
}
