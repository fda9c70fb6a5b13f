use crate::scene::{Scene, WITHIN, ask};
use std::{fs, thread, time::Duration};
use surus_core::clock::Deadline;
use surus_pg::server::{LocalServer, Mode};
use surus_testkit::{Server, require_major};

const SWITCH: &str = "SELECT pg_switch_wal()";

/// Ten rows, each in a segment of its own, archived; a restore point after the fifth. Returns the LSN after the eighth,
/// and the segment that it is in.
fn write_rows(scene: &Scene) -> (String, String) {
    let mut after_eight = String::new();
    scene.server.sql("CREATE TABLE ledger (n int)");
    for number in 1..=10 {
        scene.server.sql(&format!("INSERT INTO ledger VALUES ({number})"));
        if number == 5 {
            scene.server.sql("SELECT pg_create_restore_point('five')");
        }
        if number == 8 {
            after_eight = scene.server.value("SELECT pg_current_wal_insert_lsn() AS v");
        }
        scene.server.sql(SWITCH);
    }
    scene.wait_archived();
    let segment = scene.server.value(&format!("SELECT pg_walfile_name('{after_eight}') AS v"));
    (after_eight, segment)
}

fn rows_after_promotion(local: &mut LocalServer) -> String {
    local.start(WITHIN).unwrap();
    let deadline = Deadline::after(WITHIN);
    while ask(local, "SELECT pg_is_in_recovery()::text AS v") != "false" {
        assert!(!deadline.passed(), "{}", local.log());
        thread::sleep(Duration::from_millis(50));
    }
    let rows = ask(local, "SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') AS v FROM public.ledger");
    local.stop(Mode::Immediate).unwrap();
    rows
}

#[test]
fn recovery_reaches_the_moment_that_was_named() {
    for major in [15, 16, 18].into_iter().filter_map(require_major) {
        let scene = Scene::new(Server::builder().major(major));
        let (lsn, _) = write_rows(&scene);
        let get = scene.place.command("get", "%f %p");
        let cases = [
            ("all", "", "", "1 2 3 4 5 6 7 8 9 10"),
            ("lsn", "recovery_target_lsn", lsn.as_str(), "1 2 3 4 5 6 7 8"),
            ("name", "recovery_target_name", "five", "1 2 3 4 5"),
        ];
        for (name, setting, value, expected) in cases {
            let mut settings = vec![("restore_command", get.as_str())];
            settings.extend((!setting.is_empty()).then_some((setting, value)));
            let mut local = scene.recovering(name, &settings);
            assert_eq!(rows_after_promotion(&mut local), expected, "PostgreSQL {major}, {name}: {}", local.log());
            let left = fs::read_dir(local.data_dir().join("pg_wal")).unwrap().map(|entry| entry.unwrap().file_name());
            let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains(".surus-1")).collect();
            assert!(left.is_empty(), "nothing unfinished stays: {left:?}");
        }
        assert!(scene.place.agents_log().contains("the agent listens"), "the agent fetched ahead");
    }
}

/// The repository disappears while WAL is still to come: the server must end, not open for writing.
#[test]
fn a_repository_that_disappears_never_ends_recovery_early() {
    let scene = Scene::new(Server::builder());
    let (_, eighth) = write_rows(&scene);
    let away = scene.place.dir.path().join("away");
    // The segment of the eighth row, and all after it, meet a folder that is gone; or one that is empty.
    for (number, vanish) in ["mv REPO AWAY", "mv REPO AWAY; mkdir REPO"].iter().enumerate() {
        let vanish = vanish.replace("REPO", &scene.place.repo().display().to_string());
        let vanish = vanish.replace("AWAY", &away.display().to_string());
        let get = scene.place.command("get", "--patience 300ms %f %p");
        let restore = format!("case %f in {eighth}) {vanish};; esac; {get}");
        let mut local = scene.recovering(&format!("vanishing{number}"), &[("restore_command", restore.as_str())]);
        // A start may succeed before recovery comes to that point; then the server ends by itself.
        let started = local.start(WITHIN);
        let deadline = Deadline::after(WITHIN);
        while started.is_ok() && local.is_running() {
            assert!(!deadline.passed(), "it goes on: {}", local.log());
            thread::sleep(Duration::from_millis(50));
        }
        let log = local.log();
        assert!(log.contains("FATAL") && log.contains("error[SURUS-B0"), "{log}");
        assert!(!log.contains("selected new timeline ID"), "it was promoted: {log}");
        assert!(!log.contains("archive recovery complete"), "{log}");
        // With the repository back, the same server recovers all of it.
        if scene.place.repo().exists() {
            fs::remove_dir(scene.place.repo()).unwrap();
        }
        fs::rename(&away, scene.place.repo()).unwrap();
        local.write_settings(&[("restore_command", scene.place.command("get", "%f %p"))]).unwrap();
        assert_eq!(rows_after_promotion(&mut local), "1 2 3 4 5 6 7 8 9 10", "{}", local.log());
    }
}
