//! Huge pages, memory that may be locked, file systems.

use std::path::Path;

use super::Finding;
use super::machine::{Machine, Place, mebibytes};

/// <linux/magic.h>.
const TMPFS: u64 = 0x0102_1994;
const HUGETLBFS: u64 = 0x9584_58f6;
const HUGE_PAGE: u64 = 2 << 20;
/// Room for the database to grow, and for the table's snapshot, until the operator checks again.
const DISK_FREE_MIN: u64 = 1 << 30;

pub(super) fn examine(machine: &Machine<'_>) -> Vec<Finding> {
    let mut all = vec![huge_pages(machine), locked(machine)];
    all.extend(table(machine));
    all.extend(database(machine));
    all
}

fn huge_pages(machine: &Machine<'_>) -> Finding {
    let read = |what: &str| {
        let path = format!("sys/kernel/mm/hugepages/hugepages-2048kB/{what}_hugepages");
        machine.read(&path).and_then(|text| text.parse::<u64>().ok())
    };
    let (Some(all), Some(free)) = (read("nr"), read("free")) else {
        return Finding::note("huge pages", "the kernel has none of 2 MiB", "");
    };
    let on_huge = |path: &Path| place(machine, path).is_some_and(|place| place.magic == HUGETLBFS);
    // The file's own pages are reused.
    let has = |path: &Path| place(machine, path).map_or(0, |place| place.used);
    let table = machine.needs.table.as_ref().filter(|(path, _)| on_huge(path));
    let table = table.map_or(0, |(path, bytes)| bytes.saturating_sub(has(path)));
    let umem = if machine.needs.huge_pages { machine.needs.umem } else { 0 };
    let pages = umem.div_ceil(HUGE_PAGE) + table.div_ceil(HUGE_PAGE);
    // Some of the free pages may be reserved by other processes.
    let free = free.saturating_sub(read("resv").unwrap_or(0));
    let is = format!("{all} of 2 MiB, {free} free; {pages} are wanted");
    if free < table.div_ceil(HUGE_PAGE) {
        return Finding::problem(
            "huge pages",
            is,
            "the table is to lie on hugetlbfs, which has no room for it: the start will fail",
            format!(
                "echo {} >/proc/sys/vm/nr_hugepages, or set table.path to a place below /dev/shm",
                all + pages - free
            ),
        );
    }
    if free >= pages {
        return Finding::ok("huge pages", is);
    }
    Finding::warning(
        "huge pages",
        is,
        "on small pages a successor maps 20 times as long (2 ms instead of 0.1 ms), and every report costs more",
        format!("echo {} >/proc/sys/vm/nr_hugepages, or scripts/tune-nic.sh -p {0}", all - free + pages),
    )
}

fn locked(machine: &Machine<'_>) -> Finding {
    let Some(limit) = machine.asked.memlock.filter(|_| !machine.asked.beyond_limits) else {
        return Finding::ok("locked memory", "as much as is wanted");
    };
    let wants = machine.needs.umem;
    let is = format!("{} may be locked, the frames' memory has {}", mebibytes(limit), mebibytes(wants));
    if limit >= wants {
        return Finding::ok("locked memory", is);
    }
    Finding::warning(
        "locked memory",
        is,
        "rings are halved until they fit: fewer frames can wait while an engine is replaced",
        "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited",
    )
}

fn place(machine: &Machine<'_>, path: &Path) -> Option<Place> {
    machine.asked.places.iter().find(|(known, _)| known == path).map(|&(_, place)| place)
}

fn table(machine: &Machine<'_>) -> Option<Finding> {
    let (path, bytes) = machine.needs.table.as_ref()?;
    let wants = format!("{}, {}", path.display(), mebibytes(*bytes));
    let Some(place) = place(machine, path) else {
        return Some(Finding::problem(
            "table",
            format!("{wants}: no folder leads there"),
            "the start will fail",
            "set table.path to a place on tmpfs or hugetlbfs",
        ));
    };
    let there = place.used;
    if place.read_only {
        return Some(Finding::problem(
            "table",
            format!("{wants}: the file system there is read-only"),
            "the start will fail",
            "set table.path to a place on tmpfs or hugetlbfs that can be written to",
        ));
    }
    // The pages of hugetlbfs are counted above.
    if place.magic == TMPFS && place.free + there < *bytes {
        return Some(Finding::problem(
            "table",
            format!("{wants}: the tmpfs has {} free", mebibytes(place.free)),
            "the start will fail",
            "mount -o remount,size=… the tmpfs, or lower table.meetings and table.terminals",
        ));
    }
    Some(match place.magic {
        TMPFS => Finding::ok("table", format!("{wants}, on tmpfs; on hugetlbfs a successor maps it faster")),
        HUGETLBFS => Finding::ok("table", format!("{wants}, on hugetlbfs")),
        _ => Finding::warning(
            "table",
            format!("{wants}, on a file system that is neither tmpfs nor hugetlbfs"),
            "pages go to the disk and back while frames wait",
            "set table.path to a place below /dev/shm, or on hugetlbfs",
        ),
    })
}

fn database(machine: &Machine<'_>) -> Option<Finding> {
    let path = machine.needs.database.as_ref()?;
    let Some(place) = place(machine, path) else {
        return Some(Finding::problem(
            "database",
            format!("{}: no folder leads there", path.display()),
            "the start will fail",
            "set database.path",
        ));
    };
    if place.read_only {
        let is = format!("{}: the file system there is read-only", path.display());
        let todo = "mount it writable, or set database.path";
        let kept = machine.needs.table.as_ref().is_some_and(|(table, _)| table.exists());
        return Some(if kept {
            Finding::warning("database", is, "control goes on by the table, and every operation is refused", todo)
        } else {
            Finding::problem("database", is, "there is no table of before, so the start needs it, and will fail", todo)
        });
    }
    if [TMPFS, HUGETLBFS].contains(&place.magic) {
        return Some(Finding::warning(
            "database",
            format!("{} is in memory", path.display()),
            "after a reboot nothing is known of any conference",
            "set database.path to a place on a disk",
        ));
    }
    if place.free < DISK_FREE_MIN {
        return Some(Finding::warning(
            "database",
            format!("{}: {} free", path.display(), mebibytes(place.free)),
            "operations fail once it is full; conferences go on",
            "make room",
        ));
    }
    Some(Finding::ok("database", format!("{}, {} free", path.display(), mebibytes(place.free))))
}
