use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Plan, Step},
    size::{human_count, human_seconds},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "bgw.starved",
    title: "sessions must write out pages because the background writer stops too early",
    inspects: "pg_stat_bgwriter, from 16 on with pg_stat_io: who wrote pages, and how often the background writer hit its limit",
    why: "A query that needs a buffer has to write somebody else's changed page first when nobody did it in time. That makes \
          its run time erratic.",
    remedy: "Raise bgwriter_lru_maxpages; where the share stays high, shared_buffers is too small for the pages in use.",
    source: "check_pgactivity bgwriter; pgEdge pg-healthcheck; bulk loads write their own pages by design, therefore the \
             background writer must have hit its limit too",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[
        Threshold::warn_above("share", "% of pages written by sessions", 30.0),
        Threshold::warn_above("stopped", "% of its pages in rounds cut short", 30.0),
        Threshold::warn_above("written", "pages", 100_000.0),
    ],
    look: Look::Query(
        &[
            Sql::since(
                17,
                "SELECT b.buffers_clean AS cleaned, b.maxwritten_clean AS stopped, \
                 c.buffers_written AS checkpointed, \
                 (SELECT sum(writes) FROM pg_stat_io WHERE object = 'relation' AND context = 'normal' \
                   AND backend_type = 'client backend') AS by_sessions, \
                 extract(epoch FROM clock_timestamp() - b.stats_reset) AS age_s \
                 FROM pg_stat_bgwriter b, pg_stat_checkpointer c",
            ),
            Sql {
                from: 16,
                to: 16,
                text: "SELECT buffers_clean AS cleaned, maxwritten_clean AS stopped, buffers_checkpoint AS checkpointed, \
                 (SELECT sum(writes) FROM pg_stat_io WHERE object = 'relation' AND context = 'normal' \
                   AND backend_type = 'client backend') AS by_sessions, \
                 extract(epoch FROM clock_timestamp() - stats_reset) AS age_s FROM pg_stat_bgwriter",
            },
            Sql::until(
                15,
                "SELECT buffers_clean AS cleaned, maxwritten_clean AS stopped, buffers_checkpoint AS checkpointed, \
                 buffers_backend AS by_sessions, \
                 extract(epoch FROM clock_timestamp() - stats_reset) AS age_s FROM pg_stat_bgwriter",
            ),
        ],
        judge,
    ),
};

/// Pages written since the reset, by whom.
#[derive(Debug, Clone, Copy)]
struct Written {
    cleaned: f64,
    checkpointed: f64,
    by_sessions: f64,
    /// Rounds that the background writer ended at its limit.
    stopped: f64,
}

impl Written {
    fn total(&self) -> f64 {
        self.cleaned + self.checkpointed + self.by_sessions
    }

    fn share_percent(&self) -> f64 {
        100.0 * self.by_sessions / self.total().max(1.0)
    }

    /// How much of the background writer's work was in rounds that it could not finish; all when it is off.
    fn stopped_percent(&self, lru_maxpages: f64) -> f64 {
        if lru_maxpages == 0.0 {
            return 100.0;
        }
        (100.0 * self.stopped * lru_maxpages / self.cleaned.max(1.0)).min(100.0)
    }
}

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    let written = Written {
        cleaned: row.f64("cleaned")?,
        checkpointed: row.f64("checkpointed")?,
        by_sessions: row.opt_f64("by_sessions")?.unwrap_or(0.0),
        stopped: row.f64("stopped")?,
    };
    let limit = scene.number("bgwriter_lru_maxpages")?;
    let (share, stopped) = (written.share_percent(), written.stopped_percent(limit));
    let enough = scene.grade("written", written.total()).is_some();
    let (true, Some(severity), Some(_)) = (enough, scene.grade("share", share), scene.grade("stopped", stopped)) else {
        return Ok(Verdict::ok());
    };
    let age = row.opt_f64("age_s")?.unwrap_or(0.0);
    let title = format!(
        "sessions wrote {share:.0} % of the pages themselves, and the background writer stopped early {} times in {}",
        human_count(written.stopped as i64),
        human_seconds(age)
    );
    Ok(Verdict::one(
        Finding::new(severity, "", title)
            .detail("Queries spend time on writing pages that the background writer should have written before.")
            .measured("share", share, "%")
            .measured("by sessions", written.by_sessions, "pages")
            .measured("by the background writer", written.cleaned, "pages")
            .measured("by checkpoints", written.checkpointed, "pages")
            .saw("rounds cut short", written.stopped)
            .measured("since reset", age, "s")
            .fix(plan(limit)),
    ))
}

/// Four times the limit; from 1000 pages a round on (400 MB/s at the default delay) the limit is not the problem.
fn plan(limit: f64) -> Plan {
    if limit >= 1000.0 {
        return Plan::advice(
            "raise shared_buffers, or lower bgwriter_delay (default 200ms) so that it works more often",
        );
    }
    let value = format!("{}", (limit * 4.0).clamp(100.0, 1000.0));
    Plan::one(
        format!("let the background writer write {value} pages a round"),
        Step::setting("bgwriter_lru_maxpages", value, "the background writer keeps up; sessions find clean buffers"),
    )
}

#[cfg(test)]
mod tests {
    use super::{CHECK, Written};
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn rounds_cut_short_are_weighed_by_their_pages() {
        let written = Written { cleaned: 1000.0, checkpointed: 0.0, by_sessions: 1000.0, stopped: 5.0 };
        assert_eq!((written.share_percent(), written.stopped_percent(100.0)), (50.0, 50.0));
        assert_eq!(written.stopped_percent(0.0), 100.0);
    }

    #[test]
    fn sees_sessions_that_write() {
        seeded(&CHECK, |on| {
            let small = [("shared_buffers", "1MB"), ("bgwriter_lru_maxpages", "0"), ("checkpoint_timeout", "1h")];
            on.configure(&small);
            on.sql("CREATE TABLE t(a int, pad char(500)) WITH (autovacuum_enabled = off)");
            for _ in 0..4 {
                on.sql("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 20000) g; UPDATE t SET a = a + 1");
            }
            on.limit("written", 500.0);
            let found = on.soon_finds();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("bgw.starved", "warn"));
            assert!(format!("{:?}", found[0].fix).contains("bgwriter_lru_maxpages"));
            on.limit("share", 100.1);
            assert_eq!(on.findings(), []);
        });
    }
}
