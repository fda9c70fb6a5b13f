//! The ledger: appending to it and reading from it.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction, TransactionBehavior, named_params};
use serde::Serialize;
use surus_core::proof::Proof;

use crate::chain::{self, Columns, GENESIS, Raw};
use crate::{Result, Store, StoreError};

/// A proof with its place in the chain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Counts from 1 without gaps.
    pub number: i64,
    pub proof: Proof,
    /// The hash of the entry before it, or [`GENESIS`].
    pub previous_hash: String,
    pub hash: String,
}

/// Which entries to read; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub kind: Option<String>,
    pub cluster: Option<String>,
    /// A readiness item, 1 to 14.
    pub item: Option<u8>,
    /// Finished at this time or later.
    pub since: Option<Timestamp>,
    /// Of those, only this many newest ones.
    pub limit: Option<u32>,
}

/// What reading an entry takes: itself, and the hash of the entry before it.
const SELECT: &str = "SELECT l.number, l.body, l.previous_hash, l.hash, l.kind, l.cluster, l.subject, l.outcome, \
     l.started_at, l.finished_at, l.expires_at, p.hash AS before \
     FROM ledger AS l LEFT JOIN ledger AS p ON p.number = l.number - 1";

impl Store {
    /// Appends a proof. When this returns, the entry is on disk. Fails without recording anything when the last entry
    /// is not intact: a chain is never continued from a broken end.
    pub fn append(&self, proof: &Proof) -> Result<Entry> {
        let body = chain::body(proof)?;
        let connection = self.connection();
        let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)
            .map_err(|error| self.sqlite(error))?;
        let (last, previous_hash) = end_of_chain(self.path(), &transaction)?;
        let number = last + 1;
        let hash = chain::hash(&previous_hash, number, &body);
        insert(&transaction, &Raw { number, body, previous_hash: previous_hash.clone(), hash: hash.clone() }, proof)
            .and_then(|()| transaction.commit())
            .map_err(|error| self.sqlite(error))?;
        Ok(Entry { number, proof: proof.clone(), previous_hash, hash })
    }

    /// The entries that the filter lets through, oldest first. Each is checked against its hash and its predecessor.
    pub fn entries(&self, filter: &Filter) -> Result<Vec<Entry>> {
        let sql = format!(
            "{SELECT} WHERE (:kind IS NULL OR l.kind = :kind) AND (:cluster IS NULL OR l.cluster = :cluster) \
             AND (:since IS NULL OR l.finished_at >= :since) \
             AND (:item IS NULL OR EXISTS (SELECT 1 FROM json_each(l.body, '$.items') WHERE value = :item)) \
             ORDER BY l.number DESC LIMIT :limit"
        );
        // SQLite takes a negative limit for none.
        let limit = filter.limit.map_or(-1, i64::from);
        let mut entries = self.select(
            &sql,
            named_params! { ":kind": filter.kind, ":cluster": filter.cluster, ":item": filter.item,
            ":since": filter.since.map(chain::time_text), ":limit": limit },
        )?;
        entries.reverse();
        Ok(entries)
    }

    /// The entry with this number.
    pub fn entry(&self, number: i64) -> Result<Entry> {
        let sql = format!("{SELECT} WHERE l.number = :number");
        self.select(&sql, named_params! { ":number": number })?.pop().ok_or(StoreError::NotFound { number })
    }

    /// What is proven about a cluster at `now`: per kind and subject the newest proof that passed and has not expired,
    /// unless a newer one of the same kind and subject failed. Oldest first.
    pub fn counting_proofs(&self, cluster: &str, now: Timestamp) -> Result<Vec<Entry>> {
        let sql = format!(
            "{SELECT} WHERE l.cluster = :cluster AND l.outcome = 'passed' AND l.expires_at > :now \
             AND NOT EXISTS (SELECT 1 FROM ledger AS n WHERE n.cluster = l.cluster AND n.kind = l.kind \
             AND n.subject = l.subject AND n.number > l.number AND (n.outcome = 'failed' OR n.expires_at > :now)) \
             ORDER BY l.number"
        );
        let mut entries = self.select(&sql, named_params! { ":cluster": cluster, ":now": chain::time_text(now) })?;
        entries.retain(|entry| entry.proof.counts_at(now));
        Ok(entries)
    }

    fn select(&self, sql: &str, parameters: &[(&str, &dyn ToSql)]) -> Result<Vec<Entry>> {
        let connection = self.connection();
        let mut statement = connection.prepare(sql).map_err(|error| self.sqlite(error))?;
        let mut rows = statement.query(parameters).map_err(|error| self.sqlite(error))?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next().map_err(|error| self.sqlite(error))? {
            entries.push(entry_of(self.path(), row)?);
        }
        Ok(entries)
    }
}

/// Reads one entry as `SELECT` gives it, and believes it only when it is intact and follows its predecessor.
fn entry_of(path: &Path, row: &Row<'_>) -> Result<Entry> {
    let (raw, columns) = raw_of(row).map_err(|error| StoreError::from_sqlite(path, error))?;
    let before: Option<String> = row.get("before").map_err(|error| StoreError::from_sqlite(path, error))?;
    let previous = match &before {
        Some(hash) => (raw.number - 1, hash.as_str()),
        None if raw.number == 1 => (0, GENESIS),
        None => return Err(StoreError::chain(raw.number, "the entry before it is missing")),
    };
    let proof = checked(&raw, &columns, previous).map_err(|why| StoreError::chain(raw.number, why))?;
    Ok(Entry { number: raw.number, proof, previous_hash: raw.previous_hash, hash: raw.hash })
}

/// The proof in a row, when the row is intact, follows `previous` and its columns say what its body says.
pub(crate) fn checked(raw: &Raw, columns: &Columns, previous: (i64, &str)) -> std::result::Result<Proof, String> {
    let proof = raw.check(previous)?;
    if Columns::of(&proof) == *columns { Ok(proof) } else { Err("its columns differ from its body".to_owned()) }
}

/// A row of the ledger, not yet believed. Expects the table's own column names.
pub(crate) fn raw_of(row: &Row<'_>) -> rusqlite::Result<(Raw, Columns)> {
    let raw = Raw {
        number: row.get("number")?,
        body: row.get("body")?,
        previous_hash: row.get("previous_hash")?,
        hash: row.get("hash")?,
    };
    let columns = Columns {
        kind: row.get("kind")?,
        cluster: row.get("cluster")?,
        subject: row.get("subject")?,
        outcome: row.get("outcome")?,
        started_at: row.get("started_at")?,
        finished_at: row.get("finished_at")?,
        expires_at: row.get("expires_at")?,
    };
    Ok((raw, columns))
}

/// Where the chain says that it ends: number and hash.
pub(crate) fn head(connection: &Connection) -> rusqlite::Result<(i64, String)> {
    connection.query_row("SELECT number, hash FROM ledger_head WHERE one = 1", [], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Number and hash of the last entry, when it is intact and is where the head says.
fn end_of_chain(path: &Path, connection: &Connection) -> Result<(i64, String)> {
    let sqlite = |error| StoreError::from_sqlite(path, error);
    let head = head(connection).map_err(sqlite)?;
    let sql = format!("{SELECT} ORDER BY l.number DESC LIMIT 1");
    let last = connection.query_row(&sql, [], |row| Ok(entry_of(path, row))).optional().map_err(sqlite)?.transpose()?;
    let last = last.map_or_else(|| (0, GENESIS.to_owned()), |entry| (entry.number, entry.hash));
    if last != head {
        let why = format!("the ledger ends at entry {} but its head says {}", last.0, head.0);
        return Err(StoreError::chain(last.0 + 1, why));
    }
    Ok(last)
}

fn insert(connection: &Connection, raw: &Raw, proof: &Proof) -> rusqlite::Result<()> {
    let columns = Columns::of(proof);
    connection.execute(
        "INSERT INTO ledger (number, kind, cluster, subject, outcome, started_at, finished_at, expires_at, body, \
         previous_hash, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        rusqlite::params![
            raw.number,
            columns.kind,
            columns.cluster,
            columns.subject,
            columns.outcome,
            columns.started_at,
            columns.finished_at,
            columns.expires_at,
            raw.body,
            raw.previous_hash,
            raw.hash,
        ],
    )?;
    Ok(())
}
