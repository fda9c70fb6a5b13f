//! How a table is compared: by which key, in which order, and which columns both sides have.

use super::{
    Values,
    shape::{Shape, TableName},
};
use crate::error::{ProveError, Result};
use std::cmp::Ordering;
use surus_core::code;
use surus_pg::quote::ident;

/// A column that both sides have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    pub name: String,
    /// Its type as it is now, or was when the table is not there any more.
    pub type_name: String,
    pub identity: bool,
    pub sequence: Option<String>,
}

/// A column by its number among [`Layout::columns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(pub usize);

/// A column of the key. Integers are ordered as such, so that an index serves; all others by the bytes of their text,
/// which is the same on both sides whatever collation the column has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    pub place: Place,
    kind: KeyKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    Integer,
    /// 1.0 and 1.00 are the same key.
    Numeric,
    /// As are `A` and `a`.
    NoCase,
    Text,
}

/// How a table is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub table: TableName,
    pub partitioned: bool,
    pub key: Vec<KeyColumn>,
    /// Is the key one by which the table itself keeps rows apart?
    pub key_is_enforced: bool,
    pub columns: Vec<Common>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// Types without an operator `=`. Source: PostgreSQL's `pg_operator`; `point` has `~=` only.
const WITHOUT_EQUALITY: &[&str] =
    &["json", "xml", "point", "path", "polygon", "circle", "line", "jsonpath", "pg_lsn[]"];

impl Place {
    /// Its name.
    pub fn name(self, layout: &Layout) -> &str {
        &layout.columns[self.0].name
    }

    /// Its type.
    pub fn type_name(self, layout: &Layout) -> &str {
        &layout.columns[self.0].type_name
    }

    /// Can its values be compared with `=`?
    pub fn has_equality(self, layout: &Layout) -> bool {
        !WITHOUT_EQUALITY.contains(&self.type_name(layout).trim_end_matches("[]"))
    }
}

impl KeyColumn {
    /// The expression that is the same text for the same key.
    pub fn canonical(&self, layout: &Layout) -> String {
        let name = format!("t.{}", ident(self.place.name(layout)));
        match self.kind {
            KeyKind::Integer | KeyKind::Text => format!("{name}::text"),
            KeyKind::Numeric => format!("trim_scale({name})::text"),
            KeyKind::NoCase => format!("lower({name}::text)"),
        }
    }

    /// The expression to sort by.
    pub fn order(&self, layout: &Layout, utf8: bool) -> String {
        match self.kind {
            KeyKind::Integer => format!("t.{} NULLS FIRST", ident(self.place.name(layout))),
            _ if utf8 => format!("({}) COLLATE \"C\" NULLS FIRST", self.canonical(layout)),
            // In other encodings the order of the bytes is another one.
            _ => format!("convert_to({}, 'UTF8') NULLS FIRST", self.canonical(layout)),
        }
    }

    fn compare(&self, one: Option<&str>, other: Option<&str>) -> Ordering {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
        match self.kind {
            KeyKind::Integer => number(one).cmp(&number(other)),
            _ => one.map(str::as_bytes).cmp(&other.map(str::as_bytes)),
        }
    }
}

impl Layout {
    /// How to compare a table as it was with the table as it is now, if it is there.
    ///
    /// # Errors
    /// When there is no key, or the wished one is of columns that are not there.
    pub fn of(past: &Shape, now: Option<&Shape>, wish: Option<&[String]>) -> Result<Self> {
        let mut notes = Vec::new();
        let mut columns = Vec::new();
        for column in &past.columns {
            let there = now.map_or(Some(column), |now| now.column(&column.name));
            let Some(there) = there else {
                notes.push(format!("column {} is not there any more: it is not compared", ident(&column.name)));
                continue;
            };
            if there.type_name != column.type_name {
                let (name, was, is) = (ident(&column.name), &column.type_name, &there.type_name);
                notes.push(format!("column {name} was of type {was} and is of type {is}: its text is compared"));
            }
            if !column.generated && !there.generated {
                columns.push(Common {
                    name: there.name.clone(),
                    type_name: there.type_name.clone(),
                    identity: there.identity,
                    sequence: there.sequence.clone(),
                });
            }
        }
        for added in now.iter().flat_map(|now| &now.columns).filter(|column| past.column(&column.name).is_none()) {
            notes.push(format!("column {} is new: it is not compared", ident(&added.name)));
        }
        let mut layout = Self {
            table: past.table.clone(),
            partitioned: now.unwrap_or(past).partitioned,
            key: Vec::new(),
            key_is_enforced: false,
            columns,
            notes,
        };
        layout.choose_key(past, now, wish)?;
        Ok(layout)
    }

    /// For a table that is taken as a whole, and not compared.
    pub fn without_key(past: &Shape) -> Self {
        let (table, partitioned) = (past.table.clone(), past.partitioned);
        Self { table, partitioned, key: Vec::new(), key_is_enforced: false, columns: Vec::new(), notes: Vec::new() }
    }

    fn choose_key(&mut self, past: &Shape, now: Option<&Shape>, wish: Option<&[String]>) -> Result<()> {
        let refused = |text: String| Err(ProveError::refused(code::DIFF_KEY, text));
        let names = match wish {
            Some(names) => names.to_vec(),
            None => {
                let whole = |key: &&super::shape::UniqueKey| key.columns.iter().all(|name| self.place(name).is_some());
                match past.keys.iter().chain(now.iter().flat_map(|now| &now.keys)).find(whole) {
                    Some(key) => key.columns.clone(),
                    None => {
                        let text = format!(
                            "{} was not compared: it has neither a primary key nor a unique index without NULLs; \
                             name columns that tell its rows apart with --key",
                            self.table
                        );
                        return refused(text);
                    }
                }
            }
        };
        for name in &names {
            let Some(place) = self.place(name) else {
                return refused(format!("{} was not compared: both sides must have the column {name}", self.table));
            };
            let kind = match place.type_name(self) {
                "smallint" | "integer" | "bigint" => KeyKind::Integer,
                name if name.starts_with("numeric") => KeyKind::Numeric,
                name if name.ends_with("citext") => KeyKind::NoCase,
                _ => KeyKind::Text,
            };
            // Integers on one side and text on the other would come in two orders.
            let was = past.column(name).map(|column| column.type_name.as_str());
            let same = was == Some(place.type_name(self)) || matches!(was, Some("smallint" | "integer" | "bigint"));
            let kind = if kind == KeyKind::Integer && !same { KeyKind::Text } else { kind };
            self.key.push(KeyColumn { place, kind });
        }
        let same = |key: &[String]| key.len() == names.len() && names.iter().all(|name| key.contains(name));
        self.key_is_enforced = now.unwrap_or(past).keys.iter().any(|key| same(&key.columns));
        Ok(())
    }

    /// The place of a column.
    pub fn place(&self, name: &str) -> Option<Place> {
        self.columns.iter().position(|column| column.name == name).map(Place)
    }

    /// The places of the key's columns.
    pub fn key_places(&self) -> Vec<&Place> {
        self.key.iter().map(|key| &key.place).collect()
    }

    /// The key's own values in a row, as the table has them.
    pub fn key_values(&self, values: &Values) -> Values {
        self.key.iter().map(|key| values[key.place.0].clone()).collect()
    }

    /// Which of two keys comes first.
    pub fn compare(&self, one: &Values, other: &Values) -> Ordering {
        let each = self.key.iter().zip(one.iter().zip(other));
        each.map(|(key, (one, other))| key.compare(one.as_deref(), other.as_deref()))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// A key for people: `id = 7, line = 2`.
    pub fn key_text(&self, key: &Values) -> String {
        let each = self.key.iter().zip(key).map(|(column, value)| {
            let name = ident(column.place.name(self));
            value.as_ref().map_or_else(|| format!("{name} is null"), |value| format!("{name} = {value}"))
        });
        each.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn not_unique(&self, key: &Values) -> ProveError {
        let text =
            format!("{} was not compared: two rows have {}; give --key more columns", self.table, self.key_text(key));
        ProveError::refused(code::DIFF_KEY, text)
    }

    pub(super) fn out_of_order(&self, one: &Values, other: &Values) -> ProveError {
        let (one, other) = (self.key_text(one), self.key_text(other));
        let text = format!("{} was not compared: the server sent {one} before {other}", self.table);
        ProveError::refused(code::BUG, text)
    }
}
