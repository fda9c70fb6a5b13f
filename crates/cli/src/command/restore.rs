//! `surus restore`: brings a cluster back as a data directory, up to a moment.

use crate::{
    args::{DataFormat, Global},
    command::query::moment,
    config::{Config, quantity::Span},
    failure::Failure,
    output::{json, print},
    paint::Paint,
    progress,
    repository::RepoArgs,
};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::json as value;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};
use surus_backup::{
    BackupError,
    repo::address::Address,
    restore::{
        Outline, Plan, RestoreOptions, Restored,
        directory::{SpaceMap, Way},
        start::{Arrival, start},
        target::{Action, Goal, RecoveryTarget, TimelineChoice},
    },
};
use surus_core::{
    clock, code,
    lsn::Lsn,
    size::{Bytes, human_duration},
    version::Version,
};
use surus_pg::Programs;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus restore --repo /srv/surus --to /srv/new                        to the end of the archived WAL
  surus restore --repo /srv/surus --to /srv/new --time '2026-01-31 12:00:00+00' --dry-run
  surus restore --repo /srv/surus --to /srv/new --xid 4711 --exclusive     just before that transaction
  surus restore --repo /srv/surus --to /srv/old --delta                write only what differs
  surus restore --repo /srv/surus --to /srv/new --start --port 5499    and start it

Nothing is touched before it is known that the target can be reached. A restore that was broken off is taken up by the
same command; until it is done no server can be started in the directory.

Exit status: 0 done, or with --dry-run: it can be · 2 usage · 3 the target cannot be reached, or the directory or its
  room is not fit · 4 something could not be read or written, or the server did not come up")]
pub struct RestoreArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// The data directory: an empty or new one
    #[arg(long, value_name = "DATADIR")]
    pub to: PathBuf,
    /// This backup [default: the newest that leads to the target]
    #[arg(long, value_name = "LABEL")]
    pub backup: Option<String>,
    /// Up to this moment: 2026-01-31T12:00:00Z, or how long ago, like 90m
    #[arg(long, value_name = "TIME", group = "goal")]
    pub time: Option<String>,
    /// Up to this position in the WAL
    #[arg(long, value_name = "LSN", group = "goal")]
    pub lsn: Option<Lsn>,
    /// Up to the end of this transaction
    #[arg(long, value_name = "XID", group = "goal")]
    pub xid: Option<u64>,
    /// Up to this restore point
    #[arg(long, value_name = "NAME", group = "goal")]
    pub name: Option<String>,
    /// Only until the backup is consistent
    #[arg(long, group = "goal")]
    pub immediate: bool,
    /// Stop just before the target, not just after it
    #[arg(long)]
    pub exclusive: bool,
    /// The timeline to follow: a number, latest or current (that of the backup)
    #[arg(long, value_name = "N", default_value = "latest", value_parser = timeline)]
    pub timeline: TimelineChoice,
    /// What the server does when it has come to the target
    #[arg(long, value_enum, default_value_t = ActionArg::Promote)]
    pub action: ActionArg,
    /// The directory holds this cluster already: write what differs, remove what is too much
    #[arg(long)]
    pub delta: bool,
    /// Where a tablespace goes, by its OID; may be given several times
    #[arg(long, value_name = "OID=DIR", value_parser = tablespace)]
    pub tablespace: Vec<(u32, PathBuf)>,
    /// Where all other tablespaces go, each into a directory named by its OID
    #[arg(long, value_name = "DIR")]
    pub tablespace_root: Option<PathBuf>,
    /// Leave archiving on: only when this server takes the place of the old one
    #[arg(long)]
    pub keep_archiving: bool,
    /// Start the server, wait until it has come to the target, and leave it running
    #[arg(long)]
    pub start: bool,
    /// The port on 127.0.0.1 to start it on [default: a free one]
    #[arg(long, value_name = "PORT", requires = "start")]
    pub port: Option<u16>,
    /// How long recovery may take
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = Span::parse, requires = "start")]
    pub recovery_timeout: Span,
    /// Only say whether it can be done, how much it writes and about how long it takes
    #[arg(long, conflicts_with = "start")]
    pub dry_run: bool,
    /// Threads that read, unpack and write [default: the processors, at most 4]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ActionArg {
    Promote,
    Pause,
    Shutdown,
}

fn timeline(text: &str) -> Result<TimelineChoice, String> {
    match text {
        "latest" => Ok(TimelineChoice::Latest),
        "current" => Ok(TimelineChoice::Current),
        number => match number.parse() {
            Ok(number @ 1..) => Ok(TimelineChoice::Number(number)),
            _ => Err("give a number, latest or current".into()),
        },
    }
}

fn tablespace(text: &str) -> Result<(u32, PathBuf), String> {
    let parsed = text.split_once('=').and_then(|(oid, to)| Some((oid.parse().ok()?, PathBuf::from(to))));
    parsed
        .filter(|(_, to)| to.is_absolute())
        .ok_or_else(|| "give OID=DIR with a path from /, like 16999=/srv/fast".into())
}

/// Runs the command.
pub fn run(global: &Global, args: &RestoreArgs) -> Result<u8, Failure> {
    let cluster = args.repo.open_cluster()?;
    let options = options(args, cluster.names.system_identifier)?;
    let plan = Plan::make(&cluster, &options)?;
    if args.dry_run {
        match args.format {
            DataFormat::Json => print(&json(&value!({ "plan": plan.outline }))?)?,
            DataFormat::Text => print(&plan_text(&plan.outline))?,
        }
        return Ok(0);
    }
    // What would keep the server from starting is said before the hours that the files take.
    let programs = match args.start {
        true => Some(programs(&plan)?),
        false => None,
    };
    let monitor = progress::monitor(global.quiet || args.format == DataFormat::Json);
    if args.format == DataFormat::Text && !global.quiet {
        print(&plan_text(&plan.outline))?;
    }
    let restored = plan.carry_out(monitor.as_ref())?;
    if args.format == DataFormat::Text {
        print(&done_text(&restored, &plan.outline, args.start))?;
    }
    let mut arrival = None;
    if let Some(programs) = programs {
        let to = &plan.outline.to;
        let within = args.recovery_timeout.0;
        let (server, came) = start(&programs, to, args.port, options.target.action, within, monitor.as_ref())?;
        server.detach();
        if args.format == DataFormat::Text {
            print(&arrival_text(&came))?;
        }
        arrival = Some(came);
    }
    if args.format == DataFormat::Json {
        print(&json(&value!({ "plan": plan.outline, "restored": restored, "started": arrival }))?)?;
    }
    Ok(0)
}

fn programs(plan: &Plan) -> Result<Programs, Failure> {
    if let Some(trouble) = &plan.outline.fetch_trouble {
        return Err(Failure::new(code::RESTORE_FETCH, format!("nothing was done: {trouble}")));
    }
    let major = Version::from_num(plan.about().server_version).major();
    Ok(Programs::find(Some(major)).map_err(BackupError::from)?)
}

fn options(args: &RestoreArgs, cluster: u64) -> Result<RestoreOptions, Failure> {
    let goal = match (&args.time, args.lsn, args.xid, &args.name) {
        (Some(time), ..) => Goal::Time(time_of(time)?),
        (_, Some(lsn), ..) => Goal::Lsn(lsn),
        (_, _, Some(xid), _) => Goal::Xid(xid),
        (.., Some(name)) => Goal::Name(name.clone()),
        _ if args.immediate => Goal::Immediate,
        _ => Goal::Latest,
    };
    if args.exclusive && !matches!(goal, Goal::Time(_) | Goal::Lsn(_) | Goal::Xid(_)) {
        let text = "nothing was done: --exclusive goes with --time, --lsn or --xid";
        return Err(Failure::new(code::RESTORE_USAGE, text));
    }
    let action = match args.action {
        ActionArg::Promote => Action::Promote,
        ActionArg::Pause => Action::Pause,
        ActionArg::Shutdown if args.start => {
            let text = "nothing was done: a server that is to shut down at its target cannot be left running";
            return Err(Failure::new(code::RESTORE_USAGE, text));
        }
        ActionArg::Shutdown => Action::Shutdown,
    };
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(RestoreOptions {
        to: args.to.clone(),
        backup: args.backup.clone(),
        target: RecoveryTarget { goal, exclusive: args.exclusive, timeline: args.timeline, action },
        delta: args.delta,
        spaces: SpaceMap { each: args.tablespace.clone(), root: args.tablespace_root.as_deref().map(absolute) },
        workers: args.jobs.map_or_else(super::backup::processors, usize::from),
        fetch: fetch(&args.repo, cluster)?,
        keep_archiving: args.keep_archiving,
        durable: true,
    })
}

/// A moment to the microsecond, as PostgreSQL shows it too; one without a zone is of this machine's.
pub fn time_of(text: &str) -> Result<Timestamp, Failure> {
    if let Some(time) = written_time(text) {
        return Ok(time);
    }
    let wrong = |_| Failure::new(code::RESTORE_USAGE, format!("nothing was done: {text:?} is no time"));
    let ms = moment(text, clock::now_ms()).map_err(wrong)?;
    Timestamp::from_millisecond(ms).map_err(|_| Failure::new(code::RESTORE_USAGE, format!("{text:?} is no time")))
}

/// A moment that is written as one, and not as how long ago.
pub fn written_time(text: &str) -> Option<Timestamp> {
    let here = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::system()).ok();
    text.parse::<Timestamp>().ok().or_else(|| here().map(|time| time.timestamp()))
}

/// The command with which the restored server fetches its WAL: this program, from wherever it is.
pub fn fetch(repo: &RepoArgs, cluster: u64) -> Result<Vec<String>, Failure> {
    let program =
        std::env::current_exe().map_err(|error| Failure::bug(format!("surus does not find itself: {error}")))?;
    let mut words = vec![program.display().to_string()];
    let mut repo = repo.clone();
    if !repo.repo.contains('/')
        && let Some(named) = Config::load(None)?.repository.iter().find(|one| one.name == repo.repo)
    {
        // The reference is no secret, and whether the server's account may read what it leads to can be seen.
        repo.key = repo.key.or_else(|| named.key.as_ref().map(|key| key.reference().to_owned()));
        match named.address()? {
            // The server's account need not read the configuration for that.
            Address::Folder(folder) => repo.repo = folder.display().to_string(),
            // A repository's name means nothing without the file that it stands in.
            _ => words.extend(Config::path(None).into_iter().flat_map(|file| {
                let file = std::path::absolute(&file).unwrap_or(file);
                ["--config".to_owned(), file.display().to_string()]
            })),
        }
    }
    words.extend(["wal".into(), "get".into()]);
    words.extend(repo.words());
    words.extend(["--cluster".into(), cluster.to_string()]);
    Ok(words)
}

fn plan_text(outline: &Outline) -> String {
    let mut out = String::new();
    let choice = &outline.choice;
    let what = if outline.target.exclusive { "just before " } else { "" };
    let _ = writeln!(
        out,
        "{} {what}{} on timeline {} from backup {}",
        Paint::good("reachable:"),
        outline.target.goal,
        choice.timeline,
        outline.chain.join(" + ")
    );
    let how = match outline.way {
        Way::Fresh => "",
        Way::Delta => ", of which only what differs from what is there",
        Way::Resume => ", of which only what a restore that was broken off has not written",
    };
    let _ = writeln!(out, "  to {}: {} in {} files{how}", outline.to.display(), Bytes(outline.bytes), outline.files);
    for space in &outline.tablespaces {
        let _ = writeln!(out, "  tablespace {} goes to {}", space.oid, space.to.display());
    }
    if let Some(free) = outline.bytes_free {
        let _ = writeln!(out, "  room: {} more are needed, {} are free", Bytes(outline.bytes_needed), Bytes(free));
    }
    let _ = writeln!(
        out,
        "  WAL: {} segments, {} to {}, all in the archive",
        choice.segments, choice.first_segment, choice.last_segment
    );
    if let Some(seconds) = outline.seconds {
        let took = human_duration(Duration::from_secs_f64(seconds));
        let _ = writeln!(
            out,
            "  about {took} to write the files, as fast as this machine unpacks; then the WAL is replayed"
        );
    }
    for note in choice.notes.iter().chain(&outline.fetch_trouble) {
        let _ = writeln!(out, "  {} {note}", Paint::faint("note:"));
    }
    out
}

fn done_text(restored: &Restored, outline: &Outline, starts: bool) -> String {
    let mut out = String::new();
    let took = human_duration(Duration::from_secs_f64(restored.seconds));
    let _ = writeln!(
        out,
        "{} {} in {took}: {} written, all of {} verified",
        Paint::good("restored"),
        outline.to.display(),
        Bytes(restored.bytes_written),
        Bytes(restored.bytes)
    );
    if restored.files_removed > 0 {
        let _ = writeln!(out, "  {} files that the backup has not were removed", restored.files_removed);
    }
    if !starts {
        let _ =
            writeln!(out, "  start it as its owner: postgres -D {}; it fetches its WAL itself", outline.to.display());
    }
    out
}

fn arrival_text(arrival: &Arrival) -> String {
    let mut out = String::new();
    let took = human_duration(Duration::from_secs_f64(arrival.seconds));
    let where_to = match arrival.timeline {
        Some(timeline) => format!("on timeline {timeline}"),
        None => "in recovery, waiting at its target".into(),
    };
    let _ = writeln!(out, "{} {where_to} after {took}", Paint::good("running"));
    let _ = writeln!(out, "  host=127.0.0.1 port={}, or host={}", arrival.port, arrival.socket_directory);
    if let Some(stopped) = &arrival.stopped {
        let _ = writeln!(out, "  {stopped}");
    }
    if let Some(lsn) = &arrival.lsn {
        let time = arrival.time.as_ref().map_or_else(String::new, |time| format!(", last transaction at {time}"));
        let _ = writeln!(out, "  replayed up to {lsn}{time}");
    }
    let _ = writeln!(out, "  its log: {}", arrival.log);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_microsecond() {
        let expected: Timestamp = "2026-01-31T12:00:00.123456Z".parse().unwrap();
        for text in ["2026-01-31T12:00:00.123456Z", "2026-01-31 12:00:00.123456+00", "2026-01-31 13:00:00.123456+01:00"]
        {
            assert_eq!(time_of(text).unwrap(), expected, "{text}");
        }
        assert!(time_of("2026-01-31 12:00:00").is_ok() && time_of("90m").is_ok());
        assert_eq!(time_of("tomorrow").unwrap_err().code, code::RESTORE_USAGE);
    }

    #[test]
    fn options_are_read() {
        assert_eq!(timeline("current").unwrap(), TimelineChoice::Current);
        assert_eq!(timeline("3").unwrap(), TimelineChoice::Number(3));
        assert!(timeline("0").is_err() && timeline("x").is_err());
        assert_eq!(tablespace("7=/srv/a=b").unwrap(), (7, PathBuf::from("/srv/a=b")));
        assert!(tablespace("7=here").is_err() && tablespace("/srv").is_err());
    }
}
