//! What the checks of indexes and tables share: the steps that build, drop and rewrite an index, and how long they
//! take.

use surus_core::{
    plan::{Interruption, Lock, Plan, Step},
    size::Bytes,
};

/// What building or rewriting moves on modest hardware, in bytes per second; only for rough times.
const BYTES_PER_SECOND: f64 = 50.0 * 1024.0 * 1024.0;

/// About how long it takes to read or write this many bytes.
pub(crate) fn seconds_to_write(bytes: f64) -> f64 {
    (bytes / BYTES_PER_SECOND).max(0.1)
}

/// A size as people read it.
pub(crate) fn size(bytes: f64) -> Bytes {
    Bytes(bytes.max(0.0) as u64)
}

/// The definition that `pg_get_indexdef` gives, as a statement that blocks nobody.
pub(crate) fn concurrently(definition: &str) -> String {
    definition.replacen(" INDEX ", " INDEX CONCURRENTLY ", 1)
}

/// Drops an index that nothing needs; `definition` builds it again.
pub(crate) fn drop_plan(index: &str, definition: &str, effect: &str) -> Plan {
    let step =
        Step::sql_alone(format!("DROP INDEX CONCURRENTLY {index}"), Lock::ShareUpdateExclusive, effect).takes(0.5);
    Plan::one(format!("drop the index {index}"), step.undo_sql(concurrently(definition)))
}

/// Advice to drop an index, with the statement that brings it back.
pub(crate) fn drop_advice(index: &str, definition: &str, first: &str) -> Plan {
    let back = concurrently(definition);
    Plan::advice(format!("{first}: DROP INDEX CONCURRENTLY {index}; to bring it back: {back}"))
}

/// Writes an index anew without blocking reads or writes.
pub(crate) fn reindex_step(index: &str, bytes: f64, effect: &str) -> Step {
    let sql = format!("REINDEX INDEX CONCURRENTLY {index}");
    Step::sql_alone(sql, Lock::ShareUpdateExclusive, effect)
        .interrupts(Interruption::Rewrite)
        .takes(2.0 * seconds_to_write(bytes))
        .no_undo("nothing is lost: the new index holds the same entries")
}

/// The SQL expression for how many seconds the statistics of the current database have been counting: since its own
/// reset, or since the server lost all of them in a crash, which the background writer's statistics remember.
macro_rules! statistics_age {
    () => {
        "(SELECT extract(epoch FROM now() - greatest(sd.stats_reset, sb.stats_reset)) \
         FROM pg_stat_database sd, pg_stat_bgwriter sb WHERE sd.datname = current_database())"
    };
}
pub(crate) use statistics_age;

/// The SQL expression for the size of the relation `$c` of pg_class, in bytes, as VACUUM and ANALYZE last saw it.
macro_rules! estimated_bytes {
    ($c:literal) => {
        concat!("(", $c, ".relpages::bigint * current_setting('block_size')::bigint)")
    };
}
pub(crate) use estimated_bytes;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_becomes_concurrent() {
        assert_eq!(
            concurrently("CREATE UNIQUE INDEX a ON public.t USING btree (b)"),
            "CREATE UNIQUE INDEX CONCURRENTLY a ON public.t USING btree (b)"
        );
        assert_eq!(concurrently("CREATE INDEX \" INDEX \" ON t (b)"), "CREATE INDEX CONCURRENTLY \" INDEX \" ON t (b)");
    }
}
