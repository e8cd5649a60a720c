//! A process is killed while it commits: what it was told is durable is there, and nothing is there
//! in part.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use baton::database::{
    Change, Database, DatabaseSettings, DatabaseThread, Job, JobId, KeyParameters, Member, Outcome, PartParameters,
};
use baton::wire::{Address, Domain, Epoch, Flags, Layout, Level, MeetingId, MeetingState, Role, Run, WINDOW_NONE};

const FOLDER: &str = "BATON_TEST_DATABASE_FOLDER";
const KILLS: u64 = 25;
const MEMBERS: u16 = 10;
/// Commits that wait for the disk at once.
const AT_ONCE: u64 = 16;

fn conference(meeting: u64) -> KeyParameters {
    let domains = [1, 2].map(|number| Domain::new(number).unwrap());
    let terminals = domains.iter().flat_map(|domain| (1..=MEMBERS).map(|device| domain.device(device)));
    KeyParameters {
        meeting: MeetingId(meeting),
        name: format!("{meeting}"),
        level: Level::LOWEST,
        layout: Layout::new(4).unwrap(),
        chairman: Address::default(),
        created_ms: meeting,
        parts: domains.map(|domain| PartParameters { domain, version: 1, state: MeetingState::InMeeting }).to_vec(),
        members: terminals
            .map(|terminal| Member { terminal, role: Role::Participant, flags: Flags::default(), window: WINDOW_NONE })
            .collect(),
        run: Run(7),
    }
}

/// Not a test: the process that is killed. It commits one meeting after the other; each commit also
/// ends the meeting ten before it. It prints what it was told is durable.
#[test]
fn child_commits_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let settings = DatabaseSettings {
        path: Path::new(&folder).join("baton.redb"),
        witness: None,
        patience: Duration::from_secs(30),
    };
    let (tell, told) = std::sync::mpsc::channel();
    let thread = DatabaseThread::spawn(settings, move |outcome| tell.send(outcome).unwrap()).unwrap();
    let mut next = loop {
        match told.recv().unwrap() {
            Outcome::Opened(opened) => break opened.next_meeting.0,
            Outcome::Waiting(_) => {}
            other => panic!("{other:?}"),
        }
    };
    let epoch = Epoch::new(1, next as u16);
    let mut submit = || {
        let mut changes = vec![Change::Create(conference(next)), Change::Chosen(MeetingId(next))];
        if next > 10 {
            changes.push(Change::End(MeetingId(next - 10)));
        }
        thread.submit(Job::Commit { id: JobId(next), changes, epoch }).unwrap();
        next += 1;
    };
    (0..AT_ONCE).for_each(|_| submit());
    let mut out = std::io::stdout();
    for outcome in told {
        let Outcome::Committed { id, result } = outcome else { panic!("{outcome:?}") };
        result.unwrap();
        writeln!(out, "durable {}", id.0).unwrap();
        out.flush().unwrap();
        submit();
    }
}

fn spawn(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_commits_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn what_was_durable_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut durable = 0;
    for kill in 0..KILLS {
        let mut child = spawn(folder.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // From the very start of a process to some hundred commits into it, by the round.
        let wanted = durable + kill * kill;
        let mut heard = |line: String| {
            if let Some(number) = line.trim().rsplit_once("durable ") {
                durable = number.1.parse::<u64>().unwrap();
            }
            durable
        };
        if kill > 0 {
            for line in lines.by_ref() {
                if heard(line.unwrap()) >= wanted {
                    break;
                }
            }
        }
        child.kill().unwrap();
        for line in lines.map_while(Result::ok) {
            heard(line);
        }
        child.wait().unwrap();
        check(folder.path(), durable);
    }
    assert!(durable > 1000, "{durable} commits are enough to be killed in all of their moments");
}

/// All of the last ten durable ones, at most those that were waiting besides, and each of them
/// complete.
fn check(folder: &Path, durable: u64) {
    let begun = Instant::now();
    let database = loop {
        match Database::open(&folder.join("baton.redb")) {
            Ok(database) => break database,
            Err(error) if begun.elapsed() > Duration::from_secs(30) => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let mut found = Vec::new();
    database
        .for_each_meeting(|meeting| {
            assert_eq!(meeting, conference(meeting.meeting.0), "old or new, and whole");
            found.push(meeting.meeting.0);
        })
        .unwrap();
    let last = found.last().copied().unwrap_or(0);
    assert!(durable <= last && last <= durable + AT_ONCE, "{durable} was durable, {last} is there");
    let expected: Vec<_> = (last.saturating_sub(9).max(1)..=last).collect();
    assert_eq!(found, expected, "{durable} was durable");
    for ended in 1..=last.saturating_sub(10) {
        assert!(database.ended(MeetingId(ended)).unwrap().is_some());
    }
    let reservation = database.reserve_generations(1).unwrap();
    assert_eq!(reservation.end, u32::from(reservation.first) + 1);
}
