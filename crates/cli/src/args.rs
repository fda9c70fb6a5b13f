//! The command line.

use crate::{
    command::{
        at::AtArgs, backup::BackupVerb, clone::CloneVerb, diff::DiffArgs, prove::ProveVerb, restore::RestoreArgs,
        runbook::RunbookVerb, wal::WalVerb,
    },
    demo::schema::ROWS,
};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Runs PostgreSQL in production and proves that it works.
#[derive(Debug, Parser)]
#[command(
    name = "surus",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "\
Exit status: 0 ok · 1 findings · 2 usage · 3 precondition not met · 4 something outside failed · 70 a bug in surus

Examples:
  surus demo                                     see it on a server of its own
  surus check postgresql://me@db.example/shop    what would lose data, what is slow, what is insecure
  surus fix postgresql://me@db.example/shop      the plan that makes the findings go away"
)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, ClapArgs)]
pub struct Global {
    /// Configuration file [default: surus.toml here, then /etc/surus/surus.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say less: no progress, no hints
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// No colours
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Where surus keeps its own files
    #[arg(long, global = true, value_name = "DIR", env = "SURUS_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look at servers, read-only: findings worst first, readiness, and what could not be seen
    Check(CheckArgs),
    /// Show the plan that makes findings go away; carry it out with --apply
    Fix(FixArgs),
    /// A primary and a standby on this machine with problems planted: check, fix and look around
    Demo(DemoArgs),
    /// Watch servers: collect, remember, and answer over HTTP
    Serve(ServeArgs),
    /// Sessions, who blocks whom, statements and replication, live in the terminal
    Top(TopArgs),
    /// Take back a change that `surus fix --apply` made
    Undo(UndoArgs),
    /// Settings tuned to the machine and to what the server's counters say, as a plan
    Tune(TuneArgs),
    /// Ask in PromQL what was measured: a table for one moment, a plot for a range
    Query(QueryArgs),
    /// The timeline of events: mark a deployment on it, or list what happened
    Event {
        #[command(subcommand)]
        verb: EventVerb,
    },
    /// Backups: take, list, verify and expire them
    Backup {
        #[command(subcommand)]
        verb: BackupVerb,
    },
    /// WAL: archive it, bring it back, and see what is there
    Wal {
        #[command(subcommand)]
        verb: WalVerb,
    },
    /// Bring a cluster back, to the latest moment or to one that you name
    Restore(Box<RestoreArgs>),
    /// Experiments that show whether what is configured works; the ledger keeps what they measured
    Prove {
        #[command(subcommand)]
        verb: ProveVerb,
    },
    /// Ask the cluster as it was at a moment: an answer from a throw-away copy
    At(Box<AtArgs>),
    /// Clones to work with: restored, disarmed, masked, and removed when they expire
    Clone {
        #[command(subcommand)]
        verb: CloneVerb,
    },
    /// Which rows changed or vanished since a moment, and the SQL that puts them back
    Diff(Box<DiffArgs>),
    /// What to run when it has happened, with the commands that a drill ran
    Runbook {
        #[command(subcommand)]
        verb: RunbookVerb,
    },
    /// A range of time as one file to send
    Report {
        #[command(subcommand)]
        verb: ReportVerb,
    },
    /// PromQL: run Prometheus's test scripts against surus's evaluator
    Promql {
        #[command(subcommand)]
        verb: PromqlVerb,
    },
    /// The ledger: every proof and every change, in a hash chain
    #[command(after_help = "\
Exit status: 0 done, and what was verified is intact · 1 the chain is broken · 2 no such entry or file
  3 the ledger cannot be opened · 4 it is damaged, or the output was not written")]
    Proof {
        #[command(subcommand)]
        verb: ProofVerb,
    },
    /// The configuration file: check it, or print the reference of all keys
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Dashboards for Grafana
    Grafana {
        #[command(subcommand)]
        verb: GrafanaVerb,
    },
    /// Shell completions
    #[command(hide = true)]
    Completions { shell: clap_complete::Shell },
    /// The manual page
    #[command(hide = true)]
    Man,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  surus fix \"$DSN\"                               the plan for everything that surus can fix
  surus fix \"$DSN\" idx.fk cfg                    for a check and for a group of checks
  surus fix \"$DSN\" 'vac.overdue:shop/public.orders' --apply
  surus undo                                      takes the last change back

Exit status: 0 shown, or done and the findings are gone · 1 a finding is still there · 2 usage
  3 not confirmed, a standby, or the server is not as planned · 4 a step failed, or it was not reached")]
pub struct FixArgs {
    /// Connection string of the primary
    #[arg(value_name = "DSN")]
    pub dsn: String,
    /// Findings (keys), checks or groups; without any, everything that surus can fix
    #[arg(value_name = "FINDING")]
    pub findings: Vec<String>,
    /// Carry the plan out: asks on a terminal, needs --yes elsewhere
    #[arg(long)]
    pub apply: bool,
    /// Do not ask
    #[arg(long, requires = "apply")]
    pub yes: bool,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  surus demo                     until Ctrl-C, which stops both servers and removes everything
  surus demo --once              ends after the report
  surus demo --dir ~/lab --keep  keeps the servers' files; the same command starts them again

Exit status: 0 also when there are findings · 130 interrupted before the report · otherwise as for all commands")]
pub struct DemoArgs {
    /// An empty or new directory for the servers [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave the files where they are at the end
    #[arg(long)]
    pub keep: bool,
    /// End after the report
    #[arg(long)]
    pub once: bool,
    /// How long the application works before the check
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// About how many rows the application has
    #[arg(long, value_name = "N", default_value_t = ROWS, value_parser = clap::value_parser!(u64).range(100..))]
    pub rows: u64,
    /// The primary's port on 127.0.0.1 [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..))]
    pub port: Option<u16>,
    /// Let the standby replay five minutes late
    #[arg(long)]
    pub hold_replay: bool,
    /// Show the pages in a browser (xdg-open)
    #[arg(long, conflicts_with = "once")]
    pub open: bool,
    /// With json, one document with report, planted troubles and connection strings in place of text
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  surus serve postgresql://surus@db.example/shop        watch one server; http://127.0.0.1:7432/
  surus serve                                           watch the targets of surus.toml
  surus serve --check-config                            is surus.toml fit for it?

SIGHUP reads the configuration again, SIGTERM and Ctrl-C stop. SURUS_LOG=surus_observe=debug says more of one part.

Exit status: 0 stopped as asked · 2 the configuration is wrong · 3 the address or the data directory is taken
  4 something outside failed")]
pub struct ServeArgs {
    /// Connection strings (URI or key=value); without any, the targets of the configuration, else PG* variables
    #[arg(value_name = "DSN")]
    pub targets: Vec<String>,
    /// Where to listen [default: 127.0.0.1:7432]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<std::net::SocketAddr>,
    /// Read the configuration, say what is wrong with it, and end
    #[arg(long)]
    pub check_config: bool,
    /// How the log is written [default: text on a terminal, json elsewhere]
    #[arg(long, value_enum)]
    pub log_format: Option<DataFormat>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  surus top postgresql://me@db.example/shop     until q; h shows all keys
  surus top --once --format json                two looks an interval apart, for a script

Exit status: 0 · 2 usage, or no terminal · 4 the server was not reached")]
pub struct TopArgs {
    /// Connection string (URI or key=value); without one, the only target of the configuration, else PG* variables
    #[arg(value_name = "DSN")]
    pub target: Option<String>,
    /// Seconds between looks
    #[arg(short = 'n', long, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=60))]
    pub interval: u64,
    /// Print one look and end
    #[arg(long)]
    pub once: bool,
    /// With --once
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Exit status: 0 taken back · 2 there is no such change, or it cannot be taken back
  3 not confirmed, or somebody else changed it since · 4 it failed, or the server was not reached")]
pub struct UndoArgs {
    /// The change's number in the ledger [default: the last that can be taken back]
    pub number: Option<i64>,
    /// Connection string [default: the one that the change was made over]
    #[arg(long, value_name = "DSN")]
    pub dsn: Option<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum GrafanaVerb {
    /// Write them as JSON: files to import, or one list on standard output
    Export {
        /// Where to put the files; it is made when it is not there
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Read the file and say what it means, or where it is wrong
    Check,
    /// Print every key with its meaning and default
    Explain,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  surus query 'pg_up'                                                   what the file in the data directory says
  surus query 'sum by (datname) (rate(pg_stat_database_xact_commit[5m]))' --from 6h
  surus query 'up' --url http://db-watch:7432 --at 2026-01-31T12:00:00Z  what a running surus or Prometheus says

A time is RFC 3339, seconds since 1970, `now`, or how long ago: 90m, 6h, 7d.

Exit status: 0 answered · 2 the query or a time is not valid · 3 there is no file with samples
  4 it cannot be evaluated, or nobody answered at --url")]
pub struct QueryArgs {
    /// The query
    #[arg(value_name = "PROMQL")]
    pub query: String,
    /// For one moment [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with_all = ["from", "to", "step"])]
    pub at: Option<String>,
    /// For a range: from here
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// For a range: up to here [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, requires = "from")]
    pub to: Option<String>,
    /// For a range: the distance of points [default: as fine as the plot shows]
    #[arg(long, value_name = "DURATION", requires = "from")]
    pub step: Option<String>,
    /// Ask a running surus or Prometheus in place of the file in the data directory
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

#[derive(Debug, Subcommand)]
pub enum EventVerb {
    /// Mark something on the timeline: with the `surus serve` that runs, or in its file when none does
    #[command(after_help = "\
Examples:
  surus event add 'deployed v42'                                   for all targets, now
  surus event add 'deployed v42' --key v42 --target shop           once, however often this is run
  surus event add 'load test begins' --kind test --at 10m --detail '{\"rate\": 500}'
  surus event add 'deployed v42' --server http://db-watch:7432     a login goes into the URL, a token into SURUS_TOKEN

A time is RFC 3339, seconds since 1970, `now`, or how long ago: 90m, 6h, 7d.

Exit status: 0 kept, or there already · 2 it is no event that can be kept · 3 the file cannot be opened
  4 nobody answered, or it was not written")]
    Add(EventAdd),
    /// List what happened: restarts, failovers, changed settings and schemas, long vacuums, blockers, marks
    #[command(after_help = "\
Examples:
  surus event list                            of the last 24 hours
  surus event list --from 7d --kind ddl       changes of the schema in a week
  surus event list --target shop --format json

Exit status: 0 listed, also when there are none · 2 a time is not valid · 3 there is no file with events
  4 nobody answered at --server")]
    List(EventList),
}

#[derive(Debug, ClapArgs)]
pub struct EventAdd {
    /// One line that says what happened
    #[arg(value_name = "TITLE")]
    pub title: String,
    /// One word
    #[arg(long, default_value = "deploy")]
    pub kind: String,
    /// The target that it concerns [default: all]
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// When it happened [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub at: Option<String>,
    /// Names what happened: a second event with the same key is not kept
    #[arg(long)]
    pub key: Option<String>,
    /// What else is known
    #[arg(long, value_name = "JSON")]
    pub detail: Option<String>,
    /// The running surus to give it to [default: the one of the configuration, when it holds the file]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct EventList {
    /// From here
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, default_value = "24h")]
    pub from: String,
    /// Up to here [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// Of this target, and those that concern all
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
    /// Of this kind
    #[arg(long)]
    pub kind: Option<String>,
    /// Ask a running surus in place of the file in the data directory
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

#[derive(Debug, Subcommand)]
pub enum ReportVerb {
    /// What is wrong with a target, plots, statements, waits, blocking, events, findings: asked of the surus that runs
    #[command(after_help = "\
Examples:
  surus report instance --html                                  the last 24 hours of the only target
  surus report instance shop --from now-1h -o incident.html     an hour, into a file of that name
  surus report instance shop --from 2026-01-31T02:00:00Z --to 2026-01-31T04:00:00Z
  surus report instance shop --format json | jq .queries.rows   the same for programs, on standard output
  surus report instance shop --server http://db-watch:7432      a login goes into the URL, a token into SURUS_TOKEN

The HTML needs nothing else: no script, no network; it is light or dark as its reader is, and prints well.
A time is RFC 3339, seconds since 1970, `now`, or how long ago: now-90m, 6h, 7d.

Exit status: 0 written · 2 no such target, no valid range, or the file is there already
  4 nobody answered, a login is needed, or the file was not written")]
    Instance(ReportArgs),
}

#[derive(Debug, ClapArgs)]
pub struct ReportArgs {
    /// The target's name [default: the only one]
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// One self-contained file, which is what is made unless --format says otherwise
    #[arg(long, conflicts_with = "format")]
    pub html: bool,
    /// How it is written
    #[arg(long, value_enum, default_value_t = ReportFormat::Html)]
    pub format: ReportFormat,
    /// The file, - for standard output [default: surus-TARGET-FROM-TO.html here; of JSON standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace the file when it is there already
    #[arg(long)]
    pub force: bool,
    /// From here
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, default_value = "now-24h")]
    pub from: String,
    /// Up to here
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, default_value = "now")]
    pub to: String,
    /// The running surus to ask [default: the one of the configuration]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

/// How the report of an instance is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    Html,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum PromqlVerb {
    /// Run scripts in the format of promqltest: what passed, failed and was skipped, and why
    #[command(after_help = "\
Example:
  surus promql test prometheus/promql/promqltest/testdata/*.test

Exit status: 0 nothing failed · 1 something failed · 2 a file cannot be read, or is no script")]
    Test {
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        #[arg(long, value_enum, default_value_t = DataFormat::Text)]
        format: DataFormat,
    },
}

#[derive(Debug, Subcommand)]
pub enum ProofVerb {
    /// Entries, newest last
    List {
        /// Only entries of this kind: tls, passwords, replication, change, undo …
        #[arg(long)]
        kind: Option<String>,
        /// Only the last N
        #[arg(long, value_name = "N")]
        last: Option<u32>,
        #[arg(long, value_enum, default_value_t = DataFormat::Text)]
        format: DataFormat,
    },
    /// One entry with its steps, measures and hashes
    Show {
        number: i64,
        #[arg(long, value_enum, default_value_t = DataFormat::Text)]
        format: DataFormat,
    },
    /// Compute the hash chain again and compare
    Verify {
        /// An export to verify instead of surus's own file
        file: Option<PathBuf>,
    },
    /// Write all entries as JSON lines that can be verified on their own
    Export {
        /// The file [default: standard output]
        file: Option<PathBuf>,
    },
}

/// For people, or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DataFormat {
    Text,
    Json,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
    Markdown,
}

#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  surus check host=/var/run/postgresql dbname=shop      over a Unix socket (one argument each: quote what has spaces)
  surus check \"$PRIMARY\" \"$STANDBY\" --prove             both nodes; write a marker row and read it on the standby
  surus check --only sec,conn.saturation \"$DSN\"         some checks or groups
  surus check \"$DSN\" --html report.html --fail-under 60  for a report to send, and for CI
  surus check explain idx.fk                            what a check means

Exit status: 0 nothing worse than info · 1 findings, or a score below --fail-under · 2 usage
  3 a pooler, or a PostgreSQL that is too old · 4 a target was not reached, or a report not written"
)]
pub struct CheckArgs {
    #[command(subcommand)]
    pub verb: Option<CheckVerb>,
    /// Connection strings (URI or key=value); without any, the targets of the configuration, else PG* variables
    #[arg(value_name = "DSN")]
    pub targets: Vec<String>,
    /// Only these checks or groups
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Only these databases [default: all that can be reached]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub database: Vec<String>,
    /// The backup repository, besides those of the configuration
    #[arg(long, value_name = "PLACE", env = "SURUS_REPO")]
    pub repo: Option<String>,
    /// Also run the experiments that write: a marker row on the primary, read on each standby given
    #[arg(long)]
    pub prove: bool,
    /// How to write the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Also write one self-contained HTML file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Exit with 1 when a target's readiness score is below this
    #[arg(long, value_name = "SCORE", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub fail_under: Option<u8>,
    /// Show every finding with its evidence and fix, not only the worst
    #[arg(long)]
    pub all: bool,
    /// Do not write proofs to the ledger
    #[arg(long)]
    pub no_ledger: bool,
}

#[derive(Debug, Subcommand)]
pub enum CheckVerb {
    /// Every check with what it finds
    List {
        #[arg(long, value_enum, default_value_t = DataFormat::Text)]
        format: DataFormat,
    },
    /// A check's page: what it inspects, why it matters, its limits, what to do
    Explain {
        /// The check's id, or a finding's key
        id: String,
    },
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  surus tune \"$DSN\"                                       on the server's host: memory and cores are read
  surus tune \"$DSN\" --memory 16GB --cores 4 --profile oltp  from elsewhere
  surus tune \"$DSN\" --apply                                carry it out; restarts are only announced

Exit status: 0 shown, or done · 2 usage · 3 not confirmed, a standby, or not as planned
  4 a step failed, or the server was not reached")]
pub struct TuneArgs {
    /// Connection string of the primary
    #[arg(value_name = "DSN")]
    pub dsn: String,
    /// What the server mostly does
    #[arg(long, value_enum, default_value_t = ProfileArg::Mixed)]
    pub profile: ProfileArg,
    /// The server's memory, like 16GB [default: this host's]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<u64>,
    /// The server's cores [default: this host's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub cores: Option<u32>,
    /// What the data lies on [default: what the kernel says, else ssd]
    #[arg(long, value_enum)]
    pub storage: Option<StorageArg>,
    /// Sessions to plan for [default: max_connections]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=262_143))]
    pub connections: Option<u32>,
    /// Carry the plan out: asks on a terminal, needs --yes elsewhere
    #[arg(long)]
    pub apply: bool,
    /// Do not ask
    #[arg(long, requires = "apply")]
    pub yes: bool,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProfileArg {
    Web,
    Oltp,
    Dw,
    Desktop,
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StorageArg {
    Hdd,
    Ssd,
    San,
    Nvme,
}

/// A size such as `512MB`, `16GB` or `1TB`; binary units, as PostgreSQL's settings have them.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "kB" | "KB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return Err("give a whole number and kB, MB, GB or TB, like 16GB".into()),
    };
    let number: u64 = number.parse().map_err(|_| "give a whole number and a unit, like 16GB".to_owned())?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(|| "that is no memory size".to_owned())
}
