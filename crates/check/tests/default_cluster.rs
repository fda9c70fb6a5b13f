//! A cluster fresh from initdb, with nothing configured: every finding on it must be one that its owner should hear.

use surus_check::{
    options::Options,
    run::{self, Given},
};
use surus_core::monitor::Silent;
use surus_pg::Target;
use surus_testkit::Server;

/// What is true of a fresh cluster, and why it is worth saying.
const TRUE_OF_A_FRESH_CLUSTER: &[(&str, &str)] = &[
    ("bkp.archive_off", "initdb leaves archive_mode off, so no point in time can be restored"),
    ("cfg.checksums", "before 18, initdb leaves data checksums off unless told otherwise"),
    ("cfg.observability", "pg_stat_statements is not loaded, I/O is not timed, query texts are cut at 1024 bytes"),
    ("cfg.shared_buffers", "128 MB is little on a machine with more than 2 GB"),
    ("cfg.storage_costs", "the planner's default expects a rotating disk"),
    ("log.settings", "lock waits and temporary files are not logged; checkpoints not before 15"),
    ("sec.audit", "neither connections nor schema changes are logged"),
    ("sec.hba_trust", "the test's own superuser comes in by trust"),
    ("sec.md5", "before 14, password_encryption is md5"),
    ("sec.public_schema", "before 15, everybody may create objects in the schema public"),
    ("srv.minor_version", "the server that is here may be behind the newest minor release, or out of support"),
    ("srv.restarted", "it was started a moment ago"),
];

#[test]
fn a_fresh_cluster_has_no_false_finding() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for major in surus_testkit::majors() {
        let server = Server::builder().major(major).untuned().start();
        let given = Given { name: "fresh".into(), target: Target::parse(&server.dsn("postgres")) };
        let report = runtime.block_on(run::run(vec![given], &Options::default(), &Silent)).targets.remove(0);
        assert!(report.error.is_none(), "{:?}", report.error);
        // The machine is not the cluster's doing.
        for finding in report.findings.iter().filter(|finding| !finding.id.starts_with("host.")) {
            let known = TRUE_OF_A_FRESH_CLUSTER.iter().any(|(id, _)| *id == finding.id);
            assert!(known, "on PostgreSQL {major}: {finding:#?}");
        }
        for unknown in &report.unknown {
            assert_ne!(unknown.reason.kind(), "unexpected", "on PostgreSQL {major}: {unknown:?}");
        }
    }
}
