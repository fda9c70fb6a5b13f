use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "conn.abnormal_end",
    title: "many sessions end abnormally",
    inspects: "pg_stat_database: sessions_abandoned, sessions_fatal, sessions_killed against sessions",
    why: "A healthy client says goodbye. Sessions that are abandoned point to clients that crash or to a network that \
          drops connections; fatal ends point to faults in the server; killed ones to somebody who terminates sessions.",
    remedy: "Look into the server's log for the endings, and then at the client's timeouts, at firewalls that drop idle \
             connections, and at the kernel's log for the out-of-memory killer.",
    source: "check_pgactivity session_stats; 1 % of the sessions, and at least 10 of them",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Major(14)],
    thresholds: &[Threshold::warn_above("share", "%", 1.0), Threshold::warn_above("ends", "sessions", 10.0)],
    look: Look::Query(
        &[Sql::since(
            14,
            "SELECT datname AS name, sessions, sessions_abandoned AS abandoned, sessions_fatal AS fatal, \
             sessions_killed AS killed, stats_reset AS since FROM pg_stat_database \
             WHERE datname IS NOT NULL AND sessions_abandoned + sessions_fatal + sessions_killed > 0 ORDER BY datname",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let name = quote::ident(row.str("name")?);
        let sessions = row.i64("sessions")?;
        let ends = [row.i64("abandoned")?, row.i64("fatal")?, row.i64("killed")?];
        let bad: i64 = ends.iter().sum();
        let share = 100.0 * bad as f64 / sessions.max(1) as f64;
        if scene.grade("ends", bad as f64).is_none() {
            continue;
        }
        let Some(severity) = scene.grade("share", share) else { continue };
        let since = match row.opt_str("since")? {
            Some(reset) => format!("since {reset}"),
            None => "since the counters began".to_owned(),
        };
        let advice = match ends {
            [abandoned, fatal, killed] if abandoned >= fatal.max(killed) => {
                "most were abandoned by their client: look for clients that crash or are killed, and for firewalls that drop \
                 idle connections (tcp_keepalives_idle = 60 keeps them alive)"
            }
            [_, fatal, killed] if fatal >= killed => "most ended with a FATAL error: the server's log names it",
            _ => "most were terminated with pg_terminate_backend or by a shutdown: find out who does it and why",
        };
        findings.push(
            Finding::new(
                severity,
                name.as_str(),
                format!(
                    "{share:.1} % of the sessions of database {name} ended abnormally ({bad} of {sessions}, {since})"
                ),
            )
            .detail("Their open transactions were rolled back, and the client may not know it.")
            .measured("share", share, "%")
            .saw("abandoned by the client", ends[0])
            .saw("ended by a fatal error", ends[1])
            .saw("terminated", ends[2])
            .fix(Plan::advice(advice)),
        );
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_sessions_that_were_killed() {
        seeded(&CHECK, |on| {
            on.server.expect_log("terminating connection due to administrator command");
            on.sql("CREATE DATABASE shop");
            let _held: Vec<_> = (0..5).map(|_| on.session("shop")).collect();
            on.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'shop'");
            let counted = "SELECT coalesce(sessions_killed, 0) >= 5 AS v FROM pg_stat_database WHERE datname = 'shop'";
            for _ in 0..50 {
                if on.server.value(counted) == "t" {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            assert_eq!(on.findings(), [], "five are few");
            on.limit("ends", 5.0);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("conn.abnormal_end:shop", "warn"));
        });
    }
}
