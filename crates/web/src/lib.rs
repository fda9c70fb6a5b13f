//! What surus shows over HTTP: the Prometheus API, `/metrics`, pages.
//!
//! This room must not decide anything about a database: it asks the rooms below and shows what they say.
//!
//! Start reading at [`routes`]: it names every address that is answered. [`server`] holds the limits of connections,
//! [`access`] who may ask.

pub mod access;
mod api;
mod assets;
pub mod drills;
pub mod grafana;
mod health;
mod metrics;
mod own;
mod pages;
mod range;
mod report;
pub mod server;
mod sessions;
mod site;
mod tally;
mod views;

pub use site::Site;
/// The runbook "restore after data loss", which pages, API and command line share.
pub use views::runbook;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use std::sync::Arc;

/// The largest body that is read, in bytes: a PromQL query in a form.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Every address that is answered.
pub fn routes(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(pages::fleet::page))
        .route("/timeline", get(pages::timeline::all))
        .route("/proofs", get(pages::proofs::page))
        .route("/explore", get(pages::explore::page))
        .route("/t/{target}", get(pages::instance::page))
        .route("/t/{target}/activity", get(pages::activity::page))
        .route("/t/{target}/blocking", get(pages::blocking::page))
        .route("/t/{target}/queries", get(pages::queries::page))
        .route("/t/{target}/queries/{query}", get(pages::query::page))
        .route("/t/{target}/tables", get(pages::tables::page))
        .route("/t/{target}/indexes", get(pages::indexes::page))
        .route("/t/{target}/replication", get(pages::replication::page))
        .route("/t/{target}/backups", get(pages::backups::page))
        .route("/t/{target}/runbook", get(pages::runbook::page))
        .route("/t/{target}/drill", post(pages::backups::drill))
        .route("/t/{target}/vacuum", get(pages::vacuum::page))
        .route("/t/{target}/host", get(pages::host::page))
        .route("/t/{target}/findings", get(pages::findings::page))
        .route("/t/{target}/sessions/{pid}", get(pages::session::page))
        .route("/t/{target}/sessions/{pid}/{act}", post(pages::session::end))
        .route("/t/{target}/report", get(report::page))
        .route("/t/{target}/events", get(pages::timeline::of_target))
        .route("/collectors", get(pages::collectors))
        .route("/metrics", get(metrics::metrics))
        .route("/probe", get(metrics::probe))
        .route("/login", get(pages::login).post(access::log_in))
        .route("/logout", post(access::log_out))
        .route("/static/{file}", get(assets::asset))
        .route("/-/healthy", get(health::healthy))
        .route("/-/ready", get(health::ready))
        .nest("/api/v1", api::routes())
        .nest(own::PREFIX, own::routes())
        .fallback(pages::not_found)
        .route_layer(middleware::from_fn_with_state(Arc::clone(&site), tally::count))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(server::in_time))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), access::guard))
        .layer(middleware::map_response(pages::harden))
        .with_state(site)
}
