//! Appending, reading, counting; the file as a user sees it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;
use surus_core::proof::{Measure, Outcome, Proof};
use surus_store::{Filter, GENESIS, Store, StoreError, verify_export};

use crate::sample::{change, proof, store_with};

#[test]
fn what_was_appended_is_read_back() {
    let (_directory, path, store) = store_with(0);
    let first = store.append(&proof("tls", "main", Outcome::Passed)).unwrap();
    let second = store.append(&change("work_mem")).unwrap();
    assert_eq!((first.number, first.previous_hash.as_str()), (1, GENESIS));
    assert_eq!((second.number, &second.previous_hash), (2, &first.hash));
    let again = Store::open_read_only(&path).unwrap();
    assert_eq!(again.entries(&Filter::default()).unwrap(), [first, second.clone()]);
    assert_eq!(again.entry(2).unwrap(), second);
    assert_eq!(again.entry(3).unwrap_err().code().id, "SURUS-S006");
    assert_eq!(again.append(&change("x")).unwrap_err().code().id, "SURUS-S002");
}

#[test]
fn filters_select() {
    let (_directory, _path, store) = store_with(6);
    let numbers = |filter: Filter| -> Vec<i64> {
        store.entries(&filter).unwrap().into_iter().map(|entry| entry.number).collect()
    };
    assert_eq!(numbers(Filter { kind: Some("change".into()), ..Filter::default() }), [3, 6]);
    assert_eq!(numbers(Filter { item: Some(5), ..Filter::default() }), [1, 2, 4, 5]);
    assert_eq!(numbers(Filter { item: Some(1), ..Filter::default() }), [0; 0]);
    assert_eq!(numbers(Filter { limit: Some(2), ..Filter::default() }), [5, 6]);
    assert_eq!(numbers(Filter { cluster: Some("other".into()), ..Filter::default() }), [0; 0]);
    let at = |text: &str| Filter { since: Some(text.parse().unwrap()), ..Filter::default() };
    assert_eq!(numbers(at("2026-01-02T03:04:06.5Z")).len(), 6);
    assert_eq!(numbers(at("2026-01-02T03:04:06.500001Z")), [0; 0]);
}

#[test]
fn what_counts_is_passed_and_alive_and_not_refuted() {
    let (_directory, _path, store) = store_with(0);
    let counting = |now: &str| -> Vec<i64> {
        let proofs = store.counting_proofs("7301234567890123456", now.parse().unwrap()).unwrap();
        proofs.into_iter().map(|entry| entry.number).collect()
    };
    let now = "2026-06-01T00:00:00Z";
    store.append(&proof("tls", "main", Outcome::Passed)).unwrap();
    store.append(&proof("tls", "standby", Outcome::Passed)).unwrap();
    store.append(&change("work_mem")).unwrap();
    assert_eq!(counting(now), [1, 2]);
    store.append(&proof("tls", "main", Outcome::Failed)).unwrap();
    assert_eq!(counting(now), [2], "a newer failed proof refutes the older one");
    store.append(&proof("tls", "main", Outcome::Passed)).unwrap();
    assert_eq!(counting(now), [2, 5]);
    store.append(&proof("tls", "main", Outcome::Passed)).unwrap();
    assert_eq!(counting(now), [2, 6], "the newest one speaks for a subject");
    assert_eq!(counting("2027-01-01T00:00:00Z"), [0; 0], "at its end a proof no longer counts");
    let short =
        Proof { expires_at: Some("2026-03-01T00:00:00Z".parse().unwrap()), ..proof("tls", "standby", Outcome::Passed) };
    store.append(&short).unwrap();
    assert_eq!(counting(now), [2, 6], "an expired newer one does not take the older one's place");
    assert_eq!(store.counting_proofs("another", now.parse().unwrap()).unwrap(), []);
}

#[test]
fn a_proof_that_would_not_read_back_is_refused() {
    let (_directory, _path, store) = store_with(0);
    let nan = Proof { measured: vec![Measure::new("x", f64::NAN, "ms")], ..proof("a", "b", Outcome::Passed) };
    let null = Proof { undo: Some(json!(null)), ..change("x") };
    let ancient = Proof { started_at: "-000001-01-01T00:00:00Z".parse().unwrap(), ..change("x") };
    for odd in [nan, null, ancient] {
        let error = store.append(&odd).unwrap_err();
        assert!(matches!(error, StoreError::NotRecordable { .. }), "{error}");
    }
    assert_eq!(store.verify_chain().unwrap().entries, 0);
}

#[test]
fn the_file_belongs_to_its_owner_alone() {
    let (_directory, path, _store) = store_with(1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let mut names = Vec::new();
    for file in fs::read_dir(path.parent().unwrap()).unwrap() {
        let file = file.unwrap();
        assert_eq!(mode(&file.path()), 0o600, "{file:?}");
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort_unstable();
    assert_eq!(names, ["surus.db", "surus.db-shm", "surus.db-wal"], "no draft is left behind");
}

#[test]
fn the_sqlite_shell_shows_readable_columns() {
    let (_directory, path, store) = store_with(3);
    drop(store);
    let sql = "SELECT number, kind, subject, outcome, finished_at, expires_at, body->>'$.undo.sql' FROM ledger \
               WHERE number > 1";
    let out = match Command::new("sqlite3").arg(&path).arg(sql).output() {
        Ok(out) => String::from_utf8(out.stdout).unwrap(),
        Err(_) => rows_as_the_shell_prints(&path, sql),
    };
    assert_eq!(
        out,
        "2|passwords|main|failed|2026-01-02T03:04:06.500000000Z|2027-01-01T00:00:00.000000000Z|\n\
         3|change|work_mem|passed|2026-01-02T03:04:06.500000000Z||ALTER SYSTEM RESET work_mem\n"
    );
}

/// The same through the linked SQLite, where the shell is not installed.
fn rows_as_the_shell_prints(path: &Path, sql: &str) -> String {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut out = String::new();
    while let Some(row) = rows.next().unwrap() {
        let cells: Vec<String> = (0..columns)
            .map(|at| match row.get_ref(at).unwrap() {
                rusqlite::types::ValueRef::Null => String::new(),
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                other => other.as_str().unwrap().to_owned(),
            })
            .collect();
        out += &(cells.join("|") + "\n");
    }
    out
}

fn any_proof() -> impl Strategy<Value = Proof> {
    let text = "\\PC{0,12}|[a-z\"\\\\\n\t]{0,8}";
    let number = prop_oneof![any::<f64>().prop_filter("finite", |x| x.is_finite()), Just(-0.0), Just(1e300)];
    let time = (-62_167_219_200..=253_402_207_200_i64, 0..1_000_000_000_i32)
        .prop_map(|(second, nano)| jiff::Timestamp::new(second, nano).unwrap());
    (
        (text, text, text, any::<bool>(), text),
        (time.clone(), time.clone(), proptest::option::of(time)),
        proptest::collection::vec((text, number), 0..3),
        (proptest::collection::vec(1..=14_u8, 0..4), any::<Option<i64>>()),
    )
        .prop_map(|((kind, cluster, subject, passed, log), (start, end, expiry), measured, (items, undo))| Proof {
            kind,
            items,
            cluster,
            subject,
            started_at: start,
            finished_at: end,
            outcome: if passed { Outcome::Passed } else { Outcome::Failed },
            measured: measured.into_iter().map(|(name, value)| Measure::new(name, value, "s")).collect(),
            steps: Vec::new(),
            log_excerpt: log,
            surus_version: "0.1.0".to_owned(),
            expires_at: expiry,
            undo: undo.map(|number| json!({ "number": number, "list": [number, "x", null] })),
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_proofs_chain_read_back_and_export(proofs in proptest::collection::vec(any_proof(), 0..8)) {
        let (_directory, _path, store) = store_with(0);
        for proof in &proofs {
            store.append(proof).unwrap();
        }
        let report = store.verify_chain().unwrap();
        prop_assert!(report.is_intact());
        prop_assert_eq!(report.entries, proofs.len() as u64);
        let entries = store.entries(&Filter::default()).unwrap();
        let back: Vec<Proof> = entries.into_iter().map(|entry| entry.proof).collect();
        prop_assert_eq!(&back, &proofs);
        let mut export = Vec::new();
        prop_assert_eq!(store.export(&mut export).unwrap(), proofs.len() as u64);
        prop_assert_eq!(verify_export(export.as_slice()).unwrap(), report);
    }
}
