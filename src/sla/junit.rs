//! Verdicts as JUnit XML for CI: one test case for each rule.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::evaluate::Verdicts;

/// The document. `say` describes a verdict in words.
///
/// # Errors
/// The writer's.
pub fn junit(
    verdicts: &Verdicts,
    suite: &str,
    say: impl Fn(&super::Verdict) -> String,
) -> Result<String, quick_junit::SerializeError> {
    let mut cases = TestSuite::new(suite);
    for verdict in &verdicts.rules {
        let mut status = match verdict.verdict {
            "held" => TestCaseStatus::success(),
            "breached" => TestCaseStatus::non_success(NonSuccessKind::Failure),
            _ => TestCaseStatus::non_success(NonSuccessKind::Error),
        };
        if verdict.verdict != "held" {
            status.set_message(say(verdict));
        }
        let mut case = TestCase::new(verdict.rule.clone(), status);
        case.set_classname("sla");
        case.set_system_out(say(verdict));
        cases.add_test_case(case);
    }
    let mut report = Report::new("baton sla");
    report.add_test_suite(cases);
    report.to_string()
}
