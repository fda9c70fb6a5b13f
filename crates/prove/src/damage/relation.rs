//! What a file belongs to: a relation as the catalog names it.

use super::place::Fork;
use serde::Serialize;
use surus_pg::{
    Row, RowError,
    quote::{ident, literal, qualified},
};

/// What a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Table,
    MaterializedView,
    Sequence,
    /// Where a table's long values are.
    Toast,
    Index,
}

/// A table that an index or a TOAST table belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owner {
    pub oid: u32,
    /// A materialized view?
    pub view: bool,
    pub schema: String,
    pub name: String,
}

/// A relation with files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: Kind,
    /// The access method; empty for none.
    pub method: String,
    /// Of the system catalogue, or of its TOAST tables and indexes.
    pub catalogue: bool,
    /// One for all databases.
    pub shared: bool,
    pub unlogged: bool,
    /// The table that it belongs to.
    pub of: Option<Owner>,
    /// The constraint that an index stands for, and its kind as in `pg_constraint.contype`.
    pub constraint: Option<(String, char)>,
    /// Its first file's path below the data directory.
    pub path: String,
}

/// One row for each relation with files; what follows is a condition. Temporary ones of others cannot be read.
pub const RELATIONS: &str = "\
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       coalesce(a.amname, '') AS method, c.relisshared AS shared, c.relpersistence = 'u' AS unlogged,
       coalesce(o.oid, c.oid)::int8 < 16384 OR n.nspname IN ('pg_catalog', 'information_schema') AS catalogue,
       o.oid::int8 AS of, o.relkind = 'm' AS of_view, os.nspname AS of_schema, o.relname AS of_name,
       k.conname AS constraint_name, k.contype::text AS constraint_kind,
       pg_relation_filepath(c.oid) AS path
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_am a ON a.oid = c.relam
  LEFT JOIN pg_index i ON i.indexrelid = c.oid
  LEFT JOIN pg_class o ON CASE c.relkind WHEN 't' THEN o.reltoastrelid = c.oid ELSE o.oid = i.indrelid END
  LEFT JOIN pg_namespace os ON os.oid = o.relnamespace
  LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')
 WHERE c.relkind IN ('r', 't', 'm', 'i', 'S') AND c.relpersistence <> 't'";

impl Relation {
    /// From a row of [`RELATIONS`].
    pub fn of(row: &Row<'_>) -> Result<Self, RowError> {
        let oid = |value: i64| u32::try_from(value).unwrap_or(0);
        let owner = match row.opt_i64("of")? {
            Some(of) => Some(Owner {
                oid: oid(of),
                view: row.bool("of_view")?,
                schema: row.text("of_schema")?,
                name: row.text("of_name")?,
            }),
            None => None,
        };
        let constraint = row.opt_str("constraint_name")?.map(str::to_owned);
        let constraint_kind = row.opt_str("constraint_kind")?.and_then(|kind| kind.chars().next());
        Ok(Self {
            oid: oid(row.i64("oid")?),
            schema: row.text("schema")?,
            name: row.text("name")?,
            kind: match row.str("kind")? {
                "i" => Kind::Index,
                "t" => Kind::Toast,
                "m" => Kind::MaterializedView,
                "S" => Kind::Sequence,
                _ => Kind::Table,
            },
            method: row.text("method")?,
            catalogue: row.bool("catalogue")?,
            shared: row.bool("shared")?,
            unlogged: row.bool("unlogged")?,
            of: owner,
            constraint: constraint.zip(constraint_kind),
            path: row.text("path")?,
        })
    }

    /// The name for SQL.
    pub fn sql(&self) -> String {
        qualified(&self.schema, &self.name)
    }

    /// The condition of [`RELATIONS`] that finds it again.
    pub fn condition(&self) -> String {
        format!(" AND c.oid = {}", self.oid)
    }

    /// The table that it is, or belongs to.
    pub fn table(&self) -> String {
        self.of.as_ref().map_or_else(|| self.sql(), Owner::sql)
    }

    /// For people: what it is and its name.
    pub fn text(&self, fork: Fork) -> String {
        let system = if self.catalogue { "system catalogue " } else { "" };
        let own = match (self.kind, &self.of) {
            (Kind::Toast, Some(of)) => format!("TOAST table of {system}{}", of.sql()),
            (Kind::Toast, None) => format!("TOAST table {}", self.sql()),
            (Kind::Index, Some(of)) => {
                format!("index {} of {}{}", self.sql(), if self.catalogue { system } else { "table " }, of.sql())
            }
            (Kind::Index, None) => format!("index {}", self.sql()),
            (Kind::MaterializedView, _) => format!("materialized view {}", self.sql()),
            (Kind::Sequence, _) => format!("sequence {}", self.sql()),
            (Kind::Table, _) if self.catalogue => format!("{system}{}", self.sql()),
            (Kind::Table, _) => format!("table {}", self.sql()),
        };
        match fork {
            Fork::Main => own,
            Fork::Fsm => format!("free space map of {own}"),
            Fork::Vm => format!("visibility map of {own}"),
            Fork::Init => format!("initial fork of {own}"),
        }
    }
}

impl Owner {
    /// The name for SQL.
    pub fn sql(&self) -> String {
        qualified(&self.schema, &self.name)
    }
}

/// The condition of [`RELATIONS`] for a file.
pub fn with_path(path: &str) -> String {
    format!(" AND pg_relation_filepath(c.oid) = {}", literal(path))
}

/// A database's name as SQL writes it, before a relation's.
pub fn in_database(database: &str, relation: &str) -> String {
    format!("{}: {relation}", ident(database))
}
