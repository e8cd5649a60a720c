//! The child whose steps are counted.

use std::fs;
use std::path::Path;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};

use crate::count::{NOTHING, TIMES};
use crate::stores::{self, Kind, Store};
use crate::{Failure, records, wire};

/// Terminals in a store for counting: how many do not change the number.
const RECORDS: u32 = 20_000;

/// What the child does.
pub fn child(name: &str, folder: &Path) -> Result<(), Failure> {
    let mut act = action(name, folder)?;
    // Once before: what is done at first use only is no part of an operation.
    act();
    // A child that stands still would outlive a parent that was killed.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    ptrace::traceme()?;
    raise(Signal::SIGSTOP)?;
    act();
    raise(Signal::SIGSTOP)?;
    let info = allocation_counter::measure(&mut act);
    println!("{}", info.count_total);
    Ok(())
}

/// The operation of a name, `TIMES` times.
fn action(name: &str, folder: &Path) -> Result<Box<dyn FnMut()>, Failure> {
    if name == NOTHING {
        return Ok(Box::new(|| {}));
    }
    if let Some(mut once) = wire::operation(name) {
        return Ok(Box::new(move || (0..TIMES).for_each(|_| once())));
    }
    let (what, kind) = name.split_once(':').ok_or_else(|| format!("nothing is called {name}"))?;
    let kind = <Kind as clap::ValueEnum>::from_str(kind, false)?;
    fs::create_dir_all(folder)?;
    let store: Box<dyn Store> = stores::make(kind, RECORDS, folder)?;
    let mut terminals = records::shuffled(RECORDS);
    terminals.truncate(TIMES as usize);
    let mut version = 0;
    Ok(match what {
        "update" => Box::new(move || {
            version += 1;
            assert_eq!(store.update(0, &terminals, version), terminals.len() as u64);
        }),
        _ => Box::new(move || {
            std::hint::black_box(store.look_up(&terminals));
        }),
    })
}
