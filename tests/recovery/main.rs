//! Recovery against autonomous servers that are written from the wire format, over a network that
//! loses, doubles, reorders and corrupts, by a seed that is printed first.

mod damaged;
mod reboot;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use baton::database::{Change, Member};
use baton::lab::sim::cluster::{Cluster, free_terminals};
use baton::lab::sim::{NetworkSettings, Random};
use baton::recovery::{Event, Orphans, Path, Phase, Settings};
use baton::table::{Capacity, OwnerId, Part, Table, Terminal};
use baton::time::Nanos;
use baton::wire::{Address, Domain, Flags, Layout, Level, MeetingId, MeetingState, Message, Role};

use world::{assert_database, assert_table, cluster, engine, events, report, settle};

/// Long enough for any link that comes back, in simulated time.
const PATIENCE: Duration = Duration::from_secs(600);
const SEEDS: u64 = 24;
const BOTH: [Path; 2] = [Path::Cache, Path::Database];

/// Runs a test by many seeds; the last one printed is the one that failed.
fn by_seeds(test: impl Fn(u64)) {
    for seed in 1..=SEEDS {
        println!("seed {seed}");
        test(seed);
    }
}

/// What goes on at the autonomous servers while nobody dispatches: members come and go, layouts
/// change.
fn live_on(world: &mut Cluster) {
    for site in &mut world.sites {
        let held: Vec<_> = site.server.meetings().map(|summary| summary.meeting).collect();
        for meeting in held {
            let members: Vec<Address> = site.server.members(meeting).collect();
            let command = match world.random.below(6) {
                0 => Message::LayoutSet { layout: Layout::new(9).expect("a layout") },
                1 => match free_terminals(&site.server).next() {
                    Some(terminal) => Message::MemberAdd { terminal, role: Role::SpeakerOne },
                    None => continue,
                },
                2 if members.len() > 1 => Message::MemberRemove { terminal: members[0] },
                3 if !members.is_empty() => Message::RoleSet { terminal: members[0], role: Role::Chairman },
                _ => continue,
            };
            site.server.command_here(world.now, meeting, &command).expect("it can be done there");
        }
    }
}

fn reconcile(world: &mut Cluster) {
    assert!(world.run_until_reconciled(PATIENCE), "{:#?}", report(world));
}

#[test]
fn every_meeting_is_taken_over_and_updated_over_a_bad_network() {
    by_seeds(|seed| {
        for path in BOTH {
            let mut world = cluster(seed, 3, 200, NetworkSettings::BAD);
            world.confer(1..=60, 3);
            live_on(&mut world);
            world.start(path, &Settings::default());
            reconcile(&mut world);
            settle(&mut world);
            assert_table(&world, &[]);
            assert_database(&world);
        }
    });
}

#[test]
fn reports_go_on_while_meetings_are_taken_over() {
    by_seeds(|seed| {
        for path in BOTH {
            let mut world = cluster(seed, 2, 100, NetworkSettings::BAD);
            world.confer(1..=20, 4);
            for site in &mut world.sites {
                site.server.set_rates(2000, 0);
            }
            world.start(path, &Settings::default());
            reconcile(&mut world);
            settle(&mut world);
            assert_table(&world, &[]);
            let outstanding: usize = world.sites.iter().map(|site| site.server.reports_outstanding()).sum();
            assert_eq!(outstanding, 0, "every report is in the table, and acknowledged");
        }
    });
}

#[test]
fn a_second_and_third_death_during_recovery_change_nothing() {
    by_seeds(|seed| {
        let mut world = cluster(seed, 3, 200, NetworkSettings::BAD);
        world.confer(1..=60, 3);
        live_on(&mut world);
        let mut random = Random::new(seed);
        for path in [Path::Cache, Path::Database, Path::Cache, Path::Cache] {
            world.start(path, &Settings::default());
            world.run_for(Duration::from_micros(random.below(60_000)));
            world.kill();
            world.run_for(Duration::from_micros(random.below(3_000)));
        }
        // A death on the database path leaves a table that holds a part of what the database holds:
        // only who is sure that nothing is missing in it may go on by the cache.
        world.start(Path::Database, &Settings::default());
        reconcile(&mut world);
        settle(&mut world);
        assert_table(&world, &[]);
        assert_database(&world);
        let epochs = world.sites[0].server.highest_epoch();
        assert_eq!(epochs, world.epoch);
    });
}

#[test]
fn deaths_on_the_cache_path_alone_lose_nothing() {
    by_seeds(|seed| {
        let mut world = cluster(seed, 2, 200, NetworkSettings::BAD);
        world.confer(1..=100, 2);
        let mut random = Random::new(seed ^ 0xDEAD);
        for _ in 0..5 {
            world.start(Path::Cache, &Settings::default());
            world.run_for(Duration::from_micros(random.below(40_000)));
            world.kill();
            live_on(&mut world);
        }
        world.start(Path::Cache, &Settings::default());
        reconcile(&mut world);
        settle(&mut world);
        assert_table(&world, &[]);
        assert_database(&world);
    });
}

#[test]
fn busy_autonomous_servers_are_waited_for() {
    by_seeds(|seed| {
        for path in BOTH {
            let mut world = cluster(seed, 2, 100, NetworkSettings::BAD);
            world.confer(1..=80, 1);
            for site in &mut world.sites {
                site.server.set_busy(world.now + Duration::from_millis(300));
                site.server.set_retry_after(Duration::from_millis(50));
            }
            world.start(path, &Settings::default());
            reconcile(&mut world);
            let busy: u64 = world.sites.iter().map(|site| site.server.counters().requests_busy).sum();
            assert!(busy > 0 && busy < 200, "{busy} requests while busy");
            settle(&mut world);
            assert_table(&world, &[]);
        }
    });
}

#[test]
fn orphans_are_left_adopted_or_ended() {
    by_seeds(|seed| {
        for (path, orphans) in BOTH
            .into_iter()
            .flat_map(|path| [Orphans::Leave, Orphans::Adopt, Orphans::End].map(|orphans| (path, orphans)))
        {
            let mut world = cluster(seed, 2, 50, NetworkSettings::BAD);
            world.confer(1..=20, 1);
            let strangers = [MeetingId(7000), MeetingId(7001)];
            for site in &mut world.sites {
                let members: Vec<_> =
                    free_terminals(&site.server).take(2).map(|terminal| (terminal, Role::Participant)).collect();
                for (stranger, member) in strangers.into_iter().zip(members) {
                    site.server.hold(world.now, stranger, Level::LOWEST, Layout::new(2).expect("two"), &[member]);
                }
            }
            world.start(path, &Settings { orphans, ..Settings::default() });
            reconcile(&mut world);
            settle(&mut world);
            let events = events(&world);
            let told = events.iter().filter(|event| matches!(event, Event::Orphan { .. })).count();
            assert_eq!(told, 4, "each once: {events:?}");
            let held = world.sites.iter().flat_map(|site| site.server.meetings());
            let held = held.filter(|summary| strangers.contains(&summary.meeting)).count();
            match orphans {
                Orphans::Leave => {
                    assert_eq!(held, 4);
                    assert_table(&world, &strangers);
                    assert!(world.table.part(strangers[0], world.sites[0].server.domain()).is_none());
                }
                Orphans::Adopt => {
                    assert_eq!(held, 4);
                    assert_table(&world, &[]);
                    assert_database(&world);
                }
                Orphans::End => {
                    assert_eq!(held, 0);
                    assert_table(&world, &[]);
                }
            }
        }
    });
}

#[test]
fn what_an_autonomous_server_lost_is_missing_and_not_ended() {
    by_seeds(|seed| {
        for path in BOTH {
            let mut world = cluster(seed, 2, 50, NetworkSettings::BAD);
            world.confer(1..=20, 1);
            for meeting in [3, 4].map(MeetingId) {
                assert!(world.sites[0].server.forget(meeting));
            }
            assert!(world.sites[1].server.end(MeetingId(4)));
            world.start(path, &Settings::default());
            reconcile(&mut world);
            settle(&mut world);
            assert_table(&world, &[]);
            assert_database(&world);
            let domain = world.sites[0].server.domain();
            let part = world.table.part(MeetingId(3), domain).expect("it is never ended by itself");
            assert_eq!(part.state, MeetingState::Missing);
            let events = events(&world);
            assert_eq!(events.iter().filter(|event| matches!(event, Event::Missing { .. })).count(), 3, "{events:?}");
        }
    });
}

#[test]
fn a_newer_controller_is_obeyed_at_once() {
    by_seeds(|seed| {
        let mut world = cluster(seed, 3, 50, NetworkSettings::BAD);
        world.confer(1..=40, 1);
        world.start(Path::Cache, &Settings::default());
        world.run_for(Duration::from_micros(Random::new(seed).below(5_000)));
        // Somebody else takes over everything, under a higher term.
        let stale = world.set_aside().expect("alive");
        world.start_elsewhere(&Settings::default());
        reconcile(&mut world);
        let other = world.epoch;
        // The old one, which had only been slow, goes on where it was.
        world.resume(stale);
        world.run_for(Duration::from_secs(5));
        assert_eq!(engine(&world).fenced().len(), 3, "{:#?}", report(&world));
        assert!(engine(&world).is_fenced(), "it controls nothing any more");
        let sent = world.sent();
        world.run_for(Duration::from_secs(60));
        assert_eq!(world.sent(), sent, "nothing more is sent");
        assert!(world.sites.iter().all(|site| site.server.digest(other).0 > 0), "nothing was taken back");
    });
}

#[test]
fn a_differing_audit_heals_by_listing_again() {
    by_seeds(|seed| {
        let mut world = cluster(seed, 1, 50, NetworkSettings::PERFECT);
        world.confer(1..=30, 1);
        world.start(Path::Cache, &Settings::default());
        let report = |world: &Cluster| report(world).servers.remove(0);
        // The first change comes when all is taken over and REPLAY_DONE is on its way, the second
        // when it is listed, and makes what was listed old.
        let moments: [&dyn Fn(&Cluster) -> bool; 2] =
            [&|world| report(world).all_acknowledged_ns.is_some(), &|world| report(world).listed_ns.is_some()];
        for has_come in moments {
            while !has_come(&world) {
                assert!(!world.is_reconciled(), "a change was not noticed");
                world.run_for(Duration::from_micros(1));
            }
            live_on(&mut world);
        }
        reconcile(&mut world);
        assert_eq!(report(&world).progress.differing, 2);
        settle(&mut world);
        assert_table(&world, &[]);
        assert_database(&world);
    });
}

#[test]
fn a_link_that_was_down_is_taken_over_when_it_comes_back() {
    by_seeds(|seed| {
        for path in BOTH {
            let mut world = cluster(seed, 2, 50, NetworkSettings::BAD);
            world.confer(1..=30, 1);
            let port = world.sites[1].port;
            world.network.set_cut(port, true);
            world.start(path, &Settings::default());
            world.run_for(Duration::from_secs(120));
            assert!(!world.is_reconciled());
            assert_eq!(report(&world).servers[0].phase, Phase::Reconciled, "one link does not wait for another");
            world.network.set_cut(port, false);
            reconcile(&mut world);
            settle(&mut world);
            assert_table(&world, &[]);
        }
    });
}

#[test]
fn an_autonomous_server_may_restart_during_recovery() {
    by_seeds(|seed| {
        let mut world = cluster(seed, 2, 100, NetworkSettings::BAD);
        world.confer(1..=60, 1);
        world.start(Path::Cache, &Settings::default());
        for _ in 0..4 {
            let wait = world.random.below(10_000);
            world.run_for(Duration::from_micros(wait));
            world.sites[0].server.restart();
        }
        reconcile(&mut world);
        settle(&mut world);
        assert_table(&world, &[]);
    });
}

#[test]
fn a_database_that_opens_late_is_waited_for() {
    by_seeds(|seed| {
        let mut world = cluster(seed, 2, 100, NetworkSettings::BAD);
        world.confer(1..=20, 1);
        // These are in the database, and not in the table that survived.
        let another = Arc::new(Table::on_heap(Capacity { meetings: 4096, terminals: 8192 }));
        let cached = std::mem::replace(&mut world.table, another);
        world.confer(30..=40, 1);
        world.table = cached;
        world.disk.opens = Nanos(u64::MAX);
        world.start(Path::Cache, &Settings::default());
        world.run_for(Duration::from_secs(3));
        assert!(world.is_reconciled(), "what cannot be looked up yet holds nothing up");
        world.disk.opens = world.now;
        reconcile(&mut world);
        settle(&mut world);
        assert_table(&world, &[]);
        let events = events(&world);
        assert!(!events.iter().any(|event| matches!(event, Event::Orphan { .. })), "{events:?}");
    });
}

#[test]
fn a_part_whose_restoring_was_cut_short_is_restored_again() {
    let mut world = cluster(1, 1, 10, NetworkSettings::PERFECT);
    world.confer([1], 2);
    let (meeting, domain) = (MeetingId(1), world.sites[0].server.domain());
    let whole = world.table.part(meeting, domain).expect("it was entered");
    let member = world.table.members(meeting, domain).next().expect("it has two").terminal;
    let shown = Member { terminal: member, role: Role::Participant, flags: Flags::default(), window: 5 };
    world.disk.database.commit(&[Change::Member(meeting, shown)], world.epoch).expect("it is there");
    // What a death leaves that came after the part was entered and before its members were.
    let table = Arc::new(Table::on_heap(Capacity { meetings: 16, terminals: 16 }));
    let cut_short = Part { state: MeetingState::Prepared, ..whole };
    table.writer(OwnerId::CONTROL).insert_part(&cut_short).expect("room");
    world.table = table;
    world.start(Path::Cache, &Settings::default());
    reconcile(&mut world);
    settle(&mut world);
    assert_table(&world, &[]);
    assert_database(&world);
    let terminal = world.table.terminal(member).expect("its autonomous server has it");
    assert_eq!(terminal.window, 5, "which no autonomous server says, and the database alone knows");
}

/// Flips a bit of every record of a part in the table's memory.
fn damage(table: &Table, meeting: MeetingId, domain: Domain) {
    let words: Vec<u64> = table.mapping().words().iter().map(|word| word.load(Ordering::Relaxed)).collect();
    // A record begins with the meeting, and with the domain below state, level and layout.
    let is_record = |at: &usize| {
        words[*at] == meeting.0 && words[at + 1] & Domain::MAX == domain.number() && words[at + 1] >> 48 != 0
    };
    for at in (0..words.len() - 2).filter(is_record) {
        table.mapping().words()[at + 2].store(words[at + 2] ^ 1, Ordering::Relaxed);
    }
    assert_eq!(table.part(meeting, domain), None);
}

#[test]
fn what_is_damaged_in_the_table_is_taken_from_the_database() {
    by_seeds(|seed| {
        let mut world = cluster(seed, 2, 100, NetworkSettings::BAD);
        world.confer(1..=20, 3);
        let damaged = [(3, 0), (4, 1), (17, 0), (17, 1)];
        for (meeting, site) in damaged {
            damage(&world.table, MeetingId(meeting), world.sites[site].server.domain());
        }
        live_on(&mut world);
        // Nothing is thrown away before there is something to put in its place.
        let is_open = seed % 2 == 0;
        if !is_open {
            world.disk.opens = Nanos(u64::MAX);
        }
        world.start(Path::Cache, &Settings::default());
        world.run_for(Duration::from_secs(3));
        if !is_open {
            assert_eq!(world.table.count_parts(), 40);
            assert!(!world.table.verify().is_empty());
        }
        world.disk.opens = world.now;
        reconcile(&mut world);
        settle(&mut world);
        assert_table(&world, &[]);
        assert_database(&world);
        assert_eq!(world.table.verify(), Vec::<String>::new());
        let events = events(&world);
        let alarm = |event: &Event| matches!(event, Event::Full { .. } | Event::Orphan { .. } | Event::Missing { .. });
        assert!(!events.iter().any(alarm), "{events:?}");
    });
}

/// The database has one layout for all parts of a conference, and a version for each.
#[test]
fn what_the_database_says_of_a_part_is_not_believed_for_its_version_after_two_deaths() {
    let mut world = cluster(1, 2, 10, NetworkSettings::PERFECT);
    world.confer([1], 1);
    let meeting = MeetingId(1);
    let layout = Message::LayoutSet { layout: Layout::new(9).expect("a layout") };
    world.sites[1].server.command_here(world.now, meeting, &layout).expect("it can be done there");
    world.start(Path::Cache, &Settings::default());
    reconcile(&mut world);
    settle(&mut world);
    assert_database(&world);
    world.kill();
    // The first engine fills the table from the database, and dies before it hears of anything.
    world.start(Path::Database, &Settings::default());
    world.run_for(Duration::from_micros(5));
    assert_eq!(world.table.count_parts(), 2);
    world.kill();
    world.restart(&Settings::default());
    reconcile(&mut world);
    settle(&mut world);
    assert_table(&world, &[]);
}

#[test]
fn a_death_between_versions_and_members_is_made_good() {
    by_seeds(|seed| {
        let mut world = cluster(seed, 1, 100, NetworkSettings::PERFECT);
        world.confer(1..=20, 2);
        // Another member each: a newer version, and as many as before.
        for meeting in (1..=20).map(MeetingId) {
            let site = &mut world.sites[0];
            let leaves = site.server.members(meeting).next().expect("it has two");
            let terminal = free_terminals(&site.server).next().expect("there are more");
            let role = Role::Participant;
            for command in [Message::MemberRemove { terminal: leaves }, Message::MemberAdd { terminal, role }] {
                site.server.command_here(world.now, meeting, &command).expect("it can be done there");
            }
        }
        world.start(Path::Cache, &Settings::default());
        let recovery = |world: &Cluster| report(world).servers.remove(0);
        while recovery(&world).listed_ns.is_none() {
            world.run_for(Duration::from_micros(1));
        }
        world.kill();
        let is_new = |part: Part| part.version == world.sites[0].server.meeting(part.meeting).expect("held").version;
        assert!(world.table.parts().all(is_new), "the versions are written");
        let site = &world.sites[0];
        let has_left = |member: Terminal| !site.server.members(member.meeting).any(|other| other == member.terminal);
        assert_eq!(world.table.terminals().filter(|member| has_left(*member)).count(), 20, "and the members are not");
        world.start(Path::Cache, &Settings::default());
        reconcile(&mut world);
        assert_eq!(recovery(&world).progress.differing, 0, "no audit tells that they lack");
        settle(&mut world);
        assert_table(&world, &[]);
        assert_database(&world);
    });
}
