//! What surus shows over HTTP: the Prometheus API, `/metrics`, pages.
//!
//! This room must not decide anything about a database: it asks the rooms below and shows what they say.
//!
//! Start reading at [`routes`]: it names every address that is answered. [`server`] holds the limits of connections,
//! [`access`] who may ask.

pub mod access;
mod api;
mod assets;
pub mod grafana;
mod health;
mod metrics;
mod own;
mod pages;
pub mod server;
mod sessions;
mod site;
mod tally;

pub use site::Site;

use axum::{Router, extract::DefaultBodyLimit, middleware, routing::get};
use std::sync::Arc;

/// The largest body that is read, in bytes: a PromQL query in a form.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Every address that is answered.
pub fn routes(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(pages::first))
        .route("/collectors", get(pages::collectors))
        .route("/metrics", get(metrics::metrics))
        .route("/probe", get(metrics::probe))
        .route("/login", get(pages::login).post(access::log_in))
        .route("/logout", axum::routing::post(access::log_out))
        .route("/static/{file}", get(assets::asset))
        .route("/-/healthy", get(health::healthy))
        .route("/-/ready", get(health::ready))
        .nest("/api/v1", api::routes())
        .route("/api/surus/v1/targets/{target}/sessions/{pid}", get(sessions::one))
        .route("/api/surus/v1/targets/{target}/sessions/{pid}/{act}", axum::routing::post(sessions::end_one))
        .nest("/api/surus/v1", own::routes())
        .fallback(pages::not_found)
        .route_layer(middleware::from_fn_with_state(Arc::clone(&site), tally::count))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(server::in_time))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), access::guard))
        .layer(middleware::map_response(pages::harden))
        .with_state(site)
}
