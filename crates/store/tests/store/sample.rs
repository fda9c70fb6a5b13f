//! Proofs to store.

use std::path::PathBuf;

use serde_json::json;
use surus_core::proof::{Measure, Outcome, Proof, ProofStep};
use surus_store::Store;
use tempfile::TempDir;

/// A proof of a kind about a subject, that counts through 2026.
pub fn proof(kind: &str, subject: &str, outcome: Outcome) -> Proof {
    Proof {
        kind: kind.to_owned(),
        items: vec![2, 5],
        cluster: "7301234567890123456".to_owned(),
        subject: subject.to_owned(),
        started_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        finished_at: "2026-01-02T03:04:06.5Z".parse().unwrap(),
        outcome,
        measured: vec![Measure::new("handshake", 12.25, "ms")],
        steps: vec![ProofStep {
            what: "connect with sslmode=verify-full".to_owned(),
            result: "TLSv1.3, \"TLS_AES_256_GCM_SHA384\"".to_owned(),
            duration_ms: 12.25,
        }],
        log_excerpt: "first line\nsecond: näh, 🐘\ttab".to_owned(),
        surus_version: "0.1.0".to_owned(),
        expires_at: Some("2027-01-01T00:00:00Z".parse().unwrap()),
        undo: None,
    }
}

/// A change with what takes it back.
pub fn change(subject: &str) -> Proof {
    Proof {
        items: Vec::new(),
        expires_at: None,
        undo: Some(json!({"sql": format!("ALTER SYSTEM RESET {subject}"), "was": {"value": 0.1, "source": null}})),
        ..proof("change", subject, Outcome::Passed)
    }
}

/// A new store in a directory of its own, with this many entries.
pub fn store_with(entries: i64) -> (TempDir, PathBuf, Store) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/surus.db");
    let store = Store::open(&path).unwrap();
    for number in 1..=entries {
        let entry = match number % 3 {
            0 => store.append(&change("work_mem")),
            1 => store.append(&proof("tls", &format!("db{number}"), Outcome::Passed)),
            _ => store.append(&proof("passwords", "main", Outcome::Failed)),
        };
        assert_eq!(entry.unwrap().number, number);
    }
    (directory, path, store)
}
