//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::state::{Deed, INTERVALS_MS, Market, Mode, Pane, State};
use crate::admin::action::Action;

/// The longest text that can be typed.
const TYPED_MAX: usize = 64;
/// How many rows a page is.
const PAGE: isize = 10;

/// What is to be done after a key.
#[derive(Debug)]
pub enum Effect {
    /// Nothing but to paint.
    None,
    /// The end.
    Quit,
    /// The end, as by Ctrl+C.
    Interrupted,
    /// What is asked of the node, how often or whether at all, has changed.
    Ask,
    /// The node is to do this; what is said once it is done.
    Act(Action, String),
}

/// What the list of keys says.
pub const HELP: [(&str, &str); 14] = [
    ("q  Ctrl+C", "quit"),
    ("Tab  Shift+Tab", "next pane, pane before"),
    ("Up Down  PgUp PgDn", "choose a row"),
    ("s", "sort symbols by the next column"),
    ("/", "filter symbols; Esc shows all again"),
    ("Enter", "book and trades of the symbol; Esc closes them"),
    ("h", "halt the symbol (asks to type its name)"),
    ("c  r", "make it cancel-only, resume it (the same)"),
    ("H  R", "halt all symbols, resume all (asks for the words)"),
    ("x", "among Sockets: disconnect it (asks for its number)"),
    ("p", "pause: nothing is asked, what is shown stays"),
    ("d", "how often the node is asked, in seconds"),
    ("?", "this list"),
    ("Esc", "leave whatever was begun"),
];

/// Takes a key.
pub fn press(state: &mut State, key: KeyEvent) -> Effect {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return if key.code == KeyCode::Char('c') { Effect::Interrupted } else { Effect::None };
    }
    match std::mem::replace(&mut state.mode, Mode::Watching) {
        Mode::Watching => watching(state, key.code),
        Mode::Filtering => filtering(state, key.code),
        Mode::Interval(typed) => interval(state, typed, key.code),
        Mode::Confirming(deed, typed) => confirming(state, deed, typed, key.code),
        // Whatever is pressed closes it.
        Mode::Help => Effect::None,
    }
}

fn watching(state: &mut State, key: KeyCode) -> Effect {
    state.said.clear();
    match key {
        KeyCode::Char('q') => return Effect::Quit,
        KeyCode::Char('?') => state.mode = Mode::Help,
        KeyCode::Char('s') => state.sort = state.sort.next(),
        KeyCode::Char('/') => {
            state.pane = Pane::Symbols;
            state.mode = Mode::Filtering;
        }
        KeyCode::Char('p') => {
            state.is_paused = !state.is_paused;
            return Effect::Ask;
        }
        KeyCode::Char('d') => state.mode = Mode::Interval(String::new()),
        KeyCode::Char('h') => confirm_status(state, "HALT", "Halt", "halted"),
        KeyCode::Char('c') => confirm_status(state, "CANCEL_ONLY", "Take nothing but cancels in", "cancel-only"),
        KeyCode::Char('r') => confirm_status(state, "TRADING", "Resume", "trading"),
        KeyCode::Char('H') => {
            let done = "Every symbol that traded is halted";
            confirm(state, "Halt every symbol?".to_owned(), "HALT ALL".to_owned(), Action::HaltAll, done.to_owned());
        }
        KeyCode::Char('R') => {
            let (action, done) = (Action::ResumeAll { except: Vec::new() }, "Halted symbols trade again");
            confirm(state, "Resume every halted symbol?".to_owned(), "RESUME ALL".to_owned(), action, done.to_owned());
        }
        KeyCode::Char('x') if state.pane == Pane::Sockets => {
            let Some((id, address)) = state.chosen_socket().map(|(_, it)| (it.id, it.address.clone())) else {
                return Effect::None;
            };
            let (title, done) = (format!("Disconnect {address}?"), format!("Websocket {id} is disconnected"));
            confirm(state, title, id.to_string(), Action::Disconnect { id }, done);
        }
        KeyCode::Tab => state.turn(1),
        KeyCode::BackTab => state.turn(Pane::ALL.len() - 1),
        KeyCode::Up | KeyCode::Char('k') => state.choose(-1),
        KeyCode::Down | KeyCode::Char('j') => state.choose(1),
        KeyCode::PageUp => state.choose(-PAGE),
        KeyCode::PageDown => state.choose(PAGE),
        KeyCode::Home => state.choose(isize::MIN),
        KeyCode::End => state.choose(isize::MAX),
        KeyCode::Enter if state.pane == Pane::Symbols => {
            let symbol = state.chosen_symbol().map(|(_, symbol)| symbol.symbol.clone());
            state.market = symbol.map(|symbol| Market { symbol, ..Market::default() });
            return Effect::Ask;
        }
        KeyCode::Esc if state.market.is_some() => {
            state.market = None;
            return Effect::Ask;
        }
        KeyCode::Esc => state.filter.clear(),
        _ => {}
    }
    Effect::None
}

fn filtering(state: &mut State, key: KeyCode) -> Effect {
    match key {
        KeyCode::Enter => return Effect::None,
        KeyCode::Esc => {
            state.filter.clear();
            return Effect::None;
        }
        key => edit(&mut state.filter, key, |it| it.is_ascii_alphanumeric().then(|| it.to_ascii_uppercase())),
    }
    state.mode = Mode::Filtering;
    Effect::None
}

fn interval(state: &mut State, mut typed: String, key: KeyCode) -> Effect {
    match key {
        KeyCode::Esc => return Effect::None,
        KeyCode::Enter => {
            let Some(ms) = parse_interval(&typed) else {
                state.said = format!("{typed:?} is not from 0.2 to 60 seconds");
                return Effect::None;
            };
            state.interval_ms = ms;
            return Effect::Ask;
        }
        key => edit(&mut typed, key, |it| (it.is_ascii_digit() || it == '.').then_some(it)),
    }
    state.mode = Mode::Interval(typed);
    Effect::None
}

/// Seconds with up to three decimals, as milliseconds.
pub fn parse_interval(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = part.len() <= 3 && [whole, part].iter().all(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
    let parse = |digits: String| digits.parse::<u64>().ok();
    let ms = parse(format!("0{whole}"))?.checked_mul(1_000)?.checked_add(parse(format!("{part:0<3}"))?)?;
    (is_number && INTERVALS_MS.contains(&ms)).then_some(ms)
}

fn confirming(state: &mut State, deed: Box<Deed>, mut typed: String, key: KeyCode) -> Effect {
    match key {
        KeyCode::Esc => return Effect::None,
        KeyCode::Enter if typed == deed.wanted => return Effect::Act(deed.action, deed.done),
        KeyCode::Enter => {
            state.said = format!("That is not {}. Nothing was done.", deed.wanted);
            return Effect::None;
        }
        key => edit(&mut typed, key, Some),
    }
    state.mode = Mode::Confirming(deed, typed);
    Effect::None
}

fn confirm_status(state: &mut State, status: &str, verb: &str, done: &str) {
    let open = state.market.as_ref().map(|market| market.symbol.clone());
    let Some(symbol) = open.or_else(|| state.chosen_symbol().map(|(_, it)| it.symbol.clone())) else { return };
    let (title, done) = (format!("{verb} {symbol}?"), format!("{symbol} is {done}"));
    let action = Action::SetStatus { symbol: symbol.clone(), status: status.to_owned() };
    confirm(state, title, symbol, action, done);
}

fn confirm(state: &mut State, title: String, wanted: String, action: Action, done: String) {
    state.mode = Mode::Confirming(Box::new(Deed { title, wanted, action, done }), String::new());
}

fn edit(text: &mut String, key: KeyCode, take: impl Fn(char) -> Option<char>) {
    match key {
        KeyCode::Backspace => {
            text.pop();
        }
        KeyCode::Char(typed) if text.len() < TYPED_MAX => text.extend(take(typed)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_from_a_fifth_of_a_second_to_a_minute() {
        for (text, ms) in [("1", 1_000), ("0.2", 200), (".25", 250), ("60", 60_000), ("2.", 2_000), ("1.125", 1_125)] {
            assert_eq!(parse_interval(text), Some(ms), "{text}");
        }
        for text in ["", ".", "0", "0.1", "61", "1.2.3", "1.1234", "x", "-1", "99999999999999999999"] {
            assert_eq!(parse_interval(text), None, "{text}");
        }
    }
}
