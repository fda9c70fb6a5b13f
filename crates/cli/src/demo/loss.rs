//! An accident, and the way back: a table's rows are deleted, looked up in the past, and put back.

use super::{
    drill::Actor,
    link::{self, LAB},
    repository::NAME,
    stop::Ended,
};
use crate::{failure::Failure, paint::Paint};
use serde::Serialize;
use std::{process::Stdio, time::Duration};
use surus_core::{
    clock::{Deadline, Stopwatch},
    code,
    size::{human_count, human_seconds},
};
use tokio::process::Command;

/// The table that is lost.
const TABLE: &str = "orders";
/// How long the WAL of the accident may take into the archive.
const ARCHIVED_WITHIN: Duration = Duration::from_secs(60);

/// The server's clock.
const NOW: &str = "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') AS v";

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Saved {
    pub table: &'static str,
    /// The moment before the accident.
    pub moment: String,
    pub rows_before: i64,
    pub rows_deleted: i64,
    /// What `surus at` counted there.
    pub rows_at: i64,
    pub at_seconds: f64,
    /// Rows of before the accident that are there again at the end.
    pub rows_back: i64,
    pub repair_seconds: f64,
}

impl Actor<'_> {
    /// Loses the rows, and gets them back.
    pub async fn lose_and_save(&self) -> Result<Saved, Ended> {
        let newest = self.count(&format!("SELECT max(id)::text AS v FROM public.{TABLE}")).await?;
        let counted = format!("SELECT count(*)::text AS v FROM public.{TABLE} WHERE id <= {newest}");
        let rows_before = self.count(&counted).await?;
        let moment = self.text(NOW).await?;
        let rows_deleted = self
            .count(&format!(
                "WITH gone AS (DELETE FROM public.{TABLE} WHERE id <= {newest} RETURNING 1) \
                 SELECT count(*)::text AS v FROM gone"
            ))
            .await?;
        self.archived().await?;

        let watch = Stopwatch::start();
        let words = ["at", &moment, "--repo", NAME, "-d", LAB, "-c", &counted, "--format", "csv"];
        let said = self.surus(&words).await?;
        let last = said.lines().last().unwrap_or_default().trim();
        let rows_at = last.parse().map_err(|_| Failure::bug(format!("surus at said {said:?}")))?;
        let at_seconds = watch.elapsed().as_secs_f64();

        let watch = Stopwatch::start();
        let file = self.data_dir.join("repair.sql");
        // That of an earlier show, in a demo that was kept.
        let _ = std::fs::remove_file(&file);
        let file = file.display().to_string();
        let words = ["diff", TABLE, "primary", "--at", &moment, "--repo", NAME, "--repair", &file];
        self.surus(&[&words[..], &["--warm", "0s"]].concat()).await?;
        self.run_file(&file).await?;
        let rows_back = self.count(&counted).await?;
        Ok(Saved {
            table: TABLE,
            moment,
            rows_before,
            rows_deleted,
            rows_at,
            at_seconds,
            rows_back,
            repair_seconds: watch.elapsed().as_secs_f64(),
        })
    }

    /// Waits until the accident's WAL is in the archive: what lies before it can be restored then.
    async fn archived(&self) -> Result<(), Ended> {
        let last = self.text("SELECT pg_walfile_name(pg_switch_wal()) AS v").await?;
        let deadline = Deadline::after(ARCHIVED_WITHIN);
        let seen =
            format!("SELECT coalesce(max(last_archived_wal) >= '{last}', false)::text AS v FROM pg_stat_archiver");
        while self.text(&seen).await? != "true" {
            if deadline.passed() {
                let text = format!("{last} did not come into the archive within a minute");
                return Err(Ended::Failed(Failure::new(code::WAL_GAP, text)));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The repair, as a user runs it.
    async fn run_file(&self, file: &str) -> Result<(), Ended> {
        let programs = self.primary.programs().with_client("psql").map_err(Failure::from)?;
        let mut command = Command::new(programs.bin("psql").map_err(Failure::from)?);
        if let Some(libraries) = programs.library_path() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let dsn = self.primary.dsn(link::SUPERUSER, LAB);
        command.args(["-X", "-q", "-d", &dsn, "-f", file]).stdin(Stdio::null()).kill_on_drop(true);
        self.said(command, "psql").await.map(drop)
    }

    /// The only column, `v`, of the first row.
    async fn text(&self, sql: &str) -> Result<String, Ended> {
        let rows = self.session.ask(sql).await.map_err(link::asked)?;
        let text = rows.first().and_then(|row| row.text("v")).map_err(|error| Failure::bug(error.to_string()))?;
        Ok(text)
    }

    async fn count(&self, sql: &str) -> Result<i64, Ended> {
        let text = self.text(sql).await?;
        Ok(text.parse().map_err(|_| Failure::bug(format!("{text:?} is no number")))?)
    }
}

/// The accident and the way back, for people.
pub fn saved_text(saved: &Saved) -> String {
    let all = saved.rows_back == saved.rows_before && saved.rows_at == saved.rows_before;
    let mark = if all { Paint::good("✓ all of them") } else { Paint::crit("✗ not all of them") };
    format!(
        "{}\n  {}  {}\n  {} {}\n  {} {}\n  back: {} of {} rows {mark}\n",
        Paint::strong("An accident, and the way back"),
        Paint::code(format!("DELETE FROM {}", saved.table)),
        Paint::faint(format!("{} rows are gone", human_count(saved.rows_deleted))),
        Paint::code(format!("surus at {} -c 'SELECT count(*) FROM {}'", saved.moment, saved.table)),
        Paint::faint(format!("{} rows were there; {}", human_count(saved.rows_at), human_seconds(saved.at_seconds))),
        Paint::code(format!("surus diff {} primary --at {} --repair repair.sql", saved.table, saved.moment)),
        Paint::faint(format!("tested on a copy, and run; {}", human_seconds(saved.repair_seconds))),
        human_count(saved.rows_back),
        human_count(saved.rows_before),
    )
}
