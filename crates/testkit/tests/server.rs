//! The harness itself: servers start, stop and go without leaving anything.

use surus_testkit::{Server, each_major};

#[test]
fn every_major_starts_answers_and_goes() {
    each_major(|major| {
        let server = Server::builder().major(major).setting("wal_level", "logical").start();
        assert_eq!(server.value("SELECT current_setting('wal_level') AS v"), "logical");
    });
}
