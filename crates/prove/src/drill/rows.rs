//! How many rows the tables have, and whether that fits what earlier drills counted.

use super::{bench::Bench, counted, step::Found};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use surus_core::{monitor::Monitor, proof::Proof, size::human_count};
use surus_pg::quote::ident;

/// Counts of this many tables are kept in the ledger: the largest.
const TABLES_MAX: usize = 500;
/// A table that has less than one of so many rows left is worth a word.
const SHRUNK: i64 = 4;
/// What the ledger's measures of rows begin with.
const PREFIX: &str = "rows of ";
/// When the copy's moment was, in seconds since 1970.
pub(super) const RECOVERED: &str = "recovered_to";

const ADVICE: &str = "Was the table dropped or emptied on purpose? Then the next drill takes the new counts as they are. \
    If not: find the moment with surus at '<time>' -c 'SELECT count(*) FROM …', and bring the rows back with surus diff \
    --repair.";

/// The rows by `database: schema.table`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    pub tables: BTreeMap<String, i64>,
    /// Rows of all tables, also of those that are not listed.
    pub total: i64,
}

/// What an earlier drill counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// Its number in the ledger.
    pub number: i64,
    pub tables: BTreeMap<String, i64>,
    /// The moment that its copy was of.
    pub recovered_to: Option<Timestamp>,
}

/// The earlier proofs that counted rows, newest first. They are given oldest first.
pub fn baseline<'a>(earlier: impl DoubleEndedIterator<Item = (i64, &'a Proof)>) -> Vec<Baseline> {
    let of = |(number, proof): (i64, &Proof)| {
        let named = |measure: &surus_core::proof::Measure| {
            Some((measure.name.strip_prefix(PREFIX)?.to_owned(), measure.value as i64))
        };
        let tables: BTreeMap<String, i64> = proof.measured.iter().filter_map(named).collect();
        let recovered = proof.measured.iter().find(|measure| measure.name == RECOVERED);
        let recovered_to = recovered.and_then(|measure| Timestamp::from_second(measure.value as i64).ok());
        (!tables.is_empty()).then_some(Baseline { number, tables, recovered_to })
    };
    earlier.rev().filter_map(of).collect()
}

/// The measures that the ledger keeps.
pub(super) fn measures(counted: &Counted) -> impl Iterator<Item = (String, f64)> + '_ {
    counted.tables.iter().map(|(name, rows)| (format!("{PREFIX}{name}"), *rows as f64))
}

/// Counts the rows of every ordinary table and compares.
pub(super) fn count(
    bench: &Bench,
    earlier: &[Baseline],
    recovered_to: Option<Timestamp>,
    monitor: &dyn Monitor,
) -> (Found, Counted) {
    let mut all: Vec<(i64, String, i64)> = Vec::new();
    let mut unread = Vec::new();
    monitor.begin("row counts", None);
    for database in &bench.databases {
        let mut line = bench.line(&database.name);
        let tables = database.relations.iter().flatten().filter(|one| matches!(one.kind, 'r' | 'm') && !one.system);
        for table in tables {
            let name = format!("{}: {}", ident(&database.name), table.name);
            let asked = line.ask(&format!("SELECT count(*) AS n FROM ONLY {}", table.name));
            let rows = asked.map_err(|error| error.to_string());
            match rows.and_then(|rows| rows.first().and_then(|row| row.i64("n")).map_err(|error| error.to_string())) {
                Ok(rows) => all.push((table.pages, name, rows)),
                Err(why) => unread.push(format!("{name}: {why}")),
            }
        }
        line.close();
    }
    monitor.end("row counts", "");
    let total = all.iter().map(|(_, _, rows)| rows).sum();
    all.sort_by_key(|(pages, _, rows)| std::cmp::Reverse((*pages, *rows)));
    let names: Vec<&str> = all.iter().map(|(_, name, _)| name.as_str()).collect();
    let found = compare(&all, &names, &unread, fitting(earlier, recovered_to), total);
    let kept = all.iter().take(TABLES_MAX).map(|(_, name, rows)| (name.clone(), *rows)).collect();
    (found, Counted { tables: kept, total })
}

/// The newest that is not of a later moment: what came into being since then is not missing.
fn fitting(earlier: &[Baseline], recovered_to: Option<Timestamp>) -> Option<&Baseline> {
    let before = |one: &&Baseline| match (one.recovered_to, recovered_to) {
        (Some(then), Some(now)) => then <= now,
        _ => true,
    };
    earlier.iter().find(before)
}

fn compare(
    all: &[(i64, String, i64)],
    names: &[&str],
    unread: &[String],
    earlier: Option<&Baseline>,
    total: i64,
) -> Found {
    let what = format!("{} rows in {}", human_count(total), counted(all.len() as u64, "table", "tables"));
    if !unread.is_empty() {
        let text = format!("{} could not be counted", counted(unread.len() as u64, "table", "tables"));
        return Found::bad(text, "The step above says what is wrong with them.").with(unread.to_vec());
    }
    let Some(earlier) = earlier else {
        return Found::good(format!("{what}; no earlier drill to compare with"));
    };
    let number = earlier.number;
    let now: BTreeMap<&str, i64> = all.iter().map(|(_, name, rows)| (name.as_str(), *rows)).collect();
    let (mut lost, mut shrunk) = (Vec::new(), Vec::new());
    for (name, then) in &earlier.tables {
        match now.get(name.as_str()) {
            None if !names.contains(&name.as_str()) => {
                lost.push(format!("{name} is not there; entry {number} counted {} rows", human_count(*then)));
            }
            Some(0) if *then > 0 => {
                lost.push(format!("{name} is empty; entry {number} counted {} rows", human_count(*then)));
            }
            Some(rows) if rows.saturating_mul(SHRUNK) < *then => shrunk.push(format!(
                "{name} has {} rows; entry {number} counted {}",
                human_count(*rows),
                human_count(*then)
            )),
            _ => {}
        }
    }
    if !lost.is_empty() {
        let text = format!("{} vanished or empty since entry {number}", counted(lost.len() as u64, "table", "tables"));
        lost.extend(shrunk);
        return Found::bad(text, ADVICE).with(lost);
    }
    let aside = if shrunk.is_empty() {
        format!("none vanished since entry {number}")
    } else {
        format!("{} much smaller than in entry {number}", counted(shrunk.len() as u64, "table", "tables"))
    };
    Found::good(format!("{what}; {aside}")).with(shrunk)
}

#[cfg(test)]
mod tests {
    use super::{super::step::State, *};

    fn found(now: &[(&str, i64)], then: &[(&str, i64)], times: (i64, i64)) -> Found {
        let all: Vec<_> = now.iter().map(|(name, rows)| (1, (*name).to_owned(), *rows)).collect();
        let names: Vec<&str> = now.iter().map(|(name, _)| *name).collect();
        let tables = then.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect();
        let at = |seconds| Timestamp::from_second(seconds).ok();
        let earlier = [Baseline { number: 4, tables, recovered_to: at(times.0) }];
        compare(&all, &names, &[], fitting(&earlier, at(times.1)), 0)
    }

    #[test]
    fn a_vanished_or_emptied_table_fails_and_a_shrunk_one_is_said() {
        let then = [("d: a", 100), ("d: b", 100)];
        assert_eq!(found(&[("d: a", 90), ("d: b", 120)], &then, (1, 2)).state, State::Passed);
        let gone = found(&[("d: a", 90)], &then, (1, 2));
        assert!(gone.state == State::Failed && gone.evidence[0].contains("d: b is not there"), "{gone:?}");
        let empty = found(&[("d: a", 0), ("d: b", 1)], &then, (1, 2));
        assert!(empty.state == State::Failed && empty.evidence.len() == 2, "{empty:?}");
        let small = found(&[("d: a", 100), ("d: b", 20)], &then, (1, 2));
        assert!(small.state == State::Passed && small.evidence[0].contains("has 20 rows"), "{small:?}");
        let before = found(&[("d: a", 100)], &then, (5, 2));
        assert!(before.state == State::Passed && before.result.contains("no earlier drill"), "{before:?}");
    }
}
