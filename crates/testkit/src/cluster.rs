//! A primary with streaming standbys, each through a physical slot of its own.

use crate::run_dir::RunDir;
use crate::server::{Builder, START_WITHIN, Server, ok};
use std::{thread, time::Duration};
use surus_core::clock::Deadline;
use surus_pg::server::LocalServer;

/// Lines of a standby whose primary has gone, which tests do on purpose or at their end.
const STANDBY_EXPECTED: &[&str] = &[
    "could not connect to the primary server",
    "could not send end-of-streaming message to primary",
    "could not receive data from WAL stream",
    "could not send data to WAL stream",
    "terminating walreceiver process due to administrator command",
];

/// A primary and its standbys. Standbys go first.
#[derive(Debug)]
pub struct Cluster {
    pub standbys: Vec<Server>,
    pub primary: Server,
}

impl Cluster {
    /// A primary of the preferred major with `count` standbys that stream from it.
    pub fn with_standbys(count: usize) -> Self {
        Server::builder().start_with_standbys(count)
    }

    /// Waits until every standby has replayed all that the primary has written so far.
    pub fn wait_caught_up(&self) {
        for standby in &self.standbys {
            standby.wait_caught_up(&self.primary);
        }
    }
}

impl Builder {
    /// Starts it with `count` standbys, which have the same settings.
    ///
    /// # Panics
    /// As [`Builder::start`].
    pub fn start_with_standbys(self, count: usize) -> Cluster {
        let primary = self.start();
        let standbys = (0..count).map(|_| primary.standby()).collect();
        Cluster { standbys, primary }
    }
}

impl Server {
    /// A new streaming standby of this server, named `standby1`, `standby2`, … as is its slot.
    ///
    /// # Panics
    /// When the copy fails or the standby does not start.
    pub fn standby(&self) -> Self {
        let taken = self.value("SELECT count(*) AS v FROM pg_replication_slots WHERE slot_name LIKE 'standby%'");
        let number: u32 = taken.parse().expect("a count is a number");
        self.standby_named(&format!("standby{}", number + 1), &[])
    }

    /// A new streaming standby with this name (of its slot and its application) and further settings.
    ///
    /// # Panics
    /// When the copy fails or the standby does not start.
    pub fn standby_named(&self, name: &str, settings: &[(&str, &str)]) -> Self {
        let run_dir = RunDir::create();
        let mut local = ok(LocalServer::standby_of(self.local(), run_dir.path(), name));
        if self.local().listens_on_loopback() {
            ok(local.listen_on_loopback());
        }
        ok(local.write_settings(settings));
        ok(local.start(START_WITHIN));
        let standby = Self::around(local, run_dir);
        for text in STANDBY_EXPECTED {
            standby.expect_log(text);
        }
        standby
    }

    /// Waits until this standby has replayed all that the primary has written so far.
    ///
    /// # Panics
    /// When that takes more than 30 s.
    pub fn wait_caught_up(&self, primary: &Self) {
        let written = primary.value("SELECT pg_current_wal_flush_lsn() AS v");
        let deadline = Deadline::after(Duration::from_secs(30));
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn AS v");
        while self.value(&replayed) != "t" {
            assert!(!deadline.passed(), "the standby has not replayed {written} within 30 s; its log:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}
