//! `surus prove page`: a damaged page, the rows that were on it, and the way back.

mod shown;

use super::engine::{self, Meant, OtherArgs};
use crate::{
    args::{DataFormat, Global},
    command::at::{made_text, role, say, target_of, warmth},
    config::{Config, quantity::Span},
    copies::{self, CopyArgs},
    failure::Failure,
    output::{json, print},
    progress,
};
use clap::{Args, ValueEnum};
use surus_core::code;
use surus_pg::{Target, quote::shell as word};
use surus_prove::{
    damage::{self, Aim, Found, Names, Rows, patient::Patient, place::Fork},
    engine::{Engine, Kind},
    moment::{Moment, Wanted},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus prove page shop                                           looks for damaged pages in all of the cluster
  surus prove page shop --log 'invalid page in block 7 of relation base/5/16384'
  surus prove page shop -d shop --relation public.orders --block 7
  surus prove page \"$DSN\" --file base/5/16384_vm --no-copy        without asking the backup which rows are lost

The server is only read: its files where they are here, else through pg_read_binary_file; and by amcheck where that is
installed. Which rows were on a damaged page is told by a copy restored from the backup. Nothing is repaired: the way back
is shown as commands. Blocks are counted from the beginning of the relation, as PostgreSQL's messages do.

Exit status: 0 nothing damaged was found · 1 pages are damaged · 2 usage, or no such page · 3 no page could be read, or the
  backup does not fit · 4 something outside failed")]
pub struct PageArgs {
    /// The server: a connection string or a target of surus.toml [default: PG*]
    #[arg(value_name = "TARGET|DSN")]
    pub target: Option<String>,
    /// The relation: table, index, TOAST table, …
    #[arg(long, value_name = "NAME", group = "aim")]
    pub relation: Option<String>,
    /// Which of its forks
    #[arg(long, value_enum, default_value_t = ForkArg::Main, requires = "relation")]
    pub fork: ForkArg,
    /// The relation's file below the data directory
    #[arg(long, value_name = "PATH", group = "aim")]
    pub file: Option<String>,
    /// A message that names a page: a line of the server's log, of pg_checksums, of a drill
    #[arg(long, value_name = "LINE", group = "aim")]
    pub log: Option<String>,
    /// The page
    #[arg(long, value_name = "N", conflicts_with = "log", requires = "aim")]
    pub block: Option<u32>,
    /// The database that the relation is in [default: the connection's]
    #[arg(short, long, value_name = "NAME")]
    pub database: Option<String>,
    /// Look at bytes only, not at what is in the pages
    #[arg(long)]
    pub no_amcheck: bool,
    /// Do not ask the backup which rows are lost
    #[arg(long)]
    pub no_copy: bool,
    /// The moment of the copy: a time, how long ago, or latest
    #[arg(long, value_name = "TIME", default_value = "latest", allow_hyphen_values = true)]
    pub at: String,
    /// This backup [default: the newest that leads to the moment]
    #[arg(long, value_name = "LABEL")]
    pub backup: Option<String>,
    /// The role in the copy [default: the superuser that the cluster was made with]
    #[arg(short = 'U', long, value_name = "NAME")]
    pub user: Option<String>,
    /// Rows of each page that are shown; JSON has all
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// How long the copy stays after its last use; 0s: not at all
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = warmth)]
    pub warm: Span,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
    #[command(flatten)]
    pub copy: CopyArgs,
    #[command(flatten)]
    pub other: OtherArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ForkArg {
    Main,
    Fsm,
    Vm,
    Init,
}

impl PageArgs {
    fn aim(&self) -> Aim {
        let fork = match self.fork {
            ForkArg::Main => Fork::Main,
            ForkArg::Fsm => Fork::Fsm,
            ForkArg::Vm => Fork::Vm,
            ForkArg::Init => Fork::Init,
        };
        match (&self.relation, &self.file, &self.log) {
            (Some(name), ..) => Aim::Relation { name: name.clone(), fork, block: self.block },
            (_, Some(path), _) => Aim::File { path: path.clone(), block: self.block },
            (.., Some(line)) => Aim::Line(line.clone()),
            _ => Aim::All,
        }
    }

    /// The target of surus.toml that is meant.
    fn named<'a>(&self, config: &'a Config) -> Option<&'a crate::config::TargetConfig> {
        let name = self.target.as_ref()?;
        config.target.iter().find(|target| target.name == *name)
    }

    /// Whose backups; none when there are none, or none are to be asked.
    fn meant(&self, config: &Config) -> Option<Meant> {
        let name = self.named(config).map(|target| target.name.clone());
        let of_target = config.backup.iter().any(|backup| Some(&backup.target) == name.as_ref());
        let own = self.copy.repo.is_some() || of_target || config.repository.len() == 1;
        (!self.no_copy && (own || self.other.is_given())).then(|| Meant {
            name,
            repo: self.copy.repo.clone(),
            key: self.copy.repo_key.clone(),
            cluster: self.copy.cluster,
            other: self.other.clone(),
        })
    }
}

/// Runs the command.
pub async fn run(global: &Global, args: PageArgs) -> Result<u8, Failure> {
    let config = Config::load(global.config.as_deref())?;
    let target = target(&args, &config)?;
    let quiet = global.quiet || args.format == DataFormat::Json;
    let mut patient = Patient::open(&target).await?;
    let monitor = progress::monitor(quiet);
    let database = target.database().to_owned();
    let mut found = damage::look(&mut patient, &args.aim(), &database, !args.no_amcheck, monitor.as_ref()).await?;
    let meant = args.meant(&config);
    if let Some(meant) = meant.as_ref().filter(|_| found.pages.iter().any(damage::wants_copy)) {
        if let Err(failure) = ask_copy(global, &args, &config, meant, &patient, &mut found).await {
            if failure.code == code::PAGE_COPY {
                return Err(failure);
            }
            // What was found stands; which rows it is about is not known then.
            let why = format!("the backup could not be asked: {} [{}]", failure.message, failure.code.id);
            found.pages.iter_mut().filter(|page| damage::wants_copy(page)).for_each(|page| {
                page.rows = Rows::Unknown { why: why.clone() };
            });
        }
    } else if args.no_copy {
        found.pages.iter_mut().filter(|page| damage::wants_copy(page)).for_each(|page| {
            page.rows = Rows::Unknown { why: "the backup was not asked (--no-copy)".into() };
        });
    }
    found.settle();
    let names = names(global, &args, &config, meant.as_ref());
    for page in &mut found.pages {
        page.way = damage::way(page, &patient, &names);
    }
    told(&args, &patient, &found)?;
    let damaged = found.pages.len();
    patient.close().await;
    match damaged {
        0 => Ok(0),
        1 => Err(Failure::new(code::PAGE_DAMAGED, "a page is damaged")),
        many => Err(Failure::new(code::PAGE_DAMAGED, format!("{many} pages are damaged"))),
    }
}

/// The server: a target of the configuration, else a connection string.
fn target(args: &PageArgs, config: &Config) -> Result<Target, Failure> {
    let dsn = match (args.named(config), &args.target) {
        (Some(named), _) => named.resolved_dsn()?,
        (None, Some(text)) if !text.contains(['=', '/', ':']) => {
            let text = format!("nothing was looked at: there is no [[target]] named \"{text}\" in surus.toml");
            return Err(Failure::new(code::CONFIG_TARGET, text));
        }
        (None, text) => text.clone().unwrap_or_default(),
    };
    let target = Target::parse(&dsn)?;
    Ok(args.database.as_ref().map_or_else(|| target.clone(), |database| target.with_database(database)))
}

/// Has a copy tell which rows are lost.
async fn ask_copy(
    global: &Global,
    args: &PageArgs,
    config: &Config,
    meant: &Meant,
    patient: &Patient,
    found: &mut Found,
) -> Result<(), Failure> {
    let quiet = global.quiet || args.format == DataFormat::Json;
    let engine: Box<dyn Engine> = engine::open(meant, config).await?;
    if engine.kind() == Kind::Dump {
        return Err(Failure::new(code::ENGINE_FORM, "a dump has rows, but no pages"));
    }
    let scratch = args.copy.scratch.open(global, config)?;
    tokio::task::block_in_place(|| copies::swept(&scratch, quiet))?;
    let wanted = Wanted {
        engine: engine.as_ref(),
        cluster: patient.cluster,
        target: target_of(&args.at)?,
        near: None,
        backup: args.backup.clone(),
        writable: false,
        warm: args.warm.0,
        jobs: args.copy.jobs(),
        within: args.copy.recovery_timeout.0,
        keeper: &copies::keeper()?,
    };
    let monitor = progress::monitor(quiet);
    let moment = tokio::task::block_in_place(|| Moment::open(&scratch, &wanted, monitor.as_ref()))?;
    if moment.fresh && !quiet {
        say(&made_text(&moment, &wanted.target.goal));
    }
    found.looked.notes.push(asked_text(engine.as_ref(), &moment));
    let filled = damage::fill(found, patient, &moment, &role(args.user.as_deref(), &moment)).await;
    // Where the copy is gone by now, somebody dropped it; what it told stands.
    let _ = moment.release(args.warm.0);
    Ok(filled?)
}

fn asked_text(engine: &dyn Engine, moment: &Moment) -> String {
    let warm = &moment.warm;
    let last = warm.last_transaction.as_ref().map_or_else(String::new, |at| format!(", last transaction {at}"));
    format!("rows are told by backup {} of {} with its archived WAL{last}", warm.backup, engine.kind())
}

/// The words that the commands of the way back need.
fn names(global: &Global, args: &PageArgs, config: &Config, meant: Option<&Meant>) -> Names {
    let mut server = args.target.as_ref().map(|text| format!(" {}", word(text))).unwrap_or_default();
    let mut common = String::new();
    if let Some(file) = &global.config {
        common = format!(" --config {}", word(&file.display().to_string()));
        server += &common;
    }
    if let Some(cluster) = args.copy.cluster {
        common += &format!(" --cluster {cluster}");
    }
    let own = meant.filter(|_| !args.other.is_given());
    let of_target = || {
        let name = own?.name.as_ref()?;
        config.backup.iter().find(|backup| backup.target == *name).map(|backup| backup.repository.clone())
    };
    let only = || config.repository.first().map(|only| only.name.clone());
    let place = own.and_then(|meant| meant.repo.clone().or_else(of_target).or_else(only));
    let flags = |scratch: bool| {
        let place = place.as_ref()?;
        let key = args.copy.repo_key.as_ref().map(|by| format!(" --repo-key {}", word(by))).unwrap_or_default();
        let scratch = args.copy.scratch.scratch.as_ref().filter(|_| scratch);
        let scratch = scratch.map(|dir| format!(" --scratch {}", word(&dir.display().to_string()))).unwrap_or_default();
        Some(format!("--repo {}{key}{scratch}{common}", word(place)))
    };
    Names { server, diff: flags(true), restore: flags(false), other_tool: args.other.is_given() }
}

fn told(args: &PageArgs, patient: &Patient, found: &Found) -> Result<(), Failure> {
    let first = if found.pages.is_empty() { Vec::new() } else { damage::precautions(patient) };
    match args.format {
        DataFormat::Json => print(&json(&serde_json::json!({
            "server": patient.label(), "cluster": patient.cluster.to_string(), "checksums": patient.checksums,
            "standby": patient.standby, "damaged": !found.pages.is_empty(), "pages": found.pages,
            "looked": found.looked, "first": first,
        }))?),
        DataFormat::Text => print(&shown::text(patient, found, &first, args.limit)),
    }
}
