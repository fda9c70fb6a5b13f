//! A row on the primary that says "now", again and again: after a loss, the newest one that came back tells how much is
//! missing. It is written in the first session, between two questions, and only where the configuration asks for it.

use super::Watch;
use crate::{
    asking::{self, Failed},
    why::Why,
};
use surus_core::clock;
use surus_pg::{AskError, Session, quote::literal};

/// What the target is missing while no heartbeat can be written.
const HEARTBEAT: &str = "heartbeat";
/// How long it is left alone after it could not be written.
const REST_MS: i64 = 300_000;

/// Where the heartbeat stands.
#[derive(Debug, Default)]
pub(super) struct Heart {
    /// The table is there and may be written to.
    ready: bool,
    /// Not before this moment.
    rests_until_ms: i64,
}

impl Watch {
    /// Writes it when it is due, on a primary.
    pub(super) async fn heartbeat_if_due(&mut self) {
        let now_ms = clock::now_ms();
        let primary = self.known.as_ref().is_some_and(|known| !known.pulse.in_recovery);
        let Some(grid) = self.grids.heartbeat.as_mut().filter(|_| self.session.is_some()) else { return };
        if grid.take(now_ms).is_none() || !primary || now_ms < self.heart.rests_until_ms {
            return;
        }
        let Some(session) = self.session.take() else { return };
        match self.beat(&session).await {
            Ok(()) => {
                self.missing.remove(HEARTBEAT);
                self.session = Some(session);
            }
            Err(Failed::Closed(why)) => {
                self.heart.ready = false;
                self.lost(why, now_ms);
            }
            Err(Failed::Absent(why) | Failed::Refused(why)) => {
                let text = format!("no heartbeat is written: {}", why.text);
                if self.missing.insert(HEARTBEAT, Why { text: text.clone(), ..why.clone() }).is_none() {
                    tracing::warn!(target = %self.watched.name, code = why.code, "{text}");
                }
                self.heart = Heart { ready: false, rests_until_ms: now_ms + REST_MS };
                self.session = Some(session);
            }
        }
    }

    async fn beat(&mut self, session: &Session) -> Result<(), Failed> {
        let limit = self.settings.statement_timeout;
        let sorted = |error: AskError| asking::failed(&error);
        if !self.heart.ready {
            // Asked first, so that a refusal does not stand in the server's log again and again.
            let rows = asking::ask(session, LOOK, limit).await.map_err(sorted)?;
            let odd = |error: surus_pg::RowError| Failed::Refused((&error).into());
            let row = rows.first().map_err(odd)?;
            match (row.bool("there").map_err(odd)?, row.bool("may").map_err(odd)?) {
                (true, true) => {}
                (false, true) => drop(asking::ask(session, MAKE, limit).await.map_err(sorted)?),
                (true, false) => return Err(absent("GRANT SELECT, INSERT, UPDATE ON surus.heartbeat TO the role")),
                (false, false) => {
                    return Err(absent("GRANT CREATE ON DATABASE to the role, once: it makes schema surus"));
                }
            }
            self.heart.ready = true;
        }
        let sql = format!(
            "{WRITING}; INSERT INTO surus.heartbeat AS h (writer, at) VALUES ({}, pg_catalog.clock_timestamp()) \
             ON CONFLICT (writer) DO UPDATE SET at = excluded.at",
            literal(&self.heart_writer())
        );
        asking::ask(session, &sql, limit).await.map(drop).map_err(sorted)
    }

    /// Who writes: two that watch the same server have a row each.
    fn heart_writer(&self) -> String {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("{} by surus on {host}", self.watched.name)
    }
}

fn absent(what: &str) -> Failed {
    Failed::Absent(Why::absent(format!("the role may not: {what}")))
}

/// For this one transaction: the session reads only, and a standby that is away must not hold surus up. All of a
/// message is one transaction.
const WRITING: &str = "SET LOCAL transaction_read_only = off; SET LOCAL synchronous_commit = local";

const LOOK: &str = "SELECT to_regclass('surus.heartbeat') IS NOT NULL AS there, \
    CASE WHEN to_regclass('surus.heartbeat') IS NOT NULL \
    THEN has_schema_privilege('surus', 'USAGE') AND has_table_privilege(to_regclass('surus.heartbeat'), 'SELECT') \
      AND has_table_privilege(to_regclass('surus.heartbeat'), 'INSERT') \
      AND has_table_privilege(to_regclass('surus.heartbeat'), 'UPDATE') \
    WHEN to_regnamespace('surus') IS NOT NULL THEN has_schema_privilege(to_regnamespace('surus'), 'CREATE') \
    ELSE has_database_privilege(current_database(), 'CREATE') END AS may";

const MAKE: &str = "SET LOCAL transaction_read_only = off; CREATE SCHEMA IF NOT EXISTS surus; \
    CREATE TABLE IF NOT EXISTS surus.heartbeat (writer text PRIMARY KEY, at timestamptz NOT NULL) \
      WITH (fillfactor = 50); \
    COMMENT ON TABLE surus.heartbeat IS 'surus serve writes it: after a restore it tells how much is missing'";
