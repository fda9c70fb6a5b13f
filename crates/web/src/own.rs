//! surus's own JSON API below `/api/surus/v1`: everything that the pages show. [`ENDPOINTS`] is the whole of it; routes
//! and the OpenAPI document are both made of that table.

mod events;
mod openapi;

pub(crate) use events::Adding;
pub use openapi::document;

use crate::{
    Site,
    api::{
        answer::{Answer, ApiError, ErrorType},
        form::Form,
    },
    drills, sessions,
    views::{self, Look, Request, Scene},
};
use axum::{
    Json, Router,
    extract::State,
    routing::{MethodRouter, get, post},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use std::sync::Arc;

/// Where it is.
pub const PREFIX: &str = "/api/surus/v1";

/// A parameter in the query string.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    pub name: &'static str,
    pub about: &'static str,
}

/// How an address is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// With `from` and `to` in the query string.
    OverRange,
    Get,
    Post,
}

/// An address of the API, asked in one way.
pub struct Endpoint {
    pub asked: Asked,
    /// Below [`PREFIX`]; names in braces stand for a part of the path.
    pub path: &'static str,
    pub about: &'static str,
    /// Besides `from` and `to`.
    pub parameters: &'static [Parameter],
    /// What a POST brings, as JSON.
    pub body: Option<fn(&mut SchemaGenerator) -> Schema>,
    /// What is in `data` of a successful answer.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    route: fn() -> MethodRouter<Arc<Site>>,
}

/// An address that shows a view.
macro_rules! view {
    ($path:literal, $view:ident::$type:ident, $about:literal $(, $name:literal: $what:literal)*) => {
        Endpoint {
            asked: Asked::OverRange,
            body: None,
            path: $path,
            about: $about,
            parameters: &[$(Parameter { name: $name, about: $what }),*],
            schema: SchemaGenerator::subschema_for::<views::$view::$type>,
            route: || get(|site, request, form| answer(site, request, form, views::$view::look)),
        }
    };
}

/// Every address.
pub static ENDPOINTS: &[Endpoint] = &[
    view!("/fleet", fleet::Fleet, "All targets, worst first."),
    view!(
        "/timeline", timeline::Timeline, "What happened, to all targets.",
        "kind": "Only events of this kind.", "filter": "Only events with all of these words."
    ),
    view!(
        "/proofs", proofs::Proofs, "The ledger, newest first, what drills measured, and whether its chain holds.",
        "kind": "Only entries of this kind.", "cluster": "Only of the cluster with this system identifier.",
        "item": "Only entries that speak for this readiness item."
    ),
    view!("/explore", explore::Explored, "A PromQL query at the end of the range.", "query": "The query."),
    view!("/targets/{target}", instance::Instance, "One target at a glance."),
    view!(
        "/targets/{target}/activity", activity::Activity, "What the load of a range was made of.",
        "query": "Only sessions with this query id.", "wait": "Only those that wait for this class, or Class:Event.",
        "user": "Only this user's.", "database": "Only in this database.", "application": "Only this application's.",
        "client": "Only from this address."
    ),
    view!(
        "/targets/{target}/blocking", blocking::Blocking, "Who holds up whom, and when sessions waited for others.",
        "at": "The moment that the tree is of; the end of the range if absent."
    ),
    view!(
        "/targets/{target}/queries", queries::Queries, "Statements of the range.",
        "sort": "time, calls, mean, week, rows, read, hit, temp or wal; with - before it the greatest first.",
        "filter": "Only statements with all of these words in text, user or database."
    ),
    view!("/targets/{target}/queries/{query}", query::Query, "One statement, by its query id."),
    view!(
        "/targets/{target}/tables", tables::Tables, "Tables.",
        "sort": "name, size, index, growth, live, dead, share, bloat, seq, changed, vacuumed or age; with - before it the greatest first.",
        "filter": "Only tables with all of these words in their names.", "all": "1: up to 4,000 of them."
    ),
    view!(
        "/targets/{target}/indexes", indexes::Indexes, "Indexes.",
        "sort": "name, size, scans, entries, hit or bloat; with - before it the greatest first.",
        "filter": "Only indexes with all of these words in their names.", "all": "1: up to 5,000 of them."
    ),
    view!("/targets/{target}/replication", replication::Replication, "Replication, slots, WAL and its archive."),
    view!(
        "/targets/{target}/backups", backups::Backups, "Repositories, their backups, and which moments can be restored.",
        "at": "A moment: can it be restored, and if not, why?"
    ),
    view!(
        "/targets/{target}/runbook",
        runbook::Runbook,
        "Restore after data loss: what to run, and what the last successful drill ran and measured."
    ),
    view!(
        "/targets/{target}/vacuum", vacuum::Vacuum, "Vacuum and the freeze horizon.",
        "sort": "name, dead, share, live, size or vacuumed; with - before it the greatest first."
    ),
    view!("/targets/{target}/report", report::Report, "A range of one target with everything that a file to send has."),
    view!("/targets/{target}/host", host::Host, "The machine, when surus runs on it."),
    view!(
        "/targets/{target}/findings", findings::Findings, "Readiness and what the newest check found.",
        "filter": "Only findings with all of these words."
    ),
    view!(
        "/targets/{target}/timeline", timeline::Timeline, "What happened to the target.",
        "kind": "Only events of this kind.", "filter": "Only events with all of these words."
    ),
    Endpoint {
        asked: Asked::OverRange,
        path: "/events",
        about: "Events of one target and those of none, or all, oldest first: at most the newest ten thousand.",
        parameters: &[
            Parameter { name: "target", about: "Only this target's, and those of none." },
            Parameter { name: "kind", about: "Only events of this kind." },
        ],
        body: None,
        schema: SchemaGenerator::subschema_for::<events::Events>,
        route: || get(events::list),
    },
    Endpoint {
        asked: Asked::Post,
        path: "/events",
        about: "Keeps an event, such as a deploy.",
        parameters: &[],
        body: Some(SchemaGenerator::subschema_for::<events::Given>),
        schema: SchemaGenerator::subschema_for::<events::Kept>,
        route: || post(events::add),
    },
    Endpoint {
        asked: Asked::Post,
        path: "/targets/{target}/drill",
        about: "Starts a restore drill, one at a time. Only for who is logged in; what came of it is in /proofs.",
        parameters: &[],
        body: None,
        schema: SchemaGenerator::subschema_for::<drills::Started>,
        route: || post(drills::start_one),
    },
    Endpoint {
        asked: Asked::Get,
        path: "/targets/{target}/sessions/{pid}",
        about: "A session in full. The server is asked for it then and there.",
        parameters: &[],
        body: None,
        schema: SchemaGenerator::subschema_for::<serde_json::Value>,
        route: || get(sessions::one),
    },
    Endpoint {
        asked: Asked::Post,
        path: "/targets/{target}/sessions/{pid}/{act}",
        about: "act is cancel (its statement) or terminate (the session). Only for who is logged in; it goes into the ledger.",
        parameters: &[],
        body: Some(SchemaGenerator::subschema_for::<sessions::Wanted>),
        schema: SchemaGenerator::subschema_for::<sessions::Acted>,
        route: || post(sessions::end_one),
    },
];

/// Below [`PREFIX`].
pub fn routes() -> Router<Arc<Site>> {
    let mut router = Router::new().route("/openapi.json", get(|| async { Json(document()) }));
    for endpoint in ENDPOINTS {
        router = router.route(endpoint.path, (endpoint.route)());
    }
    router.fallback(async || ApiError::new(ErrorType::NotFound, "there is no such address; see openapi.json"))
}

async fn answer<T: Serialize + JsonSchema + Send + 'static>(
    State(site): State<Arc<Site>>,
    request: Request,
    form: Form,
    look: Look<T>,
) -> Result<Answer, ApiError> {
    let scene = Scene::of(&site, request, form)?;
    Ok(Answer::data(&views::look(&site, scene, look).await?))
}
