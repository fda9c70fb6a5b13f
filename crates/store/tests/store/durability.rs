//! Several writers at once, and writers that are killed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, io, thread};

use surus_core::proof::Outcome;
use surus_store::{Filter, Store};

use crate::sample::{proof, store_with};

const PATH: &str = "SURUS_TEST_STORE";
const COUNT: &str = "SURUS_TEST_COUNT";
const ACKNOWLEDGED: &str = "acknowledged ";

/// What the children of the other tests run: opens the store and appends, saying each number once it is acknowledged.
#[test]
#[ignore = "started by other tests as a process of its own"]
fn child_that_appends() {
    let path = PathBuf::from(env::var_os(PATH).expect("only other tests start this one"));
    let count: u64 = env::var(COUNT).unwrap().parse().unwrap();
    let store = Store::open(&path).unwrap();
    let who = std::process::id().to_string();
    let mut out = io::stdout().lock();
    for _ in 0..count {
        let entry = store.append(&proof("kill", &who, Outcome::Passed)).unwrap();
        writeln!(out, "\n{ACKNOWLEDGED}{}", entry.number).unwrap();
        out.flush().unwrap();
    }
}

fn child(path: &Path, count: u64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "durability::child_that_appends", "--ignored", "--nocapture"])
        .env(PATH, path)
        .env(COUNT, count.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads what the child acknowledged until its end, however it ends.
fn acknowledged(child: &mut Child) -> Vec<i64> {
    let out = BufReader::new(child.stdout.take().unwrap());
    // A killed child may leave half a line, without its line feed.
    let mut numbers = Vec::new();
    for line in out.split(b'\n') {
        let line = String::from_utf8(line.unwrap()).unwrap();
        if let Some(number) = line.strip_prefix(ACKNOWLEDGED) {
            numbers.push(number.parse().unwrap());
        }
    }
    numbers
}

#[test]
fn processes_and_threads_append_to_one_chain() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("surus.db");
    // They also race to make the file.
    let mut children: Vec<Child> = (0..3).map(|_| child(&path, 20)).collect();
    let threads: Vec<_> = (0..3)
        .map(|number| {
            let path = path.clone();
            thread::spawn(move || {
                let store = Store::open(&path).unwrap();
                let append = |_| store.append(&proof("thread", &number.to_string(), Outcome::Passed)).unwrap().number;
                (0..20).map(append).collect::<Vec<i64>>()
            })
        })
        .collect();
    let mut numbers: Vec<i64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    for child in &mut children {
        numbers.extend(acknowledged(child));
        assert!(child.wait().unwrap().success());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=120).collect::<Vec<i64>>());
    let report = Store::open_read_only(&path).unwrap().verify_chain().unwrap();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(report.entries, 120);
}

#[test]
fn one_store_is_shared_by_threads() {
    let (_directory, _path, store) = store_with(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| drop(store.append(&proof("a", "b", Outcome::Passed)).unwrap())));
        }
    });
    assert_eq!(store.verify_chain().unwrap().entries, 40);
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("surus.db");
    let mut all = BTreeSet::new();
    let mut with_entries = 0;
    for round in 0..30_u64 {
        let mut children = [child(&path, u64::MAX), child(&path, u64::MAX)];
        // From before the file exists to well into appending; scattered, the same in each run.
        thread::sleep(Duration::from_millis(5 + round * 37 % 120));
        for child in &mut children {
            // SIGKILL.
            child.kill().unwrap();
        }
        let before = all.len();
        for child in &mut children {
            all.extend(acknowledged(child));
            child.wait().unwrap();
        }
        with_entries += usize::from(all.len() > before);
        if !path.exists() {
            assert!(all.is_empty(), "round {round}");
            continue;
        }
        let store = Store::open(&path).unwrap();
        let report = store.verify_chain().unwrap();
        assert!(report.is_intact(), "round {round}: {report:?}");
        let there: BTreeSet<i64> =
            store.entries(&Filter::default()).unwrap().into_iter().map(|entry| entry.number).collect();
        assert!(all.is_subset(&there), "round {round}: lost {:?}", all.difference(&there).collect::<Vec<_>>());
        // A child dies between an append and its word at most once a round.
        assert!(there.len() <= all.len() + 2 * (usize::try_from(round).unwrap() + 1));
    }
    assert!(with_entries >= 10, "the children hardly got to append: {with_entries} rounds");
}
