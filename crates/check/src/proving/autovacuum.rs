//! Item 9: autovacuum ran where it was due. Not an experiment of ours but an observation of the server's own counters.

use super::Experiment;
use crate::report::TargetReport;
use surus_core::{
    finding::Severity,
    proof::{Outcome, Proof},
};
use surus_pg::Session;

/// What one database's counters say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Seen {
    /// Tables that autovacuum worked on in the last day.
    pub recent: i64,
}

/// Reads a database's counters; nothing when they cannot be read.
pub(crate) async fn look(session: &Session) -> Option<Seen> {
    let sql = "SELECT count(*) AS recent FROM pg_stat_all_tables \
               WHERE greatest(last_autovacuum, last_autoanalyze) > now() - interval '1 day'";
    let rows = session.ask(sql).await.ok()?;
    Some(Seen { recent: rows.first().ok()?.i64("recent").ok()? })
}

/// The checks that must have looked and found nothing bad.
const SILENT: &[&str] = &["vac.overdue", "vac.horizon", "vac.disabled"];

/// The proof, when it ran somewhere and the checks could see that nothing is overdue or held back. When they
/// complain it is a failed one; when they are blind or it never ran there is none.
pub(crate) fn judge(report: &TargetReport, seen: &[Seen], cluster: &str, subject: &str) -> Option<Proof> {
    let blind = |id: &&&str| !report.ok.contains(*id) && !report.findings.iter().any(|finding| finding.id == **id);
    let recent: i64 = seen.iter().map(|one| one.recent).sum();
    if recent == 0 || SILENT.iter().any(|id| blind(&id)) {
        return None;
    }
    let mut experiment = Experiment::begin("autovacuum", 9);
    experiment.measure("tables worked on in the last day", recent as f64, "tables");
    experiment.step("read last_autovacuum and last_autoanalyze", format!("{recent} tables in the last day"));
    let bad = report.findings.iter().find(|f| SILENT.contains(&f.id.as_str()) && f.severity >= Severity::Warn);
    match bad {
        Some(finding) => {
            experiment.step("look for tables that are overdue or held back", finding.title.clone());
            Some(experiment.end(Outcome::Failed, cluster, subject))
        }
        None => {
            experiment.step(
                "look for tables that are overdue or held back",
                format!("none; it worked on {recent} tables in the last day"),
            );
            Some(experiment.end(Outcome::Passed, cluster, subject))
        }
    }
}
