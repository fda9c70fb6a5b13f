//! SQL: in transactions against the locks of others, and alone, with nothing half-built left behind.

use crate::{Site, says};
use std::time::Duration;
use surus_check::fix::FixError;
use surus_core::plan::{Lock, Step};
use surus_pg::AskErrorKind;

on_one_server! { everything_on_one_server:
    a_lock_that_is_released_in_time_is_waited_for,
    a_lock_that_stays_ends_the_plan_and_changes_nothing,
    a_failed_concurrent_build_leaves_nothing,
    an_invalid_index_of_somebody_else_is_not_swept,
    a_dropped_index_is_built_again_exactly,
    vacuum_and_analyze_run_alone_and_have_no_way_back,
    roles_and_privileges_go_and_come_back,
    what_the_server_only_warns_of_is_not_called_done,
    other_errors_are_not_tried_again,
    a_concurrent_build_that_waits_too_long_or_is_cancelled_leaves_nothing,
}

fn sql(text: &str) -> Step {
    Step::sql(text, Lock::AccessExclusive, "")
}

fn alone(text: &str) -> Step {
    Step::sql_alone(text, Lock::ShareUpdateExclusive, "")
}

const INVALID: &str = "SELECT count(*) AS v FROM pg_index WHERE NOT indisvalid";

fn a_lock_that_is_released_in_time_is_waited_for(site: &Site) {
    site.server.expect_log("lock timeout");
    site.server.sql("CREATE TABLE t(a int)");
    let other = site.session();
    site.run_in(&other, "BEGIN; LOCK TABLE public.t");
    let release = site.runtime.spawn(async move {
        // After the first try, before the last.
        tokio::time::sleep(Duration::from_millis(300)).await;
        other.run("COMMIT").await
    });
    let number = site.done([sql("ALTER TABLE public.t ADD b int").undo_sql("ALTER TABLE public.t DROP b")]);
    site.runtime.block_on(release).unwrap().unwrap();
    site.server.sql("SELECT b FROM t");
    site.undo(Some(number)).unwrap();
    site.server.expect_log("does not exist");
    assert!(site.server.try_query_in("postgres", "SELECT b FROM t").is_err());
}

fn a_lock_that_stays_ends_the_plan_and_changes_nothing(site: &Site) {
    site.server.expect_log("lock timeout");
    site.server.sql("CREATE TABLE t(a int); CREATE TABLE u(a int)");
    let other = site.session();
    site.run_in(&other, "BEGIN; LOCK TABLE public.t");
    let applied = site.apply([
        sql("ALTER TABLE public.u ADD b int"),
        sql("ALTER TABLE public.u ADD c int; ALTER TABLE public.t ADD b int"),
        sql("ALTER TABLE public.u ADD d int"),
    ]);
    let error = applied.stopped.unwrap();
    assert!(matches!(error, FixError::Step { number: 2, .. }), "{error:?}");
    says(&error, &["step 2 was not done", "lock timeout", "tried 3 times", "later steps were not taken"]);
    assert_eq!(applied.done.len(), 1);
    let columns = "SELECT string_agg(attname, ',' ORDER BY attnum) AS v FROM pg_attribute WHERE attrelid = 'u'::regclass AND attnum > 0";
    assert_eq!(site.server.value(columns), "a,b", "the first step only");
    assert_eq!(site.story(), ["change-begun", "change", "change-begun", "change failed"]);
    assert_eq!(site.last_entry().proof.steps.len(), 1);
}

fn a_failed_concurrent_build_leaves_nothing(site: &Site) {
    site.server.expect_log("could not create unique index");
    site.server.sql("CREATE SCHEMA \"Odd one\"; CREATE TABLE \"Odd one\".\"T\"(a int); INSERT INTO \"Odd one\".\"T\" VALUES (1), (1)");
    let error = site.stops([alone("CREATE UNIQUE INDEX CONCURRENTLY \"I\" ON \"Odd one\".\"T\" (a)")]);
    says(&error, &["could not create unique index", "Key (a)=(1) is duplicated", "was dropped: \"Odd one\".\"I\""]);
    assert_eq!(site.server.value(INVALID), "0");
    assert_eq!(site.story(), ["change-begun", "change failed"]);

    // A rebuild leaves its half under another name.
    site.server.sql("CREATE TABLE r(a int); INSERT INTO r VALUES (1), (1)");
    let other = site.session();
    let broken = "CREATE UNIQUE INDEX CONCURRENTLY r_a ON public.r (a)";
    assert!(site.runtime.block_on(other.run(broken)).is_err());
    let error = site.stops([alone("REINDEX INDEX CONCURRENTLY public.r_a")]);
    says(&error, &["could not create unique index", "was dropped: public.r_a_ccnew"]);
    assert_eq!(site.server.value(INVALID), "1", "the invalid index that was there stays");
}

fn an_invalid_index_of_somebody_else_is_not_swept(site: &Site) {
    site.server.expect_log("could not create unique index");
    site.server.expect_log("already exists");
    site.server.sql("CREATE TABLE t(a int); INSERT INTO t VALUES (1), (1)");
    let other = site.session();
    assert!(site.runtime.block_on(other.run("CREATE UNIQUE INDEX CONCURRENTLY t_a ON public.t (a)")).is_err());
    let error = site.stops([alone("CREATE INDEX CONCURRENTLY t_a ON public.t (a)")]);
    says(&error, &["already exists"]);
    assert_eq!(site.server.value(INVALID), "1");
}

fn a_concurrent_build_that_waits_too_long_or_is_cancelled_leaves_nothing(site: &Site) {
    site.server.expect_log("lock timeout");
    site.server.expect_log("canceling statement due to user request");
    site.server.sql("CREATE TABLE t(a int); INSERT INTO t VALUES (1)");
    let other = site.session();
    // A writer that the build has to wait for.
    site.run_in(&other, "BEGIN; INSERT INTO public.t VALUES (2)");
    let error = site.stops([alone("CREATE INDEX CONCURRENTLY t_a ON public.t (a)")]);
    // The half-built index can be dropped only when the writer has gone; what is left is said.
    says(&error, &["lock timeout", "an invalid index may be left: public.t_a"]);
    site.run_in(&other, "COMMIT");
    assert_eq!(site.server.value(INVALID), "1");
    site.server.sql("DROP INDEX t_a");

    // A reader that only the build has to wait for, because it may still look at the table.
    site.run_in(&other, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_catalog.pg_class LIMIT 1");
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'surus fix' AND query LIKE 'CREATE INDEX%'";
    let canceller = site.session();
    let cancelling = site.runtime.spawn(async move {
        while canceller.ask(cancel).await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, surus_pg::AskError>(())
    });
    let error = site.stops([alone("CREATE INDEX CONCURRENTLY t_a ON public.t (a)")]);
    site.runtime.block_on(cancelling).unwrap().unwrap();
    says(&error, &["canceling statement due to user request"]);
    site.run_in(&other, "COMMIT");
}

fn a_dropped_index_is_built_again_exactly(site: &Site) {
    site.server.sql("CREATE TABLE t(a int, b text, c int)");
    let definition = "CREATE UNIQUE INDEX \"Keys\" ON public.t USING btree (a DESC NULLS LAST, lower(b)) \
                          INCLUDE (c) WITH (fillfactor='70') WHERE (c > 0)";
    site.server.sql(definition);
    let defined = || site.server.value("SELECT pg_get_indexdef('public.\"Keys\"'::regclass) AS v");
    let before = defined();
    assert_eq!(before, definition);
    let undo = before.replacen(" INDEX ", " INDEX CONCURRENTLY ", 1);
    let number = site.done([alone("DROP INDEX CONCURRENTLY public.\"Keys\"").undo_sql(undo)]);
    assert_eq!(site.server.value("SELECT to_regclass('public.\"Keys\"') IS NULL AS v"), "t");
    site.undo(Some(number)).unwrap();
    assert_eq!(defined(), before);
    assert_eq!(site.server.value(INVALID), "0");
}

fn vacuum_and_analyze_run_alone_and_have_no_way_back(site: &Site) {
    site.server.sql("CREATE TABLE t(a int); INSERT INTO t SELECT generate_series(1, 100); DELETE FROM t");
    let steps = ["VACUUM (FREEZE) public.t", "ANALYZE public.t"].map(|text| alone(text).no_undo("nothing is lost"));
    let applied = site.apply(steps);
    assert!(applied.stopped.is_none(), "{:?}", applied.stopped);
    assert!(applied.done.iter().all(|done| !done.can_be_undone && done.warnings.is_empty()));
    site.until(
        "SELECT last_vacuum IS NOT NULL AND last_analyze IS NOT NULL AS v FROM pg_stat_user_tables WHERE relname = 't'",
    );
    let error = site.undo(Some(applied.done[0].ledger)).unwrap_err();
    says(&error, &["cannot be taken back: nothing is lost"]);
    assert!(matches!(site.undo(None).unwrap_err(), FixError::NothingToUndo));
}

fn roles_and_privileges_go_and_come_back(site: &Site) {
    site.server.sql("CREATE ROLE app LOGIN CREATEDB; CREATE TABLE t(a int); GRANT SELECT ON t TO PUBLIC");
    let public = "SELECT has_table_privilege('app', 't', 'SELECT') AS v";
    let numbers = [
        sql("ALTER ROLE app NOCREATEDB").undo_sql("ALTER ROLE app CREATEDB"),
        sql("REVOKE SELECT ON TABLE public.t FROM PUBLIC").undo_sql("GRANT SELECT ON TABLE public.t TO PUBLIC"),
        sql("ALTER ROLE app SET lock_timeout = '5s'").undo_sql("ALTER ROLE app RESET lock_timeout"),
    ]
    .map(|step| site.done([step]));
    let role = "SELECT rolcreatedb::text || coalesce(rolconfig::text, '') AS v FROM pg_roles WHERE rolname = 'app'";
    assert_eq!((site.server.value(role).as_str(), site.server.value(public).as_str()), ("false{lock_timeout=5s}", "f"));
    for _ in numbers {
        // Without a number the last one that is not yet back.
        site.undo(None).unwrap();
    }
    assert_eq!((site.server.value(role).as_str(), site.server.value(public).as_str()), ("true", "t"));
    assert!(matches!(site.undo(None).unwrap_err(), FixError::NothingToUndo));
}

fn what_the_server_only_warns_of_is_not_called_done(site: &Site) {
    site.server
        .sql("CREATE ROLE app LOGIN; CREATE TABLE t(a int); GRANT SELECT ON t TO PUBLIC; GRANT INSERT ON t TO app");
    let app = site.target.with_options(&[("user", "app")]).unwrap();
    // PostgreSQL answers REVOKE where nothing could be revoked, and VACUUM of a stranger's table, with a warning.
    let applied = site.apply_as(&app, [sql("REVOKE SELECT ON TABLE public.t FROM PUBLIC")]);
    says(&applied.stopped.unwrap(), &["step 1 was not done", "no privileges could be revoked"]);
    let applied = site.apply_as(&app, [alone("VACUUM public.t").no_undo("")]);
    assert!(applied.done[0].warnings[0].contains("permission denied to vacuum \"t\""), "{:?}", applied.done);
    says(&site.last_entry().proof.steps[0].result, &["done; the server warned: permission denied"]);
}

fn other_errors_are_not_tried_again(site: &Site) {
    site.server.expect_log("does not exist");
    let error = site.stops([sql("ALTER TABLE public.gone ADD a int")]);
    says(&error, &["relation \"public.gone\" does not exist; the later steps"]);
    // The class of a failed query stays known to callers.
    let session = site.session();
    let failed = site.runtime.block_on(session.run("SELECT FROM public.gone")).unwrap_err();
    assert_eq!(failed.kind, AskErrorKind::Undefined);
}
