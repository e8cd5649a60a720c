//! `baton status`: how the server does.

use std::process::ExitCode;
use std::time::Duration;

use super::client::{self, ClientArgs};
use super::columns::print_table;
use crate::api::Status;
use crate::output::{self, say};

/// How the server does.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    client: ClientArgs,
    /// Also what is counted
    #[arg(long)]
    counters: bool,
}

pub fn run(args: &Args) -> ExitCode {
    client::run(async {
        let (status, value) = args.client.client().get::<Status>("/status").await?;
        if args.client.json {
            output::json(&value);
        } else {
            show(&status, args.counters);
        }
        Ok(())
    })
}

fn show(status: &Status, counters: bool) {
    let line = |name: &str, value: String| say!("{name:<18} {value}");
    line("state", status.state_in_words());
    line("epoch", status.epoch.to_string());
    line("engine", format!("process {}, up {:?}", status.pid, whole(Duration::from_millis(status.uptime_ms))));
    line("standby", status.standby.to_string());
    line("program", format!("{}, {}", status.program.version, status.program.path));
    line("upgrade", status.upgrade.to_string());
    line("recovered by", status.path.map_or(String::new(), |path| path.to_string()));
    if let Some(snapshot) = &status.snapshot {
        line("snapshot", snapshot.to_string());
    }
    line("parts", format!("{} of {}", status.parts, status.parts_capacity));
    line("terminals", format!("{} of {}", status.terminals, status.terminals_capacity));
    line("operations", format!("{}, {} commands in flight", status.operations, status.commands_in_flight));
    line("database", status.database.to_string());
    say!();
    let rows = status.domains.iter().map(|domain| {
        [
            domain.domain.to_string(),
            if domain.up { "up" } else { "down" }.to_owned(),
            domain.interface.clone().unwrap_or_else(|| "-".into()),
            domain.mac.clone().unwrap_or_else(|| "-".into()),
            domain.recovery_now(),
            domain.parts.to_string(),
            domain.taken_over.to_string(),
            domain.missing.to_string(),
            domain.orphans.to_string(),
            domain.round_trip_us.map_or("-".into(), |time| time.to_string()),
        ]
    });
    print_table(
        [
            "DOMAIN",
            "LINK",
            "INTERFACE",
            "MAC",
            "RECOVERY",
            "PARTS",
            "TAKEN OVER",
            "MISSING",
            "ORPHANS",
            "ROUND TRIP µs",
        ],
        &rows.collect::<Vec<_>>(),
    );
    if counters {
        say!();
        let rows = status.counters.iter().map(|(name, value)| [name.clone(), value.to_string()]);
        print_table(["COUNTER", "VALUE"], &rows.collect::<Vec<_>>());
    }
    if !status.stages.is_empty() {
        say!();
        let micros = |ns: u64| format!("{:.1}", ns as f64 / 1000.0);
        let rows = status.stages.iter().map(|stage| {
            let [p50, p99, p999, max] = [stage.p50_ns, stage.p99_ns, stage.p999_ns, stage.max_ns].map(micros);
            [stage.stage.clone(), stage.count.to_string(), p50, p99, p999, max]
        });
        print_table(["STAGE", "COUNT", "P50 µs", "P99 µs", "P99.9 µs", "MAX µs"], &rows.collect::<Vec<_>>());
    }
}

/// Beyond a second nobody reads milliseconds.
fn whole(time: Duration) -> Duration {
    if time > Duration::from_secs(1) { Duration::from_secs(time.as_secs()) } else { time }
}
