//! Writing the formats.

use super::Format;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
};
use surus_core::series::{Family, Labels, METRIC_NAME, MetricKind, Told};

/// What one target tells.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// `host:port`: the label `server`; empty for what belongs to no target.
    pub server: &'a str,
    pub told: Vec<&'a Told>,
}

/// Families that are about the exporter or its host. postgres_exporter and node_exporter give them no label `server`;
/// they get one only where several targets must be told apart.
const OWN: &[&str] = &["pg_up", "pg_exporter_", "pg_scrape_", "node_", "process_", "surus_"];

/// Whoever scrapes writes this one himself; a second one with the same labels would be a mistake.
const SCRAPERS: &str = "up";

/// Bytes of a piece of the page.
const PIECE: usize = 64 << 10;

/// One line to come.
struct Line<'a> {
    name: &'a str,
    /// Its place in [`Sets`].
    set: usize,
    value: f64,
}

/// All lines under one `HELP` and `TYPE`.
struct Block<'a> {
    family: &'a Family,
    lines: Vec<Line<'a>>,
}

/// Every label set that occurs, written once: a table has the same one in dozens of families, which share it.
#[derive(Default)]
struct Sets<'a> {
    /// By where the labels are in memory, and the target.
    known: HashMap<(usize, &'a str), usize>,
    all: Vec<(&'a Labels, &'a str)>,
}

impl<'a> Sets<'a> {
    fn place(&mut self, labels: &'a Labels, server: &'a str) -> usize {
        let all = &mut self.all;
        *self.known.entry((labels.place(), server)).or_insert_with(|| {
            all.push((labels, server));
            all.len() - 1
        })
    }

    /// For each set its rank in the order of the texts, and its text. Equal sets have equal ranks.
    fn written(&self) -> Vec<(usize, String)> {
        let mut written: Vec<(usize, String)> =
            self.all.iter().map(|(labels, server)| (0, label_text(labels, server))).collect();
        let mut order: Vec<usize> = (0..written.len()).collect();
        order.sort_by(|a, b| written[*a].1.cmp(&written[*b].1));
        let mut rank = 0;
        for at in 1..order.len() {
            if written[order[at]].1 != written[order[at - 1]].1 {
                rank = at;
            }
            written[order[at]].0 = rank;
        }
        written
    }
}

/// The parts as text, families in the order of their names and each once, series in the order of their labels. Of two
/// series with the same labels the first holds, since a scrape with both would be refused.
pub fn render(parts: &[Part<'_>], format: Format) -> String {
    let mut out = String::new();
    render_pieces(parts, format, |piece| {
        out.push_str(&piece);
        true
    });
    out
}

/// As [`render`], in pieces as they are written: a page of many series is large, and need not be held as a whole. Ends
/// when a piece is not wanted.
pub fn render_pieces(parts: &[Part<'_>], format: Format, mut give: impl FnMut(String) -> bool) {
    // surus itself, and the machine, are no targets and have no server.
    let servers: BTreeSet<&str> = parts.iter().map(|part| part.server).filter(|server| !server.is_empty()).collect();
    let several = servers.len() > 1;
    let mut blocks: BTreeMap<&str, Block<'_>> = BTreeMap::new();
    let mut sets = Sets::default();
    for part in parts {
        for told in part.told.iter().filter(|told| told.family.name != SCRAPERS) {
            let server = if several || !is_own(told.family.name) { part.server } else { "" };
            let block = blocks
                .entry(base(told.family))
                .or_insert_with(|| Block { family: told.family, lines: Vec::with_capacity(told.points.len()) });
            for point in &told.points {
                let server = if point.labels.get("server").is_some() { "" } else { server };
                let set = sets.place(&point.labels, server);
                block.lines.push(Line { name: told.family.name, set, value: point.value });
            }
        }
    }
    let written = sets.written();
    let mut out = String::with_capacity(PIECE + PIECE / 8);
    let names: BTreeSet<&str> = blocks.keys().copied().collect();
    for (name, mut block) in blocks {
        if block.family.kind == MetricKind::Histogram {
            block.lines.sort_by_cached_key(|line| histogram_order(line.name, &sets.all[line.set]));
        } else {
            // Stable, so that of two with the same labels the first stays.
            block.lines.sort_by_key(|line| written[line.set].0);
        }
        block.lines.dedup_by(|one, first| written[one.set].0 == written[first.set].0 && one.name == first.name);
        head(&mut out, name, block.family, format, &names);
        for line in &block.lines {
            out.push_str(line.name);
            out.push_str(&written[line.set].1);
            out.push(' ');
            number(&mut out, line.value);
            out.push('\n');
            if out.len() >= PIECE && !give(std::mem::replace(&mut out, String::with_capacity(PIECE + PIECE / 8))) {
                return;
            }
        }
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    // Nothing comes after it, wanted or not.
    let _wanted = give(out);
}

fn is_own(name: &str) -> bool {
    OWN.iter().any(|own| if own.ends_with('_') { name.starts_with(own) } else { name == *own })
}

/// The name under which a family is described: the parts of a histogram or summary are one.
fn base(family: &Family) -> &str {
    let name = family.name;
    match family.kind {
        MetricKind::Histogram | MetricKind::Summary => {
            let parts = ["_bucket", "_sum", "_count"];
            parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name)
        }
        _ => name,
    }
}

/// By all labels but the bound, then by target; buckets in the order of their bounds, before the count and the sum.
fn histogram_order(name: &str, (labels, server): &(&Labels, &str)) -> (Labels, String, String, u64) {
    let bound = labels.get("le").and_then(|le| le.parse::<f64>().ok()).unwrap_or(f64::INFINITY);
    // Bounds are not negative, and then their bits are in their order.
    (labels.keep(|name| name != "le"), (*server).to_owned(), name.to_owned(), bound.max(0.0).to_bits())
}

fn head(out: &mut String, name: &str, family: &Family, format: Format, names: &BTreeSet<&str>) {
    let (name, kind) = match (format, family.kind) {
        (Format::Text, kind) => (name, kind.as_str()),
        (Format::OpenMetrics, MetricKind::Unknown) => (name, "unknown"),
        // A counter is named without its suffix here, unless an old name without suffix stands beside it.
        (Format::OpenMetrics, MetricKind::Counter) => match name.strip_suffix("_total") {
            Some(base) if !names.contains(base) => (base, "counter"),
            _ => (name, "unknown"),
        },
        (Format::OpenMetrics, kind) => (name, kind.as_str()),
    };
    let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
    let help = if format == Format::OpenMetrics { help.replace('"', "\\\"") } else { help };
    // Writing to a String cannot fail.
    let _written = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// The labels in braces, or nothing when there are none.
fn label_text(labels: &Labels, server: &str) -> String {
    let mut out = String::with_capacity(80);
    let mut open = false;
    // `server` takes its place among the others, so that the same series is always written the same way.
    let mut server = (!server.is_empty()).then_some(server);
    for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        if name > "server"
            && let Some(server) = server.take()
        {
            label(&mut out, &mut open, "server", server);
        }
        label(&mut out, &mut open, name, value);
    }
    if let Some(server) = server {
        label(&mut out, &mut open, "server", server);
    }
    if open {
        out.push('}');
    }
    out
}

fn label(out: &mut String, open: &mut bool, name: &str, value: &str) {
    out.push(if *open { ',' } else { '{' });
    *open = true;
    out.push_str(name);
    out.push_str("=\"");
    if value.contains(['\\', '"', '\n']) {
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                other => out.push(other),
            }
        }
    } else {
        out.push_str(value);
    }
    out.push('"');
}

fn number(out: &mut String, value: f64) {
    let _written = match value {
        _ if value.is_nan() => out.write_str("NaN"),
        f64::INFINITY => out.write_str("+Inf"),
        f64::NEG_INFINITY => out.write_str("-Inf"),
        // Digits without end help nobody.
        _ if value != 0.0 && !(1e-5..1e21).contains(&value.abs()) => write!(out, "{value:e}"),
        _ => write!(out, "{value}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::parse;
    use surus_core::series::Point;

    static UP: Family = Family { name: "pg_up", kind: MetricKind::Gauge, help: "Is it there" };
    static SCRAPE: Family = Family { name: "up", kind: MetricKind::Gauge, help: "Not ours to say" };
    static SIZE: Family =
        Family { name: "pg_database_size_bytes", kind: MetricKind::Gauge, help: "A \"size\" \\ of\nmany" };
    static OLD: Family = Family { name: "pg_checks", kind: MetricKind::Counter, help: "Old" };
    static NEW: Family = Family { name: "pg_checks_total", kind: MetricKind::Counter, help: "New" };
    static WAL: Family = Family { name: "pg_wal_total", kind: MetricKind::Counter, help: "WAL" };
    static BUCKET: Family = Family { name: "idle_seconds_bucket", kind: MetricKind::Histogram, help: "Idle" };
    static SUM: Family = Family { name: "idle_seconds_sum", kind: MetricKind::Histogram, help: "Idle" };
    static COUNT: Family = Family { name: "idle_seconds_count", kind: MetricKind::Histogram, help: "Idle" };

    fn told(family: &'static Family, points: &[(&[(&str, &str)], f64)]) -> Told {
        let points = points
            .iter()
            .map(|(labels, value)| Point { labels: Labels::merged(labels.iter().copied()), value: *value })
            .collect();
        Told { family, points }
    }

    fn one<'a>(server: &'a str, told: &'a [Told]) -> Part<'a> {
        Part { server, told: told.iter().collect() }
    }

    #[test]
    fn one_target_has_the_labels_of_the_exporter() {
        let all = [
            told(&SCRAPE, &[(&[], 1.0)]),
            told(&UP, &[(&[], 1.0)]),
            told(
                &SIZE,
                &[(&[("datname", "b")], 2.5e21), (&[("datname", "a\"\\\nx")], f64::NAN), (&[("tab", "z")], 0.0)],
            ),
        ];
        let text = render(&[one("h:5432", &all)], Format::Text);
        let expected = "# HELP pg_database_size_bytes A \"size\" \\\\ of\\nmany\n# TYPE pg_database_size_bytes gauge\n\
            pg_database_size_bytes{datname=\"a\\\"\\\\\\nx\",server=\"h:5432\"} NaN\n\
            pg_database_size_bytes{datname=\"b\",server=\"h:5432\"} 2.5e21\n\
            pg_database_size_bytes{server=\"h:5432\",tab=\"z\"} 0\n\
            # HELP pg_up Is it there\n# TYPE pg_up gauge\npg_up 1\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn several_targets_share_one_head_and_are_told_apart() {
        let (a, b) = ([told(&UP, &[(&[], 1.0)])], [told(&UP, &[(&[], 0.0), (&[], 1.0)])]);
        let text = render(&[one("b:1", &b), one("a:1", &a)], Format::Text);
        assert_eq!(
            text,
            "# HELP pg_up Is it there\n# TYPE pg_up gauge\npg_up{server=\"a:1\"} 1\npg_up{server=\"b:1\"} 0\n"
        );
    }

    #[test]
    fn surus_itself_does_not_count_as_a_target() {
        let (server, own) = ([told(&UP, &[(&[], 1.0)])], [told(&WAL, &[(&[], 2.0)])]);
        let text = render(&[one("a:1", &server), one("", &own)], Format::Text);
        assert!(text.contains("\npg_up 1\n") && text.contains("\npg_wal_total 2\n"), "{text}");
    }

    #[test]
    fn openmetrics_keeps_every_name() {
        let all = [told(&OLD, &[(&[], 1.0)]), told(&NEW, &[(&[], 1.0)]), told(&WAL, &[(&[], 3.0)])];
        let text = render(&[one("", &all)], Format::OpenMetrics);
        let expected = "# HELP pg_checks Old\n# TYPE pg_checks unknown\npg_checks 1\n\
            # HELP pg_checks_total New\n# TYPE pg_checks_total unknown\npg_checks_total 1\n\
            # HELP pg_wal WAL\n# TYPE pg_wal counter\npg_wal_total 3\n# EOF\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_histogram_is_one_family_with_its_buckets_in_order() {
        let labels = |le: &'static str| [("app", "x"), ("le", le)];
        let (ten, two, inf) = (labels("10"), labels("2"), labels("+Inf"));
        let all = [
            told(&SUM, &[(&[("app", "x")], 7.5)]),
            told(&COUNT, &[(&[("app", "x")], 3.0)]),
            told(&BUCKET, &[(&ten, 2.0), (&inf, 3.0), (&two, 1.0)]),
        ];
        let text = render(&[one("", &all)], Format::Text);
        let expected = "# HELP idle_seconds Idle\n# TYPE idle_seconds histogram\n\
            idle_seconds_bucket{app=\"x\",le=\"2\"} 1\nidle_seconds_bucket{app=\"x\",le=\"10\"} 2\n\
            idle_seconds_bucket{app=\"x\",le=\"+Inf\"} 3\nidle_seconds_count{app=\"x\"} 3\nidle_seconds_sum{app=\"x\"} 7.5\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let values = [0.0, -1.0, 1e300, 1e-300, 0.1, 123_456_789.125, f64::INFINITY, f64::NEG_INFINITY, 9e15, 1e-5];
        let names: Vec<String> = (0..values.len()).map(|at| format!("{at}\\n\n\"ä{{,}}=")).collect();
        let points: Vec<Point> = names
            .iter()
            .zip(values)
            .map(|(name, value)| Point { labels: Labels::merged([("datname", name.as_str())]), value })
            .collect();
        let all = [Told { family: &SIZE, points: points.clone() }];
        let text = render(&[one("[::1]:5432", &all)], Format::Text);
        let blocks = parse(&text).unwrap();
        assert_eq!((blocks.len(), blocks[0].kind, blocks[0].help.as_str()), (1, MetricKind::Gauge, SIZE.help));
        for (sample, point) in blocks[0].samples.iter().zip(&points) {
            assert_eq!(sample.labels, point.labels.with("server", "[::1]:5432").with(METRIC_NAME, SIZE.name));
            assert_eq!(sample.value, point.value);
        }
    }
}
