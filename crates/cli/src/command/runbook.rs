//! `surus runbook`: what to run when it has happened, with the commands that a drill ran.

use super::prove::{Meant, described, open_engine, repository_name};
use crate::{
    args::{DataFormat, Global},
    config::Config,
    failure::Failure,
    ledger,
    output::{json, print},
    paint::Paint,
    wrap,
};
use clap::{Args, Subcommand};
use std::{collections::BTreeSet, fmt::Write};
use surus_core::{clock, code, size::human_seconds};
use surus_prove::{
    drill,
    engine::{Engine, Kind},
};
use surus_store::{Filter, Store};
use surus_web::runbook::{self, Place, Runbook, Step};

#[derive(Debug, Subcommand)]
pub enum RunbookVerb {
    /// Restore after data loss: each step, and what the last drill that passed ran and measured
    #[command(after_help = "\
Examples:
  surus runbook restore shop                             a target of surus.toml
  surus runbook restore --repo /srv/surus --to /var/lib/postgresql/15/main
  surus runbook restore --cluster 7123456789012345678    from the ledger alone: nothing else is asked

The page of the target's backups shows the same. Keep a copy where the server is not.

Exit status: 0 shown · 2 usage · 3 the ledger or the repository cannot be opened · 4 something outside failed")]
    Restore(Box<RunbookArgs>),
}

#[derive(Debug, Args)]
pub struct RunbookArgs {
    #[command(flatten)]
    pub of: Meant,
    /// The data directory that is to be restored
    #[arg(long, value_name = "DATADIR")]
    pub to: Option<String>,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

/// Runs the command.
pub async fn run(global: &Global, verb: RunbookVerb) -> Result<u8, Failure> {
    let RunbookVerb::Restore(args) = verb;
    let config = Config::load(global.config.as_deref())?;
    let path = ledger::path(global, &config)?;
    // On another machine than that of the drills there may be none: the general form is better than nothing.
    let store = if path.exists() { Some(Store::open_read_only(&path)?) } else { None };
    let described = described(&args.of, &config);
    let cluster = cluster(&args.of, &config, store.as_ref(), described.as_ref()).await?;
    let drills = match (&cluster, &store) {
        (Some(cluster), Some(store)) => Some(store.entries(&runbook::drills_of(cluster))?),
        (Some(_), None) => Some(Vec::new()),
        (None, _) => None,
    };
    let (own, other) = match described {
        Some((Kind::Surus, _)) => (repository_name(&args.of, &config), None),
        Some((tool, _)) => (None, Some(tool.to_string())),
        None => (None, None),
    };
    let target = args.of.name.clone().unwrap_or_else(|| "TARGET".to_owned());
    let place = Place { target, data: args.to.clone(), repository: own, tool: other };
    let book = runbook::written(&place, drills.as_deref(), clock::now());
    match args.format {
        DataFormat::Json => print(&json(&book)?)?,
        DataFormat::Text => print(&text(&book))?,
    }
    Ok(0)
}

/// Which cluster it is: as it was said, as its backups say, else as drills of those backups have written into the
/// ledger. After a loss neither the server nor the repository may be there to ask.
async fn cluster(
    of: &Meant,
    config: &Config,
    store: Option<&Store>,
    described: Option<&(Kind, String)>,
) -> Result<Option<String>, Failure> {
    if let Some(id) = of.cluster {
        return Ok(Some(id.to_string()));
    }
    let failure = match open_engine(of, config).await {
        Ok(engine) => match tokio::task::block_in_place(|| identifier(engine.as_ref())) {
            Ok(known) => return Ok(known.or_else(|| of.name.clone())),
            Err(failure) => failure,
        },
        Err(failure) if failure.code.exit == code::Exit::Usage => return Err(failure),
        Err(failure) => failure,
    };
    let (Some((kind, address)), Some(store)) = (described, store) else { return Err(failure) };
    let subject = drill::subject(*kind, address);
    let entries = store.entries(&Filter { kind: Some(drill::KIND.to_owned()), ..Filter::default() })?;
    let known: BTreeSet<String> =
        entries.into_iter().filter(|entry| entry.proof.subject == subject).map(|entry| entry.proof.cluster).collect();
    match known.into_iter().collect::<Vec<_>>().as_slice() {
        [only] => Ok(Some(only.clone())),
        _ => Err(Failure::new(failure.code, format!("{}; --cluster N looks into the ledger alone", failure.message))),
    }
}

fn identifier(engine: &dyn Engine) -> Result<Option<String>, Failure> {
    let known = match engine.system_identifier() {
        Some(id) => Some(id),
        None => engine.survey()?.system_identifier,
    };
    Ok(known.map(|id| id.to_string()))
}

fn text(book: &Runbook) -> String {
    let mut out = format!("{}\n", Paint::strong("Restore after data loss"));
    let mut say = |indent: &str, text: &str| {
        for line in wrap::lines(text, wrap::width().saturating_sub(indent.len())) {
            let _ = writeln!(out, "{indent}{line}");
        }
    };
    if let Some(why) = &book.no_drill {
        say("", why);
    }
    if let Some(drill) = &book.drill {
        let at = jiff::Timestamp::from_millisecond(drill.finished_ms).unwrap_or_default();
        let measured = |name: &str, value: Option<f64>| {
            value.map(|seconds| format!(", {name} {}", human_seconds(seconds))).unwrap_or_default()
        };
        let (rto, rpo) = (measured("RTO", drill.rto_s), measured("RPO", drill.rpo_s));
        let at = at.strftime("%Y-%m-%d %H:%M UTC");
        let text = format!("As drilled on {at} from {}{rto}{rpo}: surus proof show {}", drill.subject, drill.number);
        say("", &text);
        if !drill.counts {
            say("", "That drill no longer counts: run another. surus prove restore");
        }
    }
    for (at, step) in book.steps.iter().enumerate() {
        let _ = writeln!(out, "\n{}. {} {}", at + 1, Paint::strong(&step.what), Paint::faint(took(step)));
        for line in wrap::lines(&step.why, wrap::width().saturating_sub(3)) {
            let _ = writeln!(out, "   {}", Paint::faint(line));
        }
        for command in &step.commands {
            let _ = writeln!(out, "     {command}");
        }
    }
    out
}

/// What a drill has to say of a step; in brackets.
fn took(step: &Step) -> String {
    match (step.drilled, step.measured_s) {
        (true, Some(seconds)) => format!("(drilled, {})", human_seconds(seconds)),
        (true, None) => "(drilled)".into(),
        (false, Some(seconds)) => format!("(took {} in the drill)", human_seconds(seconds)),
        (false, None) => "(not part of a drill)".into(),
    }
}
