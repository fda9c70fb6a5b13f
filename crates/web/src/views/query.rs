//! One statement: its numbers over time, who runs it, what it waits for, and executions that were seen.

use super::{
    Asking,
    activity::{self, Share},
    quoted,
};
use crate::api::answer::ApiError;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use surus_store::samples::{Grain, Look, QueryDelta, QueryDeltaRef, SessionSample};

/// Points of its plots.
const POINTS: i64 = 120;
/// Executions that are listed: the newest.
const SAMPLES: usize = 20;

/// A statement over a range.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Query {
    /// `queryid`.
    pub query: String,
    pub text: Option<String>,
    pub calls: i64,
    pub time_ms: f64,
    pub rows: i64,
    pub blocks_hit: i64,
    pub blocks_read: i64,
    pub temp_blocks: i64,
    pub wal_bytes: i64,
    /// Who ran it where, and how often.
    pub by: Vec<Caller>,
    /// Its numbers over time.
    pub times: Times,
    /// What its sessions waited for.
    pub waits: Vec<Share>,
    /// Looks at sessions in the range.
    pub looks: u64,
    /// Executions that were seen, newest first.
    pub seen: Vec<Execution>,
    /// Plans that are known.
    pub plans: Vec<KnownPlan>,
}

/// Who runs a statement.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Caller {
    pub user: String,
    pub database: String,
    pub calls: i64,
    pub time_ms: f64,
}

/// Columns of equal length; null where nothing is known.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Times {
    /// The ends of the stretches.
    pub at_ms: Vec<i64>,
    /// Calls a second.
    pub calls: Vec<Option<f64>>,
    /// Mean time of a call, in milliseconds.
    pub mean_ms: Vec<Option<f64>>,
    /// Rows of a call.
    pub rows: Vec<Option<f64>>,
    /// Bytes a second that were not in shared buffers.
    pub read_bytes: Vec<Option<f64>>,
    /// Bytes a second that were.
    pub hit_bytes: Vec<Option<f64>>,
}

/// An execution that was seen.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Execution {
    pub at_ms: i64,
    pub pid: i32,
    pub user: Option<String>,
    pub application: Option<String>,
    pub client: Option<String>,
    pub wait: String,
    pub query_age_ms: Option<i64>,
    pub blocked_by: Vec<i32>,
}

/// A plan.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct KnownPlan {
    pub at_ms: i64,
    pub hash: String,
    pub plan: String,
}

/// Looks at the statement.
pub fn look(asking: &Asking<'_>) -> Result<Query, ApiError> {
    let (target, range) = (asking.target()?, &asking.scene.range);
    let text = asking.scene.named("query");
    let id: i64 = text.parse().map_err(|_| ApiError::parameter("query", format!("{} is no queryid", quoted(text))))?;
    let store = &asking.site.store;
    let step_ms = ((range.length_ms() + POINTS - 1) / POINTS).max(60_000);
    let Added { sum, by, parts } = added(asking, id, step_ms)?;
    let (looks, waits, seen) = sessions(asking, id)?;
    let caller = |((user, database), (calls, time_ms))| Caller { user, database, calls, time_ms };
    let plan = |plan: surus_store::samples::Plan| KnownPlan { at_ms: plan.at_ms, hash: plan.hash, plan: plan.plan };
    Ok(Query {
        query: text.to_owned(),
        text: activity::text_of(asking, text)?,
        calls: sum.calls,
        time_ms: sum.exec_time_ms,
        rows: sum.rows,
        blocks_hit: sum.shared_blocks_hit,
        blocks_read: sum.shared_blocks_read,
        temp_blocks: sum.temp_blocks_read + sum.temp_blocks_written,
        wal_bytes: sum.wal_bytes,
        by: by.into_iter().map(caller).collect(),
        times: times(&parts, range.from_ms, step_ms),
        waits,
        looks,
        seen,
        plans: store.plans(&target.name, id)?.into_iter().map(plan).collect(),
    })
}

/// What the statement added over the range.
#[derive(Debug, Default)]
struct Added {
    sum: QueryDelta,
    /// Calls and time by user and database.
    by: BTreeMap<(String, String), (i64, f64)>,
    /// By equal parts of the range; none where nothing was read.
    parts: Vec<Option<QueryDelta>>,
}

impl Added {
    fn merge(&mut self, other: Self) {
        add(&mut self.sum, &other.sum);
        for (who, (calls, time_ms)) in other.by {
            let own = self.by.entry(who).or_default();
            *own = (own.0 + calls, own.1 + time_ms);
        }
        for (own, other) in self.parts.iter_mut().zip(other.parts) {
            if let Some(other) = other {
                add(own.get_or_insert_default(), &other);
            }
        }
    }
}

/// Sums what the statement added. Any statement that was read shows that its part of the range is known.
fn added(asking: &Asking<'_>, id: i64, step_ms: i64) -> Result<Added, ApiError> {
    let range = &asking.scene.range;
    let count = usize::try_from(range.length_ms() / step_ms + 1).unwrap_or(1);
    let start = || Added { parts: vec![None; count], ..Added::default() };
    let see = |added: &mut Added, at_ms: i64, delta: &QueryDeltaRef<'_>| {
        let part = added.parts.get_mut(usize::try_from((at_ms - range.from_ms) / step_ms).unwrap_or(0));
        let part = part.map(|part| part.get_or_insert_default());
        if delta.query_id != id {
            return;
        }
        added.sum.add(delta);
        if let Some(part) = part {
            part.add(delta);
        }
        let caller = added.by.entry((delta.user.to_string(), delta.database.to_string())).or_default();
        *caller = (caller.0 + delta.calls, caller.1 + delta.exec_time_ms);
    };
    // Hours are enough where a point of the plot is longer.
    let grain = if step_ms > 3_600_000 { Grain::Hours } else { Grain::Moments };
    let (target, window) = (&asking.target()?.name, range.window());
    Ok(asking.site.store.fold_query_deltas(target, window, grain, start, see, Added::merge)?.0)
}

fn add(sum: &mut QueryDelta, delta: &QueryDelta) {
    sum.calls += delta.calls;
    sum.rows += delta.rows;
    sum.exec_time_ms += delta.exec_time_ms;
    sum.shared_blocks_hit += delta.shared_blocks_hit;
    sum.shared_blocks_read += delta.shared_blocks_read;
    sum.temp_blocks_read += delta.temp_blocks_read;
    sum.temp_blocks_written += delta.temp_blocks_written;
    sum.wal_bytes += delta.wal_bytes;
}

fn times(parts: &[Option<QueryDelta>], from_ms: i64, step_ms: i64) -> Times {
    let seconds = step_ms as f64 / 1000.0;
    let column = |of: &dyn Fn(&QueryDelta) -> Option<f64>| -> Vec<Option<f64>> {
        parts.iter().map(|part| part.as_ref().and_then(of)).collect()
    };
    let per_call = |value: f64, calls: i64| (calls > 0).then(|| value / calls as f64);
    Times {
        at_ms: (1..=parts.len() as i64).map(|number| from_ms + number * step_ms).collect(),
        calls: column(&|part| Some(part.calls as f64 / seconds)),
        mean_ms: column(&|part| per_call(part.exec_time_ms, part.calls)),
        rows: column(&|part| per_call(part.rows as f64, part.calls)),
        read_bytes: column(&|part| Some(part.shared_blocks_read as f64 * super::queries::BLOCK / seconds)),
        hit_bytes: column(&|part| Some(part.shared_blocks_hit as f64 * super::queries::BLOCK / seconds)),
    }
}

/// What was seen of the statement's sessions.
#[derive(Debug, Default)]
struct Watched {
    looks: u64,
    total: u64,
    waits: BTreeMap<String, u64>,
    newest: Vec<(i64, SessionSample)>,
}

impl Watched {
    fn look(&mut self, look: Look<'_>, id: i64) {
        self.looks += 1;
        for session in look.sessions.iter().filter(|session| session.query_id == Some(id)) {
            if activity::is_active(session.backend_type.as_deref(), session.state.as_deref()) {
                let session = session.to_sample();
                self.total += 1;
                *self.waits.entry(wait_of(&session)).or_default() += 1;
                self.newest.push((look.at_ms, session));
            }
        }
        if self.newest.len() > 8 * SAMPLES {
            self.keep_newest();
        }
    }

    fn keep_newest(&mut self) {
        self.newest.sort_by_key(|(at_ms, _)| std::cmp::Reverse(*at_ms));
        self.newest.truncate(SAMPLES);
    }

    fn merge(&mut self, other: Self) {
        self.looks += other.looks;
        self.total += other.total;
        for (wait, count) in other.waits {
            *self.waits.entry(wait).or_default() += count;
        }
        self.newest.extend(other.newest);
        self.keep_newest();
    }
}

/// How often was looked, what its sessions waited for, and the newest executions.
fn sessions(asking: &Asking<'_>, id: i64) -> Result<(u64, Vec<Share>, Vec<Execution>), ApiError> {
    let (target, window) = (&asking.target()?.name, asking.scene.range.window());
    let see = |watched: &mut Watched, look: Look<'_>| watched.look(look, id);
    let (mut watched, _) = asking.site.store.fold_activity(target, window, Watched::default, see, Watched::merge)?;
    watched.keep_newest();
    let Watched { looks, total, waits, newest } = watched;
    let mut shares: Vec<Share> = waits
        .into_iter()
        .map(|(key, count)| {
            let class = key.split(':').next().unwrap_or_default().to_owned();
            let sessions = count as f64 / looks.max(1) as f64;
            let share = count as f64 / total.max(1) as f64;
            Share { key, text: None, sessions, share, waits: vec![(class, sessions)] }
        })
        .collect();
    shares.sort_by(|a, b| b.sessions.total_cmp(&a.sessions));
    Ok((looks, shares, newest.into_iter().map(|(at_ms, session)| execution(at_ms, session)).collect()))
}

fn wait_of(session: &SessionSample) -> String {
    activity::wait_of(session.wait_event_type.as_deref(), session.wait_event.as_deref())
}

fn execution(at_ms: i64, session: SessionSample) -> Execution {
    Execution {
        at_ms,
        pid: session.pid,
        wait: wait_of(&session),
        user: session.user,
        application: session.application,
        client: session.client,
        query_age_ms: session.query_age_ms,
        blocked_by: session.blocked_by,
    }
}
