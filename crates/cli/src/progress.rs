//! Progress on a terminal; silence elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::{io::IsTerminal, sync::Mutex, time::Duration};
use surus_core::monitor::Monitor;

/// One line on standard error that disappears when the work is done.
#[derive(Default)]
pub struct TerminalProgress {
    bar: Mutex<Option<ProgressBar>>,
}

/// The monitor for this invocation: progress when somebody watches, silence when not or with `-q`.
pub fn monitor(quiet: bool) -> Box<dyn Monitor> {
    if !quiet && std::io::stderr().is_terminal() {
        Box::new(TerminalProgress::default())
    } else {
        Box::new(surus_core::monitor::Silent)
    }
}

impl TerminalProgress {
    fn with(&self, act: impl FnOnce(&mut Option<ProgressBar>)) {
        act(&mut self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Monitor for TerminalProgress {
    fn begin(&self, task: &str, units: Option<u64>) {
        let bar = units.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let template = if units.is_some_and(|units| units > 1) {
            "{spinner} {msg} {pos}/{len} ({elapsed})"
        } else {
            "{spinner} {msg} ({elapsed})"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(task.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        self.with(|slot| *slot = Some(bar));
    }

    fn advance(&self, _: &str, done: u64) {
        self.with(|slot| slot.iter().for_each(|bar| bar.set_position(done)));
    }

    fn end(&self, _: &str, _: &str) {
        self.with(|slot| slot.take().iter().for_each(ProgressBar::finish_and_clear));
    }

    fn note(&self, text: &str) {
        self.with(|slot| slot.iter().for_each(|bar| bar.println(text)));
    }
}
