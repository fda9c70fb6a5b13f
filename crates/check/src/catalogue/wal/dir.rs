use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::Bytes};
use surus_pg::{Row, RowError, Rows};

pub static CHECK: Check = Check {
    id: "wal.dir",
    title: "pg_wal is larger than the settings allow for",
    inspects: "the segments in pg_wal against max_wal_size and wal_keep_size, replication slots and the archiver's queue",
    why: "WAL that somebody still holds is never removed. It grows until the disk is full, and then the server stops.",
    remedy: "Find the holder: a replication slot whose consumer is away, an archive command that fails, or a checkpoint that \
             cannot keep up. Never delete files in pg_wal by hand.",
    source: "check_pgactivity wal_files; pgEdge pg-healthcheck",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Monitor],
    thresholds: &[Threshold::above("size", "times max_wal_size + wal_keep_size", 1.5, 3.0)],
    look: Look::Query(
        &[Sql::all(
            "WITH oldest AS (SELECT slot_name, active, \
               pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, \
               restart_lsn)::bigint AS held FROM pg_replication_slots WHERE restart_lsn IS NOT NULL ORDER BY restart_lsn LIMIT 1) \
             SELECT (SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$') AS bytes, \
             (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready') AS ready, \
             pg_size_bytes(current_setting('wal_segment_size')) AS segment, \
             slot_name, active, held FROM (SELECT 1) AS one LEFT JOIN oldest ON true",
        )],
        judge,
    ),
};

/// Who keeps WAL from being removed.
enum Holder {
    Slot { name: String, active: bool, bytes: u64 },
    Archiver { ready: u64 },
    Nobody,
}

impl Holder {
    /// The one that holds more than `allowed` bytes; of a slot and the archiver the one that holds most.
    fn of(row: &Row<'_>, allowed: f64) -> Result<Self, RowError> {
        let held = row.opt_f64("held")?.unwrap_or(0.0);
        let ready = row.f64("ready")?;
        let queue = ready * row.f64("segment")?;
        Ok(match held.max(queue) {
            most if most < allowed / 2.0 => Holder::Nobody,
            most if most > held => Holder::Archiver { ready: ready as u64 },
            _ => Holder::Slot {
                name: row.text("slot_name")?,
                active: row.opt_bool("active")?.unwrap_or(false),
                bytes: held as u64,
            },
        })
    }

    fn sentence(&self) -> String {
        match self {
            Holder::Slot { name, active, bytes } => {
                let state = if *active { "whose consumer is behind" } else { "whose consumer is not connected" };
                format!("The replication slot {name}, {state}, holds {} of it.", Bytes(*bytes))
            }
            Holder::Archiver { ready } => format!("{ready} segments wait for the archiver."),
            Holder::Nobody => "No slot and no archiver holds it: checkpoints do not keep up with the writing.".into(),
        }
    }

    fn plan(&self) -> Plan {
        Plan::advice(match self {
            Holder::Slot { name, .. } => format!(
                "bring back the consumer of the slot {name}; if it will never come back: SELECT pg_drop_replication_slot({})",
                surus_pg::quote::literal(name)
            ),
            Holder::Archiver { .. } => {
                "find out in the server's log why archive_command fails or is slow, and mend it; WAL goes \
                                        away by itself afterwards"
                    .into()
            }
            Holder::Nobody => {
                "run CHECKPOINT once, and raise max_wal_size to what the server really writes between two".into()
            }
        })
    }
}

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    let bytes = row.f64("bytes")?;
    let size = |name: &str| scene.settings().bytes(name).unwrap_or(0) as f64;
    scene.setting("max_wal_size")?;
    let allowed = size("max_wal_size").max(size("min_wal_size")) + size("wal_keep_size");
    let times = bytes / allowed.max(1.0);
    let Some(severity) = scene.grade("size", times) else { return Ok(Verdict::ok()) };
    let holder = Holder::of(&row, allowed)?;
    let title = format!("pg_wal is {}, {times:.1} times what the settings allow for", Bytes(bytes as u64));
    Ok(Verdict::one(
        Finding::new(severity, "", title)
            .detail(format!("{} When the disk is full, the server stops.", holder.sentence()))
            .measured("pg_wal", bytes, "bytes")
            .measured("max_wal_size and wal_keep_size", allowed, "bytes")
            .measured("held by the oldest slot", row.opt_f64("held")?.unwrap_or(0.0), "bytes")
            .measured("waiting for the archiver", row.f64("ready")?, "segments")
            .fix(holder.plan()),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_wal_that_a_slot_holds() {
        seeded(&CHECK, |on| {
            on.configure(&[("max_wal_size", "8MB"), ("min_wal_size", "2MB")]);
            assert_eq!(on.findings(), []);
            on.sql("SELECT pg_create_physical_replication_slot('away', true)");
            on.sql("CREATE TABLE t AS SELECT g, repeat('x', 200) AS pad FROM generate_series(1, 60000) g");
            let found = on.findings();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("wal.dir", "warn"));
            assert!(found[0].detail.contains("slot away"), "{}", found[0].detail);
            assert!(!found[0].fix.as_ref().unwrap().is_applicable());
        });
    }
}
