//! What the subcommands that ask a running server share: which server, how long to wait, and exit
//! codes.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{FAILED, WRONG};
pub use crate::api::client::{Client, ClientError, SOCKET};
use crate::cms::RefusalKind;
use crate::wire::MeetingId;

/// Seconds that connecting and an answer may take. The engine answers within ten at the latest, an
/// upgrade within twelve; this is for an engine that hangs, and for a keeper that has none.
pub const TIMEOUT_S: u16 = 15;

/// Which server, and how it is shown.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientArgs {
    /// The API's socket of the server
    #[arg(long, value_name = "PATH", default_value = SOCKET, global = true)]
    pub socket: PathBuf,
    /// Print what the API answers, as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// How long it may take
    #[command(flatten)]
    pub timeout: Timeout,
}

impl ClientArgs {
    /// A client of that server.
    pub fn client(&self) -> Client {
        Client::new(self.socket.clone(), self.timeout.into())
    }
}

/// How long a server may take.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Timeout {
    /// Seconds that connecting and the answer may take
    #[arg(long = "timeout", value_name = "SECONDS", default_value_t = TIMEOUT_S, global = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub seconds: u16,
}

impl From<Timeout> for Duration {
    fn from(timeout: Timeout) -> Self {
        Self::from_secs(timeout.seconds.into())
    }
}

/// Why a subcommand that asks a server failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A request has no good answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The operator was asked and did not agree, or could not be asked.
    #[error("{0}")]
    NotAgreed(&'static str),
    /// `baton metrics --listen` cannot listen.
    #[error("cannot listen on {address}: {source}; name another address with --listen")]
    Listen {
        /// As it was typed.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// What went wrong with one of several conferences.
    #[error("meeting {0}: {1}")]
    Of(MeetingId, ClientError),
    /// A task of ours died with the request in its hands.
    #[error("the request may have been carried out; look, and ask again ({0})")]
    Task(#[from] tokio::task::JoinError),
    /// An upgrade was made, and undone.
    #[error("the new program failed in its trial, and the one before controls again: {0}")]
    Returned(String),
    /// An upgrade was begun, and no engine has been seen to control since.
    #[error("engine {0} was to take over and has not said in time that it controls; see `baton status`, and the log")]
    NobodyControls(u32),
}

impl CommandError {
    /// The exit code that says so.
    pub fn exit(&self) -> ExitCode {
        match self {
            Self::Client(error) | Self::Of(_, error) if error.refusal() == Some(RefusalKind::BadRequest) => {
                ExitCode::from(WRONG)
            }
            _ => ExitCode::from(FAILED),
        }
    }
}

/// Runs the requests of a subcommand, and turns their end into an exit code.
pub(super) fn run(work: impl Future<Output = Result<(), CommandError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            super::complain(&error);
            return ExitCode::from(FAILED);
        }
    };
    match runtime.block_on(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::complain(&error);
            error.exit()
        }
    }
}
