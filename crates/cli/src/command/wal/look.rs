//! `surus wal look`: the look at a segment before a copy replays it.

use super::UNCERTAIN;
use clap::Args;
use std::{io::Write, path::PathBuf};
use surus_prove::copy::look_at_wal;

#[derive(Debug, Clone, Args)]
pub struct LookArgs {
    /// The segment: %p in restore_command
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
}

/// Looks; the number is the exit status. A server ends with any that is not 0, for it is beyond 125.
pub fn run(args: &LookArgs) -> u8 {
    match look_at_wal(&args.path) {
        Ok(()) => 0,
        Err(error) => {
            // For the server's log, in its own words: whoever reads it looks for these.
            let _ = writeln!(std::io::stderr(), "FATAL:  {error}");
            UNCERTAIN
        }
    }
}
