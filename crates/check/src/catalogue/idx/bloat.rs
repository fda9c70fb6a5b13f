use crate::{
    bloat::{self, Measured},
    index::{reindex_step, size},
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
};

pub static CHECK: Check = Check {
    id: "idx.bloat",
    title: "an index takes much more room than its entries need",
    inspects: "pages of each large B-tree against what its entries need by the planner's statistics when built anew",
    why: "Pages of an index empty out when rows are deleted or keys change, and most are never given back. Queries then read more \
          pages for the same entries, and caches hold air.",
    remedy: "Build the index anew with REINDEX CONCURRENTLY; it takes the index's room once more until it is done.",
    source: "check_pgactivity btree_bloat, postgres_ai; page layout from nbtree; surus",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[Need::ReadAllData],
    thresholds: &[Threshold::above("bloat", "%", 40.0, 60.0), Threshold::warn_above("size", "bytes", 524_288_000.0)],
    look: Look::Custom(look),
};

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let floor = scene.threshold("size").warn.unwrap_or(f64::MAX) / scene.number("block_size")?;
        let rows = access.session.ask(&bloat::btrees_sql(floor.ceil() as u64)).await?;
        judge(scene, &bloat::read(&rows)?)
    })
}

fn judge(scene: &Scene<'_>, indexes: &[Measured]) -> Judged {
    let mut findings = Vec::new();
    for index in indexes.iter().filter(|one| one.doubt().is_none()) {
        let percent = index.btree_bloat();
        if let Some(severity) = scene.grade("bloat", percent) {
            findings.push(finding(severity, &index.qualified(), index, percent));
        }
    }
    Ok(bloat::with_doubts(Verdict::of(findings), indexes))
}

fn finding(severity: Severity, name: &str, index: &Measured, percent: f64) -> Finding {
    let (bytes, spare) = (index.bytes(), index.bytes() * percent / 100.0);
    let effect = format!("the index shrinks by about {}", size(spare));
    Finding::new(severity, name, format!("about {percent:.0} % of the index {name} ({}) is empty", size(bytes)))
        .detail(format!("Built anew it would take about {}.", size(bytes - spare)))
        .measured("estimated bloat", percent, "%")
        .measured("size at the last VACUUM or ANALYZE", bytes, "bytes")
        .measured("room not needed", spare, "bytes")
        .measured("entries", index.rows, "rows")
        .fix(Plan::one(format!("build {name} anew"), reindex_step(name, bytes - spare, &effect)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    check_tests!(CHECK);

    const SEED: &str = "CREATE EXTENSION pgstattuple; \
        CREATE TABLE t(id int, code text, kind int, maybe int) WITH (autovacuum_enabled = off); \
        INSERT INTO t SELECT g, md5(g::text), g % 50, CASE WHEN g % 3 = 0 THEN g END FROM generate_series(1, 30000) g; \
        CREATE UNIQUE INDEX by_id ON t(id); CREATE INDEX by_code ON t(code); CREATE INDEX by_kind ON t(kind); \
        CREATE INDEX by_both ON t(kind, code); CREATE INDEX by_lower ON t(lower(code)); CREATE INDEX by_maybe ON t(maybe)";

    const DELETED_AND_ANALYZED: &str = "SELECT pg_stat_get_last_analyze_time('t'::regclass) IS NOT NULL \
        AND pg_stat_get_mod_since_analyze('t'::regclass) = 0 AND pg_stat_get_tuples_deleted('t'::regclass) > 0 AS v";

    /// What pgstattuple says: full leaves at the fill factor of 90 against all pages.
    fn exact(on: &Stage, index: &str) -> f64 {
        let sql = format!(
            "SELECT 100 * (1 - (1 + internal_pages + leaf_pages * coalesce(nullif(avg_leaf_density, 'NaN'), 0) / 90) / (index_size / 8192)) AS v \
             FROM pgstatindex('{index}')"
        );
        on.server.value(&sql).parse().unwrap()
    }

    fn estimates(on: &mut Stage) -> Vec<(String, f64)> {
        on.limit("bloat", 0.0);
        let found = on.findings();
        let mut all: Vec<_> =
            found.iter().map(|f| (f.object.replace("public.", ""), f.evidence[0].value.as_f64().unwrap())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    #[test]
    fn agrees_with_pgstatindex_fresh_and_bloated() {
        seeded(&CHECK, |on| {
            on.sql(SEED);
            on.sql("VACUUM t");
            on.sql("ANALYZE t");
            assert!(on.findings().is_empty(), "smaller than 500 MB");
            on.until(
                "SELECT pg_stat_get_last_analyze_time('t'::regclass) IS NOT NULL AND pg_stat_get_mod_since_analyze('t'::regclass) = 0 \
                 AND pg_stat_get_tuples_inserted('t'::regclass) > 0 AS v",
            );
            on.limit("size", 100_000.0);
            let fresh = estimates(on);
            assert_eq!(fresh.len(), 6, "{fresh:?}");
            for (index, estimate) in &fresh {
                // Texts of one length may all miss the same part of the alignment, at most 7 bytes of each entry.
                assert!(*estimate < 8.0, "{index} is fresh, but the estimate is {estimate}");
            }
            on.sql("DELETE FROM t WHERE id % 4 <> 0");
            on.sql("VACUUM t");
            on.sql("ANALYZE t");
            on.until(DELETED_AND_ANALYZED);
            for (index, estimate) in &estimates(on) {
                // An index of repeated values is judged mildly on purpose.
                let exact = exact(on, index);
                let fits = if index == "by_kind" { *estimate < exact + 4.0 } else { (estimate - exact).abs() < 5.0 };
                assert!(fits, "{index}: estimate {estimate}, pgstatindex {exact}");
            }
        });
    }

    #[test]
    fn builds_a_bloated_index_anew() {
        seeded(&CHECK, |on| {
            on.sql("CREATE TABLE t(id int PRIMARY KEY) WITH (autovacuum_enabled = off); INSERT INTO t SELECT generate_series(1, 30000)");
            on.sql("DELETE FROM t WHERE id % 4 <> 0");
            on.sql("VACUUM t");
            on.sql("ANALYZE t");
            on.until(DELETED_AND_ANALYZED);
            on.limit("size", 100_000.0);
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["idx.bloat:postgres/public.t_pkey"]);
            let surus_core::plan::Action::Sql { sql, .. } = &found[0].fix.as_ref().unwrap().steps[0].action else {
                panic!()
            };
            on.sql(sql);
            assert!(on.findings().is_empty());
        });
    }
}
