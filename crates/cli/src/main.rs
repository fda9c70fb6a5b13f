//! The `surus` command: arguments, wiring, exit codes.

mod args;
mod command;
mod config;
mod copies;
mod demo;
mod failure;
mod ledger;
mod output;
mod paint;
mod progress;
mod protection;
mod psql;
mod remote;
mod report;
mod repository;
mod serve;
mod top;
mod wrap;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if let Some(status) = command::wal::at_once(&words) {
        return status;
    }
    if let Some(status) = command::wal::get_with_options(&words) {
        return status;
    }
    if let Some(status) = command::prove::at_once(&words) {
        return status;
    }
    if let [_, command, dir] = words.as_slice()
        && command == copies::KEEPER
    {
        surus_prove::keeper::keep(std::path::Path::new(dir));
        return ExitCode::SUCCESS;
    }
    let args = match args::Args::try_parse() {
        Ok(args) => args,
        Err(error) => return failure::usage(&error),
    };
    paint::choose(args.global.no_color);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure::Failure::bug(format!("the runtime did not start: {error}")).show(),
    };
    match runtime.block_on(command::run(args)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.show(),
    }
}
