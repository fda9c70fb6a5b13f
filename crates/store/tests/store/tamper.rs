//! Whoever edits the file is found, and is stopped where SQLite can stop him.

use proptest::prelude::*;
use rusqlite::Connection;
use surus_core::proof::Outcome;
use surus_store::{Filter, StoreError, verify_export};

use crate::sample::{proof, store_with};

const TRIGGERS: [&str; 6] = [
    "ledger_follows",
    "ledger_moves_head",
    "ledger_is_not_updated",
    "ledger_is_not_deleted",
    "ledger_head_is_not_deleted",
    "ledger_head_only_moves_forward",
];

/// Someone who takes the triggers away first.
fn intruder(path: &std::path::Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    for trigger in TRIGGERS {
        connection.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
    }
    connection.pragma_update(None, "ignore_check_constraints", true).unwrap();
    connection
}

#[test]
fn triggers_forbid_changing_the_past() {
    let (_directory, path, store) = store_with(3);
    let connection = Connection::open(&path).unwrap();
    for sql in [
        "UPDATE ledger SET subject = 'x' WHERE number = 1",
        "DELETE FROM ledger WHERE number = 3",
        "DELETE FROM ledger",
        "INSERT OR REPLACE INTO ledger SELECT * FROM ledger WHERE number = 2",
        "REPLACE INTO ledger SELECT 3, 'x', cluster, subject, outcome, started_at, finished_at, expires_at, body, \
         previous_hash, hash FROM ledger WHERE number = 3",
        "INSERT INTO ledger SELECT 9, kind, cluster, subject, outcome, started_at, finished_at, expires_at, body, \
         previous_hash, hash FROM ledger WHERE number = 3",
        "UPDATE ledger_head SET number = 2",
        "UPDATE ledger_head SET hash = previous_hash FROM ledger WHERE ledger.number = 3",
        "DELETE FROM ledger_head",
    ] {
        let error = connection.execute(sql, []).unwrap_err();
        assert!(error.to_string().contains("append-only") || error.to_string().contains("follow"), "{sql}: {error}");
    }
    assert!(store.verify_chain().unwrap().is_intact());
}

#[test]
fn every_column_of_every_entry_is_guarded() {
    for (column, value) in [
        ("number", "number + 10"),
        ("kind", "'restore'"),
        ("cluster", "'1'"),
        ("subject", "subject || ' '"),
        ("outcome", "CASE outcome WHEN 'passed' THEN 'failed' ELSE 'passed' END"),
        ("started_at", "'2026-01-02T03:04:05.000000001Z'"),
        ("finished_at", "'2026-01-02T03:04:05.000000001Z'"),
        ("expires_at", "'2036-01-01T00:00:00.000000000Z'"),
        ("body", "replace(body, '12.25', '12.26')"),
        ("body", "body || ' '"),
        ("body", "'not json'"),
        ("previous_hash", "replace(previous_hash, substr(previous_hash, 1, 1), 'g')"),
        ("hash", "upper(hash) || 'g'"),
    ] {
        for number in 1..=4 {
            let (_directory, path, store) = store_with(4);
            let sql = format!("UPDATE ledger SET {column} = {value} WHERE number = {number}");
            assert_eq!(intruder(&path).execute(&sql, []).unwrap(), 1);
            let bad = store.verify_chain().unwrap().first_bad.unwrap_or_else(|| panic!("not found: {sql}"));
            assert!(bad.number == number || column == "number", "{sql}: {bad:?}");
            assert_eq!(store.export(Vec::new()).unwrap_err().code().id, "SURUS-S004");
            let read = store.entries(&Filter::default()).unwrap_err();
            assert!(["SURUS-S004", "SURUS-S003"].contains(&read.code().id), "{sql}: {read}");
        }
    }
}

#[test]
fn removed_entries_are_missed() {
    for (gone, first_bad) in [("number = 1", 2), ("number = 2", 3), ("number = 4", 4), ("true", 1)] {
        let (_directory, path, store) = store_with(4);
        intruder(&path).execute(&format!("DELETE FROM ledger WHERE {gone}"), []).unwrap();
        assert_eq!(store.verify_chain().unwrap().first_bad.unwrap().number, first_bad, "{gone}");
    }
}

#[test]
fn a_broken_end_is_not_continued() {
    for sql in [
        "UPDATE ledger SET body = replace(body, 'passed', 'failed') WHERE number = 4",
        "UPDATE ledger SET hash = previous_hash WHERE number = 3",
        "DELETE FROM ledger WHERE number = 4",
        "UPDATE ledger_head SET number = 3",
    ] {
        let (_directory, path, store) = store_with(4);
        assert_eq!(intruder(&path).execute(sql, []).unwrap(), 1);
        let error = store.append(&proof("tls", "main", Outcome::Passed)).unwrap_err();
        assert!(matches!(error, StoreError::Chain { .. }), "{sql}: {error}");
        let entries: i64 =
            Connection::open(&path).unwrap().query_row("SELECT max(number) FROM ledger", [], |row| row.get(0)).unwrap();
        assert!(entries <= 4, "{sql}");
    }
}

fn export_of(entries: i64) -> Vec<u8> {
    let (_directory, _path, store) = store_with(entries);
    let mut export = Vec::new();
    store.export(&mut export).unwrap();
    export
}

#[test]
fn an_export_cut_anywhere_does_not_verify() {
    let export = export_of(3);
    for length in 0..export.len() - 1 {
        if let Ok(report) = verify_export(&export[..length]) {
            assert!(!report.is_intact(), "cut to {length} of {}", export.len());
        }
    }
    let longer = [export.as_slice(), b"{}\n"].concat();
    assert!(!verify_export(longer.as_slice()).unwrap().is_intact());
}

#[test]
fn what_is_no_export_is_refused() {
    for odd in [&b""[..], b"hello\n", b"{\"surus_ledger\":2}\n", b"\xff\xfe\n", b"{\"entries\":0}\n"] {
        assert_eq!(verify_export(odd).unwrap_err().code().id, "SURUS-S003");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_changed_byte_of_an_export_is_found(at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        static EXPORT: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| export_of(3));
        let mut export = EXPORT.clone();
        // Without the last line feed, which means nothing.
        let at = at.index(export.len() - 1);
        export[at] ^= flip;
        // Blanks between tokens mean nothing either.
        let blank = |byte: u8| byte.is_ascii_whitespace();
        prop_assume!(!blank(export[at]) && !blank(EXPORT[at]));
        let intact = verify_export(export.as_slice()).is_ok_and(|report| report.is_intact());
        prop_assert!(!intact, "byte {at}");
    }
}
