//! Names of the numbers that commands report. Source: system_views.sql of PostgreSQL 13 to 18, where they agree.

/// Phases of VACUUM, from 0 on.
pub(super) const VACUUM: &[&str] = &[
    "initializing",
    "scanning heap",
    "vacuuming indexes",
    "vacuuming heap",
    "cleaning up indexes",
    "truncating heap",
    "performing final cleanup",
];
const ANALYZE: &[&str] = &[
    "initializing",
    "acquiring sample rows",
    "acquiring inherited sample rows",
    "computing statistics",
    "computing extended statistics",
    "finalizing analyze",
];
const CREATE_INDEX: &[&str] = &[
    "initializing",
    "waiting for writers before build",
    "building index",
    "waiting for writers before validation",
    "index validation: scanning index",
    "index validation: sorting tuples",
    "index validation: scanning table",
    "waiting for old snapshots",
    "waiting for readers before marking dead",
    "waiting for readers before dropping",
];
const CLUSTER: &[&str] = &[
    "initializing",
    "seq scanning heap",
    "index scanning heap",
    "sorting tuples",
    "writing new heap",
    "swapping relation files",
    "rebuilding index",
    "performing final cleanup",
];
const BASEBACKUP: &[&str] = &[
    "initializing",
    "waiting for checkpoint to finish",
    "estimating backup size",
    "streaming database files",
    "waiting for wal archiving to finish",
    "transferring wal files",
];

/// The phase of this number.
pub(super) fn phase(kind: &str, number: i64) -> &'static str {
    let names = match kind {
        "VACUUM" => VACUUM,
        "ANALYZE" => ANALYZE,
        "CREATE INDEX" => CREATE_INDEX,
        "CLUSTER" => CLUSTER,
        "BASEBACKUP" => BASEBACKUP,
        _ => &[],
    };
    usize::try_from(number).ok().and_then(|at| names.get(at)).copied().unwrap_or("unknown")
}

/// The command of this number, from 1 on.
pub(super) fn command(kind: &str, number: i64) -> &'static str {
    let names: &[&str] = match kind {
        "CREATE INDEX" => &["CREATE INDEX", "CREATE INDEX CONCURRENTLY", "REINDEX", "REINDEX CONCURRENTLY"],
        "CLUSTER" => &["CLUSTER", "VACUUM FULL"],
        "COPY" => &["COPY FROM", "COPY TO"],
        _ => &[],
    };
    usize::try_from(number - 1).ok().and_then(|at| names.get(at)).copied().unwrap_or("unknown")
}
