//! What the user should know about an answer, in Prometheus's words and with the place in the query.

use crate::number::general_text;
use std::collections::BTreeMap;

/// What histogram_quantile had to mend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mended {
    pub at_ms: (i64, i64),
    pub bucket: (f64, f64),
    pub difference: f64,
    pub count: usize,
}

#[derive(Debug, Clone)]
struct Note {
    /// Where in the query, in bytes.
    place: usize,
    mended: Option<Mended>,
}

/// Notes of one evaluation; the same text is kept once.
#[derive(Debug, Default)]
pub(crate) struct Annotations {
    warnings: BTreeMap<String, Note>,
    infos: BTreeMap<String, Note>,
}

/// ` for metric name "x"`, when there is one.
fn of_metric(metric: &str) -> String {
    if metric.is_empty() { String::new() } else { format!(" for metric name {metric:?}") }
}

impl Annotations {
    fn warn(&mut self, text: String, place: usize) {
        self.warnings.insert(format!("PromQL warning: {text}"), Note { place, mended: None });
    }

    pub(crate) fn invalid_quantile(&mut self, q: f64, place: usize) {
        self.warn(format!("quantile value should be between 0 and 1, got {}", general_text(q)), place);
    }

    pub(crate) fn bad_bucket(&mut self, metric: &str, label: &str, place: usize) {
        let of = of_metric(metric);
        self.warn(format!("bucket label \"le\" is missing or has a malformed value of {label:?}{of}"), place);
    }

    pub(crate) fn sort_in_range(&mut self, place: usize) {
        self.warn("sort is ineffective for range queries since results are always ordered by labels".to_owned(), place);
    }

    pub(crate) fn possible_non_counter(&mut self, metric: &str, place: usize) {
        let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
        self.infos.insert(format!("PromQL info: {text} {metric:?}"), Note { place, mended: None });
    }

    pub(crate) fn forced_monotonicity(&mut self, metric: &str, place: usize, new: Mended) {
        let text = format!(
            "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see \
             https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}",
            of_metric(metric)
        );
        let note = self.infos.entry(text).or_insert(Note { place, mended: None });
        let merged = match note.mended {
            None => new,
            Some(old) => Mended {
                at_ms: (old.at_ms.0.min(new.at_ms.0), old.at_ms.1.max(new.at_ms.1)),
                bucket: (old.bucket.0.min(new.bucket.0), old.bucket.1.max(new.bucket.1)),
                difference: old.difference.max(new.difference),
                count: old.count + new.count,
            },
        };
        note.mended = Some(merged);
    }

    /// Warnings and infos as they are shown.
    pub(crate) fn texts(&self, query: &str) -> (Vec<String>, Vec<String>) {
        let shown = |notes: &BTreeMap<String, Note>| notes.iter().map(|(text, note)| show(text, note, query)).collect();
        (shown(&self.warnings), shown(&self.infos))
    }
}

fn show(text: &str, note: &Note, query: &str) -> String {
    let before = query.get(..note.place).unwrap_or(query);
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
    match &note.mended {
        None => format!("{text} ({line}:{column})"),
        Some(mended) => format!(
            "{text}, from buckets {} to {}, with a max diff of {}, over {} samples from {} to {} ({line}:{column})",
            general_text(mended.bucket.0),
            general_text(mended.bucket.1),
            two_digits(mended.difference),
            mended.count,
            crate::function::time::utc_text(mended.at_ms.0),
            crate::function::time::utc_text(mended.at_ms.1),
        ),
    }
}

/// Go's `%.2g`.
fn two_digits(value: f64) -> String {
    let rounded: f64 = format!("{value:.1e}").parse().unwrap_or(value);
    if rounded != 0.0 && (rounded.abs() >= 100.0 || rounded.abs() < 1e-4) {
        let text = format!("{rounded:e}");
        return match text.split_once('e') {
            Some((digits, power)) if power.starts_with('-') => format!("{digits}e-{:0>2}", &power[1..]),
            Some((digits, power)) => format!("{digits}e+{power:0>2}"),
            None => text,
        };
    }
    general_text(rounded)
}
