//! The user's own rules: SQL that must return no row.

use super::{
    bench::{Bench, Line},
    step::{Found, short},
    structure::said,
};
use surus_pg::Rows;

const ADVICE: &str = "Ask the same on the original: when it returns rows there too, the data broke the rule and the \
    backup is a true copy; when not, the backup has lost or brought back rows: surus backup verify, then surus at \
    '<time>' shows what the moment held.";
/// How many offending rows are shown.
const SHOWN: usize = 3;

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invariant {
    pub name: String,
    pub database: String,
    /// A query; each row that it returns breaks the rule.
    pub sql: String,
}

/// Asks all of them.
pub fn all(bench: &Bench, invariants: &[Invariant]) -> Found {
    if invariants.is_empty() {
        return Found::good("none are written down; [[invariant]] in surus.toml adds your own");
    }
    let mut broken = Vec::new();
    let mut evidence = Vec::new();
    for invariant in invariants {
        let mut line = bench.line(&invariant.database);
        let asked = begin(&mut line).and_then(|()| line.ask(&invariant.sql));
        let told = match asked {
            Ok(rows) if rows.is_empty() => None,
            Ok(rows) => Some(format!("{} rows, such as {}", rows.len(), sample(&rows))),
            Err(error) => Some(format!("it could not be asked: {}", said(&error))),
        };
        if let Some(told) = told {
            evidence.push(format!("{} in {}: {}", invariant.name, invariant.database, short(&told)));
            broken.push(invariant.name.clone());
        }
        line.close();
    }
    if broken.is_empty() {
        let held = if invariants.len() == 1 { "1 holds".to_owned() } else { format!("all {} hold", invariants.len()) };
        return Found::good(held);
    }
    let text = format!("{} of {} do not hold: {}", broken.len(), invariants.len(), broken.join(", "));
    Found::bad(text, ADVICE).with(evidence)
}

/// As the user's own session would be, but reading only.
fn begin(line: &mut Line<'_>) -> Result<(), surus_pg::AskError> {
    line.ask("RESET search_path; SET default_transaction_read_only = on").map(drop)
}

fn sample(rows: &Rows) -> String {
    let shown: Vec<String> = rows.iter().take(SHOWN).map(|row| short(&format!("{row:?}"))).collect();
    shown.join(" · ")
}
