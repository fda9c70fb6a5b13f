//! Sessions over the range: brush the plot, and the lists below say what the load was made of.

use super::{
    frame::{self, Asked},
    parts::{self, here, link, target_path},
    places,
    words::{counted, moment, number, span},
};
use crate::views::{
    Scene,
    activity::{Activity, Session, Share, look},
};
use axum::response::Response;
use maud::{Markup, html};

/// Characters of a statement in a list.
const TEXT: usize = 160;

/// `/t/{target}/activity`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::ACTIVITY, look, body).await
}

fn body(scene: &Scene, activity: &Activity) -> Markup {
    html! {
        h1 { (headline(activity)) }
        div.hero { (parts::plot(scene, &activity.plot)) }
        (chosen(scene, activity))
        @if activity.looks == 0 {
            (parts::nothing("surus did not look at sessions in this range: it did not run, or the server did not answer."))
        } @else if activity.seen == 0 {
            (parts::nothing("No session was at work that fits, in any look of the range."))
        }
        div.lists {
            (list(scene, "Statements", "query", &activity.statements, true))
            (list(scene, "Waits", "wait", &activity.waits, false))
            (list(scene, "Users", "user", &activity.users, false))
            (list(scene, "Databases", "database", &activity.databases, false))
            (list(scene, "Applications", "application", &activity.applications, false))
            (list(scene, "Clients", "client", &activity.clients, false))
            (blockers(scene, activity))
        }
        (sessions(scene, activity))
    }
}

fn headline(activity: &Activity) -> String {
    let most = activity.waits.first().filter(|_| activity.seen > 0);
    let mostly =
        most.map(|wait| format!(", {:.0} % of that {}", wait.share * 100.0, in_words(&wait.key))).unwrap_or_default();
    format!("{} sessions at work on average{mostly}", number(activity.average))
}

fn in_words(wait: &str) -> String {
    if wait == "CPU" { "on a CPU".to_owned() } else { format!("waiting for {wait}") }
}

/// What the lists are limited to, and the way back.
fn chosen(scene: &Scene, activity: &Activity) -> Markup {
    html! {
        p.chosen {
            @for (name, value) in &activity.filter {
                a.chip href=(here(scene, &[(name, None)])) title="Take this away" { (name) " " b { (value) } " ✕" }
            }
            span.faint {
                (counted(usize::try_from(activity.seen).unwrap_or(usize::MAX), "session")) " seen in "
                (counted(usize::try_from(activity.looks).unwrap_or(usize::MAX), "look")) ", one each second"
            }
        }
    }
}

fn list(scene: &Scene, title: &str, filter: &str, shares: &[Share], statements: bool) -> Markup {
    html! {
        section.list.wide[statements] {
            h2 { (title) }
            @if shares.is_empty() { (parts::nothing("none")) } @else {
                table {
                    thead {
                        tr {
                            th scope="col" { (title.trim_end_matches('s')) }
                            th.number scope="col" { "Sessions" }
                            th.number scope="col" { "Share" }
                            th scope="col" { span.hidden { "Waits" } }
                        }
                    }
                    tbody {
                        @for share in shares {
                            tr {
                                td.name { (name_of(scene, share, filter, statements)) }
                                td.number { (number(share.sessions)) }
                                td.number { (format!("{:.0} %", share.share * 100.0)) }
                                td.shares { (waits(share)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn name_of(scene: &Scene, share: &Share, filter: &str, statement: bool) -> Markup {
    let only = here(scene, &[(filter, Some(&share.key))]);
    if !statement {
        let name = if share.key.is_empty() { "(none)" } else { share.key.as_str() };
        return html! { @if share.key.is_empty() { (name) } @else { a href=(only) { (name) } } };
    }
    if share.key.is_empty() {
        return html! { span.faint { "without a query id: it is still being planned, is a process of PostgreSQL's own, or compute_query_id is off" } };
    }
    html! {
        (statement_link(scene, &share.key, share.text.as_deref()))
        " " a.faint href=(only) { "only this" }
    }
}

/// A statement's text, cut, as a link to its page.
pub fn statement_link(scene: &Scene, id: &str, text: Option<&str>) -> Markup {
    let target = scene.target.as_ref().map(|target| target.name.as_str()).unwrap_or_default();
    let href = link(scene, &target_path(target, &format!("/queries/{id}")), &[]);
    let cut = text.map(|text| cut(text, TEXT));
    html! { a.sql href=(href) title=[text] { @match cut { Some(text) => code { (text) }, None => { "query " (id) } } } }
}

/// The beginning of a text in one line.
pub fn cut(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn waits(share: &Share) -> Markup {
    let words: Vec<String> =
        share.waits.iter().map(|(wait, sessions)| format!("{wait} {}", number(*sessions))).collect();
    parts::shares(&share.waits, &words.join(", "))
}

fn blockers(scene: &Scene, activity: &Activity) -> Markup {
    html! {
        section.list {
            h2 { "Blockers" }
            @if activity.blockers.is_empty() { (parts::nothing("Nobody waited for another session.")) } @else {
                table {
                    thead { tr { th scope="col" { "Process" } th.number scope="col" { "Held up" } } }
                    tbody {
                        @for blocker in &activity.blockers {
                            tr {
                                td.name {
                                    a href=(blocking(scene)) { (blocker.key) }
                                    " "
                                    @if let Some(name) = &blocker.text { span.faint { (name) } }
                                }
                                td.number { (number(blocker.sessions)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn blocking(scene: &Scene) -> String {
    let target = scene.target.as_ref().map(|target| target.name.as_str()).unwrap_or_default();
    link(scene, &target_path(target, "/blocking"), &[])
}

fn sessions(scene: &Scene, activity: &Activity) -> Markup {
    html! {
        section.list.wide {
            h2 { "Sessions " @if let Some(at_ms) = activity.newest_ms { span.faint { "at " (moment(at_ms)) } } }
            @if activity.sessions.is_empty() {
                (parts::nothing(match activity.newest_ms {
                    Some(_) => "No session was doing anything, waiting or inside a transaction then.",
                    None => "surus did not look at sessions in the last minute of this range.",
                }))
            } @else {
                div.scroll { (session_table(scene, &activity.sessions)) }
            }
        }
    }
}

/// Sessions as a table.
pub fn session_table(scene: &Scene, sessions: &[Session]) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th.number scope="col" { "Process" }
                    th scope="col" { "Who" }
                    th scope="col" { "State" }
                    th scope="col" { "Waits for" }
                    th.number scope="col" { "Statement" }
                    th.number scope="col" { "Transaction" }
                    th scope="col" { "What" }
                }
            }
            tbody { @for session in sessions { (session_row(scene, session)) } }
        }
    }
}

fn session_row(scene: &Scene, session: &Session) -> Markup {
    let age = |ms: Option<i64>| ms.map(|ms| span(ms.max(0)));
    html! {
        tr {
            td.number { (pid_link(scene, session.pid)) }
            td { (who(session)) }
            td { (session.state.as_deref().unwrap_or("–")) }
            td {
                (wait_mark(&session.wait))
                @if !session.blocked_by.is_empty() {
                    " "
                    a href=(blocking(scene)) {
                        "behind "
                        (session.blocked_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                    }
                }
            }
            td.number { @if let Some(age) = age(session.query_age_ms) { (age) } }
            td.number { @if let Some(age) = age(session.transaction_age_ms) { (age) } }
            td.name { @if let Some(query) = &session.query { (statement_link(scene, query, session.text.as_deref())) } }
        }
    }
}

/// A process, as a link to the page that shows and can end it.
pub fn pid_link(scene: &Scene, pid: i32) -> Markup {
    let target = scene.target.as_ref().map(|target| target.name.as_str()).unwrap_or_default();
    html! { a href=(target_path(target, &format!("/sessions/{pid}"))) { (pid) } }
}

/// Who a session is.
pub fn who(session: &Session) -> Markup {
    let own = session.application.as_deref().filter(|name| !name.is_empty());
    html! {
        (own.or(session.backend_type.as_deref()).unwrap_or("–"))
        @if let Some(user) = &session.user {
            " "
            span.faint { (user) @if let Some(database) = &session.database { "@" (database) } }
        }
        @if let Some(client) = &session.client { " " span.faint { (client) } }
    }
}

/// What is waited for, in its colour.
pub fn wait_mark(wait: &str) -> Markup {
    let class = wait.split(':').next().unwrap_or_default();
    html! { @if !wait.is_empty() { span class=(format!("wait-mark wait-{}", parts::segment(class))) { (wait) } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_one_line() {
        assert_eq!(cut("SELECT *\n  FROM  orders", 100), "SELECT * FROM orders");
        assert_eq!(cut("SELECT 1", 3), "SEL…");
    }
}
