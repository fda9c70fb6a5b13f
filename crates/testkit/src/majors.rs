//! Which PostgreSQL majors are here, and what happens to a test whose major is not.

use std::{env, sync::OnceLock, thread};
use surus_core::version::OLDEST_MAJOR;
use surus_pg::Programs;

/// All installations on this machine, oldest major first.
pub(crate) fn installed() -> &'static [Programs] {
    static INSTALLED: OnceLock<Vec<Programs>> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let mut all = Programs::find_all();
        all.reverse();
        all
    })
}

/// What a test gets that does not care: the newest that has the client programs too, else the newest.
pub(crate) fn preferred() -> Option<&'static Programs> {
    let mut newest_first = installed().iter().rev();
    newest_first.clone().find(|programs| programs.bin("pg_basebackup").is_ok()).or(newest_first.next())
}

/// The majors that are here and that surus knows, oldest first. An older one is had by its number only.
///
/// # Panics
/// When `SURUS_PG_REQUIRE` lists a major that is not here, or when there is none at all.
pub fn majors() -> Vec<u16> {
    let here: Vec<u16> = installed().iter().map(Programs::major).filter(|major| *major >= OLDEST_MAJOR).collect();
    for major in required() {
        assert!(here.contains(&major), "SURUS_PG_REQUIRE lists PostgreSQL {major}, which is not here; {FETCH}");
    }
    assert!(!here.is_empty(), "no PostgreSQL is here; {FETCH}");
    here
}

/// Runs a test body once for each major that is here.
pub fn each_major(mut body: impl FnMut(u16)) {
    for major in majors() {
        // Shown only when the test fails: says which major it was.
        eprintln!("on PostgreSQL {major}");
        body(major);
    }
}

/// The major if it is here. Otherwise says that the test is skipped and returns `None`.
///
/// # Panics
/// When `SURUS_PG_REQUIRE` lists the major and it is not here.
#[must_use]
pub fn require_major(major: u16) -> Option<u16> {
    if installed().iter().any(|programs| programs.major() == major) {
        return Some(major);
    }
    assert!(!required().contains(&major), "SURUS_PG_REQUIRE lists PostgreSQL {major}, which is not here; {FETCH}");
    eprintln!("skipped: {}: PostgreSQL {major} is not here ({FETCH})", test_name());
    None
}

/// The name of the running test; the test harness names its threads so.
pub(crate) fn test_name() -> String {
    thread::current().name().unwrap_or("test").to_owned()
}

fn required() -> Vec<u16> {
    let list = env::var("SURUS_PG_REQUIRE").unwrap_or_default();
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| item.parse().unwrap_or_else(|_| panic!("SURUS_PG_REQUIRE: \"{item}\" is no major version")))
        .collect()
}

const FETCH: &str = "cargo xtask pg fetch";
