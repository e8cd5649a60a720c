//! What the bench prints and writes.

use baton::sla::median;
use serde::Serialize;

use crate::contestants::Kind;
use crate::instructions::Count;
use crate::run::Mode;
use crate::trial::{CHECKED, Lossless, Overload, Search, Trial};

/// What came of one kind of trial, in the order of the rounds.
#[derive(Debug, Serialize)]
pub struct Figures {
    #[serde(flatten)]
    pub trial: Trial,
    /// More than it can take.
    pub overload: Vec<Overload>,
    pub lossless: Vec<Lossless>,
    /// Of a round trip: half and 99 of a hundred take no longer.
    pub p50_us: Vec<f64>,
    pub p99_us: Vec<f64>,
    pub user_space: Option<Count>,
    /// Frames that differ, of those sent to check that.
    pub different: Option<u64>,
    /// What it said where it could not.
    pub error: Option<String>,
}

impl Figures {
    pub fn of(trial: Trial) -> Self {
        Self {
            trial,
            overload: vec![],
            lossless: vec![],
            p50_us: vec![],
            p99_us: vec![],
            user_space: None,
            different: None,
            error: None,
        }
    }

    fn per_second(&self) -> Option<f64> {
        middle(self.overload.iter().map(|overload| overload.per_second))
    }

    fn without_loss(&self) -> Option<f64> {
        middle(self.lossless.iter().map(|lossless| lossless.per_second))
    }

    /// Whether the generator was the limit in most rounds.
    fn is_generators(&self) -> bool {
        2 * self.lossless.iter().filter(|lossless| lossless.is_generators).count() > self.lossless.len()
    }
}

fn middle(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let figures: Vec<_> = figures.collect();
    (!figures.is_empty()).then(|| median(figures))
}

/// What was aimed at, and what came of it.
#[derive(Debug, Serialize)]
pub struct Target {
    name: String,
    figure: f64,
    unit: &'static str,
    bound: f64,
    pub holds: bool,
}

#[derive(Serialize)]
pub struct Everything {
    pub bench: &'static str,
    pub processor: String,
    pub kernel: String,
    /// Whether the processor counted instructions and cycles; otherwise they were stepped.
    pub has_counters: bool,
    /// Whether generator and contestants had real-time priority.
    pub real_time: bool,
    pub search: Search,
    pub results: Vec<Figures>,
    pub targets: Vec<Target>,
}

pub fn print(results: &[Figures]) {
    println!(
        "{:<13} {:<11} {:>5} {:>4} {:>10} {:>13} {:>13} {:>8}",
        "contestant", "does", "bytes", "tags", "overloaded", "without loss", "instructions", "cycles"
    );
    for figures in results.iter().filter(|figures| figures.trial.mode != Mode::Check) {
        let Trial { contestant, mode, frame_bytes, tagged } = figures.trial;
        let tags = if tagged { "on" } else { "off" };
        print!("{:<13} {:<11} {frame_bytes:>5} {tags:>4}", contestant.name(), name_of(mode));
        if let Some(error) = &figures.error {
            print!(" {error}");
        }
        if mode == Mode::RoundTrip && !figures.p50_us.is_empty() {
            let [p50, p99] = [&figures.p50_us, &figures.p99_us].map(|times| median(times.clone()));
            println!("  p50 {p50:.2} µs, p99 {p99:.2} µs");
            continue;
        }
        let millions = |rate: Option<f64>| rate.map_or("–".into(), |rate| format!("{:.3} M/s", rate / 1e6));
        let limit = if figures.is_generators() { "≥ " } else { "" };
        let without_loss = format!("{limit}{}", millions(figures.without_loss()));
        let count = figures.user_space.as_ref();
        let instructions = count.map_or("–".into(), |count| format!("{:.1}", count.instructions));
        let cycles = count.and_then(|count| count.cycles).map_or("–".into(), |cycles| format!("{cycles:.1}"));
        println!(" {:>11} {without_loss:>13} {instructions:>13} {cycles:>8}", millions(figures.per_second()));
    }
    println!("\n≥: the generator can send no faster. Instructions and cycles are those of a frame in user space.");
    let at_most = |figures: &&Figures| figures.trial.contestant == Kind::Kernel && figures.trial.mode == Mode::Drop;
    if let Some(rate) = results.iter().find(at_most).and_then(Figures::per_second) {
        println!(
            "The generator, the way over the pair and XDP_DROP take {:.0} ns a frame of core 0 together: the kernel's rate.",
            1e9 / rate
        );
    }
}

/// As it is written in JSON.
fn name_of(mode: Mode) -> &'static str {
    match mode {
        Mode::Check => "check",
        Mode::Drop => "drop",
        Mode::Report => "report",
        Mode::Echo => "echo",
        Mode::RoundTrip => "round-trip",
    }
}

pub fn targets(results: &[Figures]) -> Vec<Target> {
    let mut targets = Vec::new();
    let checked: Vec<_> = results.iter().filter(|figures| figures.trial.mode == Mode::Check).collect();
    if !checked.is_empty() {
        // Who could not be checked got none that are known to differ.
        let fewest = checked.iter().map(|figures| figures.different.unwrap_or(0)).min().unwrap_or(0);
        let name = format!("frames that differ, the fewest that a contestant got of {CHECKED}");
        let bound = f64::from(CHECKED);
        targets.push(Target { name, figure: fewest as f64, unit: "frames", bound, holds: fewest as f64 >= bound });
    }
    for (tagged, bound) in [(false, 0.9), (true, 0.8)] {
        let ours = |trial: &Trial| trial.contestant == Kind::BatonWorker && trial.mode == Mode::Report;
        let find = |figures: &&Figures| ours(&figures.trial) && figures.trial.tagged == tagged;
        let Some(ours) = results.iter().find(find).filter(|figures| !figures.lossless.is_empty()) else { continue };
        let like = Trial { mode: Mode::Drop, ..ours.trial };
        let Some((theirs, peer)) = best(results, like, Figures::without_loss) else { continue };
        let figure = ours.without_loss().unwrap_or(0.0) / theirs;
        let tags = if tagged { "on" } else { "off" };
        let name = format!("reports without loss, tags {tags}, against {}'s drop", peer.name());
        targets.push(at_least(name, figure, bound));
    }
    for ours in results.iter().filter(|figures| figures.trial.contestant == Kind::Baton) {
        let Some(rate) = ours.per_second().filter(|_| ours.trial.mode == Mode::Echo) else { continue };
        let Some((theirs, peer)) = best(results, ours.trial, Figures::per_second) else { continue };
        let name = format!("echo, {} bytes, against {}", ours.trial.frame_bytes, peer.name());
        targets.push(at_least(name, rate / theirs, 1.1));
    }
    targets.extend(round_trip_targets(results));
    targets
}

fn at_least(name: String, figure: f64, bound: f64) -> Target {
    Target { name, figure, unit: "× the best AF_XDP peer", bound, holds: figure >= bound }
}

/// The best AF_XDP peer in the same kind of trial.
fn best(results: &[Figures], like: Trial, rate: impl Fn(&Figures) -> Option<f64>) -> Option<(f64, Kind)> {
    let peers = results.iter().filter(|figures| {
        let Trial { contestant, .. } = figures.trial;
        contestant.is_af_xdp_peer() && figures.trial == Trial { contestant, ..like }
    });
    let rates = peers.filter_map(|figures| Some((rate(figures)?, figures.trial.contestant)));
    rates.max_by(|one, two| one.0.total_cmp(&two.0))
}

/// Ours against the best AF_XDP peer, and against AF_PACKET, which takes a shorter way.
fn round_trip_targets(results: &[Figures]) -> Vec<Target> {
    let of: Vec<_> = results.iter().filter(|figures| !figures.p50_us.is_empty()).collect();
    let Some(ours) = of.iter().find(|figures| figures.trial.contestant == Kind::Baton) else { return vec![] };
    let mut targets = Vec::new();
    let percentiles = [("p50", (|it| &it.p50_us) as fn(&Figures) -> &Vec<f64>), ("p99", |it| &it.p99_us)];
    for (percentile, pick) in percentiles {
        let mine = median(pick(ours).clone());
        let peers = of.iter().filter(|figures| figures.trial.contestant.is_af_xdp_peer());
        let best = peers.map(|figures| median(pick(figures).clone())).min_by(f64::total_cmp);
        let packet = of.iter().find(|figures| figures.trial.contestant == Kind::TpacketV2);
        let packet = packet.map(|figures| median(pick(figures).clone()));
        for (against, theirs, bound) in [("the best AF_XDP peer's", best, 1.0), ("TPACKET_V2's", packet, 1.1)] {
            let Some(theirs) = theirs else { continue };
            let (name, figure) = (format!("round trip, {percentile}, against {against}"), mine / theirs);
            targets.push(Target { name, figure, unit: "×", bound, holds: figure <= bound });
        }
    }
    targets
}

/// Prints the targets, and whether all hold.
pub fn judge(targets: &[Target]) -> bool {
    println!();
    for Target { name, figure, unit, bound, holds } in targets {
        println!("{} {name}: {figure:.2} {unit} (target {bound})", if *holds { "holds " } else { "MISSED" });
    }
    targets.iter().all(|target| target.holds)
}
