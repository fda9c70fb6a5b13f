//! One collector, asked once in one session.

use crate::{
    collector::{Collector, Page, Scene},
    why::Why,
};
use std::{sync::Arc, time::Duration};
use surus_core::{clock::Stopwatch, code, series::Told};
use surus_pg::{AskError, AskErrorKind, Facts, Rows, Session};

/// Points that one collector may tell of one place at once. More would be a catalogue beyond what surus is made for.
const POINTS_AT_MOST: usize = 200_000;
/// How much longer than `statement_timeout` an answer may take before the session counts as dead.
const GRACE: Duration = Duration::from_secs(2);

/// A collector's run.
#[derive(Debug)]
pub struct Ran {
    pub collector: &'static str,
    pub database: Option<Arc<str>>,
    /// The scheduled time of the cycle.
    pub at_ms: i64,
    pub took: Duration,
    pub rows: usize,
    pub told: Result<Vec<Told>, Failed>,
}

/// Why a run gave no answer.
#[derive(Debug, Clone)]
pub enum Failed {
    /// Something that it needs is missing; it was not asked.
    Absent(Why),
    /// It was asked and failed.
    Refused(Why),
    /// The session is gone.
    Closed(Why),
}

/// A session and what is known of the place that it leads to.
pub struct Place<'a> {
    pub session: &'a Session,
    pub facts: &'a Facts,
    pub database: &'a str,
    pub statement_timeout: Duration,
}

/// Asks within the time that the server itself has for it, and a little more for the way.
///
/// # Errors
/// As [`Session::ask`]; a server that says nothing at all counts as gone.
pub async fn ask(session: &Session, sql: &str, statement_timeout: Duration) -> Result<Rows, AskError> {
    let answer = tokio::time::timeout(statement_timeout + GRACE, session.ask(sql)).await;
    // Nobody reads the record here, and it must not grow.
    let _asked = session.take_asked();
    let _warned = session.take_warnings();
    answer.unwrap_or_else(|_| {
        Err(AskError {
            kind: AskErrorKind::Closed,
            sqlstate: None,
            message: format!("the server said nothing for {} s", (statement_timeout + GRACE).as_secs()),
            detail: None,
            hint: None,
        })
    })
}

/// Sorts an error of the server.
pub fn failed(error: &AskError) -> Failed {
    match error.kind {
        AskErrorKind::Closed => Failed::Closed(error.into()),
        _ => Failed::Refused(error.into()),
    }
}

/// Runs a collector's query and reads its rows.
pub async fn run(
    place: &Place<'_>,
    collector: &'static Collector,
    sql: &str,
    at_ms: i64,
    of_database: Option<Arc<str>>,
) -> Ran {
    let watch = Stopwatch::start();
    let answer = ask(place.session, sql, place.statement_timeout).await;
    let took = watch.elapsed();
    let rows = answer.as_ref().map_or(0, Rows::len);
    let scene = Scene { facts: place.facts, database: place.database, at_ms };
    let told = answer.map_err(|error| failed(&error)).and_then(|rows| read(collector, &rows, &scene));
    Ran { collector: collector.name, database: of_database, at_ms, took, rows, told }
}

fn read(collector: &Collector, rows: &Rows, scene: &Scene<'_>) -> Result<Vec<Told>, Failed> {
    let mut page = Page::default();
    (collector.read)(rows, scene, &mut page).map_err(|error| Failed::Refused((&error).into()))?;
    let told = page.into_told();
    let points: usize = told.iter().map(|told| told.points.len()).sum();
    if points > POINTS_AT_MOST {
        let text = format!("{points} points at once are more than surus takes ({POINTS_AT_MOST}); none was kept");
        return Err(Failed::Refused(Why::error(code::QUERY_UNEXPECTED, text)));
    }
    Ok(told)
}
