//! Damaged pages as a person reads them.

use crate::{paint::Paint, wrap};
use std::fmt::Write;
use surus_core::size::human_count;
use surus_prove::damage::{Advice, Found, Known, Page, Rows, Version, patient::Patient};

/// All of it.
pub fn text(patient: &Patient, found: &Found, first: &[Advice], limit: usize) -> String {
    let mut out = format!("{}\n", Paint::strong(format!("Pages of {}", patient.label())));
    if !first.is_empty() {
        let _ = writeln!(out, "\n{}", Paint::strong("Before anything else"));
        first.iter().for_each(|advice| way(advice, "!", &mut out));
    }
    for page in &found.pages {
        one(page, limit, &mut out);
    }
    looked(patient, found, &mut out);
    out
}

fn looked(patient: &Patient, found: &Found, out: &mut String) {
    let looked = &found.looked;
    let mark = if found.pages.is_empty() { Paint::good("✓") } else { Paint::crit("✗") };
    let how = if patient.checksums { "checksums and headers" } else { "headers (the cluster has no checksums)" };
    let inside = match looked.amcheck {
        0 => String::new(),
        some => format!("; amcheck looked into {}", counted(some, "relation", "relations")),
    };
    let damaged = match found.pages.len() {
        0 => "none is damaged as far as that shows".to_owned(),
        1 => "one is damaged".to_owned(),
        many => format!("{many} are damaged"),
    };
    let (pages, files) = (counted(looked.pages, "page", "pages"), counted(looked.files, "file", "files"));
    let _ = writeln!(out, "\n{mark} {pages} in {files}, {how}{inside}: {damaged}");
    if let Some(failures) = looked.counted_failures.filter(|failures| *failures > 0) {
        let text = format!("the server has counted {failures} failed checksums since its statistics were reset");
        let _ = writeln!(out, "  {} {text}", Paint::faint("note:"));
    }
    if !looked.zeros.is_empty() {
        let text = format!(
            "{} of zeros before the ends of tables, as PostgreSQL leaves pages that were never used; whether one had rows the \
             backup tells, when it is named (--file, --block): {}{}",
            counted(looked.zero_pages, "page", "pages"),
            looked.zeros.join("; "),
            if looked.zero_pages > looked.zeros.len() as u64 { "; …" } else { "" }
        );
        wrapped(&format!("{} ", Paint::faint("note:")), 8, &text, out);
    }
    for note in &looked.notes {
        wrapped(&format!("{} ", Paint::faint("note:")), 8, note, out);
    }
    for unknown in &looked.unknown {
        wrapped(&format!("{} unknown: ", Paint::warn("?")), 4, unknown, out);
    }
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", human_count(i64::try_from(number).unwrap_or(i64::MAX)), if number == 1 { one } else { many })
}

fn one(page: &Page, limit: usize, out: &mut String) {
    let database = page.database.as_ref().map(|name| format!("database {name}, ")).unwrap_or_default();
    let block = page.block.map_or_else(String::new, |block| format!(", block {block}"));
    let _ = writeln!(out, "\n{} {database}{}{block}", Paint::crit("✗"), Paint::strong(&page.what));
    let offset = page.offset.map_or_else(String::new, |offset| format!(", at byte {offset}"));
    let _ = writeln!(out, "  {:<8}{}{offset}", "file", page.file);
    for wrong in &page.wrong {
        wrapped("wrong   ", 10, &wrong.text(), out);
    }
    if let Some(lsn) = page.lsn {
        let _ = writeln!(out, "  {:<8}last changed at {lsn} of the WAL, it says", "");
    }
    match &page.rows {
        Rows::None { why } => wrapped("rows    ", 10, &format!("none: {why}"), out),
        Rows::Unknown { why } => wrapped("rows    ", 10, &format!("unknown: {why}"), out),
        Rows::Known(known) => rows(known, limit, out),
    }
    for (number, advice) in page.way.iter().enumerate() {
        way(advice, &format!("{}.", number + 1), out);
    }
}

fn rows(known: &Known, limit: usize, out: &mut String) {
    let count = known.rows.len();
    let noun = if count == 1 { "row" } else { "rows" };
    let what = if known.refer {
        format!("{count} {noun} of {} with a part of a long value on it", known.table)
    } else {
        format!("{count} {noun} of {} on it", known.table)
    };
    wrapped("rows    ", 10, &format!("{what}, says the copy. {}", version(&known.version)), out);
    if !known.has_key {
        wrapped("        ", 10, "the table has no key that tells rows apart: all columns are shown", out);
    }
    let value =
        |value: &Option<String>| value.as_deref().map_or_else(|| "NULL".into(), |text| wrap::shortened(text, 60));
    for (place, values) in known.rows.iter().take(limit) {
        let pairs = known.key.iter().zip(values).map(|(column, one)| format!("{column} = {}", value(one)));
        let line = format!("{place} {}", pairs.collect::<Vec<_>>().join(", "));
        let _ = writeln!(out, "          {}", Paint::faint(wrap::shortened(&line, wrap::width().saturating_sub(12))));
    }
    if count > limit {
        let _ = writeln!(out, "          {}", Paint::faint(format!("and {} more (--limit N)", count - limit)));
    }
}

fn version(version: &Version) -> String {
    match version {
        Version::Same { lsn } => {
            format!("Both pages were last changed at {lsn}: these are exactly the rows that it held")
        }
        Version::Later { copy, damaged, rows } => {
            let rows = match rows {
                Some(rows) => {
                    format!("{rows} versions of rows on it are of later transactions, as far as it can be read")
                }
                None => "how many rows that is about cannot be told".to_owned(),
            };
            format!(
                "The page was changed at {damaged}, after the copy's at {copy}: {rows}. Rows may have come, gone or moved \
                 since. With the server's WAL archived (pg_switch_wal) and a new copy (surus at --drop) more of it is known"
            )
        }
        Version::Unknown { why } => {
            format!("Whether rows have come, gone or moved since the copy's moment is not known: {why}")
        }
    }
}

fn way(advice: &Advice, mark: &str, out: &mut String) {
    wrapped(&format!("{mark:<2} "), 5, &advice.text, out);
    for command in &advice.commands {
        // One line, so that it can be copied.
        let _ = writeln!(out, "       {}", Paint::code(command));
    }
}

/// Text behind a head, broken to the terminal's width; what follows is indented.
fn wrapped(head: &str, indent: usize, text: &str, out: &mut String) {
    let width = wrap::width().saturating_sub(indent + 2).max(30);
    for (number, line) in wrap::lines(text, width).into_iter().enumerate() {
        let _ = match number {
            0 => writeln!(out, "  {head}{line}"),
            _ => writeln!(out, "{:indent$}{line}", ""),
        };
    }
}
