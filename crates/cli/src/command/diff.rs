//! `surus diff`: which rows are not as they were, and the SQL that puts them back.

mod repairing;
mod shown;

use super::at::{made_text, opened, role, say, target_of, warmth};
use crate::{
    args::{DataFormat, Global},
    config::{Config, quantity::Span},
    copies::{self, CopyArgs},
    failure::Failure,
    output::print,
};
use clap::Args;
use std::path::PathBuf;
use surus_core::code;
use surus_pg::{Manners, Target};
use surus_prove::{
    diff::{self, Change, Counts, Layout, Side, TableName},
    engine::Surus,
    moment::{Moment, Wanted},
    scratch::Scratch,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus diff orders --at 10m --repo /srv/surus 'host=/run/postgresql dbname=shop'
  surus diff orders order_lines --at '2026-01-31 12:00:00+00' --repo /srv/surus \"$DSN\" --repair repair.sql
  surus diff orders --at 20m --until 15m --repo /srv/surus shop --repair repair.sql

--repair writes SQL that puts back what vanished and sets back what changed since, in the order of the foreign keys,
with the rows of other tables that a cascade took or cut off. Rows that are new are never touched. What changed after
--until (when the accident was over) was meant, and is left alone and listed; without it, every row that is overwritten
is listed with what is lost. It is one transaction that changes nothing when a row is not any more as it was seen.
Before it is written it is tried on a copy of the latest archived moment and compared again; for that the server is
asked to archive what it has written (pg_switch_wal). Run it yourself: psql -X -f repair.sql.

Exit status: 0 nothing differs, or the repair is written · 1 rows differ, or the repair failed on the copy · 2 usage
  3 the moment cannot be reached, or there is no room · 4 something outside failed")]
pub struct DiffArgs {
    /// The tables; at the end the server as it is now: a connection string or a target of surus.toml [default: PG*]
    #[arg(value_name = "TABLE… [DSN|TARGET]", required = true)]
    pub words: Vec<String>,
    /// The moment: 2026-01-31T12:00:00Z, how long ago, like 90m, or latest
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub at: String,
    /// When the accident was over: what changed after that was meant
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// The columns that tell rows apart [default: the primary key, else a unique index without NULLs]
    #[arg(long, value_name = "COL,…", value_delimiter = ',')]
    pub key: Vec<String>,
    /// Only rows for which this holds now or held then
    #[arg(long = "where", value_name = "SQL")]
    pub condition: Option<String>,
    /// The database [default: the connection's]
    #[arg(short, long, value_name = "NAME")]
    pub database: Option<String>,
    /// The role in the copy [default: the superuser that the cluster was made with]
    #[arg(short = 'U', long, value_name = "NAME")]
    pub user: Option<String>,
    /// A warm copy of a moment at most this far from --at does as well; its own moment is shown
    #[arg(long, value_name = "TIME", value_parser = warmth)]
    pub near: Option<Span>,
    /// Rows of each table that are shown; the counts are exact
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Write the SQL that puts the rows back; - for standard output
    #[arg(long, value_name = "FILE")]
    pub repair: Option<PathBuf>,
    /// Put back what vanished, leave what changed
    #[arg(long, requires = "repair")]
    pub vanished_only: bool,
    /// Do not try the repair on a copy
    #[arg(long, requires = "repair")]
    pub untried: bool,
    /// Replace the file
    #[arg(long, requires = "repair")]
    pub force: bool,
    /// How long the copy stays after its last use; 0s: not at all
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = warmth)]
    pub warm: Span,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
    #[command(flatten)]
    pub copy: CopyArgs,
}

/// All that the parts of the command share.
struct Scene<'a> {
    args: &'a DiffArgs,
    global: &'a Global,
    scratch: Scratch,
    engine: Surus,
    keeper: Vec<String>,
    /// The server as it is now.
    target: Target,
}

/// What was found in a table.
struct Seen {
    table: TableName,
    dropped: bool,
    layout: Layout,
    counts: Counts,
    /// The first ones.
    rows: Vec<Change>,
}

/// Runs the command.
pub async fn run(global: &Global, args: &DiffArgs) -> Result<u8, Failure> {
    let config = Config::load(global.config.as_deref())?;
    let (tables, target) = words(args, &config)?;
    let file = repairing::file(args)?;
    let scratch = args.copy.scratch.open(global, &config)?;
    tokio::task::block_in_place(|| copies::swept(&scratch, global.quiet))?;
    let engine = tokio::task::block_in_place(|| args.copy.engine(&config))?;
    let scene = Scene { args, global, scratch, engine, keeper: copies::keeper()?, target };
    let moment = scene.moment(&args.at, args.near)?;
    let outcome = compared(&scene, &tables, &moment, file).await;
    // Where the copy is gone by now, somebody dropped it; what was found stands.
    let _ = moment.release(args.warm.0);
    outcome
}

/// The tables and the server: the last word is that, when it cannot be a table.
fn words(args: &DiffArgs, config: &Config) -> Result<(Vec<String>, Target), Failure> {
    let mut tables = args.words.clone();
    let last = tables.last().cloned().unwrap_or_default();
    let named = config.target.iter().find(|target| target.name == last);
    let dsn = if last.contains('=') || last.contains("://") {
        tables.pop().unwrap_or_default()
    } else if let Some(named) = named {
        tables.pop();
        named.resolved_dsn()?
    } else {
        String::new()
    };
    if tables.is_empty() {
        return Err(Failure::new(code::DIFF_TABLE, "nothing was compared: name a table, too"));
    }
    let target = Target::parse(&dsn)?;
    Ok((tables, args.database.as_ref().map_or_else(|| target.clone(), |database| target.with_database(database))))
}

impl Scene<'_> {
    fn wanted(&self, time: &str) -> Result<Wanted<'_>, Failure> {
        Ok(Wanted {
            cluster: self.engine.cluster().names.system_identifier,
            engine: &self.engine,
            target: target_of(time)?,
            near: None,
            backup: None,
            writable: false,
            warm: self.args.warm.0,
            jobs: self.args.copy.jobs(),
            within: self.args.copy.recovery_timeout.0,
            keeper: &self.keeper,
        })
    }

    /// The copy of a moment.
    fn moment(&self, time: &str, near: Option<Span>) -> Result<Moment, Failure> {
        let wanted = Wanted { near: near.map(|span| span.0), ..self.wanted(time)? };
        let moment = opened(self.global, &self.scratch, &wanted, time)?;
        self.say(&made_text(&moment, &wanted.target.goal));
        Ok(moment)
    }

    /// Its database, in one snapshot.
    async fn side(&self, moment: &Moment) -> Result<Side, Failure> {
        let role = role(self.args.user.as_deref(), moment);
        Ok(Side::open(moment.session(&role, self.target.database(), &manners()).await?).await?)
    }

    fn say(&self, text: &str) {
        if !self.global.quiet {
            say(text);
        }
    }
}

/// For reading as long as it takes.
fn manners() -> Manners {
    Manners { application_name: "surus diff".into(), read_only: true, ..Manners::changing() }
}

async fn compared(
    scene: &Scene<'_>,
    names: &[String],
    moment: &Moment,
    file: Option<repairing::Output>,
) -> Result<u8, Failure> {
    let then = scene.side(moment).await?;
    // Copies first: while the server's snapshot is held, its vacuum removes nothing that is newer.
    let until = match scene.args.until.as_deref().filter(|_| file.is_some()) {
        Some(time) => Some(scene.moment(time, None)?),
        None => None,
    };
    let now = Side::open(scene.target.connect(&manners()).await?).await?;
    let mut seen: Vec<Seen> = Vec::new();
    for name in names {
        let one = look(scene.args, &then, &now, name).await?;
        if !seen.iter().any(|known| known.table == one.table) {
            seen.push(one);
        }
    }
    let differs = seen.iter().any(|one| one.dropped || !one.counts.is_same());
    let status = match file {
        Some(file) => repairing::run(scene, &then, now, (moment, until), &seen, file).await?,
        None => {
            now.close().await;
            print(&shown::written(&seen, None, scene.args)?)?;
            u8::from(differs)
        }
    };
    then.close().await;
    Ok(status)
}

async fn look(args: &DiffArgs, then: &Side, now: &Side, name: &str) -> Result<Seen, Failure> {
    let table = diff::tables(then, now, name).await?;
    let pair = diff::pair(then, now, &table).await?;
    then.look_in(&table).await?;
    now.look_in(&table).await?;
    let dropped = pair.now.is_none();
    let key = Some(args.key.as_slice()).filter(|key| !key.is_empty());
    let layout = match Layout::of(&pair.past, pair.now.as_ref(), key) {
        Err(_) if dropped => Layout::without_key(&pair.past),
        layout => layout?,
    };
    let mut rows = Vec::new();
    if layout.key.is_empty() {
        let sql = format!("SELECT count(*) AS rows FROM {table}");
        let count = then.ask(&sql).await?.first().and_then(|row| row.i64("rows"));
        let count = count.map_err(surus_prove::ProveError::from)?;
        let counts = Counts { vanished: u64::try_from(count).unwrap_or(0), ..Counts::default() };
        return Ok(Seen { table, dropped, layout, counts, rows });
    }
    let mut each = |change: Change| {
        if rows.len() < args.limit {
            rows.push(change);
        }
        Ok(())
    };
    let side = Some(now).filter(|_| !dropped);
    let counts = diff::compare(then, side, &layout, args.condition.as_deref(), &mut each).await?;
    Ok(Seen { table, dropped, layout, counts, rows })
}
