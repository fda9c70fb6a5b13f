//! One session of a target, asked for then and there, and ending it: behind a login, the very one that was shown, and
//! written into the ledger before and after.

use crate::{
    Site,
    access::Who,
    api::answer::{Answer, ApiError, ErrorType},
};
use axum::{
    body::Bytes,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, header},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, sync::Arc};
use surus_core::{
    clock::{self, Stopwatch},
    code,
    proof::Proof,
};
use surus_observe::{
    Why,
    live::{
        ending::{self, Act, Ending},
        one::SessionNow,
    },
};
use surus_store::Store;

/// The longest reason that is recorded, in characters.
const REASON_AT_MOST: usize = 500;

/// Which session is to be ended, as it was shown.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// As [`SessionNow`] gave it, or in microseconds since 1970.
    pub backend_start: String,
    /// Given, only the statement that began then is cancelled.
    pub query_start: Option<String>,
    /// Why; it goes into the ledger.
    pub reason: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Acted {
    pub done: bool,
    /// For people.
    pub said: String,
    /// The ledger's entries about it, oldest first; none when nothing was to be done.
    pub entries: Vec<i64>,
    /// Why the outcome was not recorded, if it was not.
    pub not_recorded: Option<String>,
}

/// What a session does now.
///
/// # Errors
/// When there is no such target or session, and when the target cannot be asked.
pub async fn session_now(site: &Site, target: &str, pid: i64) -> Result<SessionNow, ApiError> {
    known(site, target)?;
    let seen = site.observatory.session_now(target, pid).await.map_err(not_asked)?;
    seen.ok_or_else(|| ApiError::new(ErrorType::NotFound, format!("process {pid} has ended")))
}

/// May sessions be ended from here at all? The text says what to set.
///
/// # Errors
/// When no login is configured.
pub fn may_act(site: &Site) -> Result<(), ApiError> {
    if site.access.asks() {
        return Ok(());
    }
    let text = "Nothing was done: sessions are ended only for somebody who is logged in, and no login is configured. Set \
                [serve] password = \"file:/etc/surus/password\" (or token) in surus.toml and restart surus.";
    Err(ApiError::new(ErrorType::Forbidden, text))
}

/// Ends a statement or a session, if it is still the one that was shown. The caller has seen to it that whoever asks is
/// logged in and that no other site made them ask.
///
/// # Errors
/// When no login is configured, when the target cannot be asked, and when it could not be recorded: then nothing was
/// done.
pub async fn act(
    site: &Arc<Site>,
    who: Who,
    target: &str,
    pid: i64,
    act: Act,
    wanted: Wanted,
) -> Result<Acted, ApiError> {
    may_act(site)?;
    known(site, target)?;
    let time = |name: &str, text: &str| {
        let why = "give the time as it was shown, or microseconds since 1970";
        ending::time(text).ok_or_else(|| ApiError::parameter(name, why))
    };
    let backend_start = time("backend_start", &wanted.backend_start)?;
    let query_start = wanted.query_start.as_deref().filter(|text| !text.is_empty());
    let query_start = query_start.map(|text| time("query_start", text)).transpose()?;
    let (site, target) = (Arc::clone(site), target.to_owned());
    let ending = Ending {
        act,
        pid,
        backend_start,
        query_start,
        user: String::new(),
        database: String::new(),
        query: String::new(),
    };
    // Whoever asks may go away in the middle; what was begun is still recorded.
    let acting = tokio::spawn(async move { end(&site, &who, &target, ending, wanted.reason).await });
    acting.await.unwrap_or_else(|error| Err(ApiError::new(ErrorType::Internal, format!("it broke off: {error}"))))
}

async fn end(
    site: &Arc<Site>,
    who: &Who,
    target: &str,
    mut ending: Ending,
    reason: Option<String>,
) -> Result<Acted, ApiError> {
    let door = site.observatory.door(target).await.map_err(not_asked)?;
    let seen = match door.look(ending.pid).await {
        Ok(seen) => seen,
        Err(why) => {
            door.close().await;
            return Err(not_asked(why));
        }
    };
    let same = |seen: &SessionNow| ending::time(&seen.backend_start).as_ref() == Some(&ending.backend_start);
    let Some(seen) = seen.filter(same) else {
        door.close().await;
        let said = format!("process {} has ended by itself: nothing was done", ending.pid);
        return Ok(Acted { done: false, said, entries: Vec::new(), not_recorded: None });
    };
    (ending.user, ending.database, ending.query) = (seen.user, seen.database, seen.query);
    let cluster = cluster(site, target);
    let by = by(who, target, reason.as_deref());
    let asked = match append(site, ending.asked(&cluster, &by)).await {
        Ok(number) => number,
        Err(why) => {
            door.close().await;
            let text = format!("nothing was done, because it could not be recorded: {why}");
            return Err(ApiError::new(ErrorType::Internal, text));
        }
    };
    let (began, watch) = (clock::now(), Stopwatch::start());
    let ended = door.end(ending.clone()).await;
    tracing::warn!(%target, pid = ending.pid, peer = ?who.address, "{}", ended.said);
    let mut acted = Acted { done: ended.done, said: ended.said.clone(), entries: vec![asked], not_recorded: None };
    match append(site, ending.entry(&cluster, began, &ended, watch.elapsed_ms())).await {
        Ok(number) => acted.entries.push(number),
        Err(why) => acted.not_recorded = Some(why),
    }
    Ok(acted)
}

/// Who asked, for the ledger.
fn by(who: &Who, target: &str, reason: Option<&str>) -> String {
    let from = who.address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string());
    let reason: String = reason.unwrap_or_default().trim().chars().take(REASON_AT_MOST).collect();
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("asked over HTTP for {target} by somebody logged in, from {from}{because}")
}

async fn append(site: &Arc<Site>, entry: Proof) -> Result<i64, String> {
    let site = Arc::clone(site);
    let written = tokio::task::spawn_blocking(move || {
        let store = Store::open(&site.ledger)?;
        store.append(&entry).map(|entry| entry.number)
    });
    match written.await {
        Ok(number) => number.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// As the ledger names the target's cluster.
fn cluster(site: &Site, target: &str) -> String {
    let targets = site.observatory.targets();
    let own = targets.iter().find(|now| now.name == target).and_then(|now| now.system_identifier.clone());
    own.unwrap_or_else(|| target.to_owned())
}

fn known(site: &Site, target: &str) -> Result<(), ApiError> {
    if site.observatory.targets().iter().any(|now| now.name == target) {
        return Ok(());
    }
    Err(ApiError::new(ErrorType::NotFound, format!("surus watches no target of the name \"{target}\"")))
}

fn not_asked(why: Why) -> ApiError {
    let kind = if why.code == Some(code::BUG.id) { ErrorType::Internal } else { ErrorType::Timeout };
    let next = why.next.map(|next| format!(" {next}")).unwrap_or_default();
    ApiError::new(kind, format!("{}.{next}", why.text.trim_end_matches('.')))
}

/// `GET …/targets/{target}/sessions/{pid}`
pub async fn one(State(site): State<Arc<Site>>, Path((target, pid)): Path<(String, i64)>) -> Result<Answer, ApiError> {
    Ok(Answer::data(&session_now(&site, &target, pid).await?))
}

/// `POST …/targets/{target}/sessions/{pid}/{act}`
pub async fn end_one(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((target, pid, what)): Path<(String, i64, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Answer, ApiError> {
    let what = match what.as_str() {
        "cancel" => Act::Cancel,
        "terminate" => Act::Terminate,
        _ => return Err(ApiError::new(ErrorType::NotFound, "surus has no such address; see /")),
    };
    may_act(&site)?;
    let who = Who { address: Some(peer.ip()) };
    Ok(Answer::data(&act(&site, who, &target, pid, what, wanted(&headers, &body)?).await?))
}

/// The body, JSON or a form.
fn wanted(headers: &HeaderMap, body: &[u8]) -> Result<Wanted, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let bad = |why: String| ApiError::new(ErrorType::BadData, format!("the body cannot be read: {why}"));
    if kind.starts_with("application/json") {
        return serde_json::from_slice(body).map_err(|error| bad(error.to_string()));
    }
    let mut wanted = Wanted::default();
    for (name, value) in form_urlencoded::parse(body).into_owned() {
        match name.as_str() {
            "backend_start" => wanted.backend_start = value,
            "query_start" => wanted.query_start = Some(value),
            "reason" => wanted.reason = Some(value),
            _ => {}
        }
    }
    Ok(wanted)
}
