//! A check's page, as `surus check explain` shows it and the reference lists it.

use crate::rule::{Bad, Check, Look, Need, RunsOn, Scope, Threshold};
use std::fmt::Write;

/// The page in Markdown, with how to suppress the check.
pub fn of(check: &Check) -> String {
    let ignore = format!("ignore = [{{ key = \"{}\", reason = \"…\" }}]", check.id);
    format!("# {}\nTo suppress it, with a reason, in surus.toml:\n\n```toml\n[check]\n{ignore}\n```\n", body(check))
}

/// The page without heading mark: its first line is the title.
pub fn body(check: &Check) -> String {
    let mut page = format!("{}: {}\n\n{}\n\n", check.id, check.title, tidy(check.why));
    let mut entry = |name: &str, text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "- **{name}**: {text}");
    };
    entry("Looks at", tidy(check.inspects));
    entry("Where", where_it_runs(check));
    if !check.needs.is_empty() {
        entry("Needs", check.needs.iter().map(|need| need_text(*need)).collect::<Vec<_>>().join("; "));
    }
    for threshold in check.thresholds {
        entry("Limit", limit_text(check, threshold));
    }
    entry("What to do", tidy(check.remedy));
    entry("Source", tidy(check.source));
    match &check.look {
        Look::Query(texts, _) => {
            for sql in *texts {
                let range = match (sql.from, sql.to) {
                    (0, u16::MAX) => String::new(),
                    (0, to) => format!(" (up to {to})"),
                    (from, u16::MAX) => format!(" (from {from})"),
                    (from, to) => format!(" ({from} to {to})"),
                };
                let _ = write!(page, "\nQuery{range}:\n\n```sql\n{}\n```\n", tidy(sql.text));
            }
        }
        Look::Later(reason) => {
            let _ = write!(page, "\nIn this version it is always unknown: {}.\n", reason());
        }
        Look::Facts(_) | Look::Repository(_) | Look::Custom(_) | Look::Pausing(_) | Look::Anew(_) => {}
    }
    page
}

fn tidy(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn where_it_runs(check: &Check) -> String {
    let scope = match check.scope {
        Scope::Instance => "once per instance",
        Scope::Database => "in every database",
    };
    match check.runs_on {
        RunsOn::Any => scope.to_owned(),
        RunsOn::Primary => format!("{scope}, on a primary"),
        RunsOn::Standby => format!("{scope}, on a standby"),
        RunsOn::EveryNode => format!("{scope}, on every node; all given nodes of a cluster must agree"),
    }
}

fn need_text(need: Need) -> String {
    match need {
        Need::Stats | Need::Settings | Need::Monitor => "pg_monitor".into(),
        Need::ReadAllData => "pg_read_all_data (14 and newer) or superuser".into(),
        Need::Hba => "EXECUTE on pg_hba_file_rules() or superuser".into(),
        Need::Superuser => "superuser".into(),
        Need::Host => "to run on the server's host".into(),
        Need::Extension(name) => format!("the extension {name}"),
        Need::Major(major) => format!("PostgreSQL {major} or newer"),
    }
}

fn limit_text(check: &Check, threshold: &Threshold) -> String {
    let side = if threshold.bad == Bad::Above { "from" } else { "down to" };
    let level = |word: &str, value: Option<f64>| value.map(|value| format!("{word} {side} {value} {}", threshold.unit));
    let levels: Vec<_> = [level("warn", threshold.warn), level("crit", threshold.crit)].into_iter().flatten().collect();
    format!("`[check.thresholds.\"{}\"] {}`: {}", check.id, threshold.name, levels.join(", "))
}
