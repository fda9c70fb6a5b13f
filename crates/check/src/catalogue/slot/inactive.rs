use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    slots,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    size::{Bytes, human_seconds},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "slot.inactive",
    title: "nobody reads a replication slot",
    inspects: "pg_replication_slots; before 17, which does not say since when, the age of the WAL segment that the slot waits at",
    why: "A slot keeps all WAL that its consumer has not read yet, for ever. When the consumer is gone, the disk fills up; a \
          logical slot also keeps VACUUM from cleaning the catalogs.",
    remedy: "Bring the consumer back. If it is gone for good, drop the slot.",
    source: "pgEdge pg-healthcheck; 15 minutes and 2 hours",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("inactive", "s", 900.0, 7200.0)],
    look: Look::Query(
        &[
            Sql::since(
                17,
                "SELECT slot_name AS name, slot_type AS kind, extract(epoch FROM clock_timestamp() - inactive_since) AS idle_s, \
                 pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
                   ELSE pg_current_wal_lsn() END, restart_lsn)::bigint AS held \
                 FROM pg_replication_slots WHERE NOT active AND NOT temporary AND NOT synced \
                 AND invalidation_reason IS NULL AND wal_status IS DISTINCT FROM 'lost' ORDER BY slot_name",
            ),
            Sql::until(
                16,
                "WITH sizes AS (SELECT pg_size_bytes(current_setting('wal_segment_size')) AS segment, \
                   CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
                   ELSE pg_current_wal_lsn() END AS now), \
                 slots AS (SELECT slot_name, slot_type, pg_wal_lsn_diff(now, restart_lsn)::bigint AS held, \
                   floor(pg_wal_lsn_diff(restart_lsn, '0/0') / segment)::bigint AS number, \
                   floor(pg_wal_lsn_diff(now, '0/0') / segment)::bigint AS current \
                   FROM pg_replication_slots, sizes WHERE NOT active AND NOT temporary AND wal_status IS DISTINCT FROM 'lost'), \
                 files AS (SELECT ('x' || substr(name, 9, 8))::bit(32)::bigint * (4294967296 / segment) \
                   + ('x' || substr(name, 17, 8))::bit(32)::bigint AS number, max(modification) AS written \
                   FROM pg_ls_waldir(), sizes WHERE name ~ '^[0-9A-F]{24}$' GROUP BY 1) \
                 SELECT slot_name AS name, slot_type AS kind, held, extract(epoch FROM clock_timestamp() - written) AS idle_s \
                 FROM slots LEFT JOIN files ON files.number = slots.number AND slots.number < slots.current ORDER BY slot_name",
            ),
        ],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut verdict = Verdict::ok();
    for row in rows.iter() {
        let (name, kind) = (row.str("name")?, row.str("kind")?);
        let held = row.opt_i64("held")?.unwrap_or(0).max(0);
        let Some(idle) = row.opt_f64("idle_s")? else {
            let why = format!(
                "PostgreSQL {} does not record since when the slot is inactive, and it holds less than a WAL segment",
                scene.facts.version
            );
            verdict = verdict.but_unknown(name, Reason::Version(why));
            continue;
        };
        let Some(severity) = scene.grade("inactive", idle) else { continue };
        let title = match scene.major() {
            17.. => format!("nobody has read the {kind} slot {name} for {}", human_seconds(idle)),
            _ => format!("nobody reads the {kind} slot {name}, which holds WAL from {} ago", human_seconds(idle)),
        };
        verdict.findings.push(
            Finding::new(severity, name, title)
                .detail(format!("It holds {} of WAL now, and more with every change.", Bytes(held.unsigned_abs())))
                .measured("inactive", idle, "s")
                .measured("held WAL", held, "bytes")
                .fix(slots::revive_or_drop(name)),
        );
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use std::time::{Duration, SystemTime};

    check_tests!(CHECK);

    #[test]
    fn sees_a_slot_that_nobody_reads() {
        seeded(&CHECK, |on| {
            on.sql("SELECT pg_create_physical_replication_slot('away', true)");
            if on.major() >= 17 {
                assert_eq!(on.findings(), [], "a moment is nothing");
                on.limit("inactive", 0.0);
            } else {
                assert_eq!(on.report().unknown[0].reason.kind(), "version");
                let segment = on.server.value("SELECT pg_walfile_name(restart_lsn) AS v FROM pg_replication_slots");
                on.sql("CREATE TABLE t(a int); SELECT pg_switch_wal(); CREATE TABLE u(a int)");
                assert_eq!(on.findings(), [], "a moment is nothing");
                let file = std::fs::File::options().write(true).open(on.server.data_dir().join("pg_wal").join(segment));
                file.unwrap()
                    .set_modified(SystemTime::from(surus_core::clock::now()) - Duration::from_secs(3600))
                    .unwrap();
            }
            let found = on.findings();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("slot.inactive:away", "warn"));
            assert!(format!("{:?}", found[0].fix).contains("pg_drop_replication_slot('away')"));
        });
    }
}
