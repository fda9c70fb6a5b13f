//! The Prometheus HTTP API.

mod answer;

use crate::Site;
use axum::{Router, routing::get};
use std::sync::Arc;

/// Below `/api/v1`.
pub fn routes() -> Router<Arc<Site>> {
    Router::new().route("/status/buildinfo", get(status::build_info))
}

mod status;
