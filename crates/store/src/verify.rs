//! Walking the whole chain.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde::Serialize;

use crate::chain::GENESIS;
use crate::{Result, Store, ledger};

/// The first entry that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadEntry {
    pub number: i64,
    pub why: String,
}

/// What walking the chain showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainReport {
    /// How many entries hold, counted from the first.
    pub entries: u64,
    pub first_bad: Option<BadEntry>,
    /// The hash of the last entry that holds; [`GENESIS`] when there is none. Keep it elsewhere: whoever can write the
    /// file can also forge a whole new chain, but not one that ends in this hash.
    pub head_hash: String,
}

impl ChainReport {
    /// Does the whole chain hold?
    pub fn is_intact(&self) -> bool {
        self.first_bad.is_none()
    }
}

/// Walks a chain entry by entry.
#[derive(Debug)]
pub(crate) struct Walk {
    last: i64,
    hash: String,
}

impl Walk {
    pub(crate) fn new() -> Self {
        Self { last: 0, hash: GENESIS.to_owned() }
    }

    /// Number and hash that the next entry must follow.
    pub(crate) fn end(&self) -> (i64, &str) {
        (self.last, &self.hash)
    }

    pub(crate) fn step(&mut self, hash: String) {
        self.last += 1;
        self.hash = hash;
    }

    pub(crate) fn report(self, bad: Option<(i64, String)>) -> ChainReport {
        let first_bad = bad.map(|(number, why)| BadEntry { number, why });
        ChainReport { entries: self.last.unsigned_abs(), first_bad, head_hash: self.hash }
    }
}

impl Store {
    /// Walks the whole chain: numbers, links, hashes, columns and the recorded end. A file whose structure is damaged
    /// is an error; an entry that does not hold is in the report.
    pub fn verify_chain(&self) -> Result<ChainReport> {
        let connection = self.connection();
        // One view of the file, even while others append.
        let view = Transaction::new_unchecked(&connection, TransactionBehavior::Deferred)
            .map_err(|error| self.sqlite(error))?;
        let report = walk(&view).map_err(|error| self.sqlite(error))?;
        if report.is_intact() {
            self.check_structure(&view)?;
        }
        Ok(report)
    }

    /// Table and indexes agree. An index that lost an entry would hide it from a search though the chain holds.
    fn check_structure(&self, connection: &Connection) -> Result<()> {
        let found: String = connection
            .query_row("PRAGMA integrity_check('ledger')", [], |row| row.get(0))
            .map_err(|error| self.sqlite(error))?;
        if found == "ok" { Ok(()) } else { Err(crate::StoreError::damaged(self.path(), found)) }
    }
}

fn walk(connection: &Connection) -> rusqlite::Result<ChainReport> {
    // NOT INDEXED: the table itself, not a copy of it.
    let mut statement = connection.prepare("SELECT * FROM ledger NOT INDEXED ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut walk = Walk::new();
    while let Some(row) = rows.next()? {
        let number: i64 = row.get("number")?;
        let held = ledger::raw_of(row)
            .map_err(|error| format!("it cannot be read: {error}"))
            .and_then(|(raw, columns)| ledger::checked(&raw, &columns, walk.end()).map(|_| raw.hash));
        match held {
            Ok(hash) => walk.step(hash),
            Err(why) => return Ok(walk.report(Some((number, why)))),
        }
    }
    let head = ledger::head(connection)?;
    if (head.0, head.1.as_str()) == walk.end() {
        return Ok(walk.report(None));
    }
    let why = format!("entries were removed or replaced at the end: the head says {}", head.0);
    let number = walk.end().0 + 1;
    Ok(walk.report(Some((number, why))))
}
