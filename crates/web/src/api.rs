//! The Prometheus HTTP API, so that Grafana's Prometheus data source and `promtool query` work against surus
//! (prometheus.io/docs/prometheus/latest/querying/api).

pub mod answer;
pub mod form;
mod json;
mod query;
mod series;
mod status;
pub mod work;

use crate::Site;
use answer::{ApiError, ErrorType};
use axum::{
    Router,
    routing::{MethodRouter, get},
};
use std::sync::Arc;

/// Below `/api/v1`.
pub fn routes() -> Router<Arc<Site>> {
    Router::new()
        .route("/query", both(get(query::instant).post(query::instant)))
        .route("/query_range", both(get(query::range).post(query::range)))
        .route("/query_exemplars", both(get(query::exemplars).post(query::exemplars)))
        .route("/format_query", both(get(query::format).post(query::format)))
        .route("/labels", both(get(series::labels).post(series::labels)))
        .route("/label/{name}/values", both(get(series::label_values)))
        .route("/series", both(get(series::series).post(series::series)))
        .route("/metadata", both(get(status::metadata)))
        .route("/targets", both(get(status::targets)))
        .route("/rules", both(get(status::rules)))
        .route("/alerts", both(get(status::alerts)))
        .route("/status/buildinfo", both(get(status::build_info)))
        .fallback(no_such_address)
}

/// A wrong method gets an answer in the API's own form.
fn both(methods: MethodRouter<Arc<Site>>) -> MethodRouter<Arc<Site>> {
    methods.fallback(wrong_method)
}

async fn no_such_address() -> ApiError {
    ApiError::new(ErrorType::NotFound, "surus has no such address; see /")
}

async fn wrong_method() -> (axum::http::StatusCode, &'static str) {
    (axum::http::StatusCode::METHOD_NOT_ALLOWED, "This address takes another method.\n")
}
