//! `baton meeting start --from`: a conference a line, many at once.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::cli::client::{self, Client, ClientArgs, ClientError, CommandError};
use crate::cli::columns::is_watched;
use crate::cli::{FAILED, WRONG};
use crate::cms::{RefusalKind, StartMeeting, object};
use crate::output::{self, say, tell};

/// How often one conference is asked for, while the engine is replaced or busy.
const TRIES: u32 = 50;
/// Between two tries.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// What came of all lines.
#[derive(Debug, Default)]
struct Outcome {
    started: usize,
    failed: Vec<String>,
}

/// Starts them all. Every line is read before the first is started, so that a mistake in the last
/// starts none.
pub(super) fn run(args: &ClientArgs, file: &Path, concurrency: usize) -> ExitCode {
    let lines = match read(file) {
        Ok(lines) => lines,
        Err(error) => {
            tell!("baton: {error}");
            return ExitCode::from(WRONG);
        }
    };
    let (total, begun) = (lines.len(), Instant::now());
    let mut outcome = Outcome::default();
    let work = async {
        outcome = start_all(args, lines, concurrency).await?;
        Ok(())
    };
    let code = client::run(work);
    for what in &outcome.failed {
        tell!("baton: {what}");
    }
    if args.json {
        output::json_line(&json!({ "started": outcome.started, "failed": outcome.failed.len() }));
    } else {
        let seconds = begun.elapsed().as_secs_f64();
        say!("{} of {total} conferences started in {seconds:.2} s", outcome.started);
    }
    if outcome.failed.is_empty() { code } else { ExitCode::from(FAILED) }
}

fn read(file: &Path) -> Result<Vec<(usize, StartMeeting)>, String> {
    let reader: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(file).map_err(|error| format!("{}: {error}", file.display()))?))
    };
    let name = if file == Path::new("-") { "standard input".into() } else { file.display().to_string() };
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(reader.lines()) {
        let line = line.map_err(|error| format!("{name}, line {number}: {error}"))?;
        // A mark that says in which order bytes stand, as editors on some systems put in front.
        let line = line.strip_prefix('\u{feff}').filter(|_| number == 1).unwrap_or(&line);
        if !line.trim().is_empty() {
            let form = object(line.as_bytes()).map_err(|error| {
                let column = error.place.map_or(String::new(), |(_, column)| format!(", column {column}"));
                format!("{name}, line {number}{column}: {}", error.what)
            })?;
            lines.push((number, form));
        }
    }
    Ok(lines)
}

async fn start_all(
    args: &ClientArgs,
    lines: Vec<(usize, StartMeeting)>,
    concurrency: usize,
) -> Result<Outcome, CommandError> {
    // Nobody is started where nobody listens, and that is said once.
    args.client().call(Method::GET, "/status", None).await?;
    let bar = if is_watched() { ProgressBar::new(lines.len() as u64) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} conferences, {per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let workers = concurrency.min(lines.len()).max(1);
    let queue = Arc::new(Mutex::new(lines.into_iter()));
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let tasks: Vec<_> = (0..workers)
        .map(|_| {
            let (queue, outcome, bar) = (Arc::clone(&queue), Arc::clone(&outcome), bar.clone());
            let mut client = args.client();
            tokio::spawn(async move {
                loop {
                    let Some((number, form)) = queue.lock().await.next() else { return };
                    let result = start(&mut client, &form).await;
                    bar.inc(1);
                    let mut outcome = outcome.lock().await;
                    match result {
                        Ok(_) => outcome.started += 1,
                        Err(error) => outcome.failed.push(format!("line {number}: {error}")),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    bar.finish_and_clear();
    Ok(std::mem::take(&mut *outcome.lock().await))
}

/// Starts one. While the engine is busy or being replaced it is asked for again; one with an id of
/// its own also where nobody knows whether it was started, for then its being there says that it
/// was.
async fn start(client: &mut Client, form: &StartMeeting) -> Result<Value, ClientError> {
    let body = json!(form);
    let mut may_be_there = false;
    let mut tries = 1;
    loop {
        match client.call_once(&Method::POST, "/meetings", Some(&body)).await {
            Err(ClientError::Refused(refusal)) if may_be_there && refusal.kind == RefusalKind::Conflict => {
                return Ok(Value::Null);
            }
            Err(ClientError::Refused(refusal)) if refusal.kind == RefusalKind::Busy && tries < TRIES => {}
            Err(ClientError::Unreachable { .. }) if tries < TRIES => {}
            Err(ClientError::Lost(_)) if form.meeting.is_some() && tries < TRIES => may_be_there = true,
            result => return result,
        }
        tries += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_told_by_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("meetings.jsonl");
        std::fs::write(&file, "{\"members\":[\"1/1\"]}\n\n{\"members\":[],\"nonsense\":0}\n").unwrap();
        let error = read(&file).unwrap_err();
        assert!(error.contains("meetings.jsonl, line 3, column 24: unknown field `nonsense`"), "{error}");
        std::fs::write(&file, "{\"members\":[\"1/1\"]}\n\n{\"members\":[\"1/2\"]}").unwrap();
        let numbers: Vec<_> = read(&file).unwrap().into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [1, 3]);
        assert!(read(&folder.path().join("none")).unwrap_err().contains("none: "));
    }
}
