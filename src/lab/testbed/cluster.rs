//! Dispatch server and autonomous servers, as processes, and the connections to both.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::processes::{ChildProcess, ProcessError, last_words};
use super::scenario::FIRST_DEVICE;
use super::sim_client::{Servers, Status};
use super::workload::{Ledger, start_body};
use super::{INTERFACE, Side, Testbed, TestbedError};
use crate::api::client::{BlockingClient, ClientError, Method};
use crate::lab::sim::{Dump, Preload, PreloadedDomain};
use crate::table::TableDump;
use crate::wire::Domain;

/// The dispatch server's own address.
const DISPATCH: &str = "1000/1";
/// How long anything is waited for before it is given up, unless the configuration says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);
/// An answer that takes longer is not waited for: the engine may have died with the request in its
/// hands.
pub const API_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at whether something has happened: seldom enough not to disturb what is
/// measured.
const LOOK: Duration = Duration::from_millis(10);
/// Nothing is on its way for longer.
const ON_ITS_WAY: Duration = Duration::from_millis(500);
/// Clients that start conferences side by side.
const CLIENTS: usize = 16;

/// Why a run could not be brought to its end.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The report of a recovery does not say whose death it followed.
    #[error("the report of the last recovery names no predecessor: was the engine killed by somebody else?")]
    Unnoticed,
    /// Namespaces, folders.
    #[error(transparent)]
    Testbed(#[from] TestbedError),
    /// A process could not be started, or ended too early.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The simulation's control socket, or a file.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What went wrong.
        error: io::Error,
    },
    /// A request that has to succeed.
    #[error("{what}: {error}")]
    Api {
        /// What was asked.
        what: String,
        /// What was answered.
        error: ClientError,
    },
    /// Something that had to come did not.
    #[error("{what} did not come about in {seconds} seconds; last words of the dispatch server:\n{last_words}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long it was waited for.
        seconds: u64,
        /// The end of its log.
        last_words: String,
    },
    /// An operator gave up.
    #[error("an operator gave up: {0}")]
    Operator(String),
    /// A dump without what is compared.
    #[error("the dump of the {whose} cannot be read: {error}")]
    Dump {
        /// Which process it is.
        whose: &'static str,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// No kill came during a recovery.
    #[error("each of {0} recoveries was over before a kill came in between")]
    TooQuick(usize),
    /// The dispatch server stopped, and not with success.
    #[error(transparent)]
    Unclean(ProcessError),
}

/// Adds what was tried to what the system said.
pub fn doing(what: &str) -> impl FnOnce(io::Error) -> ClusterError {
    let what = what.to_owned();
    |error| ClusterError::Io { what, error }
}

/// What differs from run to run.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Autonomous servers, numbered from 1.
    pub domains: u64,
    /// The conferences that they have from the beginning, their terminals numbered from
    /// [`FIRST_DEVICE`] on.
    pub preload: Option<Preload>,
    /// Further lines of the configuration's section on the table.
    pub table: String,
    /// Further sections of the configuration.
    pub sections: String,
    /// Further arguments of the simulation.
    pub simulation: Vec<String>,
    /// The CPUs that the dispatch server may have, as `taskset --cpu-list` takes them; where none
    /// are given, ours.
    pub cpus: Option<String>,
    /// How long anything is waited for.
    pub patience: Duration,
}

impl ClusterConfig {
    /// The default configuration for so many autonomous servers.
    pub const fn new(domains: u64) -> Self {
        Self {
            domains,
            preload: None,
            table: String::new(),
            sections: String::new(),
            simulation: Vec::new(),
            cpus: None,
            patience: PATIENCE,
        }
    }
}

/// Dispatch server and autonomous servers.
pub struct Cluster<'a> {
    testbed: &'a Testbed,
    cpus: Option<String>,
    patience: Duration,
    /// The keeper.
    pub dispatch: ChildProcess,
    /// All autonomous servers.
    pub simulation: ChildProcess,
    /// The connection to the simulation's control socket.
    pub servers: Servers,
    /// The API of the dispatch server.
    pub api: BlockingClient,
}

impl<'a> Cluster<'a> {
    /// Starts both on the testbed. The dispatch server may not control yet.
    ///
    /// # Errors
    /// One of them cannot be started, or ends.
    pub fn start(testbed: &'a Testbed, config: &ClusterConfig) -> Result<Self, ClusterError> {
        write_configuration(testbed, config).map_err(doing("writing the configuration"))?;
        let mut simulation =
            ChildProcess::start(testbed, Side::Servers, "simulation", None, &simulation_arguments(testbed, config))?;
        let mut dispatch = start_dispatch(testbed, config.cpus.as_deref())?;
        let begun = Instant::now();
        let servers = loop {
            simulation.must_live()?;
            dispatch.must_live()?;
            match Servers::connect(&control_socket(testbed)) {
                Ok(servers) => break servers,
                Err(error) if begun.elapsed() > config.patience => return Err(doing("reaching the simulation")(error)),
                Err(_) => thread::sleep(LOOK),
            }
        };
        let api = BlockingClient::new(testbed.run().join("api.sock"), API_TIMEOUT);
        Ok(Self { testbed, cpus: config.cpus.clone(), patience: config.patience, dispatch, simulation, servers, api })
    }

    /// Waits for something, looking now and then.
    pub fn wait<T>(
        &mut self,
        what: &str,
        look: impl FnMut(&mut Self) -> Result<Option<T>, ClusterError>,
    ) -> Result<T, ClusterError> {
        self.wait_looking(what, LOOK, look)
    }

    /// As [`Self::wait`], looking without pause.
    pub fn at_once<T>(
        &mut self,
        what: &str,
        look: impl FnMut(&mut Self) -> Result<Option<T>, ClusterError>,
    ) -> Result<T, ClusterError> {
        self.wait_looking(what, Duration::ZERO, look)
    }

    fn wait_looking<T>(
        &mut self,
        what: &str,
        pause: Duration,
        mut look: impl FnMut(&mut Self) -> Result<Option<T>, ClusterError>,
    ) -> Result<T, ClusterError> {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            self.dispatch.must_live()?;
            self.simulation.must_live()?;
            if begun.elapsed() > self.patience {
                let last_words = last_words(&self.testbed.data().join("dispatch.log"));
                return Err(ClusterError::Late { what: what.into(), seconds: self.patience.as_secs(), last_words });
            }
            thread::sleep(pause);
        }
    }

    /// How the autonomous servers do.
    pub fn status(&mut self) -> Result<Status, ClusterError> {
        self.servers.status().map_err(doing("asking the simulation how it does"))
    }

    /// Asks the dispatch server; an answer has to come.
    pub fn ask(&self, path: &str) -> Result<Value, ClusterError> {
        self.api.get(path).map_err(|error| ClusterError::Api { what: format!("GET {path}"), error })
    }

    /// Whether the dispatch server says that it controls.
    pub fn in_control(&self) -> bool {
        self.ask("/status").is_ok_and(|status| status["state"] == "in control")
    }

    /// Starts all conferences.
    pub fn start_meetings(&self, ledger: &Ledger, started: impl Fn() + Sync) -> Result<(), ClusterError> {
        let all: Vec<_> = ledger.meetings.iter().collect();
        let next = AtomicUsize::new(0);
        let client = || {
            while let Some((meeting, expected)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                let body = start_body(**meeting, expected);
                let answer = self.api.call(&Method::POST, "/meetings", Some(&body));
                answer.map_err(|error| ClusterError::Api { what: format!("starting {meeting:?}"), error })?;
                started();
            }
            Ok(())
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            clients.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))
        })
    }

    /// Nothing new happens, and what is on its way arrives: probes end, reports are repeated until
    /// answered. Gives how the autonomous servers do then.
    pub fn come_to_rest(&mut self) -> Result<Status, ClusterError> {
        self.servers.quiesce().map_err(doing("quieting the simulation"))?;
        let status = self.wait("the last acknowledgement", |cluster| {
            let status = cluster.status()?;
            Ok(status.quiet.then_some(status))
        })?;
        if status.probes_unanswered == 0 {
            return Ok(status);
        }
        // An echo that is still on its way takes no longer than this; a probe that was lost has
        // none.
        thread::sleep(ON_ITS_WAY);
        self.status()
    }

    /// What both sides hold: the dispatch server, then the autonomous servers.
    pub fn dumps(&mut self) -> Result<(TableDump, Dump), ClusterError> {
        let of = |whose| move |error| ClusterError::Dump { whose, error };
        let ours = serde_json::from_value(self.ask("/table")?).map_err(of("dispatch server"))?;
        let theirs = self.servers.dump().map_err(doing("dumping the simulation"))?;
        Ok((ours, serde_json::from_value(theirs).map_err(of("autonomous servers"))?))
    }

    /// Starts the dispatch server again, after it has ended.
    pub fn start_again(&mut self) -> Result<(), ClusterError> {
        self.dispatch = start_dispatch(self.testbed, self.cpus.as_deref())?;
        Ok(())
    }

    /// The process id of the engine.
    pub fn engine(&self) -> Result<u32, ClusterError> {
        let pid = self.ask("/status")?["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        Ok(pid.ok_or(ProcessError::NoEngine(self.dispatch.pid()))?)
    }
}

fn start_dispatch(testbed: &Testbed, cpus: Option<&str>) -> Result<ChildProcess, ProcessError> {
    let configuration = configuration_file(testbed).display().to_string();
    ChildProcess::start(testbed, Side::Dispatch, "dispatch", cpus, &["run".into(), "--config".into(), configuration])
}

fn simulation_arguments(testbed: &Testbed, config: &ClusterConfig) -> Vec<String> {
    let arguments = [
        ("--interface", INTERFACE.to_owned()),
        ("--domains", format!("1-{}", config.domains)),
        ("--dispatch", DISPATCH.to_owned()),
        ("--dispatch-mac", Side::Dispatch.mac().to_string()),
        ("--secret-file", secret_file(testbed).display().to_string()),
        ("--control", control_socket(testbed).display().to_string()),
    ];
    let typed = arguments.into_iter().flat_map(|(option, value)| [option.to_owned(), value]);
    std::iter::once("sim".to_owned()).chain(typed).chain(config.simulation.iter().cloned()).collect()
}

fn configuration_file(testbed: &Testbed) -> PathBuf {
    testbed.data().join("baton.toml")
}

fn secret_file(testbed: &Testbed) -> PathBuf {
    testbed.data().join("domains.secret")
}

fn control_socket(testbed: &Testbed) -> PathBuf {
    testbed.data().join("simulation.sock")
}

/// The default configuration, but for places of our own: another Baton may run on this machine.
fn write_configuration(testbed: &Testbed, config: &ClusterConfig) -> io::Result<()> {
    let mut secret = [0_u8; 32];
    rustix::rand::getrandom(&mut secret[..], rustix::rand::GetRandomFlags::empty())?;
    let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(secret_file(testbed))?;
    io::Write::write_all(&mut file, format!("{digits}\n").as_bytes())?;
    let mut text = format!(
        "[dispatch]\naddress = \"{DISPATCH}\"\n\n[interface]\nname = \"{INTERFACE}\"\n\n\
         [table]\npath = {:?}\n{}\n\n[database]\npath = {:?}\n\n[runtime]\ndir = {:?}\n\n{}\n",
        testbed.table(),
        config.table,
        testbed.database(),
        testbed.run(),
        config.sections,
    );
    for (position, number) in (0..).zip(1..=config.domains) {
        let own =
            config.preload.zip(Domain::new(number)).map(|(all, domain)| all.domain(position, domain, FIRST_DEVICE));
        let behind: Vec<_> = own.iter().flat_map(PreloadedDomain::behind).map(Domain::number).collect();
        text.push_str(&format!("\n[[domain]]\nnumber = {number}\nsecret_file = {:?}\n", secret_file(testbed)));
        text.push_str(&format!("behind = {behind:?}\n"));
    }
    fs::write(configuration_file(testbed), text)
}
