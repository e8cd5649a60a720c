//! What the demonstration found: the table that people read, and the JSON that scripts read.

use std::fmt::Write as _;

use serde::Serialize;

use crate::text::{count, microseconds, thousands};

/// By which path control came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// The table lived.
    Cache,
    /// It did not, and a snapshot of it was there.
    Snapshot,
    /// Nor was that.
    Database,
}

/// What was done to the dispatch server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum What {
    /// SIGKILL to the engine.
    #[serde(rename = "engine")]
    Engine,
    /// SIGKILL to an engine that is recovering.
    #[serde(rename = "engine during recovery")]
    EngineDuringRecovery,
    /// SIGKILL to both processes.
    #[serde(rename = "engine and keeper")]
    EngineAndKeeper,
    /// The same, and all memory gone.
    #[serde(rename = "reboot")]
    Reboot,
    /// SIGTERM, and started again.
    #[serde(rename = "clean restart")]
    CleanRestart,
}

impl What {
    /// In the words of the table.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Engine => "engine killed",
            Self::EngineDuringRecovery => "engine killed while recovering",
            Self::EngineAndKeeper => "engine and keeper killed",
            Self::Reboot => "both killed, memory gone",
            Self::CleanRestart => "stopped and started again",
        }
    }

    /// Whether every frame has to survive it: the sockets outlive the engine, and nothing else.
    pub const fn keeps_frames(self) -> bool {
        matches!(self, Self::Engine | Self::EngineDuringRecovery)
    }

    /// Whether this path may serve. After a reboot it is the snapshot, if one was written by then.
    pub const fn may_be_by(self, path: Path) -> bool {
        matches!(self, Self::Reboot) != matches!(path, Path::Cache)
    }
}

/// One fault and what came of it. Times are from the kill, on the clock that both ends of the veth
/// pair share; takeovers and acknowledgements are those seen at the autonomous servers' end.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Fault {
    /// What was done.
    pub what: What,
    /// By which path control came back.
    pub path: Path,
    /// Until it was noticed.
    pub kill_to_detect_us: f64,
    /// Until the first takeover frame.
    pub kill_to_first_takeover_us: f64,
    /// Until the last takeover was answered.
    pub kill_to_all_acknowledged_us: f64,
    /// Until the last autonomous server's audit agreed.
    pub kill_to_reconciled_us: f64,
    /// Conferences under the new epoch.
    pub meetings_taken_over: usize,
    /// Frames that reached the interface and were never answered.
    pub frames_lost: u64,
    /// Operations that were answered as done, and are not so now.
    pub operations_acknowledged_then_lost: u64,
}

/// The whole demonstration.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// Conferences held.
    pub meetings: usize,
    /// Terminals in them.
    pub terminals: usize,
    /// Autonomous servers that hold them.
    pub autonomous_servers: usize,
    /// Reports that were answered, over the whole demonstration.
    pub reports_acknowledged: u64,
    /// Of these, not in the table at the end.
    pub reports_acknowledged_then_lost: u64,
    /// Operations that were answered as done, over the whole demonstration.
    pub operations_acknowledged: u64,
    /// Conferences that dispatch server and autonomous servers do not agree on.
    pub meetings_differing: usize,
    /// Terminals that they do not agree on.
    pub terminals_differing: usize,
    /// In the order in which they were done.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Everything that must not be, each in a sentence; nothing if all is well.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut check = |wrong: bool, sentence: String| {
            if wrong {
                complaints.push(sentence);
            }
        };
        let lost = self.reports_acknowledged_then_lost;
        check(lost > 0, format!("{} were acknowledged and are lost", count(lost, "report")));
        check(self.reports_acknowledged == 0, "no report was acknowledged at all".into());
        check(self.operations_acknowledged == 0, "no operation was acknowledged at all".into());
        let differing = self.meetings_differing as u64;
        check(differing > 0, format!("{} differ between the two sides", count(differing, "meeting")));
        let differing = self.terminals_differing as u64;
        check(differing > 0, format!("{} differ between the two sides", count(differing, "terminal")));
        for (number, fault) in self.faults.iter().enumerate() {
            let named = format!("fault {} ({})", number + 1, fault.what.words());
            let lost = fault.frames_lost;
            check(fault.what.keeps_frames() && lost > 0, format!("{named}: {} lost", count(lost, "frame")));
            let lost = fault.operations_acknowledged_then_lost;
            check(lost > 0, format!("{named}: {} acknowledged and lost", count(lost, "operation")));
            let taken = fault.meetings_taken_over;
            let meetings = self.meetings;
            check(taken != meetings, format!("{named}: {taken} meetings taken over, {meetings} were held"));
            check(!fault.what.may_be_by(fault.path), format!("{named}: recovered by {:?}", fault.path));
        }
        complaints
    }

    /// The table, and a line beneath it.
    pub fn table(&self) -> String {
        let header = [
            "",
            "what happened",
            "path",
            "noticed",
            "takeover",
            "of all",
            "reconciled",
            "meetings",
            "frames lost",
            "operations lost",
        ];
        let mut rows = vec![header.map(str::to_owned)];
        for (number, fault) in self.faults.iter().enumerate() {
            rows.push([
                (number + 1).to_string(),
                fault.what.words().to_owned(),
                format!("{:?}", fault.path).to_lowercase(),
                microseconds(fault.kill_to_detect_us),
                microseconds(fault.kill_to_first_takeover_us),
                microseconds(fault.kill_to_all_acknowledged_us),
                microseconds(fault.kill_to_reconciled_us),
                thousands(fault.meetings_taken_over as u64),
                thousands(fault.frames_lost),
                thousands(fault.operations_acknowledged_then_lost),
            ]);
        }
        let widths: [usize; 10] =
            std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
        let mut text = String::new();
        for (number, row) in rows.iter().enumerate() {
            let mut line = String::from(" ");
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                // Words to the left, figures to the right, so that their digits stand below each
                // other.
                let _ = if column <= 2 { write!(line, " {cell:<width$} ") } else { write!(line, " {cell:>width$} ") };
            }
            let _ = writeln!(text, "{}", line.trim_end());
            if number == 0 {
                let _ = writeln!(text, "  {}", "─".repeat(widths.iter().sum::<usize>() + 2 * widths.len() - 2));
            }
        }
        let _ = writeln!(
            text,
            "\n  {} of {} taken over; {} and {} acknowledged.",
            count(self.meetings as u64, "meeting"),
            count(self.terminals as u64, "terminal"),
            count(self.reports_acknowledged, "report"),
            count(self.operations_acknowledged, "operation"),
        );
        let _ = writeln!(
            text,
            "  Both sides compared, meeting by meeting and terminal by terminal: {} and {} differ.",
            count(self.meetings_differing as u64, "meeting"),
            count(self.terminals_differing as u64, "terminal"),
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(what: What) -> Fault {
        Fault {
            what,
            path: if what == What::Reboot { Path::Database } else { Path::Cache },
            kill_to_detect_us: 1.0,
            kill_to_first_takeover_us: 999.4,
            kill_to_all_acknowledged_us: 12_345.0,
            kill_to_reconciled_us: 2_000_000.0,
            meetings_taken_over: 1000,
            frames_lost: 0,
            operations_acknowledged_then_lost: 0,
        }
    }

    fn report() -> Report {
        Report {
            meetings: 1000,
            terminals: 10_000,
            autonomous_servers: 4,
            reports_acknowledged: 1_234_567,
            reports_acknowledged_then_lost: 0,
            operations_acknowledged: 77,
            meetings_differing: 0,
            terminals_differing: 0,
            faults: vec![fault(What::Engine), fault(What::Reboot)],
        }
    }

    #[test]
    fn a_run_without_loss_has_no_complaint() {
        assert_eq!(report().complaints(), Vec::<String>::new());
    }

    #[test]
    fn every_loss_is_a_complaint() {
        let ways: [fn(&mut Report); 8] = [
            |report| report.reports_acknowledged_then_lost = 1,
            |report| report.reports_acknowledged = 0,
            |report| report.meetings_differing = 1,
            |report| report.terminals_differing = 1,
            |report| report.faults[0].frames_lost = 1,
            |report| report.faults[1].operations_acknowledged_then_lost = 1,
            |report| report.faults[0].meetings_taken_over = 999,
            |report| report.faults[1].path = Path::Cache,
        ];
        for (number, way) in ways.iter().enumerate() {
            let mut report = report();
            way(&mut report);
            assert_eq!(report.complaints().len(), 1, "way {number}");
        }
        let mut report = report();
        report.faults[1].frames_lost = 5;
        assert!(report.complaints().is_empty(), "a rebooted machine hears nothing while it is down");
    }

    #[test]
    fn figures_stand_below_each_other() {
        let table = report().table();
        let rows: Vec<_> = table.lines().take(4).map(|line| line.chars().count()).collect();
        assert!(rows.iter().all(|&length| length == rows[0]), "{table}");
        assert!(table.contains("999 µs") && table.contains("12.3 ms") && table.contains("2.00 s"), "{table}");
    }

    #[test]
    fn the_json_bears_the_names_that_scripts_look_for() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["faults"][0]["what"], "engine");
        assert_eq!(json["faults"][1]["path"], "database");
        assert_eq!(json["faults"][0]["kill_to_first_takeover_us"], 999.4);
        let during = serde_json::to_value(What::EngineDuringRecovery).unwrap();
        assert_eq!(during, "engine during recovery");
    }
}
