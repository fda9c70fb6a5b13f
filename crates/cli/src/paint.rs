//! Colours. Every style goes through here, so that `--no-color`, NO_COLOR and pipes are respected in one place.

use anstyle::{AnsiColor, Style};
use std::fmt;
use surus_core::{finding::Severity, readiness::State};

/// Decides once whether colours are wanted; a pipe or NO_COLOR turns them off without being asked.
pub fn choose(no_color: bool) {
    if no_color {
        anstream::ColorChoice::Never.write_global();
    }
}

/// A text with a style.
pub struct Paint<T>(Style, T);

impl<T: fmt::Display> fmt::Display for Paint<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:#}", self.0, self.1, self.0)
    }
}

const fn colour(colour: AnsiColor) -> Style {
    Style::new().fg_color(Some(anstyle::Color::Ansi(colour)))
}

impl<T> Paint<T> {
    /// Headings.
    pub fn strong(text: T) -> Self {
        Self(Style::new().bold(), text)
    }

    /// What may be overlooked.
    pub fn faint(text: T) -> Self {
        Self(Style::new().dimmed(), text)
    }

    /// Bad.
    pub fn crit(text: T) -> Self {
        Self(colour(AnsiColor::Red).bold(), text)
    }

    /// What needs a look.
    pub fn warn(text: T) -> Self {
        Self::severity(Severity::Warn, text)
    }

    /// Good.
    pub fn good(text: T) -> Self {
        Self(colour(AnsiColor::Green), text)
    }

    /// In the colour of a severity.
    pub fn severity(severity: Severity, text: T) -> Self {
        match severity {
            Severity::Crit => Self::crit(text),
            Severity::Warn => Self(colour(AnsiColor::Yellow), text),
            Severity::Info => Self(colour(AnsiColor::Cyan), text),
        }
    }

    /// In the colour of an item's state.
    pub fn state(state: State, text: T) -> Self {
        match state {
            State::Proven => Self::good(text),
            State::Configured => Self(colour(AnsiColor::Yellow), text),
            State::Missing => Self(colour(AnsiColor::Red), text),
            State::Unknown => Self(colour(AnsiColor::Magenta), text),
        }
    }

    /// In the colour of a plot's line.
    pub fn line(number: usize, text: T) -> Self {
        const COLOURS: [AnsiColor; 6] =
            [AnsiColor::Cyan, AnsiColor::Yellow, AnsiColor::Green, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::Red];
        Self(colour(COLOURS[number % COLOURS.len()]), text)
    }

    /// Commands and SQL to copy.
    pub fn code(text: T) -> Self {
        Self(colour(AnsiColor::Cyan), text)
    }
}
