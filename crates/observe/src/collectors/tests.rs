//! What holds for every collector, on every major that is here.

use super::declared;
use super::testing::{every, has_text, heard};
use crate::collector::{Need, TRUNCATED};
use std::collections::{BTreeMap, BTreeSet};
use surus_core::{
    series::{METRIC_NAME, is_label_name, is_metric_name},
    version::{NEWEST_MAJOR, OLDEST_MAJOR},
};
use surus_testkit::{Server, each_major};

#[test]
fn names_are_unique_and_families_are_described() {
    let mut names = BTreeSet::new();
    let mut families = BTreeMap::new();
    for collector in every() {
        assert!(names.insert(collector.name), "{} is there twice", collector.name);
        assert!(!collector.reads.is_empty() && !declared(collector).is_empty(), "{}", collector.name);
        for family in collector.families {
            assert!(is_metric_name(family.name), "{}", family.name);
            assert!(!family.help.is_empty() && !family.help.contains('\n'), "{}", family.name);
            let other = families.insert(family.name, collector.name);
            let shared = std::ptr::eq(*family, &TRUNCATED) || collector.name.ends_with("_fine");
            assert!(other.is_none() || shared, "{} is of {other:?} and {}", family.name, collector.name);
        }
        for declared in declared(collector) {
            let fine = |label: &&str| is_label_name(label) && *label != METRIC_NAME && *label != "server";
            assert!(declared.labels.iter().all(fine), "{}", declared.family.name);
        }
    }
}

#[test]
fn every_major_that_is_needed_has_a_text() {
    for collector in every() {
        let needed =
            collector.needs.iter().filter_map(|need| if let Need::Major(major) = need { Some(*major) } else { None });
        for major in needed.max().unwrap_or(OLDEST_MAJOR)..=NEWEST_MAJOR {
            assert!(has_text(collector, major), "{} has no query for {major}", collector.name);
        }
    }
}

#[test]
fn every_collector_reads_every_major() {
    each_major(|major| {
        let server = Server::builder().major(major).start();
        server.sql("CREATE TABLE t (id bigint PRIMARY KEY, body text); INSERT INTO t SELECT g, repeat('x', g % 50) FROM generate_series(1, 2000) g; ANALYZE t");
        let heard = heard(&server, "postgres", &every());
        let known: BTreeMap<&str, &[&str]> =
            every().iter().flat_map(|one| declared(one)).map(|one| (one.family.name, one.labels)).collect();
        for (name, points) in &heard.points {
            let labels = known.get(name).copied().unwrap_or_else(|| {
                assert!(name.starts_with("pg_settings_"), "{name} is not declared");
                &[]
            });
            for point in points.keys() {
                let stray = point.iter().find(|(label, _)| !labels.contains(label));
                assert!(stray.is_none(), "{name} has the label {stray:?}, which it does not declare");
            }
        }
    });
}
