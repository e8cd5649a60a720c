//! What every bench here prints and writes.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Failure;

/// What was aimed at, and what came of it.
#[derive(Debug, Serialize)]
pub struct Target {
    pub name: String,
    pub figure: f64,
    pub unit: &'static str,
    pub bound: f64,
    pub holds: bool,
}

impl Target {
    /// A figure that is to be no less than its bound.
    pub fn at_least(name: impl Into<String>, figure: f64, unit: &'static str, bound: f64) -> Self {
        Self { name: name.into(), figure, unit, bound, holds: figure >= bound }
    }

    /// A figure that is to be no more than its bound.
    pub fn at_most(name: impl Into<String>, figure: f64, unit: &'static str, bound: f64) -> Self {
        Self { name: name.into(), figure, unit, bound, holds: figure <= bound }
    }
}

/// The machine that figures are of.
#[derive(Debug, Serialize)]
pub struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
}

impl Machine {
    pub fn here() -> Result<Self, Failure> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let models: Vec<_> = cpuinfo
            .lines()
            .filter(|line| line.starts_with("model name"))
            .filter_map(|line| line.split_once(": "))
            .collect();
        Ok(Self {
            processor: models.first().map_or("unknown", |(_, model)| model).to_owned(),
            processors: models.len(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }

    pub fn say(&self) {
        println!("{} × {}, Linux {}\n", self.processors, self.processor, self.kernel);
    }
}

/// Prints the targets, and whether all hold.
pub fn judge(targets: &[Target]) -> bool {
    println!();
    for Target { name, figure, unit, bound, holds } in targets {
        println!("{} {name}: {figure:.2} {unit} (target {bound})", if *holds { "holds " } else { "MISSED" });
    }
    targets.iter().all(|target| target.holds)
}

/// Writes everything.
pub fn write(file: Option<&Path>, everything: &impl Serialize) -> Result<(), Failure> {
    if let Some(file) = file {
        fs::write(file, serde_json::to_string_pretty(everything)?)?;
    }
    Ok(())
}
