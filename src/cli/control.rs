//! `baton control`: who controls what, and giving this server control.

use std::io::{self, BufRead, IsTerminal};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{self, ClientArgs, ClientError, CommandError};
use super::columns::print_table;
use super::{FAILED, WRONG};
use crate::api::{GivenControl, Status};
use crate::config::{Config, DEFAULT_FILE, Overrides};
use crate::keeper::{Mandate, MandateError, Standing};
use crate::output::{self, say, tell};
use crate::wire::{Domain, Epoch};

/// Show which dispatch server controls what, or give control to this one.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    client: ClientArgs,
    /// The configuration, by which a server that does not run is looked at
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE, global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Which domains this server controls, and which another one does, under which epoch
    Show,
    /// Give this server a term above every epoch that is known of: it controls again, and the other
    /// one is fenced
    Take {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Who controls what, of a server that runs or of one that does not.
struct Seen {
    runs: bool,
    own: Epoch,
    domains: Vec<(Domain, Option<Epoch>)>,
}

impl Seen {
    fn fenced(&self) -> usize {
        self.domains.iter().filter(|(_, by)| by.is_some()).count()
    }

    fn json(&self) -> Value {
        let domains = self.domains.iter().map(|(domain, by)| match by {
            None => json!({ "domain": domain, "controlled": true }),
            Some(by) => json!({ "domain": domain, "controlled": false, "epoch": by, "epoch_text": by.to_string() }),
        });
        json!({
            "running": self.runs, "epoch": self.own, "epoch_text": self.own.to_string(),
            "domains": domains.collect::<Vec<_>>(),
        })
    }

    fn rows(&self) -> Vec<[String; 3]> {
        let row = |(domain, by): &(Domain, Option<Epoch>)| match by {
            None => [domain.to_string(), "this server".into(), self.own.to_string()],
            Some(by) => [domain.to_string(), "another dispatch server".into(), by.to_string()],
        };
        self.domains.iter().map(row).collect()
    }
}

pub fn run(args: &Args) -> ExitCode {
    // A server that runs knows best; where none does, its files say it. One whose socket may not be
    // opened runs, for all that is known.
    let is_there = match UnixStream::connect(&args.client.socket) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    };
    if is_there {
        return client::run(ask(args));
    }
    match look(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, code)) => {
            tell!("baton: {error}");
            ExitCode::from(code)
        }
    }
}

/// As a server that runs says it.
async fn ask(args: &Args) -> Result<(), CommandError> {
    let mut client = args.client.client();
    let (status, _) = client.get::<Status>("/status").await?;
    let domains = status.domains.iter().map(|domain| (domain.domain, domain.fenced_by)).collect();
    let seen = Seen { runs: true, own: status.epoch, domains };
    match args.command {
        Command::Show => show(&seen, args.client.json),
        Command::Take { yes } => {
            if !yes {
                agrees(&seen).map_err(CommandError::NotAgreed)?;
            }
            let answer = client.call(Method::POST, "/control/take", None).await?;
            let GivenControl { epoch } =
                GivenControl::deserialize(answer).map_err(|error| ClientError::foreign(&error))?;
            taken(&seen, epoch, args.client.json);
        }
    }
    Ok(())
}

/// As the files of a server that does not run say it.
fn look(args: &Args) -> Result<(), (String, u8)> {
    let config = Config::read(&args.config, &Overrides::default()).map_err(|error| (error.to_string(), WRONG))?;
    let failed = |error: MandateError| (error.to_string(), FAILED);
    let mandate = Mandate::open(&config).map_err(failed)?;
    let Standing { own, domains, .. } = mandate.standing().map_err(failed)?;
    let seen = Seen { runs: false, own, domains };
    match args.command {
        Command::Show => show(&seen, args.client.json),
        Command::Take { yes } => {
            if !yes {
                agrees(&seen).map_err(|why| (why.to_string(), FAILED))?;
            }
            taken(&seen, mandate.take().map_err(failed)?, args.client.json);
        }
    }
    Ok(())
}

fn show(seen: &Seen, json: bool) {
    if json {
        output::json(&seen.json());
        return;
    }
    print_table(["DOMAIN", "CONTROLLED BY", "EPOCH"], &seen.rows());
    if !seen.runs {
        tell!("baton: no server runs here: this is what it knew when it stopped");
    }
}

/// Asks the operator at the terminal whether it is wanted; says why nothing is to be done.
fn agrees(seen: &Seen) -> Result<(), &'static str> {
    if !io::stdin().is_terminal() {
        return Err("nobody is there to be asked: say --yes");
    }
    for [domain, who, epoch] in seen.rows() {
        tell!("domain {domain}: {who}, epoch {epoch}");
    }
    tell!(
        "This server is given a term above all of these epochs. The other one is fenced as soon as it hears of that."
    );
    tell!("Take control of {} of {} domains? [y/N]", seen.fenced(), seen.domains.len());
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    if read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err("nothing is changed") }
}

fn taken(seen: &Seen, epoch: Epoch, json: bool) {
    let fenced = seen.domains.iter().filter_map(|(domain, by)| Some((domain, (*by)?)));
    for (domain, by) in fenced.filter(|(_, by)| by.term() >= epoch.term()) {
        tell!(
            "baton: domain {domain} stays as it is: its autonomous server names epoch {by}, which is too far above ours to be \
             passed; its maker has to have it forget that"
        );
    }
    if json {
        output::json(&json!({ "epoch": epoch, "epoch_text": epoch.to_string(), "running": seen.runs }));
    } else if seen.runs {
        say!("term {} is this server's; the engine hands over to one that controls under it", epoch.term());
    } else {
        say!("term {} is this server's from its next start on: start it", epoch.term());
    }
}
