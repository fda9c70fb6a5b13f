//! Is surus alive, and is it of use?

use crate::Site;
use axum::{extract::State, http::StatusCode};
use std::sync::Arc;

/// It answers, so it is alive.
pub async fn healthy() -> &'static str {
    "surus is alive.\n"
}

/// It is of use once everything has started, until it stops.
pub async fn ready(State(site): State<Arc<Site>>) -> (StatusCode, &'static str) {
    if site.is_ready() {
        (StatusCode::OK, "surus is ready.\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "surus is starting or stopping.\n")
    }
}
