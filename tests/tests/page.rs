//! The trading page: its files over HTTP, and itself in a real browser, where tests/page drives Chromium against the binary.

use std::path::Path;
use std::process::{Command, Stdio};

use tests::exchange::binary;
use tests::server::{Response, Server};

/// Where the programs and packages of the test are; scripts/setup sees to them. What is missing is said in one line.
fn missing(folder: &Path, chromium: &str) -> Option<String> {
    let runs = |program: &str| {
        Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|it| it.success())
    };
    if !runs("node") {
        return Some("there is no node".to_owned());
    }
    if !Path::new(chromium).exists() {
        return Some(format!("there is no {chromium}"));
    }
    let packages = folder.join("node_modules/playwright-core");
    (!packages.exists()).then(|| format!("there is no {}", packages.display()))
}

#[test]
fn the_page_does_in_a_browser_what_it_is_for() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
    let chromium = std::env::var("RIALTO_CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    if let Some(what) = missing(&folder, &chromium) {
        println!("skipped: {what} (scripts/setup)");
        return;
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("RIALTO_SHARED").map_or(beside, Into::into);
    let output =
        Command::new("node").arg(folder.join("test.mjs")).arg(binary()).arg(shared).output().expect("node starts");
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
}

#[tokio::test]
async fn browsers_keep_the_files_of_the_page_and_ask_for_the_page_again() {
    let server = Server::start(|_| {}).await;
    let page = server.ask("GET", "/trade/BTCUSDT", "", b"").await;
    assert_eq!((page.status, page.header("cache-control")), (200, Some("no-cache")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(server.ask("GET", "/", "", b"").await.text, page.text);
    let tag = page.header("etag").unwrap();
    let again = server.ask("GET", "/", &format!("If-None-Match: {tag}\r\n"), b"").await;
    assert_eq!((again.status, again.text.as_str()), (304, ""));
    assert_eq!(server.ask("GET", "/", "If-None-Match: \"other\"\r\n", b"").await.status, 200);

    let script = page.text.split('"').find(|part| part.ends_with("/app/main.js")).unwrap();
    let plain = server.ask("GET", script, "", b"").await;
    assert_eq!((plain.status, plain.header("cache-control")), (200, Some("public, max-age=31536000, immutable")));
    assert_eq!(plain.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert!(plain.header("content-encoding").is_none() && plain.text.contains("import"));
    let zipped = server.ask("GET", script, "Accept-Encoding: br, gzip\r\n", b"").await;
    assert_eq!((zipped.header("content-encoding"), zipped.header("vary")), (Some("gzip"), Some("accept-encoding")));
    let length = |response: &Response| response.header("content-length").unwrap().parse::<usize>().unwrap();
    assert!(length(&zipped) < length(&plain) / 2);

    // The files of another version are not given out under its path.
    let hash = script.split('/').nth(2).unwrap();
    assert_eq!(server.ask("GET", &script.replace(hash, "0123456789abcdef"), "", b"").await.status, 404);
    assert_eq!(server.ask("GET", &script.replace("main.js", "none.js"), "", b"").await.status, 404);
    assert_eq!(server.ask("GET", &script.replace("main.js", "../../index.html"), "", b"").await.status, 404);
    server.stop().await;
}
