//! `surus backup`: one module per verb.

mod run;

use crate::{args::Global, failure::Failure};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum BackupVerb {
    /// Take a backup: full, or of what changed since the last one
    Run(run::RunArgs),
}

/// Runs the command; the number is the exit status.
pub async fn run(global: &Global, verb: BackupVerb) -> Result<u8, Failure> {
    match verb {
        BackupVerb::Run(args) => run::run(global, args).await,
    }
}
