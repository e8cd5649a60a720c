//! What is measured, as typed.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use baton::lab::testbed;
use clap::Parser;
use serde_json::{Value, json};

use super::sizes::{ALL, Size};

/// Bytes of an Ethernet frame with a REPORT or PROBE: Ethernet 14, addresses and reserved 18,
/// payload 64.
pub const FRAME_BYTES: u32 = 96;

/// Kill dispatch servers under load, and measure how control comes back.
#[derive(Parser, Debug)]
pub struct Args {
    /// Measure with so many conferences; may be given several times. Default: 1,000, 20,736,
    /// 100,000 and 1,000,000
    #[arg(long, value_name = "COUNT")]
    pub meetings: Vec<u32>,
    /// Kills of the engine at each size; other faults come a third or a sixth as often
    #[arg(long, value_name = "COUNT")]
    pub trials: Option<u32>,
    /// Reports a second, over all terminals
    #[arg(long, value_name = "RATE", default_value_t = 10_000)]
    pub reports: u64,
    /// Probes a second; each one unanswered is a frame lost
    #[arg(long, value_name = "RATE", default_value_t = 2000)]
    pub probes: u64,
    /// What a worker does while its ring is empty
    #[arg(long, value_enum, default_value_t = Wait::Sleep)]
    pub wait: Wait,
    /// Let threads run where they are put, not simulation on core 0 and worker on core 1
    #[arg(long)]
    pub no_pin: bool,
    /// Let the simulation sleep when it has nothing to do: its wake-up is in the figures then
    #[arg(long)]
    pub no_spin: bool,
    /// Seconds that one fault at one size may take, over all trials
    #[arg(long, value_name = "SECONDS", default_value_t = 75)]
    pub budget_s: u64,
    /// Seconds that a recovery is waited for to be reconciled before the next trial
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub reconcile_s: u64,
    /// Reboots at each size, as many with the snapshot as without it; 3 where it is not given, 1
    /// at a million conferences
    #[arg(long, value_name = "COUNT")]
    pub reboots: Option<u32>,
    /// Seconds that a recovery after a reboot is waited for
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub reboot_s: u64,
    /// Measure reboots alone
    #[arg(long)]
    pub reboots_only: bool,
    /// Write everything that was measured to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw time over size into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Measure the steps of a reboot in process, each for itself, and nothing else
    #[arg(long)]
    pub steps: bool,
    /// Measure nothing but the simulation itself
    #[arg(long)]
    pub simulation_only: bool,
    /// Enter another bench's JSON under its name in ours, and its targets among ours
    #[arg(long, value_name = "FILE", requires = "json", hide = true)]
    pub merge: Option<PathBuf>,
    /// The testbed's name
    #[arg(long, value_name = "TESTBED", hide = true)]
    pub testbed: Option<String>,
    /// Do nothing but clear away what a testbed of this name has left
    #[arg(long, value_name = "TESTBED", hide = true)]
    pub clear: Option<String>,
    /// As cargo says to every bench
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// What a worker does while its ring is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Wait {
    Busy,
    Adaptive,
    Sleep,
}

impl Wait {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Adaptive => "adaptive",
            Self::Sleep => "sleep",
        }
    }
}

impl Args {
    /// How many there are: asked once, for this program is on one of its own soon.
    pub fn cores() -> usize {
        static CORES: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));
        *CORES
    }

    pub fn pins(&self) -> bool {
        !self.no_pin && Self::cores() >= 2
    }

    pub fn spins(&self) -> bool {
        !self.no_spin
    }

    pub fn budget(&self) -> Duration {
        Duration::from_secs(self.budget_s)
    }

    pub fn reconcile(&self) -> Duration {
        Duration::from_secs(self.reconcile_s)
    }

    pub fn reboot(&self) -> Duration {
        Duration::from_secs(self.reboot_s)
    }

    pub fn sizes(&self) -> Vec<Size> {
        if self.meetings.is_empty() { ALL.into() } else { self.meetings.iter().map(|&it| Size::with(it)).collect() }
    }

    /// How many reboots are measured at a size.
    pub fn reboots_at(&self, size: &Size) -> u32 {
        self.reboots.unwrap_or(if size.meetings < 1_000_000 { 3 } else { 1 })
    }

    pub fn settings(&self) -> Value {
        json!({
            "reports_per_second": self.reports,
            "probes_per_second": self.probes,
            "frame_bytes": FRAME_BYTES,
            "operators": testbed::workload::OPERATORS,
            "worker_wait": self.wait.word(),
            "simulation_spins": self.spins(),
            "simulation_core": self.pins().then_some(0),
            "worker_core": self.pins().then_some(1),
        })
    }
}
