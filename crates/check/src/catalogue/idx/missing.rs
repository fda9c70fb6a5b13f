use crate::{
    index::{size, statistics_age},
    rule::{Access, Check, Look, Looking, RunsOn, Scope, Threshold},
    scene::Scene,
    user_objects::user_schema,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
    size::{human_count, human_seconds},
};
use surus_pg::{AskErrorKind, Row, RowError, Rows, quote};

pub static CHECK: Check = Check {
    id: "idx.missing",
    title: "queries read a large table from end to end again and again",
    inspects: "sequential scans of each table and the rows that they read; with pg_stat_statements also the statements that do it",
    why: "A query that needs a few rows and finds no index reads all of them. It may be fast enough on the day it is written; every \
          new row makes it slower.",
    remedy: "Look at the statements, and index the columns that they compare.",
    source: "pg-index-health tables_with_missing_indexes; pghero missing indexes",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[
        Threshold::warn_above("rows_per_scan", "rows", 50_000.0),
        Threshold::warn_above("scans", "scans", 100.0),
        Threshold::warn_above("scans_per_day", "scans", 10.0),
        Threshold::warn_below("returned", "%", 10.0),
    ],
    look: Look::Custom(look),
};

const SCANNED: &str = concat!(
    "SELECT n.nspname AS schema, q.relname AS name, q.scans, q.read, greatest(q.reltuples, pg_stat_get_live_tuples(q.oid)) AS rows, \
     q.relpages::bigint * current_setting('block_size')::bigint AS bytes, ",
    statistics_age!(),
    " AS age, (SELECT array_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = q.oid AND a.attnum > 0 AND NOT a.attisdropped \
       AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = q.oid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = a.attnum)) AS columns, \
     (SELECT quote_ident(en.nspname) FROM pg_extension e JOIN pg_namespace en ON en.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements') AS statements \
     FROM (SELECT oid, relname, relnamespace, reltuples, relpages, pg_stat_get_numscans(oid) AS scans, pg_stat_get_tuples_returned(oid) AS read \
       FROM pg_class WHERE relkind IN ('r', 'm') AND relpersistence <> 't' OFFSET 0) q JOIN pg_namespace n ON n.oid = q.relnamespace \
     WHERE q.scans > 0 AND q.read >= 1000 * q.scans AND ",
    user_schema!("n"),
    " ORDER BY q.read DESC LIMIT 1000",
);

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let rows = access.session.ask(SCANNED).await?;
        let suspects = suspects(scene, &rows)?;
        let Some(schema) = suspects.first().and_then(|suspect| suspect.statements.clone()) else {
            return judge(scene, &suspects, None);
        };
        let names: Vec<_> = suspects.iter().take(MOST_NAMES).map(|suspect| regex_escaped(&suspect.name)).collect();
        let pattern = quote::literal(&format!("\\m({})\\M", names.join("|")));
        let sql = format!(
            "SELECT left(query, 2000) AS query, calls, rows, total_exec_time AS ms FROM {schema}.pg_stat_statements \
             WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query ~* {pattern} \
             AND calls > 0 ORDER BY total_exec_time DESC LIMIT 100"
        );
        match access.session.ask(&sql).await {
            Ok(statements) => judge(scene, &suspects, Some(&statements)),
            Err(error) if error.kind == AskErrorKind::Closed => Err(error.into()),
            Err(_) => judge(scene, &suspects, None),
        }
    })
}

/// So many tables are looked for in statements; the ones that are read most come first.
const MOST_NAMES: usize = 50;

/// A table that is read as a whole suspiciously often.
struct Suspect {
    schema: String,
    name: String,
    scans: f64,
    per_scan: f64,
    rows: f64,
    bytes: f64,
    age_s: f64,
    /// Columns that no index begins with.
    columns: Vec<String>,
    /// The schema of pg_stat_statements.
    statements: Option<String>,
}

fn suspects(scene: &Scene<'_>, rows: &Rows) -> Result<Vec<Suspect>, RowError> {
    let read = |row: Row<'_>| {
        Ok(Suspect {
            schema: row.text("schema")?,
            name: row.text("name")?,
            scans: row.f64("scans")?,
            per_scan: row.f64("read")? / row.f64("scans")?.max(1.0),
            rows: row.f64("rows")?.max(0.0),
            bytes: row.f64("bytes")?,
            age_s: row.opt_f64("age")?.unwrap_or(0.0),
            columns: row.list("columns")?,
            statements: row.opt_str("statements")?.map(str::to_owned),
        })
    };
    let often = |one: &Suspect| {
        let days = (one.age_s / 86_400.0).max(1.0);
        scene.grade("rows_per_scan", one.per_scan).is_some()
            && scene.grade("scans", one.scans).is_some()
            && scene.grade("scans_per_day", one.scans / days).is_some()
    };
    let all: Result<Vec<Suspect>, RowError> = rows.iter().map(read).collect();
    Ok(all?.into_iter().filter(often).collect())
}

fn regex_escaped(name: &str) -> String {
    name.chars().flat_map(|c| (!c.is_alphanumeric() && c != '_').then_some('\\').into_iter().chain([c])).collect()
}

/// A statement on a suspect that compares something and gives back few rows.
struct Statement {
    text: String,
    calls: f64,
    rows_per_call: f64,
    ms_per_call: f64,
}

fn judge(scene: &Scene<'_>, suspects: &[Suspect], statements: Option<&Rows>) -> Judged {
    let mut findings = Vec::new();
    for suspect in suspects {
        let (mut seen, mut narrow) = (0, Vec::new());
        for row in statements.iter().flat_map(|rows| rows.iter()) {
            let text = row.str("query")?.split_whitespace().collect::<Vec<_>>().join(" ");
            if !mentions(&text, &suspect.name) {
                continue;
            }
            seen += 1;
            let calls = row.f64("calls")?;
            let one =
                Statement { calls, rows_per_call: row.f64("rows")? / calls, ms_per_call: row.f64("ms")? / calls, text };
            let share = 100.0 * one.rows_per_call / suspect.per_scan;
            if one.text.to_lowercase().contains(" where ") && scene.grade("returned", share).is_some() {
                narrow.push(one);
            }
        }
        // All statements on it are known, and all of them want the table as a whole: no index would help.
        if seen == 0 || !narrow.is_empty() {
            findings.push(finding(suspect, &narrow));
        }
    }
    Ok(Verdict::of(findings))
}

fn finding(suspect: &Suspect, narrow: &[Statement]) -> Finding {
    let table = quote::qualified(&suspect.schema, &suspect.name);
    let severity = if narrow.is_empty() { Severity::Info } else { Severity::Warn };
    let title = format!(
        "{} scans of {table} read {} rows each",
        human_count(suspect.scans as i64),
        human_count(suspect.per_scan as i64)
    );
    let detail = match narrow.first() {
        Some(worst) => {
            format!("A statement that gives back {:.0} rows is among those that read it.", worst.rows_per_call)
        }
        None => "Which statements do so, and whether they need all rows, is not known without pg_stat_statements."
            .to_owned(),
    };
    let mut finding = Finding::new(severity, &table, title)
        .detail(detail)
        .measured("sequential scans", suspect.scans, "scans")
        .measured("rows read by a scan", suspect.per_scan, "rows")
        .measured("estimated rows", suspect.rows, "rows")
        .measured("estimated size", suspect.bytes, "bytes")
        .measured("statistics cover", suspect.age_s, "s");
    for one in narrow.iter().take(3) {
        let each = human_seconds(one.ms_per_call / 1000.0);
        let shown: String = one.text.chars().take(300).collect();
        let calls = human_count(one.calls as i64);
        finding = finding.saw(format!("{calls} calls, {each} and {:.1} rows each", one.rows_per_call), shown);
    }
    let columns = narrow.iter().map(|one| compared(&one.text, &suspect.columns)).find(|columns| !columns.is_empty());
    let advice = match columns {
        Some(columns) => {
            let list: Vec<_> = columns.iter().map(|column| quote::ident(column)).collect();
            format!(
                "compare the plan of the statement after CREATE INDEX CONCURRENTLY ON {table} ({}); about {} are read to build it",
                list.join(", "),
                size(suspect.bytes)
            )
        }
        None => format!("EXPLAIN the statements that read {table}, and index the columns that they compare"),
    };
    finding.fix(Plan::advice(advice))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

fn mentions(text: &str, name: &str) -> bool {
    match name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        true => words(text).any(|word| word.eq_ignore_ascii_case(name)),
        false => text.contains(name),
    }
}

/// The columns that a statement over one table compares with a parameter by `=`; empty where that is not plain to see:
/// several tables, or a column behind a function.
fn compared(text: &str, columns: &[String]) -> Vec<String> {
    let lower = text.to_lowercase();
    let Some((before, after)) = lower.split_once(" where ") else { return Vec::new() };
    let from = before.rsplit_once(" from ").map_or(before, |(_, from)| from);
    if from.contains(',') || lower.contains(" join ") || after.contains(" or ") || after.contains(" select ") {
        return Vec::new();
    }
    let conditions = after.split(" order by ").next().unwrap_or(after).split(" and ");
    let named = conditions.filter_map(|condition| {
        let (column, value) = condition.split_once('=')?;
        let column = column.trim().rsplit('.').next()?.trim_matches('"');
        value.trim().starts_with('$').then_some(column.to_owned())
    });
    named.filter(|column| columns.contains(column)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_scans_for_a_few_rows_and_names_the_column() {
        seeded_on(
            &CHECK,
            |builder| builder.setting("shared_preload_libraries", "pg_stat_statements"),
            |on| {
                on.sql(
                    "CREATE EXTENSION pg_stat_statements; CREATE TABLE orders(id int PRIMARY KEY, customer int, note text); \
                     INSERT INTO orders SELECT g, g, 'x' FROM generate_series(1, 2000) g; CREATE TABLE report AS SELECT * FROM orders; ANALYZE",
                );
                let session = on.session("postgres");
                for at in 0..15 {
                    on.run_in(
                        &session,
                        &format!("SELECT note FROM public.orders o WHERE o.customer = {at} AND id > 0"),
                    );
                    on.run_in(&session, "SELECT * FROM public.report");
                }
                drop(session);
                on.until("SELECT pg_stat_get_numscans('orders'::regclass) >= 10 AND pg_stat_get_numscans('report'::regclass) >= 10 AS v");
                assert!(on.findings().is_empty(), "too small to matter");
                on.limit("rows_per_scan", 1500.0);
                on.limit("scans", 10.0);
                let found = on.findings();
                assert_eq!(
                    found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                    ["idx.missing:postgres/public.orders"]
                );
                assert_eq!(found[0].severity.word(), "warn");
                let text = &found[0].fix.as_ref().unwrap().summary;
                assert!(text.contains("CREATE INDEX CONCURRENTLY ON public.orders (customer)"), "{text}");
                on.sql("DROP EXTENSION pg_stat_statements");
                let blind = on.findings();
                assert_eq!(blind.len(), 2);
                assert!(blind.iter().all(|f| f.severity == Severity::Info));
            },
        );
    }

    #[test]
    fn only_plain_comparisons_name_columns() {
        let columns = ["a".to_owned(), "b".to_owned()];
        assert_eq!(compared("SELECT 1 FROM t WHERE t.a = $1 AND b = $2 ORDER BY c", &columns), ["a", "b"]);
        assert_eq!(compared("SELECT 1 FROM t WHERE lower(a) = $1", &columns), Vec::<String>::new());
        assert_eq!(compared("SELECT 1 FROM t JOIN u ON t.a = u.a WHERE t.a = $1", &columns), Vec::<String>::new());
        assert_eq!(compared("SELECT 1 FROM t WHERE a = $1 OR b = $2", &columns), Vec::<String>::new());
        assert!(mentions("select * from public.orders", "orders") && !mentions("select * from reorders", "orders"));
        assert_eq!(regex_escaped("a.b"), "a\\.b");
    }
}
