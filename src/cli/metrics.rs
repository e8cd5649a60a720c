//! `baton metrics`: what Prometheus reads, once or over TCP.
//!
//! The engine itself listens on its Unix socket alone, so that who reads metrics can neither
//! command it nor hold it up: this is a process of its own, with few connections, each of them
//! short.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::client::{self, Client, CommandError, SOCKET, Timeout};
use crate::api::Bounded;
use crate::limits::{SCRAPE_MAX, SCRAPERS_MAX};
use crate::output::{self, tell};
use crate::telemetry::{Dialect, Exposition};

/// Seconds that the engine may take with an answer to a scraper, at most: half of the time that a
/// scraper has.
const SCRAPE_TIMEOUT_S: u16 = 5;
const _: () = assert!(2 * SCRAPE_TIMEOUT_S as u64 <= SCRAPE_MAX.as_secs());

/// What Prometheus reads: printed once, or served over TCP
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The API's socket of the server
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    #[command(flatten)]
    timeout: Timeout,
    /// Serve http://ADDRESS/metrics until stopped
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Print in OpenMetrics' form
    #[arg(long, conflicts_with = "listen")]
    openmetrics: bool,
}

pub fn run(args: &Args) -> ExitCode {
    client::run(async {
        let Some(address) = args.listen else {
            let dialect = if args.openmetrics { Dialect::OpenMetrics } else { Dialect::Prometheus };
            let text = Client::new(args.socket.clone(), args.timeout.into())
                .get_text("/metrics", dialect.content_type())
                .await?;
            output::put(&text);
            return Ok(());
        };
        let failed = |source| CommandError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tell!("baton: metrics of {} at http://{address}/metrics", args.socket.display());
        let socket = args.socket.clone();
        let timeout = Duration::from_secs(args.timeout.seconds.min(SCRAPE_TIMEOUT_S).into());
        let app = Router::new().route("/metrics", get(async move |headers| answer(socket, timeout, headers).await));
        axum::serve(Bounded::new(listener, SCRAPERS_MAX, SCRAPE_MAX), app).await.map_err(failed)
    })
}

/// The engine's answer; where there is none, that it is not up: the
/// one who watches it wants to see that, and not an error of ours.
async fn answer(socket: PathBuf, timeout: Duration, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let dialect = Dialect::accepted(accepted);
    let text = match Client::new(socket, timeout).get_text("/metrics", dialect.content_type()).await {
        Ok(text) => text,
        Err(_) => {
            let mut none = Exposition::new(dialect);
            none.gauges("baton_up", "Whether an engine answers.").sample(&[], 0);
            none.finish()
        }
    };
    ([(header::CONTENT_TYPE, dialect.content_type())], text).into_response()
}
