//! A clone to work with: restored, disarmed, masked, and left running until it expires.
//!
//! Until all of that is done it listens on its own socket only. What it was told on the command line keeps it quiet;
//! what stands in its catalogs is made harmless too: subscriptions, replication slots, prepared transactions.

use crate::{
    copy::{self, Started, Wish},
    engine::{Engine, Landed, Order},
    error::{ProveError, Result},
    keeper,
    mask::{self, Rule},
    moment::dsn,
    scratch::{Place, Purpose, Scratch},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fs, net::TcpListener, path::Path, time::Duration};
use surus_backup::restore::target::{Action, RecoveryTarget};
use surus_core::{
    clock::{self, Stopwatch},
    code,
    monitor::Monitor,
    proof::{Measure, Outcome, Proof, ProofStep},
    secret::Secret,
};
use surus_pg::{
    Environment, Manners, Session, Target,
    account::Account,
    quote::{ident, literal},
    server::{Mode, running_pid},
};

/// For how long a clone that answered counts: readiness item 12.
const COUNTS: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A query that a clone must answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearsal {
    pub name: String,
    pub database: String,
    pub sql: String,
}

/// What is wanted.
pub struct Wanted<'a> {
    pub name: &'a str,
    pub engine: &'a dyn Engine,
    pub cluster: u64,
    pub target: RecoveryTarget,
    /// The port on 127.0.0.1; none: a free one.
    pub port: Option<u16>,
    pub expires: Duration,
    pub rules: &'a [Rule],
    /// What makes masked values unguessable; it is not kept.
    pub mask_key: &'a Secret,
    pub rehearsals: &'a [Rehearsal],
    pub jobs: usize,
    pub within: Duration,
    pub keeper: &'a [String],
    pub surus_version: &'a str,
}

/// What the mark of a clone says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clone {
    pub name: String,
    pub cluster: u64,
    pub repository: String,
    pub moment: String,
    pub backup: String,
    pub major: u16,
    pub port: u16,
    pub socket_directory: String,
    pub superuser: String,
    /// Columns that were masked.
    pub masked: Vec<String>,
    pub notes: Vec<String>,
}

/// A clone that was made, with its entry for the ledger.
#[derive(Debug)]
pub struct Made {
    pub place: Place,
    pub clone: Clone,
    pub proof: Proof,
    /// Why a rehearsal query was not answered.
    pub failures: Vec<String>,
}

/// Every clone.
///
/// # Errors
/// As [`Scratch::places`].
pub fn list(scratch: &Scratch) -> Result<Vec<(Place, Clone)>> {
    let places = scratch.places()?.into_iter().filter(|place| place.mark.purpose == Purpose::Clone && place.mark.lasts);
    Ok(places
        .filter_map(|one| serde_json::from_value(one.mark.detail.clone()).ok().map(|clone| (one, clone)))
        .collect())
}

/// Makes one.
///
/// # Errors
/// When there is one of that name, the moment cannot be reached, there is no room, a mask names what is not there, or
/// the copy does not come up; nothing of it is left then.
pub async fn create(scratch: &Scratch, wanted: &Wanted<'_>, monitor: &dyn Monitor) -> Result<Made> {
    let _lock = scratch.lock("clones", || monitor.note("another surus is making a clone; waiting for it"))?;
    if list(scratch)?.iter().any(|(_, clone)| clone.name == wanted.name) {
        let text = format!("no clone was made: there is one named {}; surus clone drop {0} removes it", wanted.name);
        return Err(ProveError::refused(code::CLONE_NAME, text));
    }
    let what = format!("clone {} of cluster {} at {}", wanted.name, wanted.cluster, wanted.target.goal);
    let mut place = scratch.make(Purpose::Clone, &what, serde_json::Value::Null)?;
    match fill(&mut place, wanted, monitor).await {
        Ok(made) => Ok(made),
        Err(error) => {
            // What cannot be removed now is swept later; the reason for all of it is what counts.
            let _ = place.remove();
            Err(error)
        }
    }
}

/// A clone of that name; none when there is none.
///
/// # Errors
/// As [`Scratch::places`].
pub fn find(scratch: &Scratch, name: &str) -> Result<Option<(Place, Clone)>> {
    Ok(list(scratch)?.into_iter().find(|(_, clone)| clone.name == name))
}

/// Starts the server of a clone that has stopped, e.g. with the machine, on the port that it had, or another one; as
/// disarmed as it was. Blocks.
///
/// # Errors
/// When it runs already, is being removed, or does not come up; its files stay as they are.
pub fn start(
    (place, clone): &mut (Place, Clone),
    port: Option<u16>,
    within: Duration,
    keeper: &[String],
    monitor: &dyn Monitor,
) -> Result<()> {
    let refused =
        |why: &str| ProveError::refused(code::CLONE_START, format!("clone {} was not started: {why}", clone.name));
    if running_pid(&place.data()).is_some() {
        return Err(refused("it runs already"));
    }
    let Some(_hold) = place.hold() else { return Err(refused("it is just being removed")) };
    // Whoever kept it may have ended with the machine. Where he has not, two of them are as good as one.
    keeper::begin(keeper, place)?;
    let landed = Landed {
        data: place.data(),
        label: clone.backup.clone(),
        major: clone.major,
        bytes: 0,
        recovers: false,
        replays_to: None,
        commands: Vec::new(),
        notes: Vec::new(),
    };
    let started = open(&landed, place, Some(port.unwrap_or(clone.port)), within, monitor)?;
    (clone.port, clone.socket_directory) = (started.arrival.port, started.arrival.socket_directory.clone());
    place.mark.detail = serde_json::to_value(&*clone).unwrap_or_default();
    place.write()?;
    started.server.detach();
    Ok(())
}

/// What was done, with its time.
struct Steps {
    watch: Stopwatch,
    began: Timestamp,
    steps: Vec<ProofStep>,
}

impl Steps {
    fn done(&mut self, what: &str, result: String) {
        let duration_ms = self.watch.elapsed_ms();
        self.watch = Stopwatch::start();
        self.steps.push(ProofStep { what: what.into(), result, duration_ms });
    }
}

async fn fill(place: &mut Place, wanted: &Wanted<'_>, monitor: &dyn Monitor) -> Result<Made> {
    keeper::begin(wanted.keeper, place)?;
    let mut steps = Steps { watch: Stopwatch::start(), began: clock::now(), steps: Vec::new() };
    let target = RecoveryTarget { action: Action::Promote, ..wanted.target.clone() };
    let order = Order { backup: None, target: &target, place, jobs: wanted.jobs, pace: None, monitor };
    let landed = wanted.engine.restore(&order)?;
    steps.done("restore", format!("backup {}, {} bytes", landed.label, landed.bytes));
    // Its snapshots would keep the values that are masked.
    let settings = vec![("autovacuum".to_owned(), "off".to_owned())];
    let wish = Wish { action: Action::Promote, within: wanted.within, port: None, settings };
    let started = copy::start(&landed, place, &wish, monitor)?;
    steps.done("recovery", started.arrival.stopped.clone().unwrap_or_else(|| "to the end of the archived WAL".into()));
    let mut notes = started.notes.clone();
    let superuser = started.server.superuser().to_owned();
    notes.extend(quieten(&started, wanted).await?);
    steps.done("disarm and mask", format!("{} columns masked", wanted.rules.len()));
    stop(started, !wanted.rules.is_empty())?;
    let started = open(&landed, place, wanted.port, wanted.within, monitor)?;
    steps.done("start", format!("on port {}", started.arrival.port));
    let clone = Clone {
        name: wanted.name.to_owned(),
        cluster: wanted.cluster,
        repository: wanted.engine.address(),
        moment: wanted.target.goal.to_string(),
        backup: landed.label.clone(),
        major: landed.major,
        port: started.arrival.port,
        socket_directory: started.arrival.socket_directory.clone(),
        superuser,
        masked: wanted.rules.iter().map(ToString::to_string).collect(),
        notes,
    };
    let failures = rehearse(&clone, wanted.rehearsals, &mut steps).await;
    place.mark.detail = serde_json::to_value(&clone).unwrap_or_default();
    place.keep(Some(clock::now().saturating_add(wanted.expires).unwrap_or(Timestamp::MAX)))?;
    started.server.detach();
    let proof = proof(wanted, &landed, steps, &failures);
    Ok(Made { place: place.clone(), clone, proof, failures })
}

async fn session(socket: &str, port: u16, user: &str, database: &str) -> Result<Session> {
    let manners =
        Manners { application_name: "surus clone".into(), lock_timeout: Duration::ZERO, ..Manners::changing() };
    let target = Target::parse_in(&dsn(socket, port, user, database), &Environment::empty())?;
    Ok(target.connect(&manners).await?)
}

/// Takes from the catalogs what would reach out, and masks; says what a user should know.
async fn quieten(started: &Started, wanted: &Wanted<'_>) -> Result<Vec<String>> {
    let (socket, port) = (started.arrival.socket_directory.as_str(), started.arrival.port);
    let user = started.server.superuser();
    let mut notes = Vec::new();
    let first = session(socket, port, user, "template1").await?;
    let sql = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1";
    let mut databases = Vec::new();
    for row in first.ask(sql).await?.iter() {
        databases.push(row.text("datname")?);
    }
    first.ask("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots").await?;
    first.close().await;
    let named: BTreeSet<&str> = wanted.rules.iter().map(|rule| rule.database.as_str()).collect();
    if let Some(absent) = named.iter().find(|name| !databases.iter().any(|database| database == *name)) {
        let text = format!("no clone was made: a rule masks a column of database {absent}, which is not there");
        return Err(ProveError::refused(code::CLONE_MASK, text));
    }
    for database in &databases {
        let session = session(socket, port, user, database).await?;
        notes.extend(disarm(&session, database).await?);
        let rules: Vec<&Rule> = wanted.rules.iter().filter(|rule| rule.database == *database).collect();
        if !rules.is_empty() {
            mask::apply(&session, &rules, wanted.mask_key.reveal()).await?;
        }
        session.close().await;
    }
    Ok(notes)
}

async fn disarm(session: &Session, database: &str) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let prepared = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
    for row in session.ask(prepared).await?.iter() {
        session.run(&format!("ROLLBACK PREPARED {}", literal(row.str("gid")?))).await?;
        notes.push(format!("{database}: a prepared transaction was rolled back"));
    }
    let subscriptions = "SELECT s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()";
    for row in session.ask(subscriptions).await?.iter() {
        let name = row.str("subname")?;
        // Without its slot, dropping it reaches nobody either.
        let name_quoted = ident(name);
        session.run(&format!("ALTER SUBSCRIPTION {name_quoted} DISABLE")).await?;
        session.run(&format!("ALTER SUBSCRIPTION {name_quoted} SET (slot_name = NONE)")).await?;
        notes.push(format!("{database}: subscription {name} is disabled and has no slot"));
    }
    Ok(notes)
}

/// Stops it in good order; where values were masked, their traces outside of tables go: WAL, logs, statistics.
fn stop(started: Started, masked: bool) -> Result<()> {
    let mut server = started.server;
    server.stop(Mode::Fast)?;
    if !masked {
        return Ok(());
    }
    let data = server.data_dir().to_owned();
    for name in ["log", "pg_log", "pg_stat", "pg_stat_tmp"] {
        empty(&data.join(name))?;
    }
    for name in ["postgresql.log", "current_logfiles"] {
        let path = data.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ProveError::file("cannot remove", &path)(error));
            }
            _ => {}
        }
    }
    let mut reset = server.program("pg_resetwal")?;
    let output =
        reset.arg("-D").arg(&data).output().map_err(ProveError::file("cannot run", Path::new("pg_resetwal")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ProveError::Tool {
            program: "pg_resetwal".into(),
            status: output.status.to_string(),
            output: text,
        });
    }
    Ok(())
}

/// Removes the files of a directory; one that is not there is empty.
fn empty(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| !kind.is_dir()) {
            fs::remove_file(entry.path()).map_err(ProveError::file("cannot remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Starts it where it can be reached.
fn open(landed: &Landed, place: &Place, port: Option<u16>, within: Duration, monitor: &dyn Monitor) -> Result<Started> {
    let free = || TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).map(|at| at.port());
    let port = match port {
        Some(port) => port,
        None => free().map_err(ProveError::file("cannot find a free port on", Path::new("127.0.0.1")))?,
    };
    // Publications have nobody to send to.
    let settings = vec![("max_wal_senders".to_owned(), "0".to_owned())];
    let wish = Wish { action: Action::Promote, within, port: Some(port), settings };
    Account::unprivileged()?.can_enter(place.dir())?;
    copy::start(landed, place, &wish, monitor)
}

async fn rehearse(clone: &Clone, rehearsals: &[Rehearsal], steps: &mut Steps) -> Vec<String> {
    let mut failures = Vec::new();
    for one in rehearsals {
        let asked = async {
            let session = session(&clone.socket_directory, clone.port, &clone.superuser, &one.database).await?;
            session.run("RESET ALL; SET default_transaction_read_only = on").await?;
            let rows = session.ask(&one.sql).await;
            session.close().await;
            Ok::<_, ProveError>(rows?.len())
        };
        let result = match asked.await {
            Ok(rows) => format!("{rows} rows"),
            Err(error) => {
                failures.push(format!("{}: {error}", one.name));
                format!("failed: {error}")
            }
        };
        steps.done(&format!("rehearsal: {}", one.name), result);
    }
    failures
}

fn proof(wanted: &Wanted<'_>, landed: &Landed, steps: Steps, failures: &[String]) -> Proof {
    let finished_at = clock::now();
    let seconds = finished_at.duration_since(steps.began).as_secs_f64();
    let rehearsed = wanted.rehearsals.len();
    Proof {
        kind: "clone".into(),
        // Without a query that was answered it shows nothing of a staging environment.
        items: if rehearsed > 0 { vec![12] } else { Vec::new() },
        cluster: wanted.cluster.to_string(),
        subject: wanted.name.to_owned(),
        started_at: steps.began,
        finished_at,
        outcome: if failures.is_empty() { Outcome::Passed } else { Outcome::Failed },
        measured: vec![
            Measure::new("time_to_clone", seconds, "s"),
            Measure::new("restored", landed.bytes as f64, "bytes"),
            Measure::new("masked_columns", wanted.rules.len() as f64, "columns"),
            Measure::new("rehearsal_queries", rehearsed as f64, "queries"),
        ],
        steps: steps.steps,
        log_excerpt: failures.join("\n"),
        surus_version: wanted.surus_version.to_owned(),
        expires_at: finished_at.checked_add(COUNTS).ok(),
        undo: None,
    }
}
