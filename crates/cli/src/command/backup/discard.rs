//! `surus backup discard`: a backup that cannot be restored any more goes.

use crate::{args::Global, failure::Failure, output::print, progress, repository::RepoArgs};
use clap::Args;
use surus_backup::expire;
use surus_core::size::Bytes;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus backup discard --repo /srv/surus 20261122T003115Z-full

Only one whose manifest is damaged, that lacks WAL, or that builds on such a one: surus backup list names them. As long
as a manifest cannot be read, surus backup expire removes nothing, for nobody knows what that backup needs.")]
pub struct DiscardArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub label: String,
}

/// Runs the command.
pub fn run(global: &Global, args: &DiscardArgs) -> Result<u8, Failure> {
    let cluster = args.repo.open_cluster()?;
    let monitor = progress::monitor(global.quiet);
    let gone = expire::discard(&cluster, &args.label, monitor.as_ref())?;
    print(&format!("{} is gone, {} freed\n", args.label, Bytes(gone.bytes))).map(|()| 0)
}
