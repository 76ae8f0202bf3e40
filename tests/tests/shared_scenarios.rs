//! The scenarios decided elsewhere (shared/scenarios) through `rialto sim`, in process: the same comparisons as its
//! check.py, so that a scenario means the same to both.

use std::collections::BTreeMap;

use gateway::sim::Sim;
use serde_json::{Map, Value, json};
use tests::shared_data::shared_file;

const FIELDS: [&str; 5] = ["status", "executed", "open", "cum_quote", "prevented"];

#[test]
fn what_other_venues_decided_is_decided_here() {
    let Some(file) = shared_file("scenarios/scenarios.jsonl") else { return };
    let text = std::fs::read_to_string(file).expect("the file is text");
    let scenarios: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect();
    let mut failed = Vec::new();
    let mut steps = 0;
    for scenario in &scenarios {
        steps += scenario["steps"].as_array().map_or(0, Vec::len);
        let complaints = run(scenario);
        if !complaints.is_empty() {
            failed.push(format!("{}\n    {}", scenario["id"], complaints.join("\n    ")));
        }
    }
    println!("{} passed, {} failed ({steps} steps)", scenarios.len() - failed.len(), failed.len());
    assert!(failed.is_empty(), "{} of {} scenarios failed:\n{}", failed.len(), scenarios.len(), failed.join("\n"));
}

#[test]
fn the_state_is_conserved_and_whole_after_every_scenario_and_the_same_every_time() {
    let Some(file) = shared_file("scenarios/scenarios.jsonl") else { return };
    let text = std::fs::read_to_string(file).expect("the file is text");
    for line in text.lines() {
        let scenario: Value = serde_json::from_str(line).expect("a JSON object");
        let end = || {
            let mut venue = Venue(Sim::new());
            venue.prepare(&scenario).expect("the set-up is accepted");
            for step in array(&scenario["steps"]) {
                venue.ask(step["cmd"].clone());
            }
            let totals = venue.ask(json!({ "op": "totals" }));
            assert_eq!(totals["conserved"], true, "{}", scenario["id"]);
            venue.ask(json!({ "op": "snapshot" }))["hash"].clone()
        };
        assert_eq!(end(), end(), "{}", scenario["id"]);
    }
}

struct Venue(Sim);

impl Venue {
    fn ask(&mut self, command: Value) -> Value {
        serde_json::from_str(&self.0.answer(&command.to_string())).expect("an answer is JSON")
    }

    /// Configures and funds; the first answer that is not ok otherwise.
    fn prepare(&mut self, scenario: &Value) -> Result<(), String> {
        let configs = match &scenario["config"] {
            Value::Null => vec![json!({ "symbol": "X" })],
            Value::Array(configs) => configs.clone(),
            config => vec![config.clone()],
        };
        let configs = configs.into_iter().map(|mut config| {
            config["op"] = "config".into();
            config
        });
        for command in configs.chain(array(&scenario["setup"]).iter().cloned()) {
            let answer = self.ask(command.clone());
            if answer["ok"] != true {
                return Err(format!("set-up {command}: {answer}"));
            }
        }
        Ok(())
    }
}

fn run(scenario: &Value) -> Vec<String> {
    let mut venue = Venue(Sim::new());
    if let Err(complaint) = venue.prepare(scenario) {
        return vec![complaint];
    }
    let mut complaints = Vec::new();
    for (index, step) in array(&scenario["steps"]).iter().enumerate() {
        let told = compare(&mut venue, &step["cmd"], &step["expect"]);
        complaints.extend(told.into_iter().map(|complaint| format!("step {index} {}: {complaint}", step["cmd"])));
    }
    complaints
}

/// Carries out one command and compares what is expected of it.
fn compare(venue: &mut Venue, command: &Value, expected: &Value) -> Vec<String> {
    let answer = venue.ask(command.clone());
    let mut complaints = Vec::new();
    let mut complain = |what: &str, got: &Value, wanted: &Value| complaints.push(format!("{what} {got}, not {wanted}"));
    let wanted = expected.get("ok").cloned().unwrap_or(Value::Bool(true));
    if answer["ok"] != wanted {
        complain("ok", &answer, &wanted);
        return complaints;
    }
    let with_symbol = |mut question: Value| {
        if let Some(symbol) = command.get("symbol") {
            question["symbol"] = symbol.clone();
        }
        question
    };

    for field in FIELDS {
        if let Some(wanted) = expected.get(field)
            && !same(&answer["order"][field], wanted)
        {
            complain(field, &answer["order"][field], wanted);
        }
    }
    if let Some(wanted) = expected.get("n_trades") {
        let got = json!(array(&answer["trades"]).len());
        if got != *wanted {
            complain("n_trades", &got, wanted);
        }
    }
    for list in ["trades", "prevented_matches"] {
        if let Some(wanted) = expected.get(list) {
            let got = array(&answer[list]);
            let alike = |(got, wanted): (&Value, &Value)| fields(wanted).all(|(field, value)| same(&got[field], value));
            if got.len() != array(wanted).len() || !got.iter().zip(array(wanted)).all(alike) {
                complain(list, &answer[list], wanted);
            }
        }
    }
    if let Some(wanted) = expected.get("expired") {
        let got: Value = array(&answer["expired"]).iter().map(|order| order["id"].clone()).collect();
        if got != *wanted {
            complain("expired", &got, wanted);
        }
    }
    if let Some(wanted) = expected.get("triggered") {
        let sorted = |ids: &Value| {
            let mut ids: Vec<&str> = array(ids).iter().filter_map(Value::as_str).collect();
            ids.sort_unstable();
            json!(ids)
        };
        if sorted(&answer["triggered"]) != sorted(wanted) {
            complain("triggered", &answer["triggered"], wanted);
        }
    }
    for (id, wanted) in fields(&expected["orders"]) {
        let got = venue.ask(with_symbol(json!({ "op": "order", "id": id })));
        for (field, wanted) in fields(wanted) {
            if !same(&got["order"][field], wanted) {
                complain(&format!("order {id} {field}"), &got["order"][field], wanted);
            }
        }
    }
    if ["resting", "gone", "queue"].iter().any(|key| expected.get(*key).is_some()) {
        let queue = venue.ask(with_symbol(json!({ "op": "queue" })));
        let ids = |side: &str| array(&queue[side]).iter().map(|order| order[0].clone()).collect::<Vec<Value>>();
        let resting = [ids("bids"), ids("asks")].concat();
        for id in array(&expected["resting"]) {
            if !resting.contains(id) {
                complain("resting", &json!(resting), id);
            }
        }
        for id in array(&expected["gone"]) {
            if resting.contains(id) {
                complain("gone", &json!(resting), id);
            }
        }
        for (side, wanted) in fields(&expected["queue"]) {
            if json!(ids(side)) != *wanted {
                complain("queue", &json!(ids(side)), wanted);
            }
        }
    }
    if let Some(wanted) = expected.get("book") {
        let book = venue.ask(with_symbol(json!({ "op": "book" })));
        let exact = wanted.get("exact") != Some(&Value::Bool(false));
        for side in ["bids", "asks"] {
            let (Some(wanted), got) = (wanted.get(side), &book[side]) else { continue };
            let (wanted_levels, got_levels) = (array(wanted), array(got));
            let alike = |(got, wanted): (&Value, &Value)| {
                // Where the source gives no count of orders, any will do.
                array(wanted).iter().zip(array(got)).all(|(wanted, got)| same(got, wanted))
            };
            let as_long =
                if exact { wanted_levels.len() == got_levels.len() } else { wanted_levels.len() <= got_levels.len() };
            if !as_long || !got_levels.iter().zip(wanted_levels).all(alike) {
                complain(side, got, wanted);
            }
        }
    }
    if let Some(wanted) = expected.get("totals") {
        let book = venue.ask(with_symbol(json!({ "op": "book" })));
        for (side, wanted) in fields(wanted) {
            let count: u64 = array(&book[side]).iter().filter_map(|level| level[2].as_u64()).sum();
            // Every scenario that asks this has whole lots.
            let whole = |level: &Value| level[1].as_str().and_then(|quantity| quantity.parse::<u128>().ok());
            let volume: Option<u128> = array(&book[side]).iter().map(whole).sum();
            let got = json!([count, volume.map(|volume| volume.to_string())]);
            if got[0] != wanted[0] || !same(&got[1], &wanted[1]) {
                complain("totals", &got, wanted);
            }
        }
    }
    for (user, wanted) in fields(&expected["balances"]) {
        let got = venue.ask(json!({ "op": "balances", "user": user }));
        for (asset, wanted) in fields(wanted) {
            for (part, wanted) in fields(wanted) {
                let got = got["balances"][user][asset].get(part).cloned().unwrap_or_else(|| "0".into());
                if !same(&got, wanted) {
                    complain(&format!("balance {user} {asset} {part}"), &got, wanted);
                }
            }
        }
    }
    if expected.get("fees").is_some() || expected["conserved"] == true {
        let totals = venue.ask(json!({ "op": "totals" }));
        for (asset, wanted) in fields(&expected["fees"]) {
            let got = totals["fees"].get(asset).cloned().unwrap_or_else(|| "0".into());
            if !same(&got, wanted) {
                complain(&format!("fees {asset}"), &got, wanted);
            }
        }
        if expected["conserved"] == true && totals["conserved"] != true {
            complain("conserved", &totals["conserved"], &Value::Bool(true));
        }
    }
    complaints
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// Whether two values are the same number, however written, or else the same value.
fn same(got: &Value, wanted: &Value) -> bool {
    match (plain(got), plain(wanted)) {
        (Some(got), Some(wanted)) => got == wanted,
        _ => got == wanted,
    }
}

/// A decimal without needless zeros.
fn plain(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let decimals = decimals.trim_end_matches('0');
    Some(format!("{}.{decimals}", if whole.is_empty() { "0" } else { whole }))
}

#[test]
fn numbers_are_compared_as_numbers() {
    let texts = ["1", "1.0", "01.00", "10", "0.10", ".1", "-1", "NEW"];
    let plain: BTreeMap<&str, Option<String>> = texts.iter().map(|text| (*text, plain(&json!(text)))).collect();
    assert_eq!(plain["1"], plain["1.0"]);
    assert_eq!(plain["1"], plain["01.00"]);
    assert_ne!(plain["1"], plain["10"]);
    assert_eq!(plain["0.10"].as_deref(), Some("0.1"));
    assert_eq!([&plain[".1"], &plain["-1"], &plain["NEW"]], [&None; 3]);
}
