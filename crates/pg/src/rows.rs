//! The answer to a query, as text, with typed access by column name.

use std::{fmt, str::FromStr, sync::Arc};

/// All rows of one answer. Values are text, as the simple query protocol sends them.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    columns: Arc<Vec<String>>,
    rows: Vec<Vec<Option<String>>>,
}

/// A row has no such column, or the value is NULL or of another type: a mistake in the query, not in the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column \"{column}\": {problem}")]
pub struct RowError {
    pub column: String,
    pub problem: String,
}

impl Rows {
    /// Rows from columns and values.
    pub fn new(columns: Vec<String>, rows: Vec<Vec<Option<String>>>) -> Self {
        Self { columns: Arc::new(columns), rows }
    }

    /// The columns' names.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows in the order the server sent them.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|values| Row { columns: &self.columns, values })
    }

    /// The first row; an error when there is none.
    pub fn first(&self) -> Result<Row<'_>, RowError> {
        self.iter().next().ok_or_else(|| RowError { column: "*".into(), problem: "the answer has no row".into() })
    }

    /// The size of all values, in bytes of text.
    pub fn bytes(&self) -> u64 {
        self.rows.iter().flatten().flatten().map(|value| value.len() as u64).sum()
    }
}

/// One row of an answer.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    columns: &'a [String],
    values: &'a [Option<String>],
}

impl fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.columns.iter().zip(self.values)).finish()
    }
}

impl<'a> Row<'a> {
    /// All values in the order of the columns, `None` for NULL.
    pub fn values(&self) -> &'a [Option<String>] {
        self.values
    }

    /// The text of a column, `None` for NULL.
    pub fn opt_str(&self, column: &str) -> Result<Option<&'a str>, RowError> {
        let at = self
            .columns
            .iter()
            .position(|name| name == column)
            .ok_or_else(|| problem(column, "is not in the answer"))?;
        Ok(self.values[at].as_deref())
    }

    /// The text of a column that is never NULL.
    pub fn str(&self, column: &str) -> Result<&'a str, RowError> {
        self.opt_str(column)?.ok_or_else(|| problem(column, "is NULL"))
    }

    /// The text of a column, owned; NULL becomes empty.
    pub fn text(&self, column: &str) -> Result<String, RowError> {
        Ok(self.opt_str(column)?.unwrap_or_default().to_owned())
    }

    /// A whole number.
    pub fn i64(&self, column: &str) -> Result<i64, RowError> {
        self.opt_i64(column)?.ok_or_else(|| problem(column, "is NULL"))
    }

    /// A whole number or NULL.
    pub fn opt_i64(&self, column: &str) -> Result<Option<i64>, RowError> {
        self.parsed(column)
    }

    /// A number, fractional or not.
    pub fn f64(&self, column: &str) -> Result<f64, RowError> {
        self.opt_f64(column)?.ok_or_else(|| problem(column, "is NULL"))
    }

    /// A number or NULL.
    pub fn opt_f64(&self, column: &str) -> Result<Option<f64>, RowError> {
        self.parsed(column)
    }

    /// A boolean.
    pub fn bool(&self, column: &str) -> Result<bool, RowError> {
        self.opt_bool(column)?.ok_or_else(|| problem(column, "is NULL"))
    }

    /// A boolean or NULL.
    pub fn opt_bool(&self, column: &str) -> Result<Option<bool>, RowError> {
        match self.opt_str(column)? {
            None => Ok(None),
            Some("t" | "true") => Ok(Some(true)),
            Some("f" | "false") => Ok(Some(false)),
            Some(other) => Err(problem(column, &format!("is no boolean: \"{other}\""))),
        }
    }

    /// A one-dimensional array of text without NULLs, as `{a,"b c"}` arrives.
    pub fn list(&self, column: &str) -> Result<Vec<String>, RowError> {
        match self.opt_str(column)? {
            None => Ok(Vec::new()),
            Some(text) => array(text).ok_or_else(|| problem(column, &format!("is no array: \"{text}\""))),
        }
    }

    fn parsed<T: FromStr>(&self, column: &str) -> Result<Option<T>, RowError> {
        self.opt_str(column)?
            .map(|text| text.parse().map_err(|_| problem(column, &format!("is no number: \"{text}\""))))
            .transpose()
    }
}

fn problem(column: &str, text: &str) -> RowError {
    RowError { column: column.to_owned(), problem: text.to_owned() }
}

/// Splits PostgreSQL's text form of a one-dimensional array.
fn array(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    let mut item = String::new();
    let (mut quoted, mut any) = (false, false);
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => (quoted, any) = (!quoted, true),
            '\\' => item.push(chars.next()?),
            ',' if !quoted => {
                items.push(std::mem::take(&mut item));
                any = true;
            }
            other => {
                item.push(other);
                any = true;
            }
        }
    }
    if any {
        items.push(item);
    }
    (!quoted).then_some(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_arrays() {
        assert_eq!(array("{}").unwrap(), Vec::<String>::new());
        assert_eq!(array("{a,b}").unwrap(), ["a", "b"]);
        assert_eq!(array(r#"{"a,b","c\"d",""}"#).unwrap(), ["a,b", "c\"d", ""]);
        assert_eq!(array("{a"), None);
    }

    #[test]
    fn typed_access_names_the_column_in_errors() {
        let rows = Rows::new(vec!["n".into(), "b".into()], vec![vec![Some("7".into()), None]]);
        let row = rows.first().unwrap();
        assert_eq!(row.i64("n").unwrap(), 7);
        assert_eq!(row.opt_bool("b").unwrap(), None);
        assert_eq!(row.bool("b").unwrap_err().to_string(), "column \"b\": is NULL");
        assert_eq!(row.i64("x").unwrap_err().to_string(), "column \"x\": is not in the answer");
    }
}
