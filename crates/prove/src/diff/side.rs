//! One side of a comparison: a session that sees one snapshot, and rows read from it in order or by their keys.

use super::{
    Values,
    layout::{Layout, Place},
    shape::TableName,
};
use crate::error::Result;
use std::{cmp::Ordering, collections::VecDeque};
use surus_pg::{
    Row as Answer, Rows, Session,
    quote::{ident, literal},
};

/// Bytes of rows that are fetched at a time, about.
const BATCH_BYTES: u64 = 4 << 20;
/// Rows that are fetched at a time, at least and at most.
const BATCH_ROWS: (u64, u64) = (100, 10_000);
/// Keys that are looked up at a time.
const KEYS_AT_A_TIME: usize = 500;

/// What both sides are told, so that the same value is the same text on both.
pub const SAME_TEXT: &str = "SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL TimeZone = 'UTC'; \
     SET LOCAL IntervalStyle = 'postgres'; SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; \
     SET LOCAL lc_monetary = 'C'; SET LOCAL xmloption = 'content'";

/// A session in one snapshot.
#[derive(Debug)]
pub struct Side {
    session: Session,
    /// Does the database keep text as UTF-8? Its bytes are ordered as ours then.
    utf8: bool,
}

/// A row: the key in the form by which it is ordered, and the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: Values,
    pub values: Values,
}

impl Side {
    /// Takes a session's snapshot, read-only.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn open(session: Session) -> Result<Self> {
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        // Rows that a policy hides would look like rows that vanished. The other side may sort for long.
        session
            .run(&format!(
                "SET LOCAL row_security = off; SET LOCAL cursor_tuple_fraction = 1; \
             SET LOCAL idle_in_transaction_session_timeout = 0; {SAME_TEXT}"
            ))
            .await?;
        let encoding = session.ask("SELECT current_setting('server_encoding') AS encoding").await?;
        let utf8 = encoding.first()?.str("encoding")? == "UTF8";
        Ok(Self { session, utf8 })
    }

    /// Ends it.
    pub async fn close(self) {
        // A session that is broken needs no end.
        let _ = self.session.run("ROLLBACK").await;
        self.session.close().await;
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Asks; what was asked is not remembered.
    ///
    /// # Errors
    /// As [`Session::ask`].
    pub async fn ask(&self, sql: &str) -> Result<Rows> {
        let rows = self.session.ask(sql).await;
        self.session.take_asked();
        Ok(rows?)
    }

    /// The user's own words about rows may name functions and operators of the table's schema.
    ///
    /// # Errors
    /// As [`Side::ask`].
    pub async fn look_in(&self, table: &TableName) -> Result<()> {
        self.ask(&format!("SET LOCAL search_path = pg_catalog, {}, public", ident(&table.schema))).await.map(drop)
    }

    fn select(layout: &Layout) -> String {
        let keys = layout.key.iter().map(|key| key.canonical(layout));
        let values = layout.columns.iter().map(|column| format!("t.{}::text", ident(&column.name)));
        let only = if layout.partitioned { "" } else { "ONLY " };
        let list = keys.chain(values).collect::<Vec<_>>().join(", ");
        format!("SELECT {list} FROM {only}{} t", layout.table)
    }

    /// All rows in the order of the key.
    ///
    /// # Errors
    /// As [`Side::ask`].
    pub async fn rows<'a>(&'a self, layout: &'a Layout, condition: Option<&str>) -> Result<Stream<'a>> {
        let order = layout.key.iter().map(|key| key.order(layout, self.utf8)).collect::<Vec<_>>().join(", ");
        let condition = condition.map_or_else(String::new, |text| format!(" WHERE ({text}\n)"));
        let select = Self::select(layout);
        self.ask(&format!("DECLARE surus_rows NO SCROLL CURSOR FOR {select}{condition} ORDER BY {order}")).await?;
        Ok(Stream { side: self, layout, batch: VecDeque::new(), fetch: BATCH_ROWS.0, ended: false, last: None })
    }

    /// The rows whose columns have these values (by the layout's types); those without a match are left out.
    ///
    /// # Errors
    /// As [`Side::ask`].
    pub async fn find(&self, layout: &Layout, columns: &[&Place], wanted: &[Values]) -> Result<Vec<Row>> {
        let mut found = Vec::new();
        for some in wanted.chunks(KEYS_AT_A_TIME) {
            let rows = self.ask(&format!("{} WHERE {}", Self::select(layout), one_of(layout, columns, some))).await?;
            found.extend(rows.iter().map(|row| row_of(row, layout)));
        }
        Ok(found)
    }
}

/// The condition that a row's columns have one of these values.
pub fn one_of(layout: &Layout, columns: &[&Place], wanted: &[Values]) -> String {
    let names: Vec<_> = columns.iter().map(|place| format!("t.{}", ident(place.name(layout)))).collect();
    let nulls = wanted.iter().any(|values| values.iter().any(Option::is_none));
    if nulls || columns.iter().any(|place| !place.has_equality(layout)) {
        return by_text(&names, wanted);
    }
    let one = |values: &Values| {
        let typed = columns.iter().zip(values).map(|(place, value)| {
            format!("{}::{}", literal(value.as_deref().unwrap_or_default()), place.type_name(layout))
        });
        let typed = typed.collect::<Vec<_>>().join(", ");
        if columns.len() == 1 { typed } else { format!("({typed})") }
    };
    let list = wanted.iter().map(one).collect::<Vec<_>>().join(", ");
    if names.len() == 1 { format!("{} IN ({list})", names[0]) } else { format!("({}) IN ({list})", names.join(", ")) }
}

/// For types that cannot be compared, and for keys with NULL in them.
fn by_text(names: &[String], wanted: &[Values]) -> String {
    let one = |values: &Values| {
        let each = names.iter().zip(values).map(|(name, value)| match value {
            Some(text) => format!("{name}::text = {}", literal(text)),
            None => format!("{name} IS NULL"),
        });
        format!("({})", each.collect::<Vec<_>>().join(" AND "))
    };
    wanted.iter().map(one).collect::<Vec<_>>().join(" OR ")
}

fn row_of(answer: Answer<'_>, layout: &Layout) -> Row {
    let (key, values) = answer.values().split_at(layout.key.len());
    Row { key: key.to_vec(), values: values.to_vec() }
}

/// Rows in the order of the key, a batch at a time.
#[derive(Debug)]
pub struct Stream<'a> {
    side: &'a Side,
    layout: &'a Layout,
    batch: VecDeque<Row>,
    fetch: u64,
    ended: bool,
    last: Option<Values>,
}

impl Stream<'_> {
    /// The next row.
    ///
    /// # Errors
    /// As [`Side::ask`]; and when two rows have the same key, or come in another order than ours.
    pub async fn next(&mut self) -> Result<Option<Row>> {
        if self.batch.is_empty() && !self.ended {
            let rows = self.side.ask(&format!("FETCH {} FROM surus_rows", self.fetch)).await?;
            self.ended = (rows.len() as u64) < self.fetch;
            let each = (rows.bytes() / (rows.len() as u64).max(1)).max(1);
            self.fetch = (BATCH_BYTES / each).clamp(BATCH_ROWS.0, BATCH_ROWS.1);
            self.batch.extend(rows.iter().map(|row| row_of(row, self.layout)));
            if self.ended {
                self.side.ask("CLOSE surus_rows").await?;
            }
        }
        let Some(row) = self.batch.pop_front() else { return Ok(None) };
        if let Some(last) = &self.last {
            match self.layout.compare(last, &row.key) {
                Ordering::Less => {}
                Ordering::Equal => return Err(self.layout.not_unique(last)),
                Ordering::Greater => return Err(self.layout.out_of_order(last, &row.key)),
            }
        }
        self.last = Some(row.key.clone());
        Ok(Some(row))
    }
}
