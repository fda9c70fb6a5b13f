//! What `bench/store/run` starts, in a release build: says what it measured as one line of JSON.

use std::collections::HashMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;

use serde_json::{Value, json};
use surus_core::clock::Stopwatch;
use surus_core::series::{Hints, Labels, Matcher, Source as _, Window};
use surus_store::samples::{Batch, Grain, QueryDelta, SampleStore, SessionSample, Settings};

use crate::series::START;

const STEP: i64 = 10_000;

fn variable(name: &str) -> String {
    env::var(format!("SURUS_BENCH_{name}")).unwrap_or_else(|_| panic!("bench/store/run sets SURUS_BENCH_{name}"))
}

fn number(name: &str) -> i64 {
    variable(name).parse().unwrap()
}

fn say(value: &Value) {
    writeln!(io::stdout().lock(), "\nmeasured {value}").unwrap();
}

/// CPU seconds of this process so far, in steps of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak_rss_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Series with what each has in every cycle.
struct Mix {
    labels: Vec<Labels>,
    recorded: Option<Vec<Vec<Option<f64>>>>,
    state: Vec<(u64, f64)>,
}

impl Mix {
    /// 40 % constant, 25 % slow counters, 20 % fast ones, 10 % small whole gauges, 5 % floats that do not compress; or
    /// a recording.
    fn new() -> Self {
        match variable("MIX").as_str() {
            "synthetic" => {
                let count = number("SERIES");
                let label = |id: i64| {
                    let (metric, table) = (format!("pg_metric_{}_total", id / 100), format!("table_{}", id % 100));
                    let pairs = [("__name__", metric.as_str()), ("relname", &table), ("datname", "bank")];
                    let all =
                        pairs.into_iter().chain([("job", "postgres"), ("instance", "main"), ("server", "db:5432")]);
                    Labels::new(all).unwrap()
                };
                let state = (0..count).map(|id| (0x9e37_79b9_7f4a_7c15 ^ id as u64, (id * 1000) as f64)).collect();
                Self { labels: (0..count).map(label).collect(), recorded: None, state }
            }
            path => Self::load(path),
        }
    }

    fn load(path: &str) -> Self {
        let mut lines = BufReader::new(File::open(path).unwrap()).lines().map(Result::unwrap);
        let series: Vec<HashMap<String, String>> = serde_json::from_str(&lines.next().unwrap()).unwrap();
        let labels = series.into_iter().map(|pairs| Labels::new(pairs).unwrap()).collect();
        let value = |value: &Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.parse::<f64>().unwrap()),
            number => number.as_f64(),
        };
        let row = |line: String| serde_json::from_str::<Vec<Value>>(&line).unwrap().iter().map(value).collect();
        Self { labels, recorded: Some(lines.map(row).collect()), state: Vec::new() }
    }

    fn row(&mut self, cycle: usize) -> Vec<Option<f64>> {
        if let Some(recorded) = &self.recorded {
            return recorded[cycle % recorded.len()].clone();
        }
        let next = |(at, (random, value)): (usize, &mut (u64, f64))| {
            // xorshift64* (Vigna 2016).
            *random ^= *random >> 12;
            *random ^= *random << 25;
            *random ^= *random >> 27;
            let drawn = random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
            let unit = drawn as f64 / (1u64 << 53) as f64;
            match at % 20 {
                0..8 => {}
                8..13 => *value += if unit < 0.1 { (drawn % 5) as f64 } else { 0.0 },
                13..17 => *value += (unit * 400.0).floor() + 800.0,
                17..19 => *value = (unit * 20.0).floor(),
                _ => *value = unit,
            }
            Some(*value)
        };
        self.state.iter_mut().enumerate().map(next).collect()
    }
}

fn path() -> PathBuf {
    PathBuf::from(variable("PATH"))
}

fn open() -> SampleStore {
    SampleStore::open(&path(), Settings::default()).unwrap()
}

/// Appends so many cycles as one target's cycles arrive, maintaining each simulated minute.
#[test]
#[ignore = "started by bench/store/run in a release build"]
fn ingest() {
    let mut mix = Mix::new();
    let cycles = usize::try_from(number("CYCLES")).unwrap();
    let say_each = env::var_os("SURUS_BENCH_SAY").is_some();
    let store = open();
    let (mut samples, mut append_ms, mut maintain_ms, mut longest_ms) = (0usize, 0.0, 0.0, 0.0f64);
    let (mut append_cpu, mut maintain_cpu) = (0.0, 0.0);
    for cycle in 0..cycles {
        let at_ms = START + (cycle as i64 + 1) * STEP;
        let row = mix.row(cycle);
        let points: Vec<(Labels, f64)> =
            mix.labels.iter().zip(row).filter_map(|(labels, value)| Some((labels.clone(), value?))).collect();
        let (watch, cpu) = (Stopwatch::start(), cpu_seconds());
        store.append(&Batch { target: "main", group: "all", at_ms, every_ms: STEP, points: &points }).unwrap();
        let took = watch.elapsed_ms();
        append_ms += took;
        append_cpu += cpu_seconds() - cpu;
        longest_ms = longest_ms.max(took);
        samples += points.len();
        if say_each {
            writeln!(io::stdout().lock(), "\nacknowledged {cycle}").unwrap();
        }
        if cycle % 6 == 5 {
            let (watch, cpu) = (Stopwatch::start(), cpu_seconds());
            store.maintain(at_ms).unwrap();
            maintain_ms += watch.elapsed_ms();
            maintain_cpu += cpu_seconds() - cpu;
        }
    }
    let end = START + cycles as i64 * STEP;
    let wal = |ending: &str| fs::metadata(format!("{}{ending}", variable("PATH"))).map_or(0, |file| file.len());
    // What is left of a stretch that is not over waits in rows; a day later there is none.
    let (watch, cpu) = (Stopwatch::start(), cpu_seconds());
    store.maintain(end + 86_400_000).unwrap();
    maintain_ms += watch.elapsed_ms();
    maintain_cpu += cpu_seconds() - cpu;
    let wal_bytes = wal("-wal");
    let series = store.series_count();
    drop(store);
    say(
        &json!({"series": series, "cycles": cycles, "samples": samples, "append_ms": append_ms, "maintain_ms": maintain_ms,
        "append_cpu_s": append_cpu, "maintain_cpu_s": maintain_cpu, "longest_append_ms": longest_ms,
        "file_bytes": wal(""), "wal_bytes": wal_bytes, "rss_mib": peak_rss_mib()}),
    );
}

/// Reads 24 hours of 200 series, several times.
#[test]
#[ignore = "started by bench/store/run in a release build"]
fn read() {
    let store = open();
    let window = Window { after_ms: START, until_ms: START + 86_400_000 };
    let two_hundred = [Matcher::new("__name__", surus_core::series::Op::Regex, "pg_metric_[34]_total").unwrap()];
    let mut took = Vec::new();
    let mut samples = 0;
    let cpu = cpu_seconds();
    for _ in 0..25 {
        let watch = Stopwatch::start();
        let found = store.select(&two_hundred, window, Hints::default()).unwrap();
        took.push(watch.elapsed_ms());
        samples = found.iter().map(|series| series.values.len()).sum::<usize>();
    }
    let cpu_ms = (cpu_seconds() - cpu) * 1000.0 / took.len() as f64;
    say(&json!({"samples": samples, "took_ms": took, "cpu_ms": cpu_ms, "rss_mib": peak_rss_mib()}));
}

/// Opens the store, reads the newest cycle and appends one.
#[test]
#[ignore = "started by bench/store/run in a release build"]
fn recover() {
    let watch = Stopwatch::start();
    let store = open();
    let opened = watch.elapsed_ms();
    let window = Window { after_ms: START, until_ms: i64::MAX / 4 };
    let one = [Matcher::metric("pg_metric_0_total"), Matcher::equal("relname", "table_0")];
    let found = store.select(&one, window, Hints::default()).unwrap();
    let last = found.first().and_then(|series| series.at_ms.last().copied()).unwrap_or(START);
    let point = [(Labels::new([("__name__", "back"), ("instance", "main")]).unwrap(), 1.0)];
    let batch = Batch { target: "main", group: "other", at_ms: last, every_ms: STEP, points: &point };
    store.append(&batch).unwrap();
    say(&json!({"open_ms": opened, "ready_ms": watch.elapsed_ms(), "last_cycle": (last - START) / STEP - 1,
        "series": store.series_count(), "rss_mib": peak_rss_mib()}));
}

/// The same series as OpenMetrics text, for `promtool tsdb create-blocks-from openmetrics`.
#[test]
#[ignore = "started by bench/store/run in a release build"]
fn openmetrics() {
    let mut mix = Mix::new();
    let cycles = usize::try_from(number("CYCLES")).unwrap();
    let mut out = BufWriter::new(File::create(path()).unwrap());
    let quote = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let names: Vec<String> = mix
        .labels
        .iter()
        .map(|labels| {
            let pairs = labels.iter().filter(|(name, _)| *name != "__name__");
            let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}=\"{}\"", quote(value))).collect();
            format!("{}{{{}}}", labels.metric().unwrap(), pairs.join(","))
        })
        .collect();
    // A metric's lines must stand together.
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|at| mix.labels[*at].metric().unwrap().to_owned());
    let rows: Vec<Vec<Option<f64>>> = (0..cycles).map(|cycle| mix.row(cycle)).collect();
    let mut before = String::new();
    for at in order {
        let metric = mix.labels[at].metric().unwrap().to_owned();
        if metric != before {
            writeln!(out, "# TYPE {metric} unknown").unwrap();
            before = metric;
        }
        for (cycle, row) in rows.iter().enumerate() {
            if let Some(value) = row.get(at).copied().flatten() {
                let seconds = (START + (cycle as i64 + 1) * STEP) / 1000;
                let value = if value.is_nan() { "NaN".to_owned() } else { format!("{value}") };
                let value = value.replace("inf", "+Inf").replace("-+", "-");
                writeln!(out, "{} {value} {seconds}", names[at]).unwrap();
            }
        }
    }
    writeln!(out, "# EOF").unwrap();
}

fn random(state: &mut u64) -> usize {
    // xorshift64* (Vigna 2016).
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
}

/// Looks of a busy server, one a second: few statements are most of them, most sessions stay what they are.
fn fill_activity(store: &SampleStore, looks: i64, samples: usize) {
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let waits = [
        (None, None),
        (Some("LWLock"), Some("WALInsert")),
        (Some("Lock"), Some("transactionid")),
        (Some("IO"), Some("DataFileRead")),
        (Some("IO"), Some("WALSync")),
    ];
    let text = |text: &str| Some(text.to_owned());
    for look in 1..=looks {
        let session = |at: usize| {
            let (kind, wait) = waits[random(&mut seed) % 5];
            SessionSample {
                pid: 100_000 + at as i32,
                database: text(["bank", "shop", "warehouse"][at % 3]),
                user: Some(format!("service_{}", at % 7)),
                application: Some(format!("payments-api {}", at % 11)),
                client: Some(format!("10.20.{}.{}", at % 5, at % 250)),
                backend_type: text("client backend"),
                state: text("active"),
                wait_event_type: kind.map(str::to_owned),
                wait_event: wait.map(str::to_owned),
                query_id: Some((random(&mut seed) % 30 * (random(&mut seed) % 20)) as i64 * 7_919_104_729_131_313),
                blocked_by: if kind == Some("Lock") { vec![100_000] } else { vec![] },
                transaction_age_ms: Some((random(&mut seed) % 3000) as i64),
                query_age_ms: Some((random(&mut seed) % 300) as i64),
                leader_pid: None,
            }
        };
        let count = samples * look as usize / looks as usize - samples * (look as usize - 1) / looks as usize;
        let sessions: Vec<SessionSample> = (0..count).map(session).collect();
        store.append_activity("main", START + look * 1000, &sessions).unwrap();
    }
}

/// Goes over all active sessions, and over what statements added, as the pages do.
#[test]
#[ignore = "started by bench/store/run in a release build"]
fn records() {
    let (looks, samples, minutes) = (number("LOOKS"), usize::try_from(number("SAMPLES")).unwrap(), number("MINUTES"));
    let store = open();
    fill_activity(&store, looks, samples);
    let mut seed = 0x2545_f491_4f6c_dd1d;
    for minute in 1..=minutes {
        let delta = |at: i64| QueryDelta {
            query_id: at * 7_919_104_729_131_313,
            user: format!("service_{}", at % 7),
            database: ["bank", "shop", "warehouse"][at as usize % 3].to_owned(),
            calls: (random(&mut seed) % 5000) as i64,
            rows: (random(&mut seed) % 50_000) as i64,
            exec_time_ms: random(&mut seed) as f64 / 7e5,
            shared_blocks_hit: (random(&mut seed) % 500_000) as i64,
            shared_blocks_read: (random(&mut seed) % 5000) as i64,
            wal_records: (random(&mut seed) % 5000) as i64,
            wal_bytes: (random(&mut seed) % 500_000) as i64,
            read_time_ms: random(&mut seed) as f64 / 7e7,
            ..QueryDelta::default()
        };
        let deltas: Vec<QueryDelta> = (0..500).map(delta).collect();
        store.append_query_deltas("main", START + minute * 60_000, &deltas).unwrap();
        if minute % 600 == 0 {
            store.maintain(START + minute * 60_000).unwrap();
        }
    }
    let end = START + (minutes * 60_000).max(looks * 1000);
    store.maintain(end).unwrap();
    store.maintain(end + 7_200_000).unwrap();
    let ever = Window { after_ms: START, until_ms: end };
    let (mut activity_ms, mut looked, cpu) = (Vec::new(), 0, cpu_seconds());
    for _ in 0..15 {
        let watch = Stopwatch::start();
        looked = by_query_user_wait_blocker(&store, ever);
        activity_ms.push(watch.elapsed_ms());
    }
    let activity_cpu_ms = (cpu_seconds() - cpu) / activity_ms.len() as f64 * 1000.0;
    let watch = Stopwatch::start();
    let owned: usize = store.activity("main", ever).unwrap().iter().map(|look| look.sessions.len()).sum();
    let owned_ms = watch.elapsed_ms();
    assert_eq!((looked, owned), (samples, samples));
    let sums = |grain| {
        let watch = Stopwatch::start();
        let (sums, scanned) = by_query(&store, ever, grain);
        (watch.elapsed_ms(), scanned, sums)
    };
    let (moments, hours) = (sums(Grain::Moments), sums(Grain::Hours));
    assert!(moments.2.len() == 500 && moments.2.iter().all(|(query, calls)| hours.2[query] == *calls));
    let cpu = cpu_seconds();
    let hours_ms: Vec<f64> = (0..15).map(|_| sums(Grain::Hours).0).collect();
    let hours_cpu_ms = (cpu_seconds() - cpu) / hours_ms.len() as f64 * 1000.0;
    say(&json!({"looks": looks, "samples": samples, "activity_ms": activity_ms, "activity_cpu_ms": activity_cpu_ms,
        "hours_cpu_ms": hours_cpu_ms, "owned_ms": owned_ms,
        "deltas": moments.1, "moments_ms": moments.0, "sums": hours.1, "hours_ms": hours_ms,
        "file_bytes": fs::metadata(path()).unwrap().len(), "rss_mib": peak_rss_mib()}));
}

type Counts = HashMap<String, u64>;

/// What a brush over the page of activity asks for, all at once; how many sessions there were.
fn by_query_user_wait_blocker(store: &SampleStore, window: Window) -> usize {
    fn count(counts: &mut Counts, key: &str) {
        match counts.get_mut(key) {
            Some(count) => *count += 1,
            None => drop(counts.insert(key.to_owned(), 1)),
        }
    }
    type Sum = (HashMap<i64, u64>, Counts, Counts, HashMap<i32, u64>);
    let (sum, scanned) = store
        .fold_activity(
            "main",
            window,
            Sum::default,
            |(queries, users, waits, blockers), look| {
                for session in look.sessions {
                    *queries.entry(session.query_id.unwrap_or_default()).or_default() += 1;
                    count(users, session.user.as_deref().unwrap_or_default());
                    count(waits, session.wait_event.as_deref().unwrap_or("CPU"));
                    session.blocked_by.iter().for_each(|pid| *blockers.entry(*pid).or_default() += 1);
                }
            },
            |sum, other| {
                other.0.into_iter().for_each(|(key, count)| *sum.0.entry(key).or_default() += count);
                other.1.into_iter().for_each(|(key, count)| *sum.1.entry(key).or_default() += count);
                other.2.into_iter().for_each(|(key, count)| *sum.2.entry(key).or_default() += count);
                other.3.into_iter().for_each(|(key, count)| *sum.3.entry(key).or_default() += count);
            },
        )
        .unwrap();
    assert_eq!(sum.2.values().sum::<u64>(), scanned.records as u64);
    scanned.records
}

fn by_query(store: &SampleStore, window: Window, grain: Grain) -> (HashMap<i64, i64>, usize) {
    let see = |sums: &mut HashMap<i64, i64>, _, delta: &surus_store::samples::QueryDeltaRef<'_>| {
        *sums.entry(delta.query_id).or_default() += delta.calls;
    };
    let merge = |sums: &mut HashMap<i64, i64>, other: HashMap<i64, i64>| {
        other.into_iter().for_each(|(query, calls)| *sums.entry(query).or_default() += calls);
    };
    let (sums, scanned) = store.fold_query_deltas("main", window, grain, HashMap::new, see, merge).unwrap();
    (sums, scanned.records)
}
