//! The ways in which a dispatch server is killed: RFC 6201's reset methods.

use std::error::Error;
use std::time::{Duration, Instant};

use baton::lab::testbed::Testbed;
use baton::lab::testbed::cluster::Cluster;
use baton::lab::testbed::processes::signal_to;
use baton::sys::clock;
use baton::time::Nanos;
use baton::wire::Epoch;
use rustix::process::Signal;
use serde::Serialize;

use super::prepare;

/// How long things run undisturbed before a fault. A keeper takes deaths for accidents that come
/// more than a quarter of a second after the engine came to control; quicker ones it takes for a
/// crash loop, and pauses.
pub const UNDISTURBED: Duration = Duration::from_millis(300);
/// How often a kill during a recovery is tried.
const TRIES: usize = 20;
/// How long a successor's first frame is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A reset method.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Fault {
    #[serde(rename = "engine killed")]
    Engine,
    #[serde(rename = "engine killed while recovering")]
    DuringRecovery,
    #[serde(rename = "engine and standby killed together")]
    EngineAndStandby,
    #[serde(rename = "engine and keeper killed, and started again")]
    EngineAndKeeper,
    /// The same, and the table is gone.
    #[serde(rename = "reboot, with a snapshot")]
    Reboot,
    /// And there is no snapshot either.
    #[serde(rename = "reboot, without a snapshot")]
    BareReboot,
}

/// One kill.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// The clock just before `kill`.
    pub killed: Nanos,
    /// When somebody knew; none where the successor's report tells that.
    pub detected: Option<Nanos>,
    /// The epoch until then.
    pub old: Epoch,
}

impl Fault {
    /// Those that the table survives.
    pub const KILLS: [Self; 4] = [Self::Engine, Self::DuringRecovery, Self::EngineAndStandby, Self::EngineAndKeeper];
    /// Those that it does not.
    pub const REBOOTS: [Self; 2] = [Self::BareReboot, Self::Reboot];

    pub const fn words(self) -> &'static str {
        match self {
            Self::Engine => "engine killed",
            Self::DuringRecovery => "engine killed while recovering",
            Self::EngineAndStandby => "engine and standby killed together",
            Self::EngineAndKeeper => "engine and keeper killed, and started again",
            Self::Reboot => "reboot, with a snapshot",
            Self::BareReboot => "reboot, without a snapshot",
        }
    }

    /// How often, of so many kills of the engine. Reboots are counted for themselves.
    pub const fn trials(self, engine_kills: u32) -> u32 {
        let share = match self {
            Self::Engine => engine_kills,
            Self::DuringRecovery | Self::EngineAndStandby => engine_kills / 3,
            Self::EngineAndKeeper | Self::Reboot | Self::BareReboot => engine_kills / 6,
        };
        if share == 0 { 1 } else { share }
    }

    /// Whether every frame has to survive it: the sockets outlive all but the keeper.
    pub const fn keeps_frames(self) -> bool {
        !matches!(self, Self::EngineAndKeeper | Self::Reboot | Self::BareReboot)
    }

    /// Whether the table survives it.
    pub const fn keeps_table(self) -> bool {
        !matches!(self, Self::Reboot | Self::BareReboot)
    }

    /// Kills; `epoch` tells the one in use.
    pub fn strike(
        self,
        testbed: &Testbed,
        cluster: &mut Cluster<'_>,
        epoch: &dyn Fn() -> Epoch,
    ) -> Result<Kill, Box<dyn Error>> {
        match self {
            Self::Engine => kill_engine(cluster, epoch()),
            Self::DuringRecovery => kill_twice(cluster, epoch),
            Self::EngineAndStandby => kill_children(cluster, epoch()),
            Self::EngineAndKeeper => kill_all(cluster, epoch(), || Ok(())),
            Self::Reboot => kill_all(cluster, epoch(), || forget(testbed)),
            Self::BareReboot => kill_all(cluster, epoch(), || {
                std::fs::remove_file(prepare::snapshot(testbed))?;
                forget(testbed)
            }),
        }
    }
}

fn kill_engine(cluster: &mut Cluster<'_>, old: Epoch) -> Result<Kill, Box<dyn Error>> {
    let engine = cluster.engine()?;
    // That was a request that the engine answered. Deaths do not wait for one.
    std::thread::sleep(QUIET);
    Ok(Kill { killed: signal_to(engine, Signal::KILL)?, detected: None, old })
}

/// So long an engine is asked nothing by us before it is killed.
const QUIET: Duration = Duration::from_millis(20);

/// Kills an engine, and its successor after that one's first takeover frame and before it is
/// through. How long that is, is found by trying: to look when it sends would take longer than the
/// whole of it.
fn kill_twice(cluster: &mut Cluster<'_>, epoch: &dyn Fn() -> Epoch) -> Result<Kill, Box<dyn Error>> {
    let mut pause = Duration::from_micros(500);
    for _ in 0..TRIES {
        let (old, engine) = (epoch(), cluster.engine()?);
        let successor = cluster.dispatch.engines().into_iter().find(|&child| child != engine);
        let successor = successor.ok_or("an engine is to be followed, and the keeper has no standby")?;
        signal_to(engine, Signal::KILL)?;
        std::thread::sleep(pause);
        let (between, killed) = (epoch(), signal_to(successor, Signal::KILL)?);
        let seen = cluster.servers.recovery(old)?;
        match (seen.takeover_first_ns, seen.replay_done_under_next_ns) {
            (Some(_), Some(over)) if Nanos(over) <= killed => pause = pause * 2 / 3,
            (Some(first), _) if Nanos(first) <= killed => return Ok(Kill { killed, detected: None, old: between }),
            _ => pause = pause * 4 / 3,
        }
        let begun = Instant::now();
        while cluster.servers.recovery(between)?.replay_done_ns.is_none() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        cluster.wait("a standby", |cluster| Ok((cluster.dispatch.engines().len() == 2).then_some(())))?;
        std::thread::sleep(UNDISTURBED);
    }
    Err(format!("none of {TRIES} kills came between a first takeover frame and the end of the recovery").into())
}

/// Kills all that the keeper has started.
fn kill_children(cluster: &mut Cluster<'_>, old: Epoch) -> Result<Kill, Box<dyn Error>> {
    let (engine, mut children) = (cluster.engine()?, cluster.dispatch.engines());
    // The standby first: it would not see the engine die.
    children.sort_by_key(|&child| child == engine);
    let mut killed = clock::now();
    for (number, child) in children.into_iter().enumerate() {
        let at = signal_to(child, Signal::KILL)?;
        killed = if number == 0 { at } else { killed };
    }
    Ok(Kill { killed, detected: None, old })
}

/// Takes away what a reboot takes. The kernel lets go of XDP programs a little after the last who
/// had them is gone, and finds none after a reboot.
fn forget(testbed: &Testbed) -> Result<(), Box<dyn Error>> {
    std::thread::sleep(UNDISTURBED);
    testbed.forget_memory()?;
    std::thread::sleep(UNDISTURBED);
    Ok(())
}

/// `and_then` is done before the dispatch server is started again.
fn kill_all(
    cluster: &mut Cluster<'_>,
    old: Epoch,
    and_then: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<Kill, Box<dyn Error>> {
    let (engine, mut children) = (cluster.engine()?, cluster.dispatch.engines());
    // The standby before the engine, or it would see it die and take over.
    children.sort_by_key(|&child| child == engine);
    // The keeper first, or it would start the next engine.
    let killed = cluster.dispatch.signal(Signal::KILL)?;
    for child in children {
        // An engine without a keeper may have ended already.
        let _ = signal_to(child, Signal::KILL);
    }
    // As a service manager does: it waits for the main process, and starts it again.
    cluster.dispatch.wait()?;
    and_then()?;
    let detected = Some(clock::now());
    cluster.start_again()?;
    Ok(Kill { killed, detected, old })
}
