//! The lists of the report: statements, waits, blocking, events, findings, and what could not be seen.

use crate::{
    pages::{
        activity::cut,
        parts,
        words::{counted, moment, number, quantity, span},
    },
    views::{
        activity::{Activity, Share},
        blocking::Blocking,
        findings::{Findings, Found, Item, NotSeen},
        plot::Unit,
        queries::{BLOCK, Queries, Row},
        report::Report,
        timeline::Timeline,
    },
};
use maud::{Markup, html};
use std::collections::{BTreeMap, BTreeSet};

/// Rows of each list: what fits on a page and still says it all.
const STATEMENTS: usize = 20;
const SHARES: usize = 8;
const EPISODES: usize = 20;
const EVENTS: usize = 60;
const FINDINGS: usize = 30;
/// Characters of a statement.
const TEXT: usize = 400;

fn nothing(why: &str) -> Markup {
    html! { p.nothing { (why) } }
}

/// Said below a list that was cut.
fn more(shown: usize, all: usize, what: &str) -> Markup {
    html! { @if all > shown { p.faint { (shown) " of " (counted(all, what)) "." } } }
}

/// Statements by their share of the load.
pub fn statements(queries: &Queries) -> Markup {
    html! {
        section {
            h2 { "Statements" }
            @if let Some(why) = &queries.empty { (nothing(why)) } @else {
                p.faint {
                    (counted(queries.statements, "statement")) " were called " (number(queries.calls as f64))
                    " times and took " (quantity(queries.total_ms, Unit::Milliseconds)) " together."
                }
                div.scroll {
                    table {
                        thead { tr {
                            th.number scope="col" { "Share" }
                            th.statement scope="col" { "Statement" }
                            th.number scope="col" { "Time" }
                            th.number scope="col" { "Calls" }
                            th.number scope="col" { "Mean" }
                            th.number scope="col" { "vs. a week ago" }
                            th.number scope="col" { "Rows / call" }
                            th.number scope="col" { "Read" }
                            th.number scope="col" { "Temporary" }
                            th.number scope="col" { "WAL" }
                        } }
                        tbody { @for row in queries.rows.iter().take(STATEMENTS) { (statement(row)) } }
                    }
                }
                (more(queries.rows.len().min(STATEMENTS), queries.statements, "statement"))
            }
        }
    }
}

fn statement(row: &Row) -> Markup {
    let bytes = |count: f64| if count == 0.0 { "0".to_owned() } else { quantity(count, Unit::Bytes) };
    html! {
        tr {
            td.number { (format!("{:.1} %", row.share * 100.0)) br; (parts::bar(row.share)) }
            td.statement {
                code { (row.text.as_deref().map_or_else(|| format!("query id {}", row.query), |text| cut(text, TEXT))) }
                div.faint { (row.users.join(", ")) @if !row.databases.is_empty() { " in " (row.databases.join(", ")) } }
            }
            td.number { (quantity(row.time_ms, Unit::Milliseconds)) }
            td.number { (number(row.calls as f64)) }
            td.number { (quantity(row.mean_ms, Unit::Milliseconds)) }
            td.number.warn[row.slower] {
                @match row.against_week { Some(times) => (format!("{times:.1}×")), None => "–" }
            }
            td.number { @if row.calls > 0 { (number(row.rows as f64 / row.calls as f64)) } @else { "–" } }
            td.number { (bytes(row.blocks_read as f64 * BLOCK)) }
            td.number { (bytes(row.temp_blocks as f64 * BLOCK)) }
            td.number { (bytes(row.wal_bytes as f64)) }
        }
    }
}

/// What sessions waited for, and whose they were.
pub fn waits(activity: &Activity) -> Markup {
    html! {
        section {
            h2 { "What sessions did" }
            @if activity.seen == 0 {
                (nothing(match activity.looks {
                    0 => "surus did not look at sessions in this range: it did not run, or the server did not answer.",
                    _ => "No session was at work in any look of the range.",
                }))
            } @else {
                p.faint {
                    (number(activity.average)) " active sessions on average over " (number(activity.looks as f64))
                    " looks."
                }
                div.lists {
                    (shares("Waits", &activity.waits))
                    (shares("Users", &activity.users))
                    (shares("Databases", &activity.databases))
                    (shares("Applications", &activity.applications))
                    (shares("Clients", &activity.clients))
                    @if !activity.blockers.is_empty() { (shares("Processes that others waited for", &activity.blockers)) }
                }
            }
        }
    }
}

fn shares(title: &str, all: &[Share]) -> Markup {
    html! {
        div {
            h3 { (title) }
            table {
                tbody { @for share in all.iter().take(SHARES) {
                    tr {
                        td.name {
                            @if share.key.is_empty() { span.faint { "none" } } @else { (share.key) }
                            @if let Some(text) = &share.text { " " span.faint { (cut(text, 60)) } }
                        }
                        td.shares { (parts::shares(&share.waits, &share.key)) }
                        td.number { (number(share.sessions)) }
                        td.number { (format!("{:.0} %", share.share * 100.0)) }
                    }
                } }
            }
        }
    }
}

/// When sessions waited for others.
pub fn blocking(blocking: &Blocking) -> Markup {
    let mut worst: Vec<_> = blocking.episodes.iter().collect();
    worst.sort_by_key(|one| std::cmp::Reverse((one.most, one.to_ms - one.from_ms)));
    html! {
        section {
            h2 { "Blocking" }
            @if worst.is_empty() { (nothing("No session was seen waiting for another.")) } @else {
                div.scroll {
                    table {
                        thead { tr {
                            th scope="col" { "Began" }
                            th.number scope="col" { "Lasted" }
                            th.number scope="col" { "Waiting at worst" }
                            th scope="col" { "Behind" }
                        } }
                        tbody { @for one in worst.iter().take(EPISODES) {
                            tr {
                                td.time { (moment(one.from_ms)) }
                                td.number { (span(one.to_ms - one.from_ms + 1000)) }
                                td.number { (counted(one.most, "session")) }
                                td { "process " (one.root) @if let Some(name) = &one.root_name { " " span.faint { (name) } } }
                            }
                        } }
                    }
                }
                (more(worst.len().min(EPISODES), worst.len(), "episode"))
                p.faint { "The worst first; of a long range only its last day is gone through." }
            }
        }
    }
}

/// What happened.
pub fn events(events: &Timeline) -> Markup {
    let all = events.rows.len() + events.more;
    html! {
        section {
            h2 { "Events" }
            @if events.rows.is_empty() { (nothing("Nothing happened in this range that surus noticed or was told.")) } @else {
                table {
                    tbody { @for one in events.rows.iter().take(EVENTS) {
                        tr {
                            td.time { (moment(one.at_ms)) }
                            td.faint { (one.kind) }
                            td.name { (one.title) }
                        }
                    } }
                }
                (more(events.rows.len().min(EVENTS), all, "event"))
            }
        }
    }
}

/// Readiness, and what the newest check found.
pub fn findings(view: &Findings) -> Markup {
    let (bad, info): (Vec<&Found>, Vec<&Found>) = view.findings.iter().partition(|one| one.severity != "info");
    html! {
        section {
            h2 { "Readiness and findings" }
            @if let Some(trouble) = &view.trouble { p.warn { (trouble) } }
            @if let Some(at_ms) = view.at_ms {
                p {
                    b.score { (view.score.unwrap_or_default()) } " of 100: how ready it is for production. "
                    span.faint { "Checked at " (moment(at_ms)) "; configured is not proven." }
                }
                ul.items { @for one in &view.items { (item(one)) } }
                p {
                    @for (at, (severity, count)) in view.counts.iter().enumerate() {
                        @if at > 0 { " · " }
                        (count) " " (severity)
                    }
                    " · " (counted(view.ok, "check")) " found nothing"
                    @if view.suppressed > 0 { " · " (counted(view.suppressed, "finding")) " suppressed" }
                }
                @for one in bad.iter().take(FINDINGS) { (finding(one)) }
                (more(bad.len().min(FINDINGS), bad.len(), "finding"))
                @if !info.is_empty() {
                    p.faint { "Not urgent: " (titles(&info)) }
                }
            }
        }
    }
}

/// Titles with how often each was found.
fn titles(all: &[&Found]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for one in all {
        *counts.entry(one.id.as_str()).or_default() += 1;
    }
    let told = counts.iter().map(|(id, count)| if *count == 1 { (*id).to_owned() } else { format!("{id} ({count})") });
    told.collect::<Vec<_>>().join(", ")
}

fn item(item: &Item) -> Markup {
    let (class, mark) = match item.state {
        "proven" => ("ok", "✓"),
        "configured" => ("warn", "½"),
        "missing" => ("crit", "✗"),
        _ => ("faint", "?"),
    };
    html! {
        li {
            span class=(class) { b { (mark) " " (item.state) } } " " (item.id) ". " (item.title)
            div.faint { (item.why) }
        }
    }
}

fn finding(one: &Found) -> Markup {
    html! {
        article.finding {
            h3 {
                span class=(format!("mark {}", one.severity)) { (one.severity) } " " (one.title)
                " " span.faint { (one.key) @if let Some(database) = &one.database { " in " (database) } }
            }
            @if !one.detail.is_empty() { p { (one.detail) } }
            @if let Some(fix) = &one.fix { p.faint { "Fix: " (fix.summary) " " code { (fix.command) } } }
        }
    }
}

/// What is missing from all of the above.
pub fn unseen(report: &Report) -> Markup {
    let checks = by_reason(&report.findings.unknown);
    html! {
        section {
            h2 { "What could not be seen" }
            @if checks.is_empty() && report.unseen.is_empty() {
                (nothing("surus saw everything that it looks at."))
            } @else {
                ul.plain {
                    @for one in &report.unseen {
                        li {
                            b { (one.what) } @if let Some(database) = &one.database { " in " (database) }
                            ": " (one.why)
                            @if let Some(next) = &one.next { " " span.faint { (next) } }
                        }
                    }
                    @for (reason, ids) in &checks {
                        li {
                            (reason) " "
                            span.faint { "(" (ids.iter().copied().collect::<Vec<_>>().join(", ")) ")" }
                        }
                    }
                }
            }
        }
    }
}

/// Each reason once, with the checks that it blinds.
fn by_reason(unknown: &[NotSeen]) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in unknown {
        reasons.entry(one.reason.as_str()).or_default().insert(one.id);
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once() {
        let one = |id: &'static str, reason: &str| NotSeen {
            id,
            object: String::new(),
            databases: Vec::new(),
            kind: "privilege",
            reason: reason.into(),
        };
        let all = [one("b", "no right"), one("a", "no right"), one("a", "no right"), one("c", "not there")];
        let told: Vec<_> = by_reason(&all).into_iter().map(|(why, ids)| (why, ids.len())).collect();
        assert_eq!(told, [("no right", 2), ("not there", 1)]);
    }

    #[test]
    fn a_statement_is_text() {
        let row = Row { query: "7".into(), text: Some("SELECT '<script>'".into()), share: 0.5, ..Row::default() };
        let page = statement(&row).into_string();
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>") && page.contains("50.0 %"), "{page}");
    }
}
