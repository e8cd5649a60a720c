//! The paths, cache, snapshot and database, end in the same state: of the table and of the
//! database.
//!
//! One history is told three times, by the same seed: conferences are held and everybody knows of
//! them; then they live on at the autonomous servers, which lose and gain some, while the dispatch
//! server is dead. Once it comes back with its table, once with a snapshot of that and its
//! database, once with nothing but its database. Only what terminals report may be older in the
//! database of the first two: they believe the table where the autonomous servers agree, and
//! reports are not written to the database.

#[path = "recovery/world.rs"]
#[allow(dead_code, reason = "the simulations of recovery use more of it")]
mod world;

use std::time::Duration;

use baton::lab::sim::NetworkSettings;
use baton::lab::sim::cluster::{Cluster, Picture, free_terminals};
use baton::recovery::{Orphans, Path, Settings};
use baton::wire::{Address, Epoch, Flags, Layout, Level, MeetingId, Message, Role};

use world::{assert_database, assert_table, cluster, settle};

/// What happens while the dispatch server is dead.
fn history(seed: u64, network: NetworkSettings) -> Cluster {
    let mut world = cluster(seed, 4, 150, network);
    world.confer(1..=100, 1);
    world.confer(101..=110, 4);
    world.take_snapshot();
    for site in &mut world.sites {
        let domain = site.server.domain().number();
        let held: Vec<_> = site.server.meetings().map(|summary| summary.meeting).collect();
        for meeting in held {
            let members: Vec<Address> = site.server.members(meeting).collect();
            let free = free_terminals(&site.server).next();
            // What cannot be done there any more, for an earlier one took its terminal, is left
            // undone.
            let mut command = |message| {
                let _ = site.server.command_here(world.now, meeting, &message);
            };
            match (meeting.0 + domain) % 7 {
                0 => command(Message::LayoutSet { layout: Layout::new(16).expect("a layout") }),
                1 => command(Message::MemberRemove { terminal: members[0] }),
                2 => command(Message::RoleSet { terminal: members[0], role: Role::Chairman }),
                3 => free
                    .into_iter()
                    .for_each(|terminal| command(Message::MemberAdd { terminal, role: Role::SpeakerTwo })),
                4 => command(Message::WindowSet { terminal: members[0], window: 3 }),
                5 if meeting.0 % 3 == 0 => drop(site.server.forget(meeting)),
                6 if meeting.0 % 5 == 0 => drop(site.server.end(meeting)),
                _ => {}
            }
        }
        let member = free_terminals(&site.server).next().expect("some are left");
        let (level, layout) = (Level::LOWEST, Layout::new(2).expect("a layout"));
        site.server.hold(world.now, MeetingId(9000), level, layout, &[(member, Role::Participant)]);
    }
    // Whoever was called takes the call before the dispatch server comes back: what a terminal
    // reports after its part was updated is in the table alone, and when that is differs from path
    // to path.
    world.run_for(Duration::from_secs(1));
    world
}

fn recovered(seed: u64, network: NetworkSettings, path: Path, orphans: Orphans) -> Cluster {
    let mut world = history(seed, network);
    world.start(path, &Settings { orphans, ..Settings::default() });
    assert!(world.run_until_reconciled(Duration::from_secs(600)), "seed {seed}, {path:?}");
    settle(&mut world);
    world
}

/// What the table says, but for the epoch, which is another on each path.
fn of_table(world: &Cluster) -> Picture {
    let mut picture = world.picture_of_table();
    picture.parts.values_mut().filter(|part| part.epoch == world.epoch).for_each(|part| part.epoch = Epoch::NONE);
    picture
}

#[test]
fn cache_snapshot_and_database_paths_end_in_the_same_state() {
    for seed in 1..=10 {
        println!("seed {seed}");
        for network in [NetworkSettings::PERFECT, NetworkSettings::BAD] {
            for orphans in [Orphans::Leave, Orphans::Adopt] {
                let [cache, snapshot, database] =
                    [Path::Cache, Path::Snapshot, Path::Database].map(|path| recovered(seed, network, path, orphans));
                let left: &[MeetingId] = if orphans == Orphans::Leave { &[MeetingId(9000)] } else { &[] };
                for world in [&cache, &snapshot, &database] {
                    assert_table(world, left);
                    assert_database(world);
                }
                for world in [&cache, &snapshot] {
                    assert_eq!(of_table(world), of_table(&database), "the tables");
                    assert_databases(world, &database);
                }
            }
        }
    }
}

/// Where a living cache agreed nobody was asked for STATE, and of what a snapshot warmed the answer
/// was not written, so that what terminals reported meanwhile is in the table alone, as every
/// report is. What is in the database of it is either as it was or as it is.
fn assert_databases(world: &Cluster, by_database: &Cluster) {
    let [(mut meetings, terminals), others] = [world, by_database].map(Cluster::picture_of_database);
    for (one, other) in meetings.iter_mut().zip(&others.0) {
        for (member, its) in one.members.iter_mut().zip(&other.members) {
            if member.flags == Flags::default() {
                member.flags = its.flags;
            }
        }
        assert_eq!(one, other, "the databases' conferences");
    }
    assert_eq!(meetings.len(), others.0.len());
    assert!(!terminals.is_empty(), "some were asked for");
    for (terminal, state) in &terminals {
        assert_eq!(Some(state), others.1.get(terminal), "the databases' terminals");
    }
}
