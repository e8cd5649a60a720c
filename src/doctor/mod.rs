//! Whether a machine is fit to run a dispatch server: what was found, what that costs, what to do
//! about it.
//!
//! Nothing is changed. The kernel's files are read below a root folder, so that any machine's files
//! can be examined; what only system calls tell ([`Asked`]) is an argument.

mod finding;
mod machine;
mod memory;
mod needs;
mod network;
mod processors;
mod rights;

use std::path::Path;

pub use finding::{Finding, Level};
pub use machine::{Asked, AskedInterface, Place};
pub use needs::Needs;

use self::machine::Machine;

/// Checks everything. `root` is the folder of `proc` and `sys`, normally `/`.
pub fn examine(root: &Path, asked: &Asked, needs: &Needs) -> Vec<Finding> {
    let machine = Machine { root, asked, needs };
    let mut all = rights::examine(&machine);
    all.extend(network::examine(&machine));
    all.extend(memory::examine(&machine));
    all.extend(processors::examine(&machine));
    // An error that the start itself would give counts for more than what was found by examining
    // the machine.
    let starts = |check| !asked.obstacles.iter().any(|(obstacle, _)| *obstacle == check);
    all.retain(|finding| finding.level == Level::Problem || starts(finding.check));
    for (check, says) in &asked.obstacles {
        if !all.iter().any(|finding| finding.check == *check && finding.level == Level::Problem) {
            all.push(Finding::problem(check, says, "the start ends with these words", way_out(check)));
        }
    }
    all
}

/// What to do about an obstacle, beyond its own message.
fn way_out(check: &str) -> &'static str {
    match check {
        "interface" => "set interface.name to one that `ip link` shows with a link/ether address of its own",
        "queues" => "scripts/tune-nic.sh -q sets the number of queues; or set interface.queues and interface.workers",
        "steering" => "remove the other program if it is not needed, or serve another interface",
        "runtime folder" => "set runtime.dir to a folder of root's, below /run",
        "API socket" => "set runtime.api_socket to a shorter path",
        "pins" => "set runtime.pin to a folder of root's on a BPF file system",
        "table folder" => "set table.path to a folder of root's, on tmpfs or hugetlbfs",
        _ => "give folder and file to the engine's user (runtime.user), or set database.path",
    }
}

#[cfg(test)]
mod tests;
