use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::{Plan, Step},
    size::{Bytes, human_seconds},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "wal.fpi_ratio",
    title: "much of the WAL is copies of whole pages",
    inspects: "pg_stat_wal: full-page images times the page size, against all WAL since the reset (an upper bound)",
    why: "After each checkpoint the first change of every page puts the whole page into the WAL. When that is most of the \
          WAL, disks, standbys and the archive carry many times what the application changed.",
    remedy: "Compress the images with wal_compression, and let checkpoints come further apart (max_wal_size, \
             checkpoint_timeout).",
    source: "pgEdge pg-healthcheck; PostgreSQL documentation, full_page_writes and wal_compression",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[Need::Major(14)],
    thresholds: &[
        Threshold::warn_above("share", "% of all WAL", 40.0),
        Threshold::warn_above("volume", "bytes of WAL since the reset", 4e9),
    ],
    look: Look::Query(
        &[Sql::all(
            "SELECT wal_fpi AS images, wal_bytes AS bytes, current_setting('block_size')::int AS page, \
             extract(epoch FROM clock_timestamp() - stats_reset) AS age_s, \
             (SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'wal_compression') AS lz4 FROM pg_stat_wal",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    let (images, bytes, page) = (row.f64("images")?, row.f64("bytes")?, row.f64("page")?);
    if scene.grade("volume", bytes).is_none() {
        return Ok(Verdict::ok());
    }
    if scene.setting("wal_compression")?.value != "off" {
        let why = "images are compressed already (wal_compression), so their size cannot be told from their number";
        return Err(Reason::Version(why.into()).into());
    }
    let share = (100.0 * images * page / bytes.max(1.0)).min(100.0);
    let Some(severity) = scene.grade("share", share) else { return Ok(Verdict::ok()) };
    let method = if row.opt_bool("lz4")?.unwrap_or(false) { "lz4" } else { "on" };
    let age = row.opt_f64("age_s")?.unwrap_or(0.0);
    let title = format!(
        "up to {share:.0} % of the {} of WAL written in {} are full-page images",
        Bytes(bytes as u64),
        human_seconds(age)
    );
    Ok(Verdict::one(
        Finding::new(severity, "", title)
            .detail("Standbys and the archive carry whole pages where a few bytes were changed.")
            .measured("share at most", share, "%")
            .saw("full-page images", images)
            .measured("WAL", bytes, "bytes")
            .measured("since reset", age, "s")
            .fix(Plan::one(
                "compress full-page images",
                Step::setting(
                    "wal_compression",
                    method,
                    "less WAL for a little processor time in the sessions that write",
                ),
            )),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_wal_full_of_pages() {
        seeded(&CHECK, |on| {
            on.sql("CREATE TABLE t(a int, pad char(400)) WITH (autovacuum_enabled = off, fillfactor = 50)");
            on.sql("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 20000) g");
            on.sql("CHECKPOINT; SELECT pg_stat_reset_shared('wal')");
            on.sql("UPDATE t SET a = -a WHERE a % 20 = 0");
            on.until("SELECT wal_fpi > 500 AS v FROM pg_stat_wal");
            assert_eq!(on.findings(), [], "a few megabytes are no trouble");
            on.limit("volume", 1e6);
            let found = on.findings();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("wal.fpi_ratio", "warn"));
            assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
            on.server.local().write_settings(&[("wal_compression", "on")]).unwrap();
            on.server.local().reload();
            on.until("SELECT setting <> 'off' AS v FROM pg_settings WHERE name = 'wal_compression'");
            assert_eq!(on.report().unknown[0].reason.kind(), "version");
        });
    }
}
