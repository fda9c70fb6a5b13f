use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope, Threshold},
    scene::Scene,
    user_objects::{no_extension_owns, user_schema},
    user_rows::{self, Read},
    verdict::{Trouble, Verdict},
    widening,
};
use std::{collections::BTreeMap, time::Duration};
use surus_core::{
    finding::{Finding, Reason},
    plan::{Lock, Plan, Step},
    size::human_count,
};
use surus_pg::{Row, RowError, quote};

pub static CHECK: Check = Check {
    id: "seq.exhaust",
    title: "a sequence is running out of values",
    inspects: "pg_sequence, pg_depend and pg_attribute for the limits, last_value of each sequence (ACCESS SHARE, 50 at a time)",
    why: "A serial or identity column of type integer ends at 2147483647. The next INSERT then fails, and every one after \
          it, until the column has been made wider, which takes hours on a large table.",
    remedy: "Make the column (and every column that references it) bigint while there is time. Where only the sequence is \
             narrower than its column, ALTER SEQUENCE … AS bigint is instant.",
    source: "check_pgactivity sequences_exhausted; pg-index-health sequence overflow",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("used", "%", 75.0, 90.0)],
    look: Look::Custom(look),
};

/// Each sequence with the narrowest column it feeds, as identity or by a default; those likeliest to be used up first.
const SEQUENCES: &str = concat!(
    "WITH fed AS ( \
       SELECT d.objid AS seq, d.refobjid AS relid, d.refobjsubid::smallint AS attnum, true AS identity \
       FROM pg_depend d JOIN pg_sequence q ON q.seqrelid = d.objid \
       WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i' AND d.refobjsubid > 0 \
       UNION ALL SELECT d.refobjid, ad.adrelid, ad.adnum, false FROM pg_depend d JOIN pg_attrdef ad ON ad.oid = d.objid \
       JOIN pg_sequence q ON q.seqrelid = d.refobjid \
       WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass), \
     fed_type AS (SELECT f.*, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END AS type \
       FROM fed f JOIN pg_attribute a ON a.attrelid = f.relid AND a.attnum = f.attnum AND NOT a.attisdropped \
       JOIN pg_type t ON t.oid = a.atttypid), \
     narrowest AS (SELECT DISTINCT ON (seq) seq, relid, attnum, identity, CASE type WHEN 'int2'::regtype THEN 32767 \
       WHEN 'int4'::regtype THEN 2147483647 ELSE 9223372036854775807 END AS most \
       FROM fed_type ORDER BY seq, most, identity DESC, relid), \
     likeliest AS (SELECT q.*, w.relid, w.attnum, w.identity, w.most, s.relname, n.oid AS schema_oid, n.nspname, \
         count(*) OVER () AS sequences, least(q.seqmax, coalesce(w.most, q.seqmax)) > 4611686018427387903 AS wide, \
         greatest(tc.reltuples, pg_stat_get_tuples_inserted(w.relid)) / least(q.seqmax, coalesce(w.most, q.seqmax))::float8 AS filled \
       FROM pg_sequence q JOIN pg_class s ON s.oid = q.seqrelid JOIN pg_namespace n ON n.oid = s.relnamespace \
       LEFT JOIN narrowest w ON w.seq = s.oid LEFT JOIN pg_class tc ON tc.oid = w.relid \
       WHERE s.relpersistence <> 't' AND (s.relpersistence = 'p' OR NOT pg_is_in_recovery()) AND ",
    user_schema!("n"),
    " AND ",
    no_extension_owns!("pg_class", "s.oid"),
    " ORDER BY wide, filled DESC NULLS FIRST, q.seqrelid LIMIT 2000) \
     SELECT l.seqrelid::bigint AS seq, l.nspname AS schema, l.relname AS name, l.seqstart, l.seqincrement, l.seqmin, l.seqmax, l.seqcycle, \
       format_type(l.seqtypid, NULL) AS seqtype, l.relid::bigint AS relid, l.attnum, a.attname, l.identity, l.most, l.sequences, \
       tn.nspname AS table_schema, tc.relname AS table_name, \
       has_schema_privilege(l.schema_oid, 'USAGE') AND has_sequence_privilege(l.seqrelid, 'SELECT') AS readable \
     FROM likeliest l LEFT JOIN pg_class tc ON tc.oid = l.relid LEFT JOIN pg_namespace tn ON tn.oid = tc.relnamespace \
     LEFT JOIN pg_attribute a ON a.attrelid = l.relid AND a.attnum = l.attnum \
     ORDER BY l.wide, l.filled DESC NULLS FIRST, l.seqrelid"
);

/// Opening thousands of sequences costs the server about as much as a user's report. So those that are likeliest to be
/// used up come first, narrow ones of much-filled tables, and beyond the first many reading ends after this time.
const BUDGET: Duration = Duration::from_millis(500);

/// A sequence and the column it feeds.
#[derive(Debug, Clone)]
struct Sequence {
    name: String,
    start: i64,
    increment: i64,
    min: i64,
    max: i64,
    cycles: bool,
    type_name: String,
    column: Option<Column>,
}

#[derive(Debug, Clone)]
struct Column {
    relid: i64,
    attnum: i64,
    /// `schema.table.column`
    name: String,
    identity: bool,
    /// The largest value of its type.
    most: i64,
}

/// How far a sequence has come.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Progress {
    percent: f64,
    values_left: i64,
    limit: i64,
}

impl Sequence {
    fn read(row: Row<'_>) -> Result<Self, RowError> {
        let column = match row.opt_i64("relid")? {
            None => None,
            Some(relid) => Some(Column {
                relid,
                attnum: row.i64("attnum")?,
                name: format!(
                    "{}.{}",
                    quote::qualified(row.str("table_schema")?, row.str("table_name")?),
                    quote::ident(row.str("attname")?)
                ),
                identity: row.bool("identity")?,
                most: row.i64("most")?,
            }),
        };
        Ok(Self {
            name: quote::qualified(row.str("schema")?, row.str("name")?),
            start: row.i64("seqstart")?,
            increment: row.i64("seqincrement")?,
            min: row.i64("seqmin")?,
            max: row.i64("seqmax")?,
            cycles: row.bool("seqcycle")?,
            type_name: row.text("seqtype")?,
            column,
        })
    }

    /// The last value it can give: its own end, or its column's if that comes first.
    fn limit(&self) -> i64 {
        let most = self.column.as_ref().map_or(i64::MAX, |column| column.most);
        if self.increment > 0 { self.max.min(most) } else { self.min.max(-most - 1) }
    }

    /// Its end is its own, and the column could hold more.
    fn ends_by_itself(&self) -> bool {
        self.limit() == if self.increment > 0 { self.max } else { self.min }
    }

    /// How far it has come; `None` when it starts over at its end and so never runs out.
    fn progress(&self, last: i64) -> Option<Progress> {
        if self.cycles && self.ends_by_itself() {
            return None;
        }
        let limit = self.limit();
        // A sequence that was moved past its start counts from the usual beginning; one with a negative
        // start from there.
        let (first, last_wide, limit_wide) = (self.beginning(), i128::from(last), i128::from(limit));
        let all = (limit_wide - first).abs().max(1);
        let left = if self.increment > 0 { limit_wide - last_wide } else { last_wide - limit_wide }.max(0);
        let steps = left / i128::from(self.increment).abs().max(1);
        let percent = 100.0 * (1.0 - left as f64 / all as f64);
        Some(Progress { percent: percent.max(0.0), values_left: i64::try_from(steps).unwrap_or(i64::MAX), limit })
    }

    /// The value before the first one.
    fn beginning(&self) -> i128 {
        match self.increment > 0 {
            true => i128::from(self.start.min(self.min.max(1))) - 1,
            false => i128::from(self.start.max(self.max.min(-1))) + 1,
        }
    }

    /// Is its end the end of its integer type, rather than one that somebody chose?
    fn ends_with_type(&self) -> bool {
        let most = match self.type_name.as_str() {
            "smallint" => i64::from(i16::MAX),
            "integer" => i64::from(i32::MAX),
            _ => i64::MAX,
        };
        if self.increment > 0 { self.max == most } else { self.min == -most - 1 }
    }

    fn widen(&self) -> Step {
        let sql = |to: &str| format!("ALTER SEQUENCE {} AS {to}", self.name);
        Step::sql(sql("bigint"), Lock::ShareRowExclusive, format!("{} goes on to 9.2e18", self.name))
            .takes(0.1)
            .undo_sql(sql(&self.type_name))
    }
}

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let rows = access.session.ask(SEQUENCES).await?;
        let (mut sequences, mut items, mut hidden) = (BTreeMap::new(), Vec::new(), 0);
        for row in rows.iter() {
            let sequence = Sequence::read(row)?;
            if !row.bool("readable")? {
                hidden += 1;
                continue;
            }
            let oid = row.i64("seq")?;
            items.push((
                sequence.name.clone(),
                format!("SELECT {oid}::bigint AS seq, last_value, is_called FROM {}", sequence.name),
            ));
            sequences.insert(oid, sequence);
        }
        let Read { answers, failed, left } = user_rows::read(access.session, &items, BUDGET).await?;
        let mut verdict = Verdict::ok();
        for row in answers.iter().flat_map(|rows| rows.iter()) {
            if let Some(sequence) = sequences.get(&row.i64("seq")?)
                && row.bool("is_called")?
            {
                verdict.findings.extend(finding(scene, access, sequence, row.i64("last_value")?).await?);
            }
        }
        if hidden > 0 {
            let grant =
                format!("{hidden} sequences are not readable: GRANT pg_read_all_data TO {}", scene.facts.role.name);
            verdict = verdict.but_unknown("sequences without SELECT", Reason::Privilege(grant));
        }
        let all = rows.iter().next().map_or(Ok(0), |row| row.i64("sequences"))?;
        let unread = all - rows.len() as i64 + left as i64;
        if unread > 0 {
            let text = format!("{unread} of {all} sequences were not read; their tables are the least filled");
            verdict = verdict.but_unknown("sequences of the least filled tables", Reason::Timeout(text));
        }
        Ok(failed.into_iter().fold(verdict, |verdict, (name, reason)| verdict.but_unknown(name, reason)))
    })
}

async fn finding(
    scene: &Scene<'_>,
    access: Access<'_>,
    sequence: &Sequence,
    last: i64,
) -> Result<Option<Finding>, Trouble> {
    let Some(progress) = sequence.progress(last) else { return Ok(None) };
    let Some(severity) = scene.grade("used", progress.percent) else { return Ok(None) };
    let what = sequence.column.as_ref().map_or(&sequence.name, |column| &column.name);
    let title = format!(
        "{what} has used {:.1} % of its values; {} are left",
        progress.percent,
        human_count(progress.values_left)
    );
    let mut finding = Finding::new(severity, sequence.name.as_str(), title)
        .detail(match &sequence.column {
            Some(column) => {
                format!("When {} is reached, every INSERT into its table that asks for a new value fails.", column.name)
            }
            None => "When the end is reached, nextval fails for everybody.".to_owned(),
        })
        .measured("used", progress.percent, "%")
        .saw("last value", last)
        .saw("limit", progress.limit)
        .measured("values left", progress.values_left, "values")
        .saw("increment", sequence.increment)
        .saw("type of the sequence", sequence.type_name.as_str());
    if let Some(column) = &sequence.column
        && let Some(days) = days_left(access, column.relid, progress.values_left).await?
    {
        finding = finding.measured("time left at the average rate since statistics were reset", days * 86_400.0, "s");
    }
    Ok(Some(finding.fix(fix(access, sequence).await?)))
}

/// How long the values last at the table's average insert rate; `None` without a day of statistics.
async fn days_left(access: Access<'_>, relid: i64, values_left: i64) -> Result<Option<f64>, Trouble> {
    let sql = format!(
        "SELECT pg_stat_get_tuples_inserted({relid}) AS inserted, extract(epoch FROM now() - coalesce((SELECT stats_reset \
         FROM pg_stat_database WHERE datname = current_database()), (SELECT stats_reset FROM pg_stat_bgwriter))) / 86400 AS days"
    );
    let rows = access.session.ask(&sql).await?;
    let row = rows.first()?;
    let (inserted, days) = (row.opt_f64("inserted")?.unwrap_or(0.0), row.opt_f64("days")?.unwrap_or(0.0));
    Ok((inserted > 0.0 && days >= 1.0).then(|| values_left as f64 / (inserted / days)))
}

async fn fix(access: Access<'_>, sequence: &Sequence) -> Result<Plan, Trouble> {
    let name = &sequence.name;
    let narrow_type = sequence.type_name != "bigint" && sequence.ends_with_type();
    if !sequence.ends_by_itself() || (narrow_type && sequence.column.as_ref().is_some_and(|c| c.most < i64::MAX)) {
        // The column's type is the limit; an identity column takes its sequence along.
        if let Some(column) = &sequence.column
            && let Some((key, references)) = widening::columns(access.session, column.relid, column.attnum).await?
        {
            let before = if narrow_type && !column.identity { vec![sequence.widen()] } else { Vec::new() };
            return Ok(widening::plan(&key, &references, before));
        }
    }
    if narrow_type {
        return Ok(Plan::one(format!("make {name} a bigint sequence"), sequence.widen()));
    }
    let (bound, far) =
        if sequence.increment > 0 { ("MAXVALUE", "a larger value") } else { ("MINVALUE", "a smaller value") };
    Ok(Plan::advice(format!(
        "the end of {name} was set on purpose; if more values are meant, ALTER SEQUENCE {name} {bound} … with {far}, or ALTER \
         SEQUENCE {name} NO {bound}"
    )))
}

#[cfg(test)]
mod tests {
    use super::{CHECK, Column, Sequence};
    use crate::testing::*;
    use surus_core::plan::Action;

    check_tests!(CHECK);

    fn sequence(start: i64, increment: i64, min: i64, max: i64, most: Option<i64>) -> Sequence {
        let column = most.map(|most| Column { relid: 1, attnum: 1, name: "t.id".into(), identity: false, most });
        Sequence { name: "s".into(), start, increment, min, max, cycles: false, type_name: "integer".into(), column }
    }

    #[test]
    fn progress_knows_direction_start_and_the_columns_limit() {
        let int4 = i64::from(i32::MAX);
        let percent = |sequence: &Sequence, last| sequence.progress(last).unwrap().percent.round();
        assert_eq!(percent(&sequence(1, 1, 1, int4, None), int4 / 2), 50.0);
        assert_eq!(percent(&sequence(1, 1, 1, i64::MAX, Some(int4)), int4 / 4 * 3), 75.0);
        assert_eq!(percent(&sequence(-1, -1, -int4 - 1, -1, None), -int4 / 2), 50.0);
        assert_eq!(percent(&sequence(-int4, 1, -int4, int4, None), 0), 50.0);
        assert_eq!(sequence(1, 10, 1, 100, None).progress(50).unwrap().values_left, 5);
        assert_eq!(percent(&sequence(1, 1, 1, int4, Some(i64::MAX)), int4), 100.0);
        let mut cycling = sequence(1, 1, 1, 100, None);
        cycling.cycles = true;
        assert_eq!(cycling.progress(99), None);
        let mut cycling = sequence(1, 1, 1, i64::MAX, Some(int4));
        cycling.cycles = true;
        assert_eq!(cycling.progress(int4).unwrap().percent.round(), 100.0);
    }

    /// Runs the SQL of a finding's plan.
    fn apply(on: &Stage, finding: &surus_core::finding::Finding) {
        for step in &finding.fix.as_ref().unwrap().steps {
            match &step.action {
                Action::Sql { sql, .. } => on.sql(sql),
                other => panic!("not applicable: {other:?}"),
            }
        }
    }

    #[test]
    fn sees_serial_identity_and_a_sequence_narrower_than_its_column() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE a(id serial PRIMARY KEY); CREATE TABLE child(a_id int REFERENCES a); \
                 SELECT setval('a_id_seq', 2000000000); \
                 CREATE TABLE b(id int GENERATED ALWAYS AS IDENTITY); SELECT setval('b_id_seq', 1700000000); \
                 CREATE TABLE c(id serial PRIMARY KEY); ALTER TABLE c ALTER id TYPE bigint; SELECT setval('c_id_seq', 2147483647); \
                 CREATE SEQUENCE wide; CREATE TABLE d(id smallint DEFAULT nextval('wide')); SELECT setval('wide', 32000); \
                 CREATE SEQUENCE round AS smallint CYCLE; SELECT setval('round', 32767); \
                 CREATE SEQUENCE down AS smallint INCREMENT -1; SELECT setval('down', -30000); \
                 CREATE TABLE fresh(id serial); INSERT INTO fresh DEFAULT VALUES; CREATE SEQUENCE chosen MAXVALUE 10; SELECT setval('chosen', 9)",
            );
            let found = on.findings();
            let seen: Vec<_> = found.iter().map(|f| (f.object.as_str(), f.severity.word())).collect();
            assert_eq!(
                seen,
                [
                    ("public.a_id_seq", "crit"),
                    ("public.c_id_seq", "crit"),
                    ("public.chosen", "crit"),
                    ("public.down", "crit"),
                    ("public.wide", "crit"),
                    ("public.b_id_seq", "warn"),
                ]
            );
            assert_eq!(found[0].key, "seq.exhaust:postgres/public.a_id_seq");
            assert!(found[0].title.starts_with("public.a.id has used 93.1 %"), "{}", found[0].title);
            assert!(!found[2].fix.as_ref().unwrap().is_applicable());
            for finding in found.iter().filter(|finding| finding.object != "public.chosen") {
                apply(on, finding);
            }
            let left = on.findings();
            assert_eq!(left.iter().map(|f| f.object.as_str()).collect::<Vec<_>>(), ["public.chosen"]);
            let narrow = "SELECT count(*) AS v FROM pg_attribute WHERE attrelid = 'public.child'::regclass AND atttypid = 'int8'::regtype";
            assert_eq!(on.server.value(narrow), "1", "the referencing column is widened too");
        });
    }

    #[test]
    fn a_locked_sequence_hides_no_other() {
        seeded(&CHECK, |on| {
            on.sql("CREATE SEQUENCE locked AS smallint; CREATE SEQUENCE open AS smallint; SELECT setval('open', 32000); SELECT setval('locked', 32000)");
            on.server.expect_log("canceling statement due to lock timeout");
            let holder = on.session("postgres");
            on.run_in(&holder, "BEGIN; DROP SEQUENCE public.locked");
            let report = on.report();
            assert_eq!(report.findings.iter().map(|f| f.object.as_str()).collect::<Vec<_>>(), ["public.open"]);
            assert_eq!(report.unknown[0].reason.kind(), "locked");
        });
    }

    #[test]
    fn an_unreadable_sequence_is_unknown() {
        seeded(&CHECK, |on| {
            on.sql("CREATE SEQUENCE s AS smallint; SELECT setval('s', 32000); CREATE ROLE plain LOGIN");
            on.server.expect_log("permission denied");
            let report = on.report_of(&on.server.dsn_as("plain", "", "postgres"));
            assert_eq!(report.unknown[0].reason.kind(), "privilege");
        });
    }
}
