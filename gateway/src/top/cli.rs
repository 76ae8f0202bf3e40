//! The command line of `rialto top`, and its loop: keys, answers and signals come in, ten times a second at the most it is painted.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::keys::{self, Effect, parse_interval};
use super::screen::draw;
use super::state::State;
use super::terminal::Screen;
use super::watch::{self, Heard, Wants, Watch};
use crate::admin::caller::{Caller, Place};
use crate::client::now_ms;

/// From one picture to the next.
const PAINT_EVERY: Duration = Duration::from_millis(100);
/// That answers stay away shows by itself.
const LOOK_AT_CLOCK_EVERY: Duration = Duration::from_millis(500);
/// Keys and answers that wait to be taken: who brings more waits.
const HEARD_MAX: usize = 64;
/// How long the thread that reads keys waits for one before it looks whether it is still wanted.
const KEY_TIMEOUT: Duration = Duration::from_millis(100);
/// The picture of `--once`.
const PICTURE: (u16, u16) = (160, 50);
/// The exit status after Ctrl+C or a signal is this and the signal's number.
const SIGNALLED: u8 = 128;
const SIGINT: u8 = 2;

/// How a running node stands, in the terminal
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
It shows what the operators' console shows: health, symbols, latency by stage, queues, journal, cluster, websockets, rejects and
what operators did. \"?\" lists its keys. The node is found as by \"rialto admin\": --data DIR, or --address and --token-file.

Examples:
  rialto top --data D
  rialto top --address 10.0.0.7:9090 --token-file token --interval 2
  rialto top --data D --json | jq .sequence
  rialto top --data D --once

Exit status: 0 after q, 1 when the node cannot be asked, 2 when the command line is wrong or there is no terminal, 128 and \
its number after a signal.")]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Where clients are served, for books and trades [default: what the node says]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Seconds between looks, 0.2 to 60
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: u64,
    /// Print what is seen as JSON instead, a line for each look
    #[arg(long)]
    json: bool,
    /// Print one picture, or with --json one line, and end
    #[arg(long)]
    once: bool,
}

fn seconds(text: &str) -> Result<u64, String> {
    parse_interval(text).ok_or_else(|| "it is from 0.2 to 60 seconds".to_owned())
}

/// Runs until it is told to end.
pub fn run(arguments: Arguments) -> ExitCode {
    let Arguments { place, url, interval, json, once } = arguments;
    if !json && !once && !std::io::stdout().is_terminal() {
        eprintln!(
            "rialto: top needs a terminal; for a file or a program there is --json, or --once for one picture as text"
        );
        return ExitCode::from(2);
    }
    let every = Duration::from_millis(interval);
    let done = Caller::new(place).and_then(|caller| match (json, once) {
        (true, once) => print_json(&caller, every, once),
        (false, true) => print_picture(&caller, every, interval),
        (false, false) => show(caller, url, interval),
    });
    done.unwrap_or_else(|reason| {
        eprintln!("rialto: {reason}");
        ExitCode::FAILURE
    })
}

/// A line for each look.
fn print_json(caller: &Caller, every: Duration, once: bool) -> Result<ExitCode, String> {
    let mut out = std::io::stdout().lock();
    loop {
        let line = watch::overview_json(caller)?;
        // Who closes the pipe has seen enough.
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() || once {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(every);
    }
}

/// What the terminal would show, as text; of two looks, as only the second knows how much there is a second.
fn print_picture(caller: &Caller, every: Duration, interval_ms: u64) -> Result<ExitCode, String> {
    let mut state = State::new(caller.address.to_string(), watch::overview(caller)?, interval_ms, now_ms());
    std::thread::sleep(every);
    state.hear(watch::overview(caller), now_ms());
    let mut terminal = Terminal::new(TestBackend::new(PICTURE.0, PICTURE.1)).map_err(|error| error.to_string())?;
    terminal.draw(|frame| draw(frame, &state, now_ms())).map_err(|error| error.to_string())?;
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in buffer.content().chunks(usize::from(PICTURE.0)) {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    // Who closes the pipe has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// The terminal, until somebody has seen enough.
fn show(caller: Caller, url: Option<String>, interval_ms: u64) -> Result<ExitCode, String> {
    // Before the terminal is taken: that nobody answers is said where it stays.
    let first = watch::overview(&caller)?;
    let state = State::new(caller.address.to_string(), first, interval_ms, now_ms());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let shown = runtime.block_on(show_state(caller, url, state));
    shown.map_err(|error| format!("the terminal: {error}"))
}

async fn show_state(caller: Caller, url: Option<String>, mut state: State) -> std::io::Result<ExitCode> {
    let (sender, mut heard) = mpsc::channel(HEARD_MAX);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let watch = Watch::start(caller, url, wants(&state), sender.clone())?;
    let mut screen = Screen::open()?;
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || read_keys(&sender))?;
    let mut clock = interval(LOOK_AT_CLOCK_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut is_due, mut paint_at) = (true, Instant::now());
    loop {
        tokio::select! {
            it = heard.recv() => {
                match it {
                    Some(Heard::Overview(overview)) => state.hear(overview.map(|it| *it), now_ms()),
                    Some(Heard::Market(market)) => state.hear_market(market),
                    Some(Heard::Done(said)) => {
                        state.said = said;
                        watch.want(wants(&state));
                    }
                    Some(Heard::Terminal(Some(Event::Key(key)))) if key.kind != KeyEventKind::Release => {
                        match keys::press(&mut state, key) {
                            Effect::None => {}
                            Effect::Quit => return Ok(ExitCode::SUCCESS),
                            Effect::Interrupted => return Ok(ExitCode::from(SIGNALLED + SIGINT)),
                            Effect::Ask => watch.want(wants(&state)),
                            Effect::Act(action, done) => {
                                let is_taken = watch.act(action, done);
                                let said = if is_taken { "Asked." } else { "Too much is under way; nothing was done." };
                                state.said = said.to_owned();
                            }
                        }
                    }
                    Some(Heard::Terminal(Some(_))) => {}
                    Some(Heard::Terminal(None)) | None => return Err(std::io::Error::other("no key can be read from it")),
                }
                is_due = true;
            }
            () = sleep_until(paint_at), if is_due => {
                let at = now_ms();
                screen.draw(|frame| draw(frame, &state, at))?;
                (is_due, paint_at) = (false, Instant::now() + PAINT_EVERY);
            }
            _ = clock.tick() => is_due = true,
            _ = interrupt.recv() => return Ok(ExitCode::from(SIGNALLED + SIGINT)),
            _ = terminate.recv() => return Ok(ExitCode::from(SIGNALLED + 15)),
            _ = hang_up.recv() => return Ok(ExitCode::from(SIGNALLED + 1)),
        }
    }
}

fn wants(state: &State) -> Wants {
    Wants {
        interval: Duration::from_millis(state.interval_ms),
        is_paused: state.is_paused,
        symbol: state.market.as_ref().map(|market| market.symbol.clone()),
    }
}

fn read_keys(heard: &mpsc::Sender<Heard>) {
    while !heard.is_closed() {
        let read = match event::poll(KEY_TIMEOUT) {
            Ok(false) => continue,
            Ok(true) => event::read().ok(),
            Err(_) => None,
        };
        let is_over = read.is_none();
        if heard.blocking_send(Heard::Terminal(read)).is_err() || is_over {
            return;
        }
    }
}
