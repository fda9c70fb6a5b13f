//! The copy as the looks see it: its databases, its relations, and sessions that come back when a backend dies of what
//! it read.

use crate::error::Result;
use std::{collections::HashMap, sync::Mutex, time::Duration};
use surus_core::clock::Deadline;
use surus_pg::{
    AskError, AskErrorKind, LocalServer, Manners, Rows, Session, Target,
    quote::{ident, qualified},
};
use tokio::runtime::Runtime;

/// How long a server whose backend crashed may take to come back.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// The schema that the drill makes in the copy.
pub const SCHEMA: &str = "surus_drill";

/// What a relation's file belongs to, by its path in the data directory.
pub type Names = HashMap<String, String>;

/// A relation with storage.
#[derive(Debug, Clone)]
pub struct Relation {
    pub oid: i64,
    /// Qualified; a TOAST table is named by its table.
    pub name: String,
    /// For SQL.
    pub sql: String,
    /// As `pg_class.relkind`.
    pub kind: char,
    /// The access method; empty for none.
    pub method: String,
    /// May an index be trusted: valid and ready?
    pub valid: bool,
    /// One for all databases.
    pub shared: bool,
    /// Of a system schema.
    pub system: bool,
    pub pages: i64,
}

impl Relation {
    /// About how long it is: what the catalog says, where pages are as long as they mostly are. A table that was never
    /// vacuumed or analyzed has no pages there.
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.pages).unwrap_or(0) * 8192
    }
}

/// A database of the copy and what is in it.
#[derive(Debug)]
pub struct Database {
    pub name: String,
    /// Or why its catalog cannot be read.
    pub relations: Result<Vec<Relation>, String>,
    /// The installed amcheck's version, and the schema that it is in; or why there is none.
    pub amcheck: Result<Amcheck, String>,
}

/// The extension that looks at tables and indexes.
#[derive(Debug, Clone)]
pub struct Amcheck {
    /// Where its functions are, quoted.
    pub schema: String,
    /// Which functions it has.
    pub functions: Vec<String>,
}

impl Amcheck {
    pub fn has(&self, function: &str) -> bool {
        self.functions.iter().any(|name| name == function)
    }
}

/// The running copy.
pub struct Bench {
    runtime: Runtime,
    target: Target,
    pub databases: Vec<Database>,
    names: Mutex<Names>,
    checksums: bool,
    /// Databases that are not read yet.
    open: Vec<String>,
    /// Databases that let nobody in.
    pub closed: Vec<String>,
}

/// A session with one database of the copy.
pub struct Line<'a> {
    bench: &'a Bench,
    database: String,
    session: Option<Session>,
}

impl Bench {
    /// Connects to the copy and asks the first questions.
    pub fn open(server: &LocalServer) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(crate::ProveError::file("cannot run", std::path::Path::new("a runtime")))?;
        let target = Target::parse(&server.dsn(server.superuser(), "postgres"))?;
        let mut bench = Self {
            runtime,
            target,
            databases: Vec::new(),
            names: Mutex::default(),
            checksums: false,
            open: Vec::new(),
            closed: Vec::new(),
        };
        // The database postgres may have been dropped; template1 cannot be.
        let mut session = bench.connect_patiently("postgres");
        if session.as_ref().is_err_and(|error| error.code() == surus_core::code::CONNECT_DATABASE) {
            session = bench.connect_patiently("template1");
        }
        let session = session?;
        let ask = |sql: &str| bench.runtime.block_on(session.ask(sql));
        let rows = ask("SELECT current_setting('data_checksums') AS v")?;
        let checksums = rows.first()?.str("v")? == "on";
        let rows = ask(
            "SELECT datname, datallowconn AND datconnlimit <> -2 AS datallowconn FROM pg_database ORDER BY datname",
        )?;
        let mut all = Vec::new();
        for row in rows.iter() {
            all.push((row.text("datname")?, row.bool("datallowconn")?));
        }
        bench.runtime.block_on(session.close());
        bench.checksums = checksums;
        let (open, closed): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, open)| *open);
        bench.closed = closed.into_iter().map(|(name, _)| name).collect();
        bench.open = open.into_iter().map(|(name, _)| name).collect();
        Ok(bench)
    }

    /// Reads what is in the databases.
    pub fn read_all(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.databases = open.into_iter().map(|name| self.read(name)).collect();
    }

    fn connect(&self, database: &str) -> Result<Session> {
        let manners = Manners { application_name: "surus drill".into(), ..Manners::changing() };
        let session = self.runtime.block_on(self.target.with_database(database).connect(&manners))?;
        // A role or a database may have them set, which wins over the command line.
        let sharp = "SET zero_damaged_pages = off; SET ignore_checksum_failure = off";
        self.runtime.block_on(session.run(sharp)).map_err(crate::ProveError::from)?;
        session.take_asked();
        Ok(session)
    }

    /// A server that was just promoted, or whose backend crashed, takes a while until it lets anybody in.
    fn connect_patiently(&self, database: &str) -> Result<Session> {
        let deadline = Deadline::after(BACK_WITHIN);
        loop {
            match self.connect(database) {
                Err(crate::ProveError::Connect(error)) if !deadline.passed() && is_coming_back(&error) => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => return other,
            }
        }
    }

    /// A session; it is opened with the first question.
    pub fn line(&self, database: &str) -> Line<'_> {
        Line { bench: self, database: database.to_owned(), session: None }
    }

    /// Does the cluster have page checksums?
    pub fn checksums(&self) -> bool {
        self.checksums
    }

    /// Whose files are whose, for what is looked at when the server is gone.
    pub fn into_names(self) -> Names {
        self.names.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn read(&self, name: String) -> Database {
        let mut line = self.line(&name);
        let relations = line.ask(RELATIONS).map_err(|error| error.to_string());
        let relations = relations.and_then(|rows| self.relations(&name, &rows).map_err(|error| error.to_string()));
        let amcheck = line.amcheck();
        line.close();
        Database { name, relations, amcheck }
    }

    fn relations(&self, database: &str, rows: &Rows) -> Result<Vec<Relation>, surus_pg::RowError> {
        let mut names = self.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut all = Vec::with_capacity(rows.len());
        for row in rows.iter() {
            let name = match row.opt_str("of")? {
                Some(table) => format!("TOAST table of {}", qualified(row.str("of_schema")?, table)),
                None => qualified(row.str("schema")?, row.str("name")?),
            };
            let kind = row.str("kind")?.chars().next().unwrap_or('r');
            if let Some(path) = row.opt_str("path")? {
                let noun = if kind == 'i' { "index" } else { "table" };
                names.insert(path.to_owned(), format!("{}: {noun} {name}", ident(database)));
            }
            all.push(Relation {
                oid: row.i64("oid")?,
                name,
                sql: qualified(row.str("schema")?, row.str("name")?),
                kind,
                method: row.text("method")?,
                valid: row.bool("valid")?,
                shared: row.bool("shared")?,
                system: row.bool("system")?,
                pages: row.i64("pages")?,
            });
        }
        Ok(all)
    }
}

/// Every permanent relation with storage. What is unlogged was emptied by recovery.
const RELATIONS: &str = "\
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       coalesce(a.amname, '') AS method, c.relisshared AS shared,
       n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast') AS system,
       coalesce(i.indisvalid AND i.indisready AND i.indislive, true) AS valid,
       t.relname AS of, tn.nspname AS of_schema, c.relpages::int8 AS pages,
       pg_relation_filepath(c.oid) AS path
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_am a ON a.oid = c.relam
  LEFT JOIN pg_index i ON i.indexrelid = c.oid
  LEFT JOIN pg_class t ON t.reltoastrelid = c.oid AND c.relkind = 't'
  LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
 WHERE c.relkind IN ('r', 't', 'm', 'i', 'S') AND c.relpersistence = 'p' ORDER BY c.oid";

impl Line<'_> {
    /// Asks. A session that ended is opened anew for the next question.
    pub fn ask(&mut self, sql: &str) -> Result<Rows, AskError> {
        let bench = self.bench;
        let session = self.session()?;
        let asked = bench.runtime.block_on(session.ask(sql));
        session.take_asked();
        if asked.as_ref().is_err_and(|error| error.kind == AskErrorKind::Closed) {
            self.session = None;
        }
        asked
    }

    /// The open session; after a crash of the server it takes a while until there is one again.
    fn session(&mut self) -> Result<&Session, AskError> {
        if self.session.is_none() {
            let opened = self.bench.connect_patiently(&self.database);
            self.session = Some(opened.map_err(|error| closed(error.to_string()))?);
        }
        self.session.as_ref().ok_or_else(|| closed("there is no session".into()))
    }

    pub fn close(self) {
        if let Some(session) = self.session {
            self.bench.runtime.block_on(session.close());
        }
    }

    /// Makes amcheck in the copy, unless it is there.
    fn amcheck(&mut self) -> Result<Amcheck, String> {
        let there = "SELECT count(*) AS v FROM pg_available_extensions WHERE name = 'amcheck'";
        let said = |error: AskError| error.to_string();
        let odd = |error: surus_pg::RowError| error.to_string();
        if self.ask(there).map_err(said)?.first().and_then(|row| row.i64("v")).map_err(odd)? == 0 {
            return Err("amcheck is not installed".into());
        }
        let make = format!(
            "CREATE SCHEMA IF NOT EXISTS {SCHEMA}; CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA {SCHEMA}; \
             ALTER EXTENSION amcheck UPDATE"
        );
        self.ask(&make).map_err(|error| format!("amcheck could not be made in the copy: {error}"))?;
        let functions = "SELECT n.nspname AS schema, array_agg(p.proname::text) AS functions FROM pg_extension e \
             JOIN pg_namespace n ON n.oid = e.extnamespace JOIN pg_depend d ON d.refobjid = e.oid AND \
             d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_proc'::regclass \
             JOIN pg_proc p ON p.oid = d.objid WHERE e.extname = 'amcheck' GROUP BY n.nspname";
        let rows = self.ask(functions).map_err(said)?;
        let row = rows.first().map_err(odd)?;
        Ok(Amcheck { schema: ident(row.str("schema").map_err(odd)?), functions: row.list("functions").map_err(odd)? })
    }
}

/// Starting up, shutting down, or in crash recovery: not for good.
fn is_coming_back(error: &surus_pg::ConnectError) -> bool {
    let starting = ["starting up", "recovery mode", "shutting down", "not yet accepting", "not accepting"];
    starting.iter().any(|words| error.message.contains(words))
        || error.code == surus_core::code::CONNECT_REFUSED
        || error.code == surus_core::code::CONNECT_SOCKET
}

fn closed(message: String) -> AskError {
    AskError { kind: AskErrorKind::Closed, sqlstate: None, message, detail: None, hint: None }
}
