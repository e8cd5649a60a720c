//! Baton's data plane against other receivers and echoers, on one veth pair, in one run.
//!
//! The kernel generates frames on core 0, one call for all of a trial, and the contestant has
//! core 1. Frames cross the pair, and what the kernel does to receive them, it does on core 0 too,
//! for all alike. Contestants take turns, round by round. A contestant that cannot run is named,
//! with what it said.

mod contestants;
mod failure;
mod kernel;
mod net;
mod reports;
mod round_trip;
mod run;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use baton::lab::testbed::huge_pages::{self, HugeFolder};
use baton::lab::testbed::netns::{Ends, Pair, Side};
use baton::sla::{median, percentile};
use baton::sys::interface::Interface;
use baton::sys::threads;
use baton::table::Table;
use clap::{Parser, ValueEnum};
use serde::Serialize;

use contestants::Kind;
use failure::Failure;
use kernel::{FRAME, FRAMES, Frames, Kernel};
use libbpf_rs::Link;
use round_trip::Prober;
use run::{Mode, Run};

/// Nobody takes as long to set itself up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Huge pages for the table.
const HUGE_PAGES: u64 = 300;

/// Receivers and echoers on one veth pair.
#[derive(Parser)]
struct Options {
    /// Rounds; all contestants take their turn in each.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Frames of a trial.
    #[arg(long, default_value_t = FRAMES as u32)]
    frames: u32,
    /// Bytes of a frame.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 128, 1100])]
    sizes: Vec<usize>,
    /// Round trips of a trial.
    #[arg(long, default_value_t = 50_000)]
    round_trips: usize,
    /// Only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// What the namespaces are called, with `l` and `r` behind it.
    #[arg(long, default_value = "baton-dp")]
    testbed: String,
    /// Where the table lies; where it is not said, on huge pages that are borrowed, as on dispatch
    /// hardware.
    #[arg(long)]
    memory: Option<PathBuf>,
    /// Gives back the huge pages that a killed run borrowed, and does nothing else.
    #[arg(long, hide = true)]
    give_back: bool,
    /// Writes every figure there.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Frames a second of one contestant.
#[derive(Debug, Serialize)]
struct Rates {
    contestant: Kind,
    mode: Mode,
    frame_bytes: usize,
    per_second: Vec<f64>,
    /// Of a round trip: half and 99 of a hundred take no longer.
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    /// What it said where it could not.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Target {
    name: String,
    figure: f64,
    unit: &'static str,
    bound: f64,
    holds: bool,
}

#[derive(Serialize)]
struct Everything {
    bench: &'static str,
    processor: String,
    kernel: String,
    generator_per_second: f64,
    results: Vec<Rates>,
    targets: Vec<Target>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.give_back {
        huge_pages::give_back_for_the_dead().map(|()| true).map_err(Into::into)
    } else {
        measure(&options)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// The sending side.
struct Sender {
    kernel: Kernel,
    interface: u32,
    frames: Frames,
    /// What a call costs before the first frame.
    set_up: Duration,
    /// What counts the frames that come back, while it does.
    counts: Option<Link>,
}

fn measure(options: &Options) -> Result<bool, Failure> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let processor = model.map_or("unknown", |(_, model)| model).to_owned();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    println!("{processor}, Linux {release}\n");

    let names = ["l", "r"].map(|side| format!("{}{side}", options.testbed));
    let pair = Arc::new(Pair::with(names, &Ends::of_queues(1))?);
    pair.enter(Side::Left)?;
    threads::pin(0);
    let interface = Interface::find("left")?.index;
    let mut kernel = Kernel::load()?;
    let counts = Some(kernel.attach("drop", interface)?);
    let frames = kernel.frames()?;
    let mut sender = Sender { kernel, interface, frames, set_up: Duration::ZERO, counts };
    let calls = (0..5).map(|_| sender.kernel.generate("send_same", interface, &[0; 64], 1));
    sender.set_up = calls.collect::<Result<Vec<_>, _>>()?.into_iter().min().unwrap_or_default();

    let chosen = |kind: &Kind| options.only.is_empty() || options.only.contains(kind);
    let kinds: Vec<_> = Kind::value_variants().iter().copied().filter(chosen).collect();
    let table = kinds.contains(&Kind::BatonWorker).then(|| table(options)).transpose()?;
    let (table, _memory) = table.unzip();
    let mut trials = Vec::new();
    for mode in [Mode::Drop, Mode::Echo, Mode::RoundTrip, Mode::Report, Mode::ReportTagged] {
        let sizes = match mode {
            Mode::Report | Mode::ReportTagged => &[FRAME][..],
            Mode::RoundTrip => &options.sizes[..options.sizes.len().min(1)],
            Mode::Drop | Mode::Echo => &options.sizes,
        };
        for &size in sizes {
            trials.extend(kinds.iter().filter(|kind| kind.can(mode)).map(|&kind| (kind, mode, size)));
        }
    }
    let mut results: Vec<_> = trials
        .iter()
        .map(|&(contestant, mode, frame_bytes)| Rates {
            contestant,
            mode,
            frame_bytes,
            per_second: vec![],
            p50_us: vec![],
            p99_us: vec![],
            error: None,
        })
        .collect();
    let mut generator: f64 = 0.0;
    for round in 0..options.rounds {
        for rates in &mut results {
            let table = table.clone().filter(|_| rates.mode >= Mode::Report);
            let (kind, mode, size) = (rates.contestant, rates.mode, rates.frame_bytes);
            if mode == Mode::RoundTrip {
                match round_trips(&mut sender, &pair, (kind, size), options.round_trips) {
                    Ok(times) => {
                        rates.p50_us.push(microseconds(&times, 0.5));
                        rates.p99_us.push(microseconds(&times, 0.99));
                    }
                    Err(error) => {
                        eprintln!("{} cannot {mode:?}: {error}", kind.name());
                        rates.error = Some(error.to_string());
                    }
                }
                continue;
            }
            match trial(&mut sender, &pair, (kind, mode, size), table, options.frames, round) {
                Ok((rate, sent)) => {
                    rates.per_second.push(rate);
                    generator = generator.max(sent);
                }
                Err(error) => {
                    eprintln!("{} cannot {mode:?}: {error}", kind.name());
                    rates.error = Some(error.to_string());
                }
            }
        }
    }
    print(&results);
    let targets = targets(&results);
    println!();
    for Target { name, figure, unit, bound, holds } in &targets {
        println!("{} {name}: {figure:.2} {unit} (target {bound})", if *holds { "holds " } else { "MISSED" });
    }
    let holds = targets.iter().all(|target| target.holds);
    if let Some(file) = &options.json {
        let everything = Everything {
            bench: "dataplane",
            processor,
            kernel: release,
            generator_per_second: generator,
            results,
            targets,
        };
        std::fs::write(file, serde_json::to_string_pretty(&everything)?)?;
    }
    Ok(holds)
}

/// The worker's table, and the memory that it lies in where that is borrowed.
fn table(options: &Options) -> Result<(Arc<Table>, Option<HugeFolder>), Failure> {
    if let Some(folder) = &options.memory {
        return Ok((reports::table(folder)?, None));
    }
    let folder = HugeFolder::new(HUGE_PAGES)?;
    Ok((reports::table(folder.path())?, Some(folder)))
}

/// One contestant, one call of the generator. Gives frames a second, and those that were sent.
fn trial(
    sender: &mut Sender,
    pair: &Arc<Pair>,
    (kind, mode, size): (Kind, Mode, usize),
    table: Option<Arc<Table>>,
    count: u32,
    round: u32,
) -> Result<(f64, f64), Failure> {
    let mut program = "send_same";
    let mut count = count;
    if table.is_some() {
        program = "send_next";
        count = FRAMES as u32;
        // Each run's reports are newer than those of the runs before it, tagged ones than the
        // others of their round.
        reports::write(
            &mut sender.frames,
            mode == Mode::ReportTagged,
            round * 2 + u32::from(mode == Mode::ReportTagged),
        );
    }
    let (ready, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let run = Run { pair: pair.clone(), mode, table, ready, stop };
    let before = sender.kernel.seen()?;
    let frame = frame_of(size);
    let (took, consumed) = beside(kind, &run, || sender.kernel.generate(program, sender.interface, &frame, count));
    let consumed = consumed?;
    let seconds = took?.saturating_sub(sender.set_up).as_secs_f64();
    let figure = if mode == Mode::Echo { sender.kernel.seen()? - before } else { consumed };
    Ok((figure as f64 / seconds, f64::from(count) / seconds))
}

/// One contestant, one frame at a time.
fn round_trips(
    sender: &mut Sender,
    pair: &Arc<Pair>,
    (kind, size): (Kind, usize),
    count: usize,
) -> Result<Vec<u64>, Failure> {
    // One program at a time is on an interface.
    sender.counts = None;
    let (ready, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let run = Run { pair: pair.clone(), mode: Mode::RoundTrip, table: None, ready, stop };
    let prober = Prober::open(Interface::find("left")?);
    let (times, consumed) = beside(kind, &run, || prober.and_then(|mut prober| prober.probe(&frame_of(size), count)));
    sender.counts = Some(sender.kernel.attach("drop", sender.interface)?);
    consumed?;
    times
}

/// Does something while a contestant is at work.
fn beside<T>(
    kind: Kind,
    run: &Run,
    act: impl FnOnce() -> Result<T, Failure>,
) -> (Result<T, Failure>, Result<u64, Failure>) {
    std::thread::scope(|scope| {
        let consumer = scope.spawn(|| contestants::consume(kind, run));
        let begun = Instant::now();
        // Acquire pairs with the Release of `Run::begin`.
        while !run.ready.load(Ordering::Acquire) && !consumer.is_finished() && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(1));
        }
        let done = if run.ready.load(Ordering::Acquire) {
            sleep(Duration::from_millis(20));
            act()
        } else {
            Err("it is not ready in time".into())
        };
        // What is still in a ring is worked off.
        sleep(Duration::from_millis(20));
        run.stop.store(true, Ordering::Relaxed);
        (done, consumer.join().unwrap_or_else(|_| Err("it panicked".into())))
    })
}

/// A percentile of sorted times in nanoseconds, in microseconds.
fn microseconds(times: &[u64], share: f64) -> f64 {
    percentile(times, share).map_or(f64::NAN, |ns| ns as f64 / 1e3)
}

/// A frame of V2V's EtherType, of so many bytes.
fn frame_of(size: usize) -> Vec<u8> {
    let mut frame = vec![0; size];
    frame[..6].fill(0xff);
    frame[6] = 2;
    frame[12..14].copy_from_slice(&baton::wire::DEFAULT_ETHERTYPE.to_be_bytes());
    frame
}

fn print(results: &[Rates]) {
    println!("{:<14} {:<14} {:>6} {:>16}", "contestant", "does", "bytes", "millions a s, or p50 / p99");
    for rates in results {
        let figure = match &rates.error {
            Some(error) => error.clone(),
            None if rates.mode == Mode::RoundTrip => {
                format!("{:.2} / {:.2} µs", median(rates.p50_us.clone()), median(rates.p99_us.clone()))
            }
            None => format!("{:.3}", median(rates.per_second.clone()) / 1e6),
        };
        println!(
            "{:<14} {:<14} {:>6} {figure:>16}",
            rates.contestant.name(),
            format!("{:?}", rates.mode),
            rates.frame_bytes
        );
    }
}

fn targets(results: &[Rates]) -> Vec<Target> {
    let mut best: BTreeMap<(Mode, usize), (f64, Kind)> = BTreeMap::new();
    for rates in results.iter().filter(|rates| rates.contestant.is_af_xdp_peer() && !rates.per_second.is_empty()) {
        let figure = median(rates.per_second.clone());
        let entry = best.entry((rates.mode, rates.frame_bytes)).or_insert((figure, rates.contestant));
        if figure > entry.0 {
            *entry = (figure, rates.contestant);
        }
    }
    let mut targets = Vec::new();
    for rates in results.iter().filter(|rates| !rates.per_second.is_empty()) {
        // Reports have 96 bytes; who only drops is measured at 128, the nearest size.
        let (against, bound) = match (rates.contestant, rates.mode) {
            (Kind::Baton, Mode::Echo) => ((Mode::Echo, rates.frame_bytes), 1.1),
            (Kind::BatonWorker, Mode::Report) => ((Mode::Drop, 128), 1.0),
            (Kind::BatonWorker, Mode::ReportTagged) => ((Mode::Drop, 128), 0.8),
            _ => continue,
        };
        let Some((peer, who)) = best.get(&against) else { continue };
        let figure = median(rates.per_second.clone()) / peer;
        let what = format!("{:?}", rates.mode).to_lowercase();
        let name = format!(
            "{what}, {} bytes, against {} ({:?}, {} bytes)",
            rates.frame_bytes,
            who.name(),
            against.0,
            against.1
        );
        targets.push(Target { name, figure, unit: "× the best AF_XDP peer", bound, holds: figure >= bound });
    }
    targets.extend(round_trip_targets(results));
    targets
}

/// Ours against the best AF_XDP peer, and against AF_PACKET, which takes a shorter way.
fn round_trip_targets(results: &[Rates]) -> Vec<Target> {
    let of: Vec<_> = results.iter().filter(|rates| !rates.p50_us.is_empty()).collect();
    let Some(ours) = of.iter().find(|rates| rates.contestant == Kind::Baton) else { return vec![] };
    let mut targets = Vec::new();
    let percentiles = [("p50", (|rates| &rates.p50_us) as fn(&Rates) -> &Vec<f64>), ("p99", |rates| &rates.p99_us)];
    for (percentile, pick) in percentiles {
        let mine = median(pick(ours).clone());
        let peers = of.iter().filter(|rates| rates.contestant.is_af_xdp_peer());
        let best = peers.map(|rates| median(pick(rates).clone())).min_by(f64::total_cmp);
        let packet =
            of.iter().find(|rates| rates.contestant == Kind::TpacketV2).map(|rates| median(pick(rates).clone()));
        for (against, theirs, bound) in [("the best AF_XDP peer's", best, 1.0), ("TPACKET_V2's", packet, 1.1)] {
            let Some(theirs) = theirs else { continue };
            let (name, figure) = (format!("round trip, {percentile}, against {against}"), mine / theirs);
            targets.push(Target { name, figure, unit: "×", bound, holds: figure <= bound });
        }
    }
    targets
}
