//! Where settings come from: a flag of the command line, else the environment, else the file given with `--config`, else the
//! default; and how `rialto config show` tells which.
//!
//! In the environment a setting's name is in capitals, with two underscores between its parts, behind `RIALTO_`:
//! `RIALTO_LISTEN`, `RIALTO_LIMITS__ORDERS_PER_DAY`. One that no setting is called by is refused where it has two underscores;
//! what has not may be another program's.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::config::Config;

/// What the names of environment variables begin with.
const PREFIX: &str = "RIALTO_";
/// Settings that are in no section.
const OF_NO_SECTION: [&str; 3] = ["data", "listen", "bootstrap"];
/// Settings that are not shown.
const SECRET: [&str; 1] = ["cluster.secret"];

/// Who said what.
#[derive(Debug, Default)]
pub struct Sources(BTreeMap<String, String>);

/// The settings of the file, if there is one, and of the environment.
pub fn read(file: Option<&Path>) -> Result<(Config, Sources), String> {
    // A name or text that is not Unicode is none of ours.
    let environment =
        std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    let text = match file {
        Some(file) => std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?,
        None => String::new(),
    };
    let name = file.map(|file| file.display().to_string()).unwrap_or_default();
    gather(&name, &text, environment)
}

fn gather(
    file: &str,
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(Config, Sources), String> {
    let in_file = |error: toml::de::Error| format!("{file}: {error}");
    // From the text, so that an error names the line.
    let mut config: Config = toml::from_str(text).map_err(in_file)?;
    let mut table: toml::Table = toml::from_str(text).map_err(in_file)?;
    let mut sources = Sources::default();
    for (path, _) in leaves(&to_json(&table)) {
        sources.say(path, file);
    }
    let mut variables: Vec<(String, String)> = environment.collect();
    variables.sort();
    for (name, text) in variables {
        let Some(path) = path_of(&name) else { continue };
        (config, table) = laid_over(&table, &path, &text).map_err(|error| format!("{name}: {error}"))?;
        sources.say(path.join("."), &name);
    }
    // Who and where a node is the command line may say; what comes of both is checked when it starts.
    let but_place = Config { cluster: None, ..config.clone() };
    but_place.check().map_err(|error| if file.is_empty() { error } else { format!("{file}: {error}") })?;
    Ok((config, sources))
}

/// The setting that a variable means.
fn path_of(variable: &str) -> Option<Vec<String>> {
    let name = variable.strip_prefix(PREFIX)?.to_ascii_lowercase();
    let path: Vec<String> = name.split("__").map(str::to_owned).collect();
    (path.len() > 1 || OF_NO_SECTION.contains(&&*name)).then_some(path)
}

/// The settings with one more: `text` as TOML has it, else as it is.
fn laid_over(table: &toml::Table, path: &[String], text: &str) -> Result<(Config, toml::Table), String> {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {text}")).ok();
    let parsed = parsed.and_then(|mut table| if table.len() == 1 { table.remove("value") } else { None });
    let mut complaint = String::new();
    for value in parsed.into_iter().chain([toml::Value::String(text.to_owned())]) {
        let mut table = table.clone();
        if !insert(&mut table, path, value) {
            return Err("a part of its name is a setting by itself".to_owned());
        }
        match Config::deserialize(table.clone()) {
            Ok(config) => return Ok((config, table)),
            Err(error) if complaint.is_empty() => complaint = error.message().to_owned(),
            Err(_) => {}
        }
    }
    Err(complaint)
}

fn insert(table: &mut toml::Table, path: &[String], value: toml::Value) -> bool {
    let [first, rest @ ..] = path else { return false };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return true;
    }
    let inner = table.entry(first.clone()).or_insert_with(|| toml::Table::new().into());
    inner.as_table_mut().is_some_and(|inner| insert(inner, rest, value))
}

impl Sources {
    /// A setting was said there, over whatever was said before.
    pub fn say(&mut self, path: impl Into<String>, by: &str) {
        self.0.insert(path.into(), by.to_owned());
    }

    /// Who said a setting, or the list or section that it is in.
    fn of(&self, path: &str) -> &str {
        let wider = std::iter::successors(Some(path), |path| path.rsplit_once('.').map(|(section, _)| section));
        wider.into_iter().find_map(|path| self.0.get(path)).map_or("default", String::as_str)
    }

    /// Every setting, its value as JSON and who said so.
    pub fn tell(&self, config: &Config) -> Vec<(String, Value, String)> {
        let told = leaves(&to_json(config)).into_iter().map(|(path, value)| {
            let is_hidden = SECRET.contains(&&*path) && value != "";
            let value = if is_hidden { Value::from("(not shown)") } else { value };
            let by = self.of(&path).to_owned();
            (path, value, by)
        });
        told.collect()
    }
}

fn to_json(settings: &impl serde::Serialize) -> Value {
    serde_json::to_value(settings).expect("settings are names and values")
}

/// What is no section of its own, by the parts of its name.
fn leaves(value: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut rest = vec![(String::new(), value)];
    while let Some((path, value)) = rest.pop() {
        match value {
            Value::Object(section) if path.is_empty() || !section.is_empty() => {
                let dot = if path.is_empty() { "" } else { "." };
                rest.extend(section.iter().map(|(name, value)| (format!("{path}{dot}{name}"), value)));
            }
            value => found.push((path, value.clone())),
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(text: &str, environment: &[(&str, &str)]) -> Result<(Config, Sources), String> {
        let environment = environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        gather("rialto.toml", text, environment)
    }

    #[test]
    fn the_environment_is_laid_over_the_file_and_the_file_over_the_defaults() {
        let file =
            "listen = \"127.0.0.1:1\"\n[limits]\norders_per_day = 5\norders_per_10_seconds = 2\n[cluster]\nnode = 2\n";
        let environment = [
            ("RIALTO_LISTEN", "127.0.0.1:2"),
            ("RIALTO_LIMITS__ORDERS_PER_DAY", "7"),
            ("RIALTO_CLUSTER__SECRET", "123"),
            ("RIALTO_SOCKETS__ALLOWED_ORIGINS", "[\"https://a\"]"),
            ("RIALTO_SEED", "1"),
            ("HOME", "/"),
        ];
        let (config, sources) = gathered(file, &environment).unwrap();
        assert_eq!(config.listen.unwrap().port(), 2);
        assert_eq!((config.limits.orders_per_day, config.limits.orders_per_10_seconds), (7, 2));
        let cluster = config.cluster.as_ref().unwrap();
        assert_eq!((cluster.node, &*cluster.secret), (2, "123"));
        let told = sources.tell(&config);
        let of = |path: &str| {
            let (_, value, by) = told.iter().find(|(told, ..)| told == path).unwrap();
            (value.to_string(), by.clone())
        };
        let pair = |value: &str, by: &str| (value.to_owned(), by.to_owned());
        assert_eq!(of("listen"), pair("\"127.0.0.1:2\"", "RIALTO_LISTEN"));
        assert_eq!(of("limits.orders_per_day"), pair("7", "RIALTO_LIMITS__ORDERS_PER_DAY"));
        assert_eq!(of("limits.orders_per_10_seconds"), pair("2", "rialto.toml"));
        assert_eq!(of("sockets.allowed_origins"), pair("[\"https://a\"]", "RIALTO_SOCKETS__ALLOWED_ORIGINS"));
        assert_eq!(of("lanes.count"), pair("16", "default"));
        assert_eq!(of("cluster.secret"), pair("\"(not shown)\"", "RIALTO_CLUSTER__SECRET"));
        assert_eq!(of("data"), pair("null", "default"));
    }

    #[test]
    fn what_is_wrong_is_named_with_where_it_was_said() {
        let error = |text, environment: &[_]| gathered(text, environment).unwrap_err();
        let told = error("[limits]\n\norders_per_year = 1", &[]);
        assert!(told.starts_with("rialto.toml: ") && told.contains("line 3"), "{told}");
        let told = error("", &[("RIALTO_LIMITS__ORDERS_PER_YEAR", "1")]);
        assert!(told.starts_with("RIALTO_LIMITS__ORDERS_PER_YEAR: ") && told.contains("orders_per_year"), "{told}");
        let told = error("", &[("RIALTO_LIMITS__ORDERS_PER_DAY", "many")]);
        assert!(told.starts_with("RIALTO_LIMITS__ORDERS_PER_DAY: "), "{told}");
        let told = error("listen = \"127.0.0.1:1\"", &[("RIALTO_LISTEN__PORT", "1")]);
        assert!(told.contains("a setting by itself"), "{told}");
        assert!(error("[lanes]\ncount = 0", &[]).contains("rialto.toml: lanes.count is 0"));
    }
}
