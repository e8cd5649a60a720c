//! `baton sim`: autonomous servers and terminals that are not there, on an interface that is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use super::{FAILED, WRONG, complain};
use crate::lab::sim::{AutonomousServer, Manner, Preload, Random, RunError, Settings, Simulation, World};
use crate::limits::DOMAINS_MAX;
use crate::output::tell;
use crate::sdk::{Endpoint, EndpointSettings};
use crate::wire::{Address, DEFAULT_ETHERTYPE, Domain, Mac, Secret};

/// Simulate autonomous servers with their terminals.
#[derive(Debug, clap::Args)]
#[command(after_help = "The control socket takes a line of JSON and gives one, such as {\"ask\":\"status\"}, \
    {\"ask\":\"dump\"}, {\"ask\":\"rate\",\"reports\":20000,\"probes\":4000}, {\"ask\":\"quiesce\",\"wait_ms\":5000}, \
    {\"ask\":\"reset_counters\"}, {\"ask\":\"stop\"}. It is there once the autonomous servers are.")]
pub struct Args {
    /// Where the dispatch server's frames come in
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// The domains, an autonomous server each
    #[arg(long, value_name = "LIST", default_value = "1-4")]
    domains: Domains,
    /// Terminals of each domain
    #[arg(long, value_name = "COUNT", default_value_t = 2500)]
    terminals: u16,
    /// The device number of each domain's first terminal
    #[arg(long, value_name = "NUMBER", default_value_t = 1001, value_parser = clap::value_parser!(u16).range(1..))]
    base: u16,
    /// Conferences that are there from the beginning, over all domains; each domain has the
    /// terminals that it takes
    #[arg(long, value_name = "COUNT")]
    preload: Option<u32>,
    /// Members of each of them
    #[arg(long, value_name = "COUNT", default_value_t = 10, requires = "preload")]
    members: u16,
    /// Members of them in all, where the last conference shall have fewer
    #[arg(long, value_name = "COUNT", requires = "preload")]
    preload_terminals: Option<u32>,
    /// Never sleep: a whole core, for the shortest answers
    #[arg(long)]
    spin: bool,
    /// The core to run on
    #[arg(long, value_name = "NUMBER")]
    core: Option<usize>,
    /// Reports a second that members of meetings make of their own accord, all domains together
    #[arg(long, value_name = "RATE", default_value_t = 0)]
    reports_per_second: u32,
    /// Probes a second, all domains together
    #[arg(long, value_name = "RATE", default_value_t = 0)]
    probes_per_second: u32,
    /// One report of so many asks for an acknowledgement of its own; 0: repeated ones alone
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    ack_now_one_in: u32,
    /// The dispatch server's address, until one connects
    #[arg(long, value_name = "DOMAIN/DEVICE", default_value = "1/65535")]
    dispatch: Address,
    /// The dispatch server's MAC; without it nothing is sent before a dispatch server's first frame
    #[arg(long, value_name = "MAC")]
    dispatch_mac: Option<Mac>,
    #[command(flatten)]
    secret: SecretArgs,
    /// The EtherType of V2V frames here
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_ETHERTYPE, value_parser = ethertype)]
    ethertype: u16,
    /// Milliseconds without acknowledgement after which a report is repeated
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    repeat_ms: u64,
    /// Milliseconds between heartbeats; 0: none
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    heartbeat_ms: u64,
    /// So many requests in a million are answered BUSY
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    busy_per_million: u32,
    /// The control socket
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// The same seed, the same chances
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct SecretArgs {
    /// The file with a domain's secret, 32 bytes or 64 hexadecimal digits; `{domain}` in it stands
    /// for the number
    #[arg(long, value_name = "FILE")]
    secret_file: Option<String>,
    /// No secret: anybody on the wire is believed
    #[arg(long, alias = "laboratory")]
    insecure_no_authentication: bool,
}

/// Domains as typed: `1-4,7`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Domains(pub(super) Vec<Domain>);

impl FromStr for Domains {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no list of domains such as 1-4,7 (numbers 1 to {})", Domain::MAX);
        let domain = |number: &str| number.trim().parse().ok().and_then(Domain::new).ok_or_else(wrong);
        let mut domains = Vec::new();
        for run in text.split(',') {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            let (first, last) = (domain(first)?.number(), domain(last)?.number());
            if last < first || last - first >= (DOMAINS_MAX - domains.len()) as u64 {
                return Err(if last < first {
                    wrong()
                } else {
                    format!("`{text}` is more than {DOMAINS_MAX} domains")
                });
            }
            domains.extend((first..=last).filter_map(Domain::new));
        }
        domains.sort_unstable();
        domains.dedup();
        Ok(Self(domains))
    }
}

pub(super) fn ethertype(text: &str) -> Result<u16, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    // Below 0x600 the field is a length.
    number.filter(|&number| number >= 0x600).ok_or_else(|| format!("`{text}` is no EtherType such as 0x88b5"))
}

/// Simulates until it is told to stop or killed.
pub fn run(args: &Args) -> ExitCode {
    let (wanted, room) = (args.terminals, u16::MAX - args.base);
    if wanted.saturating_sub(1) > room {
        tell!("baton: {wanted} terminals from device {} on are more than device numbers reach", args.base);
        return ExitCode::from(WRONG);
    }
    let secrets: Result<Vec<_>, String> = args.domains.0.iter().map(|&domain| args.secret.of(domain)).collect();
    let secrets = match secrets {
        Ok(secrets) => secrets,
        Err(what) => {
            tell!("baton: {what}");
            return ExitCode::from(WRONG);
        }
    };
    let preload = args
        .preload
        .map(|meetings| Preload::new(meetings, args.members, args.preload_terminals, args.domains.0.len() as u32));
    let preload = match preload.transpose() {
        Ok(preload) => preload,
        Err(what) => {
            tell!("baton: --preload: {what}");
            return ExitCode::from(WRONG);
        }
    };
    match simulate(args, &secrets, preload) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILED)
        }
    }
}

fn simulate(args: &Args, secrets: &[Option<Secret>], preload: Option<Preload>) -> Result<(), RunError> {
    let settings = EndpointSettings { ethertype: args.ethertype, ..EndpointSettings::default() };
    let world = |endpoint: &Endpoint| args.world(endpoint.mac(), secrets, preload);
    let simulation = Simulation::open(&args.interface, &settings, args.control.as_deref(), world)?;
    let endpoint = simulation.endpoint();
    let terminals = match preload {
        Some(preload) => format!("{} conferences of {} terminals", preload.meetings(), preload.terminals()),
        None => format!("{} terminals each", args.terminals),
    };
    tell!(
        "baton: {} autonomous servers with {terminals} on {} ({}, {:?} mode)",
        args.domains.0.len(),
        args.interface,
        endpoint.mac(),
        endpoint.mode(),
    );
    simulation.run(Manner { spin: args.spin, core: args.core })
}

impl Args {
    fn world(&self, mac: Mac, secrets: &[Option<Secret>], preload: Option<Preload>) -> World {
        let mut random = Random::new(self.seed);
        let servers = (0..).zip(&self.domains.0).zip(secrets).map(|((position, &domain), secret)| {
            let settings = Settings {
                secret: secret.clone(),
                mac,
                ethertype: self.ethertype,
                dispatch: self.dispatch,
                dispatch_mac: self.dispatch_mac,
                // With a preload, the terminals of its meetings and no others.
                terminals: if preload.is_some() { 0 } else { self.terminals.into() },
                preload: preload.map(|preload| preload.domain(position, domain, self.base)),
                first_device: self.base,
                ack_now_one_in: self.ack_now_one_in,
                rto: Duration::from_millis(self.repeat_ms),
                rto_max: Duration::from_millis(self.repeat_ms) * 8,
                heartbeat: Duration::from_millis(self.heartbeat_ms),
                busy_per_million: self.busy_per_million,
                ..Settings::new(domain)
            };
            AutonomousServer::new(settings, random.number())
        });
        let mut world = World::new(self.ethertype, servers.collect());
        world.set_rates(self.reports_per_second, self.probes_per_second);
        world
    }
}

impl SecretArgs {
    fn of(&self, domain: Domain) -> Result<Option<Secret>, String> {
        self.secret_file.as_deref().map(|file| secret_of(file, domain)).transpose()
    }
}

/// The secret of a domain in the file of this name, in which `{domain}` stands for the number.
pub(super) fn secret_of(file: &str, domain: Domain) -> Result<Secret, String> {
    read_secret(Path::new(&file.replace("{domain}", &domain.to_string())))
}

/// The message never repeats what the file holds: it may be most of a secret.
fn read_secret(file: &Path) -> Result<Secret, String> {
    let bytes = fs::read(file).map_err(|error| format!("cannot read the secret in {}: {error}", file.display()))?;
    if let Ok(bytes) = <[u8; 32]>::try_from(&bytes[..]) {
        return Ok(Secret(bytes));
    }
    let digits = bytes.trim_ascii();
    let wrong = || format!("{}: a secret is 32 bytes or 64 hexadecimal digits", file.display());
    let mut secret = [0; 32];
    // Digits alone: `from_str_radix` would take a sign as well.
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(wrong());
    }
    for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(Secret(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_runs_and_single_numbers() {
        let numbers = |text: &str| text.parse().map(|Domains(all)| all.iter().map(|d| d.number()).collect::<Vec<_>>());
        assert_eq!(numbers("1-4"), Ok(vec![1, 2, 3, 4]));
        assert_eq!(numbers("7, 2-3,3"), Ok(vec![2, 3, 7]));
        for wrong in ["", "0", "4-1", "1-", "a", "1-2000", "1099511627776"] {
            assert!(numbers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ethertype_is_decimal_or_hexadecimal_and_no_length() {
        assert_eq!(ethertype("0x88B5"), Ok(0x88B5));
        assert_eq!(ethertype("34997"), Ok(0x88B5));
        assert!(ethertype("1500").is_err() && ethertype("0x").is_err());
    }

    #[test]
    fn secret_is_bytes_or_digits() {
        let folder = tempfile::tempdir().unwrap();
        let read = |bytes: &[u8]| {
            let file = folder.path().join("secret");
            fs::write(&file, bytes).unwrap();
            read_secret(&file)
        };
        assert_eq!(read(&[9; 32]), Ok(Secret([9; 32])));
        assert_eq!(read(format!("{}\n", "0a".repeat(32)).as_bytes()), Ok(Secret([10; 32])));
        assert!(read(b"short").is_err_and(|what| !what.contains("short")));
        assert!(read("+a".repeat(32).as_bytes()).is_err() && read("zz".repeat(32).as_bytes()).is_err());
    }
}
