//! A line of pg_hba.conf: changed, judged, read by the server, taken back; and whose file it is.

use crate::{Site, newest, says, two_majors};
use std::{fs, path::PathBuf};
use surus_check::fix::FixError;
use surus_core::plan::Step;
use surus_pg::Target;
use surus_testkit::Server;

/// Lines 1 and 2 are the harness's own.
const RULES: &str =
    "# somebody's comment\nlocal   all   anna   trust   # she is trusted\nhost all all 127.0.0.1/32 trust\n";
const OLD: &str = "local all anna trust";
const LINE: u32 = 4;

fn site(major: u16) -> Site {
    let site = Site::of(Server::builder().major(major).hba(RULES));
    site.server.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE anna LOGIN PASSWORD 'right'");
    site.server.expect_log("no pg_hba.conf entry");
    site
}

impl Site {
    fn hba_file(&self) -> PathBuf {
        self.server.data_dir().join("pg_hba.conf")
    }

    fn hba(&self) -> String {
        fs::read_to_string(self.hba_file()).unwrap()
    }

    fn anna_gets_in(&self) -> bool {
        let target = Target::parse(&self.server.dsn("postgres")).unwrap().with_options(&[("user", "anna")]).unwrap();
        self.runtime.block_on(target.connect(&surus_pg::Manners::looking())).is_ok()
    }
}

fn change(new: &str) -> Step {
    Step::hba_line(LINE, OLD, Some(new.to_owned()), "")
}

#[test]
fn a_rule_is_changed_is_in_force_and_comes_back() {
    for major in two_majors() {
        let site = site(major);
        let before = site.hba();
        assert!(site.anna_gets_in());
        let number = site.done([change("local all anna scram-sha-256")]);
        assert_eq!(
            site.hba(),
            before.replace("local   all   anna   trust   # she is trusted", "local all anna scram-sha-256")
        );
        assert!(!site.anna_gets_in(), "the server reads the new rule");
        let recorded = serde_json::to_string(&site.last_entry().proof).unwrap();
        assert!(
            recorded.contains("she is trusted") && !recorded.contains("somebody's comment"),
            "only the line: {recorded}"
        );
        site.undo(Some(number)).unwrap();
        assert_eq!(site.hba(), before);
        assert!(site.anna_gets_in());

        let out = site.done([Step::hba_line(LINE, OLD, None, "")]);
        assert!(site.hba().contains("\n# local   all   anna"));
        assert!(!site.anna_gets_in());
        // Other lines are nobody's business.
        fs::write(site.hba_file(), site.hba() + "# one more\n").unwrap();
        site.undo(Some(out)).unwrap();
        assert_eq!(site.hba(), before + "# one more\n");
    }
}

#[test]
fn what_somebody_else_changed_is_a_surprise_and_stays() {
    let site = site(newest());
    let before = site.hba();
    let moved = format!("# a new first line\n{before}");
    fs::write(site.hba_file(), &moved).unwrap();
    let error = site.stops([change("local all anna scram-sha-256")]);
    assert!(matches!(error, FixError::Surprise { number: 1, .. }), "{error:?}");
    says(&error, &["is no longer \"local all anna trust\""]);
    assert_eq!(site.hba(), moved);
    assert!(site.story().is_empty());

    fs::write(site.hba_file(), &before).unwrap();
    let number = site.done([change("local all anna scram-sha-256")]);
    let changed = site.hba().replace("local all anna scram-sha-256", "local all anna peer");
    fs::write(site.hba_file(), &changed).unwrap();
    let error = site.undo(Some(number)).unwrap_err();
    assert!(matches!(error, FixError::TakeBackSurprise(_)), "{error:?}");
    says(&error, &["is no longer \"local all anna scram-sha-256\""]);
    assert_eq!(site.hba(), changed);
}

#[test]
fn a_rule_that_the_server_would_not_read_is_not_left_there() {
    let site = site(newest());
    let before = site.hba();
    let error = site.stops([change("local all anna magic")]);
    assert!(matches!(error, FixError::Surprise { .. }), "{error:?}");
    says(&error, &["the server would not accept the new", "line 4: invalid authentication method", "is back"]);
    assert_eq!(site.hba(), before);
    assert!(site.anna_gets_in());
    assert_eq!(site.story(), ["change-begun", "change failed"]);

    // A file that is broken already would hide what the change does.
    fs::write(site.hba_file(), format!("{before}host all all 10.0.0.0/8 nonsense\n")).unwrap();
    let error = site.stops([change("local all anna scram-sha-256")]);
    says(&error, &["has a mistake already", "line 6"]);
    assert_eq!(site.story().len(), 2);
}

#[test]
fn a_rule_that_would_shut_surus_out_is_taken_back_at_once() {
    let site = site(newest());
    site.server.expect_log("pg_hba.conf rejects connection");
    let before = site.hba();
    let error =
        site.stops([Step::hba_line(1, "local all postgres trust", Some("local all postgres reject".into()), "")]);
    assert!(matches!(error, FixError::Surprise { .. }), "{error:?}");
    says(&error, &["could not connect again", "is back"]);
    assert_eq!(site.hba(), before);
    site.server.sql("SELECT 1");
}

#[test]
fn another_servers_file_of_the_same_name_is_not_touched() {
    // One name, two files: each process has its own working directory.
    const NAME: &str = "/proc/self/cwd/pg_hba.conf";
    let mut site = site(newest());
    site.server.local().write_settings(&[("hba_file", NAME)]).unwrap();
    site.server.local_mut().restart(crate::SOON).unwrap();
    let here = tempfile::tempdir().unwrap();
    let other = site.hba().replace("somebody's comment", "another server's comment");
    fs::write(here.path().join("pg_hba.conf"), &other).unwrap();
    // The other tests of this program name all their files from the root.
    std::env::set_current_dir(here.path()).unwrap();
    let error = site.stops([change("local all anna scram-sha-256")]);
    assert!(matches!(error, FixError::Surprise { number: 1, .. }), "{error:?}");
    says(&error, &["the /proc/self/cwd/pg_hba.conf here is not the server's", "on the server's host"]);
    assert_eq!(fs::read_to_string(NAME).unwrap(), other);
    assert!(site.story().is_empty());
}
