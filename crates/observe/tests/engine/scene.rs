//! What the tests have in common: small collectors, short intervals, waiting.

use std::{sync::Arc, time::Duration};
use surus_core::{
    clock::Deadline,
    series::{Family, MetricKind, Told},
};
use surus_observe::{
    Observatory, Settings, TargetNow, Watched,
    collector::{Collector, Page, RunsOn, Scene, Scope, Tier},
};
use surus_pg::{RowError, Rows, Sql};
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
        repeat: Duration::from_millis(500),
        retry_at_most: Duration::from_millis(500),
        collectors: COLLECTORS,
        ..Settings::default()
    }
}

/// The server as a target.
pub fn watched(server: &Server) -> Watched {
    Watched { name: "main".into(), dsn: server.dsn("postgres"), cluster: Some("shop".into()) }
}

/// Waits until the only target is as wanted; the limit is for tests that fail.
pub async fn until(observatory: &Observatory, what: &str, wanted: impl Fn(&TargetNow) -> bool) -> Arc<TargetNow> {
    let limit = Deadline::after(Duration::from_secs(60));
    loop {
        let now = observatory.targets().remove(0);
        if wanted(&now) {
            return now;
        }
        assert!(!limit.passed(), "waited in vain until {what}: {now:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The values of a family, with their labels as text.
pub fn values(now: &TargetNow, family: &str) -> Vec<(String, f64)> {
    let told = now.answers.iter().flat_map(|answer| &answer.told).filter(|told| told.family.name == family);
    told.flat_map(|Told { points, .. }| points.iter().map(|point| (point.labels.to_string(), point.value))).collect()
}
