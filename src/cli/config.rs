//! `baton config`: check a configuration, or print an example.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{WRONG, complain};
use crate::config::{Config, DEFAULT_FILE, EXAMPLE, Overrides};
use crate::output::{self, say, tell};

/// Check a configuration, or print an example.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read a configuration as `run` would, and say what is wrong with it
    Check {
        /// The configuration
        #[arg(default_value = DEFAULT_FILE)]
        file: PathBuf,
        /// Print it as JSON, with every default, without secrets
        #[arg(long)]
        json: bool,
    },
    /// Print an example with every key and its default
    Example,
}

pub fn run(args: &Args) -> ExitCode {
    match &args.command {
        Command::Example => output::put(EXAMPLE),
        Command::Check { file, json } => match Config::read(file, &Overrides::default()) {
            Ok(config) => {
                for warning in config.warnings() {
                    tell!("baton: {warning}");
                }
                if *json {
                    output::json(&without_secrets(&config));
                } else {
                    let domains = config.domains.len();
                    let s = if domains == 1 { "" } else { "s" };
                    say!("{}: good, {} with {domains} domain{s}", file.display(), config.interface.list());
                }
            }
            Err(error) => {
                complain(&error);
                return ExitCode::from(WRONG);
            }
        },
    }
    ExitCode::SUCCESS
}

fn without_secrets(config: &Config) -> serde_json::Value {
    let mut value = serde_json::to_value(config).expect("a configuration is plain data");
    for domain in value["domains"].as_array_mut().into_iter().flatten() {
        if !domain["secret"].is_null() {
            domain["secret"] = "set".into();
        }
    }
    value
}
