//! The table against an oracle, and what the other tests build their tables from.

mod archive;
mod capacity;
mod claims;
mod columns;
mod discard;
mod discard_terminal;
mod drift;
mod earlier;
pub(in crate::table) mod file;
mod kill;
mod live;
mod loom;
mod matching;
mod power_cut;
mod resize;
mod walk;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::claims::Named;
use super::*;
use crate::limits::DOMAINS_MAX;
use crate::sys::mapping::SharedWord;
use crate::wire::{
    Address, Business, Decode, Domain, Epoch, Flags, Info, Layout, Level, MeetingId, MeetingState, Role, Run,
    StreamKind, digest_of,
};
use walk::walked;

pub(super) fn domain(number: u64) -> Domain {
    Domain::new(number).unwrap()
}

pub(super) fn part(meeting: u64, number: u64) -> Part {
    Part {
        meeting: MeetingId(meeting),
        domain: domain(number),
        version: 1,
        epoch: Epoch::new(1, 1),
        state: MeetingState::InMeeting,
        level: Level::HIGHEST,
        layout: Layout::new(4).unwrap(),
        participants: 0,
        chairman: domain(number).device(1),
        in_doubt: false,
        is_unlisted: false,
        run: Run(7),
    }
}

/// The words of a table from the control word of a slot on.
pub(super) fn words_of(table: &Table, slot: Named) -> &[SharedWord] {
    let (words, control) = (table.mapping().words(), slot.control(table.words()).unwrap().word());
    let at = words.iter().position(|word| std::ptr::eq(word, control)).unwrap();
    &words[at..]
}

pub(super) fn table(meetings: u32, terminals: u32) -> Arc<Table> {
    Arc::new(Table::on_heap(Capacity { meetings, terminals }))
}

/// A report in which everything follows from the version.
pub(super) fn report(writer: &mut Writer, terminal: Address, version: u32, info: &[u8]) -> Reported {
    let role = Role::ALL[version as usize % Role::ALL.len()];
    let decode = Decode::ALL[version as usize % Decode::ALL.len()];
    let flags = Flags(version as u8);
    writer.report(
        terminal,
        MeetingId::NONE,
        version,
        Business::InMeeting,
        decode,
        role,
        flags,
        version as u8,
        StreamKind::Main,
        info,
    )
}

#[test]
fn sizes_stay_within_their_aims() {
    let bytes = |meetings, terminals| Table::bytes(Capacity { meetings, terminals });
    let base = bytes(10_000, 10_000);
    assert!(bytes(20_000, 10_000) - base <= 256 * 10_000);
    assert!(bytes(10_000, 20_000) - base <= 128 * 10_000);
    assert_eq!(Table::bytes(Capacity { meetings: 0, terminals: 1 }), 0);
}

#[test]
fn a_terminal_has_one_meeting() {
    let table = table(8, 8);
    let mut control = table.writer(OwnerId::CONTROL);
    control.insert_part(&part(1, 5)).unwrap();
    control.insert_part(&part(2, 5)).unwrap();
    let terminal = Terminal::new(domain(5).device(9), MeetingId(1), Role::Chairman);
    control.join(MeetingId(1), domain(5), &terminal).unwrap();
    assert_eq!(control.join(MeetingId(1), domain(5), &terminal), Err(TableError::Exists));
    assert_eq!(control.join(MeetingId(2), domain(5), &terminal), Err(TableError::Conflict(MeetingId(1))));
    assert_eq!(control.join(MeetingId(3), domain(5), &terminal), Err(TableError::UnknownPart(MeetingId(3), domain(5))));
    assert_eq!(control.insert_part(&part(1, 5)), Err(TableError::Exists));
    assert_eq!(control.leave(MeetingId(2), terminal.terminal), Ok(false));
    assert_eq!(control.leave(MeetingId(1), terminal.terminal), Ok(true));
    assert_eq!(control.join(MeetingId(2), domain(5), &terminal), Ok(()));
    assert_eq!(table.terminal(terminal.terminal).unwrap().meeting, MeetingId(2));
    assert_eq!(table.verify(), Vec::<String>::new());
}

#[test]
fn a_full_table_says_so_and_goes_on() {
    let table = table(2, 3);
    let mut control = table.writer(OwnerId::CONTROL);
    control.insert_part(&part(1, 5)).unwrap();
    control.insert_part(&part(2, 5)).unwrap();
    assert!(matches!(control.insert_part(&part(3, 5)), Err(TableError::Full(_))));
    let member = |device| Terminal::new(domain(5).device(device), MeetingId(1), Role::Participant);
    for device in 1..=3 {
        control.join(MeetingId(1), domain(5), &member(device)).unwrap();
    }
    assert!(matches!(control.join(MeetingId(2), domain(5), &member(4)), Err(TableError::Full(_))));
    assert_eq!(control.remove_part(MeetingId(1), domain(5)), Ok(true));
    assert_eq!(table.count_terminals(), 0);
    control.join(MeetingId(2), domain(5), &member(4)).unwrap();
    control.insert_part(&part(3, 5)).unwrap();
    assert_eq!(table.verify(), Vec::<String>::new());
}

#[test]
fn only_a_newer_report_counts() {
    let table = table(2, 4);
    let mut control = table.writer(OwnerId::CONTROL);
    let mut worker = table.writer(OwnerId::worker(0));
    let terminal = domain(5).device(1);
    assert_eq!(report(&mut worker, terminal, 1, b""), Reported::UnknownTerminal);
    control.insert_part(&part(1, 5)).unwrap();
    control.join(MeetingId(1), domain(5), &Terminal::new(terminal, MeetingId(1), Role::Participant)).unwrap();
    for (version, reported) in [
        // It has not reported yet: any first version counts.
        (0xffff_fff0, Reported::Applied),
        (0xffff_fff0, Reported::Known),
        (0xffff_ffef, Reported::Known),
        // The count wraps.
        (3, Reported::Applied),
        (0xffff_ffff, Reported::Known),
        (4, Reported::Applied),
    ] {
        assert_eq!(report(&mut worker, terminal, version, b""), reported, "{version}");
    }
    let other = worker.report(
        terminal,
        MeetingId(2),
        5,
        Business::Left,
        Decode::Stopped,
        Role::Participant,
        Flags(0),
        0,
        StreamKind::Sub,
        b"",
    );
    assert_eq!(other, Reported::OtherMeeting(MeetingId(1)));
    assert_eq!(table.terminal(terminal).unwrap().version, 4);
}

#[test]
fn long_information_takes_an_extent_and_gives_it_back() {
    let table = table(2, 200);
    let mut control = table.writer(OwnerId::CONTROL);
    let mut worker = table.writer(OwnerId::worker(0));
    control.insert_part(&part(1, 5)).unwrap();
    let extents = crate::limits::EXTENTS_MIN as u16;
    for device in 1..=extents + 1 {
        let terminal = domain(5).device(device);
        control.join(MeetingId(1), domain(5), &Terminal::new(terminal, MeetingId(1), Role::Participant)).unwrap();
        let expected = if device <= extents { Reported::Applied } else { Reported::Full };
        assert_eq!(report(&mut worker, terminal, 1, &[device as u8; 64]), expected);
    }
    assert_eq!(table.terminal(domain(5).device(7)).unwrap().info[..], [7; 64]);
    let last = domain(5).device(extents + 1);
    assert_eq!(report(&mut worker, domain(5).device(7), 2, b"short"), Reported::Applied);
    assert_eq!(table.terminal(domain(5).device(7)).unwrap().info[..], *b"short");
    assert_eq!(report(&mut worker, last, 1, &[1; 17]), Reported::Applied);
    assert_eq!(table.verify(), Vec::<String>::new());
    control.remove_part(MeetingId(1), domain(5)).unwrap();
    assert_eq!(table.verify(), Vec::<String>::new());
}

/// The first 4,096 extents, which are as many as a report looks at, are taken, and many more are
/// free.
#[test]
fn a_taken_beginning_does_not_hide_the_free_extents() {
    let table = table(2, 50_000);
    let probes = crate::limits::EXTENT_PROBES_MAX as u16;
    let member = |device: u16| {
        let mut member = Terminal::new(domain(5).device(device), MeetingId(1), Role::Participant);
        member.info = Info::new(&[device as u8; 64]);
        member
    };
    let mut control = table.writer(OwnerId::CONTROL);
    control.insert_part(&part(1, 5)).unwrap();
    for device in 1..=probes {
        control.join(MeetingId(1), domain(5), &member(device)).unwrap();
    }
    drop(control);
    // A new writer begins where that one began. What changes membership finds one at once, a report
    // in a few times.
    let mut control = table.writer(OwnerId::CONTROL);
    control.join(MeetingId(1), domain(5), &member(probes + 1)).unwrap();
    let late = domain(5).device(probes + 2);
    control.join(MeetingId(1), domain(5), &Terminal::new(late, MeetingId(1), Role::Participant)).unwrap();
    let mut worker = table.writer(OwnerId::worker(7));
    assert_eq!(report(&mut worker, late, 1, &[1; 64]), Reported::Contended);
    assert_eq!(report(&mut worker, late, 1, &[1; 64]), Reported::Applied);
    assert_eq!(table.verify(), Vec::<String>::new());
}

/// Where both halves of a hash name one bucket, what is in it is met once.
#[test]
fn a_meeting_whose_two_buckets_are_one_has_each_part_once() {
    let table = table(6, 1);
    let mut control = table.writer(OwnerId::CONTROL);
    for (meeting, number) in [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)] {
        control.insert_part(&part(meeting, number)).unwrap();
    }
    for meeting in 1..=3 {
        let mut parts: Vec<Part> = table.parts_of(MeetingId(meeting)).collect();
        parts.sort_by_key(|part| part.domain);
        assert_eq!(parts, [part(meeting, 1), part(meeting, 2)], "meeting {meeting}");
    }
    assert_eq!(table.verify(), Vec::<String>::new());
}

#[test]
fn versions_wrap_and_0_is_before_them_all() {
    assert!(is_newer(4, 3) && !is_newer(4, 4) && !is_newer(3, 4));
    assert!(is_newer(1, u32::MAX) && !is_newer(u32::MAX, 1));
    for version in [1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        assert!(is_newer(version, 0) && !is_newer(0, version), "{version:x}");
    }
    assert!(!is_newer(0, 0));
}

#[test]
fn a_generation_is_never_used_twice() {
    let table = table(2, 2);
    assert_eq!(table.bump_generation(), None);
    table.set_reservation(Epoch::new(3, 10), 12);
    assert_eq!((table.epoch(), table.generation_end()), (Epoch::new(3, 10), 12));
    assert_eq!(table.bump_generation(), Some(Epoch::new(3, 11)));
    assert_eq!(table.bump_generation(), None);
    assert_eq!(table.epoch(), Epoch::new(3, 11));
}

#[test]
#[should_panic(expected = "owner 1 writes already")]
fn an_owner_number_is_one_writers() {
    let table = table(2, 2);
    drop(table.writer(OwnerId::worker(0)));
    let _first = table.writer(OwnerId::worker(0));
    table.writer(OwnerId::worker(0));
}

/// What a table should hold, implemented in the plainest way.
#[derive(Default)]
struct Oracle {
    parts: BTreeMap<(u64, u64), Part>,
    terminals: BTreeMap<Address, (u64, Terminal)>,
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u64),
    Remove(u64, u64),
    Update(u64, u64, u64),
    Join(u64, u64, u16, usize),
    Leave(u64, u64, u16),
    Change(u64, u16, u8, usize),
    Report(u64, u16, u32, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (meeting, domain, device) = (1..12u64, 1..4u64, 1..8u16);
    prop_oneof![
        2 => (meeting.clone(), domain.clone()).prop_map(|(m, d)| Step::Insert(m, d)),
        1 => (meeting.clone(), domain.clone()).prop_map(|(m, d)| Step::Remove(m, d)),
        1 => (meeting.clone(), domain.clone(), any::<u64>()).prop_map(|(m, d, v)| Step::Update(m, d, v)),
        4 => (meeting.clone(), domain.clone(), device.clone(), 0..65usize).prop_map(|(m, d, t, l)| Step::Join(m, d, t, l)),
        2 => (meeting, domain.clone(), device.clone()).prop_map(|(m, d, t)| Step::Leave(m, d, t)),
        2 => (domain.clone(), device.clone(), any::<u8>(), 0..65usize).prop_map(|(d, t, w, l)| Step::Change(d, t, w, l)),
        4 => (domain, device, 0..6u32, 0..65usize).prop_map(|(d, t, v, l)| Step::Report(d, t, v, l)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn it_holds_what_a_map_would(steps in proptest::collection::vec(step(), 1..120)) {
        // Smaller than what the steps may ask for, so that being full is met too.
        let capacity = Capacity { meetings: 10, terminals: 14 };
        let table = Arc::new(Table::on_heap(capacity));
        let mut control = table.writer(OwnerId::CONTROL);
        let mut worker = table.writer(OwnerId::worker(0));
        let mut oracle = Oracle::default();
        for step in steps {
            oracle.take(&step, &mut control, &mut worker, capacity);
        }
        oracle.compare(&table);
        prop_assert_eq!(table.verify(), Vec::<String>::new());
    }
}

impl Oracle {
    fn take(&mut self, step: &Step, control: &mut Writer, worker: &mut Writer, capacity: Capacity) {
        match *step {
            Step::Insert(m, d) => {
                let expected = if self.parts.contains_key(&(m, d)) {
                    Err(TableError::Exists)
                } else if self.parts.len() == capacity.meetings as usize {
                    Err(TableError::Full("parts of meetings"))
                } else {
                    self.parts.insert((m, d), part(m, d));
                    Ok(())
                };
                assert_eq!(control.insert_part(&part(m, d)), expected);
            }
            Step::Remove(m, d) => {
                self.terminals.retain(|_, (number, terminal)| (terminal.meeting.0, *number) != (m, d));
                assert_eq!(control.remove_part(MeetingId(m), domain(d)), Ok(self.parts.remove(&(m, d)).is_some()));
            }
            Step::Update(m, d, version) => {
                let change = |part: &mut Part| {
                    part.version = version;
                    part.state = MeetingState::ALL[version as usize % MeetingState::ALL.len()];
                    part.level = Level::ALL[version as usize % Level::ALL.len()];
                };
                let there = self.parts.get_mut(&(m, d)).map(change).is_some();
                assert_eq!(control.update_part(MeetingId(m), domain(d), change), Ok(there));
            }
            Step::Join(m, d, device, info) => {
                let mut terminal = Terminal::new(domain(d).device(device), MeetingId(m), Role::Participant);
                terminal.info = Info::new(&[device as u8; 64][..info]);
                let expected = match self.terminals.get(&terminal.terminal) {
                    _ if !self.parts.contains_key(&(m, d)) => Err(TableError::UnknownPart(MeetingId(m), domain(d))),
                    Some((_, other)) if other.meeting.0 == m => Err(TableError::Exists),
                    Some((_, other)) => Err(TableError::Conflict(other.meeting)),
                    None if self.terminals.len() == capacity.terminals as usize => Err(TableError::Full("terminals")),
                    None => {
                        self.terminals.insert(terminal.terminal, (d, terminal));
                        Ok(())
                    }
                };
                assert_eq!(control.join(MeetingId(m), domain(d), &terminal), expected);
            }
            Step::Leave(m, d, device) => {
                let address = domain(d).device(device);
                let there = self.terminals.get(&address).is_some_and(|(_, terminal)| terminal.meeting.0 == m);
                if there {
                    self.terminals.remove(&address);
                }
                assert_eq!(control.leave(MeetingId(m), address), Ok(there));
            }
            Step::Change(d, device, window, info) => {
                let change = |terminal: &mut Terminal| {
                    terminal.window = window;
                    terminal.info = Info::new(&[window; 64][..info]);
                    window % 2 == 0
                };
                let address = domain(d).device(device);
                let there = self.terminals.get_mut(&address).is_some_and(|(_, terminal)| {
                    let mut changed = *terminal;
                    let keep = change(&mut changed);
                    if keep {
                        *terminal = changed;
                    }
                    keep
                });
                assert_eq!(control.update_terminal(address, change), Ok(there));
            }
            Step::Report(d, device, version, info) => {
                let address = domain(d).device(device);
                let info = &[version as u8 + 1; 64][..info];
                let expected = match self.terminals.get_mut(&address) {
                    None => Reported::UnknownTerminal,
                    Some((_, terminal)) if version <= terminal.version => Reported::Known,
                    Some((_, terminal)) => {
                        terminal.version = version;
                        terminal.business = Business::InMeeting;
                        terminal.decode = Decode::ALL[version as usize % Decode::ALL.len()];
                        terminal.role = Role::ALL[version as usize % Role::ALL.len()];
                        terminal.flags = Flags(version as u8);
                        terminal.channel = version as u8;
                        terminal.stream = StreamKind::Main;
                        terminal.info = Info::new(info);
                        Reported::Applied
                    }
                };
                assert_eq!(report(worker, address, version, info), expected);
            }
        }
    }

    fn compare(&self, table: &Table) {
        let members_of = |m, d| {
            let members = self.terminals.values().filter(move |(number, t)| (t.meeting.0, *number) == (m, d));
            members.map(|(_, terminal)| *terminal)
        };
        let expected: BTreeMap<_, _> = self
            .parts
            .iter()
            .map(|(&(m, d), &part)| ((m, d), Part { participants: members_of(m, d).count() as u16, ..part }))
            .collect();
        let by_key = |part: Part| ((part.meeting.0, part.domain.number()), part);
        assert_eq!(table.parts().map(by_key).collect::<BTreeMap<_, _>>(), expected);
        assert_eq!(table.count_parts() as usize, expected.len());
        let here = |number| expected.keys().filter(|(_, domain)| *domain == number).count();
        assert!((1..4).all(|number| table.count_parts_in(domain(number)) as usize == here(number)));
        assert_eq!(table.count_terminals() as usize, self.terminals.len());
        for (&(m, d), &part) in &expected {
            assert_eq!(table.part(MeetingId(m), domain(d)), Some(part));
            let mut members: Vec<_> = table.members(MeetingId(m), domain(d)).collect();
            members.sort_by_key(|member| member.terminal);
            assert_eq!(members, members_of(m, d).collect::<Vec<_>>());
        }
        for m in 0..13 {
            let parts = table.parts_of(MeetingId(m)).map(by_key).collect::<BTreeMap<_, _>>();
            assert_eq!(parts, expected.clone().into_iter().filter(|((meeting, _), _)| *meeting == m).collect());
        }
        for d in 1..5 {
            let parts = table.parts_in(domain(d)).map(by_key).collect::<BTreeMap<_, _>>();
            let met = walked(table, d);
            assert!(met.is_sorted_by_key(|(slot, part)| (part.level, *slot)), "{met:?}");
            assert_eq!(met.len(), parts.len());
            assert_eq!(met.into_iter().map(|(_, part)| by_key(part)).collect::<BTreeMap<_, _>>(), parts);
            assert_eq!(parts, expected.clone().into_iter().filter(|((_, number), _)| *number == d).collect());
            let controlled = parts.values().filter(|part| {
                part.epoch == Epoch::new(1, 1)
                    && part.state != MeetingState::Ended
                    && part.state != MeetingState::Missing
            });
            let digest =
                controlled.clone().fold(0, |sum: u64, part| sum.wrapping_add(digest_of(part.meeting, part.version)));
            assert_eq!(table.digest_of_parts(domain(d), Epoch::new(1, 1)), (controlled.count() as u32, digest));
        }
        for (address, (_, terminal)) in &self.terminals {
            assert_eq!(table.terminal(*address), Some(*terminal));
        }
        assert_eq!(table.terminals().count(), self.terminals.len());
    }
}

#[test]
fn a_part_in_doubt_stays_so_until_it_is_said_otherwise() {
    let table = Arc::new(Table::on_heap(Capacity { meetings: 16, terminals: 16 }));
    let mut control = table.writer(OwnerId::CONTROL);
    let marked = Part { in_doubt: true, ..part(1, 2) };
    control.insert_part(&marked).unwrap();
    control.update_part(MeetingId(1), domain(2), |part| part.version = 9).unwrap();
    control
        .join(MeetingId(1), domain(2), &Terminal::new(domain(2).device(7), MeetingId(1), Role::Participant))
        .unwrap();
    table.recover();
    let in_doubt = || table.part(MeetingId(1), domain(2)).unwrap().in_doubt;
    assert!(in_doubt());
    control.update_part(MeetingId(1), domain(2), |part| part.in_doubt = false).unwrap();
    assert!(!in_doubt());
}

#[test]
fn a_fence_counts_until_the_own_term_is_above_it() {
    let table = table(4, 4);
    table.set_reservation(Epoch::new(1, 5), 90);
    assert!(table.set_fence(domain(1), Epoch::new(1, 7)) && table.set_fence(domain(2), Epoch::new(3, 1)));
    for _ in 0..10 {
        table.bump_generation().unwrap();
    }
    // Its own generation is above that of the first by now: starts alone lift no fence.
    assert_eq!(table.fence(domain(1)), Some(Epoch::new(1, 7)));
    assert!(table.set_fence(domain(1), Epoch::new(1, 9)) && table.set_fence(domain(1), Epoch::new(1, 8)));
    assert_eq!(table.fence(domain(1)), Some(Epoch::new(1, 9)), "a lower epoch lowers none");
    table.set_reservation(Epoch::new(2, 1), 90);
    assert_eq!((table.fence(domain(1)), table.fence(domain(2))), (None, Some(Epoch::new(3, 1))));
    // Fences that no longer hold make room, and only after them is there none.
    for number in 10..10 + DOMAINS_MAX as u64 - 1 {
        assert!(table.set_fence(domain(number), Epoch::new(2, 9)), "{number}");
    }
    assert!(!table.set_fence(domain(5000), Epoch::new(2, 9)));
    assert_eq!(table.fences().filter(|(_, by)| by.term() >= 2).count(), DOMAINS_MAX);
}
