//! The format does not drift: a file that an earlier build wrote still reads the same, and can be added to.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use surus_core::series::{Hints, Matcher, MetricKind, STALE_BITS, Source as _, Window};
use surus_store::samples::{Event, QueryDelta, SampleStore, SessionSample, Settings};

use crate::series::{ALWAYS, START, append, settings, store};

const DAY: i64 = 86_400_000;

/// A day and some hours with every codec, gaps, a series that comes and goes, odd bits; then rows that are still fresh.
fn fill(store: &SampleStore) {
    for cycle in 1..=9000i64 {
        if cycle % 2003 == 7 {
            continue;
        }
        let wave = (cycle * 7919 % 1009) as f64;
        let odd = f64::from_bits(0x7ff8_0000_0000_0000 | cycle.unsigned_abs());
        let mut points = vec![
            ("steady", 5.0),
            ("tenth", 0.1),
            ("steps", (cycle * 8192) as f64),
            ("whole", (cycle * 100) as f64 + (wave % 13.0).floor()),
            ("float", wave / 7.0),
            ("odd", if cycle % 97 == 0 { odd } else { -0.0 }),
        ];
        if cycle % 1000 < 300 {
            points.push(("guest", wave));
        }
        append(store, START + cycle * 10_000, &points).unwrap();
    }
    store.describe(&[("steady", MetricKind::Gauge, "It does not change.")]).unwrap();
    let session = SessionSample { pid: 7, wait_event: Some("WALSync".to_owned()), ..SessionSample::default() };
    store.append_activity("main", START + DAY, &[session]).unwrap();
    let delta = QueryDelta { query_id: -5, calls: 3, exec_time_ms: 0.125, ..QueryDelta::default() };
    store.append_query_deltas("main", START + DAY, &[delta]).unwrap();
    store.remember_query_text("main", START, -5, "SELECT $1").unwrap();
    let detail = serde_json::json!({"was_up_s": 5});
    let (target, kind, title) = ("main".to_owned(), "restart".to_owned(), "The server was restarted".to_owned());
    store.append_event(&Event { at_ms: START, target, kind, title, detail, key: None }).unwrap();
    store.outbox("there", 1000).push(START, 2, b"12345").unwrap();
    store.maintain(START + 90_000_000).unwrap();
}

/// All that a reader can ask, as text: one line per question with a checksum of the answer's bits.
fn told(store: &SampleStore) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let hour = |function| Hints { step_ms: 3_600_000, range_ms: 3_600_000, function };
    let day = Window { after_ms: START, until_ms: START + DAY };
    for (name, window, hints) in [
        ("all", ALWAYS, Hints::default()),
        ("max", day, hour(Some("max_over_time"))),
        ("min", day, hour(Some("min_over_time"))),
    ] {
        for series in store.select(&[], window, hints).unwrap() {
            // FNV-1a over times and bits.
            let mut sum = 0xcbf2_9ce4_8422_2325u64;
            let mut ends = 0;
            for (at, value) in series.at_ms.iter().zip(&series.values) {
                ends += usize::from(value.to_bits() == STALE_BITS);
                for byte in at.to_le_bytes().into_iter().chain(value.to_bits().to_le_bytes()) {
                    sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
            }
            writeln!(text, "{name} {} {} samples, {ends} ends, {sum:016x}", series.labels, series.values.len())
                .unwrap();
        }
    }
    writeln!(text, "{:?}", store.activity("main", ALWAYS).unwrap()).unwrap();
    writeln!(text, "{:?}", store.query_deltas("main", ALWAYS).unwrap()).unwrap();
    writeln!(text, "{:?}", store.query_text("main", -5).unwrap()).unwrap();
    writeln!(text, "{:?}", store.events(None, ALWAYS).unwrap()).unwrap();
    writeln!(text, "{:?}", store.metadata(None).unwrap()).unwrap();
    writeln!(text, "{:?}", store.outbox("there", 1000).next().unwrap()).unwrap();
    text
}

fn golden(name: &str, today: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("SURUS_TEST_BLESS").is_some() {
        fs::write(&path, today).unwrap();
    }
    fs::read(&path).unwrap()
}

#[test]
fn the_committed_file_reads_as_it_did() {
    let (directory, path, store) = store();
    fill(&store);
    let today = told(&store);
    drop(store);
    let committed = String::from_utf8(golden("samples-1.txt", today.as_bytes())).unwrap();
    assert_eq!(today, committed, "what today's build writes");
    let copy = directory.path().join("old.db");
    fs::write(&copy, golden("samples-1.db", &fs::read(path).unwrap())).unwrap();
    let old = SampleStore::open(&copy, settings()).unwrap();
    assert_eq!(told(&old), committed, "what an earlier build wrote");
    append(&old, START + 9001 * 10_000, &[("steady", 6.0)]).unwrap();
    old.maintain(START + 3 * DAY).unwrap();
    let found = old.select(&[Matcher::metric("steady")], ALWAYS, Hints::default()).unwrap();
    assert_eq!(found[0].values.last(), Some(&6.0));
    drop(old);
    let keep = Duration::from_secs(3600);
    let short = SampleStore::open(&copy, Settings { keep, ..settings() }).unwrap();
    assert!(short.maintain(START + 10 * DAY).unwrap().expired > 12);
}
