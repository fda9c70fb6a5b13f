//! Reading single rows of many user relations: bounded, a few locks at a time, and never stopped by one locked relation.

use crate::verdict::Trouble;
use surus_core::finding::Reason;
use surus_pg::{AskErrorKind, Rows, Session};

/// How many relations one statement reads; it holds an ACCESS SHARE lock on each until it ends.
const AT_ONCE: usize = 50;

/// Asks many small queries of the same shape, several in one statement. Each item is a relation's name and a `SELECT`
/// that returns at most one row.
///
/// Returns the answers and the relations that could not be read, with why.
///
/// # Errors
/// When the session is gone.
pub(crate) async fn read(
    session: &Session,
    items: &[(String, String)],
) -> Result<(Vec<Rows>, Vec<(String, Reason)>), Trouble> {
    let (mut answers, mut unread) = (Vec::new(), Vec::new());
    for batch in items.chunks(AT_ONCE) {
        let all: Vec<_> = batch.iter().map(|(_, sql)| format!("({sql})")).collect();
        match session.ask(&all.join(" UNION ALL ")).await {
            Ok(rows) => answers.push(rows),
            Err(error) if error.kind == AskErrorKind::Closed => return Err(error.into()),
            // Something is wrong with one of them: locked, dropped meanwhile. The others must not suffer.
            Err(_) => one_by_one(session, batch, &mut answers, &mut unread).await?,
        }
    }
    Ok((answers, unread))
}

async fn one_by_one(
    session: &Session,
    batch: &[(String, String)],
    answers: &mut Vec<Rows>,
    unread: &mut Vec<(String, Reason)>,
) -> Result<(), Trouble> {
    for (name, sql) in batch {
        match session.ask(sql).await {
            Ok(rows) => answers.push(rows),
            Err(error) if error.kind == AskErrorKind::Undefined => {} // dropped meanwhile
            Err(error) => match Trouble::from(error) {
                Trouble::Unknown(reason) => unread.push((name.clone(), reason)),
                gone => return Err(gone),
            },
        }
    }
    Ok(())
}
