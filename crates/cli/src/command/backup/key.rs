//! `surus backup key`: the keys of an encrypted repository.

use crate::{
    args::DataFormat,
    failure::Failure,
    output::{json, print},
    repository::{RepoArgs, user_key},
};
use clap::{Args, Subcommand};
use std::fmt::Write;
use surus_backup::repo::keys::{self, KeyFacts, UserKey};
use surus_core::code;

#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Show the data keys: which there are, which is current. Needs no key
    List(ListArgs),
    /// Encrypt with a new data key from now on; what was written before stays readable
    Rotate(RotateArgs),
    /// Change your key: the data keys are wrapped anew, no data is written again
    Rewrap(RewrapArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus backup key rotate --repo /srv/surus --repo-key file:/etc/surus/repository.key

Commands that run on, such as surus serve and surus wal receive, take the new key up when they are started again.")]
pub struct RotateArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openssl rand -hex 32 > /etc/surus/new.key
  surus backup key rewrap --repo /srv/surus --repo-key file:/etc/surus/repository.key --new-key file:/etc/surus/new.key

Broken off at any moment, one of the two keys opens the repository; run again, it is finished. Keep the old key until it
has said that it is done, and as long as you keep copies of the repository from before.")]
pub struct RewrapArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// The key that takes the old one's place, by reference: file:/PATH or env:NAME
    #[arg(long, value_name = "REF")]
    pub new_key: String,
}

/// Runs the command.
pub fn run(verb: &KeyVerb) -> Result<u8, Failure> {
    match verb {
        KeyVerb::List(args) => list(args),
        KeyVerb::Rotate(args) => rotate(args),
        KeyVerb::Rewrap(args) => rewrap(args),
    }
}

fn list(args: &ListArgs) -> Result<u8, Failure> {
    let (place, _) = args.repo.place_and_key()?;
    let facts = keys::list(place.as_ref())?;
    match args.format {
        DataFormat::Json => print(&json(&serde_json::json!({ "keys": facts }))?)?,
        DataFormat::Text => print(&as_text(&facts))?,
    }
    Ok(0)
}

fn as_text(facts: &[KeyFacts]) -> String {
    if facts.is_empty() {
        return "The repository has no keys: it is not encrypted.\n".into();
    }
    let mut out = String::new();
    for key in facts {
        let state = if key.current { "current" } else { "for reading" };
        let _ = writeln!(
            out,
            "{} {} made {}, {state}, wrapped by {}",
            key.number,
            key.id,
            key.made_at,
            key.wraps.join(", ")
        );
    }
    if facts.iter().any(|key| key.wraps.len() > 1) {
        out.push_str("A change of your key is not finished: run surus backup key rewrap again.\n");
    }
    out
}

fn rotate(args: &RotateArgs) -> Result<u8, Failure> {
    let (place, key) = args.repo.place_and_key()?;
    let id = keys::rotate(place.as_ref(), &needed(key)?)?;
    print(&format!("New objects are encrypted with data key {id}.\n"))?;
    Ok(0)
}

fn rewrap(args: &RewrapArgs) -> Result<u8, Failure> {
    let (place, key) = args.repo.place_and_key()?;
    let count = keys::rewrap(place.as_ref(), &needed(key)?, &user_key("--new-key", &args.new_key)?)?;
    print(&format!("Done: {count} data keys are wrapped with the new key, and the old one opens nothing any more.\n"))?;
    Ok(0)
}

fn needed(key: Option<UserKey>) -> Result<UserKey, Failure> {
    key.ok_or_else(|| Failure::new(code::REPO_KEY, "no key was given: --repo-key file:/path or env:NAME"))
}
