use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "cfg.checksums",
    title: "data checksums are off, or have found damaged pages",
    inspects: "data_checksums; pg_stat_database: checksum_failures",
    why: "Disks and controllers sometimes return other bytes than were written. With checksums PostgreSQL notices when it \
          reads such a page; without them it works on with wrong data and copies it into backups.",
    remedy: "Turn checksums on while the server is stopped, or build a standby with them and switch over. If pages are \
             damaged, restore them from a backup and replace the disk.",
    source: "check_pgactivity checksum_errors; pgEdge pg-healthcheck; on by default since PostgreSQL 18",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT coalesce(datname, '') AS name, checksum_failures AS failures, checksum_last_failure::text AS last \
             FROM pg_stat_database WHERE checksum_failures > 0 ORDER BY 1",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    if !scene.on("data_checksums")? {
        let host =
            scene.data_directory().map_or_else(|_| "DATA_DIRECTORY".to_owned(), |path| path.display().to_string());
        return Ok(Verdict::one(
            Finding::warn("off", "data checksums are off: damaged pages go unnoticed")
                .detail("A page that the disk returns wrong is used as if it were right, and goes into every backup.")
                .saw("setting data_checksums", "off")
                .fix(Plan::advice(format!(
                    "stop the server cleanly, run pg_checksums --enable -D {host} (it reads and rewrites all files, about 1 GB in \
                     5 to 10 s), start again; with standbys do each of them before its primary"
                ))),
        ));
    }
    let mut findings = Vec::new();
    for row in rows.iter() {
        let place = match row.str("name")? {
            "" => "the shared catalogs".to_owned(),
            name => format!("database {}", quote::ident(name)),
        };
        let failures = row.i64("failures")?;
        findings.push(
            Finding::crit(place.as_str(), format!("{failures} reads met a damaged page in {place}"))
                .detail("Data on disk is not what was written. Until the page is restored its rows cannot be read.")
                .saw("failed checksums", failures)
                .saw("last one", row.text("last")?)
                .fix(Plan::advice(format!(
                    "keep the newest backup from before the damage; {} finds the pages, tells which rows are lost, and shows \
                     the way back. A standby may still have the page right: switch over, then check disk, controller and \
                     memory. When all is repaired, SELECT pg_stat_reset() in that database clears the counter",
                    scene.prove_page(&[])
                ))),
        );
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use std::{io::Write, os::unix::fs::FileExt, time::Duration};

    check_tests!(CHECK);

    #[test]
    fn sees_that_checksums_are_off() {
        seeded_on(
            &CHECK,
            |builder| builder.checksums(false),
            |on| {
                let found = on.findings();
                assert_eq!(found.len(), 1);
                assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("cfg.checksums:off", "warn"));
            },
        );
    }

    #[test]
    fn sees_a_damaged_page() {
        seeded(&CHECK, |on| {
            on.server.expect_log("invalid page in block 0");
            on.server.expect_log("connection to client lost");
            on.sql("CREATE TABLE t AS SELECT generate_series(1, 100) AS a");
            let file = on.server.data_dir().join(on.server.value("SELECT pg_relation_filepath('t') AS v"));
            on.server.local_mut().stop(surus_pg::server::Mode::Fast).unwrap();
            let mut page = std::fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
            let mut byte = [0];
            page.read_exact_at(&mut byte, 8000).unwrap();
            page.write_all_at(&[!byte[0]], 8000).unwrap();
            page.flush().unwrap();
            on.server.local_mut().start(Duration::from_secs(60)).unwrap();
            assert!(on.server.try_query_in("postgres", "SELECT sum(a) FROM t").is_err());
            for _ in 0..50 {
                if on.server.value("SELECT coalesce(sum(checksum_failures), 0) > 0 AS v FROM pg_stat_database") == "t" {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("cfg.checksums:database postgres", "crit"));
            let advice = serde_json::to_string(&found[0].fix).unwrap();
            assert!(advice.contains("surus prove page "), "{advice}");
        });
    }
}
