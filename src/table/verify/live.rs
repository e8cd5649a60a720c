//! Verifying a table in use: what disagrees for a moment, because a writer is changing it, is no
//! flaw.
//!
//! What seems wrong is looked at again, by itself, and a look counts only if membership did not
//! change during it and no writer had the claim to change it: then everything was at rest, apart
//! from reports, which change one record each. (If there is no such time, each of very many tries
//! has to show it.) It is a flaw only if several looks, with pauses between them, agree to the
//! letter, and the words of the subject are the same in all of them. A subject that is good in one
//! look is good.

use std::sync::atomic::{Ordering, fence};

use super::{Check, Progress, Subject, subjects};
use crate::limits::{FLAWS_MAX, LOOK_TRIES_MAX, LOOKS, LOOKS_MAX, SUSPECTS_MAX};
use crate::table::Table;
use crate::table::columns::{held_under, is_settled_at};
use crate::table::domains::tag_at;
use crate::table::layout::Words;
use crate::table::levels::is_of_level;
use crate::table::slot::pause;
use crate::wire::{Level, mix};

/// The result of verifying a table in use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Looked {
    /// Flaws, up to a bound.
    pub flaws: Vec<String>,
    /// Subjects that seemed wrong, and were not in a later look.
    pub momentary: u64,
    /// Subjects that seemed wrong, and changed too often to tell.
    pub undecided: u64,
}

impl Table {
    /// As [`Table::verify`], while writers may write. `wait` is called between two looks.
    pub fn verify_living(&self, progress: Progress<'_>, mut wait: impl FnMut()) -> Looked {
        let words = self.words();
        let mut looked = Looked::default();
        let mut suspects = Vec::new();
        let mut check = Check::of_all(words);
        for subject in subjects(words, progress) {
            if check.look(subject).is_empty() {
                continue;
            }
            // Most of what is seen in passing is gone at once; the list has what is not.
            match look(words, subject) {
                Look::Good => looked.momentary += 1,
                seen if suspects.len() < SUSPECTS_MAX => suspects.push(Suspect { subject, seen, agreed: 1 }),
                _ => looked.undecided += 1,
            }
        }
        for _ in 1..LOOKS_MAX {
            if suspects.iter().all(Suspect::is_settled) {
                break;
            }
            wait();
            suspects.iter_mut().filter(|suspect| !suspect.is_settled()).for_each(|suspect| suspect.look_again(words));
        }
        for suspect in suspects {
            match suspect.seen {
                Look::Good => looked.momentary += 1,
                Look::Flawed { flaws, .. } if suspect.agreed >= LOOKS => {
                    let room = FLAWS_MAX - looked.flaws.len();
                    looked.flaws.extend(flaws.into_iter().take(room));
                }
                _ => looked.undecided += 1,
            }
        }
        looked
    }
}

/// What seems wrong.
struct Suspect {
    subject: Subject,
    seen: Look,
    /// Looks in a row that saw the same.
    agreed: u32,
}

impl Suspect {
    fn is_settled(&self) -> bool {
        matches!(self.seen, Look::Good) || (matches!(self.seen, Look::Flawed { .. }) && self.agreed >= LOOKS)
    }

    fn look_again(&mut self, words: Words<'_>) {
        let seen = look(words, self.subject);
        self.agreed = if seen == self.seen { self.agreed + 1 } else { 1 };
        self.seen = seen;
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Look {
    Good,
    /// A writer was active every time.
    Disturbed,
    Flawed {
        flaws: Vec<String>,
        stamp: u64,
    },
}

/// One undisturbed look; or, if membership never rests for as long as a look takes, one that was
/// flawed at every try while the words did not change: what is seen so often is no passing state.
fn look(words: Words<'_>, subject: Subject) -> Look {
    // There the subject is the structure's holder and the owners' cells themselves.
    let needs_rest = !matches!(subject, Subject::Structure | Subject::Cell(_));
    let stood = stamp(words, subject);
    let mut last = Vec::new();
    for tried in 0..LOOK_TRIES_MAX {
        // In this order: an operation that is under way when the claim is read has the claim; one
        // that begins later increases the count. Acquire pairs with the Release of releasing the
        // claim, and of counting.
        let sequence = words.sequence().load(Ordering::Acquire);
        let free = words.structure().load(Ordering::Acquire) == 0;
        let before = (sequence, stamp(words, subject));
        last = Check::of_some(words).look(subject);
        if last.is_empty() {
            return Look::Good;
        }
        // Pairs with the Release fence that an operation begins with: had the look seen a store of
        // it, the loads below would see its number.
        fence(Ordering::Acquire);
        let after = (words.sequence().load(Ordering::Relaxed), stamp(words, subject));
        if before == after && (free || !needs_rest) {
            return Look::Flawed { flaws: last, stamp: before.1 };
        }
        pause(tried);
    }
    if stamp(words, subject) == stood { Look::Flawed { flaws: last, stamp: stood } } else { Look::Disturbed }
}

/// The words that say whether a subject stood still, as one.
fn stamp(words: Words<'_>, subject: Subject) -> u64 {
    let of = |words: &[u64]| words.iter().fold(0, |sum, &word| mix(sum ^ word));
    let load = |word: Option<&crate::sys::mapping::SharedWord>| word.map_or(0, |word| word.load(Ordering::Acquire));
    let terminal = |slot: u32| words.terminal(slot).map_or(0, |line| line.slot().control());
    match subject {
        Subject::Structure => of(&[load(Some(words.structure())), load(Some(words.sequence()))]),
        Subject::Epoch => words.epoch().control(),
        Subject::Cell(owner) => {
            let mut cell: Vec<_> = words.cell(owner).iter().map(|word| load(Some(word))).collect();
            cell.push(load(Some(words.sequence())));
            of(&cell)
        }
        Subject::Part(slot) => of(&[
            words.part(slot).map_or(0, |slot| slot.control()),
            load(words.part_link(slot)),
            load(words.place_domain(slot)),
            load(words.place_sibling(slot)),
            tag_at(words.domain_tags(), slot),
            of(&words.entry(slot).map_or([0; 2], |entry| entry.each_ref().map(|word| load(Some(word))))),
            u64::from(is_settled_at(words, slot)),
            held_under(words, slot).map_or(0, |epoch| epoch.0),
            Level::ALL.iter().fold(0, |set, &level| set << 1 | u64::from(is_of_level(words.level_bits(level), slot))),
        ]),
        Subject::Terminal(slot) => {
            of(&[terminal(slot), load(words.terminal_link(slot)), load(words.terminal_part(slot))])
        }
        Subject::Entry(which, place) => which.of(words).slot_at(place).map_or(0, |slot| u64::from(slot) + 1),
        Subject::Extent(extent) => {
            let owner = load(words.extent_owner(extent));
            of(&[owner, owner.checked_sub(1).map_or(0, |slot| terminal(slot as u32))])
        }
    }
}
