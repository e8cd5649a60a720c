//! `baton load`: what a dispatch server bears, measured from outside.

mod search;
mod show;
mod sink;

use std::fs::File;
use std::io::BufWriter;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::sim::{Domains, ethertype, secret_of};
use super::{FAILED, WRONG, complain};
use crate::config::{Config, Overrides};
use crate::lab::load::{
    By, Composer, Kind, Live, LoadError, Moment, Party, Plan, Population, Rings, Summary, Tally, Watch, pcap,
};
use crate::limits::LOAD_COUNT_MAX;
use crate::output::{self, say};
use crate::sys::clock;
use crate::telemetry::{FramesNote, HistogramLog, Note};
use crate::time::Nanos;
use crate::wire::{Address, DEFAULT_ETHERTYPE, Mac};

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

/// Whose frames, and what they say.
#[derive(Debug, clap::Args)]
struct What {
    /// What to send
    #[arg(long = "what", value_name = "KIND", default_value = "reports")]
    kind: Kind,
    /// How to send it
    #[arg(long, value_name = "WAY", default_value = "rings")]
    by: By,
    /// The interface to send on
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// The dispatch server's MAC; `ip link` on its machine shows it
    #[arg(long, value_name = "MAC")]
    dispatch_mac: Option<Mac>,
    /// The dispatch server's configuration: its address, EtherType, domains and secrets
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The domains to speak for [default: the configuration's, else 1-4]
    #[arg(long, value_name = "LIST")]
    domains: Option<Domains>,
    /// The file with a domain's secret, 32 bytes or 64 hexadecimal digits; `{domain}` in it stands
    /// for the number
    #[arg(long, value_name = "FILE", conflicts_with_all = ["insecure_no_authentication", "config"])]
    secret_file: Option<String>,
    /// No secret: tags are zero
    #[arg(long, alias = "laboratory", conflicts_with = "config")]
    insecure_no_authentication: bool,
    /// The dispatch server's address [default: the configuration's, else 1/65535]
    #[arg(long, value_name = "DOMAIN/DEVICE")]
    dispatch: Option<Address>,
    /// The EtherType of V2V frames [default: the configuration's, else 0x88b5]
    #[arg(long, value_name = "NUMBER", value_parser = ethertype)]
    ethertype: Option<u16>,
    /// Terminals of each domain
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    terminals: u32,
    /// The device number of each domain's first terminal
    #[arg(long, value_name = "NUMBER", default_value_t = 1001, value_parser = clap::value_parser!(u16).range(1..))]
    base: u16,
    /// Members of a meeting: as many terminals of a domain in a row
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    members: u16,
    /// Bytes of a frame, without what Ethernet adds; zeros fill it [default: as long as it is]
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
    /// Reports ask for an answer each: else one acknowledgement is for all that a terminal reported
    /// in a millisecond
    #[arg(long)]
    ack_now: bool,
    /// The version of each terminal's first report [default: one that grows from run to run; 1 with
    /// --pcap]
    #[arg(long, value_name = "NUMBER")]
    first_version: Option<u32>,
    /// The core to send on; frames sent by xdp come to the other end's receive queue of this number
    #[arg(long, value_name = "NUMBER")]
    core: Option<u16>,
    /// Send alone: nobody takes the interface's frames, and answers are not counted
    #[arg(long)]
    no_answers: bool,
    /// Of garbage: the same seed, the same bytes
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

/// A rate as typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rate {
    Max,
    Of(NonZeroU64),
}

impl Rate {
    const fn of(self) -> Option<NonZeroU64> {
        match self {
            Self::Max => None,
            Self::Of(rate) => Some(rate),
        }
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    match text {
        "max" => Ok(Rate::Max),
        number => number.replace('_', "").parse().map(Rate::Of).map_err(|_| {
            format!("`{text}` is no rate: a number of frames a second from 1 on, or `max` for as many as go")
        }),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time such as 10s, 500ms or 2m");
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).ok().filter(|time| !time.is_zero()).ok_or_else(wrong)
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Typed or configured wrong.
    #[error("{0}")]
    Wrong(String),
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error(
        "not one answer to {sent} frames: is the dispatch server running at the other end of {interface}, is {mac} its MAC and \
         {dispatch} its address, and does it have these domains, with this secret? A server that waits for a domain's autonomous \
         server answers no reports yet (`baton status`); `--no-answers` only sends"
    )]
    Silence { sent: u64, interface: String, mac: Mac, dispatch: Address },
}

impl Failure {
    fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Wrong(_) | Self::Config(_) => WRONG,
            Self::Load(_) | Self::File { .. } | Self::Silence { .. } => FAILED,
        })
    }
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

/// What frames leave by.
enum Sender {
    Rings(Rings),
    Live(Live),
}

impl Sender {
    fn run(&mut self, plan: &Plan, watch: Watch<'_>) -> Result<Summary, LoadError> {
        match self {
            Self::Rings(rings) => rings.run(plan, watch),
            Self::Live(live) => live.run(plan, watch),
        }
    }

    const fn terminals(&self) -> u32 {
        match self {
            Self::Rings(rings) => rings.composer.population.terminals(),
            Self::Live(live) => live.composer.population.terminals(),
        }
    }
}

impl What {
    fn open(&self) -> Result<Sender, Failure> {
        let interface = self.interface.as_deref().ok_or_else(|| {
            Failure::Wrong("--interface: name the one to send on, or a file to write to with --pcap".into())
        })?;
        if self.dispatch_mac.is_none() {
            return Err(Failure::Wrong(
                "--dispatch-mac: name the MAC of the dispatch server's interface; `ip link` on its machine shows it, and \
                 on a veth pair ff:ff:ff:ff:ff:ff will do"
                    .into(),
            ));
        }
        // Seconds, so that versions are newer than those of a run before: a terminal has fewer than
        // one report a second.
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let composer = self.composer(seconds as u32 & 0x3FFF_FFFF)?;
        Ok(match self.by {
            By::Rings if self.no_answers => {
                return Err(Failure::Wrong(
                    "--no-answers is for `--by xdp`: rings take the interface's V2V frames in any case".into(),
                ));
            }
            By::Rings => Sender::Rings(Rings::open(interface, composer, self.core)?),
            By::Xdp => Sender::Live(Live::open(interface, composer, self.core, !self.no_answers)?),
        })
    }

    fn composer(&self, first_version: u32) -> Result<Composer, Failure> {
        let config = self.config.as_deref().map(|file| Config::read(file, &Overrides::default())).transpose()?;
        let parties = self.parties(config.as_ref())?;
        let population = Population::new(parties, self.base, self.terminals, self.members).map_err(Failure::Wrong)?;
        let default_dispatch = || Address::from_number(0x1_FFFF);
        let composer = Composer {
            population,
            kind: self.kind,
            size: self.size,
            dispatch: self
                .dispatch
                .unwrap_or_else(|| config.as_ref().map_or_else(default_dispatch, |config| config.dispatch.address)),
            dst_mac: self.dispatch_mac.unwrap_or(Mac([2, 0, 0, 0, 0, 1])),
            src_mac: Mac([2, 0, 0, 0, 0, 2]),
            ethertype: self
                .ethertype
                .unwrap_or_else(|| config.as_ref().map_or(DEFAULT_ETHERTYPE, |config| config.interface.ethertype)),
            first_version: self.first_version.unwrap_or(first_version),
            ack_now: self.ack_now,
            seed: self.seed,
        };
        composer.check().map_err(|what| Failure::Wrong(format!("--size: {what}")))?;
        Ok(composer)
    }

    fn parties(&self, config: Option<&Config>) -> Result<Vec<Party>, Failure> {
        if let Some(config) = config {
            let wanted = |number| self.domains.as_ref().is_none_or(|domains| domains.0.contains(&number));
            let known = config.domains.iter().filter(|domain| wanted(domain.number));
            let parties: Vec<_> = known.map(|domain| Party::configured(domain, config.interface.vlan)).collect();
            let asked = self.domains.as_ref().map_or(parties.len(), |domains| domains.0.len());
            if parties.len() < asked {
                let what = format!("--domains: {} has not all of them", config.file.display());
                return Err(Failure::Wrong(what));
            }
            return Ok(parties);
        }
        let default = || "1-4".parse::<Domains>().expect("a list of domains");
        let domains = self.domains.clone().unwrap_or_else(default);
        let secret = |domain| {
            match &self.secret_file {
            Some(file) => secret_of(file, domain).map(Some).map_err(Failure::Wrong),
            None if self.insecure_no_authentication || self.domains_need_no_secret() => Ok(None),
            None => Err(Failure::Wrong(
                "whose tags? Name the dispatch server's --config, or the domains' --secret-file, or say --insecure-no-authentication"
                    .into(),
            )),
        }
        };
        domains.0.iter().map(|&domain| Ok(Party::new(domain, secret(domain)?.as_ref()))).collect()
    }

    /// Garbage is not believed either way.
    fn domains_need_no_secret(&self) -> bool {
        self.kind == Kind::Garbage
    }

    fn silence(&self, sent: u64) -> Failure {
        Failure::Silence {
            sent,
            interface: self.interface.clone().unwrap_or_default(),
            mac: self.dispatch_mac.unwrap_or_default(),
            dispatch: self.dispatch.unwrap_or_else(|| Address::from_number(0x1_FFFF)),
        }
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
