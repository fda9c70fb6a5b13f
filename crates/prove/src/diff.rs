//! Which rows of a table are not as they were: both sides are read in the order of the key and merged.
//!
//! The memory that it takes does not grow with the table. Values are compared as PostgreSQL writes them.

pub mod layout;
pub mod shape;
pub mod side;

pub use layout::Layout;
pub use shape::{Shape, TableName};
pub use side::{Row, Side};

use crate::error::{ProveError, Result};
use side::Stream;
use std::{cmp::Ordering, collections::HashMap};
use surus_core::code;

/// Values of a row or a key as text, `None` for NULL.
pub type Values = Vec<Option<String>>;

/// Rows that one side alone has shown, at most, until the other side is asked for them.
const LONE: usize = 500;

/// A row that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Vanished(Row),
    Changed { was: Row, is: Row },
    New(Row),
}

/// How many rows of each kind, exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    pub vanished: u64,
    pub changed: u64,
    pub new: u64,
    pub same: u64,
}

impl Counts {
    /// Is everything as it was?
    pub fn is_same(&self) -> bool {
        self.vanished + self.changed + self.new == 0
    }
}

/// A table on both sides.
#[derive(Debug, Clone)]
pub struct Pair {
    pub past: Shape,
    /// None: it was dropped.
    pub now: Option<Shape>,
}

/// The tables that a name means.
///
/// # Errors
/// When there was none, or several schemas have one of that name.
pub async fn tables(past: &Side, now: &Side, name: &str) -> Result<TableName> {
    let mut found = shape::named(past, name).await?;
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => {
            let text = format!("nothing was compared: several schemas have a table {name}: write SCHEMA.TABLE");
            Err(ProveError::refused(code::DIFF_TABLE, text))
        }
        (None, _) => {
            let since = if shape::named(now, name).await?.is_empty() { "" } else { "; it was made after that" };
            let text = format!("nothing was compared: at that moment there was no table {name}{since}");
            Err(ProveError::refused(code::DIFF_TABLE, text))
        }
    }
}

/// A table as both sides have it.
///
/// # Errors
/// When a side does not answer, or the table was not there in the past.
pub async fn pair(past: &Side, now: &Side, table: &TableName) -> Result<Pair> {
    let Some(was) = shape::read(past, table).await? else {
        let text = format!("nothing was compared: at that moment there was no table {table}");
        return Err(ProveError::refused(code::DIFF_TABLE, text));
    };
    Ok(Pair { past: was, now: shape::read(now, table).await? })
}

/// Tells every change to `each`, in the order of the key, and counts them. A side of now that is none has no row.
///
/// With a condition, a row that fulfils it on one side only is one that changed.
///
/// # Errors
/// When a side does not answer, or the key does not tell rows apart; what `each` refuses.
pub async fn compare(
    past: &Side,
    now: Option<&Side>,
    layout: &Layout,
    condition: Option<&str>,
    each: &mut (dyn FnMut(Change) -> Result<()> + Send),
) -> Result<Counts> {
    let mut sink = Sink { past, now, layout, each, counts: Counts::default(), gone: Vec::new(), came: Vec::new() };
    let mut was = past.rows(layout, condition).await?;
    let mut is = match now {
        Some(now) => Some(now.rows(layout, condition).await?),
        None => None,
    };
    let (mut before, mut after) = (was.next().await?, next(&mut is).await?);
    loop {
        let order = match (&before, &after) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => layout.compare(&before.key, &after.key),
        };
        let one = if order.is_le() { std::mem::replace(&mut before, was.next().await?) } else { None };
        let other = if order.is_ge() { std::mem::replace(&mut after, next(&mut is).await?) } else { None };
        sink.take(one, other, condition.is_some())?;
        if sink.gone.len() + sink.came.len() >= LONE {
            sink.settle().await?;
        }
    }
    sink.settle().await?;
    Ok(sink.counts)
}

async fn next(stream: &mut Option<Stream<'_>>) -> Result<Option<Row>> {
    match stream {
        Some(stream) => stream.next().await,
        None => Ok(None),
    }
}

struct Sink<'a> {
    past: &'a Side,
    now: Option<&'a Side>,
    layout: &'a Layout,
    each: &'a mut (dyn FnMut(Change) -> Result<()> + Send),
    counts: Counts,
    /// Rows that the condition let through on one side only.
    gone: Vec<Row>,
    came: Vec<Row>,
}

impl Sink<'_> {
    fn take(&mut self, was: Option<Row>, is: Option<Row>, conditional: bool) -> Result<()> {
        match (was, is) {
            (Some(row), None) if conditional && self.now.is_some() => self.gone.push(row),
            (None, Some(row)) if conditional => self.came.push(row),
            (was, is) => self.tell(was, is)?,
        }
        Ok(())
    }

    fn tell(&mut self, was: Option<Row>, is: Option<Row>) -> Result<()> {
        let (count, change) = match (was, is) {
            (None, None) => return Ok(()),
            (Some(row), None) => (&mut self.counts.vanished, Change::Vanished(row)),
            (None, Some(row)) => (&mut self.counts.new, Change::New(row)),
            (Some(was), Some(is)) if was.values == is.values => {
                self.counts.same += 1;
                return Ok(());
            }
            (Some(was), Some(is)) => (&mut self.counts.changed, Change::Changed { was, is }),
        };
        *count += 1;
        (self.each)(change)
    }

    /// Asks each side for the rows that only the other one showed.
    async fn settle(&mut self) -> Result<()> {
        let (gone, came) = (std::mem::take(&mut self.gone), std::mem::take(&mut self.came));
        let mut there = by_key(self.now, self.layout, &gone).await?;
        for was in gone {
            let is = there.remove(&was.key);
            self.tell(Some(was), is)?;
        }
        let mut there = by_key(Some(self.past), self.layout, &came).await?;
        for is in came {
            let was = there.remove(&is.key);
            self.tell(was, Some(is))?;
        }
        Ok(())
    }
}

/// The rows of a side that have the keys of others.
///
/// # Errors
/// When the side does not answer.
pub async fn by_key(side: Option<&Side>, layout: &Layout, rows: &[Row]) -> Result<HashMap<Values, Row>> {
    let Some(side) = side.filter(|_| !rows.is_empty()) else { return Ok(HashMap::new()) };
    let keys: Vec<Values> = rows.iter().map(|row| layout.key_values(&row.values)).collect();
    let found = side.find(layout, &layout.key_places(), &keys).await?;
    Ok(found.into_iter().map(|row| (row.key.clone(), row)).collect())
}
