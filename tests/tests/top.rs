//! `rialto top`: what it paints of a recorded overview, what its keys do, and itself in a real terminal (tmux).

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use gateway::client::Rest;
use gateway::top::keys::{Effect, press};
use gateway::top::overview::Overview;
use gateway::top::screen::draw;
use gateway::top::state::{Depth, Market, Pane, State, Trade};
use gateway::top::terminal::Screen;
use hyper::Method;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::exchange::{Exchange, binary, bootstrap, credentials};

/// What operators see of a cluster with much going on; the console's tests have it too.
fn recorded() -> Value {
    serde_json::from_str(include_str!("../page/overview.json")).unwrap()
}

fn overview(value: Value) -> Overview {
    serde_json::from_value(value).unwrap()
}

/// The recorded overview, and a second later so much more of everything.
fn state() -> State {
    let mut later = recorded();
    let add = |place: &mut Value, more: u64| *place = json!(place.as_u64().unwrap() + more);
    add(&mut later["time"], 1_000);
    add(&mut later["uptimeSeconds"], 1);
    add(&mut later["sequence"], 1_507);
    for (at, (orders, trades)) in [(800, 90), (400, 45), (9, 0), (0, 0), (0, 0)].into_iter().enumerate() {
        add(&mut later["symbols"][at]["orders"], orders);
        add(&mut later["symbols"][at]["trades"], trades);
    }
    for (at, busy) in [121_000_000, 310_000_000, 925_000_000].into_iter().enumerate() {
        add(&mut later["threads"][at]["busyNs"], busy);
    }
    add(&mut later["journal"]["logSyncs"], 610);
    add(&mut later["journal"]["logSyncNs"], 610 * 812_000);
    add(&mut later["journal"]["logBytes"], 1_204_000);
    add(&mut later["sockets"]["messages"], 9_110);
    let mut state = State::new("127.0.0.1:9090".to_owned(), overview(recorded()), 1_000, HEARD);
    state.hear(Ok(overview(later)), HEARD);
    state
}

/// When it was heard, and looked at.
const HEARD: u64 = 1_772_366_401_000;

fn key(state: &mut State, code: KeyCode) -> Effect {
    press(state, KeyEvent::new(code, KeyModifiers::NONE))
}

fn keys(state: &mut State, text: &str) {
    for letter in text.chars() {
        let effect = key(state, KeyCode::Char(letter));
        assert!(matches!(effect, Effect::None | Effect::Ask), "{letter}: {effect:?}");
    }
}

fn picture_at(state: &State, width: u16, height: u16, at_ms: u64) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, at_ms)).unwrap();
    let content = terminal.backend().buffer().content().to_vec();
    let lines = content.chunks(usize::from(width).max(1)).map(|row| {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn picture(state: &State, width: u16, height: u16) -> String {
    picture_at(state, width, height, HEARD)
}

fn market() -> Market {
    let level = |price: &str, size: &str| (price.to_owned(), size.to_owned());
    let depth = Depth {
        bids: vec![level("61688.04", "1.20411"), level("61688.00", "0.50000"), level("61687.11", "12.00000")],
        asks: vec![level("61688.05", "0.00100"), level("61689.00", "3.10000")],
    };
    let trade = |at: u64| Trade {
        price: format!("616{:02}.04", 50 + at * 7 % 40),
        qty: "0.01000".to_owned(),
        time: HEARD - (30 - at) * 1_000,
        is_buyer_maker: at.is_multiple_of(3),
    };
    Market { symbol: "BTCUSDT".to_owned(), depth, trades: (0..30).map(trade).collect(), trouble: None }
}

#[test]
fn on_a_small_terminal_the_chosen_pane_is_shown() {
    let mut state = state();
    insta::assert_snapshot!("small_symbols", picture(&state, 80, 24));
    for pane in &Pane::ALL[1..] {
        key(&mut state, KeyCode::Tab);
        assert_eq!(state.pane, *pane);
        insta::assert_snapshot!(format!("small_{}", pane.title().to_lowercase()), picture(&state, 80, 24));
    }
    key(&mut state, KeyCode::Tab);
    assert_eq!(state.pane, Pane::Symbols);
    key(&mut state, KeyCode::BackTab);
    assert_eq!(state.pane, Pane::Audit);
}

#[test]
fn on_a_large_terminal_everything_is_shown_at_once() {
    insta::assert_snapshot!("large", picture(&state(), 200, 60));
}

#[test]
fn a_symbol_is_opened_with_its_book_and_trades() {
    let mut state = state();
    assert!(matches!(key(&mut state, KeyCode::Enter), Effect::Ask));
    state.hear_market(Market { symbol: "ETHUSDT".to_owned(), ..market() });
    assert!(state.market.as_ref().unwrap().trades.is_empty(), "what was opened before comes late");
    state.hear_market(market());
    insta::assert_snapshot!("small_market", picture(&state, 80, 24));
    insta::assert_snapshot!("large_market", picture(&state, 200, 60));
    assert!(matches!(key(&mut state, KeyCode::Esc), Effect::Ask));
    assert!(state.market.is_none());
}

#[test]
fn what_is_wrong_is_said_in_words_and_what_is_old_looks_so() {
    let mut bad = recorded();
    bad["time"] = json!(1_772_366_402_000_u64);
    bad["ready"] = json!(false);
    bad["conserved"] = json!(false);
    bad["reconciliation"] = json!({ "state": "broken", "detail": "USDT is off by 0.01" });
    bad["haltedAll"] = json!(true);
    bad["journal"]["diskLow"] = json!(true);
    bad["cluster"]["leader"] = Value::Null;
    let mut state = state();
    state.hear(Ok(overview(bad)), HEARD);
    insta::assert_snapshot!("small_bad", picture(&state, 80, 24).lines().take(2).collect::<Vec<_>>().join("\n"));
    insta::assert_snapshot!("large_bad", picture(&state, 200, 60).lines().take(2).collect::<Vec<_>>().join("\n"));

    assert!(!picture_at(&state, 80, 24, HEARD + 4_000).contains("STALE"));
    let late = picture_at(&state, 80, 24, HEARD + 4_001);
    assert!(late.starts_with("STALE since 12:00:01 UTC"), "{late}");
    state.hear(Err("10.0.0.1:9090: connection refused".to_owned()), HEARD + 1_000);
    let troubled = picture(&state, 200, 60);
    assert!(troubled.starts_with("STALE since") && troubled.contains("connection refused"), "{troubled}");
    keys(&mut state, "p");
    assert!(picture_at(&state, 80, 24, HEARD + 60_000).starts_with("PAUSED"));
}

#[test]
fn symbols_are_sorted_and_filtered() {
    let names = |state: &State| state.symbols().iter().map(|it| it.symbol.clone()).collect::<Vec<_>>().join(" ");
    let mut state = state();
    let orders = [
        "BTCUSDT ETHBTC ETHUSDT NEWUSDT SOLUSDT",
        "BTCUSDT ETHUSDT ETHBTC NEWUSDT SOLUSDT",
        "BTCUSDT ETHUSDT ETHBTC NEWUSDT SOLUSDT",
        "BTCUSDT ETHUSDT SOLUSDT ETHBTC NEWUSDT",
        "BTCUSDT ETHUSDT ETHBTC SOLUSDT NEWUSDT",
    ];
    for sorted in orders {
        assert_eq!(names(&state), sorted, "by {}", state.sort.word());
        keys(&mut state, "s");
    }
    assert_eq!(names(&state), orders[0]);
    keys(&mut state, "/eth");
    key(&mut state, KeyCode::Enter);
    assert_eq!(names(&state), "ETHBTC ETHUSDT");
    insta::assert_snapshot!("small_filtered", picture(&state, 80, 24));
    key(&mut state, KeyCode::Esc);
    assert_eq!(names(&state), orders[0]);
    // Letters of a filter are no commands.
    keys(&mut state, "/qph");
    assert_eq!((state.filter.as_str(), state.is_paused, names(&state).as_str()), ("QPH", false, ""));
    assert!(picture(&state, 80, 24).contains("No symbol has that in its name"));
}

#[test]
fn a_chosen_row_stays_chosen_when_the_order_changes() {
    let mut state = state();
    key(&mut state, KeyCode::End);
    assert_eq!(state.chosen_symbol().unwrap().1.symbol, "SOLUSDT");
    keys(&mut state, "sss");
    assert_eq!(state.chosen_symbol().map(|(at, it)| (at, it.symbol.as_str())), Some((2, "SOLUSDT")));
    for _ in 0..9 {
        key(&mut state, KeyCode::Down);
    }
    assert_eq!(state.chosen_symbol().unwrap().1.symbol, "NEWUSDT");
    key(&mut state, KeyCode::PageUp);
    assert_eq!(state.chosen_symbol().unwrap().1.symbol, "BTCUSDT");
}

#[test]
fn a_halt_wants_the_name_of_its_symbol_and_a_wrong_text_does_nothing() {
    let mut state = state();
    keys(&mut state, "h");
    insta::assert_snapshot!("small_confirming", picture(&state, 80, 24));
    for wrong in ["", "BTCUSD", "btcusdt", "BTCUSDT "] {
        keys(&mut state, wrong);
        assert!(matches!(key(&mut state, KeyCode::Enter), Effect::None), "{wrong:?}");
        assert_eq!(state.said, "That is not BTCUSDT. Nothing was done.");
        keys(&mut state, "h");
    }
    keys(&mut state, "BTCUSDT");
    assert!(matches!(key(&mut state, KeyCode::Esc), Effect::None));
    assert!(matches!(key(&mut state, KeyCode::Enter), Effect::Ask), "it opens the book, and confirms nothing");
    key(&mut state, KeyCode::Esc);

    let said = |state: &mut State, verb: char, wanted: &str| {
        key(state, KeyCode::Char(verb));
        keys(state, wanted);
        match key(state, KeyCode::Enter) {
            Effect::Act(action, done) => (serde_json::to_value(&action).unwrap(), done),
            effect => panic!("{verb}: {effect:?}"),
        }
    };
    for (verb, status, done) in
        [('h', "HALT", "halted"), ('c', "CANCEL_ONLY", "cancel-only"), ('r', "TRADING", "trading")]
    {
        let action = json!({ "action": "set-status", "symbol": "BTCUSDT", "status": status });
        assert_eq!(said(&mut state, verb, "BTCUSDT"), (action, format!("BTCUSDT is {done}")));
    }
}

#[test]
fn halting_all_and_disconnecting_want_their_words_too() {
    let mut state = state();
    let mut asked = |keys_first: &str, wanted: &str| {
        keys(&mut state, keys_first);
        keys(&mut state, wanted);
        match key(&mut state, KeyCode::Enter) {
            Effect::Act(action, _) => serde_json::to_value(&action).unwrap(),
            effect => panic!("{effect:?}"),
        }
    };
    assert_eq!(asked("H", "HALT ALL"), json!({ "action": "halt-all" }));
    assert_eq!(asked("R", "RESUME ALL"), json!({ "action": "resume-all", "except": [] }));
    keys(&mut state, "x");
    assert!(matches!(key(&mut state, KeyCode::Enter), Effect::Ask), "no socket is chosen among symbols");
    key(&mut state, KeyCode::Esc);
    while state.pane != Pane::Sockets {
        key(&mut state, KeyCode::Tab);
    }
    key(&mut state, KeyCode::Down);
    keys(&mut state, "x");
    assert!(picture(&state, 80, 24).contains("Disconnect [2001:db8::17]:41002?"));
    keys(&mut state, "88120");
    assert!(matches!(key(&mut state, KeyCode::Enter), Effect::None), "that is the number of another");
    keys(&mut state, "x90011");
    let effect = key(&mut state, KeyCode::Enter);
    let Effect::Act(action, _) = effect else { panic!("{effect:?}") };
    assert_eq!(serde_json::to_value(&action).unwrap(), json!({ "action": "disconnect", "id": 90_011 }));
}

#[test]
fn the_interval_is_typed_in_seconds() {
    let mut state = state();
    keys(&mut state, "d2.5");
    assert!(picture(&state, 80, 24).contains("> 2.5_"));
    assert!(matches!(key(&mut state, KeyCode::Enter), Effect::Ask));
    assert_eq!(state.interval_ms, 2_500);
    keys(&mut state, "d0.1");
    assert!(matches!(key(&mut state, KeyCode::Enter), Effect::None));
    assert_eq!((state.interval_ms, state.said.as_str()), (2_500, "\"0.1\" is not from 0.2 to 60 seconds"));
}

#[test]
fn quitting_and_help_have_their_keys() {
    let mut state = state();
    keys(&mut state, "?");
    insta::assert_snapshot!("small_help", picture(&state, 80, 24));
    assert!(matches!(key(&mut state, KeyCode::Char('q')), Effect::None), "any key closes the list");
    assert!(matches!(key(&mut state, KeyCode::Char('q')), Effect::Quit));
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    keys(&mut state, "h");
    assert!(matches!(press(&mut state, interrupt), Effect::Interrupted), "wherever one is");
}

#[test]
fn it_is_painted_at_every_size_whatever_the_node_says() {
    let mut hostile = recorded();
    hostile["symbols"][0]["symbol"] = json!("\u{1b}[2J\u{7}名前👩‍👩‍👧\n");
    hostile["audit"][0]["reason"] = json!("\u{1b}]0;title\u{7}".repeat(500));
    hostile["stages"][0] =
        json!({ "name": "x".repeat(300), "count": u64::MAX, "p50Us": u64::MAX, "p99Us": 0, "p999Us": 5 });
    hostile["queues"][0] = json!({ "name": "", "depth": u64::MAX, "bound": u64::MAX });
    hostile["sockets"]["slowDisconnects"] = json!({ "behind": u64::MAX, "hole": u64::MAX });
    hostile["uptimeSeconds"] = json!(u64::MAX);
    hostile["audit"][0]["time"] = json!(u64::MAX);
    let empty = State::new(String::new(), overview(json!({})), 1_000, 0);
    let mut troubled = State::new(String::new(), overview(hostile), 1_000, 0);
    for mut state in [state(), empty, troubled.clone()] {
        for pane in Pane::ALL {
            state.pane = pane;
            for (width, height) in [(1, 1), (40, 8), (41, 9), (60, 10), (79, 23), (149, 60), (150, 40), (250, 80)] {
                picture(&state, width, height);
            }
        }
        for size in 1..=60 {
            picture(&state, size * 3, size);
        }
    }
    troubled.market = Some(Market { symbol: "名".to_owned(), ..market() });
    for mode in ["h", "d", "?", "/"] {
        let mut state = troubled.clone();
        keys(&mut state, mode);
        for size in 1..=30 {
            let shown = picture(&state, size * 4, size);
            assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'), "nothing but text goes to the terminal");
        }
    }
}

// ---- The program itself ---------------------------------------------------------------------------------------------------

/// The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

fn top(exchange: &Exchange, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("top").arg("--data").arg(exchange.data()).args(arguments).output().expect("the binary can be started")
}

async fn place(exchange: &Exchange, account: usize, side: &str, price: &str) {
    let order = [
        ("symbol", "BTCUSD"),
        ("side", side),
        ("type", "LIMIT"),
        ("timeInForce", "GTC"),
        ("quantity", "0.5"),
        ("price", price),
    ];
    let rest = Rest::new(exchange.address());
    let answer = rest.signed(Method::POST, "/api/v3/order", &order, &credentials(account)).await.unwrap();
    assert!(answer.is_success(), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_it_says_what_there_is_instead() {
    let exchange = Exchange::start(&bootstrap(1, "0", "0"), &[]);
    place(&exchange, 1, "BUY", "100.25").await;
    let refused = top(&exchange, &[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(2), 0));
    assert!(said.contains("--json") && said.contains("--once"), "{said}");

    let line = top(&exchange, &["--json", "--once"]);
    let told: Value = serde_json::from_slice(&line.stdout).expect("one JSON object");
    assert_eq!((line.status.code(), line.stdout.iter().filter(|byte| **byte == b'\n').count()), (Some(0), 1));
    assert_eq!(
        (&told["symbols"][0]["symbol"], &told["symbols"][0]["bid"]),
        (&json!("BTCUSD"), &json!("100.2500000000"))
    );

    let picture = top(&exchange, &["--once", "--interval", "0.2"]);
    let text = String::from_utf8(picture.stdout).unwrap();
    assert!(picture.status.success() && text.starts_with("LIVE") && text.contains("100.25"), "{text}");
    assert!(!text.contains('\u{1b}'), "a picture for a file has no colours");

    for (wrong, status) in [(["--interval", "0.1"], 2), (["--interval", "x"], 2), (["--no-such", "x"], 2)] {
        assert_eq!(top(&exchange, &wrong).status.code(), Some(status), "{wrong:?}");
    }
    let token = exchange.folder().join("other.token");
    std::fs::write(&token, "0123456789abcdef0123456789abcdef").unwrap();
    let refused = top(&exchange, &["--json", "--token-file", token.to_str().unwrap()]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0), "whose token it is not sees nothing");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Bearer"));
    let mut nobody = Command::new(binary());
    let nobody =
        nobody.args(["top", "--json", "--address", "127.0.0.1:1", "--token-file"]).arg(&token).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("127.0.0.1:1: "), "it says who does not answer");
}

/// A terminal of its own, by tmux: what is typed in it and what stands on it.
struct Tmux {
    folder: TempDir,
}

impl Tmux {
    /// Runs a shell's script in it. Without tmux there is none, which is said in one line.
    fn start(script: &str, width: u16, height: u16) -> Option<Tmux> {
        if Command::new("tmux").arg("-V").output().is_err() {
            println!("skipped: there is no tmux (scripts/setup)");
            return None;
        }
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("script"), script).unwrap();
        let (width, height) = (width.to_string(), height.to_string());
        let tmux = Tmux { folder };
        let shell = format!("exec sh {}", tmux.path("script"));
        tmux.run(&["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, &shell]);
        Some(tmux)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default().trim().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX").current_dir(self.folder.path());
        let output = command.args(["-u", "-S", &self.path("socket")]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    fn write(&self, text: &str) {
        self.run(&["send-keys", "-l", text]);
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// Waits until that is so of what stands on it.
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if wanted(&screen) {
                return screen;
            }
            assert!(Instant::now() < end, "never: {what}\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the program has ended; it left the terminal as it was, with this status.
    fn assert_given_back(&self, status: &str) -> String {
        let screen = self.until("it ends", |_| !self.read("status").is_empty() && !self.read("after").is_empty());
        assert_eq!(self.read("status"), status, "{screen}");
        assert_eq!(self.read("after"), self.read("before"), "the settings of the terminal");
        let modes = self.run(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(modes.trim(), "0 1", "its first screen is shown, and its cursor");
        self.until("the shell goes on", |screen| screen.contains("it is over"))
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-S", &self.path("socket"), "kill-server"]).output();
    }
}

/// Runs a program, and notes how it found the terminal, its number, its status and how it left the terminal.
fn around(program: &str) -> String {
    format!(
        "stty -g > before\nsh -c 'echo $$ > pid; exec {program}'\necho $? > status\nstty -g > after\necho it is over\n\
         exec cat\n"
    )
}

fn around_top(exchange: &Exchange) -> String {
    around(&format!("{} top --interval 0.2 --operator ann --data {}", binary().display(), exchange.data().display()))
}

async fn status(exchange: &Exchange) -> String {
    let answer = Rest::new(exchange.address()).get("/api/v3/exchangeInfo", &[]).await.unwrap();
    answer.body["symbols"][0]["status"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_real_terminal_a_real_node_is_watched_a_symbol_halted_and_the_terminal_given_back() {
    let mut exchange = Exchange::start(&bootstrap(2, "0", "0"), &[]);
    for (account, side, price) in
        [(1, "BUY", "100.25"), (1, "BUY", "100.00"), (1, "SELL", "101.75"), (2, "BUY", "101.75"), (1, "SELL", "102.50")]
    {
        place(&exchange, account, side, price).await;
    }
    let Some(terminal) = Tmux::start(&around_top(&exchange), 100, 30) else { return };
    let first = terminal.until("it lives", |screen| screen.starts_with("LIVE") && screen.contains("BTCUSD"));
    assert!(first.contains("TRADING") && first.contains("100.25") && first.contains("102.50"), "{first}");
    println!("{first}");

    terminal.press(&["Enter"]);
    let book = terminal.until("the book is read", |screen| screen.contains("101.75") && screen.contains("100.00"));
    assert!(book.contains("102.50  ") && book.contains("▲ 101.75        0.5"), "{book}");
    println!("{book}");
    terminal.press(&["Escape"]);
    terminal.until("the symbols are back", |screen| screen.contains("Orders/s"));

    terminal.write("hBTCUS");
    terminal.until("it asks", |screen| screen.contains("To confirm, type BTCUSD") && screen.contains("> BTCUS_"));
    terminal.press(&["Enter"]);
    terminal.until("it does nothing", |screen| screen.contains("That is not BTCUSD. Nothing was done."));
    assert_eq!(status(&exchange).await, "TRADING");
    terminal.write("hBTCUSD");
    terminal.press(&["Enter"]);
    let halted = terminal.until("it is halted", |screen| screen.contains("BTCUSD is halted, at sequence"));
    terminal.until("it shows", |screen| screen.contains(" HALT "));
    assert_eq!(status(&exchange).await, "HALT", "{halted}");
    terminal.write("rBTCUSD");
    terminal.press(&["Enter"]);
    terminal.until("it trades", |screen| screen.contains("BTCUSD is trading") && screen.contains(" TRADING "));

    // A terminal that gets larger shows more.
    terminal.run(&["resize-window", "-x", "200", "-y", "60"]);
    let shows = ["Audit", "lane 0", "set-status", "log-writer"];
    let large = terminal.until("all panes", |screen| shows.iter().all(|text| screen.contains(text)));
    println!("{large}");

    exchange.kill();
    terminal.until("what is old looks so", |screen| screen.starts_with("STALE since"));
    terminal.write("q");
    terminal.assert_given_back("0");
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_and_ctrl_c_give_the_terminal_back() {
    let exchange = Exchange::start(&bootstrap(1, "0", "0"), &[]);
    for (signal, expected) in [(Some("INT"), "130"), (Some("TERM"), "143"), (None, "130")] {
        let Some(terminal) = Tmux::start(&around_top(&exchange), 80, 24) else { return };
        terminal.until("it lives", |screen| screen.starts_with("LIVE"));
        match signal {
            Some(signal) => {
                let sent = Command::new("kill").args(["-s", signal, &terminal.read("pid")]).status().unwrap();
                assert!(sent.success());
            }
            None => terminal.press(&["C-c"]),
        }
        terminal.assert_given_back(expected);
    }
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_told_of_where_it_can_be_read() {
    let this = std::env::current_exe().unwrap();
    let test = "panics_on_a_screen --exact --ignored --nocapture --test-threads=1";
    let Some(terminal) = Tmux::start(&around(&format!("{} {test}", this.display())), 120, 40) else { return };
    let screen = terminal.assert_given_back("101");
    assert!(screen.contains("panicked at") && screen.contains("on purpose"), "{screen}");
    assert!(!screen.contains("PAINTED"), "{screen}");
}

#[test]
#[ignore = "run in a terminal, by the test of panics"]
fn panics_on_a_screen() {
    assert!(Path::new("before").exists(), "this is for the test of panics alone");
    let mut screen = Screen::open().unwrap();
    screen.draw(|frame| frame.render_widget("PAINTED", frame.area())).unwrap();
    panic!("on purpose");
}
