//! What sessions did over the range: which statements, users and waits the load was made of, and who held others up.

use super::{Asking, instance, now, plot::Plot};
use crate::api::{answer::ApiError, form::Form};
use schemars::JsonSchema;
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};
use surus_store::samples::{Look, SessionRef, SessionSample};

/// Rows of one list.
const ROWS: usize = 12;
/// Sessions of the newest look.
const SESSIONS: usize = 200;
/// How far back from the end of the range the newest look may lie, in milliseconds.
const NEWEST_WITHIN_MS: i64 = 60_000;
/// What sessions can be chosen by: parameters of the address.
pub const FILTERS: [&str; 6] = ["query", "wait", "user", "database", "application", "client"];

/// Sessions over a range.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Activity {
    /// The load over time, of which the lists below are made.
    pub plot: Plot,
    /// How often sessions were looked at in the range.
    pub looks: u64,
    /// Sessions seen in all looks, that fit the filter.
    pub seen: u64,
    /// Of these, on average at one moment.
    pub average: f64,
    /// What the lists are limited to.
    pub filter: BTreeMap<String, String>,
    pub statements: Vec<Share>,
    pub waits: Vec<Share>,
    pub users: Vec<Share>,
    pub databases: Vec<Share>,
    pub applications: Vec<Share>,
    pub clients: Vec<Share>,
    /// Who others waited for; the average counts those that waited.
    pub blockers: Vec<Share>,
    /// When the newest look of the range was.
    pub newest_ms: Option<i64>,
    /// The sessions of that look.
    pub sessions: Vec<Session>,
}

/// A part of the load.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Share {
    /// What it is: a statement's id, a user's name, a wait event.
    pub key: String,
    /// In words, where the key says little: a statement's text.
    pub text: Option<String>,
    /// Sessions at one moment, on average.
    pub sessions: f64,
    /// Of all that fit the filter, from 0 to 1.
    pub share: f64,
    /// By what they waited for, the most first.
    pub waits: Vec<(String, f64)>,
}

/// A session that was seen.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Session {
    pub pid: i32,
    pub user: Option<String>,
    pub database: Option<String>,
    pub application: Option<String>,
    pub client: Option<String>,
    pub backend_type: Option<String>,
    pub state: Option<String>,
    /// `CPU`, or what it waits for as `Type:Event`.
    pub wait: String,
    /// The statement's id, as text: it has more digits than JavaScript keeps.
    pub query: Option<String>,
    pub text: Option<String>,
    pub blocked_by: Vec<i32>,
    pub transaction_age_ms: Option<i64>,
    pub query_age_ms: Option<i64>,
}

/// What one key adds up to: sessions by the type of what they wait for.
#[derive(Debug, Default)]
struct Tally(HashMap<String, u64>);

impl Tally {
    fn add(&mut self, wait: &str) {
        match self.0.get_mut(wait) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(wait.to_owned(), 1);
            }
        }
    }

    fn all(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Tallies by key.
#[derive(Debug, Default)]
struct Tallies(HashMap<String, Tally>);

impl Tallies {
    fn add(&mut self, key: &str, wait: &str) {
        match self.0.get_mut(key) {
            Some(tally) => tally.add(wait),
            None => self.0.entry(key.to_owned()).or_default().add(wait),
        }
    }

    fn merge(&mut self, other: Self) {
        for (key, tally) in other.0 {
            let own = self.0.entry(key).or_default();
            for (wait, count) in tally.0 {
                *own.0.entry(wait).or_default() += count;
            }
        }
    }

    /// The greatest, as averages over so many looks.
    fn shares(&self, looks: u64, seen: u64) -> Vec<Share> {
        let mut all: Vec<(&String, &Tally)> = self.0.iter().collect();
        all.sort_by_key(|(key, tally)| (std::cmp::Reverse(tally.all()), (*key).clone()));
        let per_look = |count: u64| count as f64 / looks.max(1) as f64;
        let share = |(key, tally): (&String, &Tally)| {
            let mut waits: Vec<(String, f64)> =
                tally.0.iter().map(|(wait, count)| (wait.clone(), per_look(*count))).collect();
            waits.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            let (sessions, part) = (per_look(tally.all()), tally.all() as f64 / seen.max(1) as f64);
            Share { key: key.clone(), text: None, sessions, share: part, waits }
        };
        all.into_iter().take(ROWS).map(share).collect()
    }
}

/// The lists while they are counted.
#[derive(Debug, Default)]
struct Counting {
    looks: u64,
    seen: u64,
    statements: Tallies,
    waits: Tallies,
    users: Tallies,
    databases: Tallies,
    applications: Tallies,
    clients: Tallies,
    blockers: Tallies,
    /// Who a process was when it was seen first.
    names: HashMap<i32, String>,
    scratch: Scratch,
}

/// What sessions are chosen by.
#[derive(Debug, Default)]
struct Wanted<'a>([Option<&'a str>; 6]);

impl<'a> Wanted<'a> {
    fn of(form: &'a Form) -> Self {
        Self(FILTERS.map(|name| form.get(name)))
    }

    fn accepts(&self, session: &SessionRef<'_>, query: &str, wait: &str) -> bool {
        let [wanted_query, wanted_wait, user, database, application, client] = &self.0;
        let is =
            |wanted: &Option<&str>, own: Option<&str>| wanted.is_none_or(|wanted| own.unwrap_or_default() == wanted);
        is(wanted_query, Some(query))
            // A class of waits, or one of its events.
            && wanted_wait.is_none_or(|wanted| wait == wanted || wait.split(':').next() == Some(wanted))
            && is(user, session.user.as_deref())
            && is(database, session.database.as_deref())
            && application.is_none_or(|wanted| application_of(session) == wanted)
            && client.is_none_or(|wanted| client_of(session) == wanted)
    }
}

/// Room for the text of a number or of a wait, so that none is made for each session.
#[derive(Debug, Default)]
struct Scratch {
    query: String,
    wait: String,
}

impl Counting {
    fn count(&mut self, session: &SessionRef<'_>, wanted: &Wanted<'_>) {
        if !is_active(session.backend_type.as_deref(), session.state.as_deref()) {
            return self.name(session);
        }
        let class = session.wait_event_type.as_deref().unwrap_or(ON_CPU);
        let Scratch { mut query, mut wait } = std::mem::take(&mut self.scratch);
        query.clear();
        if let Some(id) = session.query_id {
            // Writing into a String does not fail.
            let _ = write!(query, "{id}");
        }
        wait.clear();
        wait.push_str(class);
        if let Some(event) = session.wait_event.as_deref().filter(|_| session.wait_event_type.is_some()) {
            wait.push(':');
            wait.push_str(event);
        }
        if wanted.accepts(session, &query, &wait) {
            self.seen += 1;
            self.statements.add(&query, class);
            self.waits.add(&wait, class);
            self.users.add(session.user.as_deref().unwrap_or_default(), class);
            self.databases.add(session.database.as_deref().unwrap_or_default(), class);
            self.applications.add(application_of(session), class);
            self.clients.add(client_of(session), class);
            for blocker in &session.blocked_by {
                self.blockers.add(&blocker.to_string(), class);
            }
            self.name(session);
        }
        self.scratch = Scratch { query, wait };
    }

    fn name(&mut self, session: &SessionRef<'_>) {
        self.names.entry(session.pid).or_insert_with(|| {
            let user = session.user.as_deref().unwrap_or_default();
            format!("{} {user}", application_of(session)).trim().to_owned()
        });
    }

    /// Takes over what another thread has counted.
    fn merge(&mut self, other: Self) {
        self.looks += other.looks;
        self.seen += other.seen;
        let pairs = [
            (&mut self.statements, other.statements),
            (&mut self.waits, other.waits),
            (&mut self.users, other.users),
            (&mut self.databases, other.databases),
            (&mut self.applications, other.applications),
            (&mut self.clients, other.clients),
            (&mut self.blockers, other.blockers),
        ];
        for (own, others) in pairs {
            own.merge(others);
        }
        for (pid, name) in other.names {
            self.names.entry(pid).or_insert(name);
        }
    }
}

/// What a session waits for that waits for nothing PostgreSQL knows of.
const ON_CPU: &str = "CPU";

/// Does it count as load? As `surus_active_sessions` counts.
pub fn is_active(backend_type: Option<&str>, state: Option<&str>) -> bool {
    let (client, sender) = (backend_type == Some("client backend"), backend_type == Some("walsender"));
    !sender && (!client || matches!(state, Some("active" | "fastpath function call")))
}

/// What a session waits for, as `Type:Event`.
pub fn wait_of(class: Option<&str>, event: Option<&str>) -> String {
    match (class, event) {
        (Some(class), Some(event)) => format!("{class}:{event}"),
        (Some(class), None) => class.to_owned(),
        (None, _) => ON_CPU.to_owned(),
    }
}

/// What a session calls itself; of a process of PostgreSQL's own, what it is.
fn application_of<'a>(session: &'a SessionRef<'_>) -> &'a str {
    let own = session.application.as_deref().filter(|name| !name.is_empty());
    own.or(session.backend_type.as_deref()).unwrap_or_default()
}

fn client_of<'a>(session: &'a SessionRef<'_>) -> &'a str {
    session.client.as_deref().unwrap_or("local socket")
}

/// Looks at the sessions of the range.
pub fn look(asking: &Asking<'_>) -> Result<Activity, ApiError> {
    let (target, form) = (asking.target()?, &asking.scene.form);
    let (store, range) = (&asking.site.store, &asking.scene.range);
    let wanted = Wanted::of(form);
    let see = |counting: &mut Counting, look: Look<'_>| {
        counting.looks += 1;
        look.sessions.iter().for_each(|session| counting.count(session, &wanted));
    };
    let (counting, _) = store.fold_activity(&target.name, range.window(), Counting::default, see, Counting::merge)?;
    let (looks, seen) = (counting.looks, counting.seen);
    let list = |tallies: &Tallies| tallies.shares(looks, seen);
    let until_ms = asking.scene.at_ms();
    let newest = store.activity_at(&target.name, until_ms, NEWEST_WITHIN_MS)?;
    let mut statements = list(&counting.statements);
    let ids: Vec<i64> = statements.iter().filter_map(|share| share.key.parse().ok()).collect();
    let mut texts = store.query_texts(&target.name, &ids)?;
    for share in &mut statements {
        share.text = share.key.parse().ok().and_then(|id: i64| texts.remove(&id));
    }
    let mut blockers = list(&counting.blockers);
    for share in &mut blockers {
        share.text = share.key.parse().ok().and_then(|pid: i32| counting.names.get(&pid).cloned());
    }
    let filter = FILTERS.iter().filter_map(|name| Some(((*name).to_owned(), form.get(name)?.to_owned())));
    Ok(Activity {
        plot: instance::load_plot(asking, target, now::cores(&asking.scene.snapshot, target)),
        looks,
        seen,
        average: seen as f64 / looks.max(1) as f64,
        filter: filter.collect(),
        statements,
        waits: list(&counting.waits),
        users: list(&counting.users),
        databases: list(&counting.databases),
        applications: list(&counting.applications),
        clients: list(&counting.clients),
        blockers,
        newest_ms: newest.as_ref().map(|look| look.at_ms),
        sessions: newest.map_or_else(|| Ok(Vec::new()), |look| sessions(asking, look.sessions))?,
    })
}

/// The text of the statement with this id; none for what is no id, or not known.
pub fn text_of(asking: &Asking<'_>, id: &str) -> Result<Option<String>, ApiError> {
    let target = asking.target()?;
    Ok(id.parse().ok().map(|id| asking.site.store.query_text(&target.name, id)).transpose()?.flatten())
}

/// Sessions as they are shown: those that wait or have been at it longest first.
pub fn sessions(asking: &Asking<'_>, mut all: Vec<SessionSample>) -> Result<Vec<Session>, ApiError> {
    let age = |session: &SessionSample| session.transaction_age_ms.max(session.query_age_ms).unwrap_or_default();
    all.sort_by_key(|session| std::cmp::Reverse((!session.blocked_by.is_empty(), age(session))));
    all.truncate(SESSIONS);
    all.into_iter().map(|session| shown(asking, session)).collect()
}

/// A session as it is shown.
pub fn shown(asking: &Asking<'_>, session: SessionSample) -> Result<Session, ApiError> {
    let query = session.query_id.map(|id| id.to_string());
    let text = query.as_deref().map(|id| text_of(asking, id)).transpose()?.flatten();
    Ok(Session {
        pid: session.pid,
        wait: match is_active(session.backend_type.as_deref(), session.state.as_deref()) {
            true => wait_of(session.wait_event_type.as_deref(), session.wait_event.as_deref()),
            false => String::new(),
        },
        user: session.user,
        database: session.database,
        application: session.application,
        client: session.client,
        backend_type: session.backend_type,
        state: session.state,
        query,
        text,
        blocked_by: session.blocked_by,
        transaction_age_ms: session.transaction_age_ms,
        query_age_ms: session.query_age_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session<'a>(user: &'a str, wait: Option<(&'a str, &'a str)>, query_id: i64) -> SessionRef<'a> {
        SessionRef {
            pid: 7,
            database: None,
            user: Some(user.into()),
            application: None,
            client: None,
            backend_type: Some("client backend".into()),
            state: Some("active".into()),
            wait_event_type: wait.map(|(class, _)| class.into()),
            wait_event: wait.map(|(_, event)| event.into()),
            query_id: Some(query_id),
            blocked_by: Vec::new(),
            transaction_age_ms: None,
            query_age_ms: None,
            leader_pid: None,
        }
    }

    #[test]
    fn averages_are_over_all_looks() {
        let wanted = Wanted::default();
        let counted = |looks: u64, all: &[SessionRef<'_>]| {
            let mut counting = Counting { looks, ..Counting::default() };
            all.iter().for_each(|session| counting.count(session, &wanted));
            counting
        };
        let idle = SessionRef { state: Some("idle in transaction".into()), ..session("eve", None, 3) };
        let mut counting = counted(3, &[session("ann", None, 1), session("ann", Some(("Lock", "tuple")), 1), idle]);
        counting.merge(counted(1, &[session("bob", Some(("Lock", "tuple")), 2)]));
        let users = counting.users.shares(counting.looks, counting.seen);
        let told: Vec<(&str, f64)> = users.iter().map(|share| (share.key.as_str(), share.sessions)).collect();
        assert_eq!((counting.seen, told), (3, vec![("ann", 0.5), ("bob", 0.25)]));
        assert_eq!(users[0].waits, [("CPU".to_owned(), 0.25), ("Lock".to_owned(), 0.25)]);
    }

    #[test]
    fn a_filter_takes_a_class_or_an_event() {
        let seen = |filter: &str, session: SessionRef<'_>| {
            let form = Form::of(filter);
            let mut counting = Counting::default();
            counting.count(&session, &Wanted::of(&form));
            counting.seen
        };
        assert_eq!(seen("wait=Lock&user=ann", session("ann", Some(("Lock", "tuple")), 1)), 1);
        assert_eq!(seen("wait=Lock&user=ann", session("bob", Some(("Lock", "tuple")), 1)), 0);
        assert_eq!(seen("wait=Lock&user=ann", session("ann", None, 1)), 0);
        assert_eq!(seen("wait=Lock:tuple&query=1", session("x", Some(("Lock", "tuple")), 1)), 1);
        assert_eq!(seen("client=local+socket&application=client+backend", session("x", None, 1)), 1);
    }
}
