//! How the state is painted: as much of it as fits. On a large terminal all panes stand side by side, on a small one the chosen one.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Wrap};

use super::keys::HELP;
use super::numbers::{clock, count, duration, rate};
use super::overview::Overview;
use super::panes;
use super::state::{Mode, Pane, State};

/// From this size on all panes are shown.
const LARGE: (u16, u16) = (150, 40);
/// The least that can be painted on.
const SMALL: (u16, u16) = (40, 8);

/// What draws the eye: something is wrong, or is about to be.
pub(super) const WARNING: Style = Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD);
pub(super) const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
pub(super) const GOOD: Style = Style::new().fg(Color::Green);
pub(super) const QUIET: Style = Style::new().add_modifier(Modifier::DIM);

/// Paints everything; `at_ms` is the time of day on this machine.
pub fn draw(frame: &mut Frame, state: &State, at_ms: u64) {
    let whole = frame.area();
    if whole.width < SMALL.0 || whole.height < SMALL.1 {
        frame.render_widget(Paragraph::new("too small"), whole);
        return;
    }
    let [health, books, main, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(whole);
    frame.render_widget(health_line(state, at_ms), health);
    frame.render_widget(books_line(state), books);
    if let Some(market) = &state.market {
        panes::market(frame, state, market, main);
    } else if whole.width >= LARGE.0 && whole.height >= LARGE.1 {
        all_panes(frame, state, main);
    } else {
        one_pane(frame, state, main);
    }
    frame.render_widget(foot_line(state), foot);
    match &state.mode {
        Mode::Help => help(frame, whole),
        Mode::Confirming(deed, typed) => {
            let asked = format!("To confirm, type {}", deed.wanted);
            dialog(
                frame,
                whole,
                &deed.title,
                &[asked.as_str(), "", &format!("> {typed}_"), "", "Enter does it, Esc does not"],
            );
        }
        Mode::Interval(typed) => {
            dialog(frame, whole, "How often", &["Seconds between looks, 0.2 to 60", "", &format!("> {typed}_")]);
        }
        Mode::Watching | Mode::Filtering => {}
    }
}

/// Whether it lives, as whom, and how far it is.
fn health_line(state: &State, at_ms: u64) -> Line<'static> {
    let now = &state.now;
    let lamp = match state.stale_since(at_ms) {
        _ if state.is_paused => Span::styled("PAUSED", WARNING),
        Some(since) => Span::styled(format!("STALE since {} UTC", clock(since)), BAD),
        None => Span::styled("LIVE", GOOD.add_modifier(Modifier::BOLD)),
    };
    let ready = if now.ready { Span::raw("takes orders") } else { Span::styled("TAKES NO ORDERS", WARNING) };
    let commands = state.growth().and_then(|growth| growth.tenths_per_second(|it| Some(it.sequence)));
    let mut spans = vec![
        lamp,
        Span::raw(format!("  {}  ", identity(now))).bold(),
        ready,
        Span::raw(format!("  seq {}  {}/s  up {}", count(now.sequence), rate(commands), duration(now.uptime_seconds))),
        Span::styled(format!("  v{}  {}", now.version, state.address), QUIET),
    ];
    if now.halted_all {
        spans.insert(1, Span::styled("  ALL HALTED", BAD));
    }
    Line::from(spans)
}

/// Its role and its number; a gateway is no node and has none.
fn identity(now: &Overview) -> String {
    if now.node == 0 { now.role.clone() } else { format!("{} (node {})", now.role, now.node) }
}

/// Whether the books can be trusted, and what stands in the way of the next order.
fn books_line(state: &State) -> Line<'static> {
    let now = &state.now;
    let books = match now.reconciliation.state.as_str() {
        _ if !now.conserved => Span::styled("BOOKS BROKEN", BAD),
        "ok" => Span::styled("books balance", GOOD),
        "fenced" => Span::styled(format!("STATE DIFFERS: {}", now.reconciliation.detail), BAD),
        _ => Span::styled(format!("BOOKS BROKEN: {}", now.reconciliation.detail), BAD),
    };
    let mut spans = vec![books];
    if now.journal.disk_low {
        spans.push(Span::styled("  DISK LOW: only cancels are taken", BAD));
    }
    if let Some(cluster) = &now.cluster {
        let away = cluster.members.iter().filter(|member| !member.reachable).count();
        let text = match cluster.leader {
            Some(leader) => format!("  node {leader} leads {} nodes", cluster.members.len()),
            None => "  NOBODY LEADS".to_owned(),
        };
        spans.push(if cluster.leader.is_some() { Span::raw(text) } else { Span::styled(text, BAD) });
        if away > 0 {
            spans.push(Span::styled(format!(", {away} cannot be reached"), WARNING));
        }
    }
    if let Some(trouble) = &state.trouble {
        spans.push(Span::styled(format!("  {trouble}"), WARNING));
    }
    Line::from(spans)
}

fn foot_line(state: &State) -> Line<'static> {
    match &state.mode {
        Mode::Filtering => Line::from(format!("/{}_   Enter keeps it, Esc shows all", state.filter)),
        _ if !state.said.is_empty() => Line::from(Span::styled(state.said.clone(), WARNING)),
        _ => {
            let seconds = format!("{}.{}", state.interval_ms / 1_000, state.interval_ms % 1_000 / 100);
            let filter = if state.filter.is_empty() { String::new() } else { format!("  /{}", state.filter) };
            let text = format!(
                "q quit  Tab pane  s sort: {}{filter}  Enter book  h halt  p pause  d {seconds} s  ? keys",
                state.sort.word()
            );
            Line::from(Span::styled(text, QUIET))
        }
    }
}

fn all_panes(frame: &mut Frame, state: &State, area: Rect) {
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Fill(3), Constraint::Fill(4), Constraint::Fill(3)]).areas(area);
    let halves = [Constraint::Percentage(55), Constraint::Percentage(45)];
    let [symbols, stages] = Layout::horizontal(halves).areas(top);
    let [sockets, queues, journal] =
        Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(23), Constraint::Percentage(22)])
            .areas(middle);
    let [audit, cluster, rejects] =
        Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(30), Constraint::Percentage(15)])
            .areas(bottom);
    let places = [
        (Pane::Symbols, symbols),
        (Pane::Stages, stages),
        (Pane::Sockets, sockets),
        (Pane::Queues, queues),
        (Pane::Journal, journal),
        (Pane::Audit, audit),
        (Pane::Cluster, cluster),
        (Pane::Rejects, rejects),
    ];
    for (pane, place) in places {
        let is_chosen = pane == state.pane;
        let edge = if is_chosen { Style::new().fg(Color::Cyan).bold() } else { QUIET };
        let title = if is_chosen { format!("> {} <", pane.title()) } else { format!(" {} ", pane.title()) };
        let block = Block::new().borders(Borders::ALL).border_style(edge).title(Span::styled(title, edge.not_dim()));
        let inside = block.inner(place);
        frame.render_widget(block, place);
        panes::pane(frame, state, pane, inside);
    }
}

fn one_pane(frame: &mut Frame, state: &State, area: Rect) {
    let [tabs, inside] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let mut spans = Vec::new();
    for pane in Pane::ALL {
        let style = if pane == state.pane { Style::new().reversed() } else { QUIET };
        spans.extend([Span::styled(format!(" {} ", pane.title()), style), Span::raw(" ")]);
    }
    frame.render_widget(Line::from(spans), tabs);
    panes::pane(frame, state, state.pane, inside);
}

fn help(frame: &mut Frame, area: Rect) {
    let lines: Vec<String> = HELP.iter().map(|(keys, what)| format!("{keys:<20} {what}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    dialog(frame, area, "Keys", &lines);
}

fn dialog(frame: &mut Frame, area: Rect, title: &str, lines: &[&str]) {
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0).max(title.len() + 2) as u16 + 4;
    let [place] = Layout::horizontal([Constraint::Length(width.min(area.width))]).flex(Flex::Center).areas(area);
    let height = (lines.len() as u16 + 2).min(area.height);
    let [place] = Layout::vertical([Constraint::Length(height)]).flex(Flex::Center).areas(place);
    let edge = Style::new().fg(Color::Cyan);
    let block =
        Block::bordered().border_style(edge).title(Line::from(format!(" {title} ")).alignment(Alignment::Left).bold());
    let text: Vec<Line> = lines.iter().map(|line| Line::from(format!(" {line}"))).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }).block(block), place);
}
