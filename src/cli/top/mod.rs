//! `baton top`: how a running server does, on a terminal.

mod model;
mod screen;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use self::view::Palette;
use super::client::SOCKET;
use super::{FAILED, WRONG, complain};
use crate::output::{self, tell};

/// How a running server does, on a terminal: rates, drops, latencies, meetings, links, processes,
/// recovery
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The API's socket of the server
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
    interval: f64,
    /// Print so many screens as text and end; their size is that of COLUMNS and LINES, or 80 by 24
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
}

fn interval(text: &str) -> Result<f64, String> {
    let expected = || "a number of seconds from 0.1 to 60 is expected".to_owned();
    text.parse().ok().filter(|seconds| (0.1..=60.0).contains(seconds)).ok_or_else(expected)
}

pub fn run(args: &Args) -> ExitCode {
    let interval = Duration::from_secs_f64(args.interval);
    let size = |name: &str, otherwise: u16| {
        let said = std::env::var(name).ok().and_then(|text| text.parse().ok());
        said.filter(|size| (1..=1000).contains(size)).unwrap_or(otherwise)
    };
    let done = match args.batch {
        Some(screens) => {
            screen::batch(args.socket.clone(), interval, screens, (size("COLUMNS", 80), size("LINES", 24)))
        }
        None if !output::is_watched() => {
            tell!(
                "baton: standard output is no terminal; `baton top --batch 1` prints a screen, `baton status --json` figures"
            );
            return ExitCode::from(WRONG);
        }
        None => {
            let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            screen::show(args.socket.clone(), interval, Palette::new(colours)).map(|()| true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILED)
        }
    }
}
