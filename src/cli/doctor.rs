//! `baton doctor`: whether this machine is fit to be dispatch hardware.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::{FAILED, WRONG, complain};
use crate::config::{Config, ConfigError, DEFAULT_FILE, Overrides};
use crate::doctor::{Asked, AskedInterface, Finding, Level, Needs, Place, examine};
use crate::keeper::{Obstacle, interfaces, obstacles};
use crate::output::{self, say, tell};
use crate::sys::interface::Interface;
use crate::sys::process::{User, is_root};

/// Whether this machine is fit to run on: what is, what it costs, what to do. Changes nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 it will run; 1 a problem keeps it from running; 2 typed wrong, or the configuration is."
)]
pub struct Args {
    /// The configuration that it is to run by
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Look at this interface; again for each further one. Without a configuration, at nothing else
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,
    /// Print findings as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> ExitCode {
    let overrides = Overrides { interface: args.interface.clone(), ..Overrides::default() };
    // An interface alone can be looked at before anything is configured.
    let config = if !args.interface.is_empty() && args.config == Path::new(DEFAULT_FILE) && !args.config.exists() {
        None
    } else {
        match Config::read(&args.config, &overrides) {
            Ok(config) => Some(config),
            Err(error) => {
                complain(&error);
                if matches!(error, ConfigError::Unreadable { .. }) {
                    tell!("before there is a configuration: baton doctor --interface NAME");
                }
                return ExitCode::from(WRONG);
            }
        }
    };
    let names = config.as_ref().map_or(&args.interface, |config| &config.interface.names);
    let interfaces: Vec<_> =
        (0..).zip(names).map(|(number, name)| ask_interface(name, number, config.as_ref())).collect();
    let queues: Vec<_> =
        interfaces.iter().map(|asked| asked.as_ref().map_or(1, |interface| interface.queues)).collect();
    let needs = config.as_ref().map_or_else(Needs::default, |config| Needs::of(config, &queues));
    let asked = ask(interfaces, config.as_ref(), &needs);
    let findings = examine(Path::new("/"), &asked, &needs);
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    if args.json {
        output::json(&serde_json::json!({ "runs": worst < Level::Problem, "findings": findings }));
    } else {
        show(&findings);
    }
    if worst == Level::Problem { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

fn ask_interface(name: &str, number: usize, config: Option<&Config>) -> Result<AskedInterface, String> {
    let asked = || {
        let interface = Interface::find(name)?;
        interface.check_ethernet()?;
        Ok::<_, crate::sys::interface::InterfaceError>(AskedInterface {
            name: name.into(),
            driver: interface.driver().unwrap_or_default(),
            bus_address: interface.bus_address(),
            queues: interface.queues()?,
            ntuple: feature(name, "ntuple-filters"),
            filters_vlans: feature(name, "rx-vlan-filter").map(|said| said.starts_with("on")),
            running: interface.is_running()?,
            unites: interface.unites(),
            strips_tags: interface.strips_tags(),
            bears_tags: config.is_some_and(|config| interfaces::bears_tags(config, number)),
            mtu: interface.mtu()?,
        })
    };
    asked().map_err(|error| error.to_string())
}

fn ask(interfaces: Vec<Result<AskedInterface, String>>, config: Option<&Config>, needs: &Needs) -> Asked {
    let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let wanted = [
        ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
        ("CAP_NET_RAW", CapabilitySet::NET_RAW),
        ("CAP_BPF", CapabilitySet::BPF),
        ("CAP_PERFMON", CapabilitySet::PERFMON),
    ];
    let found = config.filter(|_| is_root()).map(|config| {
        let name = &config.runtime.user;
        User::find(name).map_err(|error| format!("there is no user `{name}` to run the engine as: {error}"))
    });
    let (found, user) = match found {
        Some(Ok(found)) => (Some(found), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    };
    let obstacles = config.map_or_else(Vec::new, |config| obstacles(config, found.as_ref()));
    let obstacles = obstacles.into_iter().map(|Obstacle { check, error }| (check, error.to_string())).collect();
    let paths = needs.table.iter().map(|(path, _)| path).chain(&needs.database);
    Asked {
        release: rustix::system::uname().release().to_string_lossy().into_owned(),
        interfaces,
        memlock: getrlimit(Resource::Memlock).current,
        lacking: wanted.iter().filter(|(_, one)| !effective.contains(*one)).map(|(name, _)| *name).collect(),
        beyond_limits: effective.intersects(CapabilitySet::SYS_RESOURCE | CapabilitySet::IPC_LOCK),
        places: paths.filter_map(|path| Some((path.clone(), place(path)?))).collect(),
        user,
        obstacles,
    }
}

/// The file system of a path, by the nearest folder above it that is there.
fn place(path: &Path) -> Option<Place> {
    let there = path.ancestors().find(|folder| !folder.as_os_str().is_empty() && folder.exists())?;
    let found = rustix::fs::statfs(there).ok()?;
    let block = found.f_bsize as u64;
    let flags = rustix::fs::statvfs(there).ok()?.f_flag;
    Some(Place {
        read_only: flags.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        used: std::fs::metadata(path).map_or(0, |file| file.blocks() * 512),
        magic: found.f_type as u64 & 0xFFFF_FFFF,
        bytes: found.f_blocks * block,
        free: found.f_bavail * block,
    })
}

/// What ethtool says of a feature.
fn feature(interface: &str, name: &str) -> Option<String> {
    let said = Command::new("ethtool").args(["-k", interface]).output().ok()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
}

/// Columns of a terminal that shows it.
const WIDTH: usize = 80;
/// Where the words begin.
const INDENT: usize = 24;

fn show(findings: &[Finding]) {
    for finding in findings {
        let head = format!("{:<8} {:<14}", finding.level.name(), finding.check);
        say!("{head} {}", wrapped(&finding.is));
        for (word, text) in [("costs", &finding.costs), ("do", &finding.todo)] {
            if !text.is_empty() {
                say!("{:>width$} {}", format!("{word}:"), wrapped(text), width = INDENT - 1);
            }
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
    let end = if problems > 0 { "it will not run" } else { "it will run" };
    say!("\n{end}: problems {problems}, warnings {warnings}");
}

/// Broken into lines that fit beside the heads.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH - INDENT {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join(&format!("\n{:INDENT$}", ""))
}
