//! The formats do not drift: files that an earlier build wrote still verify, and today's build writes the same bytes.

use std::fs;
use std::path::PathBuf;

use surus_core::proof::Outcome;
use surus_store::{Filter, Store, verify_export};

use crate::sample::{change, proof, store_with};

/// What the last entry of the committed files must have as its hash.
const HEAD: &str = "8cddae58611dbc63208257b9f517b60083bfe2a965cf2906fce0d73d3ef38974";

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
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
    store.append(&proof("tls", "main", Outcome::Passed)).unwrap();
    store.append(&proof("passwords", "main", Outcome::Failed)).unwrap();
    store.append(&change("work_mem")).unwrap();
    let mut today = Vec::new();
    store.export(&mut today).unwrap();
    let committed = committed("ledger-1.jsonl", &today);
    let report = verify_export(committed.as_slice()).unwrap();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.entries, report.head_hash.as_str()), (3, HEAD));
    assert_eq!(String::from_utf8(today).unwrap(), String::from_utf8(committed).unwrap());
}

#[test]
fn the_committed_file_opens_and_verifies() {
    let (directory, path, store) = store_with(0);
    store.append(&proof("tls", "main", Outcome::Passed)).unwrap();
    store.append(&proof("passwords", "main", Outcome::Failed)).unwrap();
    store.append(&change("work_mem")).unwrap();
    let entries = store.entries(&Filter::default()).unwrap();
    drop(store);
    let copy = directory.path().join("old.db");
    fs::write(&copy, committed("surus-1.db", &fs::read(path).unwrap())).unwrap();
    let old = Store::open(&copy).unwrap();
    assert_eq!(old.verify_chain().unwrap().head_hash, HEAD);
    assert_eq!(old.entries(&Filter::default()).unwrap(), entries);
    assert_eq!(old.append(&change("work_mem")).unwrap().number, 4);
}
