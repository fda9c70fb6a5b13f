//! What a table is on one side: columns, keys, triggers, and the foreign keys between tables.

use super::side::Side;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use surus_pg::{
    Row,
    quote::{ident, literal},
};

/// A table's name with its schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    pub schema: String,
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", ident(&self.schema), ident(&self.name))
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// As `format_type` writes it, with its schema where it is not PostgreSQL's own.
    pub type_name: String,
    /// Its value is computed from others.
    pub generated: bool,
    pub identity: bool,
    /// The sequence that gives its values.
    pub sequence: Option<String>,
}

/// A primary key or unique index whose columns are never NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueKey {
    pub primary: bool,
    pub columns: Vec<String>,
}

/// A trigger that somebody made, and whether it fires: the letter of `pg_trigger.tgenabled`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// The table, or a partition of it that has the trigger for itself.
    pub table: TableName,
    pub name: String,
    pub enabled: String,
}

/// A table on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    pub oid: String,
    pub table: TableName,
    pub partitioned: bool,
    pub columns: Vec<Column>,
    /// The best one first.
    pub keys: Vec<UniqueKey>,
    pub triggers: Vec<Trigger>,
}

/// What a foreign key does to a row when the row that it refers to goes or changes its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    Refused,
    Cascade,
    SetNull,
    SetDefault,
}

impl Consequence {
    fn of(letter: &str) -> Self {
        match letter {
            "c" => Self::Cascade,
            "n" => Self::SetNull,
            "d" => Self::SetDefault,
            _ => Self::Refused,
        }
    }
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub name: String,
    pub from: TableName,
    pub columns: Vec<String>,
    pub to: TableName,
    pub to_columns: Vec<String>,
    pub on_delete: Consequence,
    pub on_update: Consequence,
    /// As `ALTER TABLE … ADD CONSTRAINT name` takes it.
    pub definition: String,
}

impl Shape {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// The tables that a name may mean: with a schema that one, else the one of `public`, else every one of that name.
pub async fn named(side: &Side, text: &str) -> Result<Vec<TableName>> {
    let (schema, name) = split(text);
    let of_schema = schema.map_or_else(String::new, |schema| format!(" AND n.nspname = {}", literal(&schema)));
    let rows = side
        .ask(&format!(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relname = {}{of_schema} AND c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_temp\\_%' \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY n.nspname <> 'public', 1",
            literal(&name)
        ))
        .await?;
    let mut found = Vec::new();
    for row in rows.iter() {
        found.push(TableName { schema: row.text("nspname")?, name: row.text("relname")? });
    }
    if found.first().is_some_and(|table| table.schema == "public") {
        found.truncate(1);
    }
    Ok(found)
}

/// Takes a name apart as SQL does: folded to lower case unless it is quoted.
fn split(text: &str) -> (Option<String>, String) {
    let mut parts = vec![String::new()];
    let (mut quoted, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        let last = parts.len() - 1;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => parts[last].extend(chars.next()),
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c if quoted => parts[last].push(c),
            c => parts[last].extend(c.to_lowercase()),
        }
    }
    let name = parts.pop().unwrap_or_default();
    (parts.pop(), name)
}

/// The table on this side; none when it is not there.
pub async fn read(side: &Side, table: &TableName) -> Result<Option<Shape>> {
    let rows = side
        .ask(&format!(
            "SELECT c.oid::text, (c.relkind = 'p') AS partitioned FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = {} AND c.relname = {} AND c.relkind IN ('r', 'p')",
            literal(&table.schema),
            literal(&table.name)
        ))
        .await?;
    let Ok(row) = rows.first() else { return Ok(None) };
    let oid = row.text("oid")?;
    Ok(Some(Shape {
        columns: columns(side, &oid).await?,
        keys: keys(side, &oid).await?,
        triggers: triggers(side, &oid).await?,
        table: table.clone(),
        partitioned: row.bool("partitioned")?,
        oid,
    }))
}

async fn columns(side: &Side, oid: &str) -> Result<Vec<Column>> {
    let rows = side
        .ask(&format!(
            "SELECT attname, format_type(atttypid, atttypmod) AS type, attgenerated <> '' AS generated, \
             attidentity <> '' AS identity, \
             pg_get_serial_sequence({oid}::regclass::text, attname) AS sequence \
             FROM pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        ))
        .await?;
    let one = |row: Row<'_>| {
        Ok(Column {
            name: row.text("attname")?,
            type_name: row.text("type")?,
            generated: row.bool("generated")?,
            identity: row.bool("identity")?,
            sequence: row.opt_str("sequence")?.map(str::to_owned),
        })
    };
    rows.iter().map(one).collect()
}

async fn keys(side: &Side, oid: &str) -> Result<Vec<UniqueKey>> {
    let rows = side
        .ask(&format!(
            "SELECT i.indisprimary, array_agg(a.attname::text ORDER BY k.at) AS columns FROM pg_index i \
             CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, at) \
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
             WHERE i.indrelid = {oid} AND i.indisunique AND i.indisvalid AND i.indpred IS NULL \
             AND i.indexprs IS NULL AND k.at <= i.indnkeyatts \
             GROUP BY i.indexrelid, i.indisprimary, i.indnkeyatts HAVING bool_and(a.attnotnull) \
             ORDER BY NOT i.indisprimary, i.indnkeyatts, i.indexrelid"
        ))
        .await?;
    rows.iter().map(|row| Ok(UniqueKey { primary: row.bool("indisprimary")?, columns: row.list("columns")? })).collect()
}

async fn triggers(side: &Side, oid: &str) -> Result<Vec<Trigger>> {
    let sql = format!(
        "SELECT n.nspname, c.relname, t.tgname, t.tgenabled::text AS enabled FROM pg_trigger t \
         JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE (t.tgrelid = {oid} OR t.tgparentid = 0 AND t.tgrelid IN (SELECT relid FROM pg_partition_tree({oid}))) \
         AND NOT t.tgisinternal ORDER BY 1, 2, 3"
    );
    let rows = side.ask(&sql).await?;
    let one = |row: Row<'_>| {
        let table = TableName { schema: row.text("nspname")?, name: row.text("relname")? };
        Ok(Trigger { table, name: row.text("tgname")?, enabled: row.text("enabled")? })
    };
    rows.iter().map(one).collect()
}

/// All foreign keys of the database; those of partitions are their parent's.
pub async fn references(side: &Side) -> Result<Vec<Reference>> {
    let rows = side
        .ask(
            "SELECT k.conname, fn.nspname AS from_schema, f.relname AS from_name, tn.nspname AS to_schema, \
             t.relname AS to_name, k.confdeltype::text AS on_delete, k.confupdtype::text AS on_update, \
             pg_get_constraintdef(k.oid) AS definition, \
             (SELECT array_agg(a.attname::text ORDER BY u.at) FROM unnest(k.conkey) WITH ORDINALITY u(n, at) \
              JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n) AS columns, \
             (SELECT array_agg(a.attname::text ORDER BY u.at) FROM unnest(k.confkey) WITH ORDINALITY u(n, at) \
              JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n) AS to_columns \
             FROM pg_constraint k JOIN pg_class f ON f.oid = k.conrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace \
             JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace \
             WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY 2, 3, 1",
        )
        .await?;
    let one = |row: Row<'_>| {
        Ok(Reference {
            name: row.text("conname")?,
            from: TableName { schema: row.text("from_schema")?, name: row.text("from_name")? },
            columns: row.list("columns")?,
            to: TableName { schema: row.text("to_schema")?, name: row.text("to_name")? },
            to_columns: row.list("to_columns")?,
            on_delete: Consequence::of(row.str("on_delete")?),
            on_update: Consequence::of(row.str("on_update")?),
            definition: row.text("definition")?,
        })
    };
    rows.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sql_reads_them() {
        assert_eq!(split("Orders"), (None, "orders".into()));
        assert_eq!(split("Shop.\"Big \"\"Orders\"\".x\""), (Some("shop".into()), "Big \"Orders\".x".into()));
        assert_eq!(TableName { schema: "a".into(), name: "B".into() }.to_string(), "a.\"B\"");
    }
}
