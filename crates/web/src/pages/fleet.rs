//! The first page: all targets, worst first.

use super::{
    frame::{self, Asked},
    parts, places,
    words::{ago, counted, number, quantity, span, why},
};
use crate::views::{
    Scene,
    fleet::{Card, Fleet, look},
    plot::Unit,
};
use axum::response::Response;
use maud::{Markup, html};

/// Worries on a card; the target's page has all.
const WORRIES: usize = 4;

/// Addresses for programs, with what they are for.
const ADDRESSES: [(&str, &str); 6] = [
    ("/metrics", "the newest answers, for a scrape"),
    ("/api/v1/query?query=pg_up", "the Prometheus API: PromQL, one moment"),
    ("/api/v1/metadata", "what each metric means"),
    ("/api/surus/v1/fleet", "what this page shows, as JSON"),
    ("/api/surus/v1/openapi.json", "surus's own API, described"),
    ("/-/ready", "whether surus has started"),
];

/// `/`
pub async fn page(state: Asked) -> Response {
    frame::show(state, &places::FLEET_PAGE, look, body).await
}

fn body(scene: &Scene, fleet: &Fleet) -> Markup {
    html! {
        h1 { (fleet.headline) }
        @if let Some(trouble) = &fleet.store_trouble {
            p.crit role="alert" { "Nothing is remembered now: " (trouble) }
        }
        @if fleet.targets.is_empty() {
            (parts::nothing("Name your servers in surus.toml ([[target]] name, dsn), or start surus serve with a connection string, then reload."))
        }
        div.cards { @for target in &fleet.targets { (card(scene, target)) } }
        details.programs {
            summary { "For programs" }
            ul.plain {
                @for (address, what) in ADDRESSES {
                    li { a href=(address) hx-boost="false" { code { (address) } } " " span.faint { (what) } }
                }
            }
            p.faint { "Grafana: add a data source of type Prometheus with this server's address; dashboards come from "
                code { "surus grafana export" } "." }
        }
    }
}

fn card(scene: &Scene, card: &Card) -> Markup {
    let path = |page: &str| parts::link(scene, &parts::target_path(&card.name, page), &[]);
    let worst = card.worries.first().map_or("ok", |worry| worry.severity.word());
    html! {
        section class=(format!("card {worst}")) id=(format!("target-{}", parts::segment(&card.name))) {
            header {
                h2 { a href=(path("")) { (card.name) } }
                @if card.up { span.state.ok { "up" } } @else { span.state.crit { "down" } }
                span.faint { "for " (span((scene.now_ms - card.since_ms).max(0))) }
            }
            p.faint {
                @if let Some(role) = card.role { (role) " · " }
                @if let Some(version) = &card.version { "PostgreSQL " (version) " · " }
                (card.server)
                @if let Some(cluster) = &card.cluster { " · cluster " (cluster) }
            }
            @if let Some(trouble) = &card.trouble { p.crit { (why(trouble)) } }
            @if card.worries.is_empty() { p.ok { "Nothing is wrong that surus can see." } }
            (parts::worries(scene, &card.name, &card.worries, WORRIES, ""))
            a.load href=(path("/activity")) {
                (parts::sparkline(&card.load, &load_words(card), card.cores.map(|cores| cores as f64)))
            }
            dl.facts {
                (fact("load", card.active_sessions.map(number), card.cores.map(|cores| counted(cores, "core")), &path("/activity")))
                (fact("transactions", card.transactions_per_second.map(|tps| quantity(tps, Unit::PerSecond)), None, &path("/queries")))
                (fact("connections", card.connections.map(number), card.max_connections.map(number), &path("/activity")))
                (fact("readiness", card.readiness.map(|score| score.to_string()), Some("100".into()), &path("/findings")))
                @if let Some((crit, warn)) = card.findings {
                    (fact("findings", Some(format!("{crit} crit, {warn} warn")), None, &path("/findings")))
                }
                @if card.role == Some("standby") {
                    (fact("behind", card.lag_seconds.map(|lag| quantity(lag, Unit::Seconds)), None, &path("/replication")))
                }
            }
            p.faint.newest {
                @match card.newest_ms { Some(at_ms) => { "newest answer " (ago(scene.now_ms, at_ms)) }, None => "no answer yet" }
            }
        }
    }
}

fn load_words(card: &Card) -> String {
    let most = card.load.iter().flatten().copied().fold(0.0, f64::max);
    format!("active sessions over the range, at most {}", number(most))
}

fn fact(name: &str, value: Option<String>, of: Option<String>, href: &str) -> Markup {
    html! {
        div {
            dt { (name) }
            dd {
                @match value {
                    Some(value) => { a href=(href) { (value) } @if let Some(of) = of { span.faint { " / " (of) } } },
                    None => span.faint title="not known" { "–" },
                }
            }
        }
    }
}
