//! Who holds up whom: now, or as it was at a moment of the range; and when sessions waited for others.

use super::{
    Asking,
    activity::{self, Session},
    plot::{Plot, Unit},
    quoted, tree,
};
use crate::{api::answer::ApiError, range::moment_ms};
use schemars::JsonSchema;
use serde::Serialize;
use surus_core::series::Window;
use surus_store::samples::{Activity, Look, SessionRef, SessionSample};

/// How far from the wanted moment the look may lie, in milliseconds.
const WITHIN_MS: i64 = 15_000;
/// Two looks with blocked sessions that are nearer than this belong to one episode, in milliseconds.
const EPISODE_GAP_MS: i64 = 10_000;
/// Episodes that are listed: the newest.
const EPISODES: usize = 50;
/// The longest range that is gone through look by look, in milliseconds; of longer ones its end.
const SCANNED_MS: i64 = 86_400_000;

/// Blocking.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Blocking {
    /// The look that the tree is of; none when nobody looked then.
    pub at_ms: Option<i64>,
    /// Is it the newest one?
    pub now: bool,
    /// Those that others wait for, who hold up most first.
    pub roots: Vec<Branch>,
    /// Sessions that wait for another.
    pub waiting: usize,
    pub plot: Plot,
    /// Stretches in which sessions waited for others, newest first.
    pub episodes: Vec<Episode>,
}

/// A session and those that wait for it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Branch {
    pub pid: i32,
    /// How many wait for it, directly or not.
    pub held_up: usize,
    /// None when it was not seen itself: it was idle.
    pub session: Option<Session>,
    pub waiting: Vec<Branch>,
}

/// A stretch in which sessions waited for others.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Episode {
    pub from_ms: i64,
    pub to_ms: i64,
    /// When most sessions waited.
    pub worst_ms: i64,
    /// How many did then.
    pub most: usize,
    /// Who held up most then.
    pub root: i32,
    /// What that one called itself.
    pub root_name: Option<String>,
}

/// Looks at who blocks whom.
pub fn look(asking: &Asking<'_>) -> Result<Blocking, ApiError> {
    let (target, scene) = (asking.target()?, &asking.scene);
    let wanted = scene.form.get("at").map(|text| {
        moment_ms(text, scene.now_ms).ok_or_else(|| ApiError::parameter("at", format!("{text:?} is no time")))
    });
    let wanted = wanted.transpose()?;
    let at_ms = wanted.unwrap_or_else(|| scene.at_ms());
    let store = &asking.site.store;
    let found = store.activity_at(&target.name, at_ms, WITHIN_MS)?;
    let from_ms = scene.range.from_ms.max(scene.at_ms() - SCANNED_MS);
    let window = Window { after_ms: from_ms - 1, until_ms: scene.range.to_ms };
    // Most looks have nobody who waits: only the others are kept.
    let see = |looks: &mut Vec<Activity>, look: Look<'_>| {
        if look.sessions.iter().any(|session| !session.blocked_by.is_empty()) {
            let sessions = look.sessions.iter().map(SessionRef::to_sample).collect();
            looks.push(Activity { at_ms: look.at_ms, sessions });
        }
    };
    let merge = |looks: &mut Vec<Activity>, more: Vec<Activity>| looks.extend(more);
    let (mut looks, _) = store.fold_activity(&target.name, window, Vec::new, see, merge)?;
    looks.sort_by_key(|look| look.at_ms);
    let mut episodes = episodes(&looks);
    episodes.reverse();
    episodes.truncate(EPISODES);
    let forest = found.as_ref().map(|look| tree::forest(&look.sessions)).unwrap_or_default();
    let selector = format!("instance={},wait_event_type=\"Lock\"", quoted(&target.name));
    Ok(Blocking {
        at_ms: found.as_ref().map(|look| look.at_ms),
        now: wanted.is_none() && scene.range.is_live(),
        waiting: forest.iter().map(tree::Node::held_up).sum(),
        roots: forest.into_iter().map(|node| branch(asking, node)).collect::<Result<_, _>>()?,
        plot: Plot::stack("waiting", "Sessions waiting for a lock", Unit::Sessions)
            .query(format!("sum(avg_over_time(surus_active_sessions{{{selector}}}{}))", scene.range.rate()), "Lock")
            .waits()
            .empty("surus did not watch in this range."),
        episodes,
    })
}

fn branch(asking: &Asking<'_>, node: tree::Node) -> Result<Branch, ApiError> {
    Ok(Branch {
        pid: node.pid,
        held_up: node.held_up(),
        session: node.session.map(|session| activity::shown(asking, session)).transpose()?,
        waiting: node.waiting.into_iter().map(|node| branch(asking, node)).collect::<Result<_, _>>()?,
    })
}

/// The stretches in which sessions waited for others, oldest first.
fn episodes(looks: &[Activity]) -> Vec<Episode> {
    let mut all: Vec<Episode> = Vec::new();
    for look in looks {
        let waiting = look.sessions.iter().filter(|session| !session.blocked_by.is_empty()).count();
        if waiting == 0 {
            continue;
        }
        let root = |sessions: &[SessionSample]| tree::forest(sessions).into_iter().next();
        let named = |node: &tree::Node| node.session.as_ref().and_then(|session| session.application.clone());
        match all.last_mut().filter(|last| look.at_ms - last.to_ms <= EPISODE_GAP_MS) {
            Some(last) => {
                last.to_ms = look.at_ms;
                if waiting > last.most {
                    let root = root(&look.sessions);
                    last.root_name = root.as_ref().and_then(named);
                    (last.most, last.worst_ms, last.root) = (waiting, look.at_ms, root.map_or(0, |node| node.pid));
                }
            }
            None => {
                let root = root(&look.sessions);
                all.push(Episode {
                    from_ms: look.at_ms,
                    to_ms: look.at_ms,
                    worst_ms: look.at_ms,
                    most: waiting,
                    root_name: root.as_ref().and_then(named),
                    root: root.map_or(0, |node| node.pid),
                });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at_ms: i64, waiting: usize) -> Activity {
        let one = |pid: i32| SessionSample { pid, blocked_by: vec![1], ..SessionSample::default() };
        Activity { at_ms, sessions: (0..waiting).map(|number| one(10 + number as i32)).collect() }
    }

    #[test]
    fn a_short_pause_does_not_end_an_episode() {
        let looks = [look(1000, 1), look(2000, 0), look(3000, 3), look(4000, 2), look(30_000, 1)];
        let all = episodes(&looks);
        let told: Vec<_> = all.iter().map(|one| (one.from_ms, one.to_ms, one.worst_ms, one.most, one.root)).collect();
        assert_eq!(told, [(1000, 4000, 3000, 3, 1), (30_000, 30_000, 30_000, 1, 1)]);
    }
}
