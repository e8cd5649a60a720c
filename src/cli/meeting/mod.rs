//! `baton meeting`: conferences, started, shown, changed and ended.

mod bulk;

use std::path::PathBuf;
use std::process::ExitCode;

use hyper::Method;
use serde_json::{Value, json};

use super::client::{self, Client, ClientArgs, ClientError, CommandError};
use super::columns::print_table;
use super::complain;
use crate::api::{MeetingRow, MeetingView};
use crate::cms::{Changed, NewMember, Refused, StartMeeting, Started};
use crate::output::{self, say, tell};
use crate::wire::{Address, Flags, Layout, Level, MeetingId, Role};

/// Start, show, change and end conferences.
#[derive(Debug, clap::Args)]
#[command(after_help = "Terminals are written domain/device: 366/1001. Exit codes: 0 done; 1 it could not be done; \
2 typed wrong.")]
pub struct Args {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start a conference, or many from a file
    Start(StartArgs),
    /// List all conferences
    List,
    /// Show a conference and its members
    Show {
        /// The number that `meeting start` printed
        meeting: MeetingId,
    },
    /// Add members
    Add {
        /// The conference's id
        meeting: MeetingId,
        /// Whom; with a role: 366/1001=speaker-one
        #[arg(required = true, value_parser = member, value_name = "TERMINAL[=ROLE]")]
        members: Vec<NewMember>,
    },
    /// Take a member out
    Remove {
        /// The conference's id
        meeting: MeetingId,
        /// Whom
        terminal: Address,
    },
    /// Give a member another role: participant, chairman, speaker-one, speaker-two, speaker-three
    Role {
        /// The conference's id
        meeting: MeetingId,
        /// Whom
        terminal: Address,
        /// What it becomes
        #[arg(value_parser = role)]
        role: Role,
    },
    /// Give the conference another layout
    Layout {
        /// The conference's id
        meeting: MeetingId,
        /// How many windows: 1 to 13, 16 or 64
        #[arg(value_parser = layout)]
        windows: Layout,
    },
    /// Set and clear flags of a member: muted, hand-raised, recording, online, auxiliary, audio
    #[command(group = clap::ArgGroup::new("change").args(["set", "clear"]).required(true).multiple(true))]
    Flags {
        /// The conference's id
        meeting: MeetingId,
        /// Whom
        terminal: Address,
        /// Set this flag
        #[arg(long, value_name = "FLAG", value_parser = flag)]
        set: Vec<String>,
        /// Clear this flag
        #[arg(long, value_name = "FLAG", value_parser = flag)]
        clear: Vec<String>,
    },
    /// End conferences
    End {
        /// Their ids
        #[arg(required = true)]
        meetings: Vec<MeetingId>,
    },
}

#[derive(Debug, clap::Args)]
struct StartArgs {
    /// Its id; the next free one where none is given
    #[arg(long, conflicts_with = "from")]
    id: Option<MeetingId>,
    /// What people call it
    #[arg(long, default_value = "", conflicts_with = "from")]
    name: String,
    /// 1 (highest) to 5
    #[arg(long, default_value = "3", value_parser = level, conflicts_with = "from")]
    level: Level,
    /// How many windows: 1 to 13, 16 or 64
    #[arg(long, default_value = "4", value_parser = layout, conflicts_with = "from")]
    layout: Layout,
    /// Which member is chairman
    #[arg(long, conflicts_with = "from")]
    chairman: Option<Address>,
    /// The members; with a role: 366/1001=speaker-one
    #[arg(required_unless_present = "from", value_parser = member, value_name = "TERMINAL[=ROLE]")]
    members: Vec<NewMember>,
    /// Start one for each line of this file (`-`: standard input), a line being what POST /meetings
    /// takes
    #[arg(long, value_name = "FILE", conflicts_with = "members")]
    from: Option<PathBuf>,
    /// With --from: how many are being started at once
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
}

fn spaced(text: &str) -> String {
    text.replace('-', " ")
}

/// A list of names, as they are typed.
fn typed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| name.replace(' ', "-")).collect::<Vec<_>>().join(", ")
}

fn role(text: &str) -> Result<Role, String> {
    let wrong = |_| format!("`{text}` is none of: {}", typed(Role::ALL.iter().map(|role| role.name())));
    spaced(text).parse().map_err(wrong)
}

fn level(text: &str) -> Result<Level, String> {
    let wrong = || format!("`{text}` is not a level: 1 (highest) to 5");
    text.parse().ok().and_then(Level::new).ok_or_else(wrong)
}

fn layout(text: &str) -> Result<Layout, String> {
    let wrong = || format!("`{text}` is not a layout: 1 to 13, 16 or 64 windows");
    text.parse().ok().and_then(Layout::new).ok_or_else(wrong)
}

fn flag(text: &str) -> Result<String, String> {
    let name = spaced(text);
    let known = Flags::NAMES.map(|(_, known)| known);
    if known.contains(&name.as_str()) {
        Ok(name)
    } else {
        Err(format!("`{text}` is none of: {}", typed(known.into_iter())))
    }
}

fn member(text: &str) -> Result<NewMember, String> {
    let (terminal, role_name) = text.split_once('=').unwrap_or((text, "participant"));
    Ok(NewMember { terminal: terminal.parse()?, role: role(role_name)? })
}

pub fn run(args: &Args) -> ExitCode {
    let json = args.client.json;
    let mut client = args.client.client();
    match &args.command {
        Command::Start(start) => match &start.from {
            Some(file) => bulk::run(&args.client, file, start.concurrency.into()),
            None => client::run(async move { show_started(client.start(start).await?, json) }),
        },
        Command::List => client::run(async move { client.list(json).await }),
        Command::Show { meeting } => client::run(async move { client.show(*meeting, json).await }),
        Command::End { meetings } => client::run(async move { client.end(meetings, json).await }),
        change => client::run(async move {
            let (method, path, body) = request(change);
            let answer = client.call(method, &path, body.as_ref()).await?;
            show_changed(answer, json)
        }),
    }
}

/// What a change asks the API for.
fn request(change: &Command) -> (Method, String, Option<Value>) {
    match change {
        Command::Add { meeting, members } => {
            (Method::POST, format!("/meetings/{meeting}/members"), Some(json!({ "members": members })))
        }
        Command::Remove { meeting, terminal } => {
            (Method::DELETE, format!("/meetings/{meeting}/members/{terminal}"), None)
        }
        Command::Role { meeting, terminal, role } => {
            (Method::PUT, format!("/meetings/{meeting}/members/{terminal}/role"), Some(json!({ "role": role })))
        }
        Command::Layout { meeting, windows } => {
            (Method::PUT, format!("/meetings/{meeting}/layout"), Some(json!({ "layout": windows })))
        }
        Command::Flags { meeting, terminal, set, clear } => {
            let path = format!("/meetings/{meeting}/members/{terminal}/flags");
            (Method::PUT, path, Some(json!({ "set": set, "clear": clear })))
        }
        Command::Start(_) | Command::List | Command::Show { .. } | Command::End { .. } => {
            unreachable!("these are not changes")
        }
    }
}

impl Client {
    async fn start(&mut self, args: &StartArgs) -> Result<Value, ClientError> {
        let form = StartMeeting {
            meeting: args.id,
            name: args.name.clone(),
            level: args.level,
            layout: args.layout,
            chairman: args.chairman,
            members: args.members.clone(),
            created_ms: 0,
        };
        self.call(Method::POST, "/meetings", Some(&json!(form))).await
    }

    async fn list(&mut self, json: bool) -> Result<(), CommandError> {
        let (meetings, value) = self.get::<Vec<MeetingRow>>("/meetings").await?;
        if json {
            output::json(&value);
            return Ok(());
        }
        let rows: Vec<_> = meetings.iter().map(row).collect();
        print_table(["MEETING", "NAME", "STATE", "LEVEL", "LAYOUT", "CHAIRMAN", "MEMBERS", "DOMAINS"], &rows);
        Ok(())
    }

    async fn show(&mut self, meeting: MeetingId, json: bool) -> Result<(), CommandError> {
        let (shown, value) = self.get::<MeetingView>(&format!("/meetings/{meeting}")).await?;
        if json {
            output::json(&value);
            return Ok(());
        }
        print_table(
            ["MEETING", "NAME", "STATE", "LEVEL", "LAYOUT", "CHAIRMAN", "MEMBERS", "DOMAINS"],
            &[row(&shown.meeting)],
        );
        say!();
        let parts = shown.meeting.parts.iter().map(|part| {
            let members = part.participants.to_string();
            [part.domain.to_string(), part.state.to_string(), part.version.to_string(), part.epoch.to_string(), members]
        });
        print_table(["DOMAIN", "STATE", "VERSION", "EPOCH", "MEMBERS"], &parts.collect::<Vec<_>>());
        say!();
        let members = shown.members.iter().map(|member| {
            let flags = Flags::NAMES.iter().filter(|(flag, _)| member.flags.0 & flag.0 != 0);
            [
                member.terminal.to_string(),
                member.role.to_string(),
                member.business.to_string(),
                member.decode.to_string(),
                member.stream.to_string(),
                flags.map(|&(_, name)| name).collect::<Vec<_>>().join(", "),
            ]
        });
        print_table(["TERMINAL", "ROLE", "BUSINESS", "DECODE", "STREAM", "FLAGS"], &members.collect::<Vec<_>>());
        Ok(())
    }

    async fn end(&mut self, meetings: &[MeetingId], json: bool) -> Result<(), CommandError> {
        let mut failed = None;
        for (at, meeting) in meetings.iter().enumerate() {
            let error = match self.call(Method::DELETE, &format!("/meetings/{meeting}"), None).await {
                Ok(answer) if json => {
                    output::json_line(&answer);
                    continue;
                }
                Ok(_) => {
                    say!("meeting {meeting} has ended");
                    continue;
                }
                Err(error) => error,
            };
            // Where nobody answers for one, nobody answers for the others.
            let is_silent = !matches!(error, ClientError::Refused(_));
            if let Some(before) = failed.replace(CommandError::Of(*meeting, error)) {
                complain(&before);
            }
            if is_silent && at + 1 < meetings.len() {
                tell!("baton: the others are not asked for any more");
                break;
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn row(meeting: &MeetingRow) -> [String; 8] {
    let domains: Vec<_> = meeting.parts.iter().map(|part| part.domain.to_string()).collect();
    [
        meeting.meeting.to_string(),
        meeting.name.clone(),
        meeting.state.to_string(),
        meeting.level.number().to_string(),
        meeting.layout.windows().to_string(),
        meeting.chairman.map_or("-".into(), |chairman| chairman.to_string()),
        meeting.participants.to_string(),
        domains.join(" "),
    ]
}

fn show_started(answer: Value, json: bool) -> Result<(), CommandError> {
    if json {
        output::json(&answer);
        return Ok(());
    }
    let started: Started = serde_json::from_value(answer).map_err(|error| ClientError::foreign(&error))?;
    let s = |count: usize| if count == 1 { "" } else { "s" };
    let (members, domains) = (started.members, started.parts.len());
    say!("meeting {} goes on with {members} member{} in {domains} domain{}", started.meeting, s(members), s(domains));
    tell_refused(&started.refused);
    Ok(())
}

fn show_changed(answer: Value, json: bool) -> Result<(), CommandError> {
    if json {
        output::json(&answer);
        return Ok(());
    }
    let changed: Changed = serde_json::from_value(answer).map_err(|error| ClientError::foreign(&error))?;
    say!("meeting {} is changed", changed.meeting);
    tell_refused(&changed.refused);
    Ok(())
}

fn tell_refused(refused: &[Refused]) {
    for Refused { terminal, why } in refused {
        tell!("baton: {terminal} is not in it: its autonomous server said \"{why}\"");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn members_are_read_with_and_without_a_role() {
        let terminal: Address = "366/1001".parse().unwrap();
        assert_eq!(member("366/1001"), Ok(NewMember::participant(terminal)));
        assert_eq!(member("366/1001=speaker-one"), Ok(NewMember { terminal, role: Role::SpeakerOne }));
        assert!(member("366").unwrap_err().contains("domain/device"));
        assert!(member("366/1001=king").unwrap_err().contains("chairman"));
        assert_eq!(flag("hand-raised"), Ok("hand raised".to_owned()));
        assert!(flag("mute").unwrap_err().contains("muted"));
    }

    #[test]
    fn names_are_told_as_they_are_typed() {
        let wrong = [member("366/1001=king").unwrap_err(), flag("mute").unwrap_err()];
        assert!(wrong[0].contains("speaker-one") && !wrong[0].contains("speaker one"), "{wrong:?}");
        assert!(wrong[1].contains("hand-raised") && !wrong[1].contains("hand raised"), "{wrong:?}");
        let flags = ["baton", "meeting", "flags", "1", "366/1001"];
        let wrong = Cli::try_parse_from(flags).unwrap_err().to_string();
        assert!(wrong.contains("--set") && wrong.contains("--clear"), "{wrong}");
        for more in [&["--set", "muted"][..], &["--clear", "muted"], &["--set", "muted", "--clear", "audio"]] {
            assert!(Cli::try_parse_from([&flags[..], more].concat()).is_ok(), "{more:?}");
        }
    }
}
