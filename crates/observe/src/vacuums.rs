//! Vacuums that took long, from what the collector of progress says in each cycle. Pure.

use crate::changes::{Change, PerHour};
use serde_json::json;
use std::collections::BTreeMap;
use surus_core::series::Told;

/// How long a vacuum must have been seen until its end is an event.
const LONG_MS: i64 = 30_000;

/// The family that says which vacuums run.
const RUNNING: &str = "pg_stat_progress_vacuum_heap_blks";

#[derive(Debug)]
struct Running {
    since_ms: i64,
    seen_ms: i64,
    blocks: f64,
}

/// Vacuums under way, by database and table.
#[derive(Debug, Default)]
pub struct Vacuums {
    running: BTreeMap<(String, String), Running>,
    limit: PerHour,
}

impl Vacuums {
    /// The vacuums that have ended since the cycle before, by what this one says.
    pub fn see(&mut self, at_ms: i64, told: &[Told]) -> Vec<(i64, Change)> {
        let points = told.iter().filter(|told| told.family.name == RUNNING).flat_map(|told| &told.points);
        for point in points {
            let label = |name| point.labels.get(name).unwrap_or_default().to_owned();
            let new = Running { since_ms: at_ms, seen_ms: at_ms, blocks: 0.0 };
            let running = self.running.entry((label("datname"), label("relname"))).or_insert(new);
            (running.seen_ms, running.blocks) = (at_ms, point.value);
        }
        let mut ended = Vec::new();
        self.running.retain(|(database, table), running| {
            let over = running.seen_ms < at_ms;
            if over && running.seen_ms - running.since_ms >= LONG_MS && self.limit.allows(at_ms) {
                ended.push((running.seen_ms, running.change(database, table, at_ms)));
            }
            !over
        });
        ended
    }
}

impl Running {
    fn change(&self, database: &str, table: &str, at_ms: i64) -> Change {
        let seconds = (self.seen_ms - self.since_ms) / 1000;
        let title = format!("Vacuum of {table} in {database} ran for {seconds} s or a little longer");
        let detail = json!({ "database": database, "table": table, "since_ms": self.since_ms, "seconds": seconds,
                             "not_after_ms": at_ms, "blocks": self.blocks });
        Change::new("vacuum", title, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use surus_core::series::{Family, Labels, MetricKind, Point};

    static FAMILY: Family = Family { name: RUNNING, kind: MetricKind::Gauge, help: "" };

    fn told(tables: &[&str]) -> Vec<Told> {
        let point = |table: &&str| {
            let labels = Labels::new([("datname", "shop"), ("relname", table)]).unwrap();
            Point { labels, value: 128.0 }
        };
        vec![Told { family: &FAMILY, points: tables.iter().map(point).collect() }]
    }

    #[test]
    fn long_ones_are_told_when_they_have_ended() {
        let mut vacuums = Vacuums::default();
        for cycle in 0..8 {
            let some: &[&str] = if cycle % 4 == 0 { &["a", "b"] } else { &["a"] };
            assert!(vacuums.see(cycle * 10_000, &told(some)).is_empty());
        }
        let ended = vacuums.see(80_000, &told(&[]));
        assert_eq!(ended[0].0, 70_000);
        assert_eq!(ended[0].1.title, "Vacuum of a in shop ran for 70 s or a little longer");
        assert!(vacuums.see(90_000, &[]).is_empty());
    }
}
