//! The tables, and how an older file becomes a current one.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::{Result, StoreError};

/// One of surus's files: how it is marked, what its tables are and how safely it commits.
#[derive(Debug)]
pub(crate) struct Schema {
    /// In SQLite's `application_id`, to tell surus's files from others and from each other.
    pub application_id: i64,
    /// One script per format; the file's `user_version` is the number of scripts that it has seen. A script that was
    /// released is never changed: add another.
    pub migrations: &'static [&'static str],
    /// What must be set before the first table is made.
    pub before: &'static [(&'static str, i64)],
    /// What each connection sets.
    pub always: &'static [(&'static str, i64)],
    /// `FULL`: a commit is on disk when it returns. `NORMAL`: it survives a killed process, and a power cut takes what
    /// came after the last checkpoint (<https://sqlite.org/pragma.html#pragma_synchronous>).
    pub synchronous: &'static str,
}

/// The file of the ledger; its mark is `suru` in ASCII.
pub(crate) const LEDGER: Schema = Schema {
    application_id: 0x7375_7275,
    migrations: &[include_str!("schema/1_ledger.sql")],
    before: &[],
    always: &[],
    synchronous: "FULL",
};

impl Schema {
    /// The newest format that this surus knows.
    pub(crate) fn known(&self) -> i64 {
        i64::try_from(self.migrations.len()).unwrap_or(i64::MAX)
    }
}

/// The file's format. Fails when the file is not surus's or a newer surus wrote it.
pub(crate) fn found(path: &Path, schema: &Schema, connection: &Connection) -> Result<i64> {
    let ask = |pragma: &str| -> rusqlite::Result<i64> { connection.query_row(pragma, [], |row| row.get(0)) };
    let application = ask("PRAGMA application_id").map_err(|error| StoreError::from_sqlite(path, error))?;
    let version = ask("PRAGMA user_version").map_err(|error| StoreError::from_sqlite(path, error))?;
    if application != schema.application_id {
        return Err(StoreError::damaged(path, "it is not a file of surus's (its application_id is another one)"));
    }
    let known = schema.known();
    match version {
        0 => Err(StoreError::damaged(path, "it has no format number")),
        found if found > known => Err(StoreError::Version { path: path.to_owned(), found, known }),
        version if version > 0 => Ok(version),
        odd => Err(StoreError::damaged(path, format!("its format number is {odd}"))),
    }
}

/// Applies the scripts that the file has not seen, all or none. Processes that do this at the same time take turns.
pub(crate) fn migrate(path: &Path, schema: &Schema, connection: &Connection, fresh: bool) -> Result<()> {
    let sqlite = |error| StoreError::from_sqlite(path, error);
    if !fresh && found(path, schema, connection)? == schema.known() {
        return Ok(());
    }
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(sqlite)?;
    let seen = if fresh { 0 } else { found(path, schema, &transaction)? };
    for script in schema.migrations.iter().skip(usize::try_from(seen).unwrap_or(0)) {
        transaction.execute_batch(script).map_err(sqlite)?;
    }
    transaction.pragma_update(None, "application_id", schema.application_id).map_err(sqlite)?;
    transaction.pragma_update(None, "user_version", schema.known()).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
}
