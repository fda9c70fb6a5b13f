//! Which nodes of a cluster are looked at: an index may be used on a standby only.

use crate::scene::Scene;

/// The SQL expression for how many standbys stream from here: logical subscribers and WAL archivers serve no queries.
macro_rules! streaming_standbys {
    () => {
        "(SELECT count(*) FROM pg_stat_replication sr LEFT JOIN pg_replication_slots ss ON ss.active_pid = sr.pid \
         WHERE ss.slot_type IS DISTINCT FROM 'logical' AND sr.application_name NOT IN ('pg_receivewal', 'pg_basebackup'))"
    };
}
pub(crate) use streaming_standbys;

/// Which nodes that may serve queries are not among the given targets; `streaming` is how many stream from this one.
pub(crate) fn unseen(scene: &Scene<'_>, streaming: i64) -> Option<String> {
    let standbys = scene.siblings.iter().filter(|(_, facts)| facts.in_recovery).count() as i64;
    let primary = !scene.facts.in_recovery || scene.siblings.iter().any(|(_, facts)| !facts.in_recovery);
    if !primary {
        return Some("the primary is not among the targets of this run".into());
    }
    (standbys < streaming).then(|| {
        format!("{streaming} standbys stream from here, but {standbys} of them are among the targets of this run")
    })
}
