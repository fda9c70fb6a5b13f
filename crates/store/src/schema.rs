//! The tables, and how an older file becomes a current one.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::{Result, StoreError};

/// Marks the file as surus's: `suru` in ASCII, in SQLite's `application_id`.
pub(crate) const APPLICATION_ID: i64 = 0x7375_7275;

/// One script per format; the file's `user_version` is the number of scripts that it has seen. A script that was
/// released is never changed: add another.
const MIGRATIONS: &[&str] = &[include_str!("schema/1_ledger.sql")];

/// The newest format that this surus knows.
pub(crate) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// The file's format. Fails when the file is not surus's or a newer surus wrote it.
pub(crate) fn found(path: &Path, connection: &Connection) -> Result<i64> {
    let ask = |pragma: &str| -> rusqlite::Result<i64> { connection.query_row(pragma, [], |row| row.get(0)) };
    let application = ask("PRAGMA application_id").map_err(|error| StoreError::from_sqlite(path, error))?;
    let version = ask("PRAGMA user_version").map_err(|error| StoreError::from_sqlite(path, error))?;
    if application != APPLICATION_ID {
        return Err(StoreError::damaged(path, "it is not a file of surus's (its application_id is another one)"));
    }
    match version {
        1..=KNOWN => Ok(version),
        0 => Err(StoreError::damaged(path, "it has no format number")),
        found if found > KNOWN => Err(StoreError::Version { path: path.to_owned(), found, known: KNOWN }),
        odd => Err(StoreError::damaged(path, format!("its format number is {odd}"))),
    }
}

/// Applies the scripts that the file has not seen, all or none. Processes that do this at the same time take turns.
pub(crate) fn migrate(path: &Path, connection: &Connection, fresh: bool) -> Result<()> {
    let sqlite = |error| StoreError::from_sqlite(path, error);
    if !fresh && found(path, connection)? == KNOWN {
        return Ok(());
    }
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(sqlite)?;
    let seen = if fresh { 0 } else { found(path, &transaction)? };
    for script in MIGRATIONS.iter().skip(usize::try_from(seen).unwrap_or(0)) {
        transaction.execute_batch(script).map_err(sqlite)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(sqlite)?;
    transaction.pragma_update(None, "user_version", KNOWN).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
}
