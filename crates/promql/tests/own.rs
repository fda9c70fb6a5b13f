//! Own scripts, and what scripts cannot say: limits and kinds of errors.

use std::time::Duration;
use surus_core::series::Labels;
use surus_promql::{Cancel, Kind, Options, QueryError, instant, range, script};

fn passes(text: &str) {
    let report = script::run(text, &Options::default()).unwrap();
    assert!(report.failed.is_empty() && report.skipped.is_empty(), "{report:#?}");
    assert!(report.passed > 10, "only {} passed", report.passed);
}

#[test]
fn aggregations() {
    passes(include_str!("own/aggregations.test"));
}

#[test]
fn time() {
    passes(include_str!("own/time.test"));
}

#[test]
fn joins() {
    passes(include_str!("own/joins.test"));
}

#[test]
fn a_wrong_expectation_fails() {
    let wrong = [
        "eval instant at 0 vector(1)\n  {} 2\n",
        "eval instant at 0 vector(1)\n",
        "eval instant at 0 vector(1) > 2\n  {} 1\n",
        "eval instant at 0 1\n  2\n",
        "eval instant at 0 vector(1)\n  expect fail\n",
        "eval instant at 0 vector(1)\n  expect warn\n  {} 1\n",
        "eval instant at 0 nothing +\n",
        "eval range from 0 to 1m step 1m time()\n  {} 0 61\n",
    ];
    for text in wrong {
        assert_eq!(script::run(text, &Options::default()).unwrap().failed.len(), 1, "{text}");
    }
}

fn memory() -> script::Memory {
    let mut memory = script::Memory::new();
    for series in 0..10 {
        let labels = Labels::new([("__name__", "x".to_owned()), ("n", series.to_string())]).unwrap();
        (0..100).for_each(|cycle| memory.add(&labels, cycle * 1000, 1.0));
    }
    memory
}

fn error(query: &str, options: &Options) -> QueryError {
    range(&memory(), query, 0, 100_000, 1000, options).unwrap_err()
}

#[test]
fn limits_are_kept() {
    let few = Options { max_samples: 500, ..Options::default() };
    assert_eq!(error("x", &few).kind, Kind::Execution);
    assert!(error("sum(x)", &few).message.contains("too many samples"));
    assert!(instant(&memory(), "x", 0, &few).is_ok());
    let few = Options { max_points: 50, ..Options::default() };
    let error_of_points = error("x", &few);
    assert!(error_of_points.kind == Kind::BadData && error_of_points.message.contains("50 points"));
    let late = Options { timeout: Some(Duration::ZERO), ..Options::default() };
    assert_eq!(error("x", &late).kind, Kind::Timeout);
    let cancel = Cancel::new();
    cancel.cancel();
    assert_eq!(error("x", &Options { cancel: Some(cancel), ..Options::default() }).kind, Kind::Cancelled);
}

#[test]
fn what_would_use_up_the_stack_is_refused() {
    let deep = |query: String| error(&query, &Options::default());
    let many = |piece: &str, count: usize| piece.repeat(count);
    let chains = [
        format!("{}1{}", many("(", 100_000), many(")", 100_000)),
        format!("{}1", many("-", 5_000)),
        format!("1{}", many("+1", 50_000)),
        format!("x{}", many(" or x", 300)),
        format!("{}x{}", many("abs(", 300), many(")", 300)),
        format!("{}x", many("sum(", 300)),
        many("(", 300_000),
    ];
    for query in chains {
        let error = deep(query);
        assert!(error.kind == Kind::BadData && error.message.len() < 500, "{error}");
    }
    let fine = format!("x{}", many(" or x", 200));
    assert!(range(&memory(), &fine, 0, 100_000, 1000, &Options::default()).is_ok());
}

#[test]
fn errors_have_kinds_and_codes() {
    let options = Options::default();
    for query in
        ["x +", "rate(x)", "x[5m]", "nothing(x)", "sum(x, y)", "{n=~\".*\"}", "x{n=~\"(\"}", "info(x)", "\"text\""]
    {
        let error = error(query, &options);
        assert_eq!((error.kind, error.code().id), (Kind::BadData, "SURUS-M001"), "{query}: {error}");
    }
    let error = error("x / on () x", &options);
    assert_eq!((error.kind, error.code().id), (Kind::Execution, "SURUS-M002"));
    let wrong = |start, end, step| range(&memory(), "x", start, end, step, &options).unwrap_err().kind;
    assert_eq!([wrong(0, 10, 0), wrong(10, 0, 1)], [Kind::BadData; 2]);
}
