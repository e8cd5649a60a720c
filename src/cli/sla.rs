//! `baton sla`: whether the server kept its promise, and a page that shows it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::client::{Client, ClientError, SOCKET, Timeout};
use super::columns::print_table;
use super::{FAILED, WRONG, complain};
use crate::output::{self, tell};
use crate::sla::report::{Page, when};
use crate::sla::{History, Rules, RulesError, Verdict, Verdicts, evaluate, junit, parse_duration};
use crate::telemetry::Log;

/// Whether the server keeps its promise: rules held against histogram logs
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Hold rules against logs, or against a running server's last minutes
    Check(Check),
    /// Write one HTML page: verdicts, percentiles, latency over time, recoveries
    Report(Report),
}

#[derive(Debug, clap::Args)]
struct Source {
    /// The rules, TOML
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
    /// Only so much of the end of the logs, such as 10m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    last: Option<Duration>,
    /// A rule that the logs have no data for is no breach
    #[arg(long)]
    allow_missing: bool,
    /// Ask a running server for its last minutes
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = SOCKET, conflicts_with = "logs")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    timeout: Timeout,
    /// Histogram logs (.hlog), or folders of them
    #[arg(value_name = "LOG", required_unless_present = "socket")]
    logs: Vec<PathBuf>,
}

/// Exit codes: 0 every rule is held; 1 one is breached, or has no data; 2 rules or logs cannot be
/// read.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 every rule is held; 1 one is breached or has no data; 2 typed wrong, rules or logs unreadable."
)]
struct Check {
    #[command(flatten)]
    source: Source,
    /// Print verdicts as JSON
    #[arg(long)]
    json: bool,
    /// Also write JUnit XML, a test case a rule
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 every rule is held; 1 one is breached or has no data; 2 typed wrong, rules or logs unreadable. The page is written either way."
)]
struct Report {
    #[command(flatten)]
    source: Source,
    /// The page
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// What its title says
    #[arg(long, default_value = "Baton")]
    title: String,
}

#[derive(Debug, thiserror::Error)]
enum SlaError {
    #[error(transparent)]
    Rules(#[from] RulesError),
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{}: no .hlog file in this folder", .0.display())]
    Empty(PathBuf),
    #[error("no interval in these logs{0}: nothing can be said")]
    NoInterval(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("JUnit XML: {0}")]
    Junit(#[from] quick_junit::SerializeError),
}

pub fn run(args: &Args) -> ExitCode {
    let done = match &args.command {
        Command::Check(args) => check(args),
        Command::Report(args) => report(args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            complain(&error);
            ExitCode::from(WRONG)
        }
    }
}

fn check(args: &Check) -> Result<bool, SlaError> {
    let (_, _, verdicts) = judge(&args.source)?;
    if args.json {
        output::json(&serde_json::json!(verdicts));
    } else {
        show(&verdicts);
    }
    if let Some(path) = &args.junit {
        let suite = args.source.rules.display().to_string();
        let text = junit(&verdicts, &suite, words)?;
        fs::write(path, text).map_err(|error| SlaError::File { path: path.clone(), error })?;
    }
    Ok(verdicts.held)
}

fn report(args: &Report) -> Result<bool, SlaError> {
    let (rules, history, verdicts) = judge(&args.source)?;
    let page = Page { title: &args.title, rules: &rules, history: &history, verdicts: &verdicts };
    let text = page.render();
    fs::write(&args.output, text).map_err(|error| SlaError::File { path: args.output.clone(), error })?;
    tell!("baton: {} written", args.output.display());
    Ok(verdicts.held)
}

fn judge(source: &Source) -> Result<(Rules, History, Verdicts), SlaError> {
    let rules = Rules::read(&source.rules)?;
    let mut logs = Vec::new();
    if let Some(socket) = &source.socket {
        let log = Log::read(ask(socket.clone(), source.timeout)?.as_bytes());
        logs.push((socket.clone(), log));
    }
    for path in files(&source.logs)? {
        let bytes = fs::read(&path).map_err(|error| SlaError::File { path: path.clone(), error })?;
        logs.push((path, Log::read(&bytes)));
    }
    let mut history = History::new(logs);
    for (path, broken) in history.files() {
        for line in broken {
            tell!("baton: {}:{}: {}; the rest is read", path.display(), line.line, line.why);
        }
    }
    let (_, end) = history.span().ok_or_else(|| SlaError::NoInterval(String::new()))?;
    if let Some(last) = source.last {
        history = history.since(end - last.as_secs_f64());
        history.span().ok_or_else(|| SlaError::NoInterval(format!(" in the last {last:?}")))?;
    }
    let verdicts = evaluate(&rules, &history, source.allow_missing);
    Ok((rules, history, verdicts))
}

fn ask(socket: PathBuf, timeout: Timeout) -> Result<String, SlaError> {
    let failed = |error| SlaError::File { path: socket.clone(), error };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    Ok(runtime.block_on(Client::new(socket.clone(), timeout.into()).get_text("/hlog", "text/plain"))?)
}

/// Files as they are, folders for their logs.
fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, SlaError> {
    let mut all = Vec::new();
    for path in named {
        let failed = |error| SlaError::File { path: path.clone(), error };
        if !fs::metadata(path).map_err(failed)?.is_dir() {
            all.push(path.clone());
            continue;
        }
        let is_log = |path: &Path| path.extension().is_some_and(|extension| extension == "hlog");
        let inside = fs::read_dir(path).map_err(failed)?.map(|entry| entry.map(|entry| entry.path()));
        let mut inside = inside.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        inside.retain(|path| is_log(path));
        inside.sort();
        if inside.is_empty() {
            return Err(SlaError::Empty(path.clone()));
        }
        all.extend(inside);
    }
    Ok(all)
}

fn show(verdicts: &Verdicts) {
    let rows = verdicts.rules.iter().map(|verdict| {
        let worst = verdict.worst.map_or("-".into(), |worst| figure(verdict, worst));
        let at = verdict.at_s.map_or("-".into(), |at| when(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(at)));
        let of = format!("{} of {}", verdict.breached, verdict.looked_at);
        [verdict.rule.clone(), verdict.verdict.to_uppercase(), figure(verdict, verdict.bound), worst, at, of]
    });
    print_table(["RULE", "VERDICT", "BOUND", "WORST", "WORST FROM (UTC)", "BREACHED"], &rows.collect::<Vec<_>>());
}

fn figure(verdict: &Verdict, value: f64) -> String {
    crate::sla::report::figure(verdict.unit, value)
}

/// A verdict in a sentence: what, how much, where.
fn words(verdict: &Verdict) -> String {
    if verdict.verdict == "held" && verdict.worst.is_none() {
        return format!("{}: nothing that it bounds happened", verdict.what);
    }
    let (Some(worst), Some(at), Some(window)) = (verdict.worst, verdict.at_s, verdict.window_s) else {
        return format!("{}: the logs have no data for it", verdict.what);
    };
    let at = when(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(at));
    format!(
        "{}: {} against a bound of {}, at worst in the {} from {at} UTC; {} of {} breached",
        verdict.what,
        figure(verdict, worst),
        figure(verdict, verdict.bound),
        crate::text::seconds(window),
        verdict.breached,
        verdict.looked_at,
    )
}
