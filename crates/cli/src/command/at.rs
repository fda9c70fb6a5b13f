//! `surus at`: an answer from the past.

use super::restore::{time_of, written_time};
use crate::{
    args::Global,
    config::{Config, quantity::Span},
    copies::{self, CopyArgs},
    failure::Failure,
    output::{json, print},
    paint::Paint,
    progress,
    psql::{RowFormat, written},
};
use clap::Args;
use serde_json::json as value;
use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, ExitStatus},
    time::Duration,
};
use surus_backup::restore::target::{Goal, RecoveryTarget};
use surus_core::{
    clock, code,
    size::{Bytes, human_duration, human_seconds},
};
use surus_pg::{AskError, AskErrorKind, ConnectError, Manners, Programs, Session};
use surus_prove::{
    moment::{self, Moment, Wanted},
    scratch::Scratch,
};

/// A warm copy this far from a moment is worth a word.
const NEARBY: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus at '2026-01-31 12:00:00+00' --repo /srv/surus -d shop -c 'SELECT count(*) FROM orders'
  surus at 10m --repo /srv/surus -d shop -c 'SELECT * FROM orders WHERE id = 7' --format csv
  surus at 10m --repo /srv/surus -d shop --shell         psql in the past
  surus at 10m --near 5m --repo /srv/surus -d shop -c 'SELECT …'     a warm copy of at most 5 minutes from that
  surus at --list                                         the copies that are warm
  surus at --drop all                                     stop and remove them

The copy is restored into a place of its own, reachable by nobody else, read-only, and stays warm for the next question
about the same moment. How long ago, like 10m, is another moment each time: the copy's own is shown, and with --near a
warm copy that is near enough answers. Values of --format json are text as PostgreSQL writes it. Unlogged tables are
empty in a copy.

Exit status: 0 answered · 2 usage · 3 the moment cannot be reached, or there is no room
  4 the query failed, or the copy did not come up")]
pub struct AtArgs {
    /// The moment: 2026-01-31T12:00:00Z, how long ago, like 90m, or latest
    #[arg(value_name = "TIME", required_unless_present_any = ["list", "drop"], allow_hyphen_values = true)]
    pub time: Option<String>,
    /// The query; may be given several times
    #[arg(short, long, value_name = "SQL")]
    pub command: Vec<String>,
    /// Start psql on the copy
    #[arg(long, conflicts_with = "command")]
    pub shell: bool,
    /// The database
    #[arg(short, long, value_name = "NAME")]
    pub database: Option<String>,
    /// The role [default: the superuser that the cluster was made with]
    #[arg(short = 'U', long, value_name = "NAME")]
    pub user: Option<String>,
    #[arg(long, value_enum, default_value_t = RowFormat::Text)]
    pub format: RowFormat,
    /// A copy that may be written to; others are not given it
    #[arg(long)]
    pub write: bool,
    /// How long the copy stays after its last use; 0s: not at all
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = warmth)]
    pub warm: Span,
    /// A warm copy of a moment at most this far from the one that is asked for does as well; its own moment is shown
    #[arg(long, value_name = "TIME", value_parser = warmth)]
    pub near: Option<Span>,
    /// This backup [default: the newest that leads to the moment]
    #[arg(long, value_name = "LABEL")]
    pub backup: Option<String>,
    /// The copies that are warm
    #[arg(long, conflicts_with_all = ["time", "command", "shell", "drop"])]
    pub list: bool,
    /// Stop and remove this copy, or all
    #[arg(long, value_name = "ID", conflicts_with_all = ["time", "command", "shell"], num_args = 0..=1, default_missing_value = "all")]
    pub drop: Option<String>,
    #[command(flatten)]
    pub copy: CopyArgs,
}

/// A duration; a bare 0 is one too.
pub fn warmth(text: &str) -> Result<Span, String> {
    if text == "0" { Ok(Span(Duration::ZERO)) } else { Span::parse(text) }
}

/// Runs the command.
pub async fn run(global: &Global, args: &AtArgs) -> Result<u8, Failure> {
    let config = Config::load(global.config.as_deref())?;
    let scratch = args.copy.scratch.open(global, &config)?;
    tokio::task::block_in_place(|| copies::swept(&scratch, global.quiet))?;
    if args.list {
        return list(&scratch, args.format);
    }
    if let Some(id) = &args.drop {
        return drop_copies(&scratch, id);
    }
    if args.command.is_empty() && !args.shell {
        return Err(Failure::new(code::MOMENT_USAGE, "nothing was asked: give a query with -c, or --shell"));
    }
    let time = args.time.as_deref().unwrap_or_default();
    let target = target_of(time)?;
    let engine = tokio::task::block_in_place(|| args.copy.engine(&config))?;
    let wanted = Wanted {
        cluster: engine.cluster().names.system_identifier,
        engine: &engine,
        target,
        near: args.near.map(|span| span.0),
        backup: args.backup.clone(),
        writable: args.write,
        warm: args.warm.0,
        jobs: args.copy.jobs(),
        within: args.copy.recovery_timeout.0,
        keeper: &copies::keeper()?,
    };
    let moment = opened(global, &scratch, &wanted, time)?;
    if !global.quiet {
        say(&made_text(&moment, &wanted.target.goal));
    }
    let answered = answer(&moment, args).await;
    let id = moment.place.mark.id.clone();
    let again = moment.warm.at.map_or_else(|| time.to_owned(), |at| at.to_string());
    // Where the copy is gone by now, somebody dropped it; the answer stands.
    let kept = moment.release(args.warm.0).ok().flatten();
    let status = answered?;
    if let Some(until) = kept.filter(|_| !global.quiet) {
        let left = human_duration(until.duration_since(clock::now()).unsigned_abs());
        let text = format!("The copy stays for {left}: surus at {again} asks it, surus at --drop {id} removes it.\n");
        say(&Paint::faint(text).to_string());
    }
    Ok(status)
}

/// What is not the answer goes to standard error.
pub fn say(text: &str) {
    // Nothing can be done about a closed one.
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// The moment as the user names it.
pub fn target_of(time: &str) -> Result<RecoveryTarget, Failure> {
    let goal = if time == "latest" { Goal::Latest } else { Goal::Time(time_of(time)?) };
    Ok(RecoveryTarget { goal, ..RecoveryTarget::default() })
}

/// The copy of the moment that is wanted. How long ago is another moment each time that it is said: where a copy of one
/// nearby is warm, that is said before a new one is restored.
pub fn opened(global: &Global, scratch: &Scratch, wanted: &Wanted<'_>, time: &str) -> Result<Moment, Failure> {
    let monitor = progress::monitor(global.quiet);
    tokio::task::block_in_place(|| {
        if !global.quiet
            && wanted.near.is_none()
            && written_time(time).is_none()
            && let Some((at, far)) = moment::nearest(scratch, wanted)?.filter(|(_, far)| *far <= NEARBY)
        {
            let near = far.as_secs() + 1;
            let text = format!("note: a copy of {at} is warm; --near {near}s would ask that one, which is as near\n");
            say(&Paint::faint(text).to_string());
        }
        Ok(Moment::open(scratch, wanted, monitor.as_ref())?)
    })
}

/// The role that was named, else one that may do everything in the copy.
pub fn role(named: Option<&str>, moment: &Moment) -> String {
    named.map_or_else(|| moment.superuser(), str::to_owned)
}

/// What was made, on one line or two; of a copy that was warm, how it is not quite what was asked for.
pub fn made_text(moment: &Moment, goal: &Goal) -> String {
    let warm = &moment.warm;
    if !moment.fresh {
        let text = reused_text(moment, goal);
        return if text.is_empty() { text } else { Paint::faint(text).to_string() };
    }
    let took = human_seconds(warm.restore_seconds + warm.recovery_seconds);
    let last = warm.last_transaction.as_ref().map_or_else(String::new, |at| format!("; last transaction {at}"));
    let size = Bytes(warm.bytes);
    let mut out = format!("as of {goal}: {size} of backup {} and its WAL in {took}{last}\n", warm.backup);
    warm.notes.iter().for_each(|note| out += &format!("note: {note}\n"));
    Paint::faint(out).to_string()
}

fn reused_text(moment: &Moment, goal: &Goal) -> String {
    match (goal, moment.warm.at) {
        (Goal::Time(asked), Some(at)) if *asked != at => {
            let far = human_duration(at.duration_since(*asked).unsigned_abs());
            let side = if at < *asked { "before" } else { "after" };
            format!("as of {at}, {far} {side} the moment that was asked for: a copy that was warm\n")
        }
        (Goal::Latest, _) => {
            let age = human_duration(clock::now().duration_since(moment.place.mark.made_at).unsigned_abs());
            let id = &moment.place.mark.id;
            format!("as of what was archived {age} ago, when this warm copy was made (--drop {id} removes it)\n")
        }
        _ => String::new(),
    }
}

async fn answer(moment: &Moment, args: &AtArgs) -> Result<u8, Failure> {
    let database = args.database.as_deref().unwrap_or("postgres");
    // What begins with a backslash is psql's own language.
    if args.shell || args.command.iter().any(|sql| sql.trim_start().starts_with('\\')) {
        let session = open(moment, args, database).await?;
        session.close().await;
        return tokio::task::block_in_place(|| psql(moment, args, database));
    }
    let session = open(moment, args, database).await?;
    let mut failed = None;
    for sql in &args.command {
        match session.ask(sql).await {
            Ok(rows) => print(&written(&rows, args.format)?)?,
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    session.close().await;
    match failed {
        None => Ok(0),
        Some(error) => Err(query_failure(&error, moment, args).await),
    }
}

/// A session as a user of psql has it, and read-only.
async fn open(moment: &Moment, args: &AtArgs, database: &str) -> Result<Session, Failure> {
    let manners = Manners { application_name: "surus at".into(), ..Manners::changing() };
    let session = match moment.session(&role(args.user.as_deref(), moment), database, &manners).await {
        Ok(session) => session,
        Err(error) => return Err(connect_failure(error, moment, args).await),
    };
    let read_only = if args.write { "off" } else { "on" };
    let own = format!("RESET ALL; SET application_name = 'surus at'; SET default_transaction_read_only = {read_only}");
    session.run(&own).await.map_err(|error| Failure::new(error.code(), error.message))?;
    Ok(session)
}

async fn databases(moment: &Moment, args: &AtArgs) -> Option<String> {
    let session = moment.session(&role(args.user.as_deref(), moment), "template1", &Manners::looking()).await.ok()?;
    let sql = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1";
    let rows = session.ask(sql).await.ok()?;
    session.close().await;
    let names: Vec<String> = rows.iter().filter_map(|row| row.text("datname").ok()).collect();
    Some(names.join(", "))
}

async fn connect_failure(error: ConnectError, moment: &Moment, args: &AtArgs) -> Failure {
    let mut text = error.message;
    if error.code == code::CONNECT_DATABASE
        && let Some(names) = databases(moment, args).await
    {
        text = format!("{text}; at that moment there were: {names} (-d NAME)");
    }
    if error.code == code::CONNECT_ROLE {
        text += "; name a role that was there then with -U";
    }
    Failure::new(error.code, text)
}

async fn query_failure(error: &AskError, moment: &Moment, args: &AtArgs) -> Failure {
    let mut text = error.message.clone();
    for more in [&error.detail, &error.hint].into_iter().flatten() {
        text += &format!("; {more}");
    }
    if error.kind == AskErrorKind::Undefined
        && args.database.is_none()
        && let Some(names) = databases(moment, args).await
    {
        text += &format!("; it was asked in database postgres, and there were: {names} (-d NAME)");
    }
    Failure::new(error.code(), text)
}

/// psql of the copy's major, else of a newer one, at the user's terminal.
fn psql(moment: &Moment, args: &AtArgs, database: &str) -> Result<u8, Failure> {
    let local = |error: surus_pg::LocalError| Failure::new(error.code(), error.to_string());
    let programs = Programs::find(Some(moment.warm.major)).and_then(|own| own.with_client("psql")).map_err(local)?;
    let program = programs.bin("psql").map_err(local)?;
    let mut command = Command::new(&program);
    for name in ["PGHOSTADDR", "PGSERVICE", "PGSSLMODE", "PGREQUIRESSL", "PGTARGETSESSIONATTRS"] {
        command.env_remove(name);
    }
    if let Some(libraries) = programs.library_path() {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    if !args.write {
        command.env("PGOPTIONS", "-c default_transaction_read_only=on");
    }
    command.env("PGAPPNAME", "surus at").arg("--dbname").arg(moment.dsn(&role(args.user.as_deref(), moment), database));
    if args.format == RowFormat::Csv {
        command.arg("--csv");
    }
    args.command.iter().for_each(|sql| {
        command.arg("-X").arg("-c").arg(sql);
    });
    let status = command.status();
    let status = status.map_err(|error| Failure::new(code::PROVE_TOOL, format!("{}: {error}", program.display())))?;
    Ok(if args.shell || ExitStatus::success(&status) { 0 } else { 4 })
}

fn list(scratch: &Scratch, format: RowFormat) -> Result<u8, Failure> {
    let all: Vec<_> = moment::list(scratch)?.into_iter().filter(|(place, _)| place.mark.lasts).collect();
    if format == RowFormat::Json {
        let one = |(place, warm): &(surus_prove::scratch::Place, moment::Warm)| {
            value!({
                "id": place.mark.id, "what": place.mark.what, "made_at": place.mark.made_at,
                "expires_at": place.mark.expires_at, "directory": place.dir(), "copy": warm,
            })
        };
        return print(&json(&all.iter().map(one).collect::<Vec<_>>())?).map(|()| 0);
    }
    let mut out = String::new();
    for (place, warm) in &all {
        let end = place.mark.expires_at;
        let left = end.map_or_else(String::new, |end| human_duration(end.duration_since(clock::now()).unsigned_abs()));
        let write = if warm.key.writable { ", writable" } else { "" };
        let _ =
            writeln!(out, "{:<12} {}: {}{write}, for {left} more", place.mark.id, place.mark.what, Bytes(warm.bytes));
        let _ = writeln!(out, "             {}", Paint::faint(place.dir().display()));
    }
    if all.is_empty() {
        let _ = writeln!(out, "No copy is warm in {}.", scratch.root().display());
    }
    print(&out).map(|()| 0)
}

fn drop_copies(scratch: &Scratch, id: &str) -> Result<u8, Failure> {
    let all = moment::list(scratch)?.into_iter().filter(|(place, _)| place.mark.lasts);
    let chosen: Vec<_> = all.filter(|(place, _)| id == "all" || place.mark.id == id).collect();
    if chosen.is_empty() && id != "all" {
        let text = format!("nothing was removed: no warm copy in {} has the id {id:?}", scratch.root().display());
        return Err(Failure::new(code::COPY_UNKNOWN, text));
    }
    for (place, _) in &chosen {
        tokio::task::block_in_place(|| place.remove())?;
        print(&format!("removed {}: {}\n", place.mark.id, place.mark.what))?;
    }
    if chosen.is_empty() {
        print("There was nothing to remove.\n")?;
    }
    Ok(0)
}
