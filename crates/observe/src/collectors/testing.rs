//! Running collectors on a real server, without the engine.

use crate::{
    collector::{Collector, Need, RunsOn, Scene, Scope},
    collectors,
};
use std::{collections::BTreeMap, thread, time::Duration};
use surus_core::{
    clock::Deadline,
    series::{Family, Labels, Told},
};
use surus_pg::{Facts, Manners, Session, Sql};
use surus_testkit::Server;

/// What collectors told, by the metric's name.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub families: BTreeMap<&'static str, &'static Family>,
    pub points: BTreeMap<&'static str, BTreeMap<Labels, f64>>,
}

impl Heard {
    fn add(&mut self, told: Vec<Told>) {
        for one in told {
            self.families.insert(one.family.name, one.family);
            let points = self.points.entry(one.family.name).or_default();
            for point in one.points {
                let twice = points.insert(point.labels.clone(), point.value);
                assert!(twice.is_none(), "{}{} is there twice", one.family.name, point.labels);
            }
        }
    }

    /// The value of the one series of this name with these labels and maybe more.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.maybe(name, labels).unwrap_or_else(|| panic!("no {name}{labels:?} in {:#?}", self.points.get(name)))
    }

    /// As [`Heard::value`]; `None` when there is no such series.
    pub fn maybe(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |own: &Labels| labels.iter().all(|(name, value)| own.get(name) == Some(value));
        let found: Vec<f64> =
            self.points.get(name)?.iter().filter(|(own, _)| fits(own)).map(|(_, value)| *value).collect();
        assert!(found.len() < 2, "{name}{labels:?} are {found:?}");
        found.first().copied()
    }
}

/// Why a collector has nothing to say here, or nothing when it has.
pub(crate) async fn missing(collector: &Collector, session: &Session, facts: &Facts) -> Option<String> {
    match (collector.runs_on, facts.in_recovery) {
        (RunsOn::Primary, true) => return Some("runs on a primary".into()),
        (RunsOn::Standby, false) => return Some("runs on a standby".into()),
        _ => {}
    }
    for need in collector.needs {
        let met = match need {
            Need::Stats => facts.role.reads_stats || facts.role.superuser,
            Need::Monitor => facts.role.monitors || facts.role.superuser,
            Need::Major(major) => facts.version.major() >= *major,
            Need::Data => facts.role.reads_data || facts.role.superuser,
            Need::Extension(name) => schema_of(session, name).await.is_some(),
        };
        if !met {
            return Some(format!("{need:?}"));
        }
    }
    None
}

async fn schema_of(session: &Session, extension: &str) -> Option<String> {
    let sql = format!(
        "SELECT n.nspname AS v FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = '{extension}'"
    );
    session.ask(&sql).await.unwrap().first().ok().map(|row| row.text("v").unwrap())
}

/// What the collector tells in this session.
pub(crate) async fn ask(collector: &Collector, session: &Session, facts: &Facts) -> Vec<Told> {
    let major = facts.version.major();
    let schema = match collector.extension() {
        Some(name) => schema_of(session, name).await,
        None => None,
    };
    let sql = collector.text(major, schema.as_deref());
    let sql = sql.unwrap_or_else(|| panic!("{} has no query for PostgreSQL {major}", collector.name));
    let rows = session.ask(&sql).await.unwrap_or_else(|error| panic!("{}: {error}\nin: {sql}", collector.name));
    let scene = Scene { facts, database: &facts.database, at_ms: 0 };
    let mut page = crate::collector::Page::default();
    (collector.read)(&rows, &scene, &mut page).unwrap_or_else(|error| panic!("{}: {error}\nin: {sql}", collector.name));
    page.into_told()
}

/// What these collectors tell of the instance and of the databases named; the first also for the instance.
pub(crate) async fn hear(dsns: &[String], collectors: &[&Collector]) -> Heard {
    let mut heard = Heard::default();
    for (at, dsn) in dsns.iter().enumerate() {
        let target = surus_pg::Target::parse(dsn).unwrap();
        let session = target.connect(&Manners::looking()).await.unwrap();
        let facts = Facts::gather(&session).await.unwrap();
        for collector in collectors.iter().filter(|one| at == 0 || one.scope == Scope::Database) {
            if missing(collector, &session, &facts).await.is_none() {
                heard.add(ask(collector, &session, &facts).await);
            }
        }
        session.close().await;
    }
    heard
}

/// As [`hear`], blocking, of one database of a test's server.
pub(crate) fn heard(server: &Server, database: &str, collectors: &[&Collector]) -> Heard {
    heard_at(&[server.dsn(database)], collectors)
}

/// As [`hear`], blocking.
pub(crate) fn heard_at(dsns: &[String], collectors: &[&Collector]) -> Heard {
    runtime().block_on(hear(dsns, collectors))
}

/// To block on what is asynchronous.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits until the query's `v` is this: until 14 statistics arrive a little later than what they count.
pub(crate) fn wait_for(server: &Server, sql: &str, wanted: &str) {
    let limit = Deadline::after(Duration::from_secs(30));
    loop {
        let value = server.value(sql);
        if value == wanted {
            return;
        }
        assert!(!limit.passed(), "waited in vain for {wanted}, it is {value}: {sql}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Every collector there is.
pub(crate) fn every() -> Vec<&'static Collector> {
    collectors::ALL.iter().chain(collectors::OPT_IN).copied().collect()
}

/// Majors of a collector's own texts, for which there must be one.
pub(crate) fn has_text(collector: &Collector, major: u16) -> bool {
    Sql::of_major(collector.sql, major).is_some()
}
