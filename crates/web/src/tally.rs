//! Counts of what was asked over HTTP.

use crate::Site;
use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};
use surus_core::{
    clock::Stopwatch,
    series::{Family, Labels, MetricKind, Point, Told},
};

static REQUESTS: Family =
    Family { name: "surus_http_requests_total", kind: MetricKind::Counter, help: "Requests that were answered." };
static SECONDS: Family = Family {
    name: "surus_http_request_seconds_total",
    kind: MetricKind::Counter,
    help: "Time that answering requests took.",
};
static BUILD: Family = Family { name: "surus_build_info", kind: MetricKind::Gauge, help: "1, with surus's version." };

/// Counts by address and status. Bounded: addresses are those of the table of routes.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<(String, u16), (u64, f64)>>);

impl Tally {
    /// The families.
    pub fn told(&self) -> Vec<Told> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let labels =
            |(path, code): &(String, u16)| Labels::merged([("handler", path.clone()), ("code", code.to_string())]);
        let mut told = [(&REQUESTS, Vec::new()), (&SECONDS, Vec::new())];
        for (key, (count, seconds)) in all.iter() {
            told[0].1.push(Point { labels: labels(key), value: *count as f64 });
            told[1].1.push(Point { labels: labels(key), value: *seconds });
        }
        let build = Point { labels: Labels::merged([("version", env!("CARGO_PKG_VERSION"))]), value: 1.0 };
        let own = std::iter::once(Told { family: &BUILD, points: vec![build] });
        own.chain(told.into_iter().map(|(family, points)| Told { family, points })).collect()
    }
}

/// Counts a request.
pub async fn count(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let watch = Stopwatch::start();
    let response = next.run(request).await;
    let mut all = site.tally.0.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = all.entry((path, response.status().as_u16())).or_default();
    entry.0 += 1;
    entry.1 += watch.elapsed().as_secs_f64();
    drop(all);
    response
}
