//! `surus clone`: restored copies to work with.

use super::at::target_of;
use crate::{
    args::{DataFormat, Global},
    config::{Config, quantity::Span},
    copies::{self, CopyArgs, ScratchArgs},
    failure::Failure,
    ledger,
    output::{json, print},
    paint::Paint,
    progress,
};
use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json as value;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
};
use surus_core::{clock, code, secret::Secret, size::human_duration};
use surus_pg::server::running_pid;
use surus_prove::{
    clone::{self, Clone, Made, Rehearsal, Wanted},
    mask::Rule,
    scratch::{Place, Scratch},
};

#[derive(Debug, Subcommand)]
pub enum CloneVerb {
    /// Restore one, disarm it, mask it, and leave it running
    #[command(after_help = "\
Examples:
  surus clone create staging --repo /srv/surus --port 5499 --expires 7d
  surus clone create staging --repo /srv/surus --mask masks.toml --check 'shop:SELECT count(*) FROM orders'

It listens on 127.0.0.1 for roles with passwords, and on a socket for the account that it runs as. Subscriptions are
disabled, replication slots dropped, jobs and archiving off. The rules of [[mask]] are applied before it listens, and the
old values are in none of its files. Queries of [[rehearsal]] and --check are asked; when all are answered, readiness
item 12 is proven for 30 days.

Exit status: 0 it runs · 1 it runs, and did not answer · 2 usage · 3 the moment cannot be reached, a rule does not fit
  4 something outside failed")]
    Create(Box<CreateArgs>),
    /// The clones that are there
    List {
        #[command(flatten)]
        scratch: ScratchArgs,
        #[arg(long, value_enum, default_value_t = DataFormat::Text)]
        format: DataFormat,
    },
    /// Start one that has stopped, e.g. with the machine, on the port that it had
    Start {
        name: String,
        /// Another port on 127.0.0.1
        #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..))]
        port: Option<u16>,
        /// How long it may take to come up
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = Span::parse)]
        recovery_timeout: Span,
        #[command(flatten)]
        scratch: ScratchArgs,
        #[arg(long, value_enum, default_value_t = DataFormat::Text)]
        format: DataFormat,
    },
    /// Stop one and remove it with all its files
    Drop {
        name: String,
        #[command(flatten)]
        scratch: ScratchArgs,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// How it is called
    pub name: String,
    /// The moment: 2026-01-31T12:00:00Z, or how long ago, like 90m
    #[arg(long, value_name = "TIME", default_value = "latest", allow_hyphen_values = true)]
    pub time: String,
    /// The port on 127.0.0.1 [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..))]
    pub port: Option<u16>,
    /// When it goes
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = Span::parse)]
    pub expires: Span,
    /// A file with [[mask]] rules, or config [default: those of surus.toml]
    #[arg(long, value_name = "FILE")]
    pub mask: Option<PathBuf>,
    /// Mask nothing, whatever surus.toml says
    #[arg(long, conflicts_with = "mask")]
    pub unmasked: bool,
    /// A query that it must answer, besides those of surus.toml; may be given several times
    #[arg(long, value_name = "DATABASE:SQL", value_parser = rehearsal)]
    pub check: Vec<Rehearsal>,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
    #[command(flatten)]
    pub copy: CopyArgs,
}

fn rehearsal(text: &str) -> Result<Rehearsal, String> {
    let (database, sql) = text.split_once(':').ok_or("give DATABASE:SQL, like 'shop:SELECT 1'")?;
    Ok(Rehearsal { name: sql.to_owned(), database: database.to_owned(), sql: sql.to_owned() })
}

/// A file with rules.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MaskFile {
    mask: Vec<Rule>,
}

/// Runs the command.
pub async fn run(global: &Global, verb: CloneVerb) -> Result<u8, Failure> {
    let config = Config::load(global.config.as_deref())?;
    let flag = match &verb {
        CloneVerb::Create(args) => &args.copy.scratch,
        CloneVerb::List { scratch, .. } | CloneVerb::Start { scratch, .. } | CloneVerb::Drop { scratch, .. } => scratch,
    };
    let scratch = flag.open(global, &config)?;
    copies::swept(&scratch, global.quiet)?;
    match verb {
        CloneVerb::Create(args) => create(global, &config, &scratch, &args).await,
        CloneVerb::List { format, .. } => list(&scratch, format),
        CloneVerb::Start { name, port, recovery_timeout, format, .. } => {
            let quiet = global.quiet || format == DataFormat::Json;
            tokio::task::block_in_place(|| start(&scratch, &name, port, recovery_timeout, quiet, format))
        }
        CloneVerb::Drop { name, .. } => drop_one(&scratch, &name),
    }
}

fn rules(config: &Config, args: &CreateArgs) -> Result<Vec<Rule>, Failure> {
    match args.mask.as_deref() {
        _ if args.unmasked => Ok(Vec::new()),
        None => Ok(config.mask.clone()),
        Some(path) if path == Path::new("config") => Ok(config.mask.clone()),
        Some(path) => {
            let wrong =
                |why: String| Failure::new(code::INPUT_READ, format!("nothing was done: {}: {why}", path.display()));
            let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
            let file: MaskFile = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
            Ok(file.mask)
        }
    }
}

async fn create(global: &Global, config: &Config, scratch: &Scratch, args: &CreateArgs) -> Result<u8, Failure> {
    let rules = rules(config, args)?;
    let engine = tokio::task::block_in_place(|| args.copy.engine(config))?;
    let rehearsals: Vec<Rehearsal> = config.rehearsal.iter().chain(&args.check).cloned().collect();
    let mut random = [0; 32];
    let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    filled.map_err(|error| Failure::bug(format!("the kernel gives no randomness: {error}")))?;
    let mask_key = Secret::new(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let wanted = Wanted {
        name: &args.name,
        cluster: engine.cluster().names.system_identifier,
        engine: &engine,
        target: target_of(&args.time)?,
        port: args.port,
        expires: args.expires.0,
        rules: &rules,
        mask_key: &mask_key,
        rehearsals: &rehearsals,
        jobs: args.copy.jobs(),
        within: args.copy.recovery_timeout.0,
        keeper: &copies::keeper()?,
        surus_version: env!("CARGO_PKG_VERSION"),
    };
    let monitor = progress::monitor(global.quiet || args.format == DataFormat::Json);
    let made = clone::create(scratch, &wanted, monitor.as_ref()).await?;
    let number = ledger::open(global, config)?.append(&made.proof)?.number;
    match args.format {
        DataFormat::Json => print(&json(&value!({
            "name": made.clone.name, "ledger": number, "expires_at": made.place.mark.expires_at,
            "directory": made.place.dir(), "clone": made.clone, "proof": made.proof, "failures": made.failures,
        }))?)?,
        DataFormat::Text => print(&made_text(&made, number))?,
    }
    match made.failures.first() {
        None => Ok(0),
        Some(first) => Err(Failure::new(code::CLONE_REHEARSAL, format!("the clone runs, and did not answer {first}"))),
    }
}

fn made_text(made: &Made, number: i64) -> String {
    let clone = &made.clone;
    let took = made.proof.finished_at.duration_since(made.proof.started_at).unsigned_abs();
    let mut out =
        format!("{} {} as of {} in {}\n", Paint::good("running"), clone.name, clone.moment, human_duration(took));
    let _ = writeln!(out, "  {}", reached(clone));
    for masked in &clone.masked {
        let _ = writeln!(out, "  masked {masked}");
    }
    for note in &clone.notes {
        let _ = writeln!(out, "  {} {note}", Paint::faint("note:"));
    }
    let _ = writeln!(out, "  {}, entry {number} of the ledger", left(&made.place));
    if made.proof.items.is_empty() {
        let hint = "no rehearsal query was asked, so it proves nothing: give --check DATABASE:SQL or [[rehearsal]]";
        let _ = writeln!(out, "  {} {hint}", Paint::faint("note:"));
    }
    out
}

fn left(place: &Place) -> String {
    place.mark.expires_at.map_or_else(String::new, |end| {
        format!("goes in {}", human_duration(end.duration_since(clock::now()).unsigned_abs()))
    })
}

fn runs(place: &Place) -> bool {
    running_pid(&place.data()).is_some()
}

/// A clone as JSON.
fn listed(place: &Place, clone: &Clone) -> serde_json::Value {
    value!({
        "name": clone.name, "made_at": place.mark.made_at, "expires_at": place.mark.expires_at,
        "running": runs(place), "directory": place.dir(), "clone": clone,
    })
}

fn list(scratch: &Scratch, format: DataFormat) -> Result<u8, Failure> {
    let all = clone::list(scratch)?;
    if format == DataFormat::Json {
        let all: Vec<_> = all.iter().map(|(place, clone)| listed(place, clone)).collect();
        return print(&json(&all)?).map(|()| 0);
    }
    let mut out = String::new();
    for (place, clone) in &all {
        let state = if runs(place) { Paint::good("running") } else { Paint::crit("stopped") };
        let (name, port, moment) = (&clone.name, clone.port, &clone.moment);
        let _ =
            writeln!(out, "{name:<16} {state} on port {port}, cluster {} at {moment}, {}", clone.cluster, left(place));
        let _ = writeln!(out, "                 {}", Paint::faint(place.dir().display()));
        if !runs(place) {
            let _ = writeln!(out, "                 {}", Paint::faint(format!("surus clone start {name} starts it")));
        }
    }
    if all.is_empty() {
        let _ = writeln!(out, "There is no clone in {}.", scratch.root().display());
    }
    print(&out).map(|()| 0)
}

/// The clone of that name.
fn known(scratch: &Scratch, name: &str, not_done: &str) -> Result<(Place, Clone), Failure> {
    clone::find(scratch, name)?.ok_or_else(|| {
        let text = format!("{not_done}: there is no clone {name:?} in {}", scratch.root().display());
        Failure::new(code::COPY_UNKNOWN, text)
    })
}

fn start(
    scratch: &Scratch,
    name: &str,
    port: Option<u16>,
    within: Span,
    quiet: bool,
    format: DataFormat,
) -> Result<u8, Failure> {
    let mut one = known(scratch, name, "nothing was started")?;
    let monitor = progress::monitor(quiet);
    clone::start(&mut one, port, within.0, &copies::keeper()?, monitor.as_ref())?;
    let (place, clone) = &one;
    match format {
        DataFormat::Json => print(&json(&listed(place, clone))?)?,
        DataFormat::Text => {
            let mut out = format!("{} {} as of {}\n", Paint::good("running"), clone.name, clone.moment);
            let _ = writeln!(out, "  {}", reached(clone));
            let _ = writeln!(out, "  {}", left(place));
            print(&out)?;
        }
    }
    Ok(0)
}

/// Where it answers.
fn reached(clone: &Clone) -> String {
    format!("host=127.0.0.1 port={}, or host={} user={}", clone.port, clone.socket_directory, clone.superuser)
}

fn drop_one(scratch: &Scratch, name: &str) -> Result<u8, Failure> {
    let (place, _) = known(scratch, name, "nothing was removed")?;
    tokio::task::block_in_place(|| place.remove())?;
    print(&format!("removed {name}\n")).map(|()| 0)
}
