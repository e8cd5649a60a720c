//! What a load is made of, as typed.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use crate::cli::sim::{Domains, ethertype, secret_of};
use crate::cli::{FAILED, WRONG};
use crate::config::{Config, Overrides};
use crate::lab::load::{By, Composer, Kind, Live, LoadError, Party, Plan, Population, Rings, Summary, Watch};
use crate::sla::parse_duration;
use crate::wire::{Address, DEFAULT_ETHERTYPE, Mac};

/// Whose frames, and what they say.
#[derive(Debug, clap::Args)]
pub(super) struct What {
    /// What to send
    #[arg(long = "what", value_name = "KIND", default_value = "reports")]
    pub kind: Kind,
    /// How to send it
    #[arg(long, value_name = "WAY", default_value = "rings")]
    pub by: By,
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
    pub no_answers: bool,
    /// Of garbage: the same seed, the same bytes
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

/// A rate as typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rate {
    Max,
    Of(NonZeroU64),
}

impl Rate {
    pub const fn of(self) -> Option<NonZeroU64> {
        match self {
            Self::Max => None,
            Self::Of(rate) => Some(rate),
        }
    }
}

pub(super) fn rate(text: &str) -> Result<Rate, String> {
    match text {
        "max" => Ok(Rate::Max),
        number => number.replace('_', "").parse().map(Rate::Of).map_err(|_| {
            format!("`{text}` is no rate: a number of frames a second from 1 on, or `max` for as many as go")
        }),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time.is_zero() {
        return Err(format!("`{text}` is no time at all"));
    }
    Ok(time)
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
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
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Wrong(_) | Self::Config(_) => WRONG,
            Self::Load(_) | Self::File { .. } | Self::Silence { .. } => FAILED,
        })
    }
}

/// What frames leave by.
pub(super) enum Sender {
    Rings(Rings),
    Live(Live),
}

impl Sender {
    pub fn run(&mut self, plan: &Plan, watch: Watch<'_>) -> Result<Summary, LoadError> {
        match self {
            Self::Rings(rings) => rings.run(plan, watch),
            Self::Live(live) => live.run(plan, watch),
        }
    }

    pub const fn terminals(&self) -> u32 {
        match self {
            Self::Rings(rings) => rings.composer.population.terminals(),
            Self::Live(live) => live.composer.population.terminals(),
        }
    }
}

impl What {
    pub fn open(&self) -> Result<Sender, Failure> {
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

    pub fn composer(&self, first_version: u32) -> Result<Composer, Failure> {
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

    pub fn silence(&self, sent: u64) -> Failure {
        Failure::Silence {
            sent,
            interface: self.interface.clone().unwrap_or_default(),
            mac: self.dispatch_mac.unwrap_or_default(),
            dispatch: self.dispatch.unwrap_or_else(|| Address::from_number(0x1_FFFF)),
        }
    }
}
