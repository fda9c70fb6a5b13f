//! What the server's own counters say about its work.

use surus_pg::{AskError, Facts, Session, host};

/// Counters turned into rates since the statistics were reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Evidence {
    /// WAL written, bytes per second; absent when the statistics are younger than an hour.
    pub wal_bytes_per_s: Option<f64>,
    /// How often a backend had to write WAL because the buffers were full, per second.
    pub wal_buffers_full_per_s: Option<f64>,
    /// Free room on the file system of the WAL, when surus is on the host.
    pub wal_room_bytes: Option<u64>,
    /// The size of all databases together.
    pub data_bytes: Option<u64>,
}

/// Rates over a shorter time say little about the work of a day.
const LEAST_AGE_S: f64 = 3600.0;

impl Evidence {
    /// Reads them.
    ///
    /// # Errors
    /// When the server refuses a query that every role may ask.
    pub async fn gather(session: &Session, facts: &Facts) -> Result<Self, AskError> {
        let mut evidence = Self::default();
        // relpages of this database only would mislead, and the sum of sizes costs one stat call per file: bounded by
        // statement_timeout and only taken when it comes.
        let sizes = session.ask("SELECT sum(pg_database_size(oid)) AS bytes FROM pg_database WHERE has_database_privilege(oid, 'CONNECT')").await;
        evidence.data_bytes =
            sizes.ok().and_then(|rows| rows.first().ok()?.f64("bytes").ok()).map(|bytes| bytes as u64);
        if facts.version.major() >= 14 {
            let sql =
                "SELECT wal_bytes, wal_buffers_full, extract(epoch FROM now() - stats_reset) AS age FROM pg_stat_wal";
            let rows = session.ask(sql).await?;
            if let Ok(row) = rows.first()
                && let (Ok(bytes), Ok(full), Ok(age)) =
                    (row.f64("wal_bytes"), row.f64("wal_buffers_full"), row.f64("age"))
                && age >= LEAST_AGE_S
            {
                evidence.wal_bytes_per_s = Some(bytes / age);
                evidence.wal_buffers_full_per_s = Some(full / age);
            }
        }
        let wal = facts.data_directory().map(|directory| directory.join("pg_wal"));
        evidence.wal_room_bytes = wal.and_then(|wal| host::room(&wal)).map(|room| room.free_bytes);
        Ok(evidence)
    }
}
