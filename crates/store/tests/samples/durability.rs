//! A writer that is killed, a disk that is full, a file that was changed.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, io, thread};

use surus_core::series::{Hints, Labels, Source as _};
use surus_store::StoreError;
use surus_store::samples::{Batch, SampleStore, SessionSample};

use crate::series::{ALWAYS, START, all, append, labels, settings, store};

const PATH: &str = "SURUS_TEST_SAMPLES";
const CYCLES: &str = "SURUS_TEST_CYCLES";
const ACKNOWLEDGED: &str = "acknowledged ";
const REFUSED: &str = "refused ";

/// A cycle whose values tell its number.
fn cycle(store: &SampleStore, number: i64) -> surus_store::Result<()> {
    let points: Vec<(Labels, f64)> =
        (0..40).map(|series| (labels(&format!("m{series}"), "main"), (number * 100 + series) as f64)).collect();
    let at_ms = START + number * 10_000;
    store.append(&Batch { target: "main", group: "g", at_ms, every_ms: 10_000, points: &points })?;
    store.append_activity("main", at_ms, &[SessionSample::default()])
}

/// What the children of the other tests run: appends, folds, and says each cycle once it is acknowledged.
#[test]
#[ignore = "started by other tests as a process of its own"]
fn child_that_appends() {
    let path = PathBuf::from(env::var_os(PATH).expect("only other tests start this one"));
    let cycles: i64 = env::var(CYCLES).unwrap().parse().unwrap();
    let store = SampleStore::open(&path, settings()).unwrap();
    let first =
        all(&store, ALWAYS).get("m0").and_then(|samples| samples.last().copied()).map_or(0, |(at, _)| at / 10_000 + 1);
    let mut out = io::stdout().lock();
    for number in first..first + cycles {
        match cycle(&store, number) {
            Ok(()) => writeln!(out, "\n{ACKNOWLEDGED}{number}").unwrap(),
            Err(error) => writeln!(out, "\n{REFUSED}{} {error}", error.code()).unwrap(),
        }
        out.flush().unwrap();
        if number % 50 == 49 {
            // An error is what the test is about; the next cycle says whether it went on.
            let _folded = store.maintain(START + number * 10_000);
        }
    }
}

fn child(command: &mut Command, path: &Path, cycles: i64) -> Child {
    command
        .args(["--exact", "durability::child_that_appends", "--ignored", "--nocapture"])
        .env(PATH, path)
        .env(CYCLES, cycles.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The lines that the child wrote, until its end, however it ends.
fn lines(child: &mut Child) -> Vec<String> {
    let out = BufReader::new(child.stdout.take().unwrap());
    // A killed child may leave half a line, without its line feed.
    out.split(b'\n').map(|line| String::from_utf8(line.unwrap()).unwrap()).collect()
}

/// Every cycle is there with all its values, from the first to the last.
fn is_whole(store: &SampleStore) -> i64 {
    let found = all(store, ALWAYS);
    let mut last = -1;
    for (metric, samples) in &found {
        let series: i64 = metric[1..].parse().unwrap();
        for (number, (at, value)) in samples.iter().enumerate() {
            let number = i64::try_from(number).unwrap();
            assert_eq!((*at, *value), (number * 10_000, Some((number * 100 + series) as f64)), "{metric}");
            last = number;
        }
    }
    assert!(found.is_empty() || found.len() == 40);
    last
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_writer_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("samples.db");
    let mut before = -1;
    for round in 0..12u64 {
        let mut child = child(&mut Command::new(env::current_exe().unwrap()), &path, 1_000_000);
        // At any moment: while it opens, appends, folds or deletes.
        thread::sleep(Duration::from_millis(40 + round * round * 7919 % 700));
        child.kill().unwrap();
        let lines = lines(&mut child);
        child.wait().unwrap();
        assert!(!lines.iter().any(|line| line.starts_with(REFUSED)), "{lines:?}");
        let said = lines.iter().rev().find_map(|line| line.strip_prefix(ACKNOWLEDGED)?.parse::<i64>().ok());
        let store = SampleStore::open(&path, settings()).unwrap();
        let last = is_whole(&store);
        // More than what was said may be there: it was killed before it could say so.
        assert!(last >= said.unwrap_or(before), "{last} of {said:?}");
        let looks: HashSet<i64> = store.activity("main", ALWAYS).unwrap().iter().map(|look| look.at_ms).collect();
        let all_said = lines.iter().filter_map(|line| line.strip_prefix(ACKNOWLEDGED)?.parse::<i64>().ok());
        assert!(all_said.into_iter().all(|number| looks.contains(&(START + number * 10_000))));
        before = last;
        drop(store);
    }
    assert!(before > 100, "only {before} cycles in all rounds");
    let store = SampleStore::open(&path, settings()).unwrap();
    cycle(&store, before + 1).unwrap();
    store.maintain(START + 864_000_000).unwrap();
    assert_eq!(is_whole(&store), before + 1);
}

#[test]
fn a_full_disk_is_said_and_damages_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("samples.db");
    drop(SampleStore::open(&path, settings()).unwrap());
    // No file may become larger than 600 KiB; the signal that would end the process is ignored, as a full disk sends
    // none.
    let mut shell = Command::new("sh");
    let exe = env::current_exe().unwrap();
    shell.args(["-c", "trap '' XFSZ; ulimit -f 1200; exec \"$0\" \"$@\""]).arg(exe);
    let mut full = child(&mut shell, &path, 2500);
    let lines_of_full = lines(&mut full);
    assert!(full.wait().unwrap().success());
    let refused: Vec<&String> = lines_of_full.iter().filter(|line| line.starts_with(REFUSED)).collect();
    assert!(refused.len() > 10, "{}", lines_of_full.len());
    assert!(refused.iter().all(|line| line.contains("SURUS-S002")), "{:?}", refused.first());
    let said: Vec<i64> =
        lines_of_full.iter().filter_map(|line| line.strip_prefix(ACKNOWLEDGED)?.parse().ok()).collect();
    let store = SampleStore::open(&path, settings()).unwrap();
    let found: Vec<i64> = all(&store, ALWAYS)["m7"].iter().map(|(at, _)| at / 10_000).collect();
    // Cycles that were refused are not there, and those that were acknowledged are; an appended cycle whose sessions
    // had no room is there without having been acknowledged.
    assert!(said.iter().all(|number| found.contains(number)), "{} of {}", said.len(), found.len());
    cycle(&store, 3000).unwrap();
    store.maintain(START + 864_000_000).unwrap();
    assert_eq!(all(&store, ALWAYS)["m7"].len(), found.len() + 1);
}

#[test]
fn a_changed_byte_is_an_error_and_never_another_number() {
    let (directory, path, store) = store();
    for number in 0..1000 {
        let wave = ((number * 7919) % 1009) as f64 / 7.0;
        append(&store, START + number * 10_000, &[("float", wave), ("whole", number as f64), ("same", 5.0)]).unwrap();
    }
    store.maintain(START + 10_000_000).unwrap();
    let right = all(&store, ALWAYS);
    drop(store);
    let bytes = fs::read(&path).unwrap();
    let copy = directory.path().join("copy.db");
    let (mut noticed, mut silent) = (0, 0);
    // A step that is no divisor of the page size, so that every place of a page comes up.
    for at in (100..bytes.len()).step_by(1531) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x41;
        fs::write(&copy, changed).unwrap();
        let read = SampleStore::open(&copy, settings()).and_then(|store| {
            store.select(&[], ALWAYS, Hints::default()).map_err(|error| StoreError::Refused { why: error.to_string() })
        });
        match read {
            Err(_) => noticed += 1,
            Ok(found) => {
                silent += 1;
                for series in found {
                    let expected = &right[series.labels.metric().unwrap()];
                    let samples: Vec<(i64, Option<f64>)> =
                        series.at_ms.iter().zip(&series.values).map(|(at, value)| (at - START, Some(*value))).collect();
                    assert!(
                        samples.iter().all(|sample| expected.contains(sample)),
                        "the byte at {at} of {}",
                        series.labels
                    );
                }
            }
        }
        let _gone = fs::remove_file(directory.path().join("copy.db-wal"));
        let _gone = fs::remove_file(directory.path().join("copy.db-shm"));
    }
    // Bytes of free pages and of indexes that were not read hurt nobody.
    assert!(noticed > 0 && noticed + silent > 50, "{noticed} noticed, {silent} not");
}

/// Changes bytes behind the store's back.
fn spoil(path: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(path).unwrap();
    assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
}

#[test]
fn what_cannot_be_read_is_said_once_and_does_not_hold_up_the_rest() {
    let (_directory, path, store) = store();
    for number in 1..=8700 {
        append(&store, START + number * 10_000, &[("a", (number * number % 1013) as f64 / 3.0), ("b", number as f64)])
            .unwrap();
    }
    drop(store);
    spoil(&path, "UPDATE fresh SET data = zeroblob(length(data)) WHERE at_ms = 1767225600000 + 500000");
    let store = SampleStore::open(&path, settings()).unwrap();
    assert!(store.select(&[], ALWAYS, Hints::default()).is_err());
    let error = store.maintain(START + 80_000_000).unwrap_err();
    assert!(error.to_string().contains("its checksum is wrong"), "{error}");
    store.maintain(START + 80_000_000).unwrap();
    assert_eq!(all(&store, ALWAYS)["b"].len(), 8699);
    drop(store);
    spoil(&path, "UPDATE chunk SET data = zeroblob(length(data)) WHERE id = (SELECT min(id) FROM chunk)");
    let store = SampleStore::open(&path, settings()).unwrap();
    let ask = |metric| store.select(&[surus_core::series::Matcher::metric(metric)], ALWAYS, Hints::default());
    assert!(ask("a").unwrap_err().to_string().contains("SURUS-S003"));
    assert_eq!(ask("b").unwrap()[0].values.len(), 8699);
    assert!(store.maintain(START + 90_000_000).is_err());
    let done = store.maintain(START + 90_000_000).unwrap();
    assert_eq!(done.aggregates, 0);
    let hints = Hints { step_ms: 3_600_000, range_ms: 3_600_000, function: Some("max_over_time") };
    let window = surus_core::series::Window { after_ms: START, until_ms: START + 86_400_000 };
    let found = store.select(&[], window, hints).unwrap();
    assert_eq!((found[0].values.len(), found[1].values.len()), (22, 24));
}

#[test]
fn a_newer_format_and_other_files_are_left_alone() {
    let (directory, path, store) = store();
    drop(store);
    let other = directory.path().join("surus.db");
    drop(surus_store::Store::open(&other).unwrap());
    assert!(matches!(SampleStore::open(&other, settings()), Err(StoreError::Damaged { .. })));
    assert!(matches!(surus_store::Store::open(&path), Err(StoreError::Damaged { .. })));
    use std::os::unix::fs::PermissionsExt as _;
    for file in ["samples.db", "samples.db-lock"] {
        assert_eq!(fs::metadata(directory.path().join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
}
