use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    user_objects::user_schema,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
    size::human_count,
};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "lo.orphans",
    title: "large objects that no row can reference",
    inspects: "pg_largeobject_metadata against the estimated rows of all tables with a column of type oid or lo",
    why: "Deleting a row does not delete the large object that its oid names. What nobody references stays for ever, in every \
          backup and every upgrade.",
    remedy: "vacuumlo removes large objects that no oid column names; a trigger with lo_manage, or bytea instead, avoids new ones.",
    source: "PostgreSQL's vacuumlo; pgEdge pg-healthcheck. surus reads no table: it counts how many references there can be",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::warn_above("orphans", "large objects", 1000.0)],
    look: Look::Query(&[Sql::all(SQL)], judge),
};

/// Each row of a table with `oid` columns can name as many large objects as it has such columns. An unanalysed table
/// counts as unknown.
const SQL: &str = concat!(
    "SELECT (SELECT count(*) FROM (SELECT FROM pg_largeobject_metadata LIMIT 1000000) lo) AS objects, \
       count(*) AS columns, coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint AS references, \
       count(*) FILTER (WHERE c.reltuples < 0 OR (c.reltuples = 0 AND c.relpages = 0 AND pg_stat_get_live_tuples(c.oid) > 0)) AS unanalysed, \
       (array_agg(n.nspname || '.' || c.relname || '.' || a.attname ORDER BY c.reltuples DESC))[1:10] AS names \
     FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = a.atttypid \
     WHERE a.attrelid >= 16384 AND c.relkind IN ('r', 'm') AND a.attnum > 0 AND NOT a.attisdropped AND (t.oid = 'oid'::regtype OR t.typbasetype = 'oid'::regtype) AND ",
    user_schema!("n")
);

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    let (objects, references) = (row.i64("objects")?, row.i64("references")?);
    if scene.grade("orphans", objects as f64).is_none() {
        return Ok(Verdict::ok());
    }
    let columns = row.i64("columns")?;
    if row.i64("unanalysed")? > 0 {
        return Ok(Verdict::unknown(Reason::Statistics(
            "tables with oid columns were never analysed, so nobody knows how many rows they have: ANALYZE".into(),
        )));
    }
    let orphans = objects - references;
    if scene.grade("orphans", orphans as f64).is_none() {
        return Ok(Verdict::unknown(Reason::Timeout(format!(
            "{} rows may reference {} large objects; only reading them all can tell, as vacuumlo -n does",
            human_count(references),
            human_count(objects)
        ))));
    }
    let database = scene.database.unwrap_or("…");
    let advice = format!(
        "vacuumlo -n -v {0} counts them, vacuumlo {0} removes them. It knows columns of type oid and lo only: an application that \
         keeps their numbers as bigint or text would lose data",
        shell(database)
    );
    let at_least = if objects >= 1_000_000 { "at least " } else { "" };
    Ok(Verdict::one(
        Finding::info(
            "",
            format!("about {} of {at_least}{} large objects are orphans", human_count(orphans), human_count(objects)),
        )
        .detail(match columns {
            0 => "No table has a column that could name a large object.".to_owned(),
            columns => format!(
                "{columns} columns could name one, but their tables have fewer rows than there are large objects."
            ),
        })
        .measured("large objects", objects, "large objects")
        .measured("rows that could name one, estimated", references, "rows")
        .saw("columns of type oid", row.list("names")?)
        .fix(Plan::advice(advice)),
    ))
}

fn shell(name: &str) -> String {
    if name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
        name.into()
    } else {
        quote::literal(name)
    }
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn counts_what_no_row_can_name() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE doc(id int, body oid); SELECT lo_create(0) FROM generate_series(1, 1500); \
                 INSERT INTO doc SELECT 1, oid FROM pg_largeobject_metadata LIMIT 100; ANALYZE doc",
            );
            let found = on.findings();
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("lo.orphans:postgres", "info"));
            assert!(found[0].title.contains("about 1 400 of 1 500"), "{}", found[0].title);
            on.sql("INSERT INTO doc SELECT 1, oid FROM pg_largeobject_metadata; ANALYZE doc");
            assert_eq!(on.report().unknown[0].reason.kind(), "timeout");
            on.sql("SELECT lo_unlink(oid) FROM pg_largeobject_metadata");
            assert_eq!(on.findings(), []);
        });
    }
}
