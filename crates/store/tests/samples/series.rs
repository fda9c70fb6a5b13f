//! Samples to store, and what comes back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use surus_core::series::{Hints, Labels, Matcher, Source as _, Window, is_stale};
use surus_store::samples::{Appended, Batch, SampleStore, Settings};
use tempfile::TempDir;

/// 2026-01-01 00:00:00 UTC.
pub const START: i64 = 1_767_225_600_000;

/// All there is.
pub const ALWAYS: Window = Window { after_ms: 0, until_ms: i64::MAX / 4 };

pub fn settings() -> Settings {
    Settings { keep: Duration::from_secs(15 * 86_400), ..Settings::default() }
}

pub fn store() -> (TempDir, PathBuf, SampleStore) {
    store_with(settings())
}

pub fn store_with(settings: Settings) -> (TempDir, PathBuf, SampleStore) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("samples.db");
    let store = SampleStore::open(&path, settings).unwrap();
    (directory, path, store)
}

pub fn labels(metric: &str, instance: &str) -> Labels {
    Labels::new([("__name__", metric), ("instance", instance), ("job", "postgres")]).unwrap()
}

/// Appends one cycle of the group `g` of the target `main`.
pub fn append(store: &SampleStore, at_ms: i64, points: &[(&str, f64)]) -> surus_store::Result<Appended> {
    let points: Vec<(Labels, f64)> = points.iter().map(|(metric, value)| (labels(metric, "main"), *value)).collect();
    store.append(&Batch { target: "main", group: "g", at_ms, every_ms: 10_000, points: &points })
}

/// A day in which something is stored every hour, so that the clock is believed at its end.
pub fn day_passes(store: &SampleStore, until_ms: i64) {
    for hour in (0..=24).rev() {
        let points = [(labels("tick", "surus"), 1.0)];
        let (at_ms, every_ms) = (until_ms - hour * 3_600_000, 3_600_000);
        store.append(&Batch { target: "surus", group: "tick", at_ms, every_ms, points: &points }).unwrap();
    }
}

/// Everything in the window, by metric: time since [`START`] and value; a stale marker is `None`.
pub fn all(store: &SampleStore, window: Window) -> BTreeMap<String, Vec<(i64, Option<f64>)>> {
    let any = Matcher::new("__name__", surus_core::series::Op::Regex, ".+").unwrap();
    let found = store.select(&[any], window, Hints::default()).unwrap();
    found
        .into_iter()
        .map(|series| {
            assert_eq!(series.at_ms.len(), series.values.len());
            let samples = series.at_ms.iter().zip(&series.values);
            let samples = samples.map(|(at, value)| (at - START, (!is_stale(*value)).then_some(*value))).collect();
            (series.labels.metric().unwrap().to_owned(), samples)
        })
        .collect()
}
