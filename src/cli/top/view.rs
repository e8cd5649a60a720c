//! The screen. At 80 by 24 everything that matters is on it; a larger one shows more of the same.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Sparkline, Table};

use super::model::{Model, Rate};
use crate::api::{ControlState, DomainStatus, Status};
use crate::handover::StandbyState;
use crate::recovery::Path;
use crate::text::{nanoseconds, short, thousands};

/// How it is coloured.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    good: Style,
    bad: Style,
    dim: Style,
    head: Style,
}

impl Palette {
    /// In colours, or by weight alone.
    pub fn new(colours: bool) -> Self {
        let colour = |colour| if colours { Style::new().fg(colour) } else { Style::new() };
        Self {
            good: colour(Color::Green),
            bad: colour(Color::Red).add_modifier(Modifier::BOLD),
            dim: if colours { Style::new().fg(Color::DarkGray) } else { Style::new() },
            head: Style::new().add_modifier(Modifier::BOLD),
        }
    }
}

const HELP: &str = "\
 q, Esc, Ctrl-C   end
 ↑ ↓              scroll the domains
 PgUp PgDn        by a page
 p                pause, and go on
 ?                this, and back

 Rates are of the last interval. Latencies
 are since the engine's start. XDP's verdicts
 are the driver's; what is shed, unknown or
 malformed is the workers'.";

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, model: &Model, palette: Palette, now: Instant) {
    let area = frame.area();
    let Some(status) = model.status() else {
        let why = model.silent.as_ref().map_or("asking …", |(_, why)| why);
        let words = vec![Line::styled("Baton", palette.head), Line::raw(""), Line::raw(why.to_owned())];
        frame.render_widget(Paragraph::new(words).wrap(ratatui::widgets::Wrap { trim: true }), area);
        return;
    };
    let stages = status.stages.len().clamp(1, 6) as u16 + 1;
    let rows = Layout::vertical([
        Constraint::Length(4),
        Constraint::Length(7),
        Constraint::Length(stages),
        Constraint::Min(3),
        Constraint::Length(1),
    ]);
    let [head, flow, latency, links, keys] = rows.areas(area);
    frame.render_widget(Paragraph::new(header(model, status, palette, now)), head);
    let [rates, drops] = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(flow);
    draw_rates(frame, rates, model, palette);
    draw_drops(frame, drops, &model.drops(), palette);
    draw_stages(frame, latency, status, palette);
    draw_links(frame, links, model, status, palette);
    let words = if model.paused {
        " paused: p goes on · q ends · ? help"
    } else {
        " q ends · ↑↓ domains · p pauses · ? help"
    };
    frame.render_widget(Paragraph::new(Line::styled(words, palette.dim)), keys);
    if model.help {
        let [middle] = Layout::horizontal([Constraint::Length(48)]).flex(ratatui::layout::Flex::Center).areas(area);
        let [middle] = Layout::vertical([Constraint::Length(12)]).flex(ratatui::layout::Flex::Center).areas(middle);
        frame.render_widget(Clear, middle);
        frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" keys ")), middle);
    }
}

fn header(model: &Model, status: &Status, palette: Palette, now: Instant) -> Vec<Line<'static>> {
    let state = if status.state == ControlState::InControl { palette.good } else { palette.bad };
    let mut first = vec![
        Span::styled("Baton  ", palette.head),
        Span::styled(status.state.to_string(), state),
        Span::raw(format!(
            " · epoch {} · up {} · by the {}",
            status.epoch,
            uptime(status.uptime_ms),
            match status.path {
                Some(Path::Cache) => "table",
                Some(Path::Snapshot) => "snapshot",
                Some(Path::Database) | None => "database",
            }
        )),
    ];
    if let Some((since, why)) = &model.silent {
        let silent = format!("  no answer for {} s: {why}", now.saturating_duration_since(*since).as_secs());
        first = vec![Span::styled("Baton  ", palette.head), Span::styled(silent, palette.bad)];
    }
    let standby = if status.standby == StandbyState::Ready { palette.good } else { palette.bad };
    let keeper = model.keeper().map_or_else(String::new, |keeper| format!(" · keeper {keeper}"));
    let second = vec![
        Span::raw(format!("engine {} · standby ", status.pid)),
        Span::styled(status.standby.to_string(), standby),
        Span::raw(format!("{keeper} · {} · {}", status.program.version, status.mode)),
    ];
    let third = format!(
        "parts {} of {} · terminals {} of {} · operations {}",
        thousands(status.parts),
        thousands(status.parts_capacity),
        thousands(status.terminals),
        thousands(status.terminals_capacity),
        status.operations
    );
    vec![Line::from(first), Line::from(second), Line::raw(third), Line::raw(recovery(model))]
}

fn recovery(model: &Model) -> String {
    let time = |key: &str| {
        let ns = model.recovery().and_then(|recovery| recovery[key].as_u64());
        ns.map_or("–".into(), nanoseconds)
    };
    format!(
        "last recovery: first frame {}, all acknowledged {}, reconciled {}",
        time("first_takeover_sent_ns"),
        time("all_acknowledged_ns"),
        time("reconciled_ns")
    )
}

fn uptime(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn of(rate: &Rate) -> [String; 3] {
    let per_second = rate.per_second.map_or("–".into(), |rate| format!("{}/s", short(rate)));
    [rate.name.clone(), per_second, thousands(rate.total)]
}

const RATE_WIDTHS: [Constraint; 3] = [Constraint::Min(12), Constraint::Length(8), Constraint::Length(13)];

fn draw_rates(frame: &mut Frame<'_>, area: Rect, model: &Model, palette: Palette) {
    let [line, table] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    // As many of the last as there is room for.
    let width = usize::from(line.width.saturating_sub(1));
    let mut last: Vec<u64> = model.received().rev().take(width).collect();
    last.reverse();
    frame.render_widget(Sparkline::default().data(&last).style(palette.good), line);
    let rows = model.rates().iter().map(|rate| Row::new(of(rate))).collect::<Vec<_>>();
    frame.render_widget(Table::new(rows, RATE_WIDTHS), table);
}

fn draw_drops(frame: &mut Frame<'_>, area: Rect, drops: &[Rate], palette: Palette) {
    let mut rows = vec![Row::new(["lost or refused", "", ""]).style(palette.head)];
    if drops.is_empty() {
        rows.push(Row::new(["nothing", "", ""]).style(palette.good));
    }
    let is_growing = |rate: &Rate| rate.per_second.is_some_and(|rate| rate > 0.0);
    rows.extend(drops.iter().map(|rate| {
        let row = Row::new(of(rate));
        if is_growing(rate) { row.style(palette.bad) } else { row }
    }));
    frame.render_widget(Table::new(rows, RATE_WIDTHS), area);
}

fn draw_stages(frame: &mut Frame<'_>, area: Rect, status: &Status, palette: Palette) {
    let head = Row::new(["stage", "count", "p50", "p99", "p99.9", "slowest"]).style(palette.head);
    let rows = status.stages.iter().map(|stage| {
        let [p50, p99, p999, max] = [stage.p50_ns, stage.p99_ns, stage.p999_ns, stage.max_ns].map(nanoseconds);
        Row::new([stage.stage.replace('_', " "), thousands(stage.count), p50, p99, p999, max])
    });
    let widths = [
        Constraint::Min(22),
        Constraint::Length(15),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
    ];
    frame.render_widget(Table::new(rows, widths).header(head), area);
}

fn draw_links(frame: &mut Frame<'_>, area: Rect, model: &Model, status: &Status, palette: Palette) {
    let all = status.domains.len();
    let up = status.domains.iter().filter(|domain| domain.up).count();
    let title = format!("domain ({up} of {all} up)");
    let head =
        Row::new([title.as_str(), "link", "recovery", "parts", "missing", "orphans", "heartbeat"]).style(palette.head);
    let row = |domain: &DomainStatus| {
        let is_well = domain.up && domain.in_control;
        let row = Row::new([
            domain.domain.to_string(),
            if domain.up { "up" } else { "down" }.into(),
            domain.recovery_now(),
            thousands(domain.parts),
            thousands(domain.missing),
            thousands(domain.orphans),
            domain.round_trip_us.map_or("–".into(), |us| nanoseconds(us * 1000)),
        ]);
        if is_well { row } else { row.style(palette.bad) }
    };
    // Those that are not well come first, for they may not be on the screen else.
    let mut sorted: Vec<_> = status.domains.iter().collect();
    sorted.sort_by_key(|domain| (domain.up && domain.in_control, domain.domain));
    let rows = sorted.into_iter().skip(model.scroll).map(row);
    let widths = [
        Constraint::Min(21),
        Constraint::Length(5),
        Constraint::Length(12),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(10),
    ];
    frame.render_widget(Table::new(rows, widths).header(head), area);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::model::tests::answer;
    use super::*;

    fn screen(model: &Model, (width, height): (u16, u16), now: Instant) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, Palette::new(true), now)).unwrap();
        terminal.backend().to_string()
    }

    fn model(begin: Instant) -> Model {
        let mut model = Model::default();
        let counters =
            |n: u64| [("received", 1_000_000 * n), ("sent", 20_000 * n), ("shed_known", 70 * n), ("unauthentic", 3)];
        for second in 1..=3 {
            model.answered(answer(begin, second * 1000, 4_194_303, &counters(second)));
        }
        model
    }

    #[test]
    fn all_that_matters_is_on_a_small_screen() {
        let begin = Instant::now();
        let shown = screen(&model(begin), (80, 24), begin);
        for part in [
            "partly in control · epoch 1.65535.0000 · up 1 min 33 s · by the table",
            "engine 4194303 · standby ready · keeper 41",
            "parts 500 of 65,536 · terminals 5,000 of 262,144 · operations 3",
            "last recovery: first frame 101 µs, all acknowledged 1.34 ms, reconciled 2.08 ms",
            "frames received",
            "1.0M/s",
            "3,000,000",
            "frames sent",
            "20k/s",
            "shed known",
            "70/s",
            "unauthentic",
            "0/s",
            "processing",
            "1,234,567",
            "5.73 µs",
            "26.4 µs",
            "80.9 µs",
            "2.23 ms",
            "recovery reconciled",
            "domain (43 of 44 up)",
            "down",
            "unreachable",
            "reconciled",
            "87.0 µs",
            "q ends",
        ] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
        // The one that is down is not to be looked for.
        let first = shown.lines().skip_while(|line| !line.contains("domain (")).nth(1).unwrap();
        assert!(first.contains("down"), "{first}");
    }

    #[test]
    fn a_large_screen_shows_more_domains_and_scrolling_the_others() {
        let begin = Instant::now();
        let mut model = model(begin);
        let domains = |shown: &str| shown.lines().filter(|line| line.contains("reconciled  ")).count();
        let (small, large) = (screen(&model, (80, 24), begin), screen(&model, (120, 50), begin));
        assert!(domains(&small) >= 3 && domains(&large) > domains(&small) + 20, "{small}\n{large}");
        model.scroll = 43;
        assert!(screen(&model, (80, 24), begin).contains(" 44 ") || screen(&model, (80, 24), begin).contains("\"44 "));
    }

    #[test]
    fn silence_and_help_and_a_first_screen_without_an_answer_are_shown() {
        let begin = Instant::now();
        let mut silent = model(begin);
        silent.unanswered(begin, "nobody listens".into());
        let shown = screen(&silent, (80, 24), begin + Duration::from_secs(5));
        assert!(shown.contains("no answer for 5 s: nobody listens") && shown.contains("3,000,000"), "{shown}");
        silent.help = true;
        assert!(screen(&silent, (80, 24), begin).contains("scroll the domains"));
        let mut none = Model::default();
        none.unanswered(begin, "no server answers on /run/baton/api.sock".into());
        assert!(screen(&none, (80, 24), begin).contains("no server answers on /run/baton/api.sock"));
        // However small, it does not fail.
        for size in [(1, 1), (10, 3), (40, 10)] {
            screen(&model(begin), size, begin);
        }
    }
}
