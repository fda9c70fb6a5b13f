use crate::{
    index::{drop_advice, drop_plan, estimated_bytes, size},
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    user_objects::user_schema,
    verdict::{Judged, Verdict},
};
use std::cmp::Reverse;
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::{Row, RowError, Rows, quote};

/// Indexes with the same columns are sought first, which is cheap and leaves few to be compared in full.
/// `$nulls` says whether a unique index treats NULLs as equal; two that differ in it are still copies for reading.
macro_rules! copies {
    ($nulls:literal) => {
        concat!(
            "SELECT n.nspname AS schema, t.relname AS table_name, c.relname AS name, g.grp, g.index_oid, c.relkind = 'I' AS partitioned, \
             i.indisunique AND i.indimmediate AS is_unique, i.indisunique AS claims_unique, ",
            $nulls,
            " AS equal_nulls, i.indisreplident OR i.indisclustered AS marked, c.reltablespace <> 0 AS elsewhere, \
             i.indexrelid IN (SELECT conindid FROM pg_constraint) AS bound, pg_stat_get_numscans(c.oid) AS scans, ",
            estimated_bytes!("c"),
            " AS bytes, pg_get_indexdef(c.oid) AS definition \
             FROM (SELECT i.indexrelid AS index_oid, min(i.indexrelid::bigint) OVER same AS grp, count(*) OVER same AS copies \
               FROM (SELECT indrelid, indkey::int2[] AS keys FROM pg_index GROUP BY indrelid, indkey::int2[] HAVING count(*) > 1) twins \
               JOIN pg_index i ON i.indrelid = twins.indrelid AND i.indkey::int2[] = twins.keys \
               JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE i.indisvalid AND i.indisready AND NOT i.indisexclusion AND NOT c.relispartition AND ",
            user_schema!("n"),
            " WINDOW same AS (PARTITION BY i.indrelid, i.indkey::int2[], i.indnkeyatts, c.relam, i.indclass, i.indcollation, \
               i.indoption::int2[], pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid))) g \
             JOIN pg_index i ON i.indexrelid = g.index_oid JOIN pg_class c ON c.oid = i.indexrelid \
             JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE g.copies > 1 ORDER BY g.grp, g.index_oid"
        )
    };
}

pub static CHECK: Check = Check {
    id: "idx.duplicate",
    title: "two indexes are the same",
    inspects: "pg_index: access method, keys, operator classes, collations, sort order, included columns and predicate",
    why: "Both copies are written at every change and take memory and disk, and only one of them is ever of use.",
    remedy: "Drop the copy that no constraint stands on; the younger one where neither carries a constraint.",
    source: "splinter 0009 duplicate_index; pg-index-health duplicated_indexes",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Query(&[Sql::since(15, copies!("i.indnullsnotdistinct")), Sql::until(14, copies!("false"))], judge),
};

/// One of several equal indexes.
struct Copy {
    group: i64,
    index_oid: i64,
    name: String,
    table: String,
    /// It enforces uniqueness at once.
    unique: bool,
    /// It enforces uniqueness at once or at the end of the transaction.
    claims_unique: bool,
    equal_nulls: bool,
    /// A constraint stands on it.
    bound: bool,
    /// It is the replica identity, or the order of CLUSTER.
    marked: bool,
    /// DROP INDEX CONCURRENTLY and its undo do not do for it: partitioned, or in a tablespace of its own.
    special: bool,
    scans: i64,
    bytes: f64,
    definition: String,
}

impl Copy {
    fn read(row: Row<'_>) -> Result<Self, RowError> {
        let schema = row.str("schema")?;
        Ok(Self {
            group: row.i64("grp")?,
            index_oid: row.i64("index_oid")?,
            name: quote::qualified(schema, row.str("name")?),
            table: quote::qualified(schema, row.str("table_name")?),
            unique: row.bool("is_unique")?,
            claims_unique: row.bool("claims_unique")?,
            equal_nulls: row.bool("equal_nulls")?,
            bound: row.bool("bound")?,
            marked: row.bool("marked")?,
            special: row.bool("partitioned")? || row.bool("elsewhere")?,
            scans: row.i64("scans")?,
            bytes: row.f64("bytes")?,
            definition: row.text("definition")?,
        })
    }

    /// Would the table lose a promise if this one went and `kept` stayed?
    fn is_covered_by(&self, kept: &Copy) -> bool {
        !self.claims_unique || (kept.unique && kept.equal_nulls == self.equal_nulls)
    }
}

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let copies: Vec<Copy> = rows.iter().map(Copy::read).collect::<Result<_, _>>()?;
    let mut findings = Vec::new();
    for group in copies.chunk_by(|a, b| a.group == b.group) {
        let mut ranked: Vec<&Copy> = group.iter().collect();
        ranked.sort_by_key(|copy| {
            (
                Reverse(copy.bound && copy.unique),
                Reverse(copy.bound),
                Reverse(copy.marked),
                Reverse(copy.unique),
                copy.index_oid,
            )
        });
        let kept = ranked[0];
        findings.extend(ranked[1..].iter().filter(|copy| copy.is_covered_by(kept)).map(|copy| finding(copy, kept)));
    }
    Ok(Verdict::of(findings))
}

fn finding(copy: &Copy, kept: &Copy) -> Finding {
    let (name, other) = (&copy.name, &kept.name);
    let effect = format!("writes to {} keep one index less; {other} answers the same queries", copy.table);
    let plan = if copy.bound {
        Plan::advice(format!(
            "a constraint stands on {name} too; see which of the two constraints is not needed and drop that one"
        ))
    } else if copy.marked {
        Plan::advice(format!(
            "{name} is the table's replica identity or CLUSTER order; move that to {other}, then drop {name}"
        ))
    } else if copy.special {
        drop_advice(name, &copy.definition, "it is partitioned or lies in a tablespace of its own, so look first")
    } else {
        drop_plan(name, &copy.definition, &effect)
    };
    Finding::warn(name, format!("{name} is a copy of {other} ({})", size(copy.bytes)))
        .detail("Every write to the table maintains both, and one would do.")
        .saw("kept", other.as_str())
        .saw("definition", copy.definition.as_str())
        .measured("estimated size", copy.bytes, "bytes")
        .measured("scans", copy.scans, "scans")
        .measured("scans of the kept one", kept.scans, "scans")
        .fix(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_the_copy_that_no_constraint_needs() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE t(id int PRIMARY KEY, a int, b text, c int UNIQUE); CREATE INDEX t_id ON t(id); CREATE INDEX old_a ON t(a); \
                 CREATE INDEX new_a ON t(a); CREATE INDEX desc_a ON t(a DESC); CREATE INDEX part_a ON t(a) WHERE a > 0; \
                 CREATE INDEX hash_a ON t USING hash(a); CREATE INDEX incl_a ON t(a) INCLUDE (b); CREATE INDEX low ON t(lower(b)); \
                 CREATE INDEX up ON t(upper(b)); CREATE INDEX b_c ON t(b COLLATE \"C\"); CREATE INDEX b_p ON t(b text_pattern_ops); \
                 CREATE UNIQUE INDEX c_again ON t(c); CREATE TABLE r(c int REFERENCES t(c))",
            );
            let found = on.findings();
            let seen: Vec<_> = found.iter().map(|f| f.key.as_str()).collect();
            let copies = ["c_again", "new_a", "t_id"].map(|name| format!("idx.duplicate:postgres/public.{name}"));
            assert_eq!(seen, copies);
            let step = &found[1].fix.as_ref().unwrap().steps[0];
            let surus_core::plan::Action::Sql { sql, .. } = &step.action else { panic!() };
            let surus_core::plan::Undo::Sql { sql: undo } = &step.undo else { panic!() };
            assert_eq!(sql, "DROP INDEX CONCURRENTLY public.new_a");
            on.sql(sql);
            assert_eq!(on.findings().len(), 2);
            on.sql(undo);
            assert_eq!(on.findings().len(), 3);
        });
    }

    #[test]
    fn a_promise_of_uniqueness_is_never_given_up() {
        seeded(&CHECK, |on| {
            on.sql("CREATE TABLE t(a int, b int, UNIQUE (a) DEFERRABLE); CREATE UNIQUE INDEX at_once ON t(a)");
            assert!(on.findings().is_empty());
        });
    }
}
