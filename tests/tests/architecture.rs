//! Who knows whom: engine knows nobody, journal knows engine, gateway knows both.

use std::path::Path;

use toml::Table;

/// What each crate of the house must not know.
const FORBIDDEN: [(&str, &[&str]); 3] = [
    ("engine", &["journal", "gateway", "tokio", "rocksdb", "openraft", "hyper", "axum", "rand", "crossbeam-channel"]),
    ("journal", &["gateway", "serde_json", "hyper", "axum", "tokio-tungstenite"]),
    ("gateway", &["rocksdb", "openraft"]),
];

#[test]
fn no_crate_depends_on_what_it_must_not_know() {
    for (name, forbidden) in FORBIDDEN {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("Cargo.toml");
        let manifest: Table = std::fs::read_to_string(manifest).unwrap().parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        for unwanted in forbidden {
            assert!(!dependencies.contains_key(*unwanted), "{name} must not depend on {unwanted}");
        }
    }
}

#[test]
fn the_gateway_never_touches_the_engine_itself() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/src");
    let mut folders = vec![sources];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !["sim.rs", "testing.rs"].map(|name| path.ends_with(name)).contains(&true) {
                // `rialto sim` is the engine in a pipe: it serves nobody, and owns one of its own. Unit tests make events with one.
                let text = std::fs::read_to_string(&path).unwrap();
                for name in ["Engine::new", "Engine::from_snapshot", "engine::Engine;"] {
                    assert!(!text.contains(name), "{} uses {name}", path.display());
                }
            }
        }
    }
}
