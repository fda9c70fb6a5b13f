//! What a plan meets that it did not expect: a standby, a role that may not, a ledger that cannot be written.

use crate::{PATIENCE, Site, plan, runtime, says};
use surus_check::fix::{self, FixError, Scene};
use surus_core::{
    code,
    monitor::Silent,
    plan::{Lock, Step},
};
use surus_pg::Target;
use surus_store::Store;
use surus_testkit::{Cluster, Server};

#[test]
fn a_standby_is_refused() {
    let cluster = Cluster::with_standbys(1);
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&surus_store::path_in(dir.path())).unwrap();
    let target = Target::parse(&cluster.standbys[0].dsn("postgres")).unwrap();
    let scene = Scene { target: &target, cluster: "1", reference: "", store: &store, patience: PATIENCE };
    let applied = runtime().block_on(fix::apply(scene, &plan([Step::setting("work_mem", "8MB", "")]), &Silent));
    let error = applied.stopped.unwrap();
    assert_eq!(error.code(), code::FIX_STANDBY);
    assert!(applied.done.is_empty() && store.entries(&Default::default()).unwrap().is_empty());
}

#[test]
fn a_role_without_rights_changes_nothing() {
    let site = Site::new();
    for text in ["permission denied", "pg_read_all_settings", "must be owner"] {
        site.server.expect_log(text);
    }
    site.server.sql("CREATE ROLE app LOGIN; CREATE TABLE t(a int)");
    let app = site.target.with_options(&[("user", "app")]).unwrap();
    let hba = std::fs::read_to_string(site.server.data_dir().join("pg_hba.conf")).unwrap();
    let steps = [
        (Step::setting("work_mem", "8MB", ""), "permission denied"),
        (Step::hba_line(3, "local all all trust", None, ""), "pg_read_all_settings"),
        (Step::sql("ALTER TABLE public.t ADD b int", Lock::AccessExclusive, ""), "must be owner of table t"),
        (
            Step::sql_alone("CREATE INDEX CONCURRENTLY ON public.t (a)", Lock::ShareUpdateExclusive, ""),
            "must be owner of table t",
        ),
    ];
    for (step, why) in steps {
        let applied = site.apply_as(&app, [step]);
        let error = applied.stopped.unwrap();
        assert!(matches!(error, FixError::Step { number: 1, .. }), "{error:?}");
        says(&error, &["step 1 was not done", why]);
    }
    assert_eq!(site.entry("work_mem"), None);
    assert_eq!(std::fs::read_to_string(site.server.data_dir().join("pg_hba.conf")).unwrap(), hba);
    assert_eq!(
        site.server.value("SELECT count(*) AS v FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0"),
        "1"
    );
}

#[test]
fn a_role_that_may_write_but_not_reload_leaves_no_entry() {
    // From 15 on the right to write a setting can be granted, apart from the right to reload.
    let Some(major) = surus_testkit::majors().into_iter().rfind(|major| *major >= 15) else { return };
    let site = Site::of(Server::builder().major(major));
    site.server.expect_log("permission denied");
    site.server.sql(
        "CREATE ROLE app LOGIN; GRANT pg_read_all_settings TO app; GRANT ALTER SYSTEM ON PARAMETER work_mem TO app; \
         GRANT SELECT ON pg_file_settings TO app; GRANT EXECUTE ON FUNCTION pg_show_all_file_settings() TO app",
    );
    let app = site.target.with_options(&[("user", "app")]).unwrap();
    let applied = site.apply_as(&app, [Step::setting("work_mem", "8MB", "")]);
    let error = applied.stopped.unwrap();
    says(&error, &["permission denied for function pg_reload_conf"]);
    assert_eq!(site.entry("work_mem"), None, "{error}");
    site.server.sql("GRANT EXECUTE ON FUNCTION pg_reload_conf() TO app");
    let applied = site.apply_as(&app, [Step::setting("work_mem", "8MB", "")]);
    assert!(applied.stopped.is_none(), "{:?}", applied.stopped);
    assert_eq!(site.show("work_mem"), "8MB");
}

#[test]
fn without_a_record_nothing_is_done() {
    let site = Site::new();
    // A second writer holds the ledger; surus waits for it, then gives up.
    let damaged = surus_store::path_in(site.dir.path());
    std::fs::write(&damaged, "no database").unwrap();
    let error = site.stops([Step::setting("work_mem", "8MB", "")]);
    assert!(matches!(error, FixError::Store(_)), "{error:?}");
    assert_eq!(site.entry("work_mem"), None);
}

#[test]
fn the_plan_of_real_findings_is_taken_in_order() {
    use surus_check::{fix::FixPlan, options::Options, run};
    let site = Site::new();
    site.server.sql(
        "CREATE TABLE users(id int PRIMARY KEY); CREATE TABLE tasks(id int PRIMARY KEY, user_id int REFERENCES users); \
         INSERT INTO users VALUES (1); INSERT INTO tasks SELECT g, 1 FROM generate_series(1, 20000) g; ANALYZE",
    );
    let options = Options { only: vec!["idx.fk".into(), "cfg.observability".into()], ..Options::default() };
    let look = || {
        let given = run::Given { name: "server".into(), target: Ok(site.target.clone()) };
        site.runtime.block_on(run::run(vec![given], &options, &Silent)).targets.remove(0)
    };
    let report = look();
    let plan = FixPlan::of(&report, &[]).unwrap();
    assert!(plan.keys().iter().any(|key| key.starts_with("idx.fk:")), "{:?}", plan.keys());
    let (cluster, reference) = (site.cluster(), site.target.reference());
    let scene = Scene {
        target: &site.target,
        cluster: &cluster,
        reference: &reference,
        store: &site.store,
        patience: PATIENCE,
    };
    let applied = site.runtime.block_on(fix::apply(scene, &plan, &Silent));
    assert!(applied.stopped.is_none(), "{:?}", applied.stopped);
    assert!(!look().findings.iter().any(|finding| finding.id == "idx.fk"));
    for _ in 0..applied.done.iter().filter(|done| done.can_be_undone).count() {
        site.undo(None).unwrap();
    }
    assert_eq!(look().findings.len(), report.findings.len());
}
