use crate::{
    index::{estimated_bytes, size},
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "bloat.catalog",
    title: "a system catalog has grown out of proportion",
    inspects: "pages of pg_attribute, pg_class, pg_depend and the other catalogs of objects, against what their rows need",
    why: "Every temporary table writes rows into the catalogs and deletes them again. Where that happens many times a second, or \
          something holds back VACUUM, the catalogs swell, and with them the planning of every query and the start of every session.",
    remedy: "Make fewer temporary tables (ON COMMIT DELETE ROWS instead of CREATE and DROP), see vac.horizon, and write the catalog \
             anew in a maintenance window.",
    source: "surus; column widths from pg_attribute",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::warn_above("size", "bytes", 1_073_741_824.0), Threshold::warn_above("bloat", "%", 50.0)],
    look: Look::Query(
        &[Sql::all(concat!(
            "SELECT c.relname AS name, ",
            estimated_bytes!("c"),
            " AS bytes, greatest(c.reltuples, 0) AS rows, 28 + w.fixed + 8 * w.varying AS width FROM pg_class c JOIN \
             (SELECT attrelid, sum(attlen) FILTER (WHERE attlen > 0) AS fixed, count(*) FILTER (WHERE attlen < 0) AS varying \
               FROM pg_attribute WHERE attnum > 0 AND attrelid < 16384 GROUP BY attrelid) w ON w.attrelid = c.oid \
             WHERE c.relkind = 'r' AND c.relnamespace = 'pg_catalog'::regnamespace AND NOT c.relisshared AND c.relpages >= 1280 \
             AND c.relname IN ('pg_attribute', 'pg_class', 'pg_type', 'pg_depend', 'pg_index', 'pg_constraint', 'pg_attrdef', 'pg_inherits', \
               'pg_sequence', 'pg_trigger', 'pg_statistic', 'pg_description') ORDER BY c.relpages DESC"
        ))],
        judge,
    ),
};

/// A row of pg_statistic holds histograms and common values: about this many bytes.
const STATISTIC_ROW: f64 = 700.0;

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (name, bytes, count) = (row.str("name")?, row.f64("bytes")?, row.f64("rows")?);
        let width = if name == "pg_statistic" { STATISTIC_ROW } else { row.f64("width")? };
        let percent = (100.0 * (1.0 - count * width / bytes)).max(0.0);
        let Some(severity) = scene.grade("size", bytes).and(scene.grade("bloat", percent)) else { continue };
        findings.push(
            Finding::new(severity, format!("pg_catalog.{name}"), format!("{name} takes {}, about {percent:.0} % of it empty", size(bytes)))
                .detail("Planning and new sessions read through it; backups carry it.")
                .measured("size at the last VACUUM or ANALYZE", bytes, "bytes")
                .measured("estimated rows", count, "rows")
                .measured("estimated bloat", percent, "%")
                .fix(Plan::advice(format!(
                    "find what makes and drops so many objects first; then VACUUM FULL pg_catalog.{name} in a maintenance window: ACCESS \
                     EXCLUSIVE on it blocks nearly every query of the database meanwhile"
                ))),
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
    fn sees_a_swollen_catalog_but_not_one_that_is_full() {
        seeded_on(
            &CHECK,
            |builder| builder.autovacuum(false),
            |on| {
                on.sql(
                    "UPDATE pg_class SET relpages = 200000, reltuples = 50000 WHERE oid = 'pg_depend'::regclass; \
                     UPDATE pg_class SET relpages = 200000, reltuples = 10000000 WHERE oid = 'pg_attribute'::regclass",
                );
                let found = on.findings();
                assert_eq!(
                    found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                    ["bloat.catalog:postgres/pg_catalog.pg_depend"]
                );
            },
        );
    }
}
