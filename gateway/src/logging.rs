//! What the process says of itself on standard error: lines of text or of JSON, of the levels and modules that a filter lets
//! through. The filter can be changed while it runs. And on standard output, line by line.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{LogConfig, LogFormat};

/// The variable of the environment that says which levels.
const VARIABLE: &str = "RUST_LOG";
/// The words for levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// The longest filter.
const FILTER_BYTES_MAX: usize = 1_000;

/// There is one log in a process, and this changes its filter.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Prints a line as `println!` does, but where nobody reads it or the disk is full it is lost, and the process goes on.
#[macro_export]
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($line)*);
    }};
}

/// Begins to log. Where the environment's `RUST_LOG` says levels, these; else those of the settings.
pub fn start(config: &LogConfig) -> Result<(), String> {
    let (level, by) = match std::env::var(VARIABLE) {
        Ok(level) if !level.is_empty() => (level, VARIABLE),
        _ => (config.level.clone(), "log.level"),
    };
    let filter = check(&level).map_err(|reason| format!("{by}: {reason}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match config.format {
        // Colours are for terminals.
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().with_current_span(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer).try_init().map_err(|error| error.to_string())?;
    // It was the first, or the line above had failed.
    let _ = FILTER.set(handle);
    Ok(())
}

/// The filter in force; none where this process does not log by one.
pub fn filter() -> Option<String> {
    FILTER.get()?.with_current(EnvFilter::to_string).ok()
}

/// Another filter from now on, if it is one.
pub fn set_filter(text: &str) -> Result<(), String> {
    let filter = check(text)?;
    let handle = FILTER.get().ok_or("this process does not log by a filter")?;
    handle.reload(filter).map_err(|error| error.to_string())
}

/// The filter that a text says: levels, and levels of modules, with commas between them. A word that is neither is refused: it
/// is a misspelt level more often than a module of which everything is wanted.
pub fn check(text: &str) -> Result<EnvFilter, String> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(format!("a filter has at most {FILTER_BYTES_MAX} bytes"));
    }
    // Without the spaces around them: EnvFilter takes those for a part of the name.
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    for directive in &directives {
        let level = directive.rsplit_once('=').map_or(*directive, |(_, level)| level);
        if !LEVELS.iter().any(|known| level.eq_ignore_ascii_case(known)) || directive.contains(char::is_whitespace) {
            return Err(format!(
                "{directive:?} is neither a level (off, error, warn, info, debug, trace) nor MODULE=LEVEL"
            ));
        }
    }
    EnvFilter::builder().parse(directives.join(",")).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_levels_of_modules_are_filters() {
        for text in
            ["info", "off", "INFO", "warn,gateway=debug", "info, openraft=error,gateway::ws=trace", "journal=off"]
        {
            check(text).unwrap_or_else(|reason| panic!("{text}: {reason}"));
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_the_part_that_is_wrong() {
        for (text, part) in [
            ("", "\"\""),
            ("loud", "\"loud\""),
            ("info,gateway", "\"gateway\""),
            ("gateway=loud", "\"gateway=loud\""),
            ("info,,debug", "\"\""),
            ("3", "\"3\""),
            ("gateway=", "\"gateway=\""),
            ("gateway =info", "\"gateway =info\""),
            ("[span{=debug", ""),
        ] {
            let told = check(text).map(|filter| filter.to_string()).expect_err(text);
            assert!(told.contains(part), "{text}: {told}");
        }
        assert!(check(&"a=info,".repeat(1_000)).is_err());
    }
}
