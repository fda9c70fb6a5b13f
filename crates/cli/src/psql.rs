//! Answers of PostgreSQL as psql prints them, and for programs.

use crate::failure::Failure;
use clap::ValueEnum;
use surus_pg::Rows;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    /// As psql does
    Text,
    /// Each row an object; values as PostgreSQL writes them, or null
    Json,
    /// With a heading; NULL is empty
    Csv,
}

/// The rows in that format; nothing for a statement that has none.
pub fn written(rows: &Rows, format: RowFormat) -> Result<String, Failure> {
    match format {
        RowFormat::Json => crate::output::json(&objects(rows)),
        _ if rows.columns().is_empty() => Ok(String::new()),
        RowFormat::Csv => Ok(csv(rows)),
        RowFormat::Text => Ok(table(rows)),
    }
}

fn objects(rows: &Rows) -> Vec<serde_json::Value> {
    let object = |values: &[Option<String>]| {
        let pairs = rows.columns().iter().cloned().zip(values.iter().cloned().map(serde_json::Value::from));
        serde_json::Value::Object(pairs.collect())
    };
    rows.iter().map(|row| object(row.values())).collect()
}

fn csv(rows: &Rows) -> String {
    let field = |text: &str| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    let mut out = rows.columns().iter().map(|name| field(name)).collect::<Vec<_>>().join(",") + "\n";
    for row in rows.iter() {
        let fields = row.values().iter().map(|value| match value.as_deref() {
            None => String::new(),
            // So that it is not taken for NULL.
            Some("") => "\"\"".into(),
            Some(text) => field(text),
        });
        out += &(fields.collect::<Vec<_>>().join(",") + "\n");
    }
    out
}

/// A table: headings centred, numbers to the right, a `+` where a value goes on in the next line.
pub fn table(rows: &Rows) -> String {
    let columns = rows.columns();
    let cells: Vec<Vec<Vec<String>>> = rows.iter().map(|row| row.values().iter().map(lines_of).collect()).collect();
    let width = |at: usize| {
        let cells = cells.iter().flat_map(|row| row[at].iter().map(|line| line.chars().count()));
        cells.chain([columns[at].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let numbers: Vec<bool> = (0..columns.len()).map(|at| is_number_column(rows, at)).collect();
    let heads = columns.iter().zip(&widths).map(|(name, width)| format!(" {name:^width$} "));
    let mut out = heads.collect::<Vec<_>>().join("|").trim_end().to_owned() + "\n";
    out += &(widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+") + "\n");
    for row in &cells {
        let height = row.iter().map(Vec::len).max().unwrap_or(1);
        for number in 0..height {
            let fields = row.iter().enumerate().map(|(at, lines)| {
                let (text, width) = (lines.get(number).map_or("", String::as_str), widths[at]);
                let goes_on = if number + 1 < lines.len() { '+' } else { ' ' };
                if numbers[at] { format!(" {text:>width$}{goes_on}") } else { format!(" {text:<width$}{goes_on}") }
            });
            out += fields.collect::<Vec<_>>().join("|").trim_end();
            out += "\n";
        }
    }
    out + &format!("({} row{})\n", rows.len(), if rows.len() == 1 { "" } else { "s" })
}

fn lines_of(value: &Option<String>) -> Vec<String> {
    let text = value.as_deref().unwrap_or_default();
    text.split('\n').map(|line| line.replace('\r', "\\r").replace('\t', "        ")).collect()
}

/// The protocol that is used tells no types: a column whose every value is a number is one of numbers.
fn is_number_column(rows: &Rows, at: usize) -> bool {
    let number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit() || c == '-') && text.parse::<f64>().is_ok();
    let mut values = rows.iter().filter_map(|row| row.values()[at].as_deref()).peekable();
    values.peek().is_some() && values.all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let some = |text: &str| Some(text.to_owned());
        let columns = ["id", "name"].map(str::to_owned).to_vec();
        Rows::new(columns, vec![vec![some("7"), some("a,\"b\"\nc")], vec![some("-12.50"), None]])
    }

    #[test]
    fn a_table_is_what_psql_prints() {
        let expected = "   id   | name  \n--------+-------\n      7 | a,\"b\"+\n        | c\n -12.50 |\n(2 rows)\n";
        let trimmed: String = expected.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        assert_eq!(table(&rows()), trimmed);
        let one = Rows::new(vec!["?column?".into()], vec![vec![Some("1".into())]]);
        assert_eq!(table(&one), " ?column?\n----------\n        1\n(1 row)\n");
    }

    #[test]
    fn programs_get_csv_and_json() {
        assert_eq!(written(&rows(), RowFormat::Csv).unwrap(), "id,name\n7,\"a,\"\"b\"\"\nc\"\n-12.50,\n");
        let json: serde_json::Value = serde_json::from_str(&written(&rows(), RowFormat::Json).unwrap()).unwrap();
        assert_eq!(json, serde_json::json!([{"id": "7", "name": "a,\"b\"\nc"}, {"id": "-12.50", "name": null}]));
        assert_eq!(written(&Rows::default(), RowFormat::Text).unwrap(), "");
    }
}
