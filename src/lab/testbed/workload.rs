//! Operators at work while the dispatch server dies: each asks for change after change, repeats
//! what was not answered, and remembers what was. What an answer said is done has to be so ever
//! after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};

use crate::api::client::{BlockingClient, ClientError, Method};
use crate::cms::RefusalKind;
use crate::wire::{Address, Flags, Layout, MeetingId, Role};

/// Operators who work side by side, each on meetings of his own.
pub const OPERATORS: usize = 4;
/// An operator's pause between two changes.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a change is asked for again before the demonstration is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// A conference as it must be, after all that was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expected {
    /// Windows on the screen.
    pub layout: Layout,
    /// Who is in it, in which role, and whether muted.
    pub members: BTreeMap<Address, (Role, bool)>,
}

/// What must be true of the dispatch server and of the autonomous servers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    /// Each conference that goes on.
    pub meetings: BTreeMap<MeetingId, Expected>,
    /// Those that were ended.
    pub ended: BTreeSet<MeetingId>,
}

/// A change that an operator asks for.
#[derive(Clone, Debug)]
enum Change {
    Layout(MeetingId, Layout),
    Role(MeetingId, Address, Role),
    Mute(MeetingId, Address, bool),
    Remove(MeetingId, Address),
    Add(MeetingId, Address),
    End(MeetingId),
    Start(MeetingId, Expected),
}

impl Change {
    /// Method, path and body of the request.
    fn request(&self) -> (Method, String, Option<Value>) {
        match self {
            Self::Layout(meeting, layout) => {
                (Method::PUT, format!("/meetings/{meeting}/layout"), Some(json!({ "layout": layout })))
            }
            Self::Role(meeting, terminal, role) => {
                (Method::PUT, format!("/meetings/{meeting}/members/{terminal}/role"), Some(json!({ "role": role })))
            }
            Self::Mute(meeting, terminal, muted) => {
                let value = if *muted { Flags::MUTED } else { Flags::default() };
                let body = json!({ "mask": Flags::MUTED, "value": value });
                (Method::PUT, format!("/meetings/{meeting}/members/{terminal}/flags"), Some(body))
            }
            Self::Remove(meeting, terminal) => {
                (Method::DELETE, format!("/meetings/{meeting}/members/{terminal}"), None)
            }
            Self::Add(meeting, terminal) => {
                (Method::POST, format!("/meetings/{meeting}/members"), Some(json!({ "members": [terminal] })))
            }
            Self::End(meeting) => (Method::DELETE, format!("/meetings/{meeting}"), None),
            Self::Start(meeting, expected) => (Method::POST, "/meetings".into(), Some(start_body(*meeting, expected))),
        }
    }

    /// Whether this refusal says that an earlier try, whose answer was lost with the engine, had
    /// been carried out.
    fn was_done_before(&self, refusal: &ClientError) -> bool {
        match self {
            Self::Remove(..) | Self::End(..) => refusal.refusal() == Some(RefusalKind::NotFound),
            Self::Add(..) | Self::Start(..) => refusal.refusal() == Some(RefusalKind::Conflict),
            _ => false,
        }
    }

    fn enter(self, ledger: &mut Ledger) {
        let Ledger { meetings, ended } = ledger;
        let mut at = |meeting, change: &dyn Fn(&mut Expected)| change(meetings.get_mut(&meeting).expect("it goes on"));
        match self {
            Self::Layout(meeting, layout) => at(meeting, &|it| it.layout = layout),
            Self::Role(meeting, terminal, role) => at(meeting, &|it| {
                it.members.entry(terminal).and_modify(|member| member.0 = role);
            }),
            Self::Mute(meeting, terminal, muted) => at(meeting, &|it| {
                it.members.entry(terminal).and_modify(|member| member.1 = muted);
            }),
            Self::Remove(meeting, terminal) => at(meeting, &|it| {
                it.members.remove(&terminal);
            }),
            Self::Add(meeting, terminal) => at(meeting, &|it| {
                it.members.insert(terminal, (Role::Participant, false));
            }),
            Self::End(meeting) => {
                meetings.remove(&meeting);
                ended.insert(meeting);
            }
            Self::Start(meeting, expected) => {
                ended.remove(&meeting);
                meetings.insert(meeting, expected);
            }
        }
    }
}

/// The body of the request that starts this conference.
pub fn start_body(meeting: MeetingId, expected: &Expected) -> Value {
    let members: Vec<_> =
        expected.members.iter().map(|(terminal, (role, _))| json!({ "terminal": terminal, "role": role })).collect();
    json!({ "meeting": meeting, "layout": expected.layout, "members": members })
}

struct Shared {
    api: BlockingClient,
    ledger: Mutex<Ledger>,
    /// Held by an operator for the length of a change, so that a thread that holds all of them sees
    /// no change half made.
    gates: [Mutex<()>; OPERATORS],
    acknowledged: AtomicU64,
    stop: AtomicBool,
    failed: Mutex<Option<String>>,
}

/// The operators, until dropped.
pub struct Operators {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Operators {
    /// Sets them to work on these conferences.
    pub fn begin(api: BlockingClient, ledger: Ledger) -> Self {
        let shared = Arc::new(Shared {
            api,
            ledger: Mutex::new(ledger),
            gates: Default::default(),
            acknowledged: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            failed: Mutex::new(None),
        });
        let threads = (0..OPERATORS)
            .map(|number| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || work(number, &shared))
            })
            .collect();
        Self { shared, threads }
    }

    /// Changes that were answered as done.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Lets every operator finish the change that he is at, and holds them all; gives what must be
    /// true now.
    ///
    /// # Errors
    /// Why an operator gave up.
    pub fn hold(&self) -> Result<(Ledger, Vec<MutexGuard<'_, ()>>), String> {
        let guards = self.shared.gates.iter().map(Mutex::lock).collect();
        match self.shared.failed.lock().take() {
            Some(why) => Err(why),
            None => Ok((self.shared.ledger.lock().clone(), guards)),
        }
    }
}

impl Drop for Operators {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(number: usize, shared: &Shared) {
    let mut turn = number as u64;
    while !shared.stop.load(Ordering::Relaxed) {
        let gate = shared.gates[number].lock();
        // A statement of its own, so that the ledger is free again before the first change is
        // entered in it.
        let changes = next_changes(number, turn, &shared.ledger.lock());
        for change in changes {
            if let Err(why) = insist(&change, shared) {
                *shared.failed.lock() = Some(why);
                return;
            }
            change.enter(&mut shared.ledger.lock());
            shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        // To who waits for it, if anybody: on a busy machine it would be taken again before that
        // one has woken.
        MutexGuard::unlock_fair(gate);
        turn += 1;
        thread::sleep(PAUSE);
    }
}

/// Asks until it is answered as done.
fn insist(change: &Change, shared: &Shared) -> Result<(), String> {
    let (method, path, body) = change.request();
    let begun = Instant::now();
    for tries in 0.. {
        match shared.api.call(&method, &path, body.as_ref()) {
            Ok(answer) => return refused_member(&answer).map_or(Ok(()), Err),
            Err(refusal) if tries > 0 && change.was_done_before(&refusal) => return Ok(()),
            Err(refusal) if !refusal.is_passing() => return Err(format!("{method} {path}: {refusal}")),
            Err(refusal) if begun.elapsed() > PATIENCE || shared.stop.load(Ordering::Relaxed) => {
                return Err(format!("{method} {path}, asked {} times in vain: {refusal}", tries + 1));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
    unreachable!("the loop ends by returning")
}

/// A conference is changed as a whole or the autonomous server's refusal of a member is told: none
/// is expected here.
fn refused_member(answer: &Value) -> Option<String> {
    let refused = answer.get("refused")?.as_array().filter(|refused| !refused.is_empty())?;
    Some(format!("an autonomous server refused {}", Value::from(refused.clone())))
}

/// What an operator does in his `turn`-th turn: one change, or two that undo each other.
fn next_changes(number: usize, turn: u64, ledger: &Ledger) -> Vec<Change> {
    let turn = turn as usize;
    let own = || ledger.meetings.iter().filter(|(meeting, _)| meeting.0 as usize % OPERATORS == number);
    // A stride that is prime to any likely number of meetings comes by all of them, neighbours far
    // apart.
    let at = turn.wrapping_mul(617) % own().count().max(1);
    let Some((&meeting, expected)) = own().nth(at) else { return Vec::new() };
    let layout = [1, 4, 9, 16, 64].map(Layout::new)[turn / 7 % 5].expect("a layout");
    let others = || expected.members.iter().filter(|(_, (role, _))| *role != Role::Chairman);
    let other = others().nth(turn % others().count().max(1)).map(|(&terminal, &(role, muted))| (terminal, role, muted));
    match (turn % 8, other) {
        (3 | 4, Some((terminal, _, muted))) => vec![Change::Mute(meeting, terminal, !muted)],
        (5, Some(_)) => change_of_speaker(meeting, expected),
        // A terminal takes its mute along, in and out of conferences: only who speaks freely comes
        // and goes here.
        (6, Some((terminal, Role::Participant, false))) if others().count() > 1 => {
            vec![Change::Remove(meeting, terminal), Change::Add(meeting, terminal)]
        }
        (7, _) if expected.members.values().all(|&(_, muted)| !muted) => {
            let again = Expected { layout, members: expected.members.clone() };
            vec![Change::End(meeting), Change::Start(meeting, again)]
        }
        _ => vec![Change::Layout(meeting, layout)],
    }
}

/// The floor is given to the first who may have it, or taken from the one who has it.
fn change_of_speaker(meeting: MeetingId, expected: &Expected) -> Vec<Change> {
    let with = |role| expected.members.iter().find(|(_, member)| member.0 == role).map(|(&terminal, _)| terminal);
    match (with(Role::SpeakerOne), with(Role::Participant)) {
        (Some(speaker), _) => vec![Change::Role(meeting, speaker, Role::Participant)],
        (None, Some(participant)) => vec![Change::Role(meeting, participant, Role::SpeakerOne)],
        (None, None) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario;
    use super::*;
    use crate::cms::Refusal;

    /// The ledger stays a possible world after any change, and every kind of change comes up.
    #[test]
    fn operators_do_everything_and_nothing_impossible() {
        let mut ledger = scenario::conferences(4, 40, 10);
        let mut kinds = BTreeSet::new();
        for turn in 0..400 {
            for number in 0..OPERATORS {
                for change in next_changes(number, turn, &ledger) {
                    kinds.insert(format!("{change:?}").split('(').next().unwrap().to_owned());
                    change.enter(&mut ledger);
                }
            }
        }
        assert_eq!(kinds.len(), 7, "{kinds:?}");
        assert!(ledger.ended.is_empty() && ledger.meetings.len() == 40, "what is ended is started again");
        for expected in ledger.meetings.values() {
            let with = |role| expected.members.values().filter(|member| member.0 == role).count();
            assert_eq!((expected.members.len(), with(Role::Chairman)), (10, 1));
            assert!(with(Role::SpeakerOne) <= 1);
        }
    }

    #[test]
    fn an_answer_that_was_lost_is_found_by_asking_again() {
        let refused = |kind| Refusal::new(kind, "", "").into();
        let (meeting, terminal) = (MeetingId(7), "1/1001".parse().unwrap());
        assert!(Change::Remove(meeting, terminal).was_done_before(&refused(RefusalKind::NotFound)));
        assert!(Change::Add(meeting, terminal).was_done_before(&refused(RefusalKind::Conflict)));
        assert!(!Change::Add(meeting, terminal).was_done_before(&refused(RefusalKind::NotFound)));
    }
}
