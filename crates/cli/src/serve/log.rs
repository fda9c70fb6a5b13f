//! The log of `surus serve`: text for a person at a terminal, one JSON object a line elsewhere. ERROR means that a
//! human is needed.

use crate::{
    args::{DataFormat, Global},
    failure::Failure,
};
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Other people's crates say little of use below this.
const QUIET: &str = "hyper=warn,hyper_util=warn,reqwest=warn,h2=warn,rustls=error,tower=warn,tokio_postgres=warn";

/// Sends the log to standard error. `SURUS_LOG` chooses levels by module, such as `surus_observe=debug`.
pub fn start(global: &Global, format: Option<DataFormat>) -> Result<(), Failure> {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "warn",
        (_, true) => "debug",
        _ => "info",
    };
    let wanted = std::env::var("SURUS_LOG").unwrap_or_default();
    let filter = EnvFilter::try_new(format!("{level},{QUIET},{wanted}").trim_end_matches(','))
        .map_err(|error| Failure::new(surus_core::code::CONFIG_SYNTAX, format!("SURUS_LOG: {error}")))?;
    let on_terminal = std::io::stderr().is_terminal();
    let text = format.unwrap_or(if on_terminal { DataFormat::Text } else { DataFormat::Json }) == DataFormat::Text;
    let registry = tracing_subscriber::registry().with(filter);
    let started = if text {
        let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(on_terminal && !global.no_color);
        registry.with(layer.with_target(false)).try_init()
    } else {
        let layer = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
        // The module would bear the name `target`, which is what is watched.
        let layer = layer.with_target(false);
        registry.with(layer.with_writer(std::io::stderr)).try_init()
    };
    started.map_err(|error| Failure::bug(format!("the log did not start: {error}")))
}
