//! Fills a sample store from a file in OpenMetrics with times, as if it had been collected: for benchmarks.
//!
//!     fill_samples METRICS DATA_DIR EVERY_SECONDS

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::path::Path;
use std::time::Duration;
use surus_core::series::Labels;
use surus_promql::script::described;
use surus_store::samples::{Batch, SampleStore, Settings, path_in};

type Cycles = BTreeMap<i64, Vec<(Labels, f64)>>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, metrics, directory, every] = &arguments[..] else {
        return Err("usage: fill_samples METRICS DATA_DIR EVERY_SECONDS".into());
    };
    let every_ms = every.parse::<i64>()? * 1000;
    let cycles = read(&std::fs::read_to_string(metrics)?)?;
    // Aggregates for long ranges are none of this: everything is kept as it came.
    let settings = Settings { keep: Duration::from_secs(400 * 86_400), ..Settings::default() };
    let store = SampleStore::open(&path_in(Path::new(directory)), settings)?;
    let mut samples = 0;
    for (number, (at_ms, points)) in cycles.iter().enumerate() {
        let mut by_target: BTreeMap<&str, Vec<(Labels, f64)>> = BTreeMap::new();
        for (labels, value) in points {
            let target = labels.get("instance").unwrap_or("none");
            by_target.entry(target).or_default().push((labels.clone(), *value));
        }
        for (target, points) in &by_target {
            let batch = Batch { target, group: "bench", at_ms: *at_ms, every_ms, points };
            samples += store.append(&batch)?.samples;
        }
        if number % 60 == 59 {
            store.maintain(*at_ms)?;
        }
    }
    let last_ms = cycles.keys().next_back().copied().unwrap_or_default();
    for hour in 1..=3 {
        store.maintain(last_ms + hour * 3_600_000)?;
    }
    println!("{samples} samples of {} series", store.series_count());
    Ok(())
}

fn read(text: &str) -> Result<Cycles, Box<dyn Error>> {
    let mut known: HashMap<&str, Labels> = HashMap::new();
    let mut cycles = Cycles::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (rest, seconds) = line.rsplit_once(' ').ok_or("a line without time")?;
        let (series, value) = rest.rsplit_once(' ').ok_or("a line without value")?;
        let labels = match known.get(series) {
            Some(labels) => labels.clone(),
            None => {
                let labels = described(series)?.labels;
                known.insert(series, labels.clone());
                labels
            }
        };
        let at_ms = (seconds.parse::<f64>()? * 1000.0).round() as i64;
        cycles.entry(at_ms).or_default().push((labels, value.parse()?));
    }
    Ok(cycles)
}
