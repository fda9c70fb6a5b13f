//! Dashboards for Grafana. They use only names that surus emits, which a test checks, so a panel is empty only when
//! there is nothing to show.

mod host;
mod overview;
mod replication;
mod tables;

use serde_json::{Value, json};

/// Every dashboard, with the name of its file.
pub static DASHBOARDS: &[&Dashboard] =
    &[&overview::DASHBOARD, &replication::DASHBOARD, &tables::DASHBOARD, &host::DASHBOARD];

/// The version of Grafana's dashboard format that is written.
const SCHEMA_VERSION: u32 = 41;
/// The width of a dashboard in Grafana's grid.
const GRID_WIDTH: u32 = 24;
const PANEL_HEIGHT: u32 = 8;
const STAT_HEIGHT: u32 = 4;

/// A dashboard.
#[derive(Debug)]
pub struct Dashboard {
    /// Its address within Grafana; an import with the same one replaces it.
    pub uid: &'static str,
    pub title: &'static str,
    pub about: &'static str,
    /// Besides the data source: what can be chosen, each depending on those before it.
    variables: &'static [Variable],
    rows: &'static [Row],
}

/// Something to choose at the top.
#[derive(Debug)]
struct Variable {
    name: &'static str,
    label: &'static str,
    /// A selector; its label's values can be chosen.
    selector: &'static str,
    of: &'static str,
    /// May several be chosen at once?
    several: bool,
}

/// Panels under one title.
#[derive(Debug)]
struct Row {
    title: &'static str,
    panels: &'static [Panel],
}

/// A panel.
#[derive(Debug)]
struct Panel {
    title: &'static str,
    about: &'static str,
    kind: Kind,
    /// Grafana's name of the unit.
    unit: &'static str,
    width: u32,
    queries: &'static [Query],
}

/// How a panel shows its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Lines over time.
    Lines,
    /// Areas that add up.
    Stacked,
    /// The newest value.
    Stat,
    /// The newest values as rows.
    Table,
}

/// A query with how its series are named.
#[derive(Debug)]
struct Query {
    promql: &'static str,
    legend: &'static str,
}

/// The servers that can be chosen.
const INSTANCE: Variable =
    Variable { name: "instance", label: "Server", selector: "pg_up", of: "instance", several: true };
/// The databases of the chosen servers.
const DATABASE: Variable = Variable {
    name: "datname",
    label: "Database",
    selector: r#"pg_stat_database_numbackends{instance=~"$instance",datname!=""}"#,
    of: "datname",
    several: true,
};

const fn panel(
    title: &'static str,
    about: &'static str,
    kind: Kind,
    unit: &'static str,
    width: u32,
    queries: &'static [Query],
) -> Panel {
    Panel { title, about, kind, unit, width, queries }
}

const fn query(promql: &'static str, legend: &'static str) -> Query {
    Query { promql, legend }
}

impl Dashboard {
    /// Its JSON, as Grafana imports it.
    pub fn json(&self) -> Value {
        let (mut panels, mut id, mut y) = (Vec::new(), 0, 0);
        for row in self.rows {
            id += 1;
            panels.push(json!({
                "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": { "h": 1, "w": GRID_WIDTH, "x": 0, "y": y },
            }));
            y += 1;
            let (mut x, mut tallest) = (0, 0);
            for panel in row.panels {
                if x + panel.width > GRID_WIDTH {
                    (x, y, tallest) = (0, y + tallest, 0);
                }
                id += 1;
                let height = if panel.kind == Kind::Stat { STAT_HEIGHT } else { PANEL_HEIGHT };
                panels.push(panel.json(id, [x, y, panel.width, height]));
                x += panel.width;
                tallest = tallest.max(height);
            }
            y += tallest;
        }
        let mut variables = vec![json!({
            "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
            "current": {}, "hide": 0, "refresh": 1, "regex": "", "includeAll": false, "multi": false, "options": [],
        })];
        variables.extend(self.variables.iter().map(Variable::json));
        json!({
            "uid": self.uid, "title": self.title, "description": self.about, "tags": ["postgresql", "surus"],
            "schemaVersion": SCHEMA_VERSION, "version": 1, "editable": true, "graphTooltip": 1, "refresh": "30s",
            "time": { "from": "now-3h", "to": "now" }, "timezone": "browser", "timepicker": {},
            "templating": { "list": variables }, "annotations": { "list": [] }, "links": [], "panels": panels,
        })
    }
}

impl Variable {
    fn json(&self) -> Value {
        let query = format!("label_values({}, {})", self.selector, self.of);
        let current = if self.several { json!({ "text": ["All"], "value": ["$__all"] }) } else { json!({}) };
        json!({
            "name": self.name, "label": self.label, "type": "query", "datasource": datasource(),
            "definition": query, "query": { "query": query, "refId": "values" },
            "refresh": 2, "sort": 1, "includeAll": self.several, "multi": self.several, "current": current,
            "hide": 0, "regex": "", "options": [], "skipUrlSync": false,
        })
    }
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

impl Panel {
    fn json(&self, id: u32, [x, y, w, h]: [u32; 4]) -> Value {
        let newest = matches!(self.kind, Kind::Stat | Kind::Table);
        let target = |(at, query): (usize, &Query)| {
            json!({
                "refId": char::from(b'A' + u8::try_from(at).unwrap_or_default()).to_string(),
                "datasource": datasource(), "editorMode": "code", "expr": query.promql, "legendFormat": query.legend,
                "instant": newest, "range": !newest, "format": if self.kind == Kind::Table { "table" } else { "time_series" },
            })
        };
        let targets: Vec<Value> = self.queries.iter().enumerate().map(target).collect();
        let mut panel = json!({
            "id": id, "title": self.title, "description": self.about, "type": self.kind.grafana(),
            "datasource": datasource(), "gridPos": { "h": h, "w": w, "x": x, "y": y }, "targets": targets,
            "fieldConfig": { "defaults": { "unit": self.unit, "custom": {} }, "overrides": [] },
            "options": {},
        });
        match self.kind {
            Kind::Lines | Kind::Stacked => {
                let stacked = self.kind == Kind::Stacked;
                panel["fieldConfig"]["defaults"]["min"] = json!(0);
                panel["fieldConfig"]["defaults"]["custom"] = json!({
                    "drawStyle": "line", "lineWidth": 1, "fillOpacity": if stacked { 60 } else { 8 },
                    "showPoints": "never", "spanNulls": false,
                    "stacking": { "mode": if stacked { "normal" } else { "none" }, "group": "A" },
                });
                panel["options"] = json!({
                    "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
                    "tooltip": { "mode": "multi", "sort": "desc" },
                });
            }
            Kind::Stat => {
                panel["options"] = json!({
                    "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                    "colorMode": "none", "graphMode": "none", "textMode": "auto", "orientation": "auto",
                });
            }
            Kind::Table => {
                panel["options"] = json!({ "showHeader": true, "cellHeight": "sm" });
                panel["transformations"] = json!([{
                    "id": "organize",
                    "options": { "excludeByName": { "Time": true, "job": true, "__name__": true } },
                }]);
            }
        }
        panel
    }
}

impl Kind {
    fn grafana(self) -> &'static str {
        match self {
            Self::Lines | Self::Stacked => "timeseries",
            Self::Stat => "stat",
            Self::Table => "table",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use surus_observe::{activity, collectors, host, own};

    /// With what Grafana puts in place of its variables.
    fn filled(promql: &str) -> String {
        let values = [("$__rate_interval", "1m"), ("$__interval", "1m"), ("$__range", "3h")];
        let text = values.iter().fold(promql.to_owned(), |text, (name, value)| text.replace(name, value));
        ["$instance", "$datname", "$relname"].iter().fold(text, |text, name| text.replace(name, ".+"))
    }

    /// The words of a query that may be metrics: those that no bracket, brace content or keyword explains.
    fn metrics(promql: &str) -> Vec<String> {
        let mut outside = String::new();
        let (mut braces, mut quoted) = (0, false);
        for c in promql.chars() {
            match c {
                '"' => quoted = !quoted,
                '{' if !quoted => braces += 1,
                '}' if !quoted => braces -= 1,
                _ if braces == 0 && !quoted => outside.push(c),
                _ => {}
            }
        }
        let words = outside.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named = ["pg_", "node_", "surus_", "process_"];
        words.filter(|word| named.iter().any(|start| word.starts_with(start))).map(str::to_owned).collect()
    }

    #[test]
    fn every_query_parses_and_every_metric_is_one_that_surus_emits() {
        let collected = collectors::ALL.iter().chain(collectors::OPT_IN).flat_map(|collector| collector.families);
        let families = collected.chain(own::FAMILIES).copied();
        let families = families.chain([&activity::ACTIVE]).chain(host::declared().map(|(family, _)| family));
        let mut emitted: BTreeSet<&str> = families.map(|family| family.name).collect();
        // One family for each setting: the names are the server's.
        emitted.extend(["pg_settings_max_connections", "pg_settings_autovacuum_freeze_max_age"]);
        assert!(collectors::find("settings").is_some());
        for dashboard in DASHBOARDS {
            let queries = dashboard.rows.iter().flat_map(|row| row.panels).flat_map(|panel| panel.queries);
            let all = queries.map(|query| query.promql).chain(dashboard.variables.iter().map(|one| one.selector));
            for promql in all {
                let text = filled(promql);
                surus_promql::Query::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
                let metrics = metrics(&text);
                assert!(!metrics.is_empty(), "{promql}");
                for metric in metrics {
                    assert!(emitted.contains(metric.as_str()), "{}: surus has no {metric}", dashboard.title);
                }
            }
        }
    }

    #[test]
    fn panels_fill_the_grid_without_overlap() {
        for dashboard in DASHBOARDS {
            let json = dashboard.json();
            let panels = json["panels"].as_array().unwrap();
            let mut taken = BTreeSet::new();
            let mut ids = BTreeSet::new();
            for panel in panels {
                let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
                assert!(at("x") + at("w") <= 24, "{panel}");
                for (x, y) in
                    (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
                {
                    assert!(taken.insert((x, y)), "{} overlaps", panel["title"]);
                }
                assert!(ids.insert(panel["id"].as_u64().unwrap()));
                if panel["type"] != "row" {
                    assert_eq!(panel["datasource"]["uid"], "${datasource}");
                    assert!(!panel["targets"].as_array().unwrap().is_empty());
                }
            }
        }
        let uids: BTreeSet<&str> = DASHBOARDS.iter().map(|dashboard| dashboard.uid).collect();
        assert_eq!(uids.len(), DASHBOARDS.len());
    }
}
