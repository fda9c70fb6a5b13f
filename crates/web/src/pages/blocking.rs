//! Who holds up whom, as a tree.

use super::{
    activity::{pid_link, statement_link, wait_mark, who},
    frame::{self, Asked},
    parts::{self, here},
    places,
    words::{counted, moment, span},
};
use crate::views::{
    Scene,
    blocking::{Blocking, Branch, Episode, look},
};
use axum::response::Response;
use maud::{Markup, html};

/// `/t/{target}/blocking`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::BLOCKING, look, body).await
}

fn body(scene: &Scene, blocking: &Blocking) -> Markup {
    html! {
        h1 { (headline(blocking)) }
        @if let Some(at_ms) = blocking.at_ms {
            p.faint {
                @if blocking.now { "Now, as of " } @else { "As it was at " } (moment(at_ms)) "."
                @if scene.form.get("at").is_some() {
                    " "
                    a href=(here(scene, &[("at", None)])) { "Back to the newest" }
                }
            }
        }
        @if !blocking.roots.is_empty() {
            ul.tree role="tree" aria-label="Sessions that wait, below whom they wait for" {
                @for root in &blocking.roots { (branch(scene, root)) }
            }
            p.faint { "The first of each tree waits for nobody: ending its transaction lets the others go on. Its page shows its statement and can end it." }
        }
        (parts::plot(scene, &blocking.plot))
        section.list.wide {
            h2 { "When sessions waited for others" }
            @if blocking.episodes.is_empty() { (parts::nothing("Not in this range, as far as surus looked.")) } @else {
                table {
                    thead {
                        tr {
                            th scope="col" { "From" }
                            th scope="col" { "For" }
                            th.number scope="col" { "At most" }
                            th scope="col" { "Behind" }
                            th scope="col" { "" }
                        }
                    }
                    tbody { @for episode in &blocking.episodes { (row(scene, episode)) } }
                }
            }
        }
    }
}

fn headline(blocking: &Blocking) -> String {
    match (blocking.at_ms, blocking.waiting) {
        (None, _) => "Nobody looked at sessions at that moment".to_owned(),
        (Some(_), 0) => "No session waits for another".to_owned(),
        (Some(_), waiting) => {
            let roots = blocking.roots.len();
            format!(
                "{} for {roots} other{}",
                if waiting == 1 { "1 session waits".to_owned() } else { format!("{waiting} sessions wait") },
                if roots == 1 { "" } else { "s" }
            )
        }
    }
}

fn branch(scene: &Scene, node: &Branch) -> Markup {
    html! {
        li role="treeitem" aria-expanded=[(!node.waiting.is_empty()).then_some("true")] {
            div.node {
                b { (pid_link(scene, node.pid)) }
                @match &node.session {
                    Some(session) => {
                        " " (who(session)) " "
                        @if let Some(state) = &session.state { span.state-word { (state) } " " }
                        (wait_mark(&session.wait)) " "
                        @if let Some(ms) = session.transaction_age_ms {
                            span.faint { "transaction open for " (span(ms.max(0))) }
                        }
                        @if let Some(query) = &session.query {
                            div { (statement_link(scene, query, session.text.as_deref())) }
                        }
                    },
                    None => span.faint {
                        " was not seen itself: it does nothing and has no transaction, or is a prepared transaction (0)"
                    }
                    ,
                }
                @if node.held_up > 0 { p.held { "holds up " (counted(node.held_up, "session")) } }
            }
            @if !node.waiting.is_empty() { ul role="group" { @for next in &node.waiting { (branch(scene, next)) } } }
        }
    }
}

fn row(scene: &Scene, episode: &Episode) -> Markup {
    let worst = episode.worst_ms.to_string();
    html! {
        tr {
            td { (parts::time(episode.from_ms)) }
            td { (span(episode.to_ms - episode.from_ms + 1000)) }
            td.number { (counted(episode.most, "session")) }
            td { "process " (episode.root) @if let Some(name) = &episode.root_name { " " span.faint { (name) } } }
            td { a href=(here(scene, &[("at", Some(&worst))])) { "as it was" } }
        }
    }
}
