//! PromQL by hand.

use super::{
    frame::{self, Asked},
    parts, places,
    words::number,
};
use crate::views::{
    Scene,
    explore::{Explored, look},
    plot::{Plot, Unit},
};
use axum::response::Response;
use maud::{Markup, html};

/// Questions to begin with.
const EXAMPLES: [(&str, &str); 5] = [
    ("sum by (wait_event_type) (surus_active_sessions)", "what sessions wait for"),
    ("sum by (instance, datname) (rate(pg_stat_database_xact_commit[5m]))", "commits a second"),
    ("topk(5, pg_stat_user_tables_n_dead_tup)", "tables with most dead rows"),
    ("max by (application_name) (pg_stat_replication_replay_lag_bytes)", "how far standbys are behind"),
    ("predict_linear(node_filesystem_avail_bytes[6h], 86400)", "free space tomorrow"),
];

/// `/explore`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::EXPLORE, look, body).await
}

fn body(scene: &Scene, explored: &Explored) -> Markup {
    html! {
        h1 { "Explore" }
        surus-explore {
            form.explore method="get" action="/explore" {
                @for (name, value) in scene.form.pairs().filter(|(name, _)| *name != "query") {
                    input type="hidden" name=(name) value=(value);
                }
                label for="query" { "PromQL" }
                textarea #query name="query" rows="3" spellcheck="false" autocapitalize="off" autocomplete="off" {
                    (explored.query)
                }
                button { "Ask" }
            }
        }
        @if explored.query.is_empty() {
            h2 { "To begin with" }
            ul.plain {
                @for (query, what) in EXAMPLES {
                    li { a href=(parts::explore(scene, query)) { code { (query) } } " " span.faint { (what) } }
                }
            }
        } @else if let Some(error) = &explored.error {
            p.crit role="alert" { (error) }
        } @else {
            (parts::plot(scene, &Plot::lines("explored", "Over the range", Unit::Count).query(explored.query.as_str(), "").empty("The query has no series in this range.")))
            (table(explored))
        }
    }
}

fn table(explored: &Explored) -> Markup {
    html! {
        section.list.wide {
            h2 { "At the end of the range" }
            @if explored.rows.is_empty() { (parts::nothing("The query has no series then.")) } @else {
                div.scroll { table {
                    thead { tr { th scope="col" { "Series" } th.number scope="col" { "Value" } } }
                    tbody {
                        @for row in &explored.rows {
                            tr {
                                td.name { code { (row.series) } }
                                td.number title=(row.value) {
                                    (row.value.parse().map_or_else(|_| row.value.clone(), number))
                                }
                            }
                        }
                    }
                } }
                @if explored.more > 0 { p.faint { "and " (explored.more) " more" } }
            }
        }
    }
}
