//! Reading single rows of many user relations: bounded, a few locks at a time, and never stopped by one locked
//! relation.

use crate::verdict::Trouble;
use std::time::Duration;
use surus_core::{clock::Deadline, finding::Reason};
use surus_pg::{AskErrorKind, Rows, Session};

/// How many relations one statement reads; it holds an ACCESS SHARE lock on each until it ends.
const AT_ONCE: usize = 50;
/// So many are read however long it takes.
const AT_LEAST: usize = 500;
/// Each failure is a wait for a lock; after so many of them reading ends.
const FAILURES: usize = 20;

/// What was read and what was not.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub answers: Vec<Rows>,
    /// Relations that could not be read, with why.
    pub failed: Vec<(String, Reason)>,
    /// How many at the end were not tried for want of time.
    pub left: usize,
}

/// Asks many small queries of the same shape, several in one statement. Each item is a relation's name and a `SELECT`
/// that returns at most one row. Beyond the first 500 it stops when `budget` is used up, so the important come first.
///
/// # Errors
/// When the session is gone.
pub(crate) async fn read(session: &Session, items: &[(String, String)], budget: Duration) -> Result<Read, Trouble> {
    let deadline = Deadline::after(budget);
    let mut read = Read::default();
    for (nth, batch) in items.chunks(AT_ONCE).enumerate() {
        let late = nth * AT_ONCE >= AT_LEAST && deadline.passed();
        if late || read.failed.len() >= FAILURES {
            read.left = items.len() - nth * AT_ONCE;
            break;
        }
        let all: Vec<_> = batch.iter().map(|(_, sql)| format!("({sql})")).collect();
        match session.ask(&all.join(" UNION ALL ")).await {
            Ok(rows) => read.answers.push(rows),
            Err(error) if error.kind == AskErrorKind::Closed => return Err(error.into()),
            // Something is wrong with one of them: locked, dropped meanwhile. The others must not suffer.
            Err(_) => one_by_one(session, batch, &mut read).await?,
        }
    }
    Ok(read)
}

async fn one_by_one(session: &Session, batch: &[(String, String)], read: &mut Read) -> Result<(), Trouble> {
    for (name, sql) in batch {
        if read.failed.len() >= FAILURES {
            read.failed.push((name.clone(), Reason::Locked("too many others were locked".into())));
            continue;
        }
        match session.ask(sql).await {
            Ok(rows) => read.answers.push(rows),
            Err(error) if error.kind == AskErrorKind::Undefined => {} // dropped meanwhile
            Err(error) => match Trouble::from(error) {
                Trouble::Unknown(reason) => read.failed.push((name.clone(), reason)),
                gone => return Err(gone),
            },
        }
    }
    Ok(())
}
