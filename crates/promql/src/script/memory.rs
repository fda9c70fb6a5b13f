//! Series in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use surus_core::series::{Hints, Labels, Matcher, Metadata, Series, Source, SourceError, Window};

/// Samples of one series by their times.
#[derive(Debug, Default)]
struct Track {
    samples: BTreeMap<i64, f64>,
    /// Times of native histograms, whose contents are not kept.
    histograms: BTreeSet<i64>,
}

/// Series in memory: for scripts, and for tests.
#[derive(Debug, Default)]
pub struct Memory {
    series: BTreeMap<Labels, Track>,
    met_histograms: AtomicBool,
}

impl Memory {
    /// Without series.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sample; one at the same time is replaced.
    pub fn add(&mut self, labels: &Labels, at_ms: i64, value: f64) {
        self.series.entry(labels.clone()).or_default().samples.insert(at_ms, value);
    }

    /// Takes note of a native histogram, which a question may meet but cannot read.
    pub fn add_histogram(&mut self, labels: &Labels, at_ms: i64) {
        self.series.entry(labels.clone()).or_default().histograms.insert(at_ms);
    }

    /// Did a question meet native histograms since the last time this was asked?
    pub fn met_histograms(&self) -> bool {
        self.met_histograms.swap(false, Ordering::Relaxed)
    }
}

impl Source for Memory {
    fn select(&self, matchers: &[Matcher], window: Window, _: Hints<'_>) -> Result<Vec<Series>, SourceError> {
        let mut found = Vec::new();
        for (labels, track) in &self.series {
            if !matchers.iter().all(|matcher| matcher.accepts(labels)) || window.after_ms >= window.until_ms {
                continue;
            }
            let range = window.after_ms + 1..=window.until_ms;
            if track.histograms.range(range.clone()).next().is_some() {
                self.met_histograms.store(true, Ordering::Relaxed);
            }
            let (at_ms, values): (Vec<i64>, Vec<f64>) = track.samples.range(range).unzip();
            if !values.is_empty() {
                found.push(Series { labels: labels.clone(), at_ms: at_ms.into(), values });
            }
        }
        Ok(found)
    }

    fn series(&self, matchers: &[Matcher], _: Window) -> Result<Vec<Labels>, SourceError> {
        let fits = |labels: &&Labels| matchers.iter().all(|matcher| matcher.accepts(labels));
        Ok(self.series.keys().filter(fits).cloned().collect())
    }

    fn metadata(&self, _: Option<&str>) -> Result<Vec<Metadata>, SourceError> {
        Ok(Vec::new())
    }
}
