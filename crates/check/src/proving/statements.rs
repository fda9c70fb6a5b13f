//! Item 10: two snapshots of pg_stat_statements give deltas.

use super::Experiment;
use surus_core::proof::{Outcome, Proof};
use surus_pg::{Session, quote};

/// A running experiment: the first snapshot.
pub(crate) struct Snapshot {
    experiment: Experiment,
    sql: String,
    calls: f64,
}

/// Takes the first snapshot; nothing when the extension is not usable in this database.
pub(crate) async fn begin(session: &Session) -> Option<Snapshot> {
    let schema = session
        .ask(
            "SELECT n.nspname AS schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
              WHERE e.extname = 'pg_stat_statements'",
        )
        .await
        .ok()?;
    let view = quote::qualified(schema.iter().next()?.str("schema").ok()?, "pg_stat_statements");
    let sql = format!("SELECT count(*) AS statements, COALESCE(sum(calls), 0) AS calls FROM {view}(false)");
    let mut experiment = Experiment::begin("statements", 10);
    let rows = session.ask(&sql).await.ok()?;
    let row = rows.first().ok()?;
    let (statements, calls) = (row.f64("statements").ok()?, row.f64("calls").ok()?);
    experiment.step("first snapshot", format!("{statements} statements, {calls} calls"));
    Some(Snapshot { experiment, sql, calls })
}

/// Takes the second snapshot and compares.
pub(crate) async fn end(snapshot: Snapshot, session: &Session, cluster: &str, subject: &str) -> Option<Proof> {
    let Snapshot { mut experiment, sql, calls } = snapshot;
    let rows = session.ask(&sql).await.ok()?;
    let row = rows.first().ok()?;
    let (statements, later) = (row.f64("statements").ok()?, row.f64("calls").ok()?);
    experiment.step("second snapshot", format!("{statements} statements, {later} calls"));
    let delta = later - calls;
    experiment.measure("calls", delta, "calls");
    let outcome = if delta > 0.0 { Outcome::Passed } else { Outcome::Failed };
    experiment.step("compare", format!("{delta} calls between two snapshots"));
    Some(experiment.end(outcome, cluster, subject))
}
