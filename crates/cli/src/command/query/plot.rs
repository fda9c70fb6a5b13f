//! Ranges as a plot in the terminal: Braille dots, two by four in each character. Series are told apart by colour and
//! by the letter at their end, so that it also works without colours.

use super::table::number;
use super::times::{Range, shown};
use crate::{paint::Paint, wrap};
use std::fmt::Write;
use surus_promql::Line;

/// Rows of characters.
const ROWS: usize = 14;
/// Series that are drawn: more than letters and colours can tell apart are only counted.
const MOST: usize = 12;
/// Columns for the numbers left of the plot, and for letters right of it.
const LEFT: usize = 12;
const RIGHT: usize = 5;

/// How many points a plot of this width shows.
pub fn columns(width: usize) -> usize {
    width.saturating_sub(LEFT + RIGHT).max(20) * 2
}

/// Dots, and who made the last one in each character.
struct Canvas {
    width: usize,
    dots: Vec<u8>,
    owners: Vec<usize>,
}

impl Canvas {
    fn new(width: usize) -> Self {
        Self { width, dots: vec![0; width * ROWS], owners: vec![0; width * ROWS] }
    }

    /// Sets the dot in this column and row, counted from the left and the top.
    fn set(&mut self, x: usize, y: usize, owner: usize) {
        const BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
        let (cell_x, cell_y) = (x / 2, y / 4);
        if cell_x < self.width && cell_y < ROWS {
            let cell = cell_y * self.width + cell_x;
            self.dots[cell] |= BITS[x % 2][y % 4];
            self.owners[cell] = owner;
        }
    }

    fn line(&mut self, (x0, y0): (usize, usize), (x1, y1): (usize, usize), owner: usize) {
        let length = x1.abs_diff(x0).max(y1.abs_diff(y0)).max(1);
        for place in 0..=length {
            let between = |a: usize, b: usize| {
                let share = place as f64 / length as f64;
                (a as f64 + (b as f64 - a as f64) * share).round() as usize
            };
            self.set(between(x0, x1), between(y0, y1), owner);
        }
    }
}

/// Lowest and highest finite value; a little apart when they are the same.
fn bounds(lines: &[&Line]) -> (f64, f64) {
    let values =
        || lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value).filter(|value| value.is_finite());
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    if low > high {
        return (0.0, 1.0);
    }
    if low == high {
        let apart = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
        return (low - apart, high + apart);
    }
    (low, high)
}

/// The series that are drawn: those that reach highest.
fn chosen(lines: &[Line]) -> Vec<&Line> {
    let peak = |line: &Line| {
        let values = line.points.iter().map(|(_, value)| *value).filter(|value| value.is_finite());
        values.fold(f64::NEG_INFINITY, f64::max)
    };
    let mut chosen: Vec<&Line> = lines.iter().collect();
    if chosen.len() > MOST {
        chosen.sort_by(|a, b| peak(b).total_cmp(&peak(a)));
        chosen.truncate(MOST);
    }
    chosen
}

/// The plot with its axes and legend.
pub fn drawn(lines: &[Line], range: Range, width: usize) -> String {
    let chosen = chosen(lines);
    let (low, high) = bounds(&chosen);
    let mut canvas = Canvas::new(columns(width) / 2);
    let (dots_x, dots_y) = (canvas.width * 2 - 1, ROWS * 4 - 1);
    let duration = ((range.end_ms - range.start_ms) as f64).max(1.0);
    let place = |(at_ms, value): (i64, f64)| {
        let x = ((at_ms - range.start_ms) as f64 / duration * dots_x as f64).round() as usize;
        let y = ((high - value) / (high - low) * dots_y as f64).round() as usize;
        (x, y)
    };
    let mut ends: Vec<String> = vec![String::new(); ROWS];
    for (owner, line) in chosen.iter().enumerate() {
        let mut before: Option<(i64, (usize, usize))> = None;
        for &(at_ms, value) in line.points.iter().filter(|(_, value)| value.is_finite()) {
            let here = place((at_ms, value));
            match before {
                // A gap stays a gap.
                Some((earlier, there)) if at_ms - earlier <= range.step_ms => canvas.line(there, here, owner),
                _ => canvas.set(here.0, here.1, owner),
            }
            before = Some((at_ms, here));
        }
        if let Some((_, (_, y))) = before {
            ends[y / 4].push(letter(owner));
        }
    }
    let mut out = String::new();
    for (row, end) in ends.iter().enumerate() {
        let label = match row {
            0 => number(high),
            _ if row == ROWS - 1 => number(low),
            _ if row == ROWS / 2 => number(f64::midpoint(low, high)),
            _ => String::new(),
        };
        let _ = write!(out, "{label:>width$} │", width = LEFT - 2);
        for cell in row * canvas.width..(row + 1) * canvas.width {
            match canvas.dots[cell] {
                0 => out.push(' '),
                dots => {
                    let _ = write!(out, "{}", Paint::line(canvas.owners[cell], braille(dots)));
                }
            }
        }
        let shown: String = end.chars().take(RIGHT - 1).collect();
        out.push_str(format!(" {shown}").trim_end());
        out.push('\n');
    }
    axis(&mut out, range, canvas.width);
    legend(&mut out, &chosen, lines.len(), width);
    out
}

fn letter(owner: usize) -> char {
    char::from(b'A' + u8::try_from(owner).unwrap_or(25).min(25))
}

fn braille(dots: u8) -> char {
    char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' ')
}

fn axis(out: &mut String, range: Range, width: usize) {
    let _ = writeln!(out, "{:>left$}└{}", "", "─".repeat(width), left = LEFT - 1);
    let (start, end) = (shown(range.start_ms), shown(range.end_ms));
    let between = width.saturating_sub(start.len() + end.len());
    let _ = writeln!(out, "{:>LEFT$}{start}{:>between$}{end} UTC", "", "");
}

fn legend(out: &mut String, chosen: &[&Line], all: usize, width: usize) {
    for (owner, line) in chosen.iter().enumerate() {
        let values = || line.points.iter().map(|(_, value)| *value);
        let low = values().fold(f64::NAN, f64::min);
        let high = values().fold(f64::NAN, f64::max);
        let last = values().next_back().unwrap_or(f64::NAN);
        let figures = format!("last {}, {} to {}", number(last), number(low), number(high));
        let labels = wrap::shortened(&line.labels.to_string(), width.saturating_sub(figures.chars().count() + 5));
        let _ = writeln!(out, "{}  {labels}  {}", Paint::line(owner, letter(owner)), Paint::faint(figures));
    }
    if all > chosen.len() {
        let more = all - chosen.len();
        let _ = writeln!(out, "and {more} more series that do not reach as high: narrow the query, or use topk");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use surus_core::series::Labels;

    fn line(name: &str, values: impl Iterator<Item = f64>) -> Line {
        let points = values.enumerate().map(|(step, value)| (i64::try_from(step).unwrap() * 1000, value)).collect();
        Line { labels: Labels::new([("__name__", name)]).unwrap(), points }
    }

    #[test]
    fn a_plot_fits_and_says_what_is_what() {
        let lines = [
            line("rising", (0..60).map(f64::from)),
            line("gap", (0..60).map(|n| if (20..40).contains(&n) { f64::NAN } else { 30.0 })),
        ];
        let range = Range { start_ms: 0, end_ms: 59_000, step_ms: 1000 };
        let text = anstream::adapter::strip_str(&drawn(&lines, range, 80)).to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("A  rising  last 59, 0 to 59") && text.contains("B  gap  last 30"), "{text}");
        assert!(text.lines().next().unwrap().ends_with('A') && text.lines().nth(6).unwrap().contains('B'), "{text}");
        // Where there is a gap, only the rising line is there.
        let middle: usize = text
            .lines()
            .take(ROWS)
            .map(|line| line.chars().skip(12 + 30).take(4).filter(|c| *c > '⠀' && *c < '⣿').count())
            .sum();
        assert!((1..12).contains(&middle), "{middle}\n{text}");
    }

    #[test]
    fn odd_values_do_no_harm() {
        for values in [vec![], vec![f64::NAN], vec![f64::INFINITY, 1.0], vec![0.0, 0.0], vec![-1e300, 1e300]] {
            let lines = [line("x", values.into_iter())];
            assert!(drawn(&lines, Range { start_ms: 0, end_ms: 0, step_ms: 1000 }, 60).contains("x"));
        }
        let many: Vec<Line> = (0..40).map(|n| line(&format!("s{n}"), std::iter::once(f64::from(n)))).collect();
        assert!(drawn(&many, Range { start_ms: 0, end_ms: 0, step_ms: 1000 }, 100).contains("and 28 more series"));
    }
}
