//! Settings: set and removed, in force or waiting for a restart, and taken back to what was there before.

use crate::{Site, plan, says};
use std::{
    process::{Command, Stdio},
    time::Duration,
};
use surus_check::fix::{Done, FixError, description};
use surus_core::{
    clock::Deadline,
    plan::{Interruption, Step},
};
use surus_pg::Manners;
use surus_testkit::{Server, each_major};

on_one_server! { surprises_and_refusals:
    what_overrides_the_configuration_is_a_surprise_and_nothing_changes,
    a_value_that_the_server_refuses_changes_nothing,
    what_somebody_else_changed_since_is_not_taken_back,
    an_announced_restart_stays_announced,
    an_empty_list_that_could_not_be_put_back_is_left_alone,
}

fn set(name: &str, value: &str) -> Step {
    Step::setting(name, value, "")
}

fn reset(name: &str) -> Step {
    Step::reset_setting(name, "")
}

/// One server of each major for all that majors may do differently.
#[test]
fn on_every_major() {
    each_major(|major| {
        let mut site = Site::of(Server::builder().major(major).setting("max_worker_processes", "9"));
        entries_come_and_go(&site);
        lists_are_those_that_postgresql_takes_for_lists(&site);
        restarts_are_waited_for(&mut site);
    });
}

fn entries_come_and_go(site: &Site) {
    // Without an entry before, with one, with a unit, equal to the default, and what our own sessions set for
    // themselves.
    site.server.sql("ALTER SYSTEM SET work_mem = '5MB'");
    let cases = [
        ("log_min_duration_statement", Some("250ms"), "250ms", None),
        ("work_mem", Some("8192"), "8MB", Some("5MB")),
        ("work_mem", None, "4MB", Some("8192")),
        ("work_mem", Some("4MB"), "4MB", None),
        ("maintenance_work_mem", None, "64MB", None),
        ("statement_timeout", Some("90s"), "90s", None),
        ("search_path", Some("\"$user\", public, \"Odd, name\""), "\"$user\", public, \"Odd, name\"", None),
        ("synchronous_standby_names", Some(""), "", None),
        ("DateStyle", Some("ISO, DMY"), "ISO, DMY", None),
    ];
    let mut numbers = Vec::new();
    for (name, value, shown, before) in &cases {
        assert_eq!(site.entry(name).as_deref(), *before, "{name}");
        let done = site.takes_at_once(value.map_or_else(|| reset(name), |value| set(name, value)));
        assert_eq!(site.entry(name).is_some(), value.is_some(), "{name}");
        assert_eq!(site.show(name), *shown, "{name}");
        numbers.push(done);
    }
    for ((name, _, _, before), number) in cases.iter().zip(numbers).rev() {
        let back = site.undo(Some(number)).unwrap();
        assert!(!back.after_restart, "{name}");
        assert_eq!(site.entry(name).as_deref(), *before, "{name}");
    }
    assert_eq!(site.show("work_mem"), "5MB");
    assert_eq!(site.show("statement_timeout"), "0");
}

impl Site {
    fn takes(&self, step: Step) -> Done {
        let mut applied = self.apply([step]);
        assert!(applied.stopped.is_none(), "{:?}", applied.stopped);
        applied.done.remove(0)
    }

    /// Takes a step that is in force at once; returns its number.
    #[track_caller]
    fn takes_at_once(&self, step: Step) -> i64 {
        let done = self.takes(step);
        assert!(!done.after_restart && done.can_be_undone, "{done:?}");
        done.ledger
    }

    /// Takes a step that waits for a restart; returns its number.
    #[track_caller]
    fn takes_after_restart(&self, step: Step) -> i64 {
        let done = self.takes(step);
        assert!(done.after_restart && done.can_be_undone, "{done:?}");
        done.ledger
    }

    #[track_caller]
    fn back_at_once(&self, number: i64) {
        assert!(!self.undo(Some(number)).unwrap().after_restart);
    }

    fn auto_conf(&self) -> String {
        std::fs::read_to_string(self.server.data_dir().join("postgresql.auto.conf")).unwrap()
    }
}

fn restarts_are_waited_for(site: &mut Site) {
    let libraries = site.takes_after_restart(set("shared_preload_libraries", "pg_stat_statements,auto_explain"));
    let locks = site.takes_after_restart(set("max_locks_per_transaction", "128"));
    let workers = site.takes_after_restart(set("max_worker_processes", "12"));
    let pending = "SELECT string_agg(name, ',' ORDER BY name) AS v FROM pg_settings WHERE pending_restart";
    assert_eq!(site.server.value(pending), "max_locks_per_transaction,max_worker_processes,shared_preload_libraries");
    // It runs with 64, the default, and nothing else is in any file.
    site.back_at_once(locks);
    site.back_at_once(workers);
    // The same value as the one that runs.
    let same = site.takes_at_once(set("max_worker_processes", "9"));
    site.back_at_once(same);
    // wal_buffers is computed when it is not set; older majors call that an override.
    let buffers = site.takes_after_restart(set("wal_buffers", "1MB"));
    site.back_at_once(buffers);
    assert_eq!(site.entry("shared_preload_libraries").as_deref(), Some("pg_stat_statements, auto_explain"));

    site.server.local_mut().restart(crate::SOON).unwrap();
    assert_eq!(site.show("shared_preload_libraries"), "pg_stat_statements, auto_explain");
    assert!(site.undo(Some(libraries)).unwrap().after_restart);
    assert_eq!(site.entry("shared_preload_libraries"), None);
    let libraries = site.takes_at_once(set("shared_preload_libraries", "pg_stat_statements, auto_explain"));
    assert!(site.undo(Some(libraries)).unwrap().after_restart);
}

/// ALTER SYSTEM writes an item with a blank in double quotes exactly where the setting is a list of names.
fn lists_are_those_that_postgresql_takes_for_lists(site: &Site) {
    for word in ["invalid ", "cannot be changed"] {
        site.server.expect_log(word);
    }
    let session = site.session();
    let run = |sql: String| site.runtime.block_on(session.run(&sql));
    let strings = "SELECT name FROM pg_settings WHERE vartype = 'string' AND context <> 'internal' ORDER BY name";
    let mut lists = Vec::new();
    for row in site.server.query(strings).iter() {
        let name = row.text("name").unwrap();
        if run(format!("ALTER SYSTEM SET {name} = 'a b'")).is_ok() {
            if site.auto_conf().contains(&format!("{name} = '\"a b\"'")) {
                lists.push(name.clone());
            }
            run(format!("ALTER SYSTEM RESET {name}")).unwrap();
        }
    }
    assert!(lists.len() >= 5, "{lists:?}");
    // Only written, not read: with such libraries nobody could connect any more.
    for name in &lists {
        let statement = description(&plan([set(name, "a, \"b c\"")]).steps[0]);
        run(statement).unwrap();
        assert!(site.auto_conf().contains(&format!("{name} = 'a, \"b c\"'")), "{name}: {}", site.auto_conf());
        run(format!("ALTER SYSTEM RESET {name}")).unwrap();
    }
}

fn an_announced_restart_stays_announced(site: &Site) {
    // A plan may say so although the server would take the value at once.
    let step = set("max_worker_processes", "8").interrupts(Interruption::Restart);
    assert!(site.apply([step]).done[0].after_restart);
}

fn what_overrides_the_configuration_is_a_surprise_and_nothing_changes(site: &Site) {
    let overrides = [
        (
            "ALTER DATABASE postgres SET work_mem = '7MB'",
            "ALTER DATABASE postgres RESET work_mem",
            "ALTER DATABASE SET",
        ),
        ("ALTER ROLE postgres SET work_mem = '7MB'", "ALTER ROLE postgres RESET work_mem", "ALTER ROLE SET"),
        ("ALTER ROLE ALL SET work_mem = '7MB'", "ALTER ROLE ALL RESET work_mem", "ALTER ROLE ALL SET"),
        (
            "ALTER ROLE postgres IN DATABASE postgres SET work_mem = '7MB'",
            "ALTER ROLE postgres IN DATABASE postgres RESET work_mem",
            "ALTER ROLE IN DATABASE SET",
        ),
    ];
    for (make, unmake, by) in overrides {
        site.server.sql(make);
        let error = site.stops([set("work_mem", "9MB"), set("maintenance_work_mem", "33MB")]);
        assert!(matches!(error, FixError::Surprise { number: 1, .. }), "{error:?}");
        says(&error, &["work_mem is decided by", by, "later steps were not taken"]);
        site.server.sql(unmake);
    }
    assert_eq!((site.entry("work_mem"), site.entry("maintenance_work_mem")), (None, None));
    assert_eq!(site.story(), Vec::<String>::new(), "nothing was begun");
}

#[test]
fn what_the_command_line_decides_is_a_surprise_and_nothing_changes() {
    let mut site = Site::new();
    let entry = |site: &Site| (site.entry("work_mem"), site.entry("max_worker_processes"));
    site.server.local_mut().stop(surus_pg::server::Mode::Fast).unwrap();
    let mut postgres = site.server.local().program("postgres").unwrap();
    postgres.arg("-D").arg(site.server.data_dir()).args(["-c", "work_mem=7MB", "-c", "max_worker_processes=7"]);
    let mut postgres = postgres.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Deadline::after(crate::SOON);
    while site.runtime.block_on(site.target.connect(&Manners::looking())).is_err() {
        assert!(!deadline.passed(), "the server does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    for step in [set("work_mem", "9MB"), reset("work_mem"), set("max_worker_processes", "9")] {
        says(&site.stops([step]), &["is decided by the command line", "would have no effect"]);
    }
    assert_eq!((entry(&site), site.story()), ((None, None), Vec::new()));
    let stopped = Command::new("kill").args(["-QUIT", &postgres.id().to_string()]).status().unwrap();
    assert!(stopped.success() && postgres.wait().is_ok());
}

fn a_value_that_the_server_refuses_changes_nothing(site: &Site) {
    site.server.expect_log("invalid value for parameter");
    site.server.sql("ALTER SYSTEM SET work_mem = '5MB'");
    let error = site.stops([set("work_mem", "much"), set("maintenance_work_mem", "33MB")]);
    assert!(matches!(error, FixError::Step { number: 1, .. }), "{error:?}");
    says(&error, &["step 1 was not done", "invalid value for parameter \"work_mem\": \"much\""]);
    assert_eq!(site.entry("work_mem").as_deref(), Some("5MB"));
    assert_eq!(site.entry("maintenance_work_mem"), None);
    assert_eq!(site.story(), ["change-begun", "change failed"]);
    says(&site.stops([set("no_such_setting", "1")]), &["the server has no setting no_such_setting"]);
    assert_eq!(site.story().len(), 2);
}

#[test]
fn a_broken_configuration_file_is_seen_before_anything_is_written() {
    let site = Site::new();
    let conf = site.server.data_dir().join("postgresql.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, format!("{text}\nno_such_setting = 1\n")).unwrap();
    let error = site.stops([set("work_mem", "9MB")]);
    says(&error, &["postgresql.conf line", "unrecognized configuration parameter", "until that is mended"]);
    assert_eq!(site.entry("work_mem"), None);
    // A value that waits for a restart is no such mistake, and neither is one that is out of range.
    std::fs::write(&conf, format!("{text}\nmax_connections = 29\nwork_mem = 'much'\n")).unwrap();
    site.server.expect_log("contains errors; unaffected changes were applied");
    site.done([set("work_mem", "9MB")]);
    assert_eq!(site.show("work_mem"), "9MB");
}

fn an_empty_list_that_could_not_be_put_back_is_left_alone(site: &Site) {
    let auto = site.server.data_dir().join("postgresql.auto.conf");
    std::fs::write(&auto, "shared_preload_libraries = ''\n").unwrap();
    let error = site.stops([set("shared_preload_libraries", "auto_explain")]);
    says(&error, &["empty list", "could not put back"]);
    assert_eq!(site.entry("shared_preload_libraries").as_deref(), Some(""));
}

fn what_somebody_else_changed_since_is_not_taken_back(site: &Site) {
    let number = site.done([set("work_mem", "8MB")]);
    site.server.sql("ALTER SYSTEM SET work_mem = '64MB'");
    let error = site.undo(Some(number)).unwrap_err();
    assert!(matches!(error, FixError::TakeBackSurprise(_)), "{error:?}");
    says(&error, &["now has \"64MB\" for work_mem and not \"8MB\"", "somebody else"]);
    assert_eq!(site.entry("work_mem").as_deref(), Some("64MB"));
    assert_eq!(site.story().last().unwrap(), "undo failed");
    // Put right by hand, it can be taken back after all.
    site.server.sql("ALTER SYSTEM SET work_mem = '8MB'");
    site.undo(Some(number)).unwrap();
    assert_eq!(site.entry("work_mem"), None);
}
