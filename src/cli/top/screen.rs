//! The terminal: asks the server, takes keys, and restores the terminal at the end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::model::{Answer, Model};
use super::view::{Palette, draw};
use crate::api::Status;
use crate::api::client::{Client, ClientError};
use crate::output::{self, say};
use crate::sys::signals::StopSignals;

/// Keys are looked for this often.
const LOOK: Duration = Duration::from_millis(50);
/// How long an answer may take: the next look is not to wait for it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Domains that a page key goes by.
const PAGE: usize = 10;

type Heard = Result<Answer, (Instant, String)>;

/// Shows the server until the user quits, or this process is told to stop.
pub fn show(socket: PathBuf, interval: Duration, palette: Palette) -> io::Result<()> {
    let stop = StopSignals::install()?;
    let heard = ask_always(socket, interval)?;
    let mut terminal = ratatui::try_init()?;
    let done = run(&mut terminal, &heard, &stop, palette);
    ratatui::try_restore()?;
    done
}

fn run(
    terminal: &mut ratatui::DefaultTerminal,
    heard: &Receiver<Heard>,
    stop: &StopSignals,
    palette: Palette,
) -> io::Result<()> {
    let mut model = Model::default();
    while stop.take() == 0 {
        heard.try_iter().for_each(|heard| hear(&mut model, heard));
        terminal.draw(|frame| draw(frame, &model, palette, Instant::now()))?;
        if event::poll(LOOK)? && is_over(&mut model, &event::read()?) {
            break;
        }
    }
    Ok(())
}

fn hear(model: &mut Model, heard: Heard) {
    match heard {
        Ok(answer) => model.answered(answer),
        Err((at, why)) => model.unanswered(at, why),
    }
}

/// Does what a key stands for; true where that is to end.
fn is_over(model: &mut Model, event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    if key.kind == KeyEventKind::Release {
        return false;
    }
    let last = model.domains().saturating_sub(1);
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Char('p') => model.paused = !model.paused,
        KeyCode::Char('?' | 'h') => model.help = !model.help,
        KeyCode::Up => model.scroll = model.scroll.saturating_sub(1),
        KeyCode::Down => model.scroll = (model.scroll + 1).min(last),
        KeyCode::PageUp => model.scroll = model.scroll.saturating_sub(PAGE),
        KeyCode::PageDown => model.scroll = (model.scroll + PAGE).min(last),
        KeyCode::Home => model.scroll = 0,
        KeyCode::End => model.scroll = last,
        _ => {}
    }
    false
}

/// Gives so many screens as text, an interval apart.
pub fn batch(socket: PathBuf, interval: Duration, screens: u32, (width, height): (u16, u16)) -> io::Result<bool> {
    let heard = ask_always(socket, interval)?;
    let mut model = Model::default();
    for number in 0..screens {
        // The asking thread lives as long as this process.
        if let Ok(heard) = heard.recv() {
            hear(&mut model, heard);
        }
        let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
        let Ok(_) = terminal.draw(|frame| draw(frame, &model, Palette::new(false), Instant::now()));
        if output::has_ended() {
            break;
        }
        if number > 0 {
            say!();
        }
        for row in terminal.backend().buffer().content().chunks(usize::from(width)) {
            let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
            say!("{}", line.trim_end());
        }
    }
    Ok(model.silent.is_none())
}

/// Asks again and again, on a thread of its own: keys do not wait for a server that does not
/// answer.
fn ask_always(socket: PathBuf, interval: Duration) -> io::Result<Receiver<Heard>> {
    let (tell, heard) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("asking".into()).spawn(move || runtime.block_on(asking(&socket, interval, &tell)))?;
    Ok(heard)
}

async fn asking(socket: &Path, interval: Duration, tell: &Sender<Heard>) {
    let mut client = Client::new(socket.to_owned(), TIMEOUT);
    loop {
        let begun = Instant::now();
        let heard = match ask(&mut client).await {
            Ok(answer) => Ok(answer),
            Err(ClientError::Silent { timeout, .. }) => Err((begun, format!("nothing within {} s", timeout.as_secs()))),
            Err(error) => Err((begun, error.to_string())),
        };
        if tell.send(heard).is_err() {
            return;
        }
        tokio::time::sleep(interval.saturating_sub(begun.elapsed())).await;
    }
}

async fn ask(client: &mut Client) -> Result<Answer, ClientError> {
    let (status, _) = client.get::<Status>("/status").await?;
    let (_, recovery) = client.get::<serde_json::Value>("/recovery/last").await?;
    let keeper = keeper_of(status.pid);
    Ok(Answer { at: Instant::now(), status, recovery, keeper })
}

/// The keeper is the parent of the one that starts engines, which is their parent.
fn keeper_of(engine: u32) -> Option<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    parent(parent(engine)?).filter(|&keeper| keeper > 1)
}
