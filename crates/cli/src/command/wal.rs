//! `surus wal`: one module per verb.

mod agent;
mod get;
mod list;
mod look;
mod push;
mod receive;

use crate::{
    args::{Args, Command, Global},
    config::Config,
    failure::Failure,
    paint,
};
use clap::{Parser, Subcommand};
use std::{ffi::OsString, panic, process::ExitCode};

#[derive(Debug, Subcommand)]
pub enum WalVerb {
    /// Archive a file of pg_wal: for archive_command
    Push(push::PushArgs),
    /// Bring a file back from the archive: for restore_command
    Get(get::GetArgs),
    /// Receive WAL as the server writes it, and archive it; nothing that was answered is lost
    Receive(receive::ReceiveArgs),
    /// What WAL is in the archive, and what is missing, by name
    List(list::ListArgs),
    /// Looks at a segment before a copy replays it; the copies' restore command calls it
    #[command(hide = true)]
    Look(look::LookArgs),
    /// Works ahead of a server, behind push and get; they start it
    #[command(hide = true)]
    Agent {
        #[command(subcommand)]
        verb: agent::AgentVerb,
    },
}

/// Runs the command; the number is the exit status.
pub async fn run(global: &Global, verb: WalVerb) -> Result<u8, Failure> {
    match verb {
        WalVerb::Push(args) => push::run(&args),
        WalVerb::Get(args) => Ok(get::run(&args)),
        WalVerb::Receive(args) => receive::run(global, args).await,
        WalVerb::List(args) => list::run(&args),
        WalVerb::Look(args) => Ok(look::run(&args)),
        WalVerb::Agent { verb } => agent::run(verb),
    }
}

/// The exit status of a `get` that does not know: a server stops then. With any other but 0, up to 125, it would
/// believe that its WAL ends here.
const UNCERTAIN: u8 = 255;

#[derive(Debug, Parser)]
#[command(name = "surus wal push")]
struct Push {
    #[command(flatten)]
    args: push::PushArgs,
}

#[derive(Debug, Parser)]
#[command(name = "surus wal look")]
struct Look {
    #[command(flatten)]
    args: look::LookArgs,
}

#[derive(Debug, Parser)]
#[command(name = "surus wal get")]
struct Get {
    #[command(flatten)]
    args: get::GetArgs,
}

/// `wal get` with options of the whole program before or between its words, such as `--config`: without a runtime, and
/// with its own exit status only. `None` when it is another command, or help is asked for.
pub fn get_with_options(words: &[OsString]) -> Option<ExitCode> {
    if !is_get(words) {
        return None;
    }
    let args = match Args::try_parse_from(words) {
        Ok(Args { global, command: Command::Wal { verb: WalVerb::Get(args) } }) => {
            paint::choose(global.no_color);
            Config::remember(global.config.as_deref());
            args
        }
        Ok(_) => return None,
        Err(error) if error.use_stderr() => {
            crate::failure::usage(&error);
            return Some(ExitCode::from(UNCERTAIN));
        }
        Err(_) => return None,
    };
    let status = panic::catch_unwind(|| get::run(&args));
    Some(ExitCode::from(status.unwrap_or(UNCERTAIN)))
}

/// Are the first words that are neither options nor may be their values `wal get`?
fn is_get(words: &[OsString]) -> bool {
    let is_option = |at: usize| words[at].as_encoded_bytes().starts_with(b"-");
    let follows = |from: usize, word: &str| {
        let at = (from..words.len()).find(|at| words[*at] == word)?;
        (from..at).all(|at| is_option(at) || (at > from && is_option(at - 1))).then_some(at + 1)
    };
    follows(1, "wal").and_then(|from| follows(from, "get")).is_some()
}

/// The short way for the commands that a server runs for each segment: without the whole command line's grammar,
/// and without a runtime. `None` when the arguments are not plainly one of them; then the long way tells what is wrong.
pub fn at_once(args: &[OsString]) -> Option<ExitCode> {
    let verb = match args {
        [_, wal, verb, ..] if wal == "wal" => verb,
        _ => return None,
    };
    let rest = || args.iter().skip(2);
    if verb == "push" {
        let push = Push::try_parse_from(rest()).ok()?;
        return Some(push::run(&push.args).map_or_else(|failure| failure.show(), ExitCode::from));
    }
    if verb == "look" {
        let look = Look::try_parse_from(rest()).ok()?;
        return Some(ExitCode::from(look::run(&look.args)));
    }
    if verb != "get" {
        return None;
    }
    let get = match Get::try_parse_from(rest()) {
        Ok(get) => get,
        Err(error) if error.use_stderr() => {
            // Usage is wrong in a way that a server must not take for the end of its WAL.
            crate::failure::usage(&error);
            return Some(ExitCode::from(UNCERTAIN));
        }
        Err(_) => return None,
    };
    // A bug is no proof of absence either.
    let status = panic::catch_unwind(|| get::run(&get.args));
    Some(ExitCode::from(status.unwrap_or(UNCERTAIN)))
}
