//! One trouble fixed before the user's eyes: the index for "my tasks", and the time of that query before and after.

use super::{
    link,
    load::MY_TASKS,
    planted::PLANTED,
    stop::{Ended, Stop},
};
use crate::failure::Failure;
use serde::Serialize;
use std::time::Duration;
use surus_check::{
    fix::{self, FixPlan, Scene},
    options::Options,
    readiness::cluster_name,
    report::TargetReport,
    run::{self, Given},
};
use surus_core::monitor::Monitor;
use surus_pg::{Session, Target, quote};
use surus_store::Store;

/// How long the query is watched after the fix.
const WATCH: Duration = Duration::from_secs(5);
const CHECK: &str = "idx.fk";

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Fixed {
    pub key: String,
    pub sql: String,
    /// The change's number in the ledger.
    pub ledger: i64,
    /// A second look did not find it any more.
    pub gone: bool,
    pub query: String,
    /// Mean execution time, in milliseconds; absent when it was not called.
    pub mean_ms_before: Option<f64>,
    pub mean_ms_after: Option<f64>,
}

/// Calls and milliseconds of the query so far.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    calls: f64,
    ms: f64,
}

impl Spent {
    async fn read(session: &Session) -> Result<Self, Failure> {
        let sql = format!(
            "SELECT COALESCE(sum(calls), 0) AS calls, COALESCE(sum(total_exec_time), 0) AS ms FROM pg_stat_statements \
             WHERE query LIKE {} || '%'",
            quote::literal(MY_TASKS)
        );
        let rows = session.ask(&sql).await.map_err(link::asked)?;
        let number =
            |name: &str| rows.first().and_then(|row| row.f64(name)).map_err(|error| Failure::bug(error.to_string()));
        Ok(Self { calls: number("calls")?, ms: number("ms")? })
    }

    fn mean_since(self, earlier: Self) -> Option<f64> {
        let calls = self.calls - earlier.calls;
        (calls > 0.0).then(|| (self.ms - earlier.ms) / calls)
    }
}

/// Fixes it; nothing when the check did not find it.
pub async fn apply(
    target: &Target,
    report: &TargetReport,
    session: &Session,
    store: &Store,
    stop: &Stop,
    monitor: &dyn Monitor,
) -> Result<Option<Fixed>, Ended> {
    let object = PLANTED.iter().find(|planted| planted.check == CHECK).map_or("", |planted| planted.object);
    let found = report.findings.iter().find(|finding| finding.id == CHECK && finding.key.contains(object));
    let Some(finding) = found else { return Ok(None) };
    let plan = FixPlan::of(report, std::slice::from_ref(&finding.key)).map_err(Failure::from)?;
    let before = Spent::read(session).await?;
    let (cluster, reference) = (cluster_name(report), target.reference());
    let patience = fix::Patience::default();
    let scene = Scene { target, cluster: &cluster, reference: &reference, store, patience };
    let applied = fix::apply(scene, &plan, monitor).await;
    if let Some(error) = applied.stopped {
        return Err(Ended::Failed(error.into()));
    }
    let Some(done) = applied.done.last() else { return Ok(None) };
    let after = Spent::read(session).await?;
    tokio::select! {
        () = stop.wait() => return Err(Ended::Asked),
        () = tokio::time::sleep(WATCH) => {}
    }
    let later = Spent::read(session).await?;
    let options = Options { only: vec![CHECK.to_owned()], ..Options::default() };
    let given = Given { name: report.name.clone(), target: Ok(target.clone()) };
    let again = run::run(vec![given], &options, monitor).await;
    let gone = again
        .targets
        .iter()
        .all(|one| one.error.is_none() && !one.findings.iter().any(|other| other.key == finding.key));
    Ok(Some(Fixed {
        key: finding.key.clone(),
        sql: done.title.clone(),
        ledger: done.ledger,
        gone,
        query: format!("{MY_TASKS}$1"),
        mean_ms_before: before.mean_since(Spent::default()),
        mean_ms_after: later.mean_since(after),
    }))
}
