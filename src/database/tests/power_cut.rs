//! A power cut at any moment: what was written since the last flush is there, or not, or half, in
//! any order; and the database opens and holds every commit that was acknowledged, and at most the
//! one that was under way.

use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use redb::StorageBackend;

use super::format::first_format;
use super::{EPOCH, all, conference, domain};
use crate::database::*;
use crate::wire::{Layout, mix};

/// Runs of 24 commits, each cut at every step.
const HISTORIES: usize = 10;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Step {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
}

/// A disk, all of whose steps are remembered. Clones are the same one.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<(Vec<u8>, Vec<Step>)>>);

impl Disk {
    fn holding(content: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new((content, Vec::new()))))
    }

    fn steps(&self) -> usize {
        self.0.lock().1.len()
    }

    fn do_it(&self, step: Step) -> io::Result<()> {
        let mut disk = self.0.lock();
        apply(&mut disk.0, &step);
        disk.1.push(step);
        Ok(())
    }
}

fn apply(content: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Write(at, bytes) => {
            let end = *at as usize + bytes.len();
            content.resize(content.len().max(end), 0);
            content[*at as usize..end].copy_from_slice(bytes);
        }
        Step::Length(bytes) => content.resize(*bytes as usize, 0),
        Step::Sync => {}
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().0.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.0.lock();
        let bytes = disk.0.get(offset as usize..offset as usize + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.do_it(Step::Length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.do_it(Step::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.do_it(Step::Write(offset, data.to_vec()))
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) % end as u64) as usize
    }
}

/// How the disk treats what no flush has made durable.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// It is there.
    Kept,
    /// It is gone.
    Lost,
    /// Each sector of it is there or not, and of two that overlap the earlier may be what stays.
    Torn,
}

/// The content after a cut in front of step `end`.
fn after_cut(start: &[u8], steps: &[Step], end: usize, cut: Cut, dice: &mut Dice) -> Vec<u8> {
    let durable = steps[..end].iter().rposition(|step| matches!(step, Step::Sync)).unwrap_or(0);
    let mut content = start.to_vec();
    steps[..durable].iter().for_each(|step| apply(&mut content, step));
    let mut late: Vec<Step> = Vec::new();
    for step in &steps[durable..end] {
        match step {
            Step::Write(at, bytes) => {
                // Sectors are those of the disk, wherever a write begins.
                let mut begin = 0;
                while begin < bytes.len() {
                    let end = (begin + SECTOR - (*at as usize + begin) % SECTOR).min(bytes.len());
                    late.push(Step::Write(at + begin as u64, bytes[begin..end].to_vec()));
                    begin = end;
                }
            }
            other => late.push(other.clone()),
        }
    }
    match cut {
        Cut::Kept => {}
        Cut::Lost => late.clear(),
        Cut::Torn => {
            // Some of these cuts lose nearly everything, some nearly nothing.
            let kept = 1 + dice.below(8);
            late.retain(|_| dice.below(8) < kept);
            if dice.below(2) == 0 {
                for at in (1..late.len()).rev() {
                    late.swap(at, dice.below(at + 1));
                }
            }
        }
    }
    late.iter().for_each(|step| apply(&mut content, step));
    content
}

fn seed() -> u64 {
    let said = std::env::var("BATON_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = said.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    println!("seed {seed} (BATON_SEED repeats it)");
    seed
}

type Content = (Vec<KeyParameters>, Epoch, u64);

fn content(database: &Database) -> Content {
    let reserved = database.read(|reader| reader.fact("generation end")).unwrap();
    (all(database), database.epoch().unwrap(), reserved.unwrap_or(1))
}

fn on(disk: &Disk) -> Result<Database, DatabaseError> {
    let path = Path::new("disk");
    let redb = open_with(path, |builder| builder.create_with_backend(disk.clone()), || Ok(()))?;
    Ok(Database { redb: Arc::new(RwLock::new(Some(redb))), path: path.into() })
}

/// One commit of a random kind.
fn commit_one(database: &Database, dice: &mut Dice) {
    let meeting = 1 + dice.below(6) as u64;
    let number = 1 + dice.below(3) as u64;
    let terminal = domain(number).device(1 + dice.below(5) as u16);
    let id = MeetingId(meeting);
    let change = match dice.below(7) {
        0 | 1 => Change::Replace(conference(meeting)),
        2 => Change::End(id),
        3 => Change::RemovePart(id, domain(number)),
        4 => Change::RemoveMember(id, terminal),
        5 => {
            database.reserve_generations(1 + dice.below(9) as u16).unwrap();
            return;
        }
        _ => Change::Layout(id, Layout::new(1 + dice.below(9) as u8).unwrap()),
    };
    match database.commit(&[change], EPOCH) {
        Ok(()) | Err(CommitError::Unknown(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// What the database held after so many steps of the disk.
struct History {
    start: Vec<u8>,
    steps: Vec<Step>,
    acknowledged: Vec<(usize, Content)>,
}

fn history(start: Vec<u8>, commits: usize, dice: &mut Dice) -> History {
    let disk = Disk::holding(start.clone());
    let database = on(&disk).unwrap();
    let mut acknowledged = vec![(disk.steps(), content(&database))];
    for _ in 0..commits {
        commit_one(&database, dice);
        acknowledged.push((disk.steps(), content(&database)));
    }
    drop(database);
    let steps = disk.0.lock().1.clone();
    History { start, steps, acknowledged }
}

fn fresh() -> Vec<u8> {
    let disk = Disk::default();
    drop(on(&disk).unwrap());
    disk.0.lock().0.clone()
}

/// Opens what a cut left: it holds what was acknowledged, or that and the commit under way.
fn check(history: &History, end: usize, left: &[u8], story: &str) -> Content {
    let database = on(&Disk::holding(left.to_vec())).unwrap_or_else(|error| panic!("{story}: {error}"));
    let found = content(&database);
    let last = history.acknowledged.iter().rposition(|(steps, _)| *steps <= end).unwrap_or(0);
    let expected = &history.acknowledged[last..history.acknowledged.len().min(last + 2)];
    assert!(expected.iter().any(|(_, content)| *content == found), "{story}: {found:#?}, expected {expected:#?}");
    found
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_that_was_acknowledged() {
    let seed = seed();
    let mut dice = Dice(seed);
    let (mut cuts, mut flushes) = (0, 0);
    for _ in 0..HISTORIES {
        let history = history(fresh(), 24, &mut dice);
        flushes += history.steps.iter().filter(|step| matches!(step, Step::Sync)).count();
        for end in 0..=history.steps.len() {
            for cut in [Cut::Kept, Cut::Lost, Cut::Torn, Cut::Torn, Cut::Torn] {
                let left = after_cut(&history.start, &history.steps, end, cut, &mut dice);
                check(&history, end, &left, &format!("seed {seed}, {cut:?} in front of step {end}"));
                cuts += 1;
            }
        }
    }
    println!("{cuts} cuts around {flushes} flushes");
    assert!(flushes >= HISTORIES * 16, "what is written is flushed: {flushes}");
}

/// Opening repairs, which writes; the power goes again in the middle of that.
#[test]
fn a_second_cut_while_the_first_is_repaired_loses_nothing_either() {
    let seed = seed();
    let mut dice = Dice(seed);
    let history = history(fresh(), 6, &mut dice);
    for end in (0..=history.steps.len()).step_by(3) {
        let left = after_cut(&history.start, &history.steps, end, Cut::Torn, &mut dice);
        let disk = Disk::holding(left.clone());
        drop(on(&disk).unwrap());
        let repair = disk.0.lock().1.clone();
        for second in 0..=repair.len() {
            let left = after_cut(&left, &repair, second, Cut::Torn, &mut dice);
            check(
                &history,
                end,
                &left,
                &format!("seed {seed}, cuts in front of step {end}, then {second} of its repair"),
            );
        }
    }
}

/// The first opening of a new file is cut: it opens empty afterwards, or the file is refused as
/// none of ours, never taken for one that holds something.
#[test]
fn a_cut_while_the_file_is_made_leaves_an_empty_one_or_none() {
    let seed = seed();
    let mut dice = Dice(seed);
    let disk = Disk::default();
    drop(on(&disk).unwrap());
    let steps = disk.0.lock().1.clone();
    for end in 0..=steps.len() {
        for cut in [Cut::Kept, Cut::Lost, Cut::Torn] {
            let left = after_cut(&[], &steps, end, cut, &mut dice);
            match on(&Disk::holding(left)) {
                Ok(database) => assert_eq!(content(&database), (vec![], Epoch(0), 1)),
                Err(refused) => println!("seed {seed}, {cut:?} in front of step {end}: {refused}"),
            }
        }
    }
}

/// A file of the first format is brought into this one: that is done or not, and if not, the next
/// opening does it.
#[test]
fn a_cut_while_the_first_format_is_brought_into_this_one_loses_nothing() {
    let seed = seed();
    let mut dice = Dice(seed);
    let disk = Disk::default();
    first_format(&redb::Builder::new().create_with_backend(disk.clone()).unwrap());
    let start = disk.0.lock().0.clone();
    let disk = Disk::holding(start.clone());
    let expected = content(&on(&disk).unwrap());
    assert_eq!(expected.0.len(), 1);
    let steps = disk.0.lock().1.clone();
    for end in 0..=steps.len() {
        for cut in [Cut::Kept, Cut::Lost, Cut::Torn, Cut::Torn, Cut::Torn] {
            let left = after_cut(&start, &steps, end, cut, &mut dice);
            let story = format!("seed {seed}, {cut:?} in front of step {end}");
            let database = on(&Disk::holding(left)).unwrap_or_else(|error| panic!("{story}: {error}"));
            assert_eq!(content(&database), expected, "{story}");
        }
    }
}

/// The proof that the model can fail: a disk that says "durable" and is not loses what was
/// promised.
#[test]
#[should_panic(expected = "a disk that lies")]
fn a_disk_that_lies_about_its_flush_is_found_out() {
    let mut dice = Dice(1);
    let mut history = history(fresh(), 6, &mut dice);
    history.steps.iter_mut().filter(|step| matches!(step, Step::Sync)).for_each(|step| *step = Step::Write(0, vec![]));
    for end in 0..=history.steps.len() {
        let left = after_cut(&history.start, &history.steps, end, Cut::Lost, &mut dice);
        check(&history, end, &left, "a disk that lies");
    }
}
