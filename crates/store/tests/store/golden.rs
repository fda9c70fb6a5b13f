//! The formats do not drift: files that an earlier build wrote still verify, and today's build writes the same bytes.

use std::fs;
use std::path::PathBuf;

use surus_core::proof::{Measure, Outcome, Proof};
use surus_store::{Filter, Store, verify_export};

use crate::sample::{change, proof, store_with};

/// What the last entry of the committed files must have as its hash.
const HEAD: &str = "cbc4b28eb762dd6567a24f28c12d8589358af95946b2c9fcfa87999ba9c995f0";

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn append_samples(store: &Store) {
    store.append(&proof("tls", "main", Outcome::Passed)).unwrap();
    store.append(&proof("passwords", "main", Outcome::Failed)).unwrap();
    store.append(&change("work_mem")).unwrap();
    let numbers = [12.0, 0.1, -0.0, 1e-5, 1.5e-6, 1e15, 1e16, f64::MAX, f64::MIN_POSITIVE];
    let measured = numbers.iter().map(|&value| Measure::new("n", value, "")).collect();
    let odd = "2026-01-02T03:04:05.000000001Z".parse().unwrap();
    let extremes = Proof {
        measured,
        started_at: odd,
        items: vec![],
        ..proof("extremes", "\u{0}\u{1f}\u{7f}\r\u{2028}/\\", Outcome::Passed)
    };
    store.append(&extremes).unwrap();
}

/// The committed files, made anew where `SURUS_TEST_BLESS` is set.
fn committed(name: &str, today: &[u8]) -> Vec<u8> {
    let path = golden(name);
    if std::env::var_os("SURUS_TEST_BLESS").is_some() {
        fs::write(&path, today).unwrap();
    }
    fs::read(&path).unwrap()
}

#[test]
fn the_committed_export_verifies_and_is_written_the_same_today() {
    let (_directory, _path, store) = store_with(0);
    append_samples(&store);
    let mut today = Vec::new();
    store.export(&mut today).unwrap();
    let committed = committed("ledger-1.jsonl", &today);
    let report = verify_export(committed.as_slice()).unwrap();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.entries, report.head_hash.as_str()), (4, HEAD));
    assert_eq!(String::from_utf8(today).unwrap(), String::from_utf8(committed).unwrap());
}

#[test]
fn the_committed_file_opens_and_verifies() {
    let (directory, path, store) = store_with(0);
    append_samples(&store);
    let entries = store.entries(&Filter::default()).unwrap();
    drop(store);
    let copy = directory.path().join("old.db");
    fs::write(&copy, committed("surus-1.db", &fs::read(path).unwrap())).unwrap();
    let old = Store::open(&copy).unwrap();
    assert_eq!(old.verify_chain().unwrap().head_hash, HEAD);
    assert_eq!(old.entries(&Filter::default()).unwrap(), entries);
    assert_eq!(old.append(&change("work_mem")).unwrap().number, 5);
}
