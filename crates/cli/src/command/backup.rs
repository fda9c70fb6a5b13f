//! `surus backup`: one module per verb.

mod discard;
mod expire;
mod init;
mod key;
mod list;
mod run;
mod verify;

use crate::{args::Global, failure::Failure};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum BackupVerb {
    /// Make a repository, before the first WAL or backup
    Init(init::InitArgs),
    /// Take a backup: full, or of what changed since the last one
    Run(run::RunArgs),
    /// Backups and WAL in a repository, and whether they can be restored
    List(list::ListArgs),
    /// One backup
    Info(list::InfoArgs),
    /// Read what is in the repository and say what is wrong with it
    Verify(verify::VerifyArgs),
    /// Remove what the retention lets go
    Expire(expire::ExpireArgs),
    /// Give up a backup that cannot be restored any more
    Discard(discard::DiscardArgs),
    /// Keep a backup whatever the retention says, or no longer
    Keep(expire::KeepArgs),
    /// The keys of an encrypted repository
    Key {
        #[command(subcommand)]
        verb: key::KeyVerb,
    },
}

/// Runs the command; the number is the exit status.
pub async fn run(global: &Global, verb: BackupVerb) -> Result<u8, Failure> {
    match verb {
        BackupVerb::Init(args) => tokio::task::block_in_place(|| init::run(&args)),
        BackupVerb::Run(args) => run::run(global, args).await,
        BackupVerb::List(args) => tokio::task::block_in_place(|| list::list(global, &args)),
        BackupVerb::Info(args) => tokio::task::block_in_place(|| list::info(global, &args)),
        BackupVerb::Verify(args) => tokio::task::block_in_place(|| verify::run(global, &args)),
        BackupVerb::Expire(args) => tokio::task::block_in_place(|| expire::expire(global, &args)),
        BackupVerb::Discard(args) => tokio::task::block_in_place(|| discard::run(global, &args)),
        BackupVerb::Keep(args) => tokio::task::block_in_place(|| expire::keep(global, &args)),
        BackupVerb::Key { verb } => tokio::task::block_in_place(|| key::run(&verb)),
    }
}

/// How many threads when nobody says: the processors, at most 4.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(4)
}
