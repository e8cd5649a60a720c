//! `baton recovery`: what the last recovery was like, and what it left to be decided.

use std::process::ExitCode;

use hyper::Method;
use serde::Deserialize;

use super::client::{self, Client, ClientArgs, ClientError, CommandError};
use super::columns::print_table;
use crate::api::Orphan;
use crate::output::{self, say};
use crate::recovery::{Report, ServerReport, Warmed};
use crate::text::nanoseconds;
use crate::wire::MeetingId;

/// What the last recovery was like.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Times and counts of the last recovery, over all and by autonomous server
    Last,
    /// Meetings that autonomous servers hold and this server does not know
    Orphans,
    /// Make some of these conferences of this server's, even if the configuration says to leave
    /// orphans
    Adopt {
        /// Their ids
        #[arg(required = true)]
        meetings: Vec<MeetingId>,
    },
    /// End some of these at their autonomous servers
    End {
        /// Their ids
        #[arg(required = true)]
        meetings: Vec<MeetingId>,
    },
}

pub fn run(args: &Args) -> ExitCode {
    let json = args.client.json;
    let mut client = args.client.client();
    match &args.command {
        Command::Adopt { meetings } => {
            client::run(async move { client.decide(meetings, "adopt", "is being adopted", json).await })
        }
        Command::End { meetings } => {
            client::run(async move { client.decide(meetings, "end", "is being ended", json).await })
        }
        Command::Last => client::run(async move {
            let (report, value) = client.get::<Option<serde_json::Value>>("/recovery/last").await?;
            match report {
                _ if json => output::json(&value),
                None => say!("this engine has recovered nothing yet"),
                Some(report) => {
                    let snapshot = report.get("snapshot").cloned().unwrap_or_default();
                    let snapshot = Option::<Warmed>::deserialize(snapshot).unwrap_or_default();
                    let report = Report::deserialize(report).map_err(|error| ClientError::foreign(&error))?;
                    show(&report, snapshot.as_ref());
                }
            }
            Ok(())
        }),
        Command::Orphans => client::run(async move {
            let (orphans, value) = client.get::<Vec<Orphan>>("/orphans").await?;
            if json {
                output::json(&value);
            } else {
                let rows = orphans.iter().map(|orphan| {
                    [
                        orphan.meeting.to_string(),
                        orphan.domain.to_string(),
                        orphan.state.to_string(),
                        orphan.level.number().to_string(),
                        orphan.participants.to_string(),
                        orphan.controller.to_string(),
                    ]
                });
                let heads = ["MEETING", "DOMAIN", "STATE", "LEVEL", "MEMBERS", "LAST EPOCH"];
                print_table(heads, &rows.collect::<Vec<_>>());
            }
            Ok(())
        }),
    }
}

impl Client {
    /// Has something become of each of these orphans. All are asked for, though one is refused;
    /// the first refusal is told.
    async fn decide(&mut self, meetings: &[MeetingId], what: &str, told: &str, json: bool) -> Result<(), CommandError> {
        let mut failed = None;
        for meeting in meetings {
            match self.call(Method::POST, &format!("/orphans/{meeting}/{what}"), None).await {
                Ok(answer) if json => say!("{answer:#}"),
                Ok(_) => say!("orphan {meeting} {told}"),
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(()), |error: ClientError| Err(error.into()))
    }
}

fn show(report: &Report, snapshot: Option<&Warmed>) {
    say!("by the {} path, under epoch {}; times since it began", name(&report.path), report.epoch);
    if let Some(snapshot) = snapshot {
        say!("snapshot: {snapshot}");
    }
    let line = |what: &str, time: String| say!("{what:<26} {time:>12}");
    let is_over = report.reconciled_ns.is_some();
    line("first takeover sent", takeover(report.first_takeover_ns, is_over));
    line("all takeovers answered", takeover(report.all_acknowledged_ns, is_over));
    line("both sides agree", duration(report.reconciled_ns));
    say!();
    let rows = report.servers.iter().map(|server: &ServerReport| {
        let progress = &server.progress;
        [
            server.domain.to_string(),
            name(&server.phase),
            progress.taken_over.to_string(),
            progress.updated.to_string(),
            progress.missing.to_string(),
            progress.orphans.to_string(),
            progress.repeated.to_string(),
            takeover(server.first_takeover_ns, server.reconciled_ns.is_some()),
            takeover(server.all_acknowledged_ns, server.reconciled_ns.is_some()),
            duration(server.reconciled_ns),
        ]
    });
    let heads = [
        "DOMAIN",
        "PHASE",
        "TAKEN OVER",
        "UPDATED",
        "MISSING",
        "ORPHANS",
        "REPEATED",
        "FIRST TAKEOVER",
        "ALL ANSWERED",
        "AGREED",
    ];
    print_table(heads, &rows.collect::<Vec<_>>());
}

/// An enumeration's name as the API writes it, for people.
fn name(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or("?").replace('_', " ")
}

/// When a takeover was; where both sides agree without one, there was nothing to take over.
fn takeover(ns: Option<u64>, is_over: bool) -> String {
    if ns.is_none() && is_over { "none needed".into() } else { duration(ns) }
}

fn duration(ns: Option<u64>) -> String {
    ns.map_or_else(|| "not yet".into(), nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_takeover_needed_none() {
        let told = [(None, false), (None, true), (Some(1_500), true)].map(|(ns, is_over)| takeover(ns, is_over));
        assert_eq!(told, ["not yet", "none needed", "1.50 µs"]);
    }
}
