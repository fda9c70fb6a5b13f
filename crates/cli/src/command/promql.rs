//! `surus promql test`: Prometheus's test scripts against surus's evaluator.

use crate::{
    args::DataFormat,
    failure::Failure,
    output::{json, print},
    paint::Paint,
};
use std::{collections::BTreeMap, fmt::Write, path::PathBuf};
use surus_core::code;
use surus_promql::{
    Options,
    script::{self, Case, Report},
};

/// Runs the scripts; 1 when something failed.
pub fn test(files: &[PathBuf], format: DataFormat) -> Result<u8, Failure> {
    let mut reports = Vec::new();
    for file in files {
        let unread = |why: String| Failure::new(code::INPUT_READ, format!("{} was not run: {why}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| unread(error.to_string()))?;
        let report = script::run(&text, &Options::default()).map_err(|error| unread(error.to_string()))?;
        reports.push((file.display().to_string(), report));
    }
    print(&match format {
        DataFormat::Json => json(&reports.iter().map(|(file, report)| as_json(file, report)).collect::<Vec<_>>())?,
        DataFormat::Text => as_text(&reports),
    })?;
    Ok(u8::from(reports.iter().any(|(_, report)| !report.failed.is_empty())))
}

fn as_json(file: &str, report: &Report) -> serde_json::Value {
    let case = |case: &Case| serde_json::json!({ "line": case.line, "query": case.query, "why": case.why });
    serde_json::json!({
        "file": file,
        "passed": report.passed,
        "failed": report.failed.iter().map(case).collect::<Vec<_>>(),
        "skipped": report.skipped.iter().map(case).collect::<Vec<_>>(),
    })
}

fn as_text(reports: &[(String, Report)]) -> String {
    let mut out = String::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (file, report) in reports {
        let _ = writeln!(
            out,
            "{}: {}",
            Paint::strong(file),
            counts(report.passed, report.failed.len(), report.skipped.len())
        );
        for case in &report.failed {
            let _ = writeln!(out, "  {} line {}: {}", Paint::crit("failed"), case.line, case.query);
            let _ = writeln!(out, "    {}", case.why);
        }
        // One line per reason: which queries it concerns can be looked up.
        let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for case in &report.skipped {
            reasons.entry(&case.why).or_default().push(case.line.to_string());
        }
        for (why, lines) in reasons {
            let _ = writeln!(out, "  {} {}: {why}; lines {}", Paint::faint("skipped"), lines.len(), lines.join(", "));
        }
        passed += report.passed;
        failed += report.failed.len();
        skipped += report.skipped.len();
    }
    if reports.len() > 1 {
        let _ = writeln!(out, "{}: {}", Paint::strong("Together"), counts(passed, failed, skipped));
    }
    out
}

fn counts(passed: usize, failed: usize, skipped: usize) -> String {
    let failed = match failed {
        0 => "0 failed".to_owned(),
        failed => Paint::crit(format!("{failed} failed")).to_string(),
    };
    format!("{passed} passed, {failed}, {skipped} skipped")
}
