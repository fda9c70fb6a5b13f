//! What surus speaks of servers, read back from the text.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use surus_core::{
    clock::Deadline,
    series::{Labels, METRIC_NAME, MetricKind},
};
use surus_observe::{
    Observatory, Settings, State, Watched,
    exposition::{Block, Format, Part, parse, render},
};
use surus_store::samples::{self, SampleStore};
use surus_testkit::Server;

const LIMIT: Duration = Duration::from_secs(60);

/// A page of metrics: families by name.
#[derive(Debug)]
pub struct Spoken(pub BTreeMap<String, Block>);

impl Spoken {
    /// Reads a page.
    pub fn read(text: &str) -> Self {
        let blocks = parse(text).unwrap_or_else(|error| panic!("{error}\nin: {text}"));
        Self(blocks.into_iter().map(|block| (block.name.clone(), block)).collect())
    }

    /// The type of a family.
    pub fn kind(&self, name: &str) -> Option<MetricKind> {
        self.0.get(name).map(|block| block.kind)
    }

    /// The label keys that its series have, without those of the target and of histograms.
    pub fn keys(&self, name: &str) -> BTreeSet<String> {
        let samples = self.0.get(name).into_iter().flat_map(|block| &block.samples);
        let keys = samples.flat_map(|sample| sample.labels.iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>());
        keys.filter(|key| !["server", METRIC_NAME, "le"].contains(&key.as_str())).collect()
    }

    /// Its values by labels, without `server`.
    pub fn values(&self, name: &str) -> BTreeMap<Labels, f64> {
        let samples = self.0.get(name).into_iter().flat_map(|block| &block.samples);
        samples.map(|sample| (sample.labels.with("server", ""), sample.value)).collect()
    }

    /// The series of this name with these labels and maybe more.
    pub fn series(&self, name: &str, labels: &[(&str, &str)]) -> usize {
        let fits = |own: &Labels| labels.iter().all(|(name, value)| own.get(name) == Some(value));
        self.values(name).keys().filter(|own| fits(own)).count()
    }
}

/// Watches the server until every collector has run, and reads what `/metrics` would say.
pub async fn of(server: &Server) -> Spoken {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SampleStore::open(&dir.path().join("samples.db"), samples::Settings::default()).unwrap());
    let watched = Watched { name: "main".into(), dsn: server.dsn("postgres"), cluster: None, heartbeat: None };
    let settings = Settings { counters: Duration::from_secs(1), host: false, ..Settings::default() };
    let observatory = Observatory::start(vec![watched], settings, store).unwrap();
    let limit = Deadline::after(LIMIT);
    let target = loop {
        let target = observatory.targets().remove(0);
        let all = target.up && target.collectors.iter().all(|one| one.state != State::Waiting);
        // The target's own series are of the cycle before.
        let told =
            |name: &str| target.answers.iter().any(|answer| answer.told.iter().any(|told| told.family.name == name));
        if all
            && told("pg_scrape_collector_success")
            && told("pg_database_size_bytes")
            && told("pg_stat_user_tables_table_size_bytes")
        {
            break target;
        }
        assert!(!limit.passed(), "waited in vain for every collector: {:#?}", target.collectors);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for collector in &target.collectors {
        assert!(matches!(collector.state, State::Fine | State::Absent | State::Resting), "{collector:#?}");
    }
    let snapshot = observatory.snapshot();
    let told = target.answers.iter().flat_map(|answer| &answer.told).chain(snapshot.own.iter()).collect();
    let text = render(&[Part { server: &target.server, told }], Format::Text);
    observatory.stop().await;
    Spoken::read(&text)
}
