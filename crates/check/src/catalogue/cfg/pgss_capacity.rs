use crate::{
    rule::{Access, Check, Look, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    statements::Statements,
    verdict::{Judged, Trouble, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::{Interruption, Plan, Step},
};
use surus_pg::{AskErrorKind, Session};

pub static CHECK: Check = Check {
    id: "cfg.pgss_capacity",
    title: "pg_stat_statements is full, or its texts are large",
    inspects: "the entries of pg_stat_statements against pg_stat_statements.max, pg_stat_statements_info (14 and newer), and \
               the size of the file of query texts",
    why: "When all entries are taken, the least used are thrown away, again and again: the record has holes, and throwing \
          away stops all sessions for a moment. A large file of texts makes every look at the view slow and costs memory.",
    remedy: "Raise pg_stat_statements.max. If each query has its own text (lists of constants, generated names), let the \
             application use parameters instead.",
    source: "check_pgactivity; pganalyze; 250 MB of texts",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Extension("pg_stat_statements")],
    thresholds: &[Threshold::above("used", "%", 80.0, 95.0), Threshold::warn_above("texts", "bytes", 262_144_000.0)],
    look: Look::Custom(|scene, access| Box::pin(look(scene, access))),
};

const TEXTS: &str = "pg_stat_tmp/pgss_query_texts.stat";

async fn look(scene: &Scene<'_>, access: Access<'_>) -> Judged {
    let statements = Statements::find(access.session).await?;
    let most = scene.number("pg_stat_statements.max")?;
    let info = if statements.since(1, 9) {
        format!(
            "(SELECT dealloc FROM {0}) AS evictions, \
             (SELECT extract(epoch FROM clock_timestamp() - stats_reset) / 3600 FROM {0}) AS hours",
            statements.info()
        )
    } else {
        "NULL::bigint AS evictions, NULL::float8 AS hours".to_owned()
    };
    let sql = format!("SELECT count(*) AS entries, {info} FROM {}", statements.without_texts());
    let rows = statements.ask(access.session, &sql).await?;
    let row = rows.first()?;
    let mut verdict = Verdict::ok();
    let entries = row.i64("entries")? as f64;
    let evictions = match (row.opt_f64("evictions")?, row.opt_f64("hours")?) {
        (Some(count), Some(hours)) => Some(count / hours.max(1.0)),
        _ => None,
    };
    verdict.findings.extend(full(scene, entries, most, evictions));
    match texts_bytes(scene, access.session).await {
        Ok(bytes) => verdict.findings.extend(large(scene, bytes, entries)),
        Err(Trouble::Unknown(reason)) => verdict = verdict.but_unknown("size of the query texts", reason),
        Err(other) => return Err(other),
    }
    Ok(verdict)
}

fn full(scene: &Scene<'_>, entries: f64, most: f64, evictions: Option<f64>) -> Option<Finding> {
    let used = 100.0 * entries / most.max(1.0);
    // Evictions alone say nothing: their counter outlives a larger maximum, and while there are any it is full anyway.
    let severity = scene.grade("used", used)?;
    let more = most * 2.0;
    let mut finding = Finding::new(
        severity,
        "entries",
        format!("pg_stat_statements holds {entries:.0} of at most {most:.0} entries"),
    )
    .detail("When it is full, the least used entries are thrown away: seldom and expensive queries go missing.")
    .measured("used", used, "%");
    if let Some(rate) = evictions {
        finding = finding.measured("evictions", rate, "1/h");
    }
    Some(
        finding.fix(Plan::one(
            format!("allow {more:.0} entries"),
            Step::setting(
                "pg_stat_statements.max",
                format!("{more:.0}"),
                "after a restart, twice as many kinds of queries are kept",
            )
            .interrupts(Interruption::Restart),
        )),
    )
}

fn large(scene: &Scene<'_>, bytes: f64, entries: f64) -> Option<Finding> {
    let severity = scene.grade("texts", bytes)?;
    Some(
        Finding::new(severity, "texts", format!("the query texts of pg_stat_statements take {:.0} MB", bytes / 1e6))
            .detail("Everybody who looks at the view reads the whole file into memory.")
            .measured("file of query texts", bytes, "bytes")
            .measured("a text on average", bytes / entries.max(1.0), "bytes")
            .fix(Plan::advice(
                "find the queries with the longest texts and let the application use parameters or temporary tables instead of \
                 long lists; SELECT pg_stat_statements_reset() empties the record at once; monitoring should read \
                 pg_stat_statements(false), without texts",
            )),
    )
}

/// The size of the file of texts: asked from the server, else read on its host.
async fn texts_bytes(scene: &Scene<'_>, session: &Session) -> Result<f64, Trouble> {
    match session.ask(&format!("SELECT coalesce((pg_stat_file('{TEXTS}', true)).size, 0) AS size")).await {
        Ok(rows) => Ok(rows.first()?.f64("size")?),
        Err(error) if error.kind == AskErrorKind::Privilege => {
            let seen = scene.data_directory().ok().and_then(|data| std::fs::metadata(data.join(TEXTS)).ok());
            seen.map(|file| file.len() as f64).ok_or_else(|| {
                let name = surus_pg::quote::ident(&scene.facts.role.name);
                Reason::Privilege(format!("GRANT EXECUTE ON FUNCTION pg_stat_file(text, boolean) TO {name} to see it"))
                    .into()
            })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_full_record_and_large_texts() {
        seeded(&CHECK, |on| {
            on.configure(&[("shared_preload_libraries", "pg_stat_statements"), ("pg_stat_statements.max", "100")]);
            on.sql("CREATE SCHEMA tools; CREATE EXTENSION pg_stat_statements SCHEMA tools");
            let kinds: String = (1..97).map(|columns| format!("SELECT {};", vec!["1"; columns].join(", "))).collect();
            on.sql(&kinds);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].key, "cfg.pgss_capacity:entries");
            assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
            on.limit("texts", 100.0);
            assert_eq!(on.findings()[1].key, "cfg.pgss_capacity:texts");
            on.configure(&[("pg_stat_statements.max", "5000")]);
            on.limit("texts", 1e9);
            assert_eq!(on.findings(), []);
        });
    }
}
