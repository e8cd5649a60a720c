//! `baton upgrade`: hands over to the program as it is on disk now.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::client::{self, Client, ClientArgs, ClientError, CommandError};
use crate::api::Status;
use crate::cms::RefusalKind;
use crate::handover::{UpgradeState, Upgrading};
use crate::limits::UPGRADE_TRIAL_S;
use crate::output::{self, say};

/// How long another engine may take to say that it controls.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Hand over to the program as it is on disk now, and back if it fails.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    client: ClientArgs,
    /// If the new program fails within so many seconds, the one before takes over from it at once
    #[arg(long, value_name = "SECONDS", default_value_t = UPGRADE_TRIAL_S)]
    within: u64,
}

pub fn run(args: &Args) -> ExitCode {
    let mut client = args.client.client();
    client::run(async move {
        let (before, _) = client.get::<Status>("/status").await?;
        let answer = client.call(Method::POST, "/upgrade", Some(&json!({ "within": args.within }))).await?;
        let upgrading = Upgrading::deserialize(answer).map_err(|error| ClientError::foreign(&error))?;
        let (after, value) = successor(&mut client, before.pid, &upgrading).await?;
        if args.client.json {
            output::json(&value);
        } else {
            let (was, is) = (&before.program, &after.program);
            say!("engine {} ({}) handed over to engine {} ({})", before.pid, was.version, after.pid, is.version);
            say!("program {}", is.path);
            say!("epoch {}, was {}", after.epoch, before.epoch);
            say!("{}", after.upgrade);
        }
        Ok(())
    })
}

/// Waits until another engine controls.
async fn successor(
    client: &mut Client,
    before: u32,
    upgrading: &Upgrading,
) -> Result<(Status, serde_json::Value), CommandError> {
    let end = Instant::now() + PATIENCE;
    loop {
        let looked = client.get::<Status>("/status").await;
        match looked {
            Ok((status, value)) if status.pid == upgrading.successor && status.upgrade != UpgradeState::None => {
                return Ok((status, value));
            }
            // What is said by the engine that was there before is of the upgrade before.
            Ok((Status { pid, upgrade: UpgradeState::Returned { why }, .. }, _)) if pid != before => {
                return Err(CommandError::Returned(why));
            }
            Ok(_) | Err(ClientError::Lost(_) | ClientError::Unreachable { .. }) if Instant::now() < end => {}
            // The engine that leaves answers so.
            Err(ClientError::Refused(refusal)) if refusal.kind == RefusalKind::Busy && Instant::now() < end => {}
            Ok(_) => return Err(CommandError::NobodyControls(upgrading.successor)),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
