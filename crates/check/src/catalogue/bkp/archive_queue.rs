use crate::{
    archiving::Archiving,
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::Plan,
    size::{Bytes, human_count, human_seconds},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "bkp.archive_queue",
    title: "many WAL segments wait for the archiver",
    inspects: "pg_wal/archive_status: .ready files",
    why: "Segments that wait are not in the archive: a lost machine takes them along. They also cannot be removed, so pg_wal \
          grows.",
    remedy: "Make archiving faster: several segments at once (your backup tool's asynchronous mode), compression, a better \
             network; or mend it where it fails.",
    source: "check_pgactivity ready_archives; check_postgres archive_ready",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Monitor],
    thresholds: &[Threshold::above("ready", "segments", 100.0, 500.0)],
    look: Look::Query(
        &[Sql::all(
            "SELECT count(*) AS ready, extract(epoch FROM clock_timestamp() - min(modification)) AS oldest_s, \
             pg_size_bytes(current_setting('wal_segment_size')) AS segment \
             FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let archiving = Archiving::of(scene)?;
    if archiving == Archiving::Off {
        return Ok(Verdict::not_applicable("archive_mode is off"));
    }
    let row = rows.first()?;
    let ready = row.i64("ready")?;
    let Some(severity) = scene.grade("ready", ready as f64) else { return Ok(Verdict::ok()) };
    let oldest = row.opt_f64("oldest_s")?.unwrap_or(0.0);
    let bytes = Bytes(ready.unsigned_abs() * row.i64("segment")?.unsigned_abs());
    let title = format!(
        "{} WAL segments ({bytes}) wait for the archiver, the oldest for {}",
        human_count(ready),
        human_seconds(oldest)
    );
    let advice = match archiving.is_on() {
        true => "see in pg_stat_archiver whether it fails or is slow, and mend or speed up archive_command",
        false => "set archive_command (or archive_library) so that the segments can go somewhere",
    };
    Ok(Verdict::one(
        Finding::new(severity, "", title)
            .detail("They are only on this machine, and pg_wal keeps them until they are archived.")
            .measured("ready", ready, "segments")
            .measured("oldest", oldest, "s")
            .fix(Plan::advice(advice)),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_segments_that_wait() {
        let build =
            |builder: surus_testkit::Builder| builder.setting("archive_mode", "on").setting("archive_command", "false");
        seeded_on(&CHECK, build, |on| {
            for _ in 0..3 {
                on.sql("SELECT pg_switch_wal() FROM (SELECT txid_current()) AS one");
            }
            on.sql("CREATE TABLE t(a int); SELECT pg_switch_wal()");
            assert_eq!(on.findings(), [], "a handful is no queue");
            on.limit("ready", 2.0);
            let found = on.findings();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("bkp.archive_queue", "warn"));
        });
    }
}
