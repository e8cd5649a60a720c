//! `baton load`: what a dispatch server bears, measured from outside.

mod options;
mod search;
mod show;
mod sink;

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use self::options::{Failure, Rate, What, duration, rate};
use super::complain;
use crate::lab::load::{Moment, Plan, Summary, Tally, pcap};
use crate::limits::LOAD_COUNT_MAX;
use crate::output::{self, say};
use crate::sys::clock;
use crate::telemetry::{FramesNote, HistogramLog, Note};
use crate::time::Nanos;

/// Load a dispatch server, and see what it answers and how fast.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Latency counts from when a frame was to be sent, so a sender that falls behind shows. \
    Exit codes: 0 done; 1 it could not be done, or nothing was answered at all; 2 typed or configured wrong.")]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    send: SendArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Look for the highest rate without loss, and with some
    Search(Box<search::Args>),
    /// Count what arrives at the other end, and drop it
    Sink(sink::Args),
}

#[derive(Debug, clap::Args)]
struct SendArgs {
    #[command(flatten)]
    what: What,
    /// Frames a second, or `max`
    #[arg(long, value_name = "RATE", default_value = "1000", value_parser = rate)]
    rate: Rate,
    /// Frames to send
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=LOAD_COUNT_MAX))]
    count: Option<u64>,
    /// How long to send, such as 10s, 500ms or 2m [default: 10s, or as long as --count takes]
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// How long after the last frame answers are waited for
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    wait: Duration,
    /// Write the latencies of every second as a histogram log
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
    /// Write the frames to a capture and send none
    #[arg(long, value_name = "FILE", conflicts_with_all = ["hlog", "no_answers"])]
    pcap: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Sends, searches or counts.
pub fn run(args: &Args) -> ExitCode {
    let done = match &args.command {
        None => args.send.run(),
        Some(Command::Search(args)) => search::run(args),
        Some(Command::Sink(args)) => sink::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            failure.code()
        }
    }
}

impl SendArgs {
    fn run(&self) -> Result<(), Failure> {
        if let Some(path) = &self.pcap {
            return self.capture(path);
        }
        let mut sender = self.what.open()?;
        let plan = self.plan();
        let bar = show::bar(&plan);
        let mut log = self.hlog.as_deref().map(|path| Log::begin(path, &self.what)).transpose()?;
        let mut failed = None;
        let mut watch = |moment: Moment, tally: &mut Tally| {
            show::advance(&bar, &plan, moment, tally);
            if let Some(log) = &mut log
                && let Err(failure) = log.record(moment, tally)
            {
                failed.get_or_insert(failure);
            }
        };
        let summary = sender.run(&plan, &mut watch);
        bar.finish_and_clear();
        let summary = summary?;
        if let Some(log) = log {
            log.end(&summary)?;
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
        if self.json {
            output::json(&serde_json::to_value(&summary).expect("figures are plain data"));
        } else {
            show::summary(&summary);
        }
        if summary.is_silent() { Err(self.what.silence(summary.sent)) } else { Ok(()) }
    }

    fn plan(&self) -> Plan {
        let rate = self.rate.of();
        match (self.count, self.time) {
            (Some(count), time) => Plan { first: 0, count, rate, time, wait: self.wait },
            (None, time) => Plan::lasting(rate, time.unwrap_or(Duration::from_secs(10)), self.wait),
        }
    }

    fn capture(&self, path: &Path) -> Result<(), Failure> {
        let composer = self.what.composer(1)?;
        let plan = self.plan();
        // At the highest rate only a count says how many there are to be.
        let count = match (self.count, plan.rate) {
            (None, None) => composer.kind.variety(),
            _ => plan.count,
        };
        let failed = |error| Failure::File { path: path.to_owned(), error };
        let file = BufWriter::new(File::create(path).map_err(failed)?);
        let begin = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        pcap::write(file, &composer, count, plan.rate, begin).map_err(failed)?;
        if self.json {
            output::json(&serde_json::json!({ "file": path, "frames": count }));
        } else {
            say!("{}: {count} frames", path.display());
        }
        Ok(())
    }
}

/// The histogram log of a load, an interval a second.
struct Log {
    path: PathBuf,
    log: HistogramLog<BufWriter<File>>,
    begin: Nanos,
    since: Nanos,
}

impl Log {
    const INTERVAL: Duration = Duration::from_secs(1);

    fn begin(path: &Path, what: &What) -> Result<Self, Failure> {
        let failed = |error| Failure::File { path: path.to_owned(), error };
        let file = BufWriter::new(File::create(path).map_err(failed)?);
        let comment = format!("baton load {}: nanoseconds from intended sending to answer", show::name(&what.kind));
        let log = HistogramLog::begin(file, &comment, SystemTime::now()).map_err(failed)?;
        let now = clock::now();
        Ok(Self { path: path.to_owned(), log, begin: now, since: now })
    }

    /// Writes what was recorded, once a second is over, and at the end.
    fn record(&mut self, moment: Moment, tally: &mut Tally) -> Result<(), Failure> {
        let due = moment.over || moment.now.since(self.since) >= Self::INTERVAL;
        if due { self.write(moment.now, tally) } else { Ok(()) }
    }

    fn write(&mut self, now: Nanos, tally: &mut Tally) -> Result<(), Failure> {
        let Self { path, log, begin, since } = self;
        let mut written = Ok(());
        tally.take_interval(|class, histogram| {
            let wrote = log.write(Some(class.name()), since.since(*begin), now.since(*since), histogram);
            if let (Ok(()), Err(error)) = (&written, wrote) {
                written = Err(Failure::File { path: path.clone(), error });
            }
        });
        *since = now;
        written
    }

    /// Ends it with what was answered of all, where that is known.
    fn end(self, summary: &Summary) -> Result<(), Failure> {
        let Self { path, mut log, .. } = self;
        let answers = summary.answers.as_ref().and_then(|answers| Some((answers.expected, answers.lost?)));
        let noted = answers.map_or(Ok(()), |(expected, lost)| {
            log.note(&Note::Frames(FramesNote {
                start_s: 0.0,
                length_s: summary.seconds,
                received: expected - lost,
                shed: 0,
                dropped: lost,
                dropped_ever: lost,
            }))
        });
        noted.and_then(|()| log.finish().map(drop)).map_err(|error| Failure::File { path, error })
    }
}
