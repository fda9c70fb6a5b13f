//! From the screen's state to cells of the terminal. Fits 80 by 24; more room shows more columns.

mod header;
mod over;
mod tables;
#[cfg(test)]
mod tests;

use super::screen::{Over, Page, Screen};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};
use surus_core::clock;

/// Who is looked at; does not change.
pub struct Subject {
    /// Host, port and database.
    pub place: String,
    /// `PostgreSQL 18.4`.
    pub version: String,
    /// Colours are wanted.
    pub colours: bool,
}

/// Styles, all in one place; without colours, weight alone tells.
#[derive(Clone, Copy)]
pub struct Look {
    colours: bool,
}

impl Look {
    fn colour(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub fn warn(self) -> Style {
        self.colour(Color::Yellow)
    }

    pub fn good(self) -> Style {
        self.colour(Color::Green)
    }

    pub fn mark(self) -> Style {
        self.colour(Color::Cyan)
    }

    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, screen: &Screen, subject: &Subject) {
    let look = Look { colours: subject.colours };
    let [head, tabs, body, foot] =
        Layout::vertical([Constraint::Length(4), Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)])
            .areas(frame.area());
    header::draw(frame, head, screen, subject, look);
    draw_tabs(frame, tabs, screen, look);
    match screen.page {
        Page::Sessions | Page::Waiting => tables::sessions(frame, body, screen, look),
        Page::Blocking => tables::blocking(frame, body, screen, look),
        Page::Statements => tables::statements(frame, body, screen, look),
        Page::Replication => tables::replication(frame, body, screen, look),
    }
    draw_foot(frame, foot, screen, look);
    over::draw(frame, body, screen, look);
}

fn draw_tabs(frame: &mut Frame<'_>, area: Rect, screen: &Screen, look: Look) {
    let mut spans = Vec::new();
    for (number, (page, name)) in Page::ALL.iter().enumerate() {
        let text = format!(" {} {name} ", number + 1);
        spans.push(Span::styled(text, if *page == screen.page { look.selected() } else { look.faint() }));
    }
    let sort = match screen.page {
        Page::Sessions | Page::Waiting => screen.sort.name(),
        Page::Statements => screen.statement_sort.name(),
        Page::Blocking | Page::Replication => "",
    };
    if !sort.is_empty() {
        spans.push(Span::styled(format!("  by {sort}"), look.mark()));
    }
    if !screen.filter.is_empty() && screen.over != Over::Filter {
        spans.push(Span::styled(format!("  /{}", screen.filter), look.warn()));
    }
    frame.render_widget(Line::from(spans), area);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, screen: &Screen, look: Look) {
    let line = match (&screen.over, &screen.message) {
        (Over::Filter, _) => Line::from(vec![
            Span::styled("filter: ", look.strong()),
            Span::raw(format!("{}▏", screen.filter)),
            Span::styled("  Enter keep · Esc clear", look.faint()),
        ]),
        (_, Some(message)) if screen.stale => {
            Line::styled(format!("no new look since {}: {message}", shown_at(screen)), look.bad())
        }
        (_, Some(message)) => Line::styled(message.as_str(), look.warn()),
        _ => Line::styled("h help · s sort · / filter · C cancel · K terminate · space pause · q quit", look.faint()),
    };
    frame.render_widget(Paragraph::new(line), area);
}

/// When the frame that is shown was taken, by the server's clock.
pub fn shown_at(screen: &Screen) -> String {
    let at = screen.frame.as_ref().map(|frame| frame.overview.at_s as i64);
    let time = at.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()).unwrap_or_else(clock::now);
    time.strftime("%H:%M:%S UTC").to_string()
}

/// The text on one line, so long at the most.
pub fn one_line(text: &str, width: usize) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.chars().count() > width {
            break;
        }
    }
    // What could move the cursor or change colours is shown as what it is.
    let line: String = line.chars().map(|c| if c.is_control() { '␦' } else { c }).collect();
    if line.chars().count() <= width {
        return line;
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A time in at most six characters.
pub fn short_time(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod texts {
    use super::*;

    #[test]
    fn texts_fit_and_are_harmless() {
        assert_eq!(one_line("SELECT\n  1", 20), "SELECT 1");
        assert_eq!(one_line("SELECT 12345", 8), "SELECT …");
        assert_eq!(one_line("a\u{1b}[31mb", 20), "a␦[31mb");
    }

    #[test]
    fn times_are_short() {
        let shown = [0.04, 9.94, 59.9, 60.0, 3599.0, 3600.0, 90_000.0].map(short_time);
        assert_eq!(shown, ["0.0 s", "9.9 s", "59 s", "1m00s", "59m59s", "1h00m", "1d01h"]);
    }
}
