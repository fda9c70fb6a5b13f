//! The harness's own promises: it fails tests that the server complained about, and it leaves nothing behind. Some can
//! only be seen from outside, so this file runs its own program again with other environments.

use std::{
    fs,
    io::{BufRead, BufReader},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use surus_pg::server::running_pid;
use surus_testkit::{Server, majors, require_major};

const ROLE: &str = "SURUS_TESTKIT_ROLE";

/// The message with which `body` panics; `None` when it does not.
fn panic_of(body: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(body)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
}

#[test]
fn an_unannounced_error_in_the_log_fails_the_test() {
    let silent = panic_of(|| {
        let server = Server::start();
        server.try_query_in("postgres", "SELECT 1/0").unwrap_err();
    });
    let message = silent.expect("the server's drop panics");
    assert!(message.contains("ERROR:  division by zero") && message.contains("expect_log"), "{message}");

    let announced = panic_of(|| {
        let server = Server::start();
        server.expect_log("division by zero");
        server.try_query_in("postgres", "SELECT 1/0").unwrap_err();
    });
    assert_eq!(announced, None);
}

#[test]
fn a_crashed_backend_fails_the_test() {
    let message = panic_of(|| {
        let server = Server::start();
        let victim = "SELECT pid AS v FROM pg_stat_activity WHERE backend_type = 'walwriter'";
        let status = Command::new("kill").args(["-SEGV", &server.value(victim)]).status().unwrap();
        assert!(status.success());
        for _ in 0..500 {
            if server.log().contains("was terminated by signal") {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    });
    assert!(message.is_some_and(|message| message.contains("was terminated by signal 11")));
}

#[test]
fn a_directory_is_gone_with_its_server() {
    let server = Server::start();
    let dir = server.data_dir().parent().unwrap().to_owned();
    assert!(dir.is_dir());
    drop(server);
    assert!(!dir.exists() && !dir.with_extension("lock").exists());
}

#[test]
fn a_missing_major_is_skipped_by_name_or_fails() {
    assert_eq!(require_major(8), None);
    let here = majors()[0];
    assert_eq!(require_major(here), Some(here));
}

/// What the other programs do that the tests below start: plays a role, or nothing when it runs as an ordinary test.
#[test]
fn role() {
    match std::env::var(ROLE).as_deref() {
        Ok("start and hang") => {
            let server = Server::start();
            println!("\ndata {}", server.data_dir().display());
            thread::sleep(Duration::from_secs(300));
        }
        Ok("start and end") => drop(Server::start()),
        Ok("ask for majors") => assert!(!majors().is_empty()),
        Ok("ask for 8") => assert_eq!(require_major(8), None),
        _ => {}
    }
}

fn play(role: &str, variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "role", "--nocapture"]).env(ROLE, role).envs(variables.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn told(child: Child) -> (bool, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// A short path: sockets are in it.
fn own_root(name: &str) -> PathBuf {
    let root = PathBuf::from(format!("/tmp/surus-harness-{}-{name}", std::process::id()));
    fs::create_dir(&root).unwrap();
    root
}

fn run_dirs(root: &Path) -> Vec<String> {
    let names = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "templates").collect()
}

#[test]
fn what_a_killed_test_leaves_is_swept_by_the_next() {
    let root = own_root("sweep");
    let variables = [("SURUS_TEST_DIR", root.to_str().unwrap())];
    let mut hanging = play("start and hang", &variables);
    let mut other = play("start and hang", &variables);
    let data_of = |child: &mut Child| {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        PathBuf::from(lines.find_map(|line| line.strip_prefix("data ").map(str::to_owned)).unwrap())
    };
    let (left, living) = (data_of(&mut hanging), data_of(&mut other));
    hanging.kill().unwrap();
    hanging.wait().unwrap();
    let server = running_pid(&left).expect("the killed test's server still runs");

    let (good, text) = told(play("start and end", &variables));
    assert!(good, "{text}");
    // A process that ended and waits for init to notice has no command line any more.
    let command_line = fs::read(format!("/proc/{server}/cmdline")).unwrap_or_default();
    assert!(!left.exists() && command_line.is_empty(), "left: {:?}", run_dirs(&root));
    assert!(running_pid(&living).is_some(), "the sweep must not touch a test that still runs");

    other.kill().unwrap();
    other.wait().unwrap();
    assert!(told(play("start and end", &variables)).0);
    assert_eq!(run_dirs(&root), Vec::<String>::new());
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn directories_are_kept_on_request() {
    let root = own_root("keep");
    let variables = [("SURUS_TEST_DIR", root.to_str().unwrap()), ("SURUS_TEST_KEEP", "1")];
    for _ in 0..2 {
        let (good, text) = told(play("start and end", &variables));
        assert!(good && text.contains("kept: "), "{text}");
    }
    let kept = run_dirs(&root);
    assert!(kept.len() == 2 && kept.iter().all(|name| name.starts_with("kept-")), "{kept:?}");
    assert!(root.join(&kept[0]).join("postgresql.log").is_file());
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn a_required_major_that_is_missing_is_a_failure() {
    let required = [("SURUS_PG_REQUIRE", "8")];
    for role in ["ask for majors", "ask for 8"] {
        let (good, text) = told(play(role, &required));
        assert!(!good && text.contains("SURUS_PG_REQUIRE lists PostgreSQL 8"), "{role}: {text}");
    }
    let (good, text) = told(play("ask for 8", &[("SURUS_PG_REQUIRE", "")]));
    assert!(good && text.contains("skipped: role: PostgreSQL 8 is not here (cargo xtask pg fetch)"), "{text}");
}
