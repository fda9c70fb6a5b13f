use crate::{
    index::size,
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    user_objects::{listed, user_schema},
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
};
use surus_pg::{Row, RowError, Rows, quote};

pub static CHECK: Check = Check {
    id: "idx.low_value",
    title: "an index tells rows apart badly",
    inspects: "statistics of the column of each large single-column B-tree: share of NULLs, number of distinct values",
    why: "An index over a column that is nearly always NULL, or has only two or three values, mostly holds entries that no query \
          looks up, since reading the whole table is cheaper for them.",
    remedy: "Replace it by a partial index over the rows that queries look for.",
    source: "pg-index-health indexes_with_null_values, indexes_with_boolean",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[Need::ReadAllData],
    thresholds: &[
        Threshold::warn_above("nulls", "%", 90.0),
        Threshold::warn_below("values", "values", 3.0),
        Threshold::warn_above("size", "bytes", 10_485_760.0),
    ],
    look: Look::Custom(look),
};

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let pages = scene.threshold("size").warn.unwrap_or(f64::MAX) / scene.number("block_size")?;
        let sql = format!(
            "SELECT n.nspname AS schema, c.relname AS name, t.relname AS table_name, a.attname AS column, s.stanullfrac AS nulls, s.stadistinct AS distinct_values, \
             c.relpages::bigint * current_setting('block_size')::bigint AS bytes, t.reltuples AS rows, pg_stat_get_numscans(c.oid) AS scans, \
             pg_stat_get_mod_since_analyze(t.oid) AS changed, EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = t.oid \
               AND k.conkey[1] = i.indkey[0]) AS serves_fk, pg_get_indexdef(c.oid) AS definition \
             FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am m ON m.oid = c.relam JOIN pg_class t ON t.oid = i.indrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0] \
             LEFT JOIN pg_statistic s ON s.starelid = t.oid AND s.staattnum = i.indkey[0] AND NOT s.stainherit \
             WHERE c.relkind = 'i' AND c.relpages >= {pages:.0} AND m.amname = 'btree' AND i.indnatts = 1 AND i.indpred IS NULL AND i.indexprs IS NULL \
             AND i.indisvalid AND NOT i.indisunique AND {} ORDER BY c.relpages DESC",
            user_schema!("n")
        );
        judge(scene, &access.session.ask(&sql).await?)
    })
}

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let (mut findings, mut doubtful) = (Vec::new(), Vec::new());
    for row in rows.iter() {
        let name = quote::qualified(row.str("schema")?, row.str("name")?);
        let count = row.f64("rows")?.max(0.0);
        match (row.opt_f64("nulls")?, row.opt_f64("distinct_values")?) {
            (Some(nulls), Some(distinct)) if row.f64("changed")? <= 0.2 * count => {
                let values = if distinct < 0.0 { -distinct * count } else { distinct };
                findings.extend(finding(scene, &name, row, 100.0 * nulls, values)?);
            }
            _ => doubtful.push(name),
        }
    }
    let verdict = Verdict::of(findings);
    if doubtful.is_empty() {
        return Ok(verdict);
    }
    let text = format!("the columns of {} indexes have no or old statistics: run ANALYZE", doubtful.len());
    Ok(verdict.but_unknown(listed(&doubtful, doubtful.len() as i64, 3), Reason::Statistics(text)))
}

fn finding(scene: &Scene<'_>, name: &str, row: Row<'_>, nulls: f64, values: f64) -> Result<Option<Finding>, RowError> {
    let (bytes, definition) = (row.f64("bytes")?, row.str("definition")?);
    let column = quote::ident(row.str("column")?);
    let mostly_null = scene.grade("nulls", nulls).is_some();
    // What checks a foreign key must find every value, however few there are.
    let few = scene.grade("values", values).is_some() && !row.bool("serves_fk")?;
    let (title, partial) = if mostly_null {
        (format!("{nulls:.0} % of the entries of {name} ({}) are NULL", size(bytes)), format!("{column} IS NOT NULL"))
    } else if few {
        let title = format!("{name} ({}) tells only {values:.0} values of {column} apart", size(bytes));
        (title, format!("{column} = the value that queries look for"))
    } else {
        return Ok(None);
    };
    let advice = format!(
        "compare plans with a partial index: {} WHERE {partial}, under another name; then DROP INDEX CONCURRENTLY {name}",
        crate::index::concurrently(definition)
    );
    Ok(Some(
        Finding::info(name, title)
            .detail("A partial index over the rows that queries look for is smaller and written less often.")
            .saw("definition", definition)
            .measured("NULLs", nulls, "%")
            .measured("distinct values", values, "values")
            .measured("estimated size", bytes, "bytes")
            .measured("scans", row.i64("scans")?, "scans")
            .fix(Plan::advice(advice)),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_indexes_of_nulls_and_of_two_values() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE u(id int PRIMARY KEY); INSERT INTO u VALUES (1); \
                 CREATE TABLE t(id int, done boolean, gone_at timestamp, kind int, u int REFERENCES u) WITH (autovacuum_enabled = off); \
                 INSERT INTO t SELECT g, g % 50 = 0, CASE WHEN g % 50 = 0 THEN now() END, g % 20, 1 FROM generate_series(1, 2000) g; \
                 CREATE INDEX by_done ON t(done); CREATE INDEX by_gone ON t(gone_at); CREATE INDEX by_kind ON t(kind); CREATE INDEX by_u ON t(u); \
                 CREATE INDEX partly ON t(gone_at) WHERE gone_at IS NOT NULL; ",
            );
            on.sql("ANALYZE t");
            on.until("SELECT pg_stat_get_mod_since_analyze('t'::regclass) = 0 AND pg_stat_get_tuples_inserted('t'::regclass) > 0 AS v");
            on.sql("UPDATE pg_class SET relpages = 2000 WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace");
            let found = on.findings();
            let keys: Vec<_> = found.iter().map(|f| f.key.as_str()).collect();
            assert_eq!(keys, ["by_done", "by_gone"].map(|name| format!("idx.low_value:postgres/public.{name}")));
            assert!(found[1].title.starts_with("98 %"), "{}", found[1].title);
            on.sql("UPDATE t SET done = true; CREATE TABLE other AS SELECT 1 AS a");
            on.until("SELECT pg_stat_get_mod_since_analyze('t'::regclass) > 1000 AS v");
            assert!(on.report().findings.is_empty());
            assert_eq!(on.report().unknown[0].reason.kind(), "statistics");
        });
    }
}
