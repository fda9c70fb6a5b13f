//! What surus says about itself: whether a target is there, and what watching it costs.

pub mod proof;
pub mod protection;

use crate::collector::Page;
pub use protection::Protected;
use std::{collections::BTreeMap, time::Duration};
use surus_core::series::{Family, MetricKind, Told};

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: MetricKind::Gauge, help }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: MetricKind::Counter, help }
}

/// 1 while the target answers, as a scrape of it would write.
pub static UP: Family = gauge("up", "1 if the target answered in the last cycle, else 0.");
/// The same under the name of postgres_exporter.
pub static PG_UP: Family =
    gauge("pg_up", "Whether the last cycle was able to connect to the server (1 for yes, 0 for no).");
pub static DURATION: Family =
    gauge("surus_collector_duration_seconds", "How long the collector's last run took, as surus saw it.");
pub static ROWS: Family = gauge("surus_collector_rows", "Rows of the collector's last answer.");
pub static SUCCESS: Family = gauge(
    "surus_collector_success",
    "1 if the collector's last run gave an answer, 0 if it failed; absent where it does not apply or may not look.",
);
pub static LAST_RUN: Family =
    gauge("surus_collector_last_run_timestamp_seconds", "The scheduled time of the collector's last run.");
pub static CONNECTIONS: Family =
    gauge("surus_target_connections", "Sessions that surus has open with the target; never more than 2.");
pub static SKIPPED: Family = counter(
    "surus_cycles_skipped_total",
    "Cycles that were not run because the one before was still running when they were due.",
);

pub static CHECK_DURATION: Family = gauge(
    "surus_check_duration_seconds",
    "How long the last run of the checks took, with the sessions that it opened.",
);
pub static CHECK_LAST_RUN: Family =
    gauge("surus_check_last_run_timestamp_seconds", "When the last run of the checks that came to an end began.");
pub static CHECK_FINDINGS: Family = gauge("surus_check_findings", "Findings of the last run of the checks.");

/// postgres_exporter's names for what a scrape costs; here a cycle is what a scrape is there.
pub static EXPORTER_DURATION: Family =
    gauge("pg_exporter_last_scrape_duration_seconds", "How long the last runs of all collectors took together.");
pub static EXPORTER_CYCLES: Family = counter("pg_exporter_scrapes_total", "Cycles so far.");
pub static EXPORTER_ERROR: Family =
    gauge("pg_exporter_last_scrape_error", "1 if the target or a collector failed in its last run, else 0.");
pub static COLLECTOR_DURATION: Family =
    gauge("pg_scrape_collector_duration_seconds", "How long the collector's last run took, over all databases.");
pub static COLLECTOR_SUCCESS: Family =
    gauge("pg_scrape_collector_success", "1 if the collector's last run gave an answer in every database, else 0.");

/// Every family that [`of_target`] and [`proof::tell`] fill.
pub static FAMILIES: &[&Family] = &[
    &UP,
    &PG_UP,
    &DURATION,
    &ROWS,
    &SUCCESS,
    &LAST_RUN,
    &CONNECTIONS,
    &SKIPPED,
    &CHECK_DURATION,
    &CHECK_LAST_RUN,
    &CHECK_FINDINGS,
    &protection::READ,
    &protection::LAST,
    &protection::LAST_SIZE,
    &protection::LAST_STORED,
    &protection::COUNT,
    &protection::RUNNING,
    &protection::GAPS,
    &protection::WAL_LAST,
    &protection::WAL_STORED,
    &protection::FREE,
    &proof::LAST,
    &proof::PASSED,
    &proof::EXPIRES,
    &proof::DURATION,
    &proof::RTO,
    &proof::RPO,
    &EXPORTER_DURATION,
    &EXPORTER_CYCLES,
    &EXPORTER_ERROR,
    &COLLECTOR_DURATION,
    &COLLECTOR_SUCCESS,
];

/// The labels of one of these families.
pub fn labels(family: &Family) -> &'static [&'static str] {
    match family.name {
        _ if proof::labels(family).is_some() => proof::labels(family).unwrap_or_default(),
        _ if protection::labels(family).is_some() => protection::labels(family).unwrap_or_default(),
        name if name.starts_with("surus_collector_") => &["collector", "datname"],
        "surus_check_findings" => &["severity"],
        name if name.starts_with("pg_scrape_collector_") => &["collector"],
        _ => &[],
    }
}

/// What a collector's last run cost.
pub(crate) struct Cost<'a> {
    pub collector: &'static str,
    pub database: Option<&'a str>,
    pub took: Duration,
    pub rows: usize,
    /// None: it was not asked, because it does not apply or may not look.
    pub succeeded: Option<bool>,
    /// In milliseconds since 1970.
    pub last_run_ms: Option<i64>,
}

/// What a run of the checks found and cost.
#[derive(Debug, Clone)]
pub struct Checked {
    /// When it began, in milliseconds since 1970.
    pub at_ms: i64,
    pub took: Duration,
    /// Findings by the word of their severity.
    pub findings: Vec<(&'static str, u64)>,
}

/// The families of one target.
pub(crate) fn of_target<'a>(
    up: bool,
    connections: u8,
    skipped: u64,
    cycles: u64,
    costs: impl Iterator<Item = Cost<'a>>,
    checked: Option<&Checked>,
    protected: &[Protected],
) -> Vec<Told> {
    let mut page = Page::default();
    page.tell(&UP, [], f64::from(u8::from(up)));
    page.tell(&PG_UP, [], f64::from(u8::from(up)));
    page.tell(&CONNECTIONS, [], f64::from(connections));
    page.tell(&SKIPPED, [], skipped as f64);
    if let Some(checked) = checked {
        page.tell(&CHECK_DURATION, [], checked.took.as_secs_f64());
        page.tell(&CHECK_LAST_RUN, [], checked.at_ms as f64 / 1000.0);
        for (severity, count) in &checked.findings {
            page.tell(&CHECK_FINDINGS, [("severity", *severity)], *count as f64);
        }
    }
    protected.iter().for_each(|one| protection::tell(&mut page, one));
    let mut by_collector: BTreeMap<&str, (Duration, bool)> = BTreeMap::new();
    for cost in costs {
        let (Some(succeeded), Some(last_run_ms)) = (cost.succeeded, cost.last_run_ms) else { continue };
        let labels = [("collector", cost.collector), ("datname", cost.database.unwrap_or_default())];
        page.tell(&DURATION, labels, cost.took.as_secs_f64());
        page.tell(&ROWS, labels, cost.rows as f64);
        page.tell(&SUCCESS, labels, f64::from(u8::from(succeeded)));
        page.tell(&LAST_RUN, labels, last_run_ms as f64 / 1000.0);
        let (took, fine) = by_collector.entry(cost.collector).or_insert((Duration::ZERO, true));
        *took += cost.took;
        *fine &= succeeded;
    }
    let all: Duration = by_collector.values().map(|(took, _)| *took).sum();
    let failed = !up || by_collector.values().any(|(_, fine)| !fine);
    page.tell(&EXPORTER_DURATION, [], all.as_secs_f64());
    page.tell(&EXPORTER_CYCLES, [], cycles as f64);
    page.tell(&EXPORTER_ERROR, [], f64::from(u8::from(failed)));
    for (collector, (took, fine)) in by_collector {
        page.tell(&COLLECTOR_DURATION, [("collector", collector)], took.as_secs_f64());
        page.tell(&COLLECTOR_SUCCESS, [("collector", collector)], f64::from(u8::from(fine)));
    }
    page.into_told()
}
