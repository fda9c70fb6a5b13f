use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    user_objects::user_schema,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
    size::human_seconds,
};
use surus_pg::{Row, RowError, Rows, quote};

pub static CHECK: Check = Check {
    id: "part.ahead",
    title: "few partitions are made for the time to come",
    inspects: "pg_class.relpartbound of tables partitioned by range of a date or timestamp column",
    why: "When the newest partition's time is over, the next INSERT has no partition to go to and fails, usually at midnight. \
          A default partition only hides it: the rows pile up there and stand in the way of the partition they belong to.",
    remedy: "Make the next partitions now, and let a job make them ahead of time.",
    source: "check_postgres partman_premake; surus: looked at once the coverage ends within 60 days",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[
        Threshold::below("future", "partitions", 1.0, 0.0),
        // Yearly partitions need none ahead in spring.
        Threshold::warn_below("covered", "d", 60.0),
    ],
    look: Look::Query(&[Sql::all(SQL)], judge),
};

/// Bounds are read from their text, whose first value belongs to the first column of the key; MAXVALUE never ends. The
/// relation is not named to pg_get_expr, so that no partition is opened.
const SQL: &str = concat!(
    "WITH parent AS MATERIALIZED (SELECT p.oid, n.nspname, p.relname, t.partdefid <> 0 AS has_default \
       FROM pg_partitioned_table t JOIN pg_class p ON p.oid = t.partrelid JOIN pg_namespace n ON n.oid = p.relnamespace \
       JOIN pg_attribute a ON a.attrelid = p.oid AND a.attnum = t.partattrs[0] \
       WHERE t.partstrat = 'r' AND a.atttypid IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype) AND ",
    user_schema!("n"),
    "), bound AS (SELECT i.inhparent, pg_get_expr(c.relpartbound, 0) AS text FROM parent p JOIN pg_inherits i ON i.inhparent = p.oid \
       JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relpartbound IS NOT NULL), \
     range AS (SELECT inhparent, substring(text FROM 'FROM \\(''([0-9]{4}-[0-9]{2}-[0-9]{2}[^'']*)''') AS low, \
       substring(text FROM ' TO \\(''([0-9]{4}-[0-9]{2}-[0-9]{2}[^'']*)''') AS high, text ~ ' TO \\((MAXVALUE|''infinity'')' AS endless FROM bound), \
     span AS (SELECT inhparent, low::timestamptz AS low, high::timestamptz AS high, endless FROM range WHERE endless OR high IS NOT NULL), \
     newest AS (SELECT DISTINCT ON (inhparent) inhparent, low, high FROM span WHERE NOT endless AND low IS NOT NULL ORDER BY inhparent, high DESC) \
     SELECT p.nspname AS schema, p.relname AS name, p.has_default, count(*) AS partitions, \
       count(*) FILTER (WHERE s.low > now()) AS future, extract(epoch FROM n.high - now()) AS covered_s, \
       extract(epoch FROM n.high - n.low) AS width_s, to_char(n.high, 'YYYY-MM-DD HH24:MI:SSOF') AS next_low, \
       to_char(n.high + age(n.high, n.low), 'YYYY-MM-DD HH24:MI:SSOF') AS next_high \
     FROM parent p JOIN span s ON s.inhparent = p.oid JOIN newest n ON n.inhparent = p.oid \
     GROUP BY p.nspname, p.relname, p.has_default, n.high, n.low HAVING NOT bool_or(s.endless) ORDER BY 1, 2"
);

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let covered_s = row.f64("covered_s")?;
        // A table whose last partition ended long ago is an archive that nobody inserts into.
        let archive = covered_s < 0.0 && -covered_s > (10.0 * row.f64("width_s")?).max(7.0 * 86_400.0);
        if archive || scene.grade("covered", covered_s / 86_400.0).is_none() {
            continue;
        }
        if let Some(severity) = scene.grade("future", row.f64("future")?) {
            findings.push(finding(severity, row, covered_s)?);
        }
    }
    Ok(Verdict::of(findings))
}

fn finding(severity: Severity, row: Row<'_>, covered_s: f64) -> Result<Finding, RowError> {
    let table = quote::qualified(row.str("schema")?, row.str("name")?);
    let has_default = row.bool("has_default")?;
    let title = match covered_s < 0.0 {
        true => format!("{table} has no partition for now: the last one ended {} ago", human_seconds(-covered_s)),
        false => format!(
            "{table} has {} partitions for the time to come and ends in {}",
            row.i64("future")?,
            human_seconds(covered_s)
        ),
    };
    let detail = match has_default {
        true => {
            "After that, new rows go to the default partition and stand in the way of the partition they belong to."
        }
        false => "After that, every INSERT of a new row fails.",
    };
    let advice = format!(
        "CREATE TABLE … PARTITION OF {table} FOR VALUES FROM ('{}') TO ('{}'), and so on; it takes ACCESS EXCLUSIVE on {table} for \
         an instant{}",
        row.str("next_low")?,
        row.str("next_high")?,
        if has_default { " and scans the default partition" } else { "" }
    );
    // Rows are caught by a default partition, so nothing fails yet.
    let severity = if has_default { severity.min(Severity::Warn) } else { severity };
    Ok(Finding::new(severity, table.as_str(), title)
        .detail(detail)
        .measured("future partitions", row.i64("future")?, "partitions")
        .measured("covered", covered_s, "s")
        .measured("width of the newest", row.f64("width_s")?, "s")
        .measured("partitions", row.i64("partitions")?, "partitions")
        .fix(Plan::advice(advice)))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    /// A table with `parts` daily partitions, the first beginning `first` days from today.
    fn daily(on: &Stage, name: &str, first: i32, parts: i32) {
        on.sql(&format!(
            "CREATE TABLE {name}(at timestamptz) PARTITION BY RANGE (at); DO $$ BEGIN FOR d IN {first}..{first} + {parts} - 1 LOOP \
             EXECUTE format('CREATE TABLE %I PARTITION OF {name} FOR VALUES FROM (%L) TO (%L)', '{name}' || (d - {first}), \
             current_date + d, current_date + d + 1); END LOOP; END $$"
        ));
    }

    #[test]
    fn counts_the_partitions_for_the_time_to_come() {
        seeded(&CHECK, |on| {
            daily(on, "last_day", -2, 3);
            daily(on, "one_left", -2, 4);
            daily(on, "enough", -2, 8);
            daily(on, "over", -4, 3);
            daily(on, "caught", -2, 3);
            daily(on, "archive", -900, 3);
            on.sql(
                "CREATE TABLE caught_default PARTITION OF caught DEFAULT; CREATE TABLE endless(at date) PARTITION BY RANGE (at); \
                 CREATE TABLE endless1 PARTITION OF endless FOR VALUES FROM ('2020-01-01') TO (MAXVALUE); \
                 CREATE TABLE n(id int) PARTITION BY RANGE (id); CREATE TABLE n1 PARTITION OF n FOR VALUES FROM (1) TO (10); \
                 CREATE TABLE none(at date) PARTITION BY RANGE (at)",
            );
            let holder = on.session("postgres");
            on.run_in(&holder, "BEGIN; LOCK public.last_day, public.over");
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| (f.object.as_str(), f.severity.word())).collect::<Vec<_>>(),
                [
                    ("public.last_day", "crit"),
                    ("public.over", "crit"),
                    ("public.caught", "warn"),
                    ("public.one_left", "warn")
                ]
            );
        });
    }
}
