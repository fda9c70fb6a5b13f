//! The ledger as JSON lines that can be verified without the file they came from. `docs/format/ledger.md` specifies it.

use std::io::{self, BufRead, BufWriter, Write};

use rusqlite::{Transaction, TransactionBehavior};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::chain::Raw;
use crate::verify::Walk;
use crate::{ChainReport, Result, Store, StoreError, ledger};

/// The version of the export's own layout.
const EXPORT_VERSION: u32 = 1;

/// No line of an export is longer; guards against a file that is none.
const LONGEST_LINE_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    surus_ledger: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    previous_hash: &'a str,
    number: i64,
    /// The body as it was hashed, to the byte.
    #[serde(borrow)]
    body: &'a RawValue,
    hash: &'a str,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    entries: u64,
    head_hash: String,
}

impl Store {
    /// Writes the whole ledger and says how many entries that were. Stops at the first entry that does not hold, so
    /// that a complete export always verifies; an incomplete one lacks its last line.
    pub fn export(&self, output: impl Write) -> Result<u64> {
        let mut output = BufWriter::new(output);
        let connection = self.connection();
        let view = Transaction::new_unchecked(&connection, TransactionBehavior::Deferred)
            .map_err(|error| self.sqlite(error))?;
        let mut statement = view.prepare("SELECT * FROM ledger ORDER BY number").map_err(|error| self.sqlite(error))?;
        let mut rows = statement.query([]).map_err(|error| self.sqlite(error))?;
        put(&mut output, &Header { surus_ledger: EXPORT_VERSION })?;
        let mut walk = Walk::new();
        while let Some(row) = rows.next().map_err(|error| self.sqlite(error))? {
            let (raw, columns) = ledger::raw_of(row).map_err(|error| self.sqlite(error))?;
            let bad = |why: String| StoreError::chain(raw.number, why);
            ledger::checked(&raw, &columns, walk.end()).map_err(bad)?;
            let body: &RawValue = serde_json::from_str(&raw.body).map_err(|error| bad(error.to_string()))?;
            let Raw { number, previous_hash, hash, .. } = &raw;
            put(&mut output, &Line { previous_hash, number: *number, body, hash })?;
            walk.step(raw.hash);
        }
        let end = ledger::head(&view).map_err(|error| self.sqlite(error))?;
        if (end.0, end.1.as_str()) != walk.end() {
            return Err(StoreError::chain(walk.end().0 + 1, "entries were removed or replaced at the end"));
        }
        let report = walk.report(None);
        put(&mut output, &Trailer { entries: report.entries, head_hash: report.head_hash })?;
        output.flush().map_err(|error| unwritten(&error))?;
        Ok(report.entries)
    }
}

fn put(output: &mut impl Write, line: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(line).map_err(|error| StoreError::Export { why: error.to_string() })?;
    writeln!(output, "{text}").map_err(|error| unwritten(&error))
}

fn unwritten(error: &io::Error) -> StoreError {
    StoreError::Export { why: error.to_string() }
}

/// Verifies an export on its own. What is no export at all is an error; a line that does not hold, or a missing end, is
/// in the report.
pub fn verify_export(mut input: impl BufRead) -> Result<ChainReport> {
    let header = next_line(&mut input)?.ok_or_else(|| not_an_export("it is empty"))?;
    let header: Header = serde_json::from_str(&header).map_err(|_| not_an_export("its first line is not one's"))?;
    if header.surus_ledger != EXPORT_VERSION {
        return Err(not_an_export(&format!("its layout {} is not known to this surus", header.surus_ledger)));
    }
    let mut walk = Walk::new();
    while let Some(line) = next_line(&mut input)? {
        let number = walk.end().0 + 1;
        if let Ok(trailer) = serde_json::from_str::<Trailer>(&line) {
            let more = next_line(&mut input)?.is_some();
            return Ok(finish(walk, &trailer, more));
        }
        match entry_hash(&line, walk.end()) {
            Ok(hash) => walk.step(hash),
            Err(why) => return Ok(walk.report(Some((number, why)))),
        }
    }
    let number = walk.end().0 + 1;
    Ok(walk.report(Some((number, "the export ends without its last line".to_owned()))))
}

fn finish(walk: Walk, trailer: &Trailer, more: bool) -> ChainReport {
    let number = walk.end().0 + 1;
    let bad = if more {
        Some("lines follow the export's last line")
    } else if u64::try_from(walk.end().0) != Ok(trailer.entries) || walk.end().1 != trailer.head_hash {
        Some("entries are missing at the end, or the last line was changed")
    } else {
        None
    };
    walk.report(bad.map(|why| (number, why.to_owned())))
}

/// The hash of the entry in a line, when it holds.
fn entry_hash(line: &str, previous: (i64, &str)) -> std::result::Result<String, String> {
    let line: Line<'_> = serde_json::from_str(line).map_err(|error| format!("its line cannot be read: {error}"))?;
    let raw = Raw {
        number: line.number,
        body: line.body.get().to_owned(),
        previous_hash: line.previous_hash.to_owned(),
        hash: line.hash.to_owned(),
    };
    raw.check(previous)?;
    Ok(raw.hash)
}

fn next_line(input: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = String::new();
    let read = io::Read::take(&mut *input, LONGEST_LINE_BYTES).read_line(&mut line);
    match read.map_err(|error| not_an_export(&error.to_string()))? {
        0 => Ok(None),
        _ => Ok(Some(line)),
    }
}

fn not_an_export(why: &str) -> StoreError {
    StoreError::NotAnExport { why: why.to_owned() }
}
