//! What a simulation under way is asked over its socket: a line of JSON in, a line of JSON out.
//!
//! ```text
//! {"ask":"status"}                              everything counted, and the recoveries seen
//! {"ask":"dump"}                                all meetings and terminals, sorted
//! {"ask":"recovery","after":4295081711}         in short, how the recovery after this epoch stands
//! {"ask":"changed"}                             of all terminals that changed: address, meeting, version, acknowledged
//! {"ask":"sample","up_to":64,"one_in":1000}     as dump, of few: meetings up to an id, of the rest one in so many
//! {"ask":"digests","epoch":4295081711}          each domain's count and digest of meetings under this epoch
//! {"ask":"rate","reports":20000,"probes":4000}  from now on, a second, from all domains together; ends a quiesce
//! {"ask":"quiesce","wait_ms":5000}              nothing new; what is outstanding is repeated until acknowledged
//! {"ask":"resume"}                              ends a quiesce
//! {"ask":"busy","ms":100}                       requests are answered BUSY for so long
//! {"ask":"restart","domain":2}                  that autonomous server restarts
//! {"ask":"end","domain":2,"meeting":7}          a meeting ends there of itself
//! {"ask":"forget","domain":2,"meeting":7}       a meeting is gone there without a trace
//! {"ask":"hold","domain":2,"meeting":8}         a meeting is held there that nobody started: an orphan
//! {"ask":"reset_counters"}                      counting begins anew
//! {"ask":"stop"}                                the simulation ends
//! ```
//!
//! The loop that works the frames never waits for a client: threads here read and write, and hand
//! it questions.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};

use super::world::{World, WorldStatus};
use super::{Digest, Dump, RecoveryNow, TerminalChanged};
use crate::time::Nanos;
use crate::wire::{Domain, Epoch, Layout, Level, MeetingId};

/// Questions that wait for the loop.
const QUESTIONS_MAX: usize = 16;
/// Clients at once.
const CLIENTS_MAX: usize = 16;
/// The longest line that is read from the control socket.
const QUESTION_BYTES_MAX: u64 = 4096;
/// How long a question may wait for the loop before the client is told that it hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often somebody who waits for quiet looks.
const LOOK: Duration = Duration::from_millis(2);

/// A question.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Ask {
    Status,
    Dump,
    Recovery {
        after: Epoch,
    },
    Changed,
    Sample {
        #[serde(default)]
        up_to: MeetingId,
        #[serde(default)]
        one_in: u64,
    },
    Digests {
        epoch: Epoch,
    },
    Rate {
        reports: u32,
        probes: u32,
    },
    Quiesce {
        #[serde(default)]
        wait_ms: u64,
    },
    Resume,
    Busy {
        ms: u64,
    },
    Restart {
        domain: Domain,
    },
    End {
        domain: Domain,
        meeting: MeetingId,
    },
    Forget {
        domain: Domain,
        meeting: MeetingId,
    },
    Hold {
        domain: Domain,
        meeting: MeetingId,
    },
    ResetCounters,
    Stop,
}

/// An answer, made into text by the thread that asked.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Told {
    Status(Box<WorldStatus>),
    Dump(Dump),
    Recovery(Box<RecoveryNow>),
    Changed(Vec<TerminalChanged>),
    Digests(Vec<Digest>),
    Done { done: bool },
    Quiet { quiet: bool, reports_outstanding: usize },
    Wrong { error: String },
}

/// A question on its way, and where its answer goes.
pub(super) struct Question {
    ask: Ask,
    reply: Sender<Told>,
}

/// The socket. Its path goes when this does.
pub(super) struct Control {
    path: PathBuf,
    questions: Receiver<Question>,
}

impl Control {
    /// Listens at `path`. A socket that a dead process left there is replaced; one of a living
    /// process is not.
    pub fn listen(path: &Path) -> io::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && UnixStream::connect(path).is_err() => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            other => other?,
        };
        let (asker, questions) = bounded(QUESTIONS_MAX);
        std::thread::Builder::new().name("sim-control".into()).spawn(move || accept(&listener, &asker))?;
        Ok(Self { path: path.to_owned(), questions })
    }

    /// Answers what was asked since; false when it was asked to stop.
    pub fn answer(&self, now: Nanos, world: &mut World) -> bool {
        // At most as many as can wait, so that a client that asks without end does not hold up the
        // frames.
        for Question { ask, reply } in self.questions.try_iter().take(QUESTIONS_MAX) {
            let stop = matches!(ask, Ask::Stop);
            // A client that went away does not want its answer.
            let _ = reply.try_send(perform(now, world, ask));
            if stop {
                return false;
            }
        }
        true
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn perform(now: Nanos, world: &mut World, ask: Ask) -> Told {
    let done = match ask {
        Ask::Status => return Told::Status(Box::new(world.status(now))),
        Ask::Dump => return Told::Dump(world.dump()),
        Ask::Recovery { after } => return Told::Recovery(Box::new(world.recovery_after(after, now))),
        Ask::Changed => return Told::Changed(world.terminals_changed()),
        Ask::Sample { up_to, one_in } => return Told::Dump(world.sample(up_to, one_in)),
        Ask::Digests { epoch } => return Told::Digests(world.digests(epoch)),
        Ask::Quiesce { .. } => {
            world.set_quiesced(true);
            let quiet = world.servers().iter().all(|server| server.is_quiet());
            let outstanding = world.servers().iter().map(|server| server.reports_outstanding());
            return Told::Quiet { quiet, reports_outstanding: outstanding.sum() };
        }
        Ask::Rate { reports, probes } => {
            world.set_rates(reports, probes);
            world.set_quiesced(false);
            true
        }
        Ask::Resume => {
            world.set_quiesced(false);
            true
        }
        Ask::Busy { ms } => {
            let until = now + Duration::from_millis(ms);
            world.servers().iter_mut().for_each(|server| server.set_busy(until));
            true
        }
        Ask::ResetCounters => {
            world.reset_counters();
            true
        }
        Ask::Stop => true,
        Ask::Restart { domain } | Ask::End { domain, .. } | Ask::Forget { domain, .. } | Ask::Hold { domain, .. } => {
            let Some(server) = world.servers().iter_mut().find(|server| server.domain() == domain) else {
                return Told::Wrong { error: format!("{domain} is not simulated here") };
            };
            match ask {
                Ask::End { meeting, .. } => server.end(meeting),
                Ask::Forget { meeting, .. } => server.forget(meeting),
                Ask::Hold { meeting, .. } => {
                    let layout = Layout::new(4).expect("four windows are a layout");
                    server.hold(now, meeting, Level::LOWEST, layout, &[]);
                    true
                }
                _ => {
                    server.restart();
                    true
                }
            }
        }
    };
    Told::Done { done }
}

fn accept(listener: &UnixListener, asker: &Sender<Question>) {
    let clients = Arc::new(AtomicUsize::new(0));
    for mut stream in listener.incoming().flatten() {
        // Relaxed: it only counts, and no other memory follows from it.
        if clients.fetch_add(1, Ordering::Relaxed) >= CLIENTS_MAX {
            let _ = writeln!(stream, r#"{{"error":"{CLIENTS_MAX} clients ask already"}}"#);
            clients.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (asker, theirs) = (asker.clone(), Arc::clone(&clients));
        let serving = std::thread::Builder::new().name("sim-client".into()).spawn(move || {
            // A client whose connection breaks has taken its question back.
            let _ = serve(&stream, &asker);
            theirs.fetch_sub(1, Ordering::Relaxed);
        });
        if serving.is_err() {
            clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn serve(stream: &UnixStream, asker: &Sender<Question>) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        lines.by_ref().take(QUESTION_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let told = match serde_json::from_slice(&line) {
            Ok(Ask::Stop) => {
                // Its answer goes first, because nobody is here to give it afterwards.
                (&*stream).write_all(b"{\"done\":true}\n")?;
                put(asker, Ask::Stop);
                return Ok(());
            }
            Ok(ask) => put(asker, ask),
            Err(error) => Told::Wrong { error: format!("not a question: {error}") },
        };
        let mut text = serde_json::to_vec(&told)?;
        text.push(b'\n');
        (&*stream).write_all(&text)?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
    }
}

/// Asks the loop; who waits for quiet asks it until it is so.
fn put(asker: &Sender<Question>, ask: Ask) -> Told {
    let until = match ask {
        Ask::Quiesce { wait_ms } => Instant::now() + Duration::from_millis(wait_ms),
        _ => Instant::now(),
    };
    loop {
        let (reply, told) = bounded(1);
        let asked = asker.send_timeout(Question { ask, reply }, PATIENCE).is_ok();
        match told.recv_timeout(PATIENCE) {
            Ok(Told::Quiet { quiet: false, .. }) if Instant::now() < until => std::thread::sleep(LOOK),
            Ok(told) => return told,
            Err(_) => {
                let what = if asked { "did not answer in time" } else { "takes no more questions" };
                return Told::Wrong { error: format!("the simulation {what}") };
            }
        }
    }
}
