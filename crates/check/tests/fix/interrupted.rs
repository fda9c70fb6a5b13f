//! The connection breaks in the middle of a step.

use crate::{Site, says};
use surus_check::fix::FixError;
use surus_core::plan::{Lock, Step};

on_one_server! { connections_that_break:
    a_transaction_that_lost_its_connection_did_not_happen,
    a_build_that_lost_its_connection_is_swept_over_a_new_one,
    a_setting_whose_connection_was_lost_can_be_taken_back,
}

/// Ends every backend of surus that runs a statement like this one, until it is aborted.
fn terminate(site: &Site, like: &str) -> tokio::task::JoinHandle<()> {
    let killer = site.session();
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'surus fix' AND query LIKE '{like}'"
    );
    site.runtime.spawn(async move {
        while killer.ask(&sql).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
}

fn a_transaction_that_lost_its_connection_did_not_happen(site: &Site) {
    site.server.sql("CREATE TABLE t(a int)");
    let killed = terminate(site, "ALTER TABLE%");
    let applied = site.apply([
        Step::setting("work_mem", "8MB", ""),
        Step::sql("ALTER TABLE public.t ADD b int; SELECT pg_sleep(20)", Lock::AccessExclusive, "")
            .undo_sql("ALTER TABLE public.t DROP b"),
        Step::setting("maintenance_work_mem", "33MB", ""),
    ]);
    killed.abort();
    let error = applied.stopped.unwrap();
    assert!(matches!(error, FixError::Step { number: 2, .. }), "{error:?}");
    says(&error, &["step 2 was not done", "terminating connection due to administrator command"]);
    assert_eq!(site.story(), ["change-begun", "change", "change-begun", "change failed"]);
    assert_eq!((site.show("work_mem").as_str(), site.entry("maintenance_work_mem")), ("8MB", None));
    let columns = "SELECT count(*) AS v FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0";
    assert_eq!(site.server.value(columns), "1");
    let failed = site.last_entry().number;
    says(&site.undo(Some(failed)).unwrap_err(), &["failed and left nothing to take back"]);
}

fn a_build_that_lost_its_connection_is_swept_over_a_new_one(site: &Site) {
    site.server.sql(
        "CREATE TABLE t(a int); CREATE FUNCTION slow(int) RETURNS int LANGUAGE sql IMMUTABLE AS \
                     'SELECT $1 FROM pg_catalog.pg_sleep(0.2)'; INSERT INTO t SELECT generate_series(1, 100)",
    );
    let killed = terminate(site, "CREATE INDEX%");
    let error = site.stops([Step::sql_alone(
        "CREATE INDEX CONCURRENTLY t_a ON public.t (public.slow(a))",
        Lock::ShareUpdateExclusive,
        "",
    )
    .undo_sql("DROP INDEX CONCURRENTLY IF EXISTS public.t_a")]);
    killed.abort();
    assert!(matches!(error, FixError::Unsure { number: 1, .. }), "{error:?}");
    says(
        &error,
        &[
            "may have been done or not",
            "terminating connection",
            "was dropped: public.t_a",
            "surus undo 2 takes it back",
        ],
    );
    assert_eq!(site.server.value("SELECT to_regclass('public.t_a') IS NULL AS v"), "t");
    assert_eq!(site.story(), ["change-begun", "change failed"]);
    // Nobody knows for sure, so the way back stays open.
    site.undo(Some(2)).unwrap();
}

fn a_setting_whose_connection_was_lost_can_be_taken_back(site: &Site) {
    // The reload is where the connection is found to be broken: the entry is written by then.
    let killed = terminate(site, "SELECT pg_catalog.pg_reload_conf()%");
    let mut last = None;
    for value in 1..200 {
        let applied = site.apply([Step::setting("work_mem", format!("{value}MB"), "")]);
        if let Some(error) = applied.stopped {
            last = Some((value, error));
            break;
        }
    }
    killed.abort();
    let (value, error) = last.expect("the backend was ended in one of the tries");
    let FixError::Unsure { ledger, .. } = error else { panic!("{error:?}") };
    says(&error, &["terminating connection", "putting the earlier entry back failed"]);
    assert_eq!(site.entry("work_mem"), Some(format!("{value}MB")));
    let before = (value > 1).then(|| format!("{}MB", value - 1));
    site.undo(Some(ledger)).unwrap();
    assert_eq!(site.entry("work_mem"), before);
}
