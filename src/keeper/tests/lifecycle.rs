//! The lifecycle under orders of deaths, hangs, words, signals and time that are drawn by seed.
//!
//! For each seed engines are ill for a while in all the ways that engines can be; then those that
//! are started from then on do as they should, and in bounded time one controls and another stands
//! by, or the keeper has ended for a reason. `BATON_LIFECYCLE_SEED=7` plays one seed alone
//! and tells all of it, `BATON_LIFECYCLE_SEEDS=100000` plays so many.

use std::time::Duration;

use super::lifecycle_world::World;
use crate::keeper::lifecycle::End;

const SEEDS: u64 = 10_000;
/// How long engines are ill.
const ILL: Duration = Duration::from_secs(20);
/// After which one controls and another stands by: more than the longest patience with an engine
/// that starts, the longest trial that is asked for here, and the longest pause.
const WELL: Duration = Duration::from_secs(200);

#[derive(Debug, Default)]
struct Played {
    ended: Option<End>,
    upgrades_kept: u32,
    upgrades_returned: u32,
    controlled: bool,
}

/// Says which seed it was, if it fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("BATON_LIFECYCLE_SEED={} plays it again", self.0);
        }
    }
}

fn play(seed: u64, is_told: bool) -> Played {
    let _seed = Seed(seed);
    let mut world = World::new(seed);
    world.is_told = is_told;
    let asks = world.random.chance(600_000);
    // Some are asked to stop, at any time, and some again.
    let stops = world.random.chance(250_000);
    let ill = world.now + ILL;
    let mut stop = ill;
    if stops {
        stop = world.now + Duration::from_nanos(world.random.below(ILL.as_nanos() as u64));
    }
    world.round(false);
    while world.ended.is_none() && world.now < ill {
        world.step(ill);
        if asks && world.random.chance(50_000) {
            world.ask_for_upgrade();
        }
        if world.ended.is_none() && stops && world.now >= stop {
            world.round(true);
            stop = if world.random.chance(300_000) { world.now + Duration::from_secs(1) } else { ill };
        }
    }
    world.calm();
    let end = world.now + WELL;
    while world.ended.is_none() && !(world.is_well() && world.check.is_settled()) {
        assert!(world.now < end, "nobody controls, stands by, or ends: {world:#?}");
        world.step(end);
    }
    let controlled = world.lifecycle.controller().is_some();
    let upgrades_kept = world.check.upgrades_kept;
    let upgrades_returned = world.check.upgrades_returned;
    Played { ended: world.ended, upgrades_kept, upgrades_returned, controlled }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("a number"))
}

#[test]
fn whatever_happens_one_engine_controls_at_a_time_and_in_the_end_one_does() {
    if let Some(seed) = number("BATON_LIFECYCLE_SEED") {
        eprintln!("{:?}", play(seed, true));
        return;
    }
    let seeds = number("BATON_LIFECYCLE_SEEDS").unwrap_or(SEEDS);
    let played: Vec<_> = (0..seeds).map(|seed| play(seed, false)).collect();
    let count = |of: &dyn Fn(&Played) -> bool| played.iter().filter(|played| of(played)).count();
    let ended = |of: fn(&End) -> bool| count(&|played| played.ended.as_ref().is_some_and(of));
    let counts = [
        ("controls", count(&|played| played.controlled)),
        ("stopped", ended(|end| *end == End::Stopped)),
        ("fenced", ended(|end| matches!(end, End::Fenced(_)))),
        ("the first failed", ended(|end| matches!(end, End::Failed(_)))),
        ("the first was not started", ended(|end| matches!(end, End::NotStarted(_)))),
        ("an upgrade kept", count(&|played| played.upgrades_kept > 0)),
        ("an upgrade returned", count(&|played| played.upgrades_returned > 0)),
    ];
    eprintln!("{seeds} seeds: {counts:?}");
    assert!(counts.iter().all(|(_, count)| *count > 0), "all of it comes about: {counts:?}");
}
