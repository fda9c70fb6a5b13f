//! The promise: `surus check` finds every planted trouble, and after `surus fix --apply` those that surus can fix
//! are gone.

use super::stage::{Demo, Stage};
use serde_json::Value;

/// The keys of the primary's findings that match a planted trouble.
fn keys(report: &Value, planted: &Value) -> Vec<String> {
    let findings = report["targets"][0]["findings"].as_array().unwrap();
    let object = planted["object"].as_str().unwrap();
    let mine = findings.iter().filter(|finding| finding["id"] == planted["check"]);
    let keys = mine.map(|finding| finding["key"].as_str().unwrap().to_owned());
    keys.filter(|key| key.contains(object)).collect()
}

fn check(stage: &Stage, dsn: &str) -> Value {
    let output = stage.surus(&["check", dsn, "--format", "json", "--no-ledger"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn check_finds_what_was_planted_and_fix_makes_it_go_away() {
    let stage = Stage::new(None);
    let mut demo = Demo::start(&stage, &["--format", "json", "--rows", "110000"]);
    let document = demo.document();
    let dsn = document["primary"].as_str().unwrap();
    // The demo has fixed one itself; it is back with its undo.
    let ledger = format!("{}/surus", document["dir"].as_str().unwrap());
    let undone = stage.surus(&["undo", "--yes", "--data-dir", &ledger, "--dsn", dsn]).output().unwrap();
    assert!(undone.status.success(), "{}", String::from_utf8_lossy(&undone.stderr));

    let report = check(&stage, dsn);
    let planted = document["planted"].as_array().unwrap();
    let mut wanted = Vec::new();
    for one in planted {
        let found = keys(&report, one);
        assert!(!found.is_empty(), "not found: {one}");
        if one["remedy"] == "surus" {
            wanted.extend(found);
        }
    }
    wanted.sort();
    wanted.dedup();

    let mut arguments = vec!["fix", dsn, "--apply", "--yes", "--data-dir", &ledger];
    arguments.extend(wanted.iter().map(String::as_str));
    let fixed = stage.surus(&arguments).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&fixed.stdout), String::from_utf8_lossy(&fixed.stderr));
    assert_eq!(fixed.status.code(), Some(0), "{said}");

    let report = check(&stage, dsn);
    for one in planted.iter().filter(|one| one["remedy"] == "surus") {
        let left = keys(&report, one);
        assert!(left.is_empty(), "still there: {left:?}\n{said}");
    }
    demo.signal("INT");
    let (status, _) = demo.wait();
    assert_eq!(status.code(), Some(0));
    stage.assert_clean();
}
