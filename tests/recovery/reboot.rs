//! After a reboot: one history is told twice, by the same seed, and ends once with a snapshot
//! beside the database and once without. Table and database are the same in the end.

use std::time::Duration;

use baton::database::Change;
use baton::lab::sim::NetworkSettings;
use baton::lab::sim::cluster::{Cluster, free_terminals};
use baton::recovery::{Path, Settings};
use baton::table::OwnerId;
use baton::wire::{Domain, Epoch, MeetingId, Message, Role, Run};

use super::world::{assert_database, assert_table, cluster, engine, refresh, report, settle};
use super::{live_on, reconcile};

/// The simulation of everything has reboots too, by as many seeds as one likes.
const SEEDS: u64 = 8;
/// So long the engine needs to learn what was changed at an autonomous server: it is proven every
/// ten seconds that both sides agree.
const LEARNED: Duration = Duration::from_secs(40);

fn by_seeds(test: impl Fn(u64)) {
    for seed in 1..=SEEDS {
        println!("seed {seed}");
        test(seed);
    }
}

/// Conferences under control, and terminals that report. What happens to them then `history` says;
/// it takes the snapshot, and leaves no engine.
fn rebooted(seed: u64, path: Path, history: fn(&mut Cluster)) -> Cluster {
    let mut world = cluster(seed, 3, 200, NetworkSettings::BAD);
    world.confer(1..=40, 3);
    world.start(Path::Cache, &Settings::default());
    reconcile(&mut world);
    report_for(&mut world, Duration::from_secs(1));
    history(&mut world);
    world.kill();
    world.run_for(Duration::from_millis(200));
    world.start(path, &Settings::default());
    world
}

fn report_for(world: &mut Cluster, time: Duration) {
    world.sites.iter_mut().for_each(|site| site.server.set_rates(50, 0));
    world.run_for(time);
    world.sites.iter_mut().for_each(|site| site.server.set_rates(0, 0));
}

/// Tells a history with and without the snapshot, and compares; `look` is at the engine that came
/// back with it, when it is reconciled.
fn compare(history: fn(&mut Cluster), look: fn(&Cluster)) {
    by_seeds(|seed| {
        let [with, without] = [Path::Snapshot, Path::Database].map(|path| {
            let mut world = rebooted(seed, path, history);
            reconcile(&mut world);
            if path == Path::Snapshot {
                look(&world);
            }
            refresh(&mut world);
            settle(&mut world);
            assert_table(&world, &[]);
            assert_database(&world);
            world
        });
        // What terminals report when depends on what they are asked.
        let parts = |world: &Cluster| {
            let mut picture = world.picture_of_table();
            picture.parts.values_mut().for_each(|part| part.epoch = Epoch::NONE);
            let members: Vec<_> = picture.terminals.values().map(|state| (state.terminal, state.meeting)).collect();
            (picture.parts, members)
        };
        assert_eq!(parts(&with), parts(&without));
        let names = |world: &Cluster| {
            let (mut meetings, _) = world.picture_of_database();
            for member in meetings.iter_mut().flat_map(|meeting| &mut meeting.members) {
                member.flags = Default::default();
            }
            meetings
        };
        assert_eq!(names(&with), names(&without));
    });
}

fn refreshed(world: &Cluster) -> (u32, u32) {
    let servers = report(world).servers;
    let sum = |count: fn(&baton::recovery::Progress) -> u32| servers.iter().map(|server| count(&server.progress)).sum();
    (sum(|progress| progress.taken_over), sum(|progress| progress.differing))
}

/// Nothing is asked before both sides agree, and what was reported after the snapshot comes back.
#[test]
fn what_is_the_same_everywhere_is_agreed_on_at_once() {
    compare(
        |world| {
            world.take_snapshot();
            report_for(world, Duration::from_secs(1));
        },
        |world| {
            assert_eq!(report(world).path, Path::Snapshot);
            let (taken_over, differing) = refreshed(world);
            assert!(taken_over >= 40 && differing == 0, "{:#?}", report(world));
            assert!(report(world).servers.iter().all(|server| server.listed_ns.is_none()), "{:#?}", report(world));
            assert!(!engine(world).is_refreshed() && !world.parts_in_doubt().is_empty());
        },
    );
}

#[test]
fn a_database_that_is_newer_than_the_snapshot_wins() {
    compare(
        |world| {
            world.take_snapshot();
            live_on(world);
            world.run_for(LEARNED);
        },
        |_| {},
    );
}

/// The disk failed, so the table and its snapshot know what the database does not.
#[test]
fn a_snapshot_that_is_newer_than_the_database_is_in_doubt() {
    compare(
        |world| {
            world.disk.fails_until = world.now + 10 * LEARNED;
            live_on(world);
            world.run_for(LEARNED);
            world.take_snapshot();
            world.disk.fails_until = world.now;
        },
        |_| {},
    );
}

#[test]
fn what_has_ended_since_does_not_come_back() {
    compare(
        |world| {
            world.take_snapshot();
            world.kill();
            for meeting in (1..=9).map(MeetingId) {
                world.disk.database.commit(&[Change::End(meeting)], world.epoch).expect("it is there");
                for site in &mut world.sites {
                    let _ = site.server.end(meeting);
                }
            }
        },
        |world| assert!((1..=9).all(|meeting| world.table.parts_of(MeetingId(meeting)).count() == 0)),
    );
}

#[test]
fn what_was_started_since_comes_from_the_database() {
    compare(
        |world| {
            world.take_snapshot();
            world.kill();
            world.confer(100..=109, 2);
        },
        |world| assert!((100..=109).all(|meeting| world.table.parts_of(MeetingId(meeting)).count() > 0)),
    );
}

#[test]
fn another_conference_of_the_same_number_comes_from_the_database() {
    compare(
        |world| {
            world.kill();
            let mut writer = world.table.writer(OwnerId::CONTROL);
            for part in world.table.parts().filter(|part| part.meeting.0 < 10) {
                writer.update_part(part.meeting, part.domain, |part| part.run = Run(99)).expect("it is there");
            }
            world.take_snapshot();
        },
        |world| assert!(world.table.parts().all(|part| part.run == Run::NONE)),
    );
}

#[test]
fn a_member_that_moved_between_two_conferences_is_where_it_is() {
    compare(
        |world| {
            world.take_snapshot();
            for site in &mut world.sites {
                let held: Vec<_> = site.server.meetings().map(|summary| summary.meeting).collect();
                for (from, to) in held.iter().zip(&held[1..]).step_by(2) {
                    let terminal = site.server.members(*from).next().expect("there are some");
                    for (meeting, command) in [
                        (from, Message::MemberRemove { terminal }),
                        (to, Message::MemberAdd { terminal, role: Role::SpeakerOne }),
                    ] {
                        site.server.command_here(world.now, *meeting, &command).expect("it can be done there");
                    }
                }
            }
            // Those of one domain are learned before the reboot.
            let port = world.sites[0].port;
            world.network.set_cut(port, true);
            world.run_for(LEARNED);
            world.network.set_cut(port, false);
        },
        |_| {},
    );
}

#[test]
fn a_damaged_snapshot_leaves_it_to_the_database() {
    compare(
        |world| {
            world.take_snapshot();
            let bytes = world.snapshot.as_mut().expect("it was taken");
            let at = 64 + world.random.below(bytes.len() as u64 - 64) as usize;
            bytes[at] ^= 1;
        },
        |_| {},
    );
}

/// The engine dies while it asks for what terminals did since the snapshot: the next one, which
/// goes by the table, asks for the rest.
#[test]
fn a_death_before_all_is_asked_for_loses_nothing() {
    by_seeds(|seed| {
        let mut world = rebooted(seed, Path::Snapshot, |world| {
            world.take_snapshot();
            report_for(world, Duration::from_secs(1));
        });
        let steps = world.random.below(40_000);
        world.run_for(Duration::from_micros(steps));
        world.kill();
        world.restart(&Settings::default());
        reconcile(&mut world);
        refresh(&mut world);
        settle(&mut world);
        assert_table(&world, &[]);
        assert_database(&world);
    });
}

/// What an autonomous server gained while nobody dispatched is found, as from a living table.
#[test]
fn a_stranger_is_found_although_nothing_else_is_listed() {
    by_seeds(|seed| {
        let mut world = rebooted(seed, Path::Snapshot, |world| {
            world.take_snapshot();
            let site = &mut world.sites[1];
            let member = free_terminals(&site.server).next().expect("some are left");
            let (level, layout) = (baton::wire::Level::LOWEST, baton::wire::Layout::new(2).expect("a layout"));
            site.server.hold(world.now, MeetingId(9000), level, layout, &[(member, Role::Participant)]);
        });
        reconcile(&mut world);
        refresh(&mut world);
        settle(&mut world);
        assert_table(&world, &[MeetingId(9000)]);
        let orphans: Vec<_> = report(&world).servers.into_iter().map(|server| server.orphan_meetings).collect();
        assert_eq!(orphans[1], [MeetingId(9000)]);
        assert_eq!(world.sites[1].server.domain(), Domain::new(2).expect("the second"));
    });
}

/// It was asked for all that its terminals are, which is more than what they did since.
#[test]
fn what_was_asked_for_stays_so_when_an_autonomous_server_restarts() {
    by_seeds(|seed| {
        let mut world = rebooted(seed, Path::Snapshot, Cluster::take_snapshot);
        reconcile(&mut world);
        refresh(&mut world);
        world.sites[0].server.restart();
        world.run_for(LEARNED);
        reconcile(&mut world);
        settle(&mut world);
        let missing: Vec<_> =
            report(&world).servers.into_iter().filter(|server| server.refreshed_ns.is_none()).collect();
        assert!(engine(&world).is_refreshed() && missing.is_empty(), "{missing:#?}");
    });
}
