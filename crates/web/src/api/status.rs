//! What answers here.

use super::answer::Answer;
use serde_json::json;

/// The version of Prometheus whose API and PromQL are spoken: Grafana chooses by it what it asks.
const SPEAKS: &str = "3.4.0";

/// `/api/v1/status/buildinfo`
pub async fn build_info() -> Answer {
    Answer::data(&json!({
        "version": SPEAKS,
        "revision": "",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": "surus",
        "applicationVersion": env!("CARGO_PKG_VERSION"),
    }))
}
