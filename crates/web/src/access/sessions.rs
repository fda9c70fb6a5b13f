//! Who is logged in: random numbers in a cookie, of which only the fingerprint is kept, in memory.

use super::{Fingerprint, fingerprint};
use aws_lc_rs::rand;
use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use surus_core::clock::Deadline;

/// The cookie's name.
pub const COOKIE: &str = "surus_session";
/// How long a session lasts.
const LASTS: Duration = Duration::from_secs(12 * 3600);
/// Sessions at one time; the one that ends first makes room.
const MAX_SESSIONS: usize = 1000;

/// Who is logged in.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<Fingerprint, Deadline>>);

impl Sessions {
    fn all(&self) -> MutexGuard<'_, HashMap<Fingerprint, Deadline>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session: the value of the `Set-Cookie` header. None when the system has no random numbers.
    pub fn begin(&self) -> Option<String> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).ok()?;
        let id = URL_SAFE_NO_PAD.encode(bytes);
        let mut all = self.all();
        all.retain(|_, ends| !ends.passed());
        if all.len() >= MAX_SESSIONS {
            let first = all.iter().min_by_key(|(_, ends)| ends.remaining()).map(|(id, _)| *id);
            first.map(|id| all.remove(&id));
        }
        all.insert(fingerprint(id.as_bytes()), Deadline::after(LASTS));
        Some(format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}", LASTS.as_secs()))
    }

    /// Does the request belong to a session?
    pub fn knows(&self, headers: &HeaderMap) -> bool {
        let all = self.all();
        ids(headers).any(|id| all.get(&fingerprint(id.as_bytes())).is_some_and(|ends| !ends.passed()))
    }

    /// Ends the request's session.
    pub fn end(&self, headers: &HeaderMap) {
        let mut all = self.all();
        for id in ids(headers) {
            all.remove(&fingerprint(id.as_bytes()));
        }
    }
}

/// The session cookies of a request.
fn ids(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(cookie: &str) -> HeaderMap {
        [(header::COOKIE, cookie.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn a_session_begins_and_ends() {
        let sessions = Sessions::default();
        let set = sessions.begin().unwrap();
        let cookie = set.split(';').next().unwrap();
        let headers = with(&format!("other=1; {cookie}"));
        assert!(sessions.knows(&headers) && !sessions.knows(&HeaderMap::new()));
        assert!(!sessions.knows(&with("surus_session=AAAA")) && !sessions.knows(&with("surus_session=")));
        sessions.end(&headers);
        assert!(!sessions.knows(&headers));
    }

    #[test]
    fn there_is_never_more_than_a_limit() {
        let sessions = Sessions::default();
        for _ in 0..MAX_SESSIONS + 5 {
            sessions.begin().unwrap();
        }
        assert_eq!(sessions.all().len(), MAX_SESSIONS);
    }
}
