//! What a diff looks like.

use super::{DiffArgs, Seen};
use crate::{args::DataFormat, failure::Failure, output::json, paint::Paint};
use serde_json::{Value, json as value};
use std::fmt::Write;
use surus_core::size::human_count;
use surus_prove::{
    diff::{Change, Layout, Row},
    repair::{Repair, TablePlan, Tried},
};

/// A repair with what became of it.
pub struct Repaired<'a> {
    pub repair: &'a Repair,
    pub tried: Option<Tried>,
    /// Up to when the copy was that it was tried on, and what else is to be said.
    pub notes: Vec<String>,
    pub file: String,
}

/// For people or programs.
pub fn written(seen: &[Seen], repaired: Option<&Repaired<'_>>, args: &DiffArgs) -> Result<String, Failure> {
    if args.format == DataFormat::Json {
        let tables: Vec<Value> = seen.iter().map(as_json).collect();
        return json(&value!({ "tables": tables, "repair": repaired.map(repair_json) }));
    }
    let mut out = String::new();
    seen.iter().for_each(|one| table_text(&mut out, one));
    if let Some(repaired) = repaired {
        repair_text(&mut out, repaired);
    }
    Ok(out)
}

fn table_text(out: &mut String, seen: &Seen) {
    let count = |number: u64| human_count(i64::try_from(number).unwrap_or(i64::MAX));
    let counts = seen.counts;
    let dropped = if seen.dropped { " (the table was dropped)" } else { "" };
    let _ = writeln!(
        out,
        "{}: {} vanished, {} changed, {} new, {} the same{dropped}",
        Paint::strong(&seen.table),
        count(counts.vanished),
        count(counts.changed),
        count(counts.new),
        count(counts.same)
    );
    for note in &seen.layout.notes {
        let _ = writeln!(out, "  {} {note}", Paint::faint("note:"));
    }
    for row in &seen.rows {
        let _ = match row {
            Change::Vanished(row) => writeln!(out, "  {} {}", Paint::crit("-"), row_text(&seen.layout, row)),
            Change::New(row) => writeln!(out, "  {} {}", Paint::good("+"), row_text(&seen.layout, row)),
            Change::Changed { was, is } => {
                writeln!(
                    out,
                    "  {} {}: {}",
                    Paint::warn("~"),
                    seen.layout.key_text(&was.key),
                    columns(&seen.layout, was, is)
                )
            }
        };
    }
    let all = counts.vanished + counts.changed + counts.new;
    if all > seen.rows.len() as u64 && !seen.rows.is_empty() {
        let _ = writeln!(out, "  … and {} more (--limit)", count(all - seen.rows.len() as u64));
    }
}

fn value_text(value: Option<&String>) -> String {
    value.map_or_else(|| "NULL".into(), |text| format!("'{}'", text.replace('\n', "\\n")))
}

fn row_text(layout: &Layout, row: &Row) -> String {
    let pairs = layout.columns.iter().zip(&row.values);
    pairs
        .map(|(column, value)| format!("{} {}", column.name, value_text(value.as_ref())))
        .collect::<Vec<_>>()
        .join(", ")
}

fn columns(layout: &Layout, was: &Row, is: &Row) -> String {
    let all = layout.columns.iter().zip(was.values.iter().zip(&is.values));
    let changed = all.filter(|(_, (was, is))| was != is);
    let texts = changed.map(|(column, (was, is))| {
        format!("{} {} → {}", column.name, value_text(was.as_ref()), value_text(is.as_ref()))
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn object(layout: &Layout, row: &Row) -> Value {
    let pairs = layout.columns.iter().zip(&row.values);
    Value::Object(pairs.map(|(column, value)| (column.name.clone(), Value::from(value.clone()))).collect())
}

fn as_json(seen: &Seen) -> Value {
    let rows = seen.rows.iter().map(|row| match row {
        Change::Vanished(row) => value!({ "change": "vanished", "was": object(&seen.layout, row) }),
        Change::New(row) => value!({ "change": "new", "is": object(&seen.layout, row) }),
        Change::Changed { was, is } => {
            value!({ "change": "changed", "was": object(&seen.layout, was), "is": object(&seen.layout, is) })
        }
    });
    value!({
        "table": seen.table.to_string(), "dropped": seen.dropped, "counts": seen.counts,
        "notes": seen.layout.notes, "rows": rows.collect::<Vec<_>>(),
    })
}

fn plan_json((name, plan): (&surus_prove::diff::TableName, &TablePlan)) -> Value {
    let overwritten: Vec<String> = plan.set.iter().map(|set| set.text(&plan.layout)).collect();
    value!({
        "table": name.to_string(), "named": plan.named, "dropped": plan.dropped, "put_back": plan.back.len(),
        "set_back": plan.set.len(), "overwritten": overwritten, "left_alone": plan.left,
    })
}

fn repair_json(repaired: &Repaired<'_>) -> Value {
    let tables: Vec<Value> = repaired.repair.tables.iter().map(plan_json).collect();
    value!({
        "file": repaired.file, "tables": tables, "tried": repaired.tried,
        "notes": repaired.repair.notes.iter().chain(&repaired.notes).collect::<Vec<_>>(),
    })
}

fn repair_text(out: &mut String, repaired: &Repaired<'_>) {
    let _ = writeln!(out, "\n{}", Paint::strong("The repair"));
    for (name, plan) in &repaired.repair.tables {
        let (back, set, left) = (plan.back.len(), plan.set.len(), plan.left.len());
        if plan.dropped {
            let _ = writeln!(out, "  {name}: comes back with all its rows");
        } else if back + set + left > 0 {
            let _ = writeln!(out, "  {name}: {back} rows put back, {set} set back, {left} left alone");
        }
        for one in &plan.set {
            let _ = writeln!(out, "    {} {}", Paint::warn("overwrites"), one.text(&plan.layout));
        }
        for one in &plan.left {
            let _ = writeln!(out, "    {} {}: {}", Paint::faint("left alone"), one.row, one.why);
        }
    }
    if repaired.repair.is_empty() {
        let _ = writeln!(out, "  There is nothing to put back.");
    }
    for note in repaired.repair.notes.iter().chain(&repaired.notes) {
        let _ = writeln!(out, "  {} {note}", Paint::faint("note:"));
    }
    match &repaired.tried {
        Some(tried) => {
            let rows = human_count(i64::try_from(tried.rows).unwrap_or(i64::MAX));
            let good = Paint::good("tried on a copy:");
            let _ = writeln!(out, "  {good} {rows} rows are as they were, in {:.1} s", tried.seconds);
        }
        None if !repaired.repair.is_empty() => {
            let _ = writeln!(out, "  {}", Paint::crit("not tried on a copy"));
        }
        None => {}
    }
}
