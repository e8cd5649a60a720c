//! The bench of the table.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread::sleep;
use std::time::{Duration, Instant};

use baton::lab::testbed::huge_pages::HugeFolder;
use baton::limits::{EXTENTS_MIN, TERMINALS_PER_EXTENT};
use baton::sla::median;
use baton::table::{Capacity, Table};
use baton::wire::Address;
use clap::{Args, ValueEnum};
use nix::libc;
use serde::Serialize;

use crate::count::{self, Count};
use crate::report::{self, Machine, Target};
use crate::stores::{self, Kind, Store};
use crate::{Failure, records};

/// How many times DashMap's updates the table's are to be, on one thread and on two.
const BOUNDS: [f64; 2] = [2.5, 4.0];
/// Bytes that a terminal takes: its record, its link, and its entries of the index.
const BYTES_BOUND: f64 = 96.0;

/// Before each pass.
const BREATH: Duration = Duration::from_millis(60);

/// Huge pages for a table of ten million terminals.
const HUGE_PAGES: u64 = 1400;

/// What may be chosen.
#[derive(Args)]
pub struct Options {
    /// Terminals in each store.
    #[arg(long, default_value_t = 1_000_000)]
    records: u32,
    /// Terminals of a second size, at which only the table and DashMap are measured; 0 for none.
    #[arg(long, default_value_t = 10_000_000)]
    many: u32,
    /// Rounds; all contestants take their turn in each.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// A folder on hugetlbfs, where the table lies; where none is said, on huge pages that are
    /// borrowed, and on tmpfs where none are lent.
    #[arg(long)]
    huge: Option<PathBuf>,
    /// Does not count instructions and allocations.
    #[arg(long)]
    no_count: bool,
    /// Writes every figure there.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What is measured: a pass over all terminals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
struct Work {
    look_up: bool,
    threads: usize,
}

const WORKS: [Work; 4] = [
    Work { look_up: false, threads: 1 },
    Work { look_up: false, threads: 2 },
    Work { look_up: true, threads: 1 },
    Work { look_up: true, threads: 2 },
];

/// The rates of one contestant at one size, a second, in the order of the rounds.
#[derive(Debug, Serialize)]
struct Rates {
    store: Kind,
    records: u32,
    updates_one_thread: Vec<f64>,
    updates_two_threads: Vec<f64>,
    look_ups_one_thread: Vec<f64>,
    look_ups_two_threads: Vec<f64>,
    update: Option<Count>,
    look_up: Option<Count>,
}

#[derive(Serialize)]
struct Everything {
    bench: &'static str,
    machine: Machine,
    table_on: &'static str,
    malloc_huge_pages: bool,
    bytes_a_terminal: Bytes,
    results: Vec<Rates>,
    targets: Vec<Target>,
}

/// Runs it; whether every target holds.
pub fn run(mut options: Options) -> Result<bool, Failure> {
    let borrowed = if options.huge.is_none() { Some(HugeFolder::new(HUGE_PAGES)?) } else { None };
    let own = borrowed.as_ref().filter(|folder| folder.is_huge()).map(|folder| folder.path().to_owned());
    options.huge = options.huge.take().or(own);
    let options = &options;
    let machine = Machine::here()?;
    machine.say();
    let chosen = |kind: &Kind| options.only.is_empty() || options.only.contains(kind);
    let kinds: Vec<_> = Kind::value_variants().iter().copied().filter(chosen).collect();
    let mut results = measure(options, &kinds, options.records)?;
    if !options.no_count {
        for rates in &mut results {
            rates.update = Some(count::count(&count::update_of(rates.store))?);
            rates.look_up = Some(count::count(&count::look_up_of(rates.store))?);
        }
    }
    print(&results);
    if options.many > 0 {
        let kinds: Vec<_> = kinds.into_iter().filter(|kind| matches!(kind, Kind::Table | Kind::Dashmap)).collect();
        let many = measure(options, &kinds, options.many)?;
        print(&many);
        results.extend(many);
    }
    let bytes_a_terminal = Bytes::new();
    println!("\n{bytes_a_terminal}");
    let targets = targets(&results, options.records, bytes_a_terminal);
    let holds = report::judge(&targets);
    let table_on = if options.huge.is_some() { "hugetlbfs" } else { "tmpfs" };
    let malloc_huge_pages = std::env::var("GLIBC_TUNABLES").is_ok_and(|all| all.contains("malloc.hugetlb"));
    let bench = "structures table";
    let everything = Everything { bench, machine, table_on, malloc_huge_pages, bytes_a_terminal, results, targets };
    report::write(options.json.as_deref(), &everything)?;
    Ok(holds)
}

fn measure(options: &Options, kinds: &[Kind], records: u32) -> Result<Vec<Rates>, Failure> {
    let memory = tempfile::tempdir_in("/dev/shm")?;
    let mut stores = Vec::new();
    for &kind in kinds {
        let begun = Instant::now();
        let huge = options.huge.as_deref().filter(|_| matches!(kind, Kind::Table | Kind::TableSingly));
        let folder = huge.unwrap_or(memory.path()).join(kind.name());
        // What an earlier size left there is gone with its store.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        stores.push((kind, stores::make(kind, records, &folder)?));
        let _ = fs::remove_file(Path::new(&folder).join("table"));
        eprintln!("{}: {records} records in {:.1} s", kind.name(), begun.elapsed().as_secs_f64());
    }
    let terminals = records::shuffled(records);
    let mut rates: BTreeMap<(usize, Work), Vec<f64>> = BTreeMap::new();
    let mut version = 0;
    for round in 0..=options.rounds {
        for work in WORKS {
            version += 1;
            for (at, (kind, store)) in stores.iter().enumerate() {
                if work.threads == 2 && !work.look_up && !kind.takes_two_writers() {
                    continue;
                }
                let rate = pass(&**store, &terminals, work, version)?;
                // The first round warms up.
                if round > 0 {
                    rates.entry((at, work)).or_default().push(rate);
                }
            }
        }
    }
    let mut of = |at, work: usize| rates.remove(&(at, WORKS[work])).unwrap_or_default();
    let all = stores.iter().enumerate().map(|(at, (kind, _))| Rates {
        store: *kind,
        records,
        updates_one_thread: of(at, 0),
        updates_two_threads: of(at, 1),
        look_ups_one_thread: of(at, 2),
        look_ups_two_threads: of(at, 3),
        update: None,
        look_up: None,
    });
    Ok(all.collect())
}

/// One pass over all terminals, shared out among threads on a core each; operations a second.
fn pass(store: &dyn Store, terminals: &[Address], work: Work, version: u32) -> Result<f64, Failure> {
    let share = terminals.len().div_ceil(work.threads);
    let barrier = Barrier::new(work.threads);
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    // What else the machine does has had its turn when a pass begins.
    sleep(BREATH);
    let run = |thread: usize, share: &[Address]| {
        if let Some(core) = cores.get(cores.len().wrapping_sub(1 + thread)) {
            core_affinity::set_for_current(*core);
        }
        go_first();
        barrier.wait();
        let begun = Instant::now();
        let done = if work.look_up {
            store.look_up(share);
            share.len() as u64
        } else {
            store.update(thread, share, version)
        };
        (done, begun.elapsed().as_secs_f64())
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = terminals
            .chunks(share)
            .enumerate()
            .map(|(thread, share)| scope.spawn(move || (share.len(), run(thread, share))))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no contestant panics")).collect()
    });
    for (asked, (applied, _)) in &done {
        if *applied != *asked as u64 {
            return Err(format!("{asked} reports were entered, and {applied} were applied").into());
        }
    }
    let slowest = done.iter().map(|(_, (_, seconds))| *seconds).fold(0.0, f64::max);
    Ok(terminals.len() as f64 / slowest)
}

/// Has what else the machine does wait for this thread; where that is not permitted, it goes
/// without. A pass that is longer than a second is interrupted all the same, by the kernel, for a
/// twentieth of one.
fn go_first() {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters live through the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
}

fn print(results: &[Rates]) {
    println!(
        "{:<14} {:>10}  {:>19}  {:>19}  {:>13}  {:>11}  {:>11}  {:>11}",
        "millions a s",
        "records",
        "updates, 1 / 2 thr.",
        "look-ups, 1 / 2 thr",
        "instructions",
        "lines",
        "own lines",
        "allocations"
    );
    for rates in results {
        let two = |one: &[f64], two: &[f64]| {
            let figure = |rates: &[f64]| match rates {
                [] => "–".to_owned(),
                rates => format!("{:.2}", median(rates.to_vec()) / 1e6),
            };
            format!("{} / {}", figure(one), figure(two))
        };
        let counts = |of: fn(&Count) -> Option<f64>, digits| {
            let [update, look_up] = [rates.update, rates.look_up].map(|count| count.as_ref().and_then(of));
            match update.zip(look_up) {
                Some((update, look_up)) => format!("{update:.digits$} / {look_up:.digits$}"),
                None => "–".to_owned(),
            }
        };
        println!(
            "{:<14} {:>10}  {:>19}  {:>19}  {:>13}  {:>11}  {:>11}  {:>11}",
            rates.store.name(),
            rates.records,
            two(&rates.updates_one_thread, &rates.updates_two_threads),
            two(&rates.look_ups_one_thread, &rates.look_ups_two_threads),
            counts(|count| Some(count.instructions), 0),
            counts(|count| count.lines.map(|lines| lines.touched), 1),
            counts(|count| count.lines.map(|lines| lines.own), 1),
            counts(|count| Some(count.allocations), 2),
        );
    }
}

fn targets(results: &[Rates], records: u32, bytes: Bytes) -> Vec<Target> {
    let of = |kind| results.iter().find(|rates| rates.store == kind && rates.records == records);
    let mut targets = Vec::new();
    if let Some((ours, theirs)) = of(Kind::Table).zip(of(Kind::Dashmap)) {
        let row = |threads, ours: &[f64], theirs: &[f64], bound| {
            let ratio = median(ours.to_vec()) / median(theirs.to_vec());
            Target::at_least(format!("table updates, {records} records, {threads}"), ratio, "× DashMap", bound)
        };
        targets.push(row("one thread", &ours.updates_one_thread, &theirs.updates_one_thread, BOUNDS[0]));
        targets.push(row("two threads", &ours.updates_two_threads, &theirs.updates_two_threads, BOUNDS[1]));
    }
    let what = "bytes of a terminal, index included";
    targets.push(Target::at_most(what, bytes.record_link_and_index, "bytes", BYTES_BOUND));
    targets
}

/// Bytes of the table that a terminal takes, by what tables of different capacities take.
#[derive(Clone, Copy, Debug, Serialize)]
struct Bytes {
    record_link_and_index: f64,
    /// Its bit in the map of slots that are taken; and extents, which information that is too long
    /// for a record needs, of as many terminals as have some.
    bit_and_extents: f64,
}

impl Bytes {
    fn new() -> Self {
        // Tables of so few terminals have the fewest extents that there are, and one line of bits.
        const _: () = assert!(320 <= EXTENTS_MIN * TERMINALS_PER_EXTENT);
        let record_link_and_index = slope(64, 320);
        let bit_and_extents = slope(1 << 20, 1 << 21) - record_link_and_index;
        Self { record_link_and_index, bit_and_extents }
    }
}

/// What a terminal more adds to a table, between two numbers of terminals.
fn slope(few: u32, many: u32) -> f64 {
    let [few_bytes, many_bytes] = [few, many].map(|terminals| Table::bytes(Capacity { meetings: 64, terminals }));
    (many_bytes as f64 - few_bytes as f64) / f64::from(many - few)
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record_link_and_index, bit_and_extents } = self;
        write!(
            f,
            "a terminal takes {record_link_and_index:.2} bytes of a table for its record, link and index entries; \
             its bit and its share of the extents add {bit_and_extents:.2}: {:.2}",
            record_link_and_index + bit_and_extents
        )
    }
}
