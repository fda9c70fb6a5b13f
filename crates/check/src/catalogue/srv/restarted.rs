use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{clock, finding::Finding, plan::Plan};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "srv.restarted",
    title: "the server was restarted, or restarted itself after a crash",
    inspects: "pg_postmaster_start_time, and the start of the checkpointer and the background writer in pg_stat_activity",
    why: "When one server process dies hard, PostgreSQL ends all sessions, recovers and goes on, and its uptime looks as if \
          nothing had happened. Such a crash comes back unless its cause is found.",
    remedy: "Read the server's log around that time, and the kernel's log for the out-of-memory killer. A restart that \
             nobody planned is worth the same look.",
    source: "check_pgactivity uptime; all auxiliary processes start with the postmaster unless a crash restarted them",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    thresholds: &[
        Threshold::warn_below("uptime", "s", 600.0),
        Threshold::warn_above("gap", "s", 60.0),
        Threshold::below("crash", "s", 7.0 * 86400.0, 86400.0),
    ],
    look: Look::Query(
        &[Sql::all(
            "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) AS up_s, \
             extract(epoch FROM min(backend_start) - pg_postmaster_start_time()) AS gap_s, \
             extract(epoch FROM clock_timestamp() - min(backend_start)) AS processes_s, \
             pg_postmaster_start_time()::text AS started, min(backend_start)::text AS processes_started \
             FROM pg_stat_activity WHERE backend_type IN ('checkpointer', 'background writer')",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    let mut findings = Vec::new();
    let up = row.f64("up_s")?;
    // A service may show no auxiliary processes; then only the uptime speaks.
    if let (Some(gap), Some(ago)) = (row.opt_f64("gap_s")?, row.opt_f64("processes_s")?)
        && scene.grade("gap", gap).is_some()
        && let Some(severity) = scene.grade("crash", ago)
    {
        findings.push(
            Finding::new(severity, "crash", format!("a server process crashed {} ago and ended all sessions", time(ago)))
                .detail("The server recovered by itself, but every transaction that was open then is lost.")
                .saw("postmaster started", row.text("started")?)
                .saw("its processes started", row.text("processes_started")?)
                .measured("postmaster is older by", gap, "s")
                .fix(Plan::advice(format!(
                    "read the server's log around {}: \"was terminated by signal 9\" means the out-of-memory killer or a kill by \
                     hand, signal 6 or 11 a bug in the server or an extension",
                    row.text("processes_started")?
                ))),
        );
    }
    let now = clock::now().as_second() as f64;
    let first = first_start(scene.facts.system_identifier.as_deref(), now - up);
    if !first && let Some(severity) = scene.grade("uptime", up) {
        findings.push(
            Finding::new(severity, "restart", format!("the server was started {} ago", time(up)))
                .detail("All sessions were ended and the buffer cache was lost; statements are slower until it is warm again.")
                .measured("uptime", up, "s")
                .saw("started", row.text("started")?)
                .fix(Plan::advice(
                    "if nobody planned it, read the end of the log before the start, and the host's own log",
                )),
        );
    }
    Ok(Verdict::of(findings))
}

/// Was the cluster made only a moment before it was started, so that this is its first start and no restart?
///
/// The upper half of the system identifier is the time of initdb in seconds. Source: BootStrapXLOG in xlog.c.
fn first_start(system_identifier: Option<&str>, started: f64) -> bool {
    let made = system_identifier.and_then(|text| text.parse::<u64>().ok()).map(|identifier| (identifier >> 32) as f64);
    made.is_some_and(|made| (0.0..600.0).contains(&(started - made)))
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} seconds"),
        s if s < 7200.0 => format!("{:.0} minutes", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} hours", s / 3600.0),
        s => format!("{:.0} days", s / 86400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::{CHECK, first_start};
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_crash_behind_an_unbroken_uptime() {
        seeded(&CHECK, |on| {
            on.server.expect_log("was terminated by signal 9");
            on.server.expect_log("terminating connection because of crash");
            on.server.expect_log("the database system is in recovery mode");
            on.server.expect_log("the database system is not yet accepting connections");
            on.limit("uptime", -1.0);
            on.limit("gap", 1.5);
            assert_eq!(on.findings(), []);
            std::thread::sleep(std::time::Duration::from_millis(2000));
            on.kill_backend();
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("srv.restarted:crash", "crit"));
        });
    }

    #[test]
    fn sees_a_young_uptime() {
        seeded(&CHECK, |on| {
            // The tests' data directory is a copy; whether its initdb was just now is not in this test's hand.
            let copied = "SELECT extract(epoch FROM pg_postmaster_start_time()) - (system_identifier >> 32) >= 600 AS v \
                          FROM pg_control_system()";
            let restarted = on.server.value(copied) == "t";
            let found: Vec<_> = on.findings().into_iter().map(|f| (f.key, f.severity.word())).collect();
            let expected = restarted.then(|| ("srv.restarted:restart".to_owned(), "warn"));
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
            on.limit("uptime", -1.0);
            assert_eq!(on.findings(), []);
        });
    }

    #[test]
    fn a_first_start_is_no_restart() {
        let made_at = (1_700_000_000_u64 << 32 | 12345).to_string();
        assert!(first_start(Some(&made_at), 1_700_000_005.0));
        assert!(!first_start(Some(&made_at), 1_700_001_000.0));
        assert!(!first_start(None, 1_700_000_005.0));
    }
}
