//! surus's own API, below `/api/surus/v1`: what Prometheus's has no words for. Answers come in the same envelope.

mod events;

pub(crate) use events::Adding;

use crate::Site;
use axum::{Router, routing::get};
use std::sync::Arc;

/// Below `/api/surus/v1`.
pub fn routes() -> Router<Arc<Site>> {
    Router::new().route("/events", get(events::list).post(events::add))
}
