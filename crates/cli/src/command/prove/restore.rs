//! `surus prove restore`: a restore drill.

use super::{engine, notify, text};
use crate::{
    args::{DataFormat, Global},
    command::restore::time_of,
    config::{
        Config,
        quantity::{Rate, Size, Span},
    },
    copies::ScratchArgs,
    failure::Failure,
    ledger,
    output::{json, print},
    progress,
};
use clap::Args;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use surus_backup::pace::Pace;
use surus_core::{clock, code, monitor::Monitor, proof::Outcome};
use surus_prove::{
    drill::{self, Baseline, Invariant, Options, Report, aim::Aim},
    engine::Engine,
    scratch::Scratch,
};
use surus_store::{Filter, Store};
use tokio::signal::unix::{SignalKind, signal};

/// How many earlier drills are looked through for counts to compare with.
const EARLIER: u32 = 100;
/// Bytes a second of a drill while others use the machine.
const RATE: Rate = Rate(Some(50 << 20));
/// How long a drill that is interrupted may take to end in good order.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus prove restore --repo /srv/surus                the newest backup, up to the newest archived WAL
  surus prove restore shop --target random             the target shop of surus.toml, up to a moment by chance
  surus prove restore shop --target '2026-01-31 12:00:00+00' --deep
  surus prove restore --stanza main                    pgBackRest's; --server pg Barman's, --engine wal-g WAL-G's
  surus prove restore --dir /srv/base --wal /srv/wal   what pg_basebackup made, and the WAL archive beside it
  surus prove restore --dump globals.sql --dump shop.dump --compare \"$DSN\"     what pg_dump and pg_dumpall made
  surus prove restore --repo /srv/surus --lost-at '2026-01-31 12:03:20+00'     how much did that crash cost?

What is restored stands in the scratch place, is reachable by nobody else, runs niced, and is gone at the end. Whatever
is found is written into the ledger, also when the drill failed: surus proof list --kind restore. As a timer:
  [[drill]] in surus.toml (surus serve runs it), cron: 30 4 * * * surus prove restore shop -q, or a systemd timer.

Exit status: 0 proven · 1 the drill failed · 2 usage · 3 no room or no backup · 4 something outside failed")]
pub struct DrillArgs {
    #[command(flatten)]
    pub of: engine::Meant,
    /// Up to where: latest, random (between the backup's end and the newest archived WAL), or a time
    #[arg(long, value_name = "MOMENT", default_value = "latest")]
    pub target: String,
    /// What decides about the random moment; the same number, the same moment
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// This backup [default: the newest that leads there]
    #[arg(long, value_name = "LABEL")]
    pub backup: Option<String>,
    /// When the original was lost; the data loss is measured from there [default: now, or the target's time]
    #[arg(long, value_name = "TIME")]
    pub lost_at: Option<String>,
    /// Compare the levels of each index, and its rows with the table's, too
    #[arg(long)]
    pub deep: bool,
    #[command(flatten)]
    pub scratch: ScratchArgs,
    /// What stays free on its filesystem [default: reserve in surus.toml, else a tenth, 10 GB at most]
    #[arg(long, value_name = "SIZE", value_parser = crate::args::size)]
    pub reserve: Option<u64>,
    /// Threads that read, unpack and write [default: jobs in surus.toml, else 1]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,
    /// At most so much a second while others use the machine, or none [default: rate in surus.toml, else 50MB]
    #[arg(long, value_name = "SIZE", value_parser = Rate::parse)]
    pub rate: Option<Rate>,
    /// How long recovery may take
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = Span::parse)]
    pub recovery_timeout: Span,
    /// Go on with the files that an interrupted drill restored
    #[arg(long)]
    pub resume: bool,
    /// Do not write the ledger
    #[arg(long)]
    pub no_ledger: bool,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

/// All that a drill needs to know, owned: it runs in a thread of its own.
struct Job {
    engine: Box<dyn Engine>,
    subject: String,
    cluster: Option<String>,
    aim: Aim,
    backup: Option<String>,
    seed: u64,
    lost_at: Option<jiff::Timestamp>,
    scratch: Scratch,
    reserve: Option<u64>,
    jobs: usize,
    rate: Rate,
    deep: bool,
    within: Duration,
    invariants: Vec<Invariant>,
    heartbeat: Option<Duration>,
    resume: bool,
    watchdog: Vec<String>,
    ledger: Option<Store>,
    monitor: Box<dyn Monitor>,
    live: bool,
    cancelled: Arc<AtomicBool>,
}

/// Runs the command.
pub async fn run(global: &Global, args: DrillArgs) -> Result<u8, Failure> {
    surus_prove::limits::leave_for_own_session();
    let config = Config::load(global.config.as_deref())?;
    if let Some(name) = args.of.name.as_ref().filter(|name| !config.target.iter().any(|one| one.name == **name)) {
        let text = format!("nothing was restored: there is no [[target]] named \"{name}\" in surus.toml");
        return Err(Failure::new(code::CONFIG_TARGET, text));
    }
    let outcome = drilled(global, &args, &config).await;
    match outcome {
        Ok((report, entries)) => told(&args, &config, &report, &entries).await,
        Err(failure) => {
            // Whoever types a wrong path sees it; where a target is drilled on a schedule, its backup has gone.
            let gone = [code::ENGINE_PATH, code::ENGINE_FORM].contains(&failure.code) && args.of.name.is_some();
            if failure.code.exit != code::Exit::Usage || gone {
                notify::failed(&config.prove, &notify::refusal(&args, &failure)).await;
            }
            Err(failure)
        }
    }
}

/// Runs the drill and writes its proofs; gives their numbers.
async fn drilled(global: &Global, args: &DrillArgs, config: &Config) -> Result<(Report, Vec<i64>), Failure> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let began = clock::now();
    // A ledger that cannot be written is found out before the hours that a restore takes.
    let ledger = if args.no_ledger { None } else { Some(ledger::open(global, config)?) };
    let asked = asked(args)?;
    let engine = match engine::open(&args.of, config).await {
        Ok(engine) => engine,
        Err(failure) => return unopened(args, config, ledger.as_ref(), began, failure),
    };
    let job = job(global, args, config, engine, ledger, asked, &cancelled)?;
    let scratch = job.scratch.clone();
    let mut drill = tokio::task::spawn_blocking(move || job.run());
    let listen = |kind| signal(kind).map_err(|error| Failure::bug(format!("signals cannot be received: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let ended = tokio::select! {
        ended = &mut drill => ended,
        _ = interrupt.recv() => interrupted(&cancelled, drill, &scratch).await?,
        _ = terminate.recv() => interrupted(&cancelled, drill, &scratch).await?,
    };
    ended.map_err(|error| Failure::bug(format!("the drill ended without a result: {error}")))?
}

type Ended = Result<Result<(Report, Vec<i64>), Failure>, tokio::task::JoinError>;

/// Lets the drill end by itself, if that is soon; else this process ends, and another one cleans up behind it.
async fn interrupted(
    cancelled: &AtomicBool,
    drill: tokio::task::JoinHandle<Result<(Report, Vec<i64>), Failure>>,
    scratch: &Scratch,
) -> Result<Ended, Failure> {
    cancelled.store(true, Ordering::Relaxed);
    if let Ok(ended) = tokio::time::timeout(PATIENCE, drill).await {
        return Ok(ended);
    }
    let failure = Failure::new(
        code::PROVE_INTERRUPTED,
        format!(
            "the drill was interrupted in the middle of a step; its server is stopped, and what it has restored stays in {} \
         for the next drill, which removes it or goes on with it (--resume)",
            scratch.root().display()
        ),
    );
    let _ = failure.show();
    // The watchdog stops what runs in the copy; nothing else can end a restore between two files.
    std::process::exit(i32::from(code::PROVE_INTERRUPTED.exit as u8));
}

/// Backups that cannot be opened: where that is their own fault, it is a failed drill, and is written down.
fn unopened(
    args: &DrillArgs,
    config: &Config,
    ledger: Option<&Store>,
    began: jiff::Timestamp,
    failure: Failure,
) -> Result<(Report, Vec<i64>), Failure> {
    let described = engine::described(&args.of, config).filter(|_| drill::is_of_backups(failure.code));
    let Some((engine, address)) = described else { return Err(failure) };
    let name = args.of.name.clone().unwrap_or_else(|| address.clone());
    let known = known_cluster(args, ledger, &drill::subject(engine, &address));
    let cluster = known.unwrap_or_else(|| name.clone());
    let of = drill::Subject { engine, address, off_site: None, cluster, name };
    let report = Report::unread(of, began, failure.code, &failure.message);
    if args.format == DataFormat::Text {
        report.steps.iter().try_for_each(|step| print(&text::step(step)))?;
    }
    let numbers = write(ledger, &report)?;
    Ok((report, numbers))
}

/// The cluster, where its backups do not tell any more: as it was said, else as an earlier drill of them knew it.
fn known_cluster(args: &DrillArgs, ledger: Option<&Store>, subject: &str) -> Option<String> {
    let earlier = || {
        let filter = Filter { kind: Some(drill::KIND.to_owned()), limit: Some(EARLIER), ..Filter::default() };
        // A ledger that cannot be read fails when it is written to, which is told.
        let entries = ledger?.entries(&filter).ok()?;
        entries.into_iter().rev().map(|entry| entry.proof).find(|proof| proof.subject == subject)
    };
    args.of.cluster.map(|id| id.to_string()).or_else(|| earlier().map(|proof| proof.cluster))
}

/// Writes the proofs of a drill; gives their numbers.
fn write(ledger: Option<&Store>, report: &Report) -> Result<Vec<i64>, Failure> {
    let Some(store) = ledger else { return Ok(Vec::new()) };
    let proofs = drill::proofs(report, env!("CARGO_PKG_VERSION"));
    proofs.iter().map(|proof| Ok(store.append(proof)?.number)).collect()
}

/// What was asked for: up to where, and when the original was lost.
fn asked(args: &DrillArgs) -> Result<(Aim, Option<jiff::Timestamp>), Failure> {
    let aim = match args.target.as_str() {
        "random" => Aim::Random,
        "latest" => Aim::Latest,
        time => Aim::Time(time_of(time)?),
    };
    Ok((aim, args.lost_at.as_deref().map(time_of).transpose()?))
}

fn job(
    global: &Global,
    args: &DrillArgs,
    config: &Config,
    engine: Box<dyn Engine>,
    ledger: Option<Store>,
    (aim, lost_at): (Aim, Option<jiff::Timestamp>),
    cancelled: &Arc<AtomicBool>,
) -> Result<Job, Failure> {
    let quiet = global.quiet || args.format == DataFormat::Json;
    let program = std::env::current_exe();
    let program = program.map_err(|error| Failure::bug(format!("surus does not find itself: {error}")))?;
    let now = clock::now().as_nanosecond().unsigned_abs();
    let seed = u64::try_from(now / 1000 % u128::from(u32::MAX)).unwrap_or(0);
    let target = args.of.name.as_ref().and_then(|name| config.target.iter().find(|one| one.name == *name));
    Ok(Job {
        subject: args.of.name.clone().unwrap_or_else(|| engine.address()),
        cluster: known_cluster(args, ledger.as_ref(), &drill::subject(engine.kind(), &engine.address())),
        aim,
        backup: args.backup.clone(),
        seed: args.seed.unwrap_or(seed),
        lost_at,
        scratch: args.scratch.open(global, config)?,
        reserve: args.reserve.or(config.prove.reserve.map(|Size(bytes)| bytes)),
        jobs: args.jobs.or(config.prove.jobs).map_or(1, usize::from),
        rate: args.rate.or(config.prove.rate).unwrap_or(RATE),
        deep: args.deep,
        within: args.recovery_timeout.0,
        invariants: config.invariants_of(args.of.name.as_deref(), args.of.cluster),
        heartbeat: target.and_then(|target| target.heartbeat).map(|span| span.0),
        resume: args.resume,
        watchdog: vec![program.display().to_string(), super::WATCHDOG.to_owned()],
        ledger,
        monitor: progress::monitor(quiet),
        live: !quiet,
        cancelled: Arc::clone(cancelled),
        engine,
    })
}

impl Job {
    fn run(self) -> Result<(Report, Vec<i64>), Failure> {
        let Self { engine, monitor, ledger, live, cancelled, .. } = &self;
        if *live {
            print(&text::head(engine.as_ref(), &self.subject))?;
        }
        let on_step = |step: &drill::Step| {
            if *live {
                // A line that cannot be shown is in the proof as well.
                let _ = print(&text::step(step));
            }
        };
        let baselines = |cluster: &str| ledger.as_ref().map_or_else(Vec::new, |store| earlier(store, cluster));
        let options = Options {
            subject: self.subject.clone(),
            cluster: self.cluster.clone(),
            aim: self.aim,
            backup: self.backup.clone(),
            seed: self.seed,
            lost_at: self.lost_at,
            scratch: self.scratch.clone(),
            reserve: self.reserve,
            jobs: self.jobs,
            pace: &Pace::new(self.rate.0, cancelled),
            deep: self.deep,
            within: self.within,
            invariants: self.invariants.clone(),
            baselines: &baselines,
            heartbeat: self.heartbeat,
            resume: self.resume,
            watchdog: self.watchdog.clone(),
            on_step: &on_step,
            cancelled,
        };
        let report = drill::run(engine.as_ref(), &options, monitor.as_ref())?;
        let numbers = write(ledger.as_ref(), &report)?;
        Ok((report, numbers))
    }
}

/// What earlier drills of the cluster counted, newest first.
fn earlier(store: &Store, cluster: &str) -> Vec<Baseline> {
    let filter = Filter {
        kind: Some(drill::KIND.to_owned()),
        cluster: Some(cluster.to_owned()),
        limit: Some(EARLIER),
        ..Filter::default()
    };
    // A ledger that cannot be read fails when it is written to, which is told.
    let entries = store.entries(&filter).unwrap_or_default();
    drill::baseline(entries.iter().map(|entry| (entry.number, &entry.proof)))
}

/// Says what came of it.
async fn told(args: &DrillArgs, config: &Config, report: &Report, entries: &[i64]) -> Result<u8, Failure> {
    let value = notify::message(report, entries);
    match args.format {
        DataFormat::Json => print(&json(&value)?)?,
        DataFormat::Text => print(&text::verdict(report, entries))?,
    }
    if report.outcome == Outcome::Passed {
        return Ok(0);
    }
    notify::failed(&config.prove, &value).await;
    Err(Failure::new(code::PROVE_FAILED, report.summary()))
}
