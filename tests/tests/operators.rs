//! What operators do and who logs in, on a real server: accounts, keys, transfers, symbols, users; each in the log with who asked.

use std::process::Command;

use gateway::client::Credentials;
use gateway::passwords::one_time_code;
use serde_json::{Value, json};
use tests::exchange::binary;
use tests::server::{Server, account_a, account_b, credentials, limit};

/// The result of an operator's request that must be done.
async fn done(server: &Server, action: Value) -> Value {
    let (status, answer) = server.admin(action.clone()).await;
    assert_eq!(status, 200, "{action}: {answer}");
    answer["result"].clone()
}

/// The status of one that must be refused.
async fn refused(server: &Server, action: Value) -> u16 {
    let (status, answer) = server.admin(action.clone()).await;
    assert!(status >= 400 && answer["error"].is_string(), "{action}: {answer}");
    status
}

fn key_of(made: &Value) -> Credentials {
    credentials(made["api_key"].as_str().unwrap(), made["secret"].as_str().unwrap())
}

#[tokio::test]
async fn an_account_is_opened_funded_given_a_key_and_trades() {
    let server = Server::start(|_| {}).await;
    done(&server, json!({ "action": "create-account", "uid": 2001 })).await;
    assert_eq!(refused(&server, json!({ "action": "create-account", "uid": 2001 })).await, 409);
    let wire = |amount: &str, id: &str| json!({ "action": "deposit", "uid": 2001, "asset": "USDT", "amount": amount, "external_id": id });
    done(&server, wire("1000.5", "wire-1")).await;
    assert_eq!(done(&server, wire("1000.5", "wire-1")).await["repeated"], true);
    let who = key_of(&done(&server, json!({ "action": "create-key", "uid": 2001 })).await);
    let usdt = |account: &Value| {
        let balances = account["balances"].as_array().unwrap();
        let usdt = balances.iter().find(|balance| balance["asset"] == "USDT");
        usdt.unwrap()["free"].as_str().unwrap().to_owned()
    };
    let account = server.signed(&who, "GET", "/api/v3/account", "").await.good();
    assert_eq!((account["uid"].as_u64(), usdt(&account)), (Some(2001), "1000.50000000".to_owned()));
    server.order(&who, &limit("BUY", "0.001", "50000")).await.good();

    let out = |amount: &str| json!({ "action": "withdraw", "uid": 2001, "asset": "USDT", "amount": amount, "external_id": format!("out-{amount}") });
    assert_eq!(refused(&server, out("1000")).await, 409, "50 are held by the order");
    done(&server, out("900")).await;
    let begun =
        json!({ "action": "begin-withdrawal", "uid": 2001, "asset": "USDT", "amount": "50", "external_id": "slow" });
    done(&server, begun).await;
    let shown = done(&server, json!({ "action": "account", "uid": 2001 })).await;
    assert_eq!(shown["balances"][0], json!({ "asset": "USDT", "free": "0.50000000", "locked": "100.00000000" }));
    done(&server, json!({ "action": "end-withdrawal", "uid": 2001, "external_id": "slow", "abandoned": true })).await;
    assert_eq!(refused(&server, json!({ "action": "end-withdrawal", "uid": 2001, "external_id": "slow" })).await, 404);

    done(&server, json!({ "action": "configure-account", "uid": 2001, "can_trade": false })).await;
    server.order(&who, &limit("BUY", "0.001", "50000")).await.refused(400, -2010, "This account may not place");
    for (action, status) in [
        (json!({ "action": "create-key", "uid": 9 }), 404),
        (json!({ "action": "create-account", "uid": 0 }), 400),
        (json!({ "action": "deposit", "uid": 9, "asset": "USDT", "amount": "1", "external_id": "x" }), 404),
        (json!({ "action": "deposit", "uid": 2001, "asset": "NOPE", "amount": "1", "external_id": "x" }), 404),
        (json!({ "action": "deposit", "uid": 2001, "asset": "USDT", "amount": "-1", "external_id": "x" }), 400),
        (json!({ "action": "deposit", "uid": 2001, "asset": "USDT", "amount": "0", "external_id": "x" }), 400),
        (json!({ "action": "deposit", "uid": 2001, "asset": "USDT", "amount": "1", "external_id": "" }), 400),
        (json!({ "action": "create-key", "uid": 2001, "permissions": ["FLY"] }), 400),
        (json!({ "action": "create-key", "uid": 2001, "allow": ["10.0.0.0/99"] }), 400),
        (json!({ "action": "create-key", "uid": 2001, "public_key": "no PEM" }), 400),
        (json!({ "action": "remove-key", "api_key": "none" }), 404),
        (json!({ "action": "no-such-action" }), 400),
        (json!("text"), 400),
    ] {
        assert_eq!(refused(&server, action.clone()).await, status, "{action}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_key_does_what_its_rules_say_and_nothing_once_it_is_removed() {
    let server = Server::start(|_| {}).await;
    let made = done(
        &server,
        json!({ "action": "create-key", "uid": 1001, "permissions": ["USER_DATA"], "allow": ["127.0.0.2", "10.0.0.0/8"] }),
    )
    .await;
    let who = key_of(&made);
    let account = async |from| {
        let target = format!("/api/v3/account?{}", tests::server::sign(&who, ""));
        server.ask_from(from, "GET", &target, &tests::server::key_header(&who), b"").await.outcome()
    };
    let (listed, elsewhere) = ([127, 0, 0, 2], [127, 0, 0, 3]);
    assert_eq!((account(listed).await, account(elsewhere).await), ((200, 0), (401, -2015)));
    let configure = |change: Value| {
        let mut action = json!({ "action": "configure-key", "api_key": who.api_key });
        action.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        action
    };
    done(&server, configure(json!({ "allow": ["any"] }))).await;
    assert_eq!((account(listed).await, account(elsewhere).await), ((200, 0), (200, 0)));
    server.order(&who, &limit("BUY", "0.001", "50000")).await.refused(401, -2015, "");
    done(&server, configure(json!({ "permissions": ["TRADE"] }))).await;
    server.order(&who, &limit("BUY", "0.001", "50000")).await.good();
    assert_eq!(account(listed).await, (401, -2015));
    done(&server, configure(json!({ "enabled": false }))).await;
    server.order(&who, &limit("BUY", "0.001", "50000")).await.refused(401, -2015, "");
    done(&server, configure(json!({ "enabled": true }))).await;
    // All this is state: a restart changes nothing.
    let server = server.restart(|_| {}).await;
    server.order(&who, &limit("BUY", "0.001", "50000")).await.good();
    let keys = done(&server, json!({ "action": "keys", "uid": 1001 })).await;
    assert!(!keys.to_string().contains("secret") && keys.as_array().unwrap().len() == 3, "{keys}");
    done(&server, json!({ "action": "remove-key", "api_key": who.api_key })).await;
    server.order(&who, &limit("BUY", "0.001", "50000")).await.refused(401, -2015, "");
    server.stop().await;
}

#[tokio::test]
async fn a_symbol_is_listed_halted_and_resumed_while_all_runs() {
    let server = Server::start(|_| {}).await;
    let (a, b) = (account_a(), account_b());
    done(&server, json!({ "action": "add-asset", "name": "ETH", "scale": 8 })).await;
    let terms = "name = \"ETHUSDT\"\nbase = \"ETH\"\nquote = \"USDT\"\ntick_size = \"0.01\"\nstep_size = \"0.001\"\n";
    assert_eq!(done(&server, json!({ "action": "add-symbol", "terms": terms })).await["symbol"], "ETHUSDT");
    assert_eq!(refused(&server, json!({ "action": "add-symbol", "terms": terms })).await, 409);
    assert_eq!(refused(&server, json!({ "action": "add-symbol", "terms": "name = 1" })).await, 400);
    let order = |side: &str| format!("symbol=ETHUSDT&side={side}&type=LIMIT&timeInForce=GTC&quantity=1&price=3000");
    let resting = server.order(&a, &order("BUY")).await.good();
    let status = async |status: &str| {
        done(&server, json!({ "action": "set-status", "symbol": "ETHUSDT", "status": status })).await
    };
    status("HALT").await;
    server.order(&b, &order("BUY")).await.refused(400, -2010, "Market is closed.");
    let info = server.get("/api/v3/exchangeInfo?symbol=ETHUSDT").await.good();
    assert_eq!(info["symbols"][0]["status"], "HALT");
    status("TRADING").await;
    server.order(&b, &order("BUY")).await.good();
    let cancel = format!("symbol=ETHUSDT&orderId={}", resting["orderId"]);
    server.signed(&a, "DELETE", "/api/v3/order", &cancel).await.good();
    assert_eq!(refused(&server, json!({ "action": "set-status", "symbol": "NOPE", "status": "HALT" })).await, 404);
    assert_eq!(
        refused(&server, json!({ "action": "set-status", "symbol": "ETHUSDT", "status": "SLEEPING" })).await,
        400
    );
    server.stop().await;
}

#[tokio::test]
async fn operators_have_a_door_of_their_own_and_it_is_shut_to_all_others() {
    let server = Server::start(|_| {}).await;
    let action = json!({ "action": "create-account", "uid": 3001 });
    for token in ["", "x", &"0".repeat(64)] {
        assert_eq!(server.admin_as(token, action.clone()).await.0, 401, "{token}");
    }
    let token = std::fs::read_to_string(server.data().join("admin.token")).unwrap();
    let headers = format!("Authorization: Bearer {}\r\n", token.trim());
    // The clients' port knows no such path, whoever asks.
    assert_eq!(server.ask("POST", "/admin/v1", &headers, b"{}").await.status, 404);
    let socket = tests::server::connect(server.admin_address(), [127, 0, 0, 1]).await;
    let large = vec![b' '; 100 << 10];
    assert_eq!(tests::server::ask(socket, "POST", "/admin/v1", &headers, &large).await.status, 413);
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(server.data().join("admin.token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(server.admin(json!({ "action": "account", "uid": 3001 })).await.0, 404, "nothing was done");
    server.stop().await;

    let folder = tempfile::TempDir::new().unwrap();
    let mut config = gateway::config::Config { data: Some(folder.path().into()), ..Default::default() };
    config.admin.listen = Some(([0, 0, 0, 0], 0).into());
    assert!(config.check().unwrap_err().contains("loopback"));
}

#[tokio::test]
async fn the_log_tells_who_asked_for_what_and_why_and_no_secret() {
    let server = Server::start(|_| {}).await;
    let data = server.data().to_owned();
    let rialto = async |words: &[&str]| {
        let output = tokio::process::Command::new(binary())
            .args(["admin", "--json", "--operator", "bob", "--reason", "incident 42", "--data"])
            .arg(&data)
            .args(words)
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), serde_json::from_str::<Value>(&text).unwrap_or_default())
    };
    let (code, made) = rialto(&["create-key", "1002", "--permission", "TRADE", "--allow", "127.0.0.1"]).await;
    assert_eq!(code, Some(0), "{made}");
    server.order(&key_of(&made["result"]), &limit("BUY", "0.001", "50000")).await.good();
    let (code, _) = rialto(&["set-user", "carl", "--uid", "1002", "--password", "tell nobody of it"]).await;
    assert_eq!(code, Some(0));
    assert_eq!(rialto(&["set-status", "NOPE", "HALT"]).await.0, Some(1));
    assert_eq!(rialto(&["no-such-verb"]).await.0, Some(2));
    let sequence = made["sequence"].as_u64().unwrap();
    let _folder = server.stop_only().await;
    let dump = Command::new(binary()).args(["journal", "dump", "--data"]).arg(&data).output().unwrap();
    let text = String::from_utf8(dump.stdout).unwrap();
    assert!(text.contains("bob") && text.contains("incident 42") && text.contains("create-key"), "{sequence}: {text}");
    assert!(!text.contains("tell nobody") && !text.contains(made["result"]["secret"].as_str().unwrap()));
}

// Logins.

async fn post(server: &Server, path: &str, token: &str, body: Value) -> (u16, Value) {
    let headers = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let answer = server.ask("POST", path, &headers, body.to_string().as_bytes()).await;
    (answer.status, answer.body)
}

async fn with_token(server: &Server, token: &str, method: &str, target: &str) -> (u16, i64) {
    server.ask(method, target, &format!("Authorization: Bearer {token}\r\n"), b"").await.outcome()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}")).to_owned()
}

const PASSWORD: &str = "correct horse battery";

async fn set_user(server: &Server, name: &str, more: Value) -> Value {
    let mut action = json!({ "action": "set-user", "name": name, "role": "trader", "uid": 1001, "password": PASSWORD });
    action.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    done(server, action).await
}

async fn log_in(server: &Server, name: &str, password: &str, code: &str) -> (u16, Value) {
    post(server, "/rialto/v1/login", "", json!({ "name": name, "password": password, "code": code })).await
}

#[tokio::test]
async fn who_logs_in_acts_as_its_role_until_it_logs_out() {
    let server = Server::start(|_| {}).await;
    set_user(&server, "ann", json!({})).await;
    set_user(&server, "rita", json!({ "role": "read-only" })).await;
    set_user(&server, "otto", json!({ "role": "operator", "uid": null })).await;
    let order = format!("/api/v3/order?{}", limit("BUY", "0.001", "50000"));
    let mut tokens = Vec::new();
    for (name, outcomes) in
        [("ann", [(200, 0), (200, 0)]), ("rita", [(200, 0), (401, -2015)]), ("otto", [(401, -2015), (401, -2015)])]
    {
        let (status, pair) = log_in(&server, name, PASSWORD, "").await;
        assert_eq!(status, 200, "{pair}");
        let token = text(&pair, "accessToken");
        assert_eq!(with_token(&server, &token, "GET", "/api/v3/account").await, outcomes[0], "{name}");
        assert_eq!(with_token(&server, &token, "POST", &order).await, outcomes[1], "{name}");
        // A refresh token is no access token.
        assert_eq!(with_token(&server, &text(&pair, "refreshToken"), "GET", "/api/v3/account").await, (401, -2015));
        tokens.push(pair);
    }
    // Operators' requests are for operators, under the name they logged in with.
    let ask = json!({ "action": "users" });
    assert_eq!(server.admin_as(&text(&tokens[0], "accessToken"), ask.clone()).await.0, 403);
    let (status, users) = server.admin_as(&text(&tokens[2], "accessToken"), ask).await;
    assert_eq!((status, users["result"].as_array().unwrap().len()), (200, 3));
    assert!(!users.to_string().contains("argon2"), "{users}");

    // A listen key is opened without a key; a refresh gives another pair of the same session.
    assert_eq!(with_token(&server, &text(&tokens[0], "accessToken"), "POST", "/api/v3/userDataStream").await, (200, 0));
    let (status, again) =
        post(&server, "/rialto/v1/refresh", "", json!({ "refreshToken": text(&tokens[0], "refreshToken") })).await;
    assert_eq!(status, 200);
    let (other_status, other) = log_in(&server, "ann", PASSWORD, "").await;
    assert_eq!(other_status, 200);
    assert_eq!(post(&server, "/rialto/v1/logout", &text(&again, "accessToken"), json!({})).await.0, 200);
    for pair in [&tokens[0], &again] {
        assert_eq!(with_token(&server, &text(pair, "accessToken"), "GET", "/api/v3/account").await, (401, -2015));
        let body = json!({ "refreshToken": text(pair, "refreshToken") });
        assert_eq!(post(&server, "/rialto/v1/refresh", "", body).await.0, 401);
    }
    // What was ended stays so over a restart, and the other session of the same user goes on.
    let server = server.restart(|_| {}).await;
    assert_eq!(with_token(&server, &text(&again, "accessToken"), "GET", "/api/v3/account").await, (401, -2015));
    assert_eq!(with_token(&server, &text(&other, "accessToken"), "GET", "/api/v3/account").await, (200, 0));
    done(&server, json!({ "action": "end-sessions", "name": "ann" })).await;
    assert_eq!(with_token(&server, &text(&other, "accessToken"), "GET", "/api/v3/account").await, (401, -2015));
    done(&server, json!({ "action": "remove-user", "name": "ann" })).await;
    assert_eq!(log_in(&server, "ann", PASSWORD, "").await.0, 401);
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_login_tells_nothing_and_guessing_is_slowed_down() {
    let server = Server::start(|_| {}).await;
    let made = set_user(&server, "ann", json!({ "one_time_codes": true })).await;
    let secret =
        base32(made["one_time_url"].as_str().unwrap().split("secret=").nth(1).unwrap().split('&').next().unwrap());
    let code = || one_time_code(&secret, gateway::client::now_ms() / 30_000);
    let wrong = json!({ "code": -1002, "msg": "Name, password or code is wrong." });
    assert_eq!(log_in(&server, "ann", PASSWORD, "").await, (401, wrong.clone()));
    assert_eq!(log_in(&server, "nobody", PASSWORD, "").await, (401, wrong.clone()));
    let good = code();
    assert_eq!(log_in(&server, "ann", "another password", &good).await, (401, wrong.clone()));
    let (status, pair) = log_in(&server, "ann", PASSWORD, &good).await;
    assert_eq!(status, 200, "{pair}");
    assert_eq!(log_in(&server, "ann", PASSWORD, &good).await.0, 401, "a code is good once");
    for body in ["", "{}", "[]", r#"{"name":1}"#, r#"{"name":"a","password":"b","extra":1}"#] {
        assert_eq!(server.ask("POST", "/rialto/v1/login", "", body.as_bytes()).await.status, 400, "{body}");
    }
    let long = json!({ "name": "ann", "password": "x".repeat(3_000) }).to_string();
    assert_eq!(server.ask("POST", "/rialto/v1/login", "", long.as_bytes()).await.status, 401);
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(log_in(&server, "ann", "guess guess guess", "000000").await.0);
    }
    assert_eq!((statuses.first(), statuses.last()), (Some(&401), Some(&429)), "{statuses:?}");
    // From another address, by another name, one may still try.
    let body = json!({ "name": "eve", "password": PASSWORD }).to_string();
    assert_eq!(server.ask_from([127, 0, 0, 5], "POST", "/rialto/v1/login", "", body.as_bytes()).await.status, 401);
    server.stop().await;
}

#[tokio::test]
async fn a_new_password_ends_what_was_logged_in_under_the_old_one() {
    let server = Server::start(|_| {}).await;
    set_user(&server, "ann", json!({})).await;
    assert_eq!(
        refused(
            &server,
            json!({ "action": "set-user", "name": "bo", "uid": 1001, "role": "trader", "password": "short" })
        )
        .await,
        400
    );
    assert_eq!(
        refused(&server, json!({ "action": "set-user", "name": "bo", "role": "trader", "password": PASSWORD })).await,
        404
    );
    assert_eq!(
        refused(
            &server,
            json!({ "action": "set-user", "name": "bo", "uid": 1001, "role": "king", "password": PASSWORD })
        )
        .await,
        400
    );
    let token = text(&log_in(&server, "ann", PASSWORD, "").await.1, "accessToken");
    let me = server.ask("GET", "/rialto/v1/me", &format!("Authorization: Bearer {token}\r\n"), b"").await.good();
    assert_eq!(me, json!({ "name": "ann", "role": "trader", "uid": 1001 }));
    let change = async |old: &str, new: &str| {
        post(&server, "/rialto/v1/password", &token, json!({ "old": old, "new": new })).await.0
    };
    assert_eq!(change("not the old one", "another horse battery").await, 401);
    assert_eq!(change(PASSWORD, "short").await, 400);
    assert_eq!(change(PASSWORD, "another horse battery").await, 200);
    assert_eq!(with_token(&server, &token, "GET", "/api/v3/account").await, (401, -2015));
    assert_eq!(log_in(&server, "ann", PASSWORD, "").await.0, 401);
    assert_eq!(log_in(&server, "ann", "another horse battery", "").await.0, 200);
    set_user(&server, "ann", json!({ "disabled": true })).await;
    assert_eq!(log_in(&server, "ann", PASSWORD, "").await.0, 401);
    server.stop().await;
}

fn base32(text: &str) -> Vec<u8> {
    let bits: String = text
        .bytes()
        .map(|b| format!("{:05b}", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|l| *l == b).unwrap()))
        .collect();
    bits.as_bytes()
        .chunks_exact(8)
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap())
        .collect()
}
