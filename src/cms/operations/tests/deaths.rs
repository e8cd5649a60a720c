//! The engine dies in the midst of operations: what a client was told is so for good, and what was
//! begun is finished.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{World, conference, layout, terminal};
use super::{add, domain, role};
use crate::cms::ConferenceAnswer;
use crate::cms::ConferenceRequest;
use crate::lab::sim::{AutonomousServer, NetworkSettings, Random};
use crate::table::Part;
use crate::wire::{MeetingId, MeetingState, Role};

/// A request and its name.
type Case = (&'static str, fn() -> ConferenceRequest);

/// Death after every single step of a start, of a growth into a new domain, of a change of layout
/// and of chairman in two domains, and of an end.
#[test]
fn what_a_death_cuts_short_is_finished() {
    let a = terminal(1, 1);
    let cases: [Case; 5] = [
        ("start", || conference(2, &[terminal(1, 11), terminal(2, 11)])),
        ("add", || add(MeetingId(1), &[terminal(1, 21), terminal(2, 21)])),
        ("layout", || ConferenceRequest::SetLayout { meeting: MeetingId(1), layout: layout(9) }),
        ("chairman", || role(terminal(2, 1), Role::Chairman)),
        ("end", || ConferenceRequest::End { meeting: MeetingId(1) }),
    ];
    for (what, request) in cases {
        for reboot in [false, true] {
            for steps in 0..40 {
                let mut world = World::open(2, 100, NetworkSettings::PERFECT, 3);
                let mut members = vec![a, terminal(1, 2)];
                members.extend(matches!(what, "layout" | "chairman").then_some(terminal(2, 1)));
                world.must(conference(1, &members));
                world.settle();
                let asked = world.ask(request());
                for _ in 0..steps {
                    world.step();
                }
                let told = world.replies.get(&asked).cloned();
                println!("{what}, death after {steps} steps, reboot: {reboot}, told: {}", told.is_some());
                world.die(reboot);
                world.open_database();
                world.settle();
                world.check();
                never_by_halves(&world, what);
                if let Some(reply) = told {
                    reply.unwrap();
                    let parts = world.writer.table().parts_of(MeetingId(if what == "start" { 2 } else { 1 })).count();
                    assert_eq!(parts, if what == "end" { 0 } else { 2 }, "what was told is so");
                }
            }
        }
    }
}

/// A start that was taken back, though not for good, has forgotten what its members reported, and
/// they do not report it again.
#[test]
fn the_members_of_a_start_that_was_resumed_are_in_doubt() {
    let mut resumed = 0;
    for steps in 0..40 {
        let mut world = World::open(2, 100, NetworkSettings::PERFECT, 3);
        world.ask(conference(1, &[terminal(1, 1), terminal(2, 1)]));
        for _ in 0..steps {
            world.step();
        }
        let starting = |part: &Part| part.state == MeetingState::Starting;
        let begun: Vec<_> = world.writer.table().parts().filter(starting).map(|part| part.domain).collect();
        world.die(false);
        world.open_database();
        world.settle();
        for domain in begun {
            let part = world.writer.table().part(MeetingId(1), domain);
            resumed += part.iter().filter(|part| part.state == MeetingState::InMeeting).count();
            assert!(part.is_none_or(|part| part.in_doubt), "death after {steps} steps");
        }
    }
    assert!(resumed > 0);
}

/// The disk was full when the layout was to be written, so the database has an older one than table
/// and autonomous server, and a death cuts a growth into a new domain short.
#[test]
fn a_part_that_is_started_after_a_death_is_what_the_table_says_of_it() {
    let mut resumed = 0;
    for steps in 0..20 {
        let mut world = World::open(2, 100, NetworkSettings::PERFECT, 3);
        world.must(conference(1, &[terminal(1, 1)]));
        world.commits_fail = 3..4;
        world.refused(ConferenceRequest::SetLayout { meeting: MeetingId(1), layout: layout(9) });
        world.ask(add(MeetingId(1), &[terminal(2, 1)]));
        for _ in 0..steps {
            world.step();
        }
        resumed += world.database.unfinished().unwrap().len();
        world.die(false);
        world.open_database();
        world.settle();
        let parts: Vec<_> = world.writer.table().parts_of(MeetingId(1)).collect();
        for part in parts {
            let server = world.servers.iter().find(|server| server.domain() == part.domain).unwrap();
            let held = server.meeting(MeetingId(1)).unwrap();
            let of = |layout: crate::wire::Layout| layout.windows();
            assert_eq!([of(part.layout), of(held.layout)], [9, 9], "death after {steps} steps, in {:?}", part.domain);
            assert_eq!(part.chairman, held.chairman, "death after {steps} steps, in {:?}", part.domain);
        }
    }
    assert!(resumed > 0);
}

/// An operation that was begun is done everywhere, or nowhere.
fn never_by_halves(world: &World, what: &str) {
    let held: Vec<_> =
        world.servers.iter().flat_map(AutonomousServer::meetings).filter(|it| it.meeting.0 == 1).collect();
    let layouts: BTreeSet<_> = held.iter().map(|held| held.layout.windows()).collect();
    assert!(layouts.len() <= 1, "{what}: {layouts:?}");
    let members =
        world.servers.iter().flat_map(|server| server.members(MeetingId(1)).filter_map(|it| server.terminal(it)));
    let (mut chairmen, mut added) = (0, 0);
    for state in members {
        chairmen += usize::from(state.role == Role::Chairman);
        added += usize::from([terminal(1, 21), terminal(2, 21)].contains(&state.terminal));
    }
    assert!(what == "end" || chairmen == 1, "{what}: {chairmen} chairmen");
    assert!([0, 2].contains(&added), "{what}: {added} of two were added");
}

/// A client that was told of a refusal is right for good: what was refused is not begun again after
/// a death.
#[test]
fn what_was_refused_stays_so_after_a_death() {
    for steps in 0..40 {
        let mut world = World::open(2, 100, NetworkSettings::PERFECT, 3);
        world.servers[1].set_capacity(0);
        let asked = world.ask(conference(1, &[terminal(1, 1), terminal(2, 1)]));
        world.run_until(|world| world.replies.contains_key(&asked));
        world.replies[&asked].clone().unwrap_err();
        for _ in 0..steps {
            world.step();
        }
        world.servers[1].set_capacity(100);
        world.die(true);
        world.open_database();
        world.settle();
        world.check();
        assert_eq!(world.servers[0].meetings().count(), 0, "death {steps} steps after the refusal");
    }
}

/// Random operations on a bad network, and a death now and then.
#[test]
fn what_was_told_is_so_after_any_death() {
    for seed in 0..12 {
        println!("seed {seed}");
        let mut world = World::open(3, 100, NetworkSettings::BAD, seed);
        let mut random = Random::new(seed);
        // What must be so: the layout of each conference that goes on.
        let mut must = BTreeMap::<MeetingId, u8>::new();
        for round in 0..30u16 {
            let meeting = MeetingId(1 + random.below(5));
            let windows = 1 + random.below(13) as u8;
            let request = match must.get(&meeting) {
                None => {
                    let n = 1 + 10 * meeting.0 as u16;
                    conference(meeting.0, &[terminal(1, n), terminal(2, n), terminal(2, n + 1)])
                }
                Some(_) if random.chance(300_000) => ConferenceRequest::End { meeting },
                Some(_) => ConferenceRequest::SetLayout { meeting, layout: layout(windows) },
            };
            let dies = random.chance(300_000);
            let asked = world.ask(request.clone());
            for _ in 0..if dies { random.below(60) } else { u64::MAX } {
                if world.replies.contains_key(&asked) || !world.step() {
                    break;
                }
            }
            let told = world.replies.remove(&asked);
            if dies {
                world.settle_frames();
                world.die(random.chance(500_000));
                world.open_database();
                world.settle();
            }
            let shown = format!("seed {seed}, round {round}: {request:?} → {told:?}");
            let now =
                world.writer.table().part(meeting, domain(1)).filter(|part| part.state == MeetingState::InMeeting);
            match (told, request) {
                (Some(Ok(ConferenceAnswer::Started(_))), _) => drop(must.insert(meeting, 4)),
                (Some(Ok(_)), ConferenceRequest::End { .. }) => drop(must.remove(&meeting)),
                (Some(Ok(_)), _) => drop(must.insert(meeting, windows)),
                // No client was told: as it was before, or as it was to be.
                (None, ConferenceRequest::SetLayout { .. }) => {
                    let is = now.expect(&shown).layout.windows();
                    assert!(is == windows || Some(&is) == must.get(&meeting), "{shown}");
                    must.insert(meeting, is);
                }
                (None, _) => match now {
                    Some(part) => drop(must.insert(meeting, part.layout.windows())),
                    None => drop(must.remove(&meeting)),
                },
                (Some(Err(refusal)), _) => panic!("{shown}: {refusal}"),
            }
        }
        world.settle();
        world.check();
        let parts = world.writer.table().parts_in(domain(1)).map(|part| (part.meeting, part.layout.windows()));
        assert_eq!(parts.collect::<BTreeMap<_, _>>(), must);
    }
}
