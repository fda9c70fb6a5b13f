//! What the tests have in common: small collectors, short intervals, waiting.

use std::{path::Path, sync::Arc, time::Duration};
use surus_core::{
    clock::Deadline,
    series::{Family, Hints, Matcher, MetricKind, Source, Told, Window},
};
use surus_observe::{
    CollectorNow, Observatory, Settings, TargetNow, Watched,
    collector::{Collector, Page, RunsOn, Scene, Scope, Tier},
};
use surus_pg::{RowError, Rows, Sql};
use surus_store::samples::{self, Event, SampleStore};
use surus_testkit::Server;

static BACKENDS: Family = Family { name: "test_backends", kind: MetricKind::Gauge, help: "Backends." };
static TABLES: Family = Family { name: "test_tables", kind: MetricKind::Gauge, help: "Tables by database." };
static SIZE: Family = Family { name: "test_size_bytes", kind: MetricKind::Gauge, help: "Size of a table." };

fn backends(rows: &Rows, _: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.tell(&BACKENDS, [], rows.first()?.f64("v")?);
    Ok(())
}

fn tables(rows: &Rows, scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.tell(&TABLES, [("datname", scene.database)], rows.first()?.f64("v")?);
    Ok(())
}

fn size(rows: &Rows, scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    for row in rows.iter() {
        page.tell(&SIZE, [("datname", scene.database), ("relname", row.str("relname")?)], row.f64("v")?);
    }
    Ok(())
}

static COUNTERS: Collector = Collector {
    name: "backends",
    reads: "pg_stat_activity",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: &[&BACKENDS],
    sql: &[Sql::all("SELECT count(*) AS v FROM pg_stat_activity")],
    read: backends,
};

static DETAIL: Collector = Collector {
    name: "tables",
    reads: "pg_class",
    tier: Tier::Detail,
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    families: &[&TABLES],
    sql: &[Sql::all("SELECT count(*) AS v FROM pg_class WHERE relkind = 'r' AND oid >= 16384")],
    read: tables,
};

/// Takes a lock on each user table, as careless queries do.
static SLOW: Collector = Collector {
    name: "size",
    reads: "pg_table_size",
    tier: Tier::Slow,
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    families: &[&SIZE],
    sql: &[Sql::all("SELECT relname, pg_table_size(oid) AS v FROM pg_class WHERE relkind = 'r' AND oid >= 16384")],
    read: size,
};

static COLLECTORS: &[&Collector] = &[&COUNTERS, &DETAIL, &SLOW];

/// Short intervals and the collectors above.
pub fn settings() -> Settings {
    Settings {
        activity: Duration::from_millis(200),
        counters: Duration::from_millis(400),
        detail: Duration::from_millis(600),
        slow: Duration::from_millis(800),
        statements: Duration::from_millis(500),
        repeat: Duration::from_millis(500),
        retry_at_most: Duration::from_millis(500),
        collectors: COLLECTORS,
        ..Settings::default()
    }
}

/// The server as a target.
pub fn watched(server: &Server) -> Watched {
    Watched { name: "main".into(), dsn: server.dsn("postgres"), cluster: Some("shop".into()), heartbeat: None }
}

/// An observatory with a store of its own.
pub struct Site {
    pub observatory: Observatory,
    pub store: Arc<SampleStore>,
    _dir: Option<tempfile::TempDir>,
}

/// Begins to watch.
pub fn watch(targets: Vec<Watched>, settings: Settings) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let site = watch_in(dir.path(), targets, settings);
    Site { _dir: Some(dir), ..site }
}

/// As [`watch`], with the store in this directory.
pub fn watch_in(dir: &Path, targets: Vec<Watched>, settings: Settings) -> Site {
    let store = Arc::new(SampleStore::open(&dir.join("samples.db"), samples::Settings::default()).unwrap());
    let observatory = Observatory::start(targets, settings, store.clone()).unwrap();
    Site { observatory, store, _dir: None }
}

/// A window that holds everything.
pub const EVER: Window = Window { after_ms: 0, until_ms: i64::MAX };

impl Site {
    /// Waits until the only target is as wanted; the limit is for tests that fail.
    pub async fn until(&self, what: &str, wanted: impl Fn(&TargetNow) -> bool) -> Arc<TargetNow> {
        let limit = Deadline::after(LIMIT);
        loop {
            let now = self.observatory.targets().remove(0);
            if wanted(&now) {
                return now;
            }
            assert!(!limit.passed(), "waited in vain until {what}: {now:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until something is remembered.
    pub async fn found<T>(&self, what: &str, find: impl Fn(&SampleStore) -> Option<T>) -> T {
        let limit = Deadline::after(LIMIT);
        loop {
            if let Some(found) = find(&self.store) {
                return found;
            }
            assert!(!limit.passed(), "waited in vain for {what}; events: {:#?}", self.store.events(None, EVER));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for an event of this kind and returns the last one.
    pub async fn event(&self, kind: &str) -> Event {
        let last = |store: &SampleStore| {
            store.events(Some("main"), EVER).unwrap().into_iter().rfind(|event| event.kind == kind)
        };
        self.found(kind, last).await
    }

    /// The stored samples of a metric, by series.
    pub fn samples(&self, metric: &str) -> Vec<(String, Vec<f64>)> {
        let found = self.store.select(&[Matcher::metric(metric)], EVER, Hints::default()).unwrap();
        found.into_iter().map(|series| (series.labels.to_string(), series.values)).collect()
    }
}

const LIMIT: Duration = Duration::from_secs(60);

/// The values of a family, with their labels as text.
pub fn values(now: &TargetNow, family: &str) -> Vec<(String, f64)> {
    let told = now.answers.iter().flat_map(|answer| &answer.told).filter(|told| told.family.name == family);
    told.flat_map(|Told { points, .. }| points.iter().map(|point| (point.labels.to_string(), point.value))).collect()
}

/// A collector's state at a place.
pub fn collector<'a>(now: &'a TargetNow, name: &str, database: Option<&str>) -> Option<&'a CollectorNow> {
    now.collectors.iter().find(|one| one.name == name && one.database.as_deref() == database)
}
