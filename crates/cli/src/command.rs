//! One module per command.

pub mod at;
pub mod backup;
mod check;
pub mod clone;
mod config;
mod demo;
pub mod diff;
mod event;
pub mod fix;
mod grafana;
mod promql;
mod proof;
pub mod prove;
mod query;
mod report;
pub mod restore;
pub mod runbook;
mod serve;
mod top;
mod tune;
mod undo;
pub mod wal;

pub use check::given;

use crate::{
    args::{Args, Command, DataFormat, PromqlVerb, ReportVerb},
    failure::Failure,
    output,
};
use clap::CommandFactory;
use std::io::{BufRead, IsTerminal, Write};
use surus_core::code;

/// Runs the command; the number is the exit status.
pub async fn run(args: Args) -> Result<u8, Failure> {
    let global = args.global;
    crate::config::Config::remember(global.config.as_deref());
    if let Ok(program) = std::env::current_exe() {
        surus_prove::copy::guard_with(vec![program.display().to_string(), "wal".into(), "look".into()]);
    }
    match args.command {
        Command::Check(check) => check::run(&global, check).await,
        Command::Fix(fix) => fix::run(&global, fix).await,
        Command::Demo(demo) => demo::run(&global, demo).await,
        Command::Tune(tune) => tune::run(&global, tune).await,
        Command::Serve(serve) => serve::run(&global, serve).await,
        Command::Top(top) => top::run(&global, top).await,
        Command::Undo(undo) => undo::run(&global, undo).await,
        Command::Query(query) => query::run(&global, query).await,
        Command::Event { verb } => event::run(&global, verb).await,
        Command::Backup { verb } => backup::run(&global, verb).await,
        Command::Wal { verb } => wal::run(&global, verb).await,
        Command::Restore(args) => restore::run(&global, &args),
        Command::Prove { verb } => prove::run(&global, verb).await,
        Command::Runbook { verb } => runbook::run(&global, verb).await,
        Command::At(args) => at::run(&global, &args).await,
        Command::Clone { verb } => clone::run(&global, verb).await,
        Command::Diff(args) => diff::run(&global, &args).await,
        Command::Report { verb: ReportVerb::Instance(report) } => report::run(&global, report).await,
        Command::Promql { verb: PromqlVerb::Test { files, format } } => promql::test(&files, format),
        Command::Proof { verb } => proof::run(&global, &verb),
        Command::Config { verb } => config::run(&global, &verb),
        Command::Grafana { verb } => grafana::run(&verb),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "surus", &mut text);
            output::print(&String::from_utf8_lossy(&text)).map(|()| 0)
        }
        Command::Man => {
            let mut text = Vec::new();
            let rendered = clap_mangen::Man::new(Args::command()).render(&mut text);
            rendered.map_err(|error| Failure::bug(error.to_string()))?;
            output::print(&String::from_utf8_lossy(&text)).map(|()| 0)
        }
    }
}

/// Asks a question on the terminal; without one, or without a yes, nothing is done. A program that reads JSON is not
/// asked.
fn confirmed(question: &str, yes: bool, format: DataFormat) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if format == DataFormat::Json {
        return Err(Failure::new(code::FIX_NOT_CONFIRMED, "nothing was changed: with --format json nobody is asked"));
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(code::FIX_NOT_CONFIRMED, "nothing was changed: there is no terminal to ask on"));
    }
    let mut out = anstream::stderr();
    // When the question cannot be shown, no answer will come either.
    let _ = write!(out, "{question} [y/N] ");
    let _ = out.flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match read {
        Ok(_) if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") => Ok(()),
        _ => Err(Failure::new(code::FIX_NOT_CONFIRMED, "nothing was changed")),
    }
}
