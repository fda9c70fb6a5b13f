//! `surus demo`: the order of events. Each part is in `demo/`.

use super::check;
use crate::{
    args::{DataFormat, DemoArgs, Global},
    config::Config,
    demo::{
        certificates::Certificates,
        drill::{self, Actor, Proven},
        link::{self, LAB, Link, MONITOR, Passwords, SUPERUSER},
        live,
        load::{self, Place},
        loss::{self, Saved},
        misdeeds,
        pages::{self, Pages},
        planted::{PLANTED, Planted},
        remedy::{self, Fixed},
        schema::{self, Sizes},
        servers::{self, Servers},
        show::{self, Doors, Show},
        site::{Site, write_file},
        stop::{Ended, Stop},
    },
    failure::Failure,
    ledger,
    output::{json, print},
    paint::Paint,
    protection, report,
};
use serde::Serialize;
use std::{net::TcpListener, time::Duration};
use surus_check::{
    options::Options,
    readiness,
    report::{Report, TargetReport},
    run::{self, Given},
};
use surus_core::{
    clock::{self, Stopwatch},
    code,
    size::{Bytes, human_count},
};
use surus_pg::{LocalError, LocalServer, Programs, Session, Target, server::Mode};
use tokio::task::JoinSet;

/// As a shell says of a command that an interrupt ended.
const INTERRUPTED: u8 = 130;

/// Runs the command.
pub async fn run(global: &Global, args: DemoArgs) -> Result<u8, Failure> {
    if let Some(port) = args.port {
        // Said at once rather than after the server has been made.
        TcpListener::bind(("127.0.0.1", port)).map_err(|error| {
            Failure::new(code::LOCAL_PORT, format!("port {port} of 127.0.0.1 cannot be had: {error}; nothing was done"))
        })?;
    }
    let stop = Stop::listen()?;
    let programs = usable()?;
    let site = Site::open(args.dir.as_deref())?;
    let show = Show::new(args.format == DataFormat::Json, global.quiet);
    let mut stage = Stage {
        global: Global { data_dir: Some(site.join("surus")), ..global.clone() },
        link: Link::of(&site),
        site,
        servers: Servers::default(),
        workers: JoinSet::new(),
        pages: None,
        show,
        stop,
    };
    let mut reported = false;
    let outcome = stage.play(&programs, &args, &mut reported).await;
    let interrupted = stage.stop.asked();
    // An interrupt at the terminal also reaches the program that was running, which then fails: no error.
    let outcome = match outcome {
        Err(Ended::Failed(failure)) if !interrupted => Err(failure),
        _ if interrupted && !reported => Ok(INTERRUPTED),
        _ => Ok(0),
    };
    let closed = stage.close(&args, outcome.is_err()).await;
    // What went wrong first is told; what is left behind, if anything, is told too.
    match (outcome, closed) {
        (Err(failure), Err(also)) => {
            also.show();
            Err(failure)
        }
        (Err(failure), Ok(())) | (Ok(_), Err(failure)) => Err(failure),
        (Ok(status), Ok(())) => Ok(status),
    }
}

/// The installations that can make a primary and a standby: those wished for, then all, newest first.
fn usable() -> Result<Vec<Programs>, Failure> {
    let all = Programs::wished_for().into_iter().chain(Programs::find_all());
    let usable: Vec<_> =
        all.filter(|one| one.version().is_supported() && one.with_client("pg_basebackup").is_ok()).collect();
    if usable.is_empty() {
        // Says where it was looked, and which program is missing if only one is.
        let found = Programs::find(None)?;
        let missing = found.bin("pg_basebackup").err();
        return Err(missing.unwrap_or(LocalError::Programs { wanted: None, looked: "this machine".into() }).into());
    }
    Ok(usable)
}

/// All that is there while the demo runs.
struct Stage {
    /// With the demo's own ledger.
    global: Global,
    link: Link,
    site: Site,
    servers: Servers,
    workers: JoinSet<()>,
    pages: Option<Pages>,
    show: Show,
    stop: Stop,
}

/// The JSON document.
#[derive(Serialize)]
struct Document<'a> {
    surus: &'static str,
    dir: String,
    primary: &'a str,
    standby: &'a str,
    /// The address of the pages; absent when the demo ends after the report.
    pages: Option<String>,
    planted: Vec<Told<'a>>,
    fixed: Option<&'a Fixed>,
    saved: &'a Saved,
    proven: &'a Proven,
    report: &'a Report,
}

#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    planted: &'a Planted,
    found: bool,
}

impl Stage {
    async fn play(&mut self, programs: &[Programs], args: &DemoArgs, reported: &mut bool) -> Result<(), Ended> {
        for note in &self.site.notes {
            self.show.line(&format!("{} {note}", Paint::faint("note:")))?;
        }
        let sizes = if self.site.resumed {
            self.resume(programs, args).await?
        } else {
            self.set_up(&programs[0], args).await?
        };
        if !args.once {
            self.watch_both(args).await?;
        }
        self.work(sizes, args.seconds).await?;
        let (report, fixed) = self.look_and_fix(args).await?;
        let (saved, proven) = self.lose_and_prove(&report).await?;
        *reported = true;
        if args.format == DataFormat::Json {
            self.document(&report, fixed.as_ref(), &saved, &proven)?;
        }
        if args.once {
            return Ok(());
        }
        let doors = self.doors()?;
        write_file(&self.site.join("env"), &doors.script_text(), 0o644)?;
        self.show.text(&format!("\n{}", doors.text()))?;
        self.show.line(&format!("\n{}", Paint::faint(self.end_text(args))))?;
        match args.format {
            DataFormat::Json => self.stop.wait().await,
            DataFormat::Text => live::watch(async || self.servers.superuser(LAB).await, &self.stop).await,
        }
        Ok(())
    }

    fn end_text(&self, args: &DemoArgs) -> String {
        if args.keep {
            return format!("Ctrl-C stops both servers; {} stays.", self.site.path().display());
        }
        "Ctrl-C stops both servers and removes everything.".to_owned()
    }

    /// Makes the primary, the application and the troubles, and the standby.
    async fn set_up(&mut self, programs: &Programs, args: &DemoArgs) -> Result<Sizes, Ended> {
        let place = self.site.path().display().to_string();
        self.show.line(&format!(
            "{}  {}",
            Paint::strong("surus demo"),
            Paint::faint(format!("PostgreSQL {} in {place}", programs.version()))
        ))?;
        self.site.needs_room_for(args.rows)?;
        let step = self.show.begin("making the primary");
        let (certificates, passwords) = (Certificates::make()?, Passwords::make()?);
        self.link.write(&certificates.root, &passwords)?;
        self.servers.start_primary(programs, &self.site, certificates, args.port).await?;
        self.write_config()?;
        step.done("primary: TLS, checksums, WAL archived with surus, statement statistics, log rotation")?;
        self.stop.check()?;

        self.stop.or(self.create_roles(&passwords)).await?;
        if !args.once {
            // Before there is anything to see: it shall be seen how it begins.
            self.open_pages(args).await?;
        }
        let step = self.show.begin("filling the application's tables");
        let sizes = Sizes::of(args.rows);
        self.stop.or(self.fill(sizes)).await?;
        let rows = human_count(sizes.total() as i64);
        step.done(&format!("application: {rows} rows, {} troubles planted", PLANTED.len()))?;
        self.start_workers(sizes)?;
        self.back_up().await?;

        let step = self.show.begin("copying the primary");
        self.servers.start_standby(&self.site).await?;
        self.write_config()?;
        step.done("standby: streams through a replication slot")?;
        self.stop.check()?;
        Ok(sizes)
    }

    /// The configuration of the servers that are there, for the pages and for commands in another terminal.
    fn write_config(&self) -> Result<(), Failure> {
        let dsn = |server: &LocalServer| self.link.dsn(SUPERUSER, server.port(), LAB);
        let mut targets = vec![("primary", dsn(self.servers.primary()?))];
        targets.extend(self.servers.standby().ok().map(|standby| ("standby", dsn(standby))));
        self.servers.repository()?.write_config(&targets)
    }

    /// A full backup, while the application works.
    async fn back_up(&self) -> Result<(), Ended> {
        let step = self.show.begin("taking a backup");
        let primary = self.servers.primary()?;
        let dsn = primary.dsn(SUPERUSER, LAB);
        let taking = self.servers.repository()?.back_up(primary.account(), &dsn);
        let taken = self.stop.or(taking).await?;
        let bytes = |name: &str| Bytes(taken["backup"][name].as_u64().unwrap_or_default());
        let text = format!("backup: {} stored as {}, surus wal push archives the rest", bytes("size"), bytes("stored"));
        Ok(step.done(&text)?)
    }

    async fn create_roles(&self, passwords: &Passwords) -> Result<(), Failure> {
        let session = self.servers.superuser(SUPERUSER).await?;
        servers::create_roles(&session, passwords).await?;
        session.close().await;
        Ok(())
    }

    /// Opens the pages over the primary, and says where they are.
    async fn open_pages(&mut self, args: &DemoArgs) -> Result<(), Failure> {
        let primary = self.servers.primary()?;
        let targets = [("primary", self.link.dsn(SUPERUSER, primary.port(), LAB))];
        let pages = Pages::open(self.site.join("surus"), &targets, self.servers.repository()?).await?;
        let url = pages.url();
        self.pages = Some(pages);
        self.show.line(&format!("  {} {}", Paint::good("➜"), Paint::strong(&url)))?;
        if args.open
            && let Err(failure) = pages::show_in_browser(&url)
        {
            failure.show();
        }
        Ok(())
    }

    /// The standby is watched too, and both are checked; soon a setting changes.
    async fn watch_both(&mut self, args: &DemoArgs) -> Result<(), Ended> {
        if self.pages.is_none() {
            let session = self.servers.superuser(LAB).await?;
            misdeeds::change_back(&session).await?;
            session.close().await;
            self.open_pages(args).await?;
        }
        if args.hold_replay || self.site.resumed {
            self.servers.hold_replay(args.hold_replay).await?;
        }
        let targets = self.targets()?;
        if let Some(pages) = &mut self.pages {
            pages.watch(&targets, self.servers.repository()?).await?;
        }
        let target = Target::parse(&self.servers.primary()?.dsn(SUPERUSER, LAB)).map_err(Failure::from)?;
        misdeeds::change_a_setting(async move { link::ordinary(&target, "somebody").await }, &mut self.workers);
        self.stop.check()
    }

    async fn fill(&self, sizes: Sizes) -> Result<(), Failure> {
        let session = self.servers.superuser(LAB).await?;
        schema::create(self.servers.primary()?, &session, sizes).await?;
        session.close().await;
        Ok(())
    }

    /// Starts a kept demo again.
    async fn resume(&mut self, programs: &[Programs], args: &DemoArgs) -> Result<Sizes, Ended> {
        let place = self.site.path().display().to_string();
        self.show.line(&format!("{}  {}", Paint::strong("surus demo"), Paint::faint(format!("again in {place}"))))?;
        let step = self.show.begin("starting both servers");
        self.servers.resume(programs, &self.site, args.port).await?;
        self.write_config()?;
        let session = self.servers.superuser(LAB).await?;
        let sizes = Sizes::read(&session).await?;
        step.done("primary and standby started again")?;
        self.start_workers(sizes)?;
        self.stop.check()?;
        Ok(sizes)
    }

    fn start_workers(&mut self, sizes: Sizes) -> Result<(), Failure> {
        let port = self.servers.primary()?.port();
        misdeeds::start(&self.link, port, &mut self.workers);
        load::start(&Place { link: self.link.clone(), port, sizes }, &mut self.workers);
        Ok(())
    }

    /// Lets the application work for a while.
    async fn work(&self, _: Sizes, seconds: u64) -> Result<(), Ended> {
        let step = self.show.begin("the application works, and misbehaves");
        let session = self.servers.superuser(LAB).await?;
        let before = self.stop.or(live::Seen::look(&session)).await?;
        let watch = Stopwatch::start();
        let pause = async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            live::Seen::look(&session).await
        };
        let after = self.stop.or(pause).await?;
        let rate = after.rate_since(&before, watch.elapsed_ms() / 1000.0);
        step.done(&format!("load: {rate:.0} transactions/s, some of them harmful"))?;
        Ok(())
    }

    fn targets(&self) -> Result<[(&'static str, String); 2], Failure> {
        let dsn = |server: &LocalServer| self.link.dsn(SUPERUSER, server.port(), LAB);
        Ok([("primary", dsn(self.servers.primary()?)), ("standby", dsn(self.servers.standby()?))])
    }

    async fn look_and_fix(&self, args: &DemoArgs) -> Result<(Report, Option<Fixed>), Ended> {
        let step = self.show.begin("checking both servers");
        let given = |(name, dsn): &(&str, String)| Given { name: (*name).to_owned(), target: Target::parse(dsn) };
        let targets = self.targets()?;
        let repositories = self.servers.repository()?.read_config()?.repository;
        let seen = tokio::task::spawn_blocking(move || protection::look(&repositories, None)).await;
        let repositories = seen.map_err(|error| Failure::bug(error.to_string()))?;
        let options = Options { prove: true, repositories, ..Options::default() };
        let looking = run::run(targets.iter().map(given).collect(), &options, self.show.monitor());
        let mut found = self.stop.or(async { Ok::<_, Failure>(looking.await) }).await?;
        check::record(&mut found, &self.global, &Config::default());
        step.done(&format!("check of both servers: {} checks", surus_check::catalogue::CHECKS.len()))?;
        let primary = primary_of(&found)?;
        let full = Report { targets: vec![primary.clone()], ..found.clone() };
        self.show.text(&format!("\n{}", report::text(&full, self.global.verbose, true)))?;
        self.show.text(&found.targets.iter().skip(1).map(show::brief).collect::<String>())?;
        self.show.text(&format!("\n{}\n", show::planted(primary)))?;
        let fixed = self.fix(primary, &targets[0].1).await?;
        if args.format == DataFormat::Text {
            self.show.text(&fixed_text(fixed.as_ref()))?;
        }
        Ok((found, fixed))
    }

    async fn fix(&self, primary: &TargetReport, dsn: &str) -> Result<Option<Fixed>, Ended> {
        let step = self.show.begin("fixing one of them and looking again");
        let session: Session = self.servers.superuser(LAB).await?;
        let store = ledger::open(&self.global, &Config::default())?;
        let target = Target::parse(dsn).map_err(Failure::from)?;
        let fixed = remedy::apply(&target, primary, &session, &store, &self.stop, self.show.monitor()).await;
        drop(step);
        fixed
    }

    /// An accident and the way back, then a drill, after which the score is another.
    async fn lose_and_prove(&self, report: &Report) -> Result<(Saved, Proven), Ended> {
        let session: Session = self.servers.superuser(LAB).await?;
        let actor = Actor {
            repository: self.servers.repository()?,
            primary: self.servers.primary()?,
            session: &session,
            data_dir: self.site.join("surus"),
            stop: &self.stop,
        };
        let step = self.show.begin("losing a table, and getting it back");
        let saved = actor.lose_and_save().await?;
        drop(step);
        self.show.text(&format!("\n{}", loss::saved_text(&saved)))?;
        let step = self.show.begin("proving that the backup comes back");
        let mut proven = actor.prove().await?;
        drop(step);
        let target = primary_of(report)?;
        let store = ledger::open(&self.global, &Config::default())?;
        let counting = ledger::counting(&store, &readiness::cluster_name(target), clock::now())?;
        proven.score_before = target.readiness.score;
        proven.score_after = readiness::assess(target, &counting).score;
        self.show.text(&format!("\n{}", drill::proven_text(&proven)))?;
        session.close().await;
        Ok((saved, proven))
    }

    fn doors(&self) -> Result<Doors, Failure> {
        let [(_, primary), (_, standby)] = self.targets()?;
        let server = self.servers.primary()?;
        let pages = self.pages.as_ref().map(|pages| (pages.url(), pages.password().to_owned()));
        Ok(Doors {
            pages,
            primary,
            standby,
            monitor: self.link.dsn(MONITOR, server.port(), LAB),
            socket: server.dsn(SUPERUSER, LAB),
            script: self.site.join("env").display().to_string(),
            data_dir: self.site.join("surus").display().to_string(),
        })
    }

    fn document(&self, report: &Report, fixed: Option<&Fixed>, saved: &Saved, proven: &Proven) -> Result<(), Failure> {
        let primary = primary_of(report)?;
        let [(_, primary_dsn), (_, standby_dsn)] = self.targets()?;
        let document = Document {
            surus: env!("CARGO_PKG_VERSION"),
            dir: self.site.path().display().to_string(),
            primary: &primary_dsn,
            standby: &standby_dsn,
            pages: self.pages.as_ref().map(Pages::url),
            planted: PLANTED.iter().map(|planted| Told { planted, found: planted.is_found(primary) }).collect(),
            fixed,
            saved,
            proven,
            report,
        };
        print(&json(&document)?)
    }

    /// Stops everything and removes it, or keeps it.
    async fn close(mut self, args: &DemoArgs, failed: bool) -> Result<(), Failure> {
        self.workers.shutdown().await;
        if let Some(pages) = self.pages.take() {
            pages.close().await;
        }
        let step = self.show.begin("stopping both servers");
        if let Ok(repository) = self.servers.repository() {
            repository.drop_copies().await;
        }
        // Half a demo is of no use to anybody.
        let keep = args.keep && (!failed || self.site.resumed);
        let mode = if keep { Mode::Fast } else { Mode::Immediate };
        let stopped = self.servers.stop(mode).await;
        drop(step);
        let path = self.site.path().display().to_string();
        // Files of a server that could not be stopped stay; the next start in this directory deals with them.
        stopped?;
        if keep {
            self.site.keep()?;
            return self.show.line(&format!("Kept in {path}; start it again: surus demo --dir '{path}'"));
        }
        self.site.remove()?;
        if failed {
            return Ok(());
        }
        self.show.line(&format!("\nBoth servers are stopped, {path} is removed."))
    }
}

fn primary_of(report: &Report) -> Result<&TargetReport, Failure> {
    let primary = report.targets.first().ok_or_else(|| Failure::bug("a check without targets"))?;
    match &primary.error {
        None => Ok(primary),
        Some(error) => {
            let code = code::find(error.code).copied().unwrap_or(code::CONNECT_OTHER);
            Err(Failure::new(code, error.message.clone()))
        }
    }
}

fn fixed_text(fixed: Option<&Fixed>) -> String {
    let Some(fixed) = fixed else {
        return format!("{}\n  nothing to fix: the missing index was not found\n", Paint::strong("One of them fixed"));
    };
    let ms = |mean: Option<f64>| mean.map_or_else(|| "not called".to_owned(), |ms| format!("{ms:.2} ms"));
    let times = match (fixed.mean_ms_before, fixed.mean_ms_after) {
        (Some(before), Some(after)) if after > 0.0 => format!("  {:.0} times as fast", before / after),
        _ => String::new(),
    };
    let look = if fixed.gone { Paint::good("✓ gone".to_owned()) } else { Paint::crit("✗ still there".to_owned()) };
    format!(
        "{}\n  {}\n  looked again: {look}  {}\n  mean time of {}: {} → {}{}\n",
        Paint::strong("One of them fixed"),
        Paint::code(&fixed.sql),
        Paint::faint(format!("entry {} of the ledger", fixed.ledger)),
        Paint::code(&fixed.query),
        ms(fixed.mean_ms_before),
        ms(fixed.mean_ms_after),
        Paint::good(times)
    )
}
