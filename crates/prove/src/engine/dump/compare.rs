//! What is in the databases: compared with what a dump said that it holds, and with a server.

use crate::error::{ProveError, Result};
use std::collections::{BTreeMap, BTreeSet};
use surus_core::code;
use surus_pg::{Manners, Target, quote};

/// How many lacks are named.
const NAMED: usize = 8;

/// Objects of a database that a user makes: tables with the number of their rows, and the names of all others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// `schema.name`; no number where the rows were not counted.
    pub tables: BTreeMap<String, Option<i64>>,
    /// `index public.orders_customer`, `view …`, `function …`.
    pub others: BTreeSet<String>,
}

const TABLES: &str = "\
SELECT n.nspname || '.' || c.relname AS name, c.relkind = 'r' AS counts, n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')
ORDER BY 1";

const OTHERS: &str = "\
SELECT CASE c.relkind WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view'
  WHEN 'm' THEN 'materialized view' ELSE 'relation' END || ' ' || n.nspname || '.' || c.relname AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('i', 'I', 'S', 'v', 'm') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')
UNION ALL
SELECT 'constraint ' || co.conname || ' of ' || n.nspname || '.' || c.relname
FROM pg_constraint co JOIN pg_class c ON c.oid = co.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND co.contype IN ('f', 'c', 'x')
UNION ALL
SELECT 'trigger ' || t.tgname || ' of ' || n.nspname || '.' || c.relname
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND n.nspname !~ '^pg_'
UNION ALL
SELECT 'function ' || n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')'
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e')
UNION ALL SELECT 'extension ' || extname FROM pg_extension
ORDER BY 1";

impl Inventory {
    /// Of a database. `count`: also count the rows, which reads every table once.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn of(target: &Target, count: bool) -> Result<Self> {
        blocking(async {
            let manners = Manners { statement_timeout: std::time::Duration::ZERO, ..Manners::looking() };
            let session = target.connect(&manners).await?;
            let mut found = Self::default();
            for row in session.ask(TABLES).await?.iter() {
                let name = row.text("name")?;
                let mut rows = None;
                if count && row.bool("counts")? {
                    let table = quote::qualified(row.str("nspname")?, row.str("relname")?);
                    let answer = session.ask(&format!("SELECT count(*) AS v FROM ONLY {table}")).await?;
                    rows = Some(answer.first()?.i64("v")?);
                }
                found.tables.insert(name, rows);
            }
            for row in session.ask(OTHERS).await?.iter() {
                found.others.insert(row.text("name")?);
            }
            session.close().await;
            Ok(found)
        })
    }

    /// What the server has and this has not. Tables without a row here, though the server has some, are a lack, too;
    /// other differences of numbers are what time brings.
    ///
    /// # Errors
    /// With the names of what is missing.
    pub fn holds_all_of(&self, server: &Self, database: &str) -> Result<Vec<String>> {
        let mut lacks: Vec<String> = Vec::new();
        let mut notes = Vec::new();
        for (table, there) in &server.tables {
            match (self.tables.get(table), there) {
                (None, _) => lacks.push(format!("table {table}")),
                (Some(Some(0)), Some(there @ 1..)) => {
                    lacks.push(format!("the rows of table {table} (the server has {there})"))
                }
                (Some(Some(here)), Some(there)) if here != there => {
                    notes.push(format!(
                        "{database}: table {table} has {here} rows in the dump, and {there} on the server"
                    ));
                }
                _ => {}
            }
        }
        lacks.extend(server.others.difference(&self.others).cloned());
        if lacks.is_empty() {
            return Ok(notes);
        }
        Err(lacking(&format!("the dump of database {database} lacks"), lacks))
    }
}

/// A refusal that names what is missing.
pub fn lacking(what: &str, mut lacks: Vec<String>) -> ProveError {
    let more = lacks.len().saturating_sub(NAMED);
    lacks.truncate(NAMED);
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    ProveError::refused(code::ENGINE_LACKS, format!("{what} {}{more}", lacks.join(", ")))
}

/// The databases of a server that take connections.
///
/// # Errors
/// When it cannot be asked.
pub fn databases(target: &Target) -> Result<Vec<String>> {
    blocking(async {
        let session = target.connect(&Manners::looking()).await?;
        let sql = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1";
        let names = session.ask(sql).await?.iter().map(|row| row.text("datname")).collect::<Result<_, _>>()?;
        session.close().await;
        Ok(names)
    })
}

/// Waits on a thread of its own, so that it works wherever it is called.
pub fn blocking<T: Send>(work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime
            .map_err(ProveError::file("cannot make a runtime for", std::path::Path::new("PostgreSQL")))?
            .block_on(work)
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(tables: &[(&str, i64)], others: &[&str]) -> Inventory {
        Inventory {
            tables: tables.iter().map(|(name, rows)| ((*name).to_owned(), Some(*rows))).collect(),
            others: others.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn lacks_are_named_and_growth_is_noted() {
        let server = inventory(&[("public.a", 7), ("public.b", 3), ("public.c", 1)], &["index public.a_x"]);
        let dump = inventory(&[("public.a", 6), ("public.b", 0)], &[]);
        let text = dump.holds_all_of(&server, "shop").unwrap_err().to_string();
        let expected = "the dump of database shop lacks the rows of table public.b (the server has 3), table public.c, \
                        index public.a_x";
        assert_eq!(text, expected);
        let notes = server.holds_all_of(&inventory(&[("public.a", 8)], &[]), "shop").unwrap();
        assert_eq!(notes, ["shop: table public.a has 7 rows in the dump, and 8 on the server"]);
    }
}
