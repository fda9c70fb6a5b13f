//! A plot as SVG that needs no script: axes, grid, series as lines or stacked areas, marks of events, a legend.
//!
//! Only the curves are stretched to the width that there is: texts are placed in percent, so that they stay readable on
//! a phone and on paper.

use crate::{
    pages::words::{moment, quantity},
    views::{
        plot::{Kind, Plot, Unit},
        report::{Drawing, Drawn},
        timeline::Happened,
    },
};
use maud::{Markup, html};

/// The height of the curves, and with the labels of the time axis below, in pixels.
const HEIGHT: f64 = 150.0;
const HEIGHT_WITH_LABELS: f64 = 182.0;
/// The width that the curves are drawn for before they are stretched.
const WIDTH: f64 = 1000.0;
/// Marks of the two axes, about.
const VALUE_MARKS: f64 = 4.0;
const TIME_MARKS: i64 = 6;
/// Classes of waits in the order in which they are stacked.
const WAITS: [&str; 9] = ["CPU", "IO", "Lock", "LWLock", "IPC", "BufferPin", "Timeout", "Extension", "Client"];
/// Colours that series take in turn.
const COLOURS: usize = 12;

/// Draws a plot of a range with the events of it.
pub fn draw(plot: &Plot, drawn: &Drawn, (from_ms, to_ms): (i64, i64), events: &[Happened]) -> Markup {
    let mut series: Vec<&Drawing> = drawn.series.iter().collect();
    if plot.waits {
        let place = |name: &str| WAITS.iter().position(|wait| *wait == name).unwrap_or(WAITS.len());
        series.sort_by_key(|one| (place(&one.name), one.name.clone()));
    }
    let classes: Vec<String> = series.iter().enumerate().map(|(at, one)| class(plot.waits, at, &one.name)).collect();
    html! {
        figure #{ "plot-" (plot.id) } {
            figcaption {
                h3 { (plot.title) }
                @if !plot.about.is_empty() { p.faint { (plot.about) } }
            }
            @if let Some(trouble) = &drawn.trouble { p.warn { "Not everything could be drawn: " (trouble) } }
            @if series.is_empty() { p.nothing { (plot.empty) } } @else {
                (picture(plot, drawn, &series, &classes, (from_ms, to_ms), events))
                (legend(plot, &series, &classes, drawn.left))
            }
        }
    }
}

fn class(waits: bool, at: usize, name: &str) -> String {
    match waits && WAITS.contains(&name) {
        true => format!("wait-{name}"),
        false => format!("series-{}", at % COLOURS + 1),
    }
}

fn picture(
    plot: &Plot,
    drawn: &Drawn,
    series: &[&Drawing],
    classes: &[String],
    (from_ms, to_ms): (i64, i64),
    events: &[Happened],
) -> Markup {
    let areas = if plot.kind == Kind::Stack { stacked(series) } else { Vec::new() };
    let scale = Scale::of(plot, drawn, series, &areas, (from_ms, to_ms));
    let marks = ticks(scale.low, scale.high, VALUE_MARKS, plot.unit);
    let times = time_ticks(from_ms, to_ms);
    let labels = time_labels(&times);
    html! {
        svg.chart role="img" aria-label=(said(plot, series)) height=(HEIGHT_WITH_LABELS) {
            @for mark in &marks {
                @let y = number(scale.y(*mark));
                line.grid x1="0" x2="100%" y1=(y) y2=(y) {}
                text.value x="-6" y=(y) dy="4" { (quantity(*mark, plot.unit)) }
            }
            @for (at_ms, (time, date)) in times.iter().zip(&labels) {
                @let x = percent(*at_ms, from_ms, to_ms);
                line.tick x1=(x) x2=(x) y1=(HEIGHT) y2=(HEIGHT + 4.0) {}
                text.time x=(x) y=(HEIGHT + 15.0) { (time) }
                @if let Some(date) = date { text.time x=(x) y=(HEIGHT + 28.0) { (date) } }
            }
            svg width="100%" height=(HEIGHT) viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" {
                @for (area, class) in areas.iter().zip(classes) { path.area.(class) d=(area_path(area, &scale)) {} }
                @if areas.is_empty() {
                    @for (one, class) in series.iter().zip(classes) {
                        path.curve.(class) d=(line_path(&one.values, &scale)) vector-effect="non-scaling-stroke" {}
                    }
                }
            }
            @for event in events.iter().filter(|event| (from_ms..=to_ms).contains(&event.at_ms)) {
                @let x = percent(event.at_ms, from_ms, to_ms);
                line.event x1=(x) x2=(x) y1="0" y2=(HEIGHT) { title { (moment(event.at_ms)) " " (event.title) } }
            }
            // A limit far above is only told below: drawn to scale it would press the curves flat.
            @if let Some(limit) = plot.limit.as_ref().filter(|limit| limit.value <= scale.high) {
                @let y = number(scale.y(limit.value));
                line.limit x1="0" x2="100%" y1=(y) y2=(y) {}
            }
            line.axis x1="0" x2="100%" y1=(HEIGHT) y2=(HEIGHT) {}
        }
    }
}

/// The plot in words, for those who do not see it.
fn said(plot: &Plot, series: &[&Drawing]) -> String {
    let one = |one: &&Drawing| {
        let most = one.values.iter().flatten().copied().fold(f64::MIN, f64::max);
        format!("{} up to {}", one.name, quantity(most, plot.unit))
    };
    format!("{}: {}", plot.title, series.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn legend(plot: &Plot, series: &[&Drawing], classes: &[String], left: usize) -> Markup {
    html! {
        ul.legend {
            @for (one, class) in series.iter().zip(classes) {
                @let known: Vec<f64> = one.values.iter().flatten().copied().collect();
                @let most = known.iter().copied().fold(f64::MIN, f64::max);
                li {
                    svg.swatch width="10" height="10" aria-hidden="true" {
                        rect.area.(class) width="10" height="10" {}
                    }
                    " " (one.name) " "
                    span.faint {
                        // A stack is nought where only others have a value; a mean over the rest would say too much.
                        @if plot.kind == Kind::Line {
                            "mean " (quantity(known.iter().sum::<f64>() / known.len() as f64, plot.unit)) ", "
                        }
                        "max " (quantity(most, plot.unit))
                    }
                }
            }
            @if let Some(limit) = &plot.limit {
                li {
                    svg.swatch width="14" height="10" aria-hidden="true" { line.limit x1="0" x2="14" y1="5" y2="5" {} }
                    " " (limit.label)
                }
            }
            @if left > 0 { li.faint { "and " (left) " more that are not drawn" } }
        }
    }
}

/// From values and times to places in the picture.
#[derive(Debug, Clone, Copy)]
struct Scale {
    low: f64,
    high: f64,
    from_ms: f64,
    length_ms: f64,
    first_ms: f64,
    step_ms: f64,
}

impl Scale {
    fn of(plot: &Plot, drawn: &Drawn, series: &[&Drawing], areas: &[Area], (from_ms, to_ms): (i64, i64)) -> Self {
        let tops = areas.iter().flatten().flatten().map(|(_, top)| *top);
        let values = series.iter().flat_map(|one| one.values.iter().flatten().copied());
        let (least, most) = match areas.is_empty() {
            true => extent(values),
            false => extent(tops),
        };
        let limit = plot.limit.as_ref().map(|limit| limit.value).filter(|limit| *limit <= most * 3.0);
        let (low, mut high) = (least.min(0.0), most.max(limit.unwrap_or(most)));
        high += (high - low) * 0.06;
        if plot.unit == Unit::Percent && most <= 1.0 {
            high = high.min(1.0);
        }
        if high <= low {
            high = low + if plot.unit == Unit::Percent { 0.01 } else { 1.0 };
        }
        Self {
            low,
            high,
            from_ms: from_ms as f64,
            length_ms: (to_ms - from_ms).max(1) as f64,
            first_ms: drawn.from_ms as f64,
            step_ms: drawn.step_ms as f64,
        }
    }

    fn x(&self, step: usize) -> f64 {
        (self.first_ms + self.step_ms * step as f64 - self.from_ms) / self.length_ms * WIDTH
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - (value - self.low) / (self.high - self.low) * HEIGHT
    }
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)))
}

/// Below and above of one series in a stack, by step.
type Area = Vec<Option<(f64, f64)>>;

/// Series on top of each other. Where none has a value there is a gap; one alone without a value counts as nought.
fn stacked(series: &[&Drawing]) -> Vec<Area> {
    let length = series.iter().map(|one| one.values.len()).max().unwrap_or_default();
    let value = |one: &Drawing, at: usize| one.values.get(at).copied().flatten();
    let known: Vec<bool> = (0..length).map(|at| series.iter().any(|one| value(one, at).is_some())).collect();
    let mut below = vec![0.0; length];
    let area = |one: &&Drawing| {
        let mut area = Vec::with_capacity(length);
        for (at, (base, known)) in below.iter_mut().zip(&known).enumerate() {
            let bottom = *base;
            *base += value(one, at).unwrap_or_default();
            area.push(known.then_some((bottom, *base)));
        }
        area
    };
    series.iter().map(area).collect()
}

/// Runs of steps without a gap.
fn runs<T>(values: &[Option<T>]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, _) in values.iter().enumerate().filter(|(_, value)| value.is_some()) {
        match runs.last_mut().filter(|run| run.end == at) {
            Some(run) => run.end += 1,
            None => runs.push(at..at + 1),
        }
    }
    runs
}

fn line_path(values: &[Option<f64>], scale: &Scale) -> String {
    let mut path = String::new();
    for run in runs(values) {
        let alone = run.len() == 1;
        for (place, at) in run.enumerate() {
            let value = values[at].unwrap_or_default();
            let letter = if place == 0 { 'M' } else { 'L' };
            path.push_str(&format!("{letter}{} {}", number(scale.x(at)), number(scale.y(value))));
        }
        if alone {
            // Its round ends make a dot of it.
            path.push_str("h0");
        }
    }
    path
}

fn area_path(area: &Area, scale: &Scale) -> String {
    let mut path = String::new();
    for run in runs(area) {
        if area[run.clone()].iter().flatten().all(|(below, above)| above <= below) {
            continue;
        }
        let point = |at: usize, value: f64| format!("{} {}", number(scale.x(at)), number(scale.y(value)));
        let known = |at: usize| area[at].unwrap_or_default();
        if run.len() == 1 {
            // One step alone is as wide as half a step to each side.
            let (half, (below, above)) = (scale.step_ms / scale.length_ms * WIDTH / 2.0, known(run.start));
            let (x, width) = (scale.x(run.start) - half, number(half * 2.0));
            let (top, bottom) = (number(scale.y(above)), number(scale.y(below)));
            path.push_str(&format!("M{} {bottom}V{top}h{width}V{bottom}Z", number(x)));
            continue;
        }
        let above = run.clone().map(|at| point(at, known(at).1));
        let below = run.rev().map(|at| point(at, known(at).0));
        path.push_str(&format!("M{}Z", above.chain(below).collect::<Vec<_>>().join("L")));
    }
    path
}

/// A coordinate, as short as the eye can tell.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(short) => short.to_owned(),
        None => text,
    }
}

fn percent(at_ms: i64, from_ms: i64, to_ms: i64) -> String {
    format!("{:.2}%", (at_ms - from_ms) as f64 / (to_ms - from_ms).max(1) as f64 * 100.0)
}

/// Marks of a value axis: rounded in the unit's own base.
fn ticks(low: f64, high: f64, about: f64, unit: Unit) -> Vec<f64> {
    let rough = (high - low) / about;
    if !rough.is_finite() || rough <= 0.0 {
        return vec![low];
    }
    let binary = matches!(unit, Unit::Bytes | Unit::BytesPerSecond) && rough >= 1.0;
    let step = if binary {
        let power = 1024f64.powf((rough.ln() / 1024f64.ln()).floor());
        let marks = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 256.0, 512.0];
        marks.into_iter().find(|mark| mark * power >= rough).unwrap_or(1024.0) * power
    } else {
        let power = 10f64.powf(rough.log10().floor());
        [1.0, 2.0, 5.0].into_iter().find(|mark| mark * power >= rough * 0.999).unwrap_or(10.0) * power
    };
    let first = (low / step - 1e-9).ceil() as i64;
    (first..).map(|at| at as f64 * step).take_while(|mark| *mark <= high + step * 1e-9).take(20).collect()
}

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Distances of marks on a time axis, in milliseconds.
const TIME_STEPS: [i64; 20] = [
    1000,
    5000,
    10_000,
    15_000,
    30_000,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    28 * DAY,
];

/// Marks of the time axis, at whole minutes, hours, days of UTC.
fn time_ticks(from_ms: i64, to_ms: i64) -> Vec<i64> {
    let rough = (to_ms - from_ms) / TIME_MARKS;
    let step = TIME_STEPS.into_iter().find(|step| *step >= rough).unwrap_or(182 * DAY);
    let first = from_ms.div_euclid(step) + i64::from(from_ms.rem_euclid(step) > 0);
    (first..).map(|at| at * step).take_while(|at| *at <= to_ms).collect()
}

/// Their labels: the time, with the date below it where that changes; for whole days the date alone.
fn time_labels(marks: &[i64]) -> Vec<(String, Option<String>)> {
    let written = |at_ms: i64, format: &str| {
        jiff::Timestamp::from_millisecond(at_ms).map(|at| at.strftime(format).to_string()).unwrap_or_default()
    };
    let step = marks.first().zip(marks.get(1)).map_or(0, |(first, second)| second - first);
    let mut before = String::new();
    let label = |at: &i64| {
        let date = written(*at, "%-d %b");
        if step >= DAY {
            return (date, None);
        }
        let changed = date != before;
        before.clone_from(&date);
        (written(*at, if step < MINUTE { "%H:%M:%S" } else { "%H:%M" }), changed.then_some(date))
    };
    marks.iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, values: &[Option<f64>]) -> Drawing {
        Drawing { name: name.into(), values: values.to_vec() }
    }

    fn drawn(all: Vec<Drawing>) -> Drawn {
        Drawn { from_ms: 0, step_ms: 1000, series: all, ..Drawn::default() }
    }

    #[test]
    fn value_marks_are_round() {
        assert_eq!(ticks(0.0, 10.6, 4.0, Unit::Count), [0.0, 5.0, 10.0]);
        assert_eq!(ticks(0.0, 0.9, 4.0, Unit::Percent), [0.0, 0.5]);
        assert_eq!(ticks(-1.0, 1.0, 4.0, Unit::Count), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        let bytes: Vec<f64> = ticks(0.0, 3.2 * 1024.0 * 1024.0, 4.0, Unit::Bytes);
        assert_eq!(bytes, [0.0, 1_048_576.0, 2_097_152.0, 3_145_728.0]);
        assert_eq!(ticks(3.0, 3.0, 4.0, Unit::Count), [3.0]);
    }

    #[test]
    fn time_marks_are_at_whole_hours_and_say_the_date_once() {
        let from = 20 * HOUR + 10 * MINUTE;
        let marks = time_ticks(from, from + 8 * HOUR);
        let told: Vec<String> =
            time_labels(&marks).into_iter().map(|(time, date)| time + &date.unwrap_or_default()).collect();
        assert_eq!(told, ["22:001 Jan", "00:002 Jan", "02:00", "04:00"]);
        assert_eq!(time_labels(&time_ticks(0, 40 * DAY))[0], ("1 Jan".to_owned(), None));
        assert_eq!(time_labels(&time_ticks(0, 60_000))[1].0, "00:00:10");
        assert!(time_ticks(0, 800 * DAY).len() <= 6);
    }

    #[test]
    fn a_stack_counts_a_missing_part_as_nought_and_keeps_gaps() {
        let (a, b) = (series("a", &[Some(1.0), None, None]), series("b", &[Some(2.0), Some(3.0), None]));
        let areas = stacked(&[&a, &b]);
        assert_eq!(areas[0], [Some((0.0, 1.0)), Some((0.0, 0.0)), None]);
        assert_eq!(areas[1], [Some((1.0, 3.0)), Some((0.0, 3.0)), None]);
    }

    #[test]
    fn gaps_stay_gaps() {
        let plot = Plot::lines("x", "X", Unit::Count);
        let one = series("x", &[Some(0.0), Some(1.0), None, Some(1.0), None]);
        let scale = Scale::of(&plot, &drawn(Vec::new()), &[&one], &[], (0, 4000));
        let path = line_path(&one.values, &scale);
        assert_eq!(path, "M0 150L250 8.5M750 8.5h0");
        let area = stacked(&[&one]);
        let path = area_path(&area[0], &scale);
        assert_eq!(path, "M0 150L250 8.5L250 150L0 150ZM625 150V8.5h250V150Z");
    }

    #[test]
    fn a_limit_nearby_has_its_room_and_one_far_away_does_not() {
        let one = series("x", &[Some(2.0)]);
        let plot = |limit| Plot::stack("x", "X", Unit::Sessions).limit(Some(limit), |limit| format!("{limit} cores"));
        let high = |limit| {
            let plot = plot(limit);
            Scale::of(&plot, &drawn(Vec::new()), &[&one], &stacked(&[&one]), (0, 1000)).high
        };
        assert!(high(4.0) > 4.0 && high(100.0) < 3.0);
        let page = |limit| draw(&plot(limit), &drawn(vec![one.clone()]), (0, 1000), &[]).into_string();
        let lines = |limit| page(limit).matches("class=\"limit\" x1").count();
        // One of them is the one in the legend.
        assert_eq!((lines(4.0), lines(100.0)), (2, 1));
        assert!(page(100.0).contains("100 cores"));
    }

    #[test]
    fn names_are_text_and_waits_have_their_colours() {
        let plot = Plot::stack("load", "Load", Unit::Sessions).waits();
        let all = drawn(vec![series("<b>", &[Some(1.0)]), series("Lock", &[Some(1.0)]), series("CPU", &[Some(1.0)])]);
        let event = Happened {
            at_ms: 500,
            target: String::new(),
            kind: "deploy".into(),
            title: "v<42>".into(),
            detail: serde_json::Value::Null,
        };
        let text = draw(&plot, &all, (0, 1000), &[event]).into_string();
        assert!(text.contains("&lt;b&gt;") && !text.contains("<b>") && text.contains("v&lt;42&gt;"), "{text}");
        let place = |class: &str| text.find(&format!("area {class}")).unwrap();
        assert!(place("wait-CPU") < place("wait-Lock") && place("wait-Lock") < place("series-3"), "{text}");
        assert!(text.contains("x1=\"50.00%\""), "{text}");
        let nothing = draw(&plot.empty("Nobody looked."), &drawn(Vec::new()), (0, 1000), &[]).into_string();
        assert!(nothing.contains("Nobody looked.") && !nothing.contains("<svg"), "{nothing}");
    }
}
