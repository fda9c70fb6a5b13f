//! Everything about a range of one target that is sent to somebody who cannot look at the pages himself.

use super::{
    Asking,
    activity::{self, Activity},
    blocking::{self, Blocking},
    findings::{self, Findings},
    instance::{self, Instance},
    plot::Plot,
    queries::{self, Queries},
    timeline::{self, Timeline},
};
use crate::{api::answer::ApiError, range::Range};
use schemars::JsonSchema;
use serde::Serialize;
use surus_observe::State;
use surus_promql::Line;

/// Series of one plot; more cannot be told apart.
const SERIES: usize = 12;

/// A range of one target.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Report {
    /// The version of surus that made it.
    pub surus: &'static str,
    pub made_ms: i64,
    pub range: Range,
    /// Where the target is at the end of the range; its worries are those of when the report was made.
    pub instance: Instance,
    /// What the plots of the instance draw, in their order.
    pub drawn: Vec<Drawn>,
    pub queries: Queries,
    pub activity: Activity,
    pub blocking: Blocking,
    pub events: Timeline,
    pub findings: Findings,
    /// Collectors that say nothing, with their reasons.
    pub unseen: Vec<Unseen>,
}

/// The values of a plot, on one grid of times.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Drawn {
    /// The plot's id.
    pub id: String,
    pub from_ms: i64,
    pub step_ms: i64,
    pub series: Vec<Drawing>,
    /// Series beyond those that can be told apart.
    pub left: usize,
    /// Why a query of it was not answered.
    pub trouble: Option<String>,
}

/// One series of a plot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Drawing {
    pub name: String,
    /// One for each step; null where nothing is known.
    pub values: Vec<Option<f64>>,
}

/// Something that was not looked at, or not in full.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Unseen {
    pub what: String,
    pub database: Option<String>,
    pub why: String,
    pub next: Option<String>,
}

/// Looks at everything.
pub fn look(asking: &Asking<'_>) -> Result<Report, ApiError> {
    let instance = instance::look(asking)?;
    let mut drawn = instance.plots.iter().map(|plot| draw(asking, plot)).collect::<Vec<_>>();
    drawn.iter_mut().for_each(cut);
    Ok(Report {
        surus: env!("CARGO_PKG_VERSION"),
        made_ms: asking.scene.now_ms,
        range: asking.scene.range.clone(),
        drawn,
        queries: queries::look(asking)?,
        activity: activity::look(asking)?,
        blocking: blocking::look(asking)?,
        events: timeline::look(asking)?,
        findings: findings::look(asking)?,
        unseen: unseen(asking)?,
        instance,
    })
}

/// Asks for what a plot draws. A question that has no answer leaves the rest of the report as it is.
fn draw(asking: &Asking<'_>, plot: &Plot) -> Drawn {
    let range = &asking.scene.range;
    let step_ms = range.step_ms();
    let mut drawn = Drawn { id: plot.id.to_owned(), from_ms: range.from_ms, step_ms, ..Drawn::default() };
    let length = usize::try_from(range.length_ms() / step_ms).unwrap_or_default() + 1;
    for query in &plot.queries {
        match asking.lines(&query.expr, step_ms) {
            Ok(lines) => {
                let series = lines.iter().map(|line| Drawing {
                    name: named(&query.legend, line),
                    values: on_grid(&line.points, range.from_ms, step_ms, length),
                });
                drawn.series.extend(series);
            }
            Err(error) => drawn.trouble = Some(error.message),
        }
    }
    drawn
}

/// Keeps the greatest series.
fn cut(drawn: &mut Drawn) {
    drawn.series.retain(|series| series.values.iter().any(Option::is_some));
    if drawn.series.len() > SERIES {
        let sum = |series: &Drawing| series.values.iter().flatten().sum::<f64>();
        drawn.series.sort_by(|a, b| sum(b).total_cmp(&sum(a)));
        drawn.left = drawn.series.len() - SERIES;
        drawn.series.truncate(SERIES);
    }
}

/// The legend with labels put in.
fn named(legend: &str, line: &Line) -> String {
    let mut name = legend.to_owned();
    for (label, value) in line.labels.iter() {
        name = name.replace(&format!("{{{{{label}}}}}"), value);
    }
    name
}

/// Values by step; those between two steps or beyond all numbers are left out.
fn on_grid(points: &[(i64, f64)], from_ms: i64, step_ms: i64, length: usize) -> Vec<Option<f64>> {
    let mut values = vec![None; length];
    for (at_ms, value) in points.iter().filter(|(_, value)| value.is_finite()) {
        let at = usize::try_from((at_ms - from_ms) / step_ms).ok();
        if let Some(place) = at.and_then(|at| values.get_mut(at)) {
            *place = Some(*value);
        }
    }
    values
}

fn unseen(asking: &Asking<'_>) -> Result<Vec<Unseen>, ApiError> {
    let target = asking.target()?;
    let missing = target.missing.iter().map(|why| Unseen {
        what: "the target".to_owned(),
        database: None,
        why: why.text.clone(),
        next: why.next.map(str::to_owned),
    });
    let silent = target.collectors.iter().filter(|one| one.state != State::Fine).filter_map(|one| {
        let why = one.reason.as_ref()?;
        let next = why.next.map(str::to_owned);
        Some(Unseen { what: one.name.to_owned(), database: one.database.clone(), why: why.text.clone(), next })
    });
    Ok(missing.chain(silent).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use surus_core::series::Labels;

    #[test]
    fn values_are_put_on_the_grid() {
        let points = [(1000, 1.0), (3000, f64::NAN), (4000, 4.0), (9000, 9.0)];
        assert_eq!(on_grid(&points, 1000, 1000, 4), [Some(1.0), None, None, Some(4.0)]);
    }

    #[test]
    fn a_legend_names_the_labels() {
        let labels = Labels::new([("wait_event_type", "Lock")]).unwrap();
        let line = Line { labels, points: Vec::new() };
        assert_eq!(named("{{wait_event_type}}", &line), "Lock");
        assert_eq!(named("committed", &line), "committed");
    }

    #[test]
    fn the_greatest_series_are_kept() {
        let one = |value: usize| Drawing { name: value.to_string(), values: vec![Some(value as f64), None] };
        let mut drawn = Drawn { series: (0..15).map(one).collect(), ..Drawn::default() };
        drawn.series.push(Drawing { name: "nothing".into(), values: vec![None] });
        cut(&mut drawn);
        assert_eq!((drawn.series.len(), drawn.left, drawn.series[0].name.as_str()), (12, 3, "14"));
    }
}
