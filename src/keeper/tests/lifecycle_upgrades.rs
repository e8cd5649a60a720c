//! Upgrades, one event after the other.

use std::time::Duration;

use super::lifecycle_case::{Case, HANG, TRIAL, exit, standing, upgrade};
use crate::handover::UpgradeForm;
use crate::handover::compat::Identity;
use crate::handover::protocol::Notice;
use crate::keeper::lifecycle::{Action, EngineId, ExitStatus, Input, Outcome, StartFailure};
use crate::limits::{UPGRADE_READY, UPGRADE_YIELD};

fn foreign() -> Notice {
    let ours = Identity::ours();
    Notice::Standing { program: Identity { wire: ours.wire + 1, ..ours } }
}

/// Engine 3, of a new program, has been handed the locks by engine 1, and says nothing yet.
fn handed_over() -> Case {
    let mut case = Case::with_candidate();
    assert_eq!(case.says(3, standing()), ["3 stands by", "let 2 go", "1 yields"]);
    case
}

#[test]
fn a_program_that_stands_its_trial_is_kept_and_stands_by_too() {
    let mut case = Case::with_trial();
    let kept = ["3's program is kept", "start candidate 5 of the kept program"];
    assert_eq!(case.after(Duration::from_secs(TRIAL)), kept);
    assert_eq!(case.says(5, standing()), ["5 stands by", "let 4 go"]);
    assert_eq!(case.exits(5, ExitStatus::Kill), ["no standby for 1s"]);
    assert_eq!(case.after(HANG), ["start standby 6 of the kept program"]);
}

#[test]
fn a_new_program_that_does_not_come_to_stand_by_is_refused_and_all_is_as_it_was() {
    let ends: [fn(&mut Case) -> Vec<String>; 4] = [
        |case| case.exits(3, ExitStatus::Code(1)),
        |case| case.says(3, foreign()),
        |case| case.after(UPGRADE_READY),
        |case| {
            case.says(3, Notice::Failed { why: "no good".into() });
            case.exits(3, ExitStatus::Code(1))
        },
    ];
    for end in ends {
        let mut case = Case::with_candidate();
        assert_eq!(end(&mut case), ["1 stays", "let 3 go"]);
        assert_eq!(case.exits(1, ExitStatus::Kill), ["2 followed"]);
    }
}

#[test]
fn an_upgrade_is_refused_by_the_name_of_what_stands_in_its_way() {
    let refused = |case: &mut Case, notice| {
        case.sees_only(Input::Notice(case.lifecycle.controller().unwrap(), notice));
        let actions = case.actions();
        let why = actions.iter().find_map(|action| match action {
            Action::Log(event) => Some(event.to_string()),
            _ => None,
        });
        why.unwrap_or_else(|| panic!("{actions:?}"))
    };
    let mut case = Case::with_standby();
    let form = UpgradeForm { within: 0 };
    assert!(refused(&mut case, Notice::Upgrade { form }).starts_with("no upgrade: "));
    case.refuses = Some(StartFailure::NoFile("No such file".into()));
    assert_eq!(refused(&mut case, upgrade()), "no upgrade: /usr/bin/baton cannot be started: No such file");
    case.refuses = Some(StartFailure::Program("Exec format error".into()));
    let said = refused(&mut case, upgrade());
    assert!(said.ends_with("Exec format error (it runs as the engines' user)"), "{said}");
    assert!(refused(&mut Case::with_candidate(), upgrade()).contains("under way"));
    assert!(refused(&mut Case::with_trial(), upgrade()).contains("on trial"));
    let mut case = Case::with_standby();
    case.lifecycle.handle_table(false);
    assert!(refused(&mut case, upgrade()).contains("recovery is under way"));
}

/// Nothing is started for a server that stops.
#[test]
fn an_upgrade_of_a_server_that_stops_is_refused() {
    let mut case = Case::with_standby();
    case.sees(Input::Stop);
    assert_eq!(case.says(1, upgrade()), ["1 stays"]);
}

#[test]
fn an_engine_stays_when_the_one_that_it_was_to_hand_over_to_dies_first() {
    let mut case = handed_over();
    assert_eq!(case.exits(3, ExitStatus::Kill), ["3 failed in its trial", "1 stays", "no standby for 1s"]);
    assert!(case.after(UPGRADE_YIELD).iter().all(|done| done == "start standby 4"), "it is not killed for staying");
}

#[test]
fn an_engine_that_does_not_hand_over_is_killed_and_the_new_program_follows() {
    let mut case = handed_over();
    assert_eq!(case.after(UPGRADE_YIELD), ["kill 1"]);
    assert_eq!(case.exits(1, ExitStatus::Kill), ["3 followed"]);
    assert_eq!(case.says(3, Notice::Ready), ["3 controls", "3 on trial"]);
}

/// Two clients: the second asks as the order to hand over is on its way. Told that there is no
/// upgrade, the engine would go on, and be killed for it.
#[test]
fn an_engine_that_asks_as_it_is_ordered_to_hand_over_is_not_told_to_stay() {
    assert!(handed_over().says(1, upgrade()).is_empty());
}

#[test]
fn a_new_program_that_never_controls_is_returned_from_without_a_pause() {
    let mut case = handed_over();
    assert_eq!(case.exits(1, ExitStatus::SUCCESS), ["3 followed"]);
    assert_eq!(case.after(HANG), ["kill 3"]);
    assert_eq!(case.exits(3, ExitStatus::Kill), ["3 failed in its trial", "start 4"]);
}

/// The proof of its end came after the trial's, and its program was kept.
#[test]
fn a_program_that_is_dead_or_to_die_at_the_end_of_its_trial_is_not_kept() {
    let mut case = Case::with_trial();
    case.now = case.now + Duration::from_secs(TRIAL - 1);
    // Its standby has its locks, and the kernel is still taking it apart.
    assert_eq!(case.says(4, Notice::Ready), ["4 controls"]);
    assert_eq!(case.after(Duration::from_secs(2)), ["start standby 5"]);
    assert_eq!(case.exits(3, ExitStatus::Segv), ["3 failed in its trial", "4 followed"]);

    let mut case = Case::with_trial();
    case.now = case.now + Duration::from_secs(TRIAL - 1);
    case.sees(Input::Distrusted(EngineId(3), "said what makes no sense"));
    assert!(case.after(Duration::from_secs(2)).is_empty());
    assert_eq!(case.exits(3, ExitStatus::Kill), ["3 failed in its trial", "4 followed"]);
}

/// The last upgrade was on trial for ever, and every further one refused.
#[test]
fn a_trial_ends_with_an_engine_that_is_ended_for_another_reason() {
    // The table was cut, and nobody who has it is kept: neither one that is on trial, nor one that
    // is to be.
    let mut case = Case::with_trial();
    let done = case.exits_with(4, ExitStatus::Bus, true);
    assert_eq!(done, ["let 3 go", "3 failed in its trial", "judge the table", "no standby for 1s"]);
    assert!(case.lifecycle.is_at_rest());
    let mut case = handed_over();
    case.sees(Input::Silent(EngineId(3)));
    let done = case.exits_with(1, ExitStatus::Bus, true);
    assert_eq!(done, ["3 followed", "let 3 go", "3 failed in its trial", "judge the table"]);
    assert!(case.lifecycle.is_at_rest());
    let mut case = Case::with_standby();
    case.says(2, Notice::Ready);
    case.after(HANG);
    case.says(3, standing());
    case.says(2, upgrade());
    assert_eq!(case.says(4, standing()), ["4 stands by", "let 3 go", "2 yields"]);
    let done = case.exits_with(1, ExitStatus::Bus, true);
    assert_eq!(done, ["2 followed", "let 4 go", "4 failed in its trial", "2 stays", "let 2 go", "judge the table"]);

    // It died, its end is not seen yet, and what engines work with is made anew.
    let mut case = Case::with_trial();
    case.says(4, Notice::Ready);
    let mut engine = 4;
    while !case.lifecycle.is_at_rest() {
        assert!(engine < 10, "three in a row that came to nothing");
        case.exits(engine, ExitStatus::Segv);
        engine += 1;
    }
}

#[test]
fn a_kept_program_that_cannot_be_started_any_more_gives_way_to_the_keepers_own() {
    let mut case = Case::with_trial();
    case.after(Duration::from_secs(TRIAL));
    case.says(5, standing());
    case.exits(5, ExitStatus::Kill);
    case.refuses = Some(StartFailure::Program("Exec format error".into()));
    let done = ["start standby 6 of the kept program", "the kept program is dropped", "start standby 6"];
    assert_eq!(case.after(HANG), done);
}

#[test]
fn a_kept_program_whose_engines_crash_gives_way_and_one_whose_engines_are_killed_does_not() {
    for (status, gives_way) in [(ExitStatus::Segv, true), (ExitStatus::Kill, false)] {
        let mut case = Case::with_trial();
        case.after(Duration::from_secs(TRIAL));
        case.says(5, standing());
        case.exits(5, ExitStatus::Kill);
        let mut done = case.exits(3, ExitStatus::Kill);
        for _ in 0..20 {
            if let Some(engine) = case.engine() {
                done.extend(case.exits(engine, status));
            }
            done.extend(case.after(Duration::from_secs(10)));
        }
        assert_eq!(done.iter().any(|done| done == "the kept program is dropped"), gives_way, "{done:?}");
    }
}

#[test]
fn how_an_upgrade_does_is_told_to_each_engine_that_comes_to_control() {
    let outcomes = |case: &mut Case| -> Vec<_> {
        let told = case.actions().into_iter().filter_map(|action| match action {
            Action::ReportUpgrade { engine, outcome } => Some((engine.0, outcome)),
            _ => None,
        });
        told.collect()
    };
    let mut case = handed_over();
    case.sees_only(Input::Notice(EngineId(3), Notice::Ready));
    let until = case.now + Duration::from_secs(TRIAL);
    assert_eq!(outcomes(&mut case), [(3, Outcome::Trial { until })]);
    case.sees_only(Input::Exited(EngineId(3), exit(ExitStatus::Segv)));
    assert!(outcomes(&mut case).is_empty(), "nobody is there to be told");
    let why = "engine 103 crashed (SIGSEGV)".to_owned();
    case.sees_only(Input::Notice(EngineId(4), Notice::Ready));
    assert_eq!(outcomes(&mut case), [(4, Outcome::Returned { why })]);
}
