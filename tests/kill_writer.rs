//! SIGKILL in the middle of anything: a child process writes to a table as fast as it can, with its
//! control thread and two workers, and is killed at a random moment, thousands of times. After each
//! death every record is whole and as some writer intended it, nothing that was acknowledged is
//! lost, and recovery leaves a consistent table. Recovery is a process too, and is sometimes killed
//! itself.
//!
//! 2,000 deaths; `BATON_KILLS=100000 cargo test --release --test kill_writer -- --nocapture` does
//! more.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use baton::sys::mapping::{BootId, Mapping};
use baton::table::{Capacity, OwnerId, Part, Reported, Table, TableError, Terminal, Writer};
use baton::wire::{
    Address, Business, Decode, Domain, Epoch, Flags, Info, Layout, Level, MeetingId, MeetingState, Role, Run,
    StreamKind, mix,
};

const CHILD: &str = "BATON_KILL_WRITER_FOLDER";
const RECOVERY: &str = "BATON_KILL_RECOVERY_FOLDER";
/// Number of deaths by default; `BATON_KILLS` overrides it.
const KILLS: u64 = 2000;
const CAPACITY: Capacity = Capacity { meetings: 24, terminals: 96 };

/// Meetings that come and go, all in domain 1; the one that stays has a part in domains 1 and 2.
const PASSING: u64 = 16;
const STAYING: MeetingId = MeetingId(1000);
/// Devices that come and go, in domain 1; half of those that stay are in domain 2.
const MOVERS: u16 = 40;
const STAYERS: u16 = 32;

/// The words of the log beside the table, in which the child acknowledges its operations.
const READY: usize = 0;
const RECOVERING: usize = 1;
const PAUSE: usize = 7;
const RECOVERED: usize = 2;
const GENERATION: usize = 8;
const MEETINGS: usize = 16;
const MOVES: usize = 64;
const REPORTS: usize = 128;
const CHANGES: usize = 200;
const LOG_BYTES: u64 = 2048;

/// Generations that are reserved at a time.
const BLOCK: u32 = 5;

const PENDING: u64 = u64::MAX;

fn domain(number: u64) -> Domain {
    Domain::new(number).unwrap()
}

fn stayer(number: u16) -> Address {
    domain(1 + u64::from(number % 2)).device(1000 + number)
}

fn mover(number: u16) -> Address {
    domain(1).device(1 + number)
}

/// A terminal's record at a version: address and version determine everything.
fn record(address: Address, meeting: MeetingId, version: u32) -> Terminal {
    let dice = mix(address.number() << 32 ^ u64::from(version)) as usize;
    let mut terminal = Terminal::new(address, meeting, Role::ALL[dice % Role::ALL.len()]);
    terminal.version = version;
    terminal.business = Business::ALL[dice / 8 % Business::ALL.len()];
    terminal.decode = Decode::ALL[dice / 64 % Decode::ALL.len()];
    terminal.flags = Flags((dice >> 12) as u8);
    terminal.channel = (dice >> 20) as u8;
    terminal.stream = if dice >> 28 & 1 == 0 { StreamKind::Sub } else { StreamKind::Main };
    terminal.info = Info::new(&[(dice >> 32) as u8; 64][..(dice >> 40) % 65]);
    terminal
}

/// The epoch of this number of generations: a term has 65,536.
fn epoch_of(generation: u64) -> Epoch {
    Epoch::new(1 + (generation >> 16) as u32, generation as u16)
}

/// A part at a version: its key and the version determine everything.
fn part(meeting: MeetingId, domain: Domain, version: u64) -> Part {
    let dice = mix(meeting.0 ^ version << 16 ^ domain.number() << 56);
    Part {
        meeting,
        domain,
        version,
        epoch: Epoch(dice),
        state: MeetingState::ALL[(dice >> 8) as usize % MeetingState::ALL.len()],
        level: Level::new(1 + (dice >> 16) as u8 % 5).unwrap(),
        layout: Layout::new(1 + (dice >> 24) as u8 % 13).unwrap(),
        participants: 0,
        chairman: Address::from_number(mix(dice)),
        in_doubt: dice >> 32 & 1 != 0,
        is_unlisted: dice >> 33 & 1 != 0,
        run: Run(7),
    }
}

/// Not a test: the process that [`every_death_leaves_a_table`] kills.
#[test]
fn writer_child() {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let table = Arc::new(Table::open_at(&folder.join("table")).unwrap());
    let log = Arc::new(Mapping::open(&folder.join("log")).unwrap());
    let mut dice = Dice(u64::from(std::process::id()));
    // Workers first, so that they are working when the parent is told.
    for number in 0..2 {
        let (table, log, dice) = (table.clone(), log.clone(), Dice(dice.next()));
        std::thread::spawn(move || report_forever(table.writer(OwnerId::worker(number)), &log, dice, number));
    }
    let mut control = table.writer(OwnerId::CONTROL);
    log.words()[READY].store(1, Release);
    loop {
        control_once(&mut control, &log, &mut dice);
    }
}

/// Not a test either: the process that recovers, and that is sometimes killed in the middle of it.
#[test]
fn recovery_child() {
    let Some(folder) = std::env::var_os(RECOVERY).map(PathBuf::from) else { return };
    let table = Table::open_at(&folder.join("table")).unwrap();
    let log = Mapping::open(&folder.join("log")).unwrap();
    log.words()[RECOVERING].store(1, Release);
    // The kill takes longer to arrive than recovery takes, so recovery begins some time after it
    // was announced.
    for _ in 0..log.words()[PAUSE].load(Acquire) {
        std::hint::spin_loop();
    }
    log.words()[RECOVERING].store(2, Release);
    let recovered = table.recover();
    let found = [recovered.claims, recovered.finished, recovered.undone, recovered.extents];
    found.iter().enumerate().for_each(|(at, &found)| log.words()[RECOVERED + at].store(found.into(), Release));
    log.words()[RECOVERING].store(3, Release);
}

/// A worker: it reports for every second terminal that stays, and for those that come and go,
/// whether these are in the table or not.
fn report_forever(mut writer: Writer, log: &Mapping, mut dice: Dice, number: u8) {
    loop {
        let stays = dice.below(4) != 0;
        let device = dice.below(if stays { STAYERS } else { MOVERS } as u64 / 2) as u16 * 2 + u16::from(number);
        let address = if stays { stayer(device) } else { mover(device) };
        let known = writer.table().terminal(address).map_or(0, |terminal| terminal.version);
        let version = known.wrapping_add(1 + dice.below(3) as u32);
        let new = record(address, MeetingId::NONE, version);
        let reported = writer.report(
            address,
            MeetingId::NONE,
            version,
            new.business,
            new.decode,
            new.role,
            new.flags,
            new.channel,
            new.stream,
            &new.info,
        );
        match reported {
            Reported::Applied if stays => log.words()[REPORTS + usize::from(device)].store(version.into(), Release),
            Reported::Applied | Reported::Known | Reported::Contended | Reported::Full => {}
            Reported::UnknownTerminal if !stays => {}
            other => panic!("{address}: {other:?}"),
        }
    }
}

/// The control thread: one operation, announced and acknowledged in the log.
fn control_once(control: &mut Writer, log: &Mapping, dice: &mut Dice) {
    let words = log.words();
    let meeting = MeetingId(1 + dice.below(PASSING));
    let device = dice.below(MOVERS.into()) as u16;
    let place = &words[MOVES + usize::from(device)];
    match dice.below(9) {
        0 => {
            let word = &words[MEETINGS + meeting.0 as usize];
            if word.load(Acquire) == 0 {
                word.store(PENDING, Release);
                control.insert_part(&part(meeting, domain(1), dice.next())).unwrap();
                word.store(1, Release);
            }
        }
        1 => {
            let word = &words[MEETINGS + meeting.0 as usize];
            let members: Vec<_> =
                (0..MOVERS as usize).filter(|at| words[MOVES + at].load(Acquire) == meeting.0).collect();
            word.store(PENDING, Release);
            members.iter().for_each(|at| words[MOVES + at].store(PENDING, Release));
            expect(|| control.remove_part(meeting, domain(1)));
            members.iter().for_each(|at| words[MOVES + at].store(0, Release));
            word.store(0, Release);
        }
        2..=3 => {
            if place.load(Acquire) == 0 && words[MEETINGS + meeting.0 as usize].load(Acquire) == 1 {
                place.store(PENDING, Release);
                let joined =
                    expect(|| control.join(meeting, domain(1), &record(mover(device), meeting, 1 + device as u32)));
                place.store(if joined.is_some() { meeting.0 } else { 0 }, Release);
            }
        }
        4 => {
            let meeting = place.load(Acquire);
            if meeting != 0 {
                place.store(PENDING, Release);
                assert_eq!(expect(|| control.leave(MeetingId(meeting), mover(device))), Some(true));
                place.store(0, Release);
            }
        }
        5..=6 => {
            let number = 1 + dice.below(2);
            let version = words[CHANGES + number as usize].load(Acquire) + 1;
            let new = part(STAYING, domain(number), version);
            assert_eq!(expect(|| control.update_part(STAYING, domain(number), |old| *old = new)), Some(true));
            words[CHANGES + number as usize].store(version, Release);
        }
        7 => {
            let generation = words[GENERATION].load(Acquire) + 1;
            if control.table().bump_generation().is_none() {
                control.table().set_reservation(epoch_of(generation), u32::from(generation as u16) + BLOCK);
            }
            words[GENERATION].store(generation, Release);
        }
        _ => {
            // Not acknowledged: workers change the same terminals, and the higher version counts.
            let address = stayer(dice.below(STAYERS.into()) as u16);
            let step = dice.below(4) as u32;
            expect(|| {
                control.update_terminal(address, |terminal| {
                    *terminal = record(address, STAYING, terminal.version.wrapping_add(step));
                    step != 0
                })
            });
        }
    }
}

/// The result of an operation; none if there are no extents left, or another writer was there: a
/// child shares two processors with everything else.
fn expect<T>(mut act: impl FnMut() -> Result<T, TableError>) -> Option<T> {
    loop {
        match act() {
            Ok(done) => return Some(done),
            Err(TableError::Full(_)) => return None,
            Err(TableError::Contended) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn every_death_leaves_a_table() {
    let folder = tempfile::Builder::new().prefix("baton-kill-writer-").tempdir_in("/dev/shm").unwrap();
    let seed = std::env::var("BATON_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    println!("seed {seed} (BATON_SEED repeats the moments, though not what the scheduler makes of them)");
    let mut dice = Dice(seed);
    let table = Arc::new(Table::create_at(&folder.path().join("table"), CAPACITY, BootId(1)).unwrap());
    let log = Mapping::create(&folder.path().join("log"), LOG_BYTES).unwrap();
    log.publish(&folder.path().join("log")).unwrap();
    furnish(&table, &log);

    let kills = std::env::var("BATON_KILLS").map_or(KILLS, |kills| kills.parse().expect("BATON_KILLS is a number"));
    let mut totals = [0; 4];
    let mut died_recovering = 0;
    for kill in 0..kills {
        kill_one(folder.path(), &log, &mut dice);
        // Before recovery too, every record is whole: readers do not wait for dead writers.
        check_records(&table, &log, &format!("seed {seed}, death {kill}, before recovery"));
        while dice.below(4) == 0 {
            died_recovering += u64::from(kill_recovery(folder.path(), &log, &mut dice));
            check_records(&table, &log, &format!("seed {seed}, death {kill}, after one of its recovery"));
        }
        let found = recover(folder.path(), &log);
        totals.iter_mut().zip(found).for_each(|(total, found)| *total += found);
        let story = format!("seed {seed}, death {kill}, claims, finished, undone and extents {found:?}");
        assert_eq!(table.verify(), Vec::<String>::new(), "{story}");
        check_records(&table, &log, &story);
        check_membership(&table, &log, &story);
    }
    let [claims, finished, undone, extents] = totals;
    println!(
        "{kills} deaths, {died_recovering} more in the middle of recovery: {claims} claims, {finished} operations \
         finished, {undone} undone, {extents} extents back"
    );
    assert!(claims > 0 && finished > 0, "the moments are random: some are in the middle of something");
    assert!(died_recovering > 0, "some recoveries are killed before they are done");
}

fn start_recovery(folder: &Path, log: &Mapping) -> Child {
    log.words()[RECOVERING].store(0, Release);
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "recovery_child"])
        .env(RECOVERY, folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Recovers in a process of its own. Returns what was found.
fn recover(folder: &Path, log: &Mapping) -> [u64; 4] {
    let status = start_recovery(folder, log).wait().unwrap();
    assert!(status.success(), "the recovery failed: {status}");
    std::array::from_fn(|at| log.words()[RECOVERED + at].load(Acquire))
}

/// Starts a recovery and kills it around the moment at which it begins. Returns whether that was in
/// the middle of it.
fn kill_recovery(folder: &Path, log: &Mapping, dice: &mut Dice) -> bool {
    let words = log.words();
    words[PAUSE].store(dice.below(2000), Release);
    let mut child = start_recovery(folder, log);
    // Checked without sleeping, because a recovery takes microseconds.
    let patience = Instant::now() + Duration::from_secs(30);
    while words[RECOVERING].load(Acquire) == 0 {
        assert!(Instant::now() < patience, "the recovery does not begin");
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    words[PAUSE].store(0, Release);
    words[RECOVERING].load(Acquire) == 2
}

fn furnish(table: &Arc<Table>, log: &Mapping) {
    let mut control = table.writer(OwnerId::CONTROL);
    table.set_reservation(Epoch::new(1, 1), 1 + BLOCK);
    log.words()[GENERATION].store(1, Release);
    for number in 1..=2 {
        control.insert_part(&part(STAYING, domain(number), 0)).unwrap();
        log.words()[CHANGES + number as usize].store(0, Release);
    }
    for number in 0..STAYERS {
        let address = stayer(number);
        control.join(STAYING, address.domain().unwrap(), &record(address, STAYING, 1)).unwrap();
    }
}

/// Starts the child, waits until it is at work, and kills it a random time later.
fn kill_one(folder: &Path, log: &Mapping, dice: &mut Dice) {
    log.words()[READY].store(0, Release);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_child", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while log.words()[READY].load(Acquire) == 0 {
        assert_eq!(child.try_wait().unwrap(), None, "the writer died by itself");
        std::thread::sleep(Duration::from_micros(100));
    }
    let moment = Instant::now() + Duration::from_nanos(dice.below(1_500_000));
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "the writer failed by itself: {status}");
}

fn check_records(table: &Table, log: &Mapping, story: &str) {
    let words = log.words();
    for terminal in table.terminals() {
        assert_eq!(terminal, record(terminal.terminal, terminal.meeting, terminal.version), "{story}");
    }
    for found in table.parts() {
        let expected = part(found.meeting, found.domain, found.version);
        assert_eq!(Part { participants: 0, ..found }, expected, "{story}");
    }
    for number in 0..STAYERS {
        let address = stayer(number);
        let found = table.terminal(address).unwrap_or_else(|| panic!("{story}: {address} is gone"));
        let acknowledged = words[REPORTS + usize::from(number)].load(Acquire) as u32;
        assert!(found.version >= acknowledged, "{story}: {acknowledged} was acknowledged, found {found:?}");
    }
    for number in 1..=2 {
        let found = table.part(STAYING, domain(number)).unwrap_or_else(|| panic!("{story}: the part is gone"));
        let acknowledged = words[CHANGES + number as usize].load(Acquire);
        let whole = found.version == acknowledged || found.version == acknowledged + 1;
        assert!(whole, "{story}: {acknowledged} was acknowledged, found {found:?}");
        // The next child continues from what was found.
        words[CHANGES + number as usize].store(found.version, Release);
    }
    let epoch = table.epoch();
    let generation = u64::from(epoch.term() - 1) << 16 | u64::from(epoch.generation());
    let acknowledged = words[GENERATION].load(Acquire);
    let whole = generation == acknowledged || generation == acknowledged + 1;
    assert!(whole, "{story}: generation {acknowledged} was acknowledged, found {generation}");
    assert!(u32::from(epoch.generation()) < table.generation_end(), "{story}: generation {generation} is in no block");
    words[GENERATION].store(generation, Release);
    assert_eq!(table.unreadable(), 0, "{story}");
}

/// An acknowledged operation is done; one under way is done or not, and the next child continues
/// from there.
fn check_membership(table: &Table, log: &Mapping, story: &str) {
    for number in 1..=PASSING {
        let word = &log.words()[MEETINGS + number as usize];
        let found = u64::from(table.part(MeetingId(number), domain(1)).is_some());
        let said = word.load(Acquire);
        assert!(said == PENDING || said == found, "{story}: meeting {number} is {found}, said {said}");
        word.store(found, Release);
    }
    for number in 0..MOVERS {
        let word = &log.words()[MOVES + usize::from(number)];
        let found = table.terminal(mover(number)).map_or(0, |terminal| terminal.meeting.0);
        let said = word.load(Acquire);
        assert!(said == PENDING || said == found, "{story}: device {number} is in meeting {found}, said {said}");
        word.store(found, Release);
    }
}

/// Random numbers, from SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
