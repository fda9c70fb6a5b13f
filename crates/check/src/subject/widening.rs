//! The plan that makes an integer key wide enough: by a rewrite where the tables are small, else by steps for a person.

use crate::verdict::Trouble;
use surus_core::plan::{Interruption, Lock, Plan, Step};
use surus_core::size::Bytes;
use surus_pg::{Session, quote};

/// Up to this estimated size, all tables together, a rewrite under ACCESS EXCLUSIVE is proposed: about four seconds.
const REWRITE_BYTES: i64 = 200 * 1024 * 1024;
/// How fast a table is rewritten, its indexes included; a cautious round figure for a small server.
pub(crate) const BYTES_PER_SECOND: f64 = 50.0 * 1024.0 * 1024.0;

/// A column that has to become bigint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Column {
    pub schema: String,
    pub table: String,
    pub column: String,
    /// `integer` or `smallint`.
    pub type_name: String,
    /// Estimated size of the table and its indexes, partitions included.
    pub bytes: i64,
    /// Views, triggers or policies name the column; ALTER TYPE is refused until they are dropped.
    pub pinned: bool,
}

impl Column {
    /// Is it the column that the row names?
    pub(crate) fn is(&self, row: surus_pg::Row<'_>, schema: &str, table: &str, column: &str) -> bool {
        let same = |name: &str, own: &str| row.str(name).is_ok_and(|value| value == own);
        same(schema, &self.schema) && same(table, &self.table) && same(column, &self.column)
    }

    fn table_name(&self) -> String {
        quote::qualified(&self.schema, &self.table)
    }

    fn step(&self) -> Step {
        let (table, column) = (self.table_name(), quote::ident(&self.column));
        let sql = |to: &str| format!("ALTER TABLE {table} ALTER COLUMN {column} TYPE {to}");
        Step::sql(sql("bigint"), Lock::AccessExclusive, format!("{table}.{column} holds values up to 9.2e18"))
            .interrupts(Interruption::Rewrite)
            .takes((self.bytes as f64 / BYTES_PER_SECOND).max(0.1))
            .undo_sql(sql(&self.type_name))
    }

    /// The steps that widen it while the application goes on.
    fn online(&self) -> Vec<Step> {
        let (table, column) = (self.table_name(), quote::ident(&self.column));
        let wide = quote::ident(&format!("{}_wide", self.column));
        [
            format!("ALTER TABLE {table} ADD COLUMN {wide} bigint (instant)"),
            format!(
                "create a BEFORE INSERT OR UPDATE trigger on {table} that sets NEW.{wide} := NEW.{column}, then fill the old \
                 rows in batches of some 10000: UPDATE {table} SET {wide} = {column} WHERE {column} BETWEEN … AND … AND {wide} IS NULL"
            ),
            format!(
                "ALTER TABLE {table} ADD CHECK ({wide} IS NOT NULL) NOT VALID, VALIDATE it, and CREATE UNIQUE INDEX CONCURRENTLY \
                 on {table} ({wide}) if {column} is a key"
            ),
            format!(
                "in one short transaction with lock_timeout = '2s': drop the trigger, swap the names of {column} and {wide}, move \
                 default, key and foreign keys (NOT VALID, validated later) over, COMMIT; drop the old column afterwards"
            ),
        ]
        .map(Step::manual)
        .into()
    }
}

/// The plan. `key` is the column that is filled, `references` the columns that point to it, `before` what has to be
/// done before (a sequence's type).
pub(crate) fn plan(key: &Column, references: &[Column], before: Vec<Step>) -> Plan {
    let all: Vec<&Column> = references.iter().chain([key]).collect();
    let bytes: i64 = all.iter().map(|column| column.bytes).sum();
    let summary = format!("make {}.{} a bigint", key.table_name(), quote::ident(&key.column));
    let mut steps = before;
    if bytes <= REWRITE_BYTES && !all.iter().any(|column| column.pinned) {
        steps.extend(all.iter().map(|column| column.step()));
        return Plan::new(summary, steps);
    }
    let why = match all.iter().find(|column| column.pinned) {
        Some(column) => format!(
            "{}.{} is named by a view, a trigger or a policy, which must be dropped and made again around ALTER COLUMN … TYPE bigint",
            column.table_name(),
            quote::ident(&column.column)
        ),
        None => format!(
            "about {} would be rewritten under ACCESS EXCLUSIVE; do it beside the running application",
            Bytes(bytes.max(0) as u64)
        ),
    };
    steps.push(Step::manual(why));
    for column in all {
        steps.extend(column.online());
    }
    Plan::new(summary, steps)
}

/// Size and obstacles of the column `attnum` of `table`, and the narrow columns that reference it; catalogs only.
///
/// The first is the key itself. `None` when the column is gone.
///
/// # Errors
/// What the server refuses.
pub(crate) async fn columns(
    session: &Session,
    table: i64,
    attnum: i64,
) -> Result<Option<(Column, Vec<Column>)>, Trouble> {
    let rows = session.ask(&columns_sql(table, attnum)).await?;
    let mut all = Vec::new();
    for row in rows.iter() {
        all.push(Column {
            schema: row.text("schema")?,
            table: row.text("name")?,
            column: row.text("attname")?,
            type_name: row.text("type")?,
            bytes: row.i64("bytes")?,
            pinned: row.bool("pinned")?,
        });
    }
    if all.is_empty() {
        return Ok(None);
    }
    let key = all.remove(0);
    Ok(Some((key, all)))
}

fn columns_sql(table: i64, attnum: i64) -> String {
    format!(
        "WITH RECURSIVE wanted(ord, relid, attnum) AS ( \
           SELECT 0, {table}::oid, {attnum}::smallint \
           UNION SELECT 1, k.conrelid, k.conkey[array_position(k.confkey, {attnum}::smallint)] FROM pg_constraint k \
           WHERE k.contype = 'f' AND k.confrelid = {table}::oid AND {attnum}::smallint = ANY (k.confkey) AND k.conparentid = 0), \
         tree(root, relid) AS (SELECT relid, relid FROM wanted \
           UNION SELECT t.root, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.relid), \
         size AS (SELECT t.root, sum(c.relpages::bigint + coalesce(x.pages, 0)) * current_setting('block_size')::bigint AS bytes \
           FROM tree t JOIN pg_class c ON c.oid = t.relid LEFT JOIN LATERAL (SELECT sum(ic.relpages::bigint) AS pages \
           FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid) x ON true GROUP BY t.root) \
         SELECT n.nspname AS schema, c.relname AS name, a.attname, format_type(a.atttypid, NULL) AS type, \
           coalesce(s.bytes, 0)::bigint AS bytes, EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_class'::regclass \
             AND d.refobjid = c.oid AND d.refobjsubid = a.attnum \
             AND d.classid IN ('pg_rewrite'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass)) AS pinned \
         FROM wanted w JOIN pg_class c ON c.oid = w.relid JOIN pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = w.attnum LEFT JOIN size s ON s.root = c.oid \
         WHERE w.ord = 0 OR a.atttypid IN ('int2'::regtype, 'int4'::regtype) ORDER BY w.ord, n.nspname, c.relname, a.attname"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(bytes: i64, pinned: bool) -> Column {
        let text = String::from;
        Column {
            schema: text("public"),
            table: text("t"),
            column: text("id"),
            type_name: text("integer"),
            bytes,
            pinned,
        }
    }

    #[test]
    fn small_tables_are_rewritten_and_large_or_pinned_ones_are_left_to_a_person() {
        assert!(plan(&column(1 << 20, false), &[], vec![]).is_applicable());
        assert!(!plan(&column(1 << 40, false), &[], vec![]).is_applicable());
        assert!(!plan(&column(1 << 20, false), &[column(0, true)], vec![]).is_applicable());
        assert_eq!(plan(&column(1 << 20, false), &[column(0, false)], vec![]).steps.len(), 2);
    }
}
