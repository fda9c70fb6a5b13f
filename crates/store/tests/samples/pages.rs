//! A day of one server for `bench/pages/run`: what the instance page asks, sessions, statements. It is only
//! filled here; what is measured is `surus serve` over it.

use std::env;
use std::path::PathBuf;

use surus_core::series::Labels;
use surus_store::samples::{Batch, QueryDelta, SampleStore, SessionSample, Settings};

const DAY_MS: i64 = 86_400_000;
const CYCLE_MS: i64 = 10_000;
const MINUTE_MS: i64 = 60_000;
const DATABASES: [&str; 3] = ["bank", "shop", "warehouse"];
/// Classes of waits with an event of each; the first stands for none.
const WAITS: [(&str, &str); 5] =
    [("CPU", ""), ("LWLock", "WALInsert"), ("Lock", "transactionid"), ("IO", "DataFileRead"), ("IO", "WALSync")];
/// Counters of each database, with what one adds in a second, about.
const COUNTERS: [(&str, f64); 10] = [
    ("pg_stat_database_xact_commit", 900.0),
    ("pg_stat_database_xact_rollback", 3.0),
    ("pg_stat_database_blks_hit", 52_000.0),
    ("pg_stat_database_blks_read", 700.0),
    ("pg_stat_database_temp_bytes", 90_000.0),
    ("pg_stat_database_tup_inserted", 400.0),
    ("pg_stat_database_tup_updated", 800.0),
    ("pg_stat_database_tup_deleted", 50.0),
    ("pg_stat_database_deadlocks", 0.001),
    ("pg_stat_database_conflicts", 0.0),
];
/// Counters of the whole server.
const OWN: [(&str, f64); 5] = [
    ("surus_statements_seconds_total", 2.7),
    ("surus_statements_calls_total", 2800.0),
    ("pg_stat_wal_bytes_total", 3_500_000.0),
    ("pg_stat_checkpointer_num_timed_total", 0.0033),
    ("pg_stat_checkpointer_num_requested_total", 0.0005),
];
/// Of each table, once a minute.
const OF_TABLES: [&str; 10] = [
    "pg_stat_user_tables_n_live_tup",
    "pg_stat_user_tables_n_dead_tup",
    "pg_stat_user_tables_seq_scan",
    "pg_stat_user_tables_seq_tup_read",
    "pg_stat_user_tables_idx_scan",
    "pg_stat_user_tables_n_tup_ins",
    "pg_stat_user_tables_n_tup_upd",
    "pg_stat_user_tables_n_tup_del",
    "pg_stat_user_tables_table_size_bytes",
    "pg_stat_user_tables_index_size_bytes",
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        // xorshift64* (Vigna 2016).
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
    }

    /// From 0.5 to 1.5.
    fn about_one(&mut self) -> f64 {
        0.5 + (self.next() % 1000) as f64 / 1000.0
    }
}

fn variable(name: &str) -> String {
    env::var(format!("SURUS_BENCH_{name}")).unwrap_or_else(|_| panic!("bench/pages/run sets SURUS_BENCH_{name}"))
}

fn labels(name: &str, more: &[(&str, &str)]) -> Labels {
    let own = [("__name__", name), ("instance", "shop"), ("job", "postgres"), ("server", "db1:5432")];
    Labels::new(own.into_iter().chain(more.iter().copied())).unwrap()
}

/// A series, how it goes on, and where it is.
type Going = (Labels, f64, bool, f64);

/// Counters first, then gauges; those of tables apart.
fn series(tables: usize) -> (Vec<Going>, Vec<Going>) {
    let mut often: Vec<Going> = Vec::new();
    for database in DATABASES {
        let of = |name: &str| labels(name, &[("datname", database), ("datid", "5")]);
        often.extend(COUNTERS.iter().map(|(name, rate)| (of(name), *rate, true, 1e9)));
        often.push((of("pg_stat_database_numbackends"), 20.0, false, 0.0));
        often.push((of("pg_database_size_bytes"), 4e9, false, 0.0));
        often.push((labels("pg_locks_waiting", &[("datname", database)]), 0.4, false, 0.0));
        for state in ["active", "idle", "idle in transaction"] {
            often.push((labels("pg_stat_activity_count", &[("datname", database), ("state", state)]), 7.0, false, 0.0));
        }
    }
    often.extend(OWN.iter().map(|(name, rate)| (labels(name, &[]), *rate, true, 1e6)));
    for wait in ["CPU", "LWLock", "Lock", "IO", "IPC", "Client"] {
        often.push((labels("surus_active_sessions", &[("wait_event_type", wait)]), 1.2, false, 0.0));
    }
    often.push((labels("pg_settings_max_connections", &[]), 0.0, false, 200.0));
    let mut seldom = Vec::new();
    for table in 0..tables {
        let table = format!("table_{table}");
        let of = |name: &&str| labels(name, &[("datname", "shop"), ("schemaname", "public"), ("relname", &table)]);
        seldom.extend(OF_TABLES.iter().map(|name| (of(name), 3.0, true, 1e5)));
    }
    (often, seldom)
}

fn append(store: &SampleStore, group: &str, (at_ms, every_ms): (i64, i64), all: &mut [Going], random: &mut Random) {
    let next = |(labels, rate, counts, value): &mut Going| {
        let step = *rate * random.about_one();
        match (*counts, *rate > 0.0) {
            (true, _) => *value += (step * every_ms as f64 / 1000.0 * 1000.0).round() / 1000.0,
            (false, true) => *value = (step * 1000.0).round() / 1000.0,
            (false, false) => {}
        }
        (labels.clone(), *value)
    };
    let points: Vec<(Labels, f64)> = all.iter_mut().map(next).collect();
    store.append(&Batch { target: "shop", group, at_ms, every_ms, points: &points }).unwrap();
}

fn session(at: usize, random: &mut Random) -> SessionSample {
    let text = |text: &str| Some(text.to_owned());
    let (class, event) = WAITS[random.next() % WAITS.len()];
    let waits = class != "CPU";
    SessionSample {
        pid: 100_000 + at as i32,
        database: text(DATABASES[at % 3]),
        user: Some(format!("service_{}", at % 7)),
        application: Some(format!("payments-api {}", at % 11)),
        client: Some(format!("10.20.{}.{}", at % 5, at % 250)),
        backend_type: text("client backend"),
        state: text("active"),
        wait_event_type: waits.then(|| class.to_owned()),
        wait_event: waits.then(|| event.to_owned()),
        query_id: Some((1 + random.next() % 30 * (1 + random.next() % 16)) as i64),
        blocked_by: if class == "Lock" { vec![100_000] } else { vec![] },
        transaction_age_ms: Some((random.next() % 3000) as i64),
        query_age_ms: Some((random.next() % 300) as i64),
        leader_pid: None,
    }
}

fn delta(id: i64, random: &mut Random) -> QueryDelta {
    QueryDelta {
        query_id: id,
        user: format!("service_{}", id % 7),
        database: DATABASES[id as usize % 3].to_owned(),
        calls: 1 + (random.next() % 5000) as i64,
        rows: (random.next() % 50_000) as i64,
        exec_time_ms: random.about_one() * 60_000.0 / id as f64,
        shared_blocks_hit: (random.next() % 500_000) as i64,
        shared_blocks_read: (random.next() % 5000) as i64,
        wal_records: (random.next() % 5000) as i64,
        wal_bytes: (random.next() % 500_000) as i64,
        read_time_ms: random.about_one() * 100.0,
        ..QueryDelta::default()
    }
}

/// Fills the file with the day before `SURUS_BENCH_END` (milliseconds since 1970).
#[test]
#[ignore = "started by bench/pages/run"]
fn fill() {
    let number = |name: &str| variable(name).parse::<i64>().unwrap();
    let (end, sessions) = (number("END") / MINUTE_MS * MINUTE_MS, number("SESSIONS"));
    let (statements, tables) = (number("STATEMENTS"), usize::try_from(number("TABLES")).unwrap());
    let store = SampleStore::open(&PathBuf::from(variable("PATH")), Settings::default()).unwrap();
    let (mut often, mut seldom) = series(tables);
    let (mut random, begin) = (Random(0x9e37_79b9_7f4a_7c15), end - DAY_MS);
    let texts: Vec<(i64, String)> =
        (1..=statements).map(|id| (id, format!("SELECT * FROM table_{id} WHERE id = $1 AND state = $2"))).collect();
    let texts: Vec<(i64, &str)> = texts.iter().map(|(id, text)| (*id, text.as_str())).collect();
    store.remember_query_texts("shop", begin, &texts).unwrap();
    let (seconds, mut seen) = (DAY_MS / 1000, 0);
    for second in 1..=seconds {
        let at_ms = begin + second * 1000;
        let wanted = sessions * second / seconds;
        let all: Vec<SessionSample> = (seen..wanted).map(|at| session((at - seen) as usize, &mut random)).collect();
        seen = wanted;
        store.append_activity("shop", at_ms, &all).unwrap();
        if at_ms % CYCLE_MS == 0 {
            append(&store, "often", (at_ms, CYCLE_MS), &mut often, &mut random);
        }
        if at_ms % MINUTE_MS == 0 {
            append(&store, "seldom", (at_ms, MINUTE_MS), &mut seldom, &mut random);
            let deltas: Vec<QueryDelta> = (1..=statements).map(|id| delta(id, &mut random)).collect();
            store.append_query_deltas("shop", at_ms, &deltas).unwrap();
            store.maintain(at_ms).unwrap();
        }
    }
}
