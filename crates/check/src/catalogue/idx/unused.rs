use crate::{
    index::{drop_advice, estimated_bytes, size, statistics_age},
    nodes::{self, streaming_standbys},
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    user_objects::{no_extension_owns, user_schema},
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    size::human_seconds,
};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "idx.unused",
    title: "no query uses an index",
    inspects: "scans of each index on every node since statistics began; without unique indexes, those of constraints and \
               those that serve a foreign key",
    why: "An index that nobody reads is still written at every change, takes memory and disk, and slows down VACUUM.",
    remedy: "Make sure that no yearly job needs it, keep its definition, and drop it.",
    source: "check_pgactivity, pg-index-health unused_indexes, pghero; at least a month of statistics as pganalyze advises",
    scope: Scope::Database,
    runs_on: RunsOn::EveryNode,
    needs: &[],
    thresholds: &[
        Threshold::warn_above("size", "bytes", 10_485_760.0),
        Threshold::warn_above("observed", "days", 30.0),
    ],
    look: Look::Query(
        &[Sql::all(concat!(
            "SELECT n.nspname AS schema, t.relname AS table_name, c.relname AS name, ",
            estimated_bytes!("c"),
            " AS bytes, i.indexprs IS NOT NULL AS of_expression, pg_get_indexdef(c.oid) AS definition, \
             pg_stat_get_tuples_inserted(t.oid) + pg_stat_get_tuples_updated(t.oid) - pg_stat_get_tuples_hot_updated(t.oid) AS writes, ",
            statistics_age!(),
            " AS age, ",
            streaming_standbys!(),
            " AS streaming FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'i' AND NOT c.relispartition AND c.relpages >= 128 AND i.indisvalid AND NOT i.indisunique \
             AND NOT i.indisexclusion AND NOT i.indisreplident AND NOT i.indisclustered AND pg_stat_get_numscans(c.oid) = 0 AND ",
            user_schema!("n"),
            " AND ",
            no_extension_owns!("pg_class", "t.oid"),
            " AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = i.indrelid \
               AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey) \
             ORDER BY c.relpages DESC"
        ))],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let (mut findings, mut observed, mut streaming) = (Vec::new(), None, 0);
    for row in rows.iter() {
        let bytes = row.f64("bytes")?;
        if scene.grade("size", bytes).is_none() {
            continue;
        }
        (observed, streaming) = (row.opt_f64("age")?, row.i64("streaming")?);
        let schema = row.str("schema")?;
        let (name, table) =
            (quote::qualified(schema, row.str("name")?), quote::qualified(schema, row.str("table_name")?));
        let since = human_seconds(observed.unwrap_or(0.0));
        let mut detail = format!(
            "Every change of {table} still writes it. PostgreSQL does not record when an index was made: it may be younger than the statistics."
        );
        if row.bool("of_expression")? {
            detail
                .push_str(" ANALYZE gathers statistics about its expression, which plans may use even without a scan.");
        }
        findings.push(
            Finding::info(&name, format!("{name} ({}) has not been scanned in {since}", size(bytes)))
                .detail(detail)
                .saw("definition", row.str("definition")?)
                .measured("scans", 0, "scans")
                .measured("estimated size", bytes, "bytes")
                .measured("statistics cover", observed.unwrap_or(0.0), "s")
                .measured("rows written to it at most", row.i64("writes")?, "rows")
                .fix(drop_advice(&name, row.str("definition")?, "if no rare job needs it")),
        );
    }
    match not_yet(scene, observed, streaming, findings.len()) {
        Some(reason) if !findings.is_empty() => Ok(Verdict::unknown(reason)),
        _ => Ok(Verdict::of(findings)),
    }
}

/// Why `count` indexes without scans here do not mean that nobody uses them. Also for other checks that ask how much
/// an index is read.
pub(super) fn not_yet(scene: &Scene<'_>, observed_s: Option<f64>, streaming: i64, count: usize) -> Option<Reason> {
    let least_days = scene.threshold("observed").warn.unwrap_or(0.0);
    let few = format!("{count} indexes are hardly read on this node");
    let Some(observed_s) = observed_s else {
        return Some(Reason::Statistics(format!("{few}, but the server does not say since when it counts")));
    };
    if observed_s < least_days * 86_400.0 {
        let since = human_seconds(observed_s);
        return Some(Reason::Statistics(format!("{few}, but statistics cover only {since} of {least_days:.0} days")));
    }
    nodes::unseen(scene, streaming).map(|why| Reason::Statistics(format!("{few}, but {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    check_tests!(CHECK);

    const SEED: &str = "CREATE TABLE u(id int PRIMARY KEY); CREATE TABLE t(id int PRIMARY KEY, a int, b int, c int UNIQUE, u int REFERENCES u); \
        CREATE INDEX never ON t(a); CREATE INDEX small ON t(b, a); CREATE INDEX used ON t(b); CREATE INDEX for_fk ON t(u); \
        INSERT INTO t SELECT g, g, g, g FROM generate_series(1, 100) g; ANALYZE t; \
        UPDATE pg_class SET relpages = 20000 WHERE relkind = 'i' AND relname <> 'small' AND relnamespace = 'public'::regnamespace; \
        SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT a FROM t WHERE b = 7";
    const NEVER: &str = "idx.unused:postgres/public.never";

    #[test]
    fn sees_an_index_that_nobody_reads_once_statistics_are_old_enough() {
        seeded(&CHECK, |on| {
            on.sql(SEED);
            on.until("SELECT pg_stat_get_numscans('used'::regclass) > 0 AS v");
            let young = on.report();
            assert!(young.findings.is_empty());
            assert_eq!(young.unknown[0].reason.kind(), "statistics");
            on.limit("observed", 0.0);
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), [NEVER]);
            assert!(!found[0].fix.as_ref().unwrap().is_applicable());
        });
    }

    #[test]
    fn all_nodes_must_agree() {
        seeded(&CHECK, |on| {
            if on.major() != 15 {
                return;
            }
            on.sql(SEED);
            on.until("SELECT pg_stat_get_numscans('used'::regclass) > 0 AS v");
            on.limit("observed", 0.0);
            let standby = on.server.standby();
            standby.wait_caught_up(&on.server);
            let alone = on.report();
            assert!(alone.findings.is_empty(), "a standby that streams may use it");
            assert!(alone.unknown[0].reason.text().contains("1 standbys stream"), "{:?}", alone.unknown);
            let both = [on.server.dsn("postgres"), standby.dsn("postgres")];
            let look = || on.report_of_all(&[("one", &both[0]), ("two", &both[1])]);
            let unread = look();
            assert_eq!(unread[0].findings.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), [NEVER]);
            assert!(unread[1].findings.is_empty() && unread[1].unknown.is_empty(), "shown once");
            assert!(unread[1].not_applicable.iter().any(|one| one.id == CHECK.id && one.why.contains("one")));
            standby.sql("SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT b FROM t WHERE a = 7");
            let read = look();
            assert!(read[0].findings.is_empty() && read[0].unknown.is_empty());
            assert!(read[0].ok.contains(&CHECK.id), "the standby uses it");
        });
    }
}
