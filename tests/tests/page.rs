//! The trading page in a real browser: tests/page drives Chromium against the binary.

use std::path::Path;
use std::process::{Command, Stdio};

use tests::exchange::binary;

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
