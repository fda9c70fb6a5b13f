//! Real PostgreSQL servers for tests: a private one for each test, gone when the test ends.
//!
//! ```no_run
//! let server = surus_testkit::Server::start();
//! server.sql("CREATE TABLE t (id int)");
//! assert!(server.query("SELECT * FROM t").is_empty());
//! ```
//!
//! A server's log is read when it goes: an ERROR, FATAL or PANIC that the test did not announce with
//! [`Server::expect_log`] fails the test. `SURUS_TEST_KEEP=1` keeps the directories, `SURUS_PG_REQUIRE=15,18` turns a
//! missing major into a failure, `SURUS_TEST_DIR` is where the directories are (default `/tmp/surus-test-<uid>`).

pub mod certs;
mod cluster;
mod log;
mod majors;
pub mod peer;
pub mod proxy;
mod run_dir;
mod server;
mod template;

pub use certs::Certs;
pub use cluster::Cluster;
pub use majors::{each_major, majors, require_major};
pub use server::{Builder, Server};
