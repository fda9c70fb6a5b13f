//! Running checks: connect, gather facts, look, judge. One target that fails never hides the others.

mod agree;
mod gate;
mod outcome;
mod shared;
mod target;

use crate::{
    options::Options,
    proving, readiness,
    report::{Report, TargetError, TargetReport},
};
use futures_util::{StreamExt, stream};
use surus_core::{
    clock::{self, Deadline, Stopwatch},
    code,
    finding::{Finding, Reason},
    monitor::Monitor,
};
use surus_pg::{ConnectError, Facts, Manners, Session, Target};

/// A target as it was given.
#[derive(Debug, Clone)]
pub struct Given {
    /// How it is named in the report.
    pub name: String,
    /// Its connection string, understood or not.
    pub target: Result<Target, ConnectError>,
}

/// A target that could be reached.
struct Reached {
    name: String,
    target: Target,
    session: Session,
    facts: Facts,
}

/// Looks at every target, `options.parallel_targets` at a time.
pub async fn run(given: Vec<Given>, options: &Options, monitor: &dyn Monitor) -> Report {
    let started_at = clock::now();
    let watch = Stopwatch::start();
    let deadline = Deadline::after(options.time_limit);
    let width = options.parallel_targets.max(1);
    let total = given.len() as u64;
    monitor.begin("connecting", Some(total));
    let reached: Vec<_> = stream::iter(given).map(|one| reach(one, options)).buffered(width).collect().await;
    monitor.end("connecting", "");
    let ok = || reached.iter().filter_map(|one| one.as_ref().ok());
    let known: Vec<(String, Facts)> = ok().map(|one| (one.name.clone(), one.facts.clone())).collect();
    let targets: Vec<(String, Target)> = ok().map(|one| (one.name.clone(), one.target.clone())).collect();
    monitor.begin("checking", Some(total));
    let look = async |(at, one): (usize, Result<Reached, Box<TargetReport>>)| {
        let report = match one {
            Ok(reached) => target::look(reached, &known, options, deadline).await,
            Err(report) => *report,
        };
        monitor.advance("checking", at as u64 + 1);
        report
    };
    let mut reports: Vec<_> = stream::iter(reached.into_iter().enumerate()).map(look).buffered(width).collect().await;
    settle(&mut reports);
    monitor.end("checking", "");
    if options.prove {
        monitor.begin("proving replication", None);
        prove_replication(&mut reports, &targets).await;
        monitor.end("proving replication", "");
    }
    Report { surus: env!("CARGO_PKG_VERSION"), started_at, duration_ms: watch.elapsed_ms(), targets: reports }
}

/// What one target said by itself: the report is not yet compared with those of the other nodes of its cluster.
#[derive(Debug)]
pub struct Looked {
    pub report: TargetReport,
    /// None when it could not be reached.
    pub facts: Option<Facts>,
}

/// Looks at one target. `known` are the facts of all targets, by name; an earlier look at this one counts too, for how
/// long connecting takes.
pub async fn run_one(given: Given, known: &[(String, Facts)], options: &Options) -> Looked {
    let deadline = Deadline::after(options.time_limit);
    match reach(given, options).await {
        Ok(mut reached) => {
            // One slow moment of a busy machine is no finding.
            if let Some((_, before)) = known.iter().find(|(name, _)| *name == reached.name) {
                reached.facts.connect_ms = reached.facts.connect_ms.min(before.connect_ms);
            }
            let facts = reached.facts.clone();
            Looked { report: target::look(reached, known, options, deadline).await, facts: Some(facts) }
        }
        Err(report) => Looked { report: *report, facts: None },
    }
}

/// The facts of a target, from a session that is closed afterwards.
///
/// # Errors
/// When it cannot be reached, is a pooler, or is too old.
pub async fn facts_of(given: Given, options: &Options) -> Result<Facts, TargetError> {
    match reach(given, options).await {
        Ok(reached) => {
            reached.session.close().await;
            Ok(reached.facts)
        }
        Err(report) => Err(report.error.unwrap_or_else(|| target_error(&ConnectError::new(code::BUG, "no reason")))),
    }
}

/// Compares what the nodes of each cluster said, as if they had been looked at in one run.
pub fn settle(reports: &mut [TargetReport]) {
    agree::settle(reports);
    shared::settle(reports);
}

/// Writes a marker on each primary and reads it on those of its standbys that were given.
async fn prove_replication(reports: &mut [TargetReport], targets: &[(String, Target)]) {
    let target_of = |name: &str| targets.iter().find(|(other, _)| other == name).map(|(_, target)| target.clone());
    let standbys: Vec<(String, String)> = reports
        .iter()
        .filter(|report| report.role == Some("standby"))
        .filter_map(|report| Some((report.cluster.clone()?, report.name.clone())))
        .collect();
    for report in reports.iter_mut().filter(|report| report.role == Some("primary")) {
        let own = standbys.iter().filter(|(cluster, _)| Some(cluster) == report.cluster.as_ref());
        let own: Vec<(String, Target)> = own.filter_map(|(_, name)| Some((name.clone(), target_of(name)?))).collect();
        if let (Some(primary), false) = (target_of(&report.name), own.is_empty()) {
            let cluster = readiness::cluster_name(report);
            report.proofs.push(proving::marker::prove(&primary, &own, &cluster, &report.name).await);
        }
    }
}

/// Opens a session with a server that surus can work with: PostgreSQL itself and no pooler, of a version that it knows.
///
/// # Errors
/// When it cannot be reached, is a pooler, or is too old.
pub async fn enter(target: &Target, manners: &Manners) -> Result<Session, ConnectError> {
    let session = target.connect(manners).await?;
    let name = target.label();
    if session.pooled() {
        let message = format!("{name} is a connection pooler; nothing was done there");
        return Err(ConnectError::new(code::CONNECT_POOLER, message));
    }
    if !session.version().is_supported() {
        let message = format!("{name} runs PostgreSQL {}; nothing was done there", session.version());
        return Err(ConnectError::new(code::CONNECT_VERSION, message));
    }
    Ok(session)
}

async fn reach(given: Given, options: &Options) -> Result<Reached, Box<TargetReport>> {
    let name = given.name;
    let failed = |error: ConnectError| Box::new(unreachable(&name, &error));
    let target = given.target.map_err(failed)?;
    let watch = Stopwatch::start();
    let session = enter(&target, &manners()).await.map_err(failed)?;
    let connect_ms = watch.elapsed_ms();
    let gathered = tokio::time::timeout(options.time_limit, Facts::gather(&session)).await;
    let facts = match gathered {
        Ok(Ok(facts)) => Facts { connect_ms, ..facts },
        Ok(Err(error)) => return Err(failed(ConnectError::new(error.code(), error.to_string()))),
        Err(_) => {
            let message = format!("{name} did not answer the first queries");
            return Err(failed(ConnectError::new(code::CONNECT_TIMEOUT, message)));
        }
    };
    Ok(Reached { name, target, session, facts })
}

/// The manners of every session that checks use.
fn manners() -> Manners {
    Manners { application_name: "surus check".into(), ..Manners::looking() }
}

/// The report of a target that could not be looked at: one critical finding, everything else unknown.
fn unreachable(name: &str, error: &ConnectError) -> TargetReport {
    let id = "conn.reachable";
    let mut finding = Finding::crit("", error.code.title)
        .detail(format!("{} Nothing else could be checked. {}", error.message, error.code.next))
        .saw("error", error.message.as_str())
        .saw("code", error.code.id);
    (finding.id, finding.key) = (id.to_owned(), id.to_owned());
    let why = Reason::Unreachable(error.message.clone());
    let others = crate::catalogue::CHECKS.iter().filter(|check| check.id != id);
    TargetReport {
        error: Some(target_error(error)),
        readiness: readiness::unknown("the target could not be reached"),
        findings: vec![finding],
        unknown: others.map(|check| outcome::unknown(check, String::new(), Vec::new(), why.clone())).collect(),
        ..TargetReport::empty(name)
    }
}

fn target_error(error: &ConnectError) -> TargetError {
    TargetError {
        code: error.code.id,
        message: error.message.clone(),
        next: error.code.next,
        exit: error.code.exit as i32,
    }
}
