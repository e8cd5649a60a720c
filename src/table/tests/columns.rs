//! The columns and the sums against the records.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::kill::{control, furnished};
use super::walk::walked;
use super::{domain, part, words_of};
use crate::sys::mapping::killed_after;
use crate::table::claims::Named;
use crate::table::*;
use crate::wire::{Domain, Epoch, Level, MeetingId, MeetingState, Role, TakeoverEntry, mix};

const BEFORE: Epoch = Epoch::new(1, 1);
const NOW: Epoch = Epoch::new(1, 2);
const DOMAINS: u64 = 3;

fn taken_over(meeting: MeetingId, domain: Domain, participants: u16) -> TakenOver {
    TakenOver { meeting, domain, epoch: NOW, participants }
}

/// What a walk for a takeover meets, with where.
fn to_take_over(table: &Table, number: u64) -> Vec<(Cursor, TakeoverEntry)> {
    let (mut met, mut cursor) = (Vec::new(), Cursor::default());
    let more = table.walk_to_take_over(domain(number), &mut cursor, |at, entry| {
        met.push((at, entry));
        true
    });
    assert!(!more);
    met
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u64, u64, u8),
    Update(u64, u64, u64),
    Join(u64, u64, u16),
    Remove(u64, u64),
    /// Acknowledges what a walk meets of a domain; whether the server counts the members rightly.
    TakeOver(u64, bool),
    Damage(u64, u64),
    Recover,
    /// Another engine begins: nothing is held under its epoch.
    Begin,
}

fn step() -> impl Strategy<Value = Step> {
    let (meeting, number) = (1..9_u64, 1..=DOMAINS);
    let of = (meeting, number.clone());
    prop_oneof![
        (of.clone(), any::<u64>(), 1..=5_u8).prop_map(|((m, d), seed, level)| Step::Insert(m, d, seed, level)),
        (of.clone(), any::<u64>()).prop_map(|((m, d), seed)| Step::Update(m, d, seed)),
        (of.clone(), 1..4_u16).prop_map(|((m, d), device)| Step::Join(m, d, device)),
        of.clone().prop_map(|(m, d)| Step::Remove(m, d)),
        (number, any::<bool>()).prop_map(|(d, rightly)| Step::TakeOver(d, rightly)),
        of.prop_map(|(m, d)| Step::Damage(m, d)),
        Just(Step::Recover),
        Just(Step::Begin),
    ]
}

/// Any content, by chance.
fn content(part: &mut Part, seed: u64, now: Epoch) {
    let chance = |of: u64| mix(seed ^ of);
    part.version = chance(1) % 3;
    part.epoch = [Epoch::NONE, BEFORE, now, now][chance(2) as usize % 4];
    part.state = MeetingState::ALL[chance(3) as usize % MeetingState::ALL.len()];
    if chance(4) % 2 == 0 {
        part.state = MeetingState::InMeeting;
    }
    (part.in_doubt, part.is_unlisted) = (chance(5) % 4 == 0, chance(6) % 4 == 0);
    part.level = Level::ALL[chance(7) as usize % 5];
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 3000 }))]

    #[test]
    fn they_are_as_the_records_say(steps in prop::collection::vec(step(), 1..60)) {
        let table = Arc::new(Table::on_heap(Capacity { meetings: 300, terminals: 64 }));
        let mut writer = table.writer(OwnerId::CONTROL);
        let mut now = NOW;
        writer.begin(now);
        for step in steps {
            match step {
                Step::Insert(m, d, seed, level) => {
                    let mut new = Part { level: Level::new(level).unwrap(), ..part(m, d) };
                    content(&mut new, seed, now);
                    let _ = writer.insert_part(&new);
                }
                Step::Update(m, d, seed) => {
                    let _ = writer.update_part(MeetingId(m), domain(d), |part| content(part, seed, now));
                }
                Step::Join(m, d, device) => {
                    let member = Terminal::new(domain(d).device(device), MeetingId(m), Role::Participant);
                    let _ = writer.join(MeetingId(m), domain(d), &member);
                }
                Step::Remove(m, d) => drop(writer.remove_part(MeetingId(m), domain(d))),
                Step::TakeOver(d, rightly) => {
                    for (at, entry) in to_take_over(&table, d) {
                        let before = table.part(entry.meeting, domain(d)).unwrap();
                        let participants = before.participants + u16::from(!rightly);
                        let taken = TakenOver { epoch: now, ..taken_over(entry.meeting, domain(d), participants) };
                        let is_plain = before.state == MeetingState::InMeeting
                            && !before.in_doubt
                            && !before.is_unlisted
                            && rightly;
                        prop_assert_eq!(writer.take_over(at, &taken), is_plain);
                        let epoch = if is_plain { now } else { before.epoch };
                        prop_assert_eq!(table.part(entry.meeting, domain(d)), Some(Part { epoch, ..before }));
                    }
                }
                Step::Damage(m, d) => {
                    let words = table.words();
                    if let Ok(Some((slot, ..))) = words.find_part(MeetingId(m), domain(d)) {
                        let word = &words_of(&table, Named::Part(slot))[1..=14];
                        word.iter().for_each(|word| word.store(mix(word.load(Ordering::Relaxed)), Ordering::Relaxed));
                        prop_assert_eq!(writer.discard_damaged_parts_in(domain(d)).map(|found| found.len()), Ok(1));
                    }
                }
                Step::Recover => prop_assert_eq!(table.recover(), Recovered::default()),
                Step::Begin => {
                    now = Epoch::new(1, now.generation() + 1);
                    writer.begin(now);
                }
            }
            prop_assert_eq!(table.verify(), Vec::<String>::new());
            let mut keys: Vec<_> = Share::split(2).flat_map(|share| table.keys_in_share(share)).map(|(level, entry)| (level, entry.meeting, entry.version)).collect();
            let mut records: Vec<_> = table.parts().map(|part| (part.level, part.meeting, part.version)).collect();
            keys.sort_unstable();
            records.sort_unstable();
            prop_assert_eq!(keys, records);
            for number in 1..=DOMAINS {
                let held = table.digest_of_parts(domain(number), now);
                prop_assert_eq!(writer.digest_of_parts(domain(number), now), held);
                let is_begun = |part: &Part| {
                    !matches!(part.state, MeetingState::None | MeetingState::Prepared | MeetingState::Ended)
                };
                let records = walked(&table, number).into_iter().filter(|(_, part)| is_begun(part));
                let records: Vec<_> = records.map(|(slot, part)| (slot, part.meeting, part.version)).collect();
                let met = to_take_over(&table, number).into_iter();
                let met: Vec<_> = met.map(|(at, entry)| (at.0 as u32 - 1, entry.meeting, entry.version)).collect();
                prop_assert_eq!(met, records);
            }
        }
    }
}

/// The part in a slot that was given away since, and one in another domain, are not meant.
#[test]
fn an_acknowledgement_is_for_the_part_that_it_names() {
    let table = furnished();
    let mut writer = control(&table);
    writer.begin(NOW);
    let (at, entry) = to_take_over(&table, 1)[0];
    let participants = table.part(entry.meeting, domain(1)).unwrap().participants;
    let right = taken_over(entry.meeting, domain(1), participants);
    let others = [
        TakenOver { meeting: MeetingId(9), ..right },
        TakenOver { domain: domain(2), ..right },
        TakenOver { epoch: BEFORE, ..right },
        TakenOver { participants: participants + 1, ..right },
    ];
    for other in others {
        assert!(!writer.take_over(at, &other), "{other:?}");
    }
    assert!(!writer.take_over(Cursor::default(), &right) && !writer.take_over(Cursor(u64::from(u32::MAX)), &right));
    assert_eq!(writer.digest_of_parts(domain(1), NOW), (0, 0));
    assert!(writer.take_over(at, &right) && writer.take_over(at, &right), "said twice it counts once");
    assert_eq!(writer.digest_of_parts(domain(1), NOW).0, 1);
}

/// What is held is held or not, whichever store its writer dies at; the rest of the table is as it
/// was, and the next epoch holds nothing.
#[test]
fn a_part_is_held_or_not() {
    for again in [false, true] {
        for first in 0.. {
            let table = furnished();
            let before: Vec<Part> = table.parts().collect();
            let act = || {
                let mut writer = control(&table);
                writer.begin(NOW);
                for (at, entry) in to_take_over(&table, 1) {
                    let participants = table.part(entry.meeting, domain(1)).unwrap().participants;
                    assert!(writer.take_over(at, &taken_over(entry.meeting, domain(1), participants)));
                }
                // A group that is held under one epoch is given to the next.
                if again {
                    writer.begin(Epoch::new(1, 3));
                    let (at, entry) = to_take_over(&table, 1)[0];
                    let participants = table.part(entry.meeting, domain(1)).unwrap().participants;
                    let taken =
                        TakenOver { epoch: Epoch::new(1, 3), ..taken_over(entry.meeting, domain(1), participants) };
                    assert!(writer.take_over(at, &taken));
                }
            };
            let done = killed_after(first, act).is_some();
            table.recover();
            assert_eq!(table.verify(), Vec::<String>::new(), "killed at store {first}");
            let found: Vec<Part> = table.parts().collect();
            let epochs = [BEFORE, NOW, Epoch::new(1, 3)];
            assert!(found.iter().all(|part| epochs.contains(&part.epoch)), "killed at store {first}: {found:?}");
            let but_epoch = |parts: &[Part]| parts.iter().map(|part| Part { epoch: NOW, ..*part }).collect::<Vec<_>>();
            assert_eq!(but_epoch(&found), but_epoch(&before), "killed at store {first}");
            assert_eq!(control(&table).digest_of_parts(domain(1), Epoch::new(1, 4)), (0, 0));
            if done {
                break;
            }
        }
    }
}

/// A part of which a damaged member was thrown away is in doubt, and not settled any more.
#[test]
fn what_is_in_doubt_is_not_taken_over_unseen() {
    let table = furnished();
    let mut writer = control(&table);
    writer.begin(NOW);
    let (slot, ..) = table.words().find_terminal(domain(1).device(1)).unwrap().unwrap();
    words_of(&table, Named::Terminal(slot))[7].store(77, Ordering::Relaxed);
    assert!(writer.discard_damaged_terminal(domain(1).device(1)).unwrap().is_some());
    let (at, entry) = to_take_over(&table, 1)[0];
    assert_eq!(entry.meeting, MeetingId(1));
    assert!(!writer.take_over(at, &taken_over(MeetingId(1), domain(1), 3)));
    assert_eq!(table.verify(), Vec::<String>::new());
}
