//! Opening the file: making it, refusing what is not ours, and setting SQLite up for durability.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::schema::{self, LEDGER, Schema};
use crate::{Result, StoreError};

/// How long to wait for another process that writes. One append takes milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// surus's file, open. May be shared between threads; they take turns.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens the file for reading and writing; makes it (mode 0600) and its directory (0700) when they are not there.
    pub fn open(path: &Path) -> Result<Self> {
        let connection = open(path, &LEDGER)?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    /// Opens the file for reading only. [`StoreError::Missing`] when nothing was ever recorded there.
    pub fn open_read_only(path: &Path) -> Result<Self> {
        let connection = open_read_only(path, &LEDGER)?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn connection(&self) -> MutexGuard<'_, Connection> {
        // A thread that panicked left at most an open transaction, which its guard has rolled back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sqlite(&self, error: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(&self.path, error)
    }
}

/// A connection that may write; makes the file when it is not there.
pub(crate) fn open(path: &Path, schema: &Schema) -> Result<Connection> {
    make_directory(path)?;
    if !exists(path)? {
        create(path, schema)?;
    }
    refuse_damaged_header(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| StoreError::from_sqlite(path, error))?;
    set_up(path, schema, &connection)?;
    schema::migrate(path, schema, &connection, false)?;
    Ok(connection)
}

/// A connection that only reads. [`StoreError::Missing`] when there is no file.
pub(crate) fn open_read_only(path: &Path, schema: &Schema) -> Result<Connection> {
    if !exists(path)? {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    refuse_damaged_header(path)?;
    let connection = match read_only(path, false) {
        // Whoever may not write to the directory cannot make the shared-memory file that reading a WAL needs. With
        // no WAL left beside it the file is complete and at rest, and can be read without.
        Err(StoreError::Open { .. } | StoreError::Write { .. }) if !has_wal(path) => read_only(path, true)?,
        other => other?,
    };
    let found = schema::found(path, schema, &connection)?;
    if found < schema.known() {
        let why = format!("it has the older format {found}; a command of surus that writes brings it up to date");
        return Err(StoreError::open(path, why));
    }
    Ok(connection)
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|error| StoreError::from_io(path, &error))
}

fn has_wal(path: &Path) -> bool {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    fs::metadata(wal).is_ok_and(|wal| wal.len() > 0)
}

/// SQLite takes an empty file for a new database and one with an odd header for one that is read-only; for surus both
/// are damaged, because [`create`] puts a finished file into place (<https://sqlite.org/fileformat.html>, section 1.3).
fn refuse_damaged_header(path: &Path) -> Result<()> {
    let io = |error: io::Error| StoreError::from_io(path, &error);
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(StoreError::open(path, "it is not a file"));
    }
    let mut header = Vec::new();
    File::open(path).and_then(|file| file.take(20).read_to_end(&mut header)).map_err(io)?;
    match header.as_slice() {
        [] => Err(StoreError::damaged(path, "it is empty")),
        [magic @ .., _, _, write_version, read_version]
            if magic == b"SQLite format 3\0" && [1, 2].contains(write_version) && [1, 2].contains(read_version) =>
        {
            Ok(())
        }
        _ => Err(StoreError::damaged(path, "its header is not that of a SQLite file")),
    }
}

fn make_directory(path: &Path) -> Result<()> {
    let directory = directory_of(path);
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| StoreError::from_io(path, &error))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a complete file under another name, then links it into place: nobody ever sees half of one, and of two
/// processes that do this at once the second uses the first one's.
fn create(path: &Path, schema: &Schema) -> Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".new-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    let draft = PathBuf::from(draft);
    let made = write_draft(path, schema, &draft).and_then(|()| {
        put_into_place(&draft, path)
            .and_then(|()| File::open(directory_of(path))?.sync_all())
            .map_err(|error| StoreError::from_io(path, &error))
    });
    // The file is complete under its own name, or could not be made; either way nobody needs the draft.
    let _gone = fs::remove_file(&draft);
    made
}

fn write_draft(path: &Path, schema: &Schema, draft: &Path) -> Result<()> {
    // SQLite gives its side files the mode of the main one.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft);
    drop(file.map_err(|error| StoreError::from_io(path, &error))?);
    let connection = Connection::open(draft).map_err(|error| StoreError::from_sqlite(path, error))?;
    for (pragma, value) in schema.before {
        connection.pragma_update(None, pragma, value).map_err(|error| StoreError::from_sqlite(path, error))?;
    }
    set_up(path, schema, &connection)?;
    schema::migrate(path, schema, &connection, true)?;
    // Closing the last connection moves the WAL into the file and syncs it.
    connection.close().map_err(|(_, error)| StoreError::from_sqlite(path, error))
}

fn put_into_place(draft: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Some network and container file systems have no hard links.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
                && !path.try_exists()? =>
        {
            fs::rename(draft, path)
        }
        other => other,
    }
}

fn read_only(path: &Path, at_rest: bool) -> Result<Connection> {
    let sqlite = |error| StoreError::from_sqlite(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if at_rest {
        Connection::open_with_flags(at_rest_uri(path), flags | OpenFlags::SQLITE_OPEN_URI).map_err(sqlite)?
    } else {
        Connection::open_with_flags(path, flags).map_err(sqlite)?
    };
    guard(path, &connection)?;
    // The file is only looked at when something is asked of it.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(sqlite)?;
    Ok(connection)
}

/// SQLite's name for a file that nobody changes (<https://sqlite.org/uri.html>).
fn at_rest_uri(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _written = write!(uri, "%{byte:02X}");
        }
    }
    uri.push_str("?immutable=1");
    uri
}

/// WAL, so that readers and the writer do not block each other.
fn set_up(path: &Path, schema: &Schema, connection: &Connection) -> Result<()> {
    let sqlite = |error| StoreError::from_sqlite(path, error);
    guard(path, connection)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(sqlite)?;
    if mode != "wal" {
        return Err(StoreError::open(path, format!("its file system allows no write-ahead log (got {mode})")));
    }
    for (pragma, value) in schema.always {
        connection.pragma_update(None, pragma, value).map_err(sqlite)?;
    }
    connection.pragma_update(None, "synchronous", schema.synchronous).map_err(sqlite)
}

/// Protects against a file that was damaged or made to harm.
fn guard(path: &Path, connection: &Connection) -> Result<()> {
    let sqlite = |error| StoreError::from_sqlite(path, error);
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(sqlite)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(sqlite)?;
    connection.pragma_update(None, "cell_size_check", true).map_err(sqlite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_returns_when_it_is_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("surus.db")).unwrap();
        let ask = |pragma: &str| {
            store.connection().pragma_query_value(None, pragma, |row| row.get::<_, rusqlite::types::Value>(0)).unwrap()
        };
        // 2 is FULL: the WAL is synced after each commit (https://sqlite.org/pragma.html#pragma_synchronous).
        assert_eq!(ask("synchronous"), rusqlite::types::Value::Integer(2));
        assert_eq!(ask("journal_mode"), rusqlite::types::Value::Text("wal".to_owned()));
    }
}
