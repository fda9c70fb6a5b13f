//! `/metrics` and `/probe`: the newest answers as text. No server is asked for it.

use crate::Site;
use axum::{
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream::poll_fn;
use serde::Deserialize;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use surus_core::{clock::Deadline, series::Told};
use surus_observe::{
    TargetNow,
    exposition::{Format, Part, render_pieces},
};
use tokio::{runtime::Handle, sync::mpsc, time::timeout};

/// Pieces that wait for whoever scrapes.
const PIECES: usize = 4;
/// How long a scrape may take.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// `/metrics`: all targets, the machine, and surus itself.
pub async fn metrics(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    let format = accepted(&headers);
    rendered(&site, format, move |site, give| {
        let snapshot = site.observatory.snapshot();
        let (counted, sent) = (site.tally.told(), site.remote_write.told());
        let mut own: Vec<&Told> = snapshot.own.iter().chain(&counted).chain(&sent).collect();
        own.extend(snapshot.host.iter().flat_map(|answer| &answer.told));
        let mut parts = of_targets(&snapshot.targets);
        parts.push(Part { server: "", told: own });
        render_pieces(&parts, format, give);
    })
    .await
}

/// What `/probe` is called with.
#[derive(Deserialize)]
pub struct Probe {
    target: Option<String>,
}

/// `/probe?target=`: one target, by its name or as `host:port`. It must be one that is watched: surus connects to
/// nothing because a request says so. `auth_module` is accepted and means nothing, for the login is the target's own.
pub async fn probe(
    State(site): State<Arc<Site>>,
    Query(Probe { target }): Query<Probe>,
    headers: HeaderMap,
) -> Response {
    let Some(wanted) = target.filter(|target| !target.is_empty()) else {
        return (StatusCode::BAD_REQUEST, "target is required: /probe?target=NAME\n").into_response();
    };
    let Some(target) = site.observatory.targets().into_iter().find(|target| is_meant(target, &wanted)) else {
        let text = "surus does not watch that target; [[target]] in surus.toml names those that it does.\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let format = accepted(&headers);
    rendered(&site, format, move |_, give| render_pieces(&[part(&target, &target.server)], format, give)).await
}

/// The parts of all targets, told apart by `host:port`; by name where that is not known yet, or not one target's alone.
fn of_targets(targets: &[Arc<TargetNow>]) -> Vec<Part<'_>> {
    let alone = |server: &str| targets.iter().filter(|other| other.server == server).count() == 1;
    let known = |target: &TargetNow| !target.server.is_empty() && alone(&target.server);
    targets.iter().map(|target| part(target, if known(target) { &target.server } else { &target.name })).collect()
}

fn part<'a>(target: &'a TargetNow, server: &'a str) -> Part<'a> {
    Part { server, told: target.answers.iter().flat_map(|answer| &answer.told).collect() }
}

/// Is the target meant by this name, address, or URI?
fn is_meant(target: &TargetNow, wanted: &str) -> bool {
    let address = wanted.split_once("://").map_or(wanted, |(_, rest)| rest);
    let address = address.split(['/', '?']).next().unwrap_or_default();
    let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
    target.name == wanted || (!target.server.is_empty() && target.server == address)
}

fn accepted(headers: &HeaderMap) -> Format {
    Format::accepted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()))
}

/// Renders on a thread that may block, since with many series it takes a while, and sends each piece as it comes. Who
/// does not take all of it in time gets no more.
async fn rendered(
    site: &Arc<Site>,
    format: Format,
    work: impl FnOnce(&Site, &mut dyn FnMut(String) -> bool) + Send + 'static,
) -> Response {
    // The semaphore is never closed.
    let turn = Arc::clone(&site.scrapes).acquire_owned().await.ok();
    let site = Arc::clone(site);
    let (pieces, mut waiting) = mpsc::channel::<Bytes>(PIECES);
    let (deadline, here) = (Deadline::after(TAKEN_WITHIN), Handle::current());
    // A page that breaks off must not look like a whole one.
    let whole = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&whole);
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut all = true;
        work(&site, &mut |piece: String| {
            all = matches!(here.block_on(timeout(deadline.remaining(), pieces.send(piece.into()))), Ok(Ok(())));
            all
        });
        told.store(all, Ordering::Release);
    });
    let body = Body::from_stream(poll_fn(move |context| {
        waiting.poll_recv(context).map(|piece| match piece {
            Some(piece) => Some(Ok(piece)),
            None if whole.load(Ordering::Acquire) => None,
            None => Some(Err("the page was not taken in time")),
        })
    }));
    ([(header::CONTENT_TYPE, format.content_type())], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::tests::target;
    use surus_core::series::{Labels, Point};
    use surus_observe::{Answer, exposition::render, own};

    fn told(name: &str, server: &str, up: f64) -> Arc<TargetNow> {
        let points = vec![Point { labels: Labels::empty(), value: up }];
        let told = vec![Told { family: &own::PG_UP, points }];
        let answers = vec![Arc::new(Answer { collector: "target", database: None, at_ms: 0, told })];
        Arc::new(TargetNow { name: name.into(), server: server.into(), answers, ..target(up == 1.0) })
    }

    fn lines(targets: &[Arc<TargetNow>]) -> Vec<String> {
        let text = render(&of_targets(targets), Format::Text);
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn a_target_that_is_away_is_never_hidden_by_one_that_is_there() {
        let both = [told("a", "h:1", 1.0), told("b", "", 0.0)];
        assert_eq!(lines(&both), [r#"pg_up{server="b"} 0"#, r#"pg_up{server="h:1"} 1"#]);
        let same = [told("a", "h:1", 1.0), told("b", "h:1", 0.0)];
        assert_eq!(lines(&same), [r#"pg_up{server="a"} 1"#, r#"pg_up{server="b"} 0"#]);
        assert_eq!(lines(&both[1..]), ["pg_up 0"]);
    }

    #[test]
    fn a_target_is_meant_by_its_name_or_address() {
        let one = told("shop primary", "db1:5432", 1.0);
        for wanted in ["shop primary", "db1:5432", "postgresql://me:pw@db1:5432/shop?sslmode=require"] {
            assert!(is_meant(&one, wanted), "{wanted}");
        }
        assert!(!is_meant(&one, "db2:5432") && !is_meant(&told("x", "", 0.0), ""));
    }
}
