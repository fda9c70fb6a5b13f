//! How far a standby is behind, as it sees it itself.
//!
//! Two names are in use. `pg_replication_lag` is the age of the last transaction that was replayed, which grows while
//! the primary is idle. `pg_replication_lag_seconds` is 0 when all that was received is replayed; the exporter says so
//! also when nothing is received any more because the link is dead. Here it is 0 only while a WAL receiver streams, and
//! the age of the last replayed transaction otherwise. What the primary measures is in `pg_stat_replication_*`.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    PLAIN [] {
        LAG = Gauge "pg_replication_lag" "age"
            "Seconds since the last replayed transaction was committed on the primary; 0 on a primary";
        LAG_SECONDS = Gauge "pg_replication_lag_seconds" "lag"
            "Seconds behind the primary: 0 on a primary and while all that streams in is replayed, else the age of the \
             last replayed transaction";
        IS_REPLICA = Gauge "pg_replication_is_replica" "is_replica" "1 on a standby, 0 on a primary";
        LAST_REPLAY = Gauge "pg_replication_last_replay_seconds" "last_replay"
            "Seconds since the last replayed transaction was committed on the primary; on a primary that was a standby \
             before, the last one before its promotion; 0 when there never was one";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "replication",
    reads: "pg_is_in_recovery(), pg_last_xact_replay_timestamp(), pg_last_wal_receive_lsn(), pg_stat_wal_receiver",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT CASE WHEN standby THEN age ELSE 0 END AS age, standby::int AS is_replica, age AS last_replay, \
           CASE WHEN standby AND NOT caught_up THEN age ELSE 0 END AS lag \
         FROM (SELECT pg_is_in_recovery() AS standby, \
             coalesce(greatest(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 0), 0) AS age, \
             coalesce(pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn() \
               AND (SELECT pid IS NOT NULL AND coalesce(status, 'streaming') = 'streaming' \
                 FROM pg_stat_get_wal_receiver()), false) AS caught_up) seen",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &[], PLAIN)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::collectors::{replication_slots, stat_replication, stat_wal_receiver};
    use std::{thread, time::Duration};
    use surus_core::clock::Deadline;
    use surus_testkit::{Server, each_major};

    fn said(server: &Server) -> Heard {
        let all =
            [&COLLECTOR, &stat_replication::COLLECTOR, &replication_slots::COLLECTOR, &stat_wal_receiver::COLLECTOR];
        heard(server, "postgres", &all)
    }

    fn until(server: &Server, what: &str, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let limit = Deadline::after(Duration::from_secs(30));
        loop {
            let heard = said(server);
            if wanted(&heard) {
                return heard;
            }
            assert!(!limit.passed(), "waited in vain until {what}: {:#?}", heard.points);
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// A standby that keeps up, one that has stopped replaying, one whose link is dead.
    #[test]
    fn how_far_a_standby_is_behind() {
        each_major(|major| {
            if surus_testkit::majors().len() > 2 && ![15, 16, 18].contains(&major) {
                return;
            }
            let cluster = Server::builder().major(major).start_with_standbys(1);
            let (primary, standby) = (&cluster.primary, &cluster.standbys[0]);
            primary.sql("CREATE TABLE t (id int)");
            cluster.wait_caught_up();
            let there = until(primary, "the standby has all", |heard| {
                heard.maybe("pg_stat_replication_replay_lag_bytes", &[("state", "streaming")]) == Some(0.0)
            });
            let of = [("application_name", "standby1"), ("state", "streaming"), ("slot_name", "standby1")];
            assert_eq!(there.value("pg_stat_replication_pg_wal_lsn_diff", &of), 0.0);
            assert_eq!(there.value("pg_stat_replication_replay_lag_seconds", &of), 0.0);
            assert_eq!(there.value("pg_stat_replication_is_synchronous", &of), 0.0);
            assert_eq!(there.value("pg_replication_slots_active", &[("slot_name", "standby1")]), 1.0);
            assert_eq!(there.value("pg_replication_slot_slot_is_active", &[("slot_type", "physical")]), 1.0);
            assert_eq!(there.value("pg_replication_is_replica", &[]), 0.0);
            assert_eq!(there.value("pg_replication_lag", &[]), 0.0);

            let here =
                until(standby, "nothing is behind", |heard| heard.value("pg_replication_lag_seconds", &[]) == 0.0);
            assert_eq!(here.value("pg_replication_is_replica", &[]), 1.0);
            assert!(here.value("pg_replication_last_replay_seconds", &[]) > 0.0);
            assert!(here.value("pg_replication_lag", &[]) > 0.0);
            assert_eq!(here.value("pg_stat_wal_receiver_received_tli", &[("status", "streaming")]), 1.0);
            assert!(here.value("pg_stat_wal_receiver_flushed_lsn", &[("slot_name", "standby1")]) > 0.0);

            standby.sql("SELECT pg_wal_replay_pause()");
            primary.sql("INSERT INTO t SELECT generate_series(1, 1000)");
            until(primary, "replay is behind", |heard| heard.value("pg_stat_replication_replay_lag_bytes", &of) > 0.0);
            until(standby, "it is behind", |heard| heard.value("pg_replication_lag_seconds", &[]) > 0.0);
            standby.sql("SELECT pg_wal_replay_resume()");
            until(standby, "it has caught up", |heard| heard.value("pg_replication_lag_seconds", &[]) == 0.0);

            // The link goes: all that was received is replayed, and the exporter would say 0.
            standby.expect_log("could not connect to the primary server");
            standby.expect_log("terminating walreceiver process due to administrator command");
            standby.sql("ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'");
            standby.sql("SELECT pg_reload_conf()");
            until(standby, "the dead link shows", |heard| heard.value("pg_replication_lag_seconds", &[]) > 0.0);
            let gone = until(primary, "the sender is gone", |heard| {
                !heard.points.contains_key("pg_stat_replication_pg_wal_lsn_diff")
            });
            assert_eq!(gone.value("pg_replication_slots_active", &[("slot_name", "standby1")]), 0.0);
            assert!(gone.value("pg_replication_slots_retained_bytes", &[("slot_name", "standby1")]) >= 0.0);
        });
    }
}
