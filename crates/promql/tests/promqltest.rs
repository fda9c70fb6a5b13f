//! Prometheus's own test scripts, read from a directory beside the repository.

use std::path::PathBuf;
use surus_promql::{Options, script};

/// Where the scripts are: `$SURUS_SHARED/promqltest`, else `shared/promqltest` beside the repository.
fn scripts() -> Option<Vec<PathBuf>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let candidates = [std::env::var_os("SURUS_SHARED").map(PathBuf::from), Some(root.join("../shared"))];
    let directory =
        candidates.into_iter().flatten().map(|shared| shared.join("promqltest")).find(|path| path.is_dir())?;
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|ending| ending == "test")).collect();
    files.sort();
    Some(files)
}

#[test]
fn prometheus_own_scripts() {
    let Some(scripts) = scripts() else {
        eprintln!(
            "skipped: there are no scripts of Prometheus (SURUS_SHARED, or a directory `shared` beside the repository)"
        );
        return;
    };
    assert!(!scripts.is_empty());
    let (mut passed, mut failures, mut skipped) = (0, Vec::new(), Vec::new());
    for path in scripts {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let report = script::run(&std::fs::read_to_string(&path).unwrap(), &Options::default()).unwrap();
        eprintln!("{name}: {} passed, {} failed, {} skipped", report.passed, report.failed.len(), report.skipped.len());
        passed += report.passed;
        let line = |case: &script::Case| format!("{name}:{}: {}: {}", case.line, case.query, case.why);
        failures.extend(report.failed.iter().map(line));
        skipped.extend(report.skipped.iter().map(line));
    }
    eprintln!("{passed} passed, {} failed, {} skipped", failures.len(), skipped.len());
    for case in &skipped {
        eprintln!("skipped: {case}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(passed > 500, "only {passed} passed");
}
