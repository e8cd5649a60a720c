//! A terminal's line: what its banks share.

use loom::sync::atomic::AtomicU64;
use loom::thread;

use super::{ONE, TWO, check, words};
use crate::table::OwnerId;
use crate::table::line::{Head, LINE_WORDS, Line, LineClaim, Stated};
use crate::table::slot::Seen;
use crate::wire::{Address, Business, Decode, Flags, MeetingId, Role, StreamKind};

type Words = [AtomicU64; LINE_WORDS];

fn read(words: &Words) -> (Seen, Head) {
    let read = Line::new(words).read(|head, check, _| head.is_whole(check, &[]).then_some(head));
    read.expect("a record is whole while others write")
}

fn claim<'a>(words: &'a Words, seen: Seen, owner: OwnerId) -> Option<LineClaim<'a, AtomicU64>> {
    Line::new(words).slot().claim(seen, owner)
}

/// The record of a terminal, of which everything follows from its number and its version.
fn member(number: u64, version: u32) -> Head {
    let mut head = Head::new(Address::from_number(number), MeetingId(number));
    let (business, decode, role) = (Business::InMeeting, Decode::Decoding, Role::Participant);
    head.set_stated(Stated::new(version, business, decode, role, Flags(version as u8), 0, StreamKind::Main));
    head.set_short_info(6, u64::from(version));
    head
}

fn publish(words: &Words, claim: LineClaim<'_, AtomicU64>, head: &Head) {
    Line::new(words).publish(claim, head, head.check(&[]));
}

fn join(words: &Words, number: u64) {
    let (seen, _) = read(words);
    let claim = claim(words, seen, TWO).expect("nobody else claims a free slot");
    let head = member(number, 1);
    Line::new(words).identify(&claim, &head);
    publish(words, claim, &head);
}

/// Enters the version behind the one that is there, however often another is first.
fn report_next(words: &Words, number: u64, owner: OwnerId) {
    loop {
        let (seen, head) = read(words);
        if head.is_free() || head.address() != Address::from_number(number) {
            return;
        }
        if let Some(claim) = claim(words, seen, owner) {
            return publish(words, claim, &member(number, head.version() + 1));
        }
        thread::yield_now();
    }
}

/// Each of two that report changes its own half of the word of checks, and neither the other's.
#[test]
fn the_checks_are_those_of_their_banks_while_two_report() {
    check(|| {
        let line = words::<LINE_WORDS>();
        join(&line, 1);
        let other = thread::spawn({
            let line = line.clone();
            move || report_next(&line, 1, ONE)
        });
        report_next(&line, 1, TWO);
        other.join().unwrap();
        assert_eq!(read(&line).1, member(1, 3));
    });
}

#[test]
fn a_record_is_read_whole_while_another_reports() {
    check(|| {
        let line = words::<LINE_WORDS>();
        join(&line, 1);
        let reader = thread::spawn({
            let line = line.clone();
            move || {
                let (_, head) = read(&line);
                assert_eq!(head, member(1, head.version()));
            }
        });
        report_next(&line, 1, ONE);
        report_next(&line, 1, ONE);
        reader.join().unwrap();
    });
}

/// Terminal 1 leaves while it reports, and terminal 2 gets its slot.
#[test]
fn a_line_is_one_terminals_at_a_time() {
    check(|| {
        let line = words::<LINE_WORDS>();
        join(&line, 1);
        let worker = thread::spawn({
            let line = line.clone();
            move || report_next(&line, 1, ONE)
        });
        loop {
            let (seen, head) = read(&line);
            assert_eq!(head, member(1, head.version()));
            if let Some(claim) = claim(&line, seen, TWO) {
                publish(&line, claim, &Head::FREE);
                break;
            }
            thread::yield_now();
        }
        join(&line, 2);
        worker.join().unwrap();
        assert_eq!(read(&line).1, member(2, 1));
    });
}
