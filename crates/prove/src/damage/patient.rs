//! The server with the damage, which is only ever read.

use super::{
    page::Wrong,
    place::{Geometry, RelationFile},
    relation::{RELATIONS, Relation, with_path},
};
use crate::error::{ProveError, Result};
use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    time::Duration,
};
use surus_backup::control::{self, Control};
use surus_core::code;
use surus_pg::{
    AskError, AskErrorKind, ConnectError, Manners, Rows, Session, Target, host,
    quote::{ident, literal},
};

/// How long a read of files over SQL, or a look of amcheck, may wait for a lock.
const LOCK: Duration = Duration::from_secs(2);

/// A database of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    pub oid: u32,
    pub name: String,
    pub open: bool,
}

/// Where its pages are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The data directory, which is on this machine.
    Files(PathBuf),
    /// `pg_read_binary_file`.
    Server,
    /// Neither; why.
    None(String),
}

/// The server, and what it says of itself.
pub struct Patient {
    target: Target,
    sessions: HashMap<String, Session>,
    pub geometry: Geometry,
    pub cluster: u64,
    pub major: u16,
    pub checksums: bool,
    pub standby: bool,
    pub data_directory: Option<PathBuf>,
    pub databases: Vec<Database>,
    pub source: Source,
}

impl std::fmt::Debug for Patient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patient").field("target", &self.target.label()).finish_non_exhaustive()
    }
}

const ABOUT: &str = "\
SELECT current_setting('block_size')::int8 AS page_size, current_setting('data_checksums') = 'on' AS checksums,
       (SELECT setting::int8 FROM pg_settings WHERE name = 'segment_size') AS segment_pages,
       (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS data,
       (SELECT system_identifier::text FROM pg_control_system()) AS cluster, pg_is_in_recovery() AS standby,
       (SELECT extract(epoch FROM backend_start)::float8 FROM pg_stat_activity WHERE pid = pg_backend_pid()) AS began,
       has_function_privilege('pg_read_binary_file(text, bigint, bigint, boolean)', 'EXECUTE') AND
       has_function_privilege('pg_stat_file(text, boolean)', 'EXECUTE') AS may_read";

impl Patient {
    /// Connects and asks what must be known.
    ///
    /// # Errors
    /// When the server cannot be asked, or is built in a way that makes no sense.
    pub async fn open(target: &Target) -> Result<Self> {
        let session = target.connect(&manners()).await?;
        if session.pooled() {
            let text = "nothing was looked at: a connection pooler answers there; give the server itself";
            return Err(ProveError::refused(code::CONNECT_POOLER, text));
        }
        let rows = session.ask(ABOUT).await?;
        let row = rows.first()?;
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let geometry = Geometry::new(number(row.i64("page_size")?), number(row.opt_i64("segment_pages")?.unwrap_or(0)));
        let geometry = geometry.ok_or_else(|| {
            let text = "nothing was looked at: the server's block_size and segment_size make no sense";
            ProveError::refused(code::QUERY_UNEXPECTED, text)
        })?;
        let databases =
            session.ask("SELECT oid::int8, datname, datallowconn FROM pg_database ORDER BY datname").await?;
        let mut all = Vec::new();
        for row in databases.iter() {
            let oid = u32::try_from(row.i64("oid")?).unwrap_or(0);
            all.push(Database { oid, name: row.text("datname")?, open: row.bool("datallowconn")? });
        }
        let cluster = row.str("cluster")?.parse().unwrap_or(0);
        let data_directory = row.opt_str("data")?.map(PathBuf::from);
        let local = local(&session, data_directory.as_deref(), cluster, row.opt_f64("began")?.unwrap_or(0.0));
        let source = match local {
            Ok(data) => Source::Files(data),
            Err(_) if row.bool("may_read")? => Source::Server,
            Err(why) => Source::None(format!(
                "its files cannot be read from here ({why}), and the role may not let the server read them: GRANT EXECUTE \
                 ON FUNCTION pg_read_binary_file(text, bigint, bigint, boolean), pg_stat_file(text, boolean) TO {}",
                ident(target.user())
            )),
        };
        Ok(Self {
            geometry,
            cluster,
            major: session.version().major(),
            checksums: row.bool("checksums")?,
            standby: row.bool("standby")?,
            data_directory,
            databases: all,
            source,
            sessions: HashMap::from([(target.database().to_owned(), session)]),
            target: target.clone(),
        })
    }

    /// A session with one of its databases.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub async fn session(&mut self, database: &str) -> Result<&Session, ConnectError> {
        if !self.sessions.get(database).is_some_and(Session::is_open) {
            let session = self.target.with_database(database).connect(&manners()).await?;
            self.sessions.insert(database.to_owned(), session);
        }
        let gone = || ConnectError::new(code::CONNECT_CLOSED, "there is no session");
        self.sessions.get(database).ok_or_else(gone)
    }

    /// Asks in a database; what cannot be reached is an error of the kind [`AskErrorKind::Closed`].
    ///
    /// # Errors
    /// As [`Session::ask`].
    pub async fn ask(&mut self, database: &str, sql: &str) -> Result<Rows, AskError> {
        let session = self.session(database).await.map_err(|error| AskError {
            kind: AskErrorKind::Closed,
            sqlstate: error.sqlstate,
            message: error.message,
            detail: None,
            hint: None,
        })?;
        let rows = session.ask(sql).await;
        session.take_asked();
        rows
    }

    /// The database that it was connected to.
    pub fn own_database(&self) -> String {
        self.target.database().to_owned()
    }

    /// A connection string to one of its databases, without a password.
    pub fn reference(&self, database: &str) -> String {
        unquoted(&self.target.with_database(database).reference())
    }

    /// Its address for people.
    pub fn label(&self) -> String {
        self.target.label()
    }

    /// The databases that a file may belong to: its own; of those of all databases the one that we are in.
    pub fn database_of(&self, file: &RelationFile) -> Option<Database> {
        match file.database() {
            Some(oid) => self.databases.iter().find(|one| one.oid == oid).cloned(),
            None => self.databases.iter().find(|one| one.name == self.target.database()).cloned(),
        }
    }

    /// The relation that a file belongs to.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn owner(&mut self, database: &str, path: &str) -> Result<Option<Relation>, AskError> {
        self.one(database, &with_path(path)).await
    }

    /// The relation that fits a condition of [`RELATIONS`].
    ///
    /// # Errors
    /// As [`Patient::owner`].
    pub async fn one(&mut self, database: &str, condition: &str) -> Result<Option<Relation>, AskError> {
        let rows = self.ask(database, &format!("{RELATIONS}{condition}")).await?;
        Ok(rows.first().ok().and_then(|row| Relation::of(&row).ok()))
    }

    /// The OID of a relation by its name, as SQL finds it; none when there is none.
    ///
    /// # Errors
    /// When the name is none.
    pub async fn find(&mut self, database: &str, name: &str) -> Result<Option<u32>, AskError> {
        let sql = format!(
            "SET search_path = public, pg_catalog; SELECT to_regclass({})::oid::int8 AS oid; SET search_path = pg_catalog",
            literal(name)
        );
        let rows = self.ask(database, &sql).await?;
        let oid = rows.first().ok().and_then(|row| row.opt_i64("oid").ok().flatten());
        Ok(oid.and_then(|oid| u32::try_from(oid).ok()))
    }

    /// Bytes of a file; none when it is not there.
    ///
    /// # Errors
    /// Why that cannot be known.
    pub async fn size(&mut self, file: &str) -> Result<Option<u64>, String> {
        match &self.source {
            Source::None(why) => Err(why.clone()),
            Source::Files(data) => match fs::metadata(data.join(file)) {
                Ok(about) => Ok(Some(about.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.to_string()),
            },
            Source::Server => {
                let sql = format!("SELECT (pg_stat_file({}, true)).size AS size", literal(file));
                let rows = self.ask(&self.own_database(), &sql).await.map_err(|error| error.message)?;
                let size = rows.first().and_then(|row| row.opt_i64("size")).map_err(|error| error.to_string())?;
                Ok(size.and_then(|size| u64::try_from(size).ok()))
            }
        }
    }

    /// That many bytes of a file, or fewer where it ends.
    ///
    /// # Errors
    /// What the system says.
    pub async fn read(&mut self, file: &str, offset: u64, length: usize) -> Result<Vec<u8>, Wrong> {
        let failed = |why: String| Wrong::Unreadable { why };
        match &self.source {
            Source::None(why) => Err(failed(why.clone())),
            Source::Files(data) => read_at(&data.join(file), offset, length).map_err(|error| failed(error.to_string())),
            Source::Server => {
                let path = literal(file);
                let sql =
                    format!("SELECT encode(pg_read_binary_file({path}, {offset}, {length}, true), 'hex') AS bytes");
                let rows = self.ask(&self.own_database(), &sql).await.map_err(|error| failed(error.message))?;
                let text = rows.first().and_then(|row| row.text("bytes")).map_err(|error| failed(error.to_string()))?;
                unhex(&text).ok_or_else(|| failed("the server's answer is no hexadecimal text".into()))
            }
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        for session in self.sessions.into_values() {
            session.close().await;
        }
    }
}

/// A connection string without the quotes that its values do not need: it is shown in a shell's quotes.
fn unquoted(text: &str) -> String {
    if text.contains('\\') {
        return text.to_owned();
    }
    let plain = |value: &str| !value.is_empty() && !value.contains([' ', '\t', '\n', '=']);
    let parts = text.strip_suffix('\'').unwrap_or(text).split("' ").map(|part| match part.split_once("='") {
        Some((name, value)) if plain(value) => format!("{name}={value}"),
        _ => format!("{part}'"),
    });
    parts.collect::<Vec<_>>().join(" ")
}

fn manners() -> Manners {
    Manners { application_name: "surus prove page".into(), read_only: true, lock_timeout: LOCK, ..Manners::changing() }
}

/// Bytes of a file, fewer where it ends.
pub fn read_at(path: &std::path::Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// The data directory, when it is on this machine and ours to read: same cluster, and its server is the one that
/// answers.
fn local(
    session: &Session,
    data: Option<&std::path::Path>,
    cluster: u64,
    began: f64,
) -> std::result::Result<PathBuf, String> {
    let data = data.ok_or("the role may not see where the data directory is")?;
    if !session.backend_pid().is_some_and(|pid| host::is_our_backend(pid, began)) {
        return Err("the server runs on another machine".into());
    }
    let read = || fs::read(data.join(control::PATH));
    let bytes = read().map_err(|error| format!("{}: {error}", data.display()))?;
    // The server may have been writing it.
    match Control::parse(&bytes).ok().or_else(|| Control::parse(&read().ok()?).ok()) {
        Some(control) if control.system_identifier == cluster => Ok(data.to_owned()),
        _ => Err(format!("{} is the directory of another cluster", data.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_that_need_quotes_have_them() {
        let of = |text: &str| unquoted(text);
        assert_eq!(of("user='me' dbname='shop' host='/tmp'"), "user=me dbname=shop host=/tmp");
        assert_eq!(of("user='a b' dbname='' host='x'"), "user='a b' dbname='' host=x");
        assert_eq!(of("user='it\\'s' host='x'"), "user='it\\'s' host='x'");
    }

    #[test]
    fn hexadecimal_text_is_bytes() {
        assert_eq!(unhex("00ff1A"), Some(vec![0, 255, 26]));
        assert!(unhex("0").is_none() && unhex("0g").is_none() && unhex("").is_some_and(|all| all.is_empty()));
    }
}
