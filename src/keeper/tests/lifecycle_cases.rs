//! Orders of deaths, words and signals, one by one, and what the lifecycle makes of each.

use std::time::Duration;

use super::lifecycle_case::{Case, HANG, TRIAL, brief, exit, standing};
use crate::cascade::Hop;
use crate::handover::protocol::{Notice, Order};
use crate::keeper::lifecycle::{Action, End, EngineId, ExitStatus, Input, Kill, Purpose, StartFailure};
use crate::limits::{HANG_LOOKS, RESTARTS_FREE, STANDBY_READY};
use crate::wire::{Domain, Epoch, Mac};

fn orders(events: &str) -> Vec<String> {
    if events.is_empty() {
        return vec![String::new()];
    }
    let all = events.char_indices().flat_map(|(at, event)| {
        let others = [&events[..at], &events[at + 1..]].concat();
        orders(&others).into_iter().map(move |order| format!("{event}{order}"))
    });
    all.collect()
}

/// Plays every order of the events; gives what was done at each, and what when the engine that is
/// left did as it was told and ended.
fn in_every_order(events: &str, begin: fn() -> Case, happen: fn(&mut Case, char) -> Vec<String>) -> Vec<String> {
    let play = |order: String| {
        let mut case = begin();
        let mut done: Vec<_> =
            order.chars().map(|event| format!("{event} {}", happen(&mut case, event).join(", "))).collect();
        if let Some(last) = case.engine() {
            done.push(format!("- {}", case.exits(last, ExitStatus::SUCCESS).join(", ")));
        }
        done.iter().map(|done| done.trim_end()).collect::<Vec<_>>().join("; ")
    };
    orders(events).into_iter().map(play).collect()
}

/// An upgrade was asked for, and engine 3 is of the new program. The engine is killed (E), the
/// standby is killed (S), the new program stands by (U), a stop is asked for (T): in every order,
/// one right after the other. An engine that was let go neither speaks nor ends.
#[test]
fn deaths_an_upgrade_and_a_stop_in_every_order() {
    let done = in_every_order("ESUT", Case::with_candidate, |case, event| match event {
        'E' => case.exits(1, ExitStatus::Kill),
        'S' => case.exits(2, ExitStatus::Kill),
        'U' => case.says(3, standing()),
        _ => case.sees(Input::Stop),
    });
    assert_eq!(
        done,
        [
            "E let 3 go, 2 followed; S start 4; U; T 4 stops; - end: Stopped",
            "E let 3 go, 2 followed; S start 4; T 4 stops; U; - end: Stopped",
            "E let 3 go, 2 followed; U; S start 4; T 4 stops; - end: Stopped",
            "E let 3 go, 2 followed; U; T 2 stops; S end: Stopped",
            "E let 3 go, 2 followed; T 2 stops; S end: Stopped; U",
            "E let 3 go, 2 followed; T 2 stops; U; S end: Stopped",
            "S no standby for 1s; E let 3 go, start 4; U; T 4 stops; - end: Stopped",
            "S no standby for 1s; E let 3 go, start 4; T 4 stops; U; - end: Stopped",
            "S no standby for 1s; U 3 stands by, 1 yields; E 3 followed; T 3 stops; - end: Stopped",
            "S no standby for 1s; U 3 stands by, 1 yields; T let 3 go, 1 stops; E end: Stopped",
            "S no standby for 1s; T let 3 go, 1 stops; E end: Stopped; U",
            "S no standby for 1s; T let 3 go, 1 stops; U; E end: Stopped",
            "U 3 stands by, let 2 go, 1 yields; E 3 followed; S; T 3 stops; - end: Stopped",
            "U 3 stands by, let 2 go, 1 yields; E 3 followed; T 3 stops; S; - end: Stopped",
            "U 3 stands by, let 2 go, 1 yields; S; E 3 followed; T 3 stops; - end: Stopped",
            "U 3 stands by, let 2 go, 1 yields; S; T let 3 go, 1 stops; E end: Stopped",
            "U 3 stands by, let 2 go, 1 yields; T let 3 go, 1 stops; E end: Stopped; S",
            "U 3 stands by, let 2 go, 1 yields; T let 3 go, 1 stops; S; E end: Stopped",
            "T let 2 go, let 3 go, 1 stops; E end: Stopped; S; U",
            "T let 2 go, let 3 go, 1 stops; E end: Stopped; U; S",
            "T let 2 go, let 3 go, 1 stops; S; E end: Stopped; U",
            "T let 2 go, let 3 go, 1 stops; S; U; E end: Stopped",
            "T let 2 go, let 3 go, 1 stops; U; E end: Stopped; S",
            "T let 2 go, let 3 go, 1 stops; U; S; E end: Stopped",
        ]
    );
}

/// Engine 3 is on trial, and engine 4, of the program before, stands by. The engine is killed, and
/// its standby controls if it can (E); the standby is killed (S); the time of the trial is over
/// (K); a stop is asked for (T).
#[test]
fn deaths_the_end_of_a_trial_and_a_stop_in_every_order() {
    let done = in_every_order("ESKT", Case::with_trial, |case, event| match event {
        'E' => [case.exits(3, ExitStatus::Kill), case.says(4, Notice::Ready)].concat(),
        'S' => case.exits(4, ExitStatus::Kill),
        'K' => case.after(Duration::from_secs(TRIAL)),
        _ => case.sees(Input::Stop),
    });
    assert_eq!(
        done,
        [
            "E 3 failed in its trial, 4 followed, 4 controls; S start 5; K; T 5 stops; - end: Stopped",
            "E 3 failed in its trial, 4 followed, 4 controls; S start 5; T 5 stops; K kill 5; - end: Stopped",
            "E 3 failed in its trial, 4 followed, 4 controls; K start standby 5; S kill 5, start 6, let 5 go; T 6 stops; - end: Stopped",
            "E 3 failed in its trial, 4 followed, 4 controls; K start standby 5; T let 5 go, 4 stops; S end: Stopped",
            "E 3 failed in its trial, 4 followed, 4 controls; T 4 stops; S end: Stopped; K",
            "E 3 failed in its trial, 4 followed, 4 controls; T 4 stops; K kill 4; S end: Stopped",
            "S no standby for 1s; E 3 failed in its trial, start 5; K; T 5 stops; - end: Stopped",
            "S no standby for 1s; E 3 failed in its trial, start 5; T 5 stops; K kill 5; - end: Stopped",
            "S no standby for 1s; K 3's program is kept, start standby 5 of the kept program; E kill 5, start 6 of the kept program, let 5 go; T 6 stops; - end: Stopped",
            "S no standby for 1s; K 3's program is kept, start standby 5 of the kept program; T let 5 go, 3 stops; E end: Stopped",
            "S no standby for 1s; T 3 stops; E end: Stopped; K",
            "S no standby for 1s; T 3 stops; K kill 3; E end: Stopped",
            "K 3's program is kept, start candidate 5 of the kept program; E let 5 go, 4 followed, 4 controls; S start 6 of the kept program; T 6 stops; - end: Stopped",
            "K 3's program is kept, start candidate 5 of the kept program; E let 5 go, 4 followed, 4 controls; T 4 stops; S end: Stopped",
            "K 3's program is kept, start candidate 5 of the kept program; S no standby for 1s; E let 5 go, start 6 of the kept program; T 6 stops; - end: Stopped",
            "K 3's program is kept, start candidate 5 of the kept program; S no standby for 1s; T let 5 go, 3 stops; E end: Stopped",
            "K 3's program is kept, start candidate 5 of the kept program; T let 4 go, let 5 go, 3 stops; E end: Stopped; S",
            "K 3's program is kept, start candidate 5 of the kept program; T let 4 go, let 5 go, 3 stops; S; E end: Stopped",
            "T let 4 go, 3 stops; E end: Stopped; S; K",
            "T let 4 go, 3 stops; E end: Stopped; K; S",
            "T let 4 go, 3 stops; S; E end: Stopped; K",
            "T let 4 go, 3 stops; S; K kill 3; E end: Stopped",
            "T let 4 go, 3 stops; K kill 3; E end: Stopped; S",
            "T let 4 go, 3 stops; K kill 3; S; E end: Stopped",
        ]
    );
}

#[test]
fn an_engine_that_dies_without_a_standby_is_replaced_at_once_under_new_locks() {
    let mut case = Case::new();
    assert_eq!(case.does(), ["start 1"]);
    case.says(1, Notice::Ready);
    case.sees_only(Input::Exited(EngineId(1), exit(ExitStatus::Segv)));
    let actions = case.actions();
    let place = |of: fn(&Action) -> bool| actions.iter().position(of).expect("it is done");
    let start = place(|action| matches!(action, Action::Start(_)));
    assert!(place(|action| *action == Action::RenewLocks) < start);
    assert!(place(|action| matches!(action, Action::Log(_))) > start, "the successor first, the log line after");
    let Action::Start(start) = &actions[start] else { unreachable!("it was found as one") };
    let Purpose::Control { predecessor: Some(death) } = &start.purpose else { panic!("{start:?}") };
    assert_eq!((death.pid, &*death.how, death.noticed_ns), (101, "crashed (SIGSEGV)", case.now.0));
}

/// Under new locks it would control beside one that has the old ones: the standby is told to die,
/// and lives yet.
#[test]
fn a_standby_that_does_not_stand_by_is_not_waited_for_and_the_locks_are_kept_while_it_lives() {
    let mut case = Case::new();
    case.does();
    case.says(1, Notice::Ready);
    assert_eq!(case.after(Duration::from_secs(1)), ["start standby 2"]);
    case.sees_only(Input::Exited(EngineId(1), exit(ExitStatus::Kill)));
    let actions = case.actions();
    assert!(!actions.contains(&Action::RenewLocks), "{actions:?}");
    let done: Vec<_> = actions.iter().filter_map(brief).collect();
    assert_eq!(done, ["kill 2", "start 3", "let 2 go"]);
}

#[test]
fn what_stops_an_engine_by_its_own_word_stops_its_standby_too_before_the_next_is_started() {
    let mut case = Case::with_standby();
    case.says(1, Notice::Failed { why: "no good".into() });
    assert_eq!(case.exits(1, ExitStatus::Code(1)), ["kill 2", "let 2 go", "pause 1s"]);
    assert_eq!(case.after(Duration::from_secs(1)), ["start 3"]);
}

#[test]
fn an_engine_that_says_that_it_ends_and_does_not_is_killed() {
    let mut case = Case::with_standby();
    case.says(1, Notice::Failed { why: "no good".into() });
    assert!(case.lifecycle.poll_timeout().is_some_and(|due| due <= case.now + HANG));
    assert_eq!(case.after(HANG), ["kill 1"]);
}

/// Its standby knows by the locks, which it closed.
#[test]
fn the_standby_of_an_engine_that_gives_up_ends_with_it_and_none_is_started() {
    let mut case = Case::with_standby();
    case.lifecycle.handle_closed_locks(true);
    assert!(case.exits(2, ExitStatus::SUCCESS).is_empty());
    assert!(case.after(HANG / 2).is_empty(), "a standby would only end");
}

#[test]
fn an_engine_that_was_replaced_ends_its_keeper_and_its_standby_does_not_control() {
    for follows in [false, true] {
        let mut case = Case::with_standby();
        case.says(1, Notice::Fenced { epoch: 9 });
        let done = if follows { case.says(2, Notice::Ready) } else { case.exits(1, ExitStatus::SUCCESS) };
        assert_eq!(done, [format!("end: {:?}", End::Fenced(Epoch(9)))]);
        assert!(case.says(2, Notice::Ready).is_empty(), "nothing follows an end");
    }
}

#[test]
fn the_first_engine_that_cannot_go_on_ends_its_keeper() {
    let mut case = Case::new();
    case.does();
    case.says(1, Notice::Failed { why: "no database".into() });
    assert_eq!(case.exits(1, ExitStatus::Code(1)), [r#"end: Failed("no database")"#]);
}

/// What an earlier keeper's engines left in the rings may be what is wrong.
#[test]
fn the_first_engine_that_cannot_go_on_with_rings_that_were_taken_up_has_all_made_anew() {
    let mut case = Case::with(|settings| settings.rings_are_taken_up = true);
    case.does();
    for end in ["judge the table, make all anew, start 2", r#"end: Failed("no good")"#] {
        let engine = case.engine().expect("one was started");
        case.says(engine, Notice::Failed { why: "no good".into() });
        assert_eq!(case.exits(engine, ExitStatus::Code(1)).join(", "), end);
    }
}

#[test]
fn a_first_engine_that_cannot_be_started_ends_its_keeper_and_a_later_one_is_tried_again() {
    let mut case = Case::new();
    case.refuses = Some(StartFailure::Refused("no process left".into()));
    assert_eq!(case.does(), ["start 1", r#"end: NotStarted(Refused("no process left"))"#]);

    let mut case = Case::with_standby();
    case.exits(2, ExitStatus::Kill);
    case.refuses = Some(StartFailure::Refused("no process left".into()));
    assert_eq!(case.exits(1, ExitStatus::Kill), ["start 3", "pause 1s"]);
    case.refuses = None;
    assert_eq!(case.after(Duration::from_secs(1)), ["start 4"]);
}

#[test]
fn an_engine_that_hangs_is_killed_and_control_counts_as_lost_from_when_it_stood_still() {
    let mut case = Case::with_standby();
    let begun = case.now;
    let mut actions = Vec::new();
    for _ in 0..HANG_LOOKS {
        case.now = case.now + HANG / HANG_LOOKS;
        case.lifecycle.handle_timeout(case.now);
        assert!(case.actions().contains(&Action::ReadPulses { threads: 2 }));
        case.lifecycle.handle_pulses([case.now.0, 7].into_iter(), case.now);
        actions.extend(case.actions());
    }
    let since = begun + HANG / HANG_LOOKS;
    let why = Kill::Hangs { thread: 1, limit: HANG };
    let killed = Action::Kill { engine: EngineId(1), pid: 101, why };
    assert_eq!(actions, [Action::NoteHang { since }, killed]);
    assert_eq!(why.to_string(), "hangs: its worker 0 has stood still for 1000 ms (`hang_ms` in [runtime])");
    assert_eq!(case.exits(1, ExitStatus::Kill), ["2 followed"]);
    assert_eq!(case.says(2, Notice::Ready), ["2 controls"]);
}

#[test]
fn a_standby_whose_engine_is_dead_and_that_does_not_take_over_is_killed_and_a_new_engine_started() {
    let mut case = Case::with_standby();
    assert_eq!(case.exits(1, ExitStatus::Kill), ["2 followed"]);
    assert_eq!(case.after(HANG), ["kill 2"]);
    assert_eq!(case.exits(2, ExitStatus::Kill), ["start 3"]);
}

#[test]
fn a_standby_that_does_not_come_to_stand_by_is_killed_and_the_next_is_tried() {
    let mut case = Case::new();
    case.does();
    case.says(1, Notice::Ready);
    assert_eq!(case.after(HANG), ["start standby 2"]);
    assert_eq!(case.after(STANDBY_READY), ["kill 2"]);
    assert_eq!(case.exits(2, ExitStatus::Kill), ["no standby for 1s"]);
    assert_eq!(case.after(HANG), ["start standby 3"]);
}

#[test]
fn an_engine_that_was_followed_and_does_not_end_keeps_nobody_from_standing_by_and_is_killed() {
    let mut case = Case::with_standby();
    assert_eq!(case.says(2, Notice::Ready), ["2 controls"]);
    assert_eq!(case.after(HANG), ["start standby 3"]);
    assert_eq!(case.says(3, standing()), ["3 stands by"]);
    assert_eq!(case.after(Duration::from_secs(5)), ["kill 1"]);
    assert_eq!(case.exits(1, ExitStatus::Kill), ["2 followed"]);
}

/// The starter would refuse more.
#[test]
fn no_standby_is_started_beside_too_many_dead_that_are_still_taken_apart() {
    let mut case = Case::with_standby();
    let mut standby = 2;
    for _ in 0..4 {
        case.says(standby, Notice::Ready);
        standby += 1;
        assert_eq!(case.after(Duration::from_millis(500)), [format!("start standby {standby}")]);
        case.says(standby, standing());
    }
    case.says(standby, Notice::Ready);
    assert!(case.after(Duration::from_millis(500)).is_empty());
    case.exits(1, ExitStatus::Kill);
    assert_eq!(case.after(Duration::from_millis(500)), ["start standby 7"]);
}

#[test]
fn pauses_between_starts_grow_and_are_forgotten_once_an_engine_has_controlled_for_long() {
    let mut case = Case::new();
    case.does();
    let mut pauses = Vec::new();
    for engine in 1..=RESTARTS_FREE + 3 {
        pauses.push(case.exits(engine, ExitStatus::Kill).join(", "));
        case.after(Duration::from_secs(10));
    }
    let free = (2..=RESTARTS_FREE + 1).map(|engine| format!("start {engine}"));
    let paused = ["pause 100ms", "pause 200ms", "pause 400ms"].map(String::from);
    assert_eq!(pauses, free.chain(paused).collect::<Vec<_>>());
    case.says(RESTARTS_FREE + 4, Notice::Ready);
    case.now = case.now + Duration::from_millis(250);
    assert_eq!(case.exits(RESTARTS_FREE + 4, ExitStatus::Kill), [format!("start {}", RESTARTS_FREE + 5)]);
}

#[test]
fn a_table_that_was_cut_while_it_was_in_use_ends_all_that_have_it() {
    let mut case = Case::with_candidate();
    let done = case.exits_with(1, ExitStatus::Bus, true);
    assert_eq!(done, ["let 3 go", "2 followed", "let 2 go", "judge the table"]);
    assert_eq!(case.after(Duration::ZERO), ["start 4"]);
    // A table that is as it should be is none's death.
    case.says(4, Notice::Ready);
    assert_eq!(case.exits_with(4, ExitStatus::Bus, false), ["start 5"]);
}

#[test]
fn an_engine_that_does_not_stop_is_killed_and_one_that_is_asked_again_too() {
    let mut case = Case::with_standby();
    assert_eq!(case.sees(Input::Stop), ["let 2 go", "1 stops"]);
    assert_eq!(case.sees(Input::Stop), ["kill 1"]);
    assert_eq!(case.after(Duration::from_secs(10)), ["kill 1"]);
    assert_eq!(case.after(Duration::from_secs(60)), ["kill 1"]);
    case.lifecycle.handle_unheard_stop();
    assert_eq!(case.does(), ["kill 1"]);
    assert_eq!(case.exits(1, ExitStatus::Kill), ["end: Stopped"]);
}

#[test]
fn a_stop_between_two_engines_ends_at_once() {
    let mut case = Case::new();
    case.does();
    for engine in 1..=RESTARTS_FREE + 1 {
        case.exits(engine, ExitStatus::Kill);
    }
    assert_eq!(case.sees(Input::Stop), ["end: Stopped"]);
}

/// A standby that controls, and says so while its engine's end and a stop are seen.
#[test]
fn what_a_standby_says_is_judged_before_its_engines_end_and_before_a_stop() {
    let case = Case::with_standby();
    let ready = Input::Notice(EngineId(2), Notice::Ready);
    let last = Input::Notice(EngineId(1), Notice::Complete);
    let ended = Input::Exited(EngineId(1), exit(ExitStatus::Kill));
    let mut seen = [Input::Stop, last.clone(), ended.clone(), ready.clone()];
    case.lifecycle.arrange(&mut seen);
    assert_eq!(seen, [last, ready, Input::Stop, ended]);
    let mut case = case;
    let done: Vec<_> = seen.into_iter().flat_map(|input| case.sees(input)).collect();
    assert_eq!(done, ["2 controls", "2 stops", "2 followed"]);
}

#[test]
fn what_an_engine_learns_of_next_hops_is_for_all_that_may_follow_it() {
    let mut case = Case::with_candidate();
    let domain = Domain::new(366).unwrap();
    let hop = Hop { interface: 0, mac: Mac([2, 0, 0, 0, 0, 9]) };
    case.sees_only(Input::Notice(EngineId(1), Notice::NextHop { domain, hop }));
    let to = |engine| Action::Order { engine: EngineId(engine), order: Order::NextHop { domain, hop } };
    assert_eq!(case.actions(), [Action::LearnHop { domain, hop }, to(2), to(3)]);
}
