//! What must not be seen in a clone is replaced before anybody may connect: by column, the same value by the same value
//! everywhere, so that joins hold, with a key that nobody keeps.

use crate::error::{ProveError, Result};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt};
use surus_core::code;
use surus_pg::{
    Session,
    quote::{ident, literal, qualified},
};

/// How a column is masked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum How {
    Null,
    /// A hash of the value, as far as it fits; of a number a number, of a uuid a uuid.
    Hash,
    Email,
    Name,
    /// Other digits, everything else as it is.
    Digits,
    Constant(String),
    /// An expression over the row's columns.
    Sql(String),
}

impl TryFrom<String> for How {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let quoted =
            |rest: &str| rest.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(rest).to_owned();
        match text.as_str() {
            "null" => Ok(Self::Null),
            "hash" => Ok(Self::Hash),
            "email" => Ok(Self::Email),
            "name" => Ok(Self::Name),
            "digits" => Ok(Self::Digits),
            other => match other.split_once(':') {
                Some(("constant", value)) => Ok(Self::Constant(quoted(value))),
                Some(("sql", expression)) => Ok(Self::Sql(quoted(expression))),
                _ => Err(format!("\"{text}\" is no way to mask: null, hash, email, name, digits, constant:… or sql:…")),
            },
        }
    }
}

/// A `[[mask]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub database: String,
    /// With its schema, else of `public`; as it is written in the catalog.
    pub table: String,
    pub column: String,
    pub how: How,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}.{}", self.database, self.table, self.column)
    }
}

impl Rule {
    fn name(&self) -> (&str, &str) {
        self.table.split_once('.').unwrap_or(("public", &self.table))
    }

    /// The table, quoted.
    fn target(&self) -> String {
        let (schema, name) = self.name();
        format!("{}.{}", ident(schema), ident(name))
    }
}

const FIRST: &[&str] =
    &["Ada", "Ben", "Cleo", "Dora", "Emil", "Fay", "Gus", "Hana", "Ivo", "June", "Kai", "Lea", "Max"];
const LAST: &[&str] =
    &["Acker", "Berg", "Cole", "Dahl", "Eder", "Frost", "Gray", "Holm", "Ivers", "Jung", "Klein", "Lund", "Moor"];

/// The expression that takes a column's place; `key` makes the hashes ones that nobody can look up.
fn expression(how: &How, column: &str, type_name: &str, key: &str) -> String {
    let text = format!("{}::text", ident(column));
    let hash = format!("sha256(convert_to({} || {text}, 'UTF8'))", literal(key));
    let hex = format!("encode({hash}, 'hex')");
    let pick = |list: &[&str], byte: u8| {
        let names = list.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
        format!("(ARRAY[{names}])[1 + get_byte({hash}, {byte}) % {}]", list.len())
    };
    let masked = match how {
        How::Null => "NULL".into(),
        How::Constant(value) => literal(value),
        How::Sql(expression) => format!("({expression}\n)"),
        How::Hash => match type_name {
            "integer" => format!("(('x' || left({hex}, 8))::bit(32)::bigint & 2147483647)"),
            "smallint" => format!("(('x' || left({hex}, 8))::bit(32)::bigint & 32767)"),
            "bigint" => format!("('x' || left({hex}, 15))::bit(60)::bigint"),
            "bytea" => hash,
            _ => format!("left({hex}, 32)"),
        },
        How::Email => format!("'user-' || left({hex}, 16) || '@example.invalid'"),
        How::Name => format!("{} || ' ' || {}", pick(FIRST, 0), pick(LAST, 1)),
        How::Digits => format!(
            "(SELECT string_agg(CASE WHEN letter BETWEEN '0' AND '9' THEN (get_byte({hash}, (at % 32)::integer) % 10)::text \
             ELSE letter END, '' ORDER BY at) FROM unnest(string_to_array({text}, NULL)) WITH ORDINALITY u(letter, at))"
        ),
    };
    format!("({masked})::{type_name}")
}

fn refused(text: String) -> ProveError {
    ProveError::refused(code::CLONE_MASK, text)
}

/// Applies the rules of one database, and sees to it that the old values are in none of its files any more.
///
/// # Errors
/// When a rule names what is not there, or cannot be applied.
pub async fn apply(session: &Session, rules: &[&Rule], key: &str) -> Result<()> {
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut masked = Vec::new();
    for rule in rules {
        let (schema, name) = rule.name();
        let rows = session
            .ask(&format!(
                "SELECT format_type(a.atttypid, a.atttypmod) AS type FROM pg_attribute a \
                 JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = {} AND c.relname = {} AND a.attname = {} AND c.relkind IN ('r', 'p') \
                 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''",
                literal(schema),
                literal(name),
                literal(&rule.column)
            ))
            .await?;
        let Ok(row) = rows.first() else {
            let text = format!("no clone was made: a rule masks {rule}, and there is no such column that holds values");
            return Err(refused(text));
        };
        masked.push(Masked { rule, type_name: row.text("type")? });
        let to = expression(&rule.how, &rule.column, row.str("type")?, key);
        tables.entry(rule.target()).or_default().push(format!("{} = {to}", ident(&rule.column)));
    }
    hold_together(session, &masked).await?;
    // Neither triggers nor foreign keys: both sides of a key have the same rule, or none has.
    session.run("SET session_replication_role = replica; SET search_path = pg_catalog, public").await?;
    for table in tables.keys() {
        stays_here(session, table).await?;
    }
    let silenced = silence(session, &tables).await?;
    for (table, sets) in &tables {
        let failed = |error: surus_pg::AskError| {
            // The message may show a value, the detail does: neither is repeated.
            let state = error.sqlstate.as_deref().unwrap_or("no connection");
            refused(format!("no clone was made: the rules for {table} could not be applied (SQLSTATE {state})"))
        };
        session.run(&format!("UPDATE {table} SET {}", sets.join(", "))).await.map_err(failed)?;
    }
    session.take_asked();
    for statement in silenced {
        session.run(&statement).await?;
    }
    if tables.is_empty() {
        return Ok(());
    }
    for view in session.ask(MATERIALIZED).await?.iter() {
        session.run(&format!("REFRESH MATERIALIZED VIEW {}", view.str("name")?)).await?;
    }
    // Before 18 a table's descendants have to be named.
    for table in tables.keys() {
        for name in session.ask(&format!("{} ORDER BY 1", tree(table))).await?.iter() {
            session.run(&format!("VACUUM (FULL) {}", name.str("name")?)).await?;
        }
    }
    // Samples of values: all are taken anew, and what they took the place of goes.
    session.run("DELETE FROM pg_statistic; DELETE FROM pg_statistic_ext_data").await?;
    session.run("ANALYZE").await?;
    session.run("VACUUM FULL pg_statistic").await?;
    session.run("VACUUM FULL pg_statistic_ext_data").await?;
    Ok(())
}

/// A rule whose column is there.
struct Masked<'a> {
    rule: &'a Rule,
    type_name: String,
}

impl Masked<'_> {
    /// Types of the same form make the same value of the same value.
    fn form(&self) -> &str {
        if self.type_name == "character varying" { "text" } else { &self.type_name }
    }
}

/// Every pair of columns of a foreign key; those of partitions stand for their table's.
const REFERENCES: &str = "SELECT k.conname AS name, fn.nspname AS from_schema, f.relname AS from_table, \
     a.attname AS from_column, tn.nspname AS to_schema, t.relname AS to_table, b.attname AS to_column FROM pg_constraint k \
     CROSS JOIN unnest(k.conkey, k.confkey) AS pair(one, other) \
     JOIN pg_class f ON f.oid = k.conrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace \
     JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace \
     JOIN pg_attribute a ON a.attrelid = f.oid AND a.attnum = pair.one \
     JOIN pg_attribute b ON b.attrelid = t.oid AND b.attnum = pair.other \
     WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY 1, 2, 3, 4";

/// Sees to it that rows which refer to others still do: the same value becomes the same value on both sides of a
/// foreign key, or NULL where it refers.
async fn hold_together(session: &Session, masked: &[Masked<'_>]) -> Result<()> {
    for row in session.ask(REFERENCES).await?.iter() {
        let of = |side: &str| -> Result<_> {
            let name = |part: &str| row.text(&format!("{side}_{part}"));
            let (schema, table, column) = (name("schema")?, name("table")?, name("column")?);
            let rule = masked.iter().find(|one| one.rule.name() == (&schema, &table) && one.rule.column == column);
            Ok((rule, format!("{}.{}", qualified(&schema, &table), ident(&column))))
        };
        let ((from, from_name), (to, to_name)) = (of("from")?, of("to")?);
        let kept = match (from, to) {
            (None, None) => continue,
            (Some(from), _) if from.rule.how == How::Null => continue,
            (Some(from), Some(to)) if from.rule.how == to.rule.how && from.form() == to.form() => continue,
            (Some(from), Some(to)) if from.rule.how == to.rule.how => {
                format!("{to_name} is of type {}, {from_name} of type {}", to.type_name, from.type_name)
            }
            (Some(_), Some(_)) => format!("the rules of {from_name} and {to_name} differ"),
            (Some(_), None) => format!("{from_name} is masked, and {to_name} is not"),
            (None, Some(_)) => format!("{to_name} is masked, and {from_name} is not"),
        };
        let text = format!(
            "no clone was made: rows would refer to nothing by the foreign key {} of {}: {kept}; give both columns the same \
             rule, or the one that refers null",
            ident(row.str("name")?),
            qualified(row.str("from_schema")?, row.str("from_table")?)
        );
        return Err(refused(text));
    }
    Ok(())
}

/// The tables below a table, itself among them, that hold rows or lead to where they are.
fn tree(table: &str) -> String {
    format!(
        "WITH RECURSIVE tree AS (SELECT {}::regclass::oid AS oid UNION SELECT i.inhrelid FROM pg_inherits i \
         JOIN tree ON tree.oid = i.inhparent) SELECT format('%I.%I', n.nspname, c.relname) AS name, \
         c.relkind::text AS kind FROM tree JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace",
        literal(table)
    )
}

/// Refuses a table some of whose rows are on another server.
async fn stays_here(session: &Session, table: &str) -> Result<()> {
    let foreign = session.ask(&format!("SELECT name FROM ({}) t WHERE kind = 'f' ORDER BY 1", tree(table))).await?;
    let Ok(row) = foreign.first() else { return Ok(()) };
    Err(refused(format!(
        "no clone was made: rows of {table} are in the foreign table {}, on another server, and cannot be masked here",
        row.str("name")?
    )))
}

/// Switches triggers off that fire whatever the session's role is: they would write the old values elsewhere. Gives the
/// statements that put them back.
async fn silence(session: &Session, tables: &BTreeMap<String, Vec<String>>) -> Result<Vec<String>> {
    let mut back = Vec::new();
    for table in tables.keys() {
        let sql = format!(
            "SELECT t.name, g.tgname, g.tgenabled::text AS enabled FROM ({}) t JOIN pg_trigger g \
             ON g.tgrelid = t.name::regclass WHERE NOT g.tgisinternal AND g.tgenabled IN ('A', 'R') ORDER BY 1, 2",
            tree(table)
        );
        for row in session.ask(&sql).await?.iter() {
            let (table, trigger) = (row.str("name")?, ident(row.str("tgname")?));
            let how = if row.str("enabled")? == "A" { "ALWAYS" } else { "REPLICA" };
            session.run(&format!("ALTER TABLE {table} DISABLE TRIGGER {trigger}")).await?;
            back.push(format!("ALTER TABLE {table} ENABLE {how} TRIGGER {trigger}"));
        }
    }
    Ok(back)
}

/// Materialized views that hold rows, those that others read first.
const MATERIALIZED: &str = "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND c.relispopulated ORDER BY c.oid";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_mask_are_read() {
        let how = |text: &str| How::try_from(text.to_owned());
        assert_eq!(how("email"), Ok(How::Email));
        assert_eq!(how("constant:'a:b'"), Ok(How::Constant("a:b".into())));
        assert_eq!(how("sql:'upper(name)'"), Ok(How::Sql("upper(name)".into())));
        assert!(how("scramble").unwrap_err().contains("no way to mask"));
    }

    #[test]
    fn a_table_is_named_with_or_without_its_schema() {
        let rule = |table: &str| Rule { database: "d".into(), table: table.into(), column: "c".into(), how: How::Null };
        assert_eq!(rule("people").target(), "public.people");
        assert_eq!(rule("Shop.Big").target(), "\"Shop\".\"Big\"");
        assert_eq!(expression(&How::Constant("it's".into()), "c", "text", "k"), "('it''s')::text");
    }
}
