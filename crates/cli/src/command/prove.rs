//! `surus prove`: experiments that show whether what is configured works.

mod engine;
mod notify;
mod page;
mod restore;
mod text;
mod window;

pub use engine::{Meant, described, open as open_engine, repository_name};
pub use restore::DrillArgs;

use crate::{args::Global, failure::Failure};
use clap::Subcommand;
use std::{path::Path, process::ExitCode};

/// The hidden command that stops a copy whose maker was killed: its process group and the copy's directory follow.
pub const WATCHDOG: &str = "drill-watchdog";

#[derive(Debug, Subcommand)]
pub enum ProveVerb {
    /// Restore a backup into a scratch place, recover it, look at all of it, and write down what was measured
    Restore(Box<DrillArgs>),
    /// Which moments can be restored, which cannot, and why
    Window(Box<window::WindowArgs>),
    /// Locate damaged pages, tell which rows are lost, and show the way back
    Page(Box<page::PageArgs>),
}

/// Runs the command.
pub async fn run(global: &Global, verb: ProveVerb) -> Result<u8, Failure> {
    match verb {
        ProveVerb::Restore(args) => restore::run(global, *args).await,
        ProveVerb::Window(args) => window::run(*args).await,
        ProveVerb::Page(args) => page::run(global, *args).await,
    }
}

/// Is this process a watchdog? Then it is nothing else.
pub fn at_once(words: &[std::ffi::OsString]) -> Option<ExitCode> {
    let [_, command, group, place] = words else { return None };
    if command != WATCHDOG {
        return None;
    }
    let group = group.to_str()?.parse().ok()?;
    surus_prove::watchdog::watch(std::io::stdin().lock(), group, Path::new(place));
    Some(ExitCode::SUCCESS)
}
