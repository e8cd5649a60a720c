//! The child whose steps are counted, and whose memory is watched.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::unistd::getppid;

use crate::count::{NOTHING, TIMES};
use crate::stores::{self, Kind, Store};
use crate::{Failure, records, wire};

/// Terminals in a store for counting: how many do not change the number.
const RECORDS: u32 = 20_000;

/// What the child does.
pub fn child(name: &str, folder: &Path) -> Result<(), Failure> {
    let Action { many: mut act, mut one } = action(name, folder)?;
    // Once before: what is done at first use only is no part of an operation.
    act();
    if let Some(one) = &mut one {
        one(0);
    }
    getppid();
    // A child that stands still would outlive a parent that was killed.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    ptrace::traceme()?;
    raise(Signal::SIGSTOP)?;
    act();
    raise(Signal::SIGSTOP)?;
    if let Some(mut one) = one {
        for n in 0..TIMES as usize {
            // By this system call the parent tells operations apart.
            getppid();
            one(n);
        }
        getppid();
    }
    raise(Signal::SIGSTOP)?;
    let info = allocation_counter::measure(&mut act);
    println!("{}", info.count_total);
    Ok(())
}

/// An operation: `TIMES` times, in the way in which it is done many times; and by itself, with the
/// number of this time, where what it touches is watched.
struct Action {
    many: Box<dyn FnMut()>,
    one: Option<Box<dyn FnMut(usize)>>,
}

/// The operation of a name.
fn action(name: &str, folder: &Path) -> Result<Action, Failure> {
    if name == NOTHING {
        return Ok(Action { many: Box::new(|| {}), one: None });
    }
    if let Some(mut once) = wire::operation(name) {
        return Ok(Action { many: Box::new(move || (0..TIMES).for_each(|_| once())), one: None });
    }
    let (what, kind) = name.split_once(':').ok_or_else(|| format!("nothing is called {name}"))?;
    let kind = <Kind as clap::ValueEnum>::from_str(kind, false)?;
    fs::create_dir_all(folder)?;
    let store: Rc<dyn Store> = stores::make(kind, RECORDS, folder)?.into();
    let mut terminals = records::shuffled(RECORDS);
    terminals.truncate(TIMES as usize);
    let (alone, one_of) = (store.clone(), terminals.clone());
    let mut action = match what {
        "update" => {
            // Each is newer than all before it, whichever of the two ways they went.
            let version = Rc::new(Cell::new(0));
            let next = move || {
                version.set(version.get() + 1);
                version.get()
            };
            let next_alone = next.clone();
            Action {
                many: Box::new(move || assert_eq!(store.update(0, &terminals, next()), u64::from(TIMES))),
                one: Some(Box::new(move |n| assert_eq!(alone.update(0, &one_of[n..=n], next_alone()), 1))),
            }
        }
        _ => Action {
            many: Box::new(move || {
                std::hint::black_box(store.look_up(&terminals));
            }),
            one: Some(Box::new(move |n| {
                std::hint::black_box(alone.look_up(&one_of[n..=n]));
            })),
        },
    };
    // In LMDB a transaction for each would be watched, and not the operation.
    action.one = action.one.filter(|_| kind != Kind::Lmdb);
    Ok(action)
}
