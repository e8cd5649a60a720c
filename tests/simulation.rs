//! The composed simulation, by seeds: the real dispatcher and worker, simulated autonomous servers,
//! operators, a bad network, a slow and failing disk, and deaths at any step.
//!
//! `scripts/simulate.sh` runs it: `BATON_SEEDS` says how many seeds, `BATON_SEED` the first one.
//! Each that fails is named before what is wrong with it.

use std::cell::Cell;
use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use baton::lab::sim::cluster::Trace;
use baton::lab::sim::cluster::story::{self, Told};

/// Seeds where nobody says otherwise.
const SEEDS: u64 = 200;

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// Has each panic say first of which seed it is.
fn name_seeds() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if SEED.get() != 0 {
                eprintln!("{}", alone(SEED.get()));
            }
            hook(info);
        }));
    });
}

fn alone(seed: u64) -> String {
    format!("seed {seed}; alone: scripts/simulate.sh --seeds 1 --seed {seed}")
}

/// Tells one seed's story; gives what is wrong, or what has happened.
fn tell(seed: u64) -> Result<Told, String> {
    name_seeds();
    SEED.set(seed);
    let mut trace = Trace::default();
    if let Ok(wanted) = env::var("BATON_TRACE") {
        trace.keep(wanted == "frames");
    }
    let told = panic::catch_unwind(AssertUnwindSafe(|| {
        let (told, trace) = story::tell_traced(seed, trace);
        trace.lines().iter().for_each(|line| println!("{line}"));
        told
    }));
    match told {
        Ok(Ok(told)) => Ok(told),
        Ok(Err(flaws)) => Err(flaws.join("\n")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_default())
        }
    }
}

#[test]
fn after_any_deaths_both_sides_agree_and_nothing_acknowledged_is_lost() {
    let (first, count) = (number("BATON_SEED", 1), number("BATON_SEEDS", SEEDS));
    println!("seeds {first} to {}", first + count - 1);
    let next = AtomicU64::new(first);
    let run = || {
        let mut failed = Vec::new();
        let mut sum = Told::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return (failed, sum);
            }
            match tell(seed) {
                Ok(told) => {
                    sum.engines += told.engines;
                    sum.killed += told.killed;
                    sum.reboots += told.reboots;
                    sum.warmed += told.warmed;
                    sum.confirmed += told.confirmed;
                    sum.done += told.done;
                    sum.refused += told.refused;
                    sum.unheard += told.unheard;
                    sum.frames += told.frames;
                }
                Err(why) => {
                    eprintln!("{}\n{why}\n", alone(seed));
                    failed.push(seed);
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
    let mut failed = Vec::new();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        for thread in threads {
            let (its, sum) = thread.join().expect("a seed's panic is caught");
            println!("{sum:?}");
            failed.extend(its);
        }
    });
    failed.sort_unstable();
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}

#[test]
fn one_seed_tells_one_story() {
    for seed in [3, 14, 15] {
        assert_eq!(tell(seed), tell(seed), "seed {seed}");
    }
}
