//! Builds flowgen, the order flows and the reference matcher that lie beside the checkout and never in it
//! (`$RIALTO_SHARED`, or `../shared`), with the settings of its own manifest. Where it is absent, what needs it skips.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(flowgen)");
    println!("cargo::rerun-if-env-changed=RIALTO_SHARED");
    let beside = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("../../shared");
    let sources = std::env::var_os("RIALTO_SHARED").map_or(beside, PathBuf::from).join("flowgen/src");
    println!("cargo::rerun-if-changed={}", sources.display());
    let library = sources.join("lib.rs");
    if !library.exists() {
        return;
    }
    let folder = PathBuf::from(variable("OUT_DIR"));
    let built = Command::new(variable("RUSTC"))
        .args(["--crate-name", "flowgen", "--crate-type", "rlib", "--edition", "2021"])
        .args(["-C", "opt-level=3", "-C", "codegen-units=1", "-C", "debuginfo=0", "--target", &variable("TARGET")])
        .arg("--out-dir")
        .arg(&folder)
        .arg(library)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "flowgen does not build");
    println!("cargo::rustc-link-search={}", folder.display());
    println!("cargo::rustc-cfg=flowgen");
}

fn variable(name: &str) -> String {
    std::env::var(name).expect("cargo sets it")
}
