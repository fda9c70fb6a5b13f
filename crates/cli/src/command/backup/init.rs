//! `surus backup init`: makes a repository before anything is in it.

use crate::{
    args::DataFormat,
    failure::Failure,
    output::{json, print},
    paint::Paint,
    repository::{RepoArgs, owned_by_root},
};
use clap::Args;
use std::fmt::Write;
use surus_backup::Repo;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus backup init --repo /srv/surus
  surus backup init --repo s3://bucket/shop --repo-key file:/etc/surus/repository.key    encrypted

For archive_command before the first backup: surus wal push never makes a repository, because a folder that is not
mounted looks like an empty one. surus backup run and surus wal receive make one where there is none, too.
As root, a folder that is made in one of root's own is given to the account postgres, whose server archives into it.

Exit status: 0 it is there, made now or before · 2 usage, or another key · 3 the place holds something else
  4 it cannot be reached or written")]
pub struct InitArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

/// Runs the command.
pub fn run(args: &InitArgs) -> Result<u8, Failure> {
    let there = args.repo.find()?;
    let made = there.is_none();
    let repo = there.map_or_else(|| args.repo.open_or_create(), Ok)?;
    match args.format {
        DataFormat::Json => print(&json(&serde_json::json!({
            "repository": repo.address(), "made": made, "encrypted": repo.mark().encrypted,
        }))?)?,
        DataFormat::Text => print(&as_text(&repo, made, &args.repo.words().join(" ")))?,
    }
    Ok(0)
}

fn as_text(repo: &Repo, made: bool, words: &str) -> String {
    let what = if repo.mark().encrypted { "an encrypted repository" } else { "a repository" };
    let state = if made { Paint::good("made").to_string() } else { "there is".to_owned() };
    let mut out = format!("{state} {what} in {}\n", repo.address());
    if repo.place().local_folder().is_some_and(owned_by_root) {
        let _ = writeln!(out, "It is root's: the account of the server that archives must be able to write there.");
    }
    let _ = writeln!(
        out,
        "In postgresql.conf, then restart the server:\n  archive_mode = on\n  \
         archive_command = 'surus wal push {words} %p'\nThen take a backup: surus backup run {words} DSN"
    );
    out
}
