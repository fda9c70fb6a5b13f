//! What the user sees: one line for each step done, a spinner while it runs, nothing when JSON is wanted.

use super::planted::{PLANTED, Planted, Remedy};
use crate::{command::print, failure::Failure, paint::Paint, progress};
use std::fmt::Write;
use surus_check::report::TargetReport;
use surus_core::{clock::Stopwatch, finding::Severity, monitor::Monitor};

/// The teller of the demo.
pub struct Show {
    silent: bool,
    monitor: Box<dyn Monitor>,
}

/// A step that runs.
pub struct Running<'a> {
    show: &'a Show,
    doing: &'static str,
    watch: Stopwatch,
}

impl Show {
    /// `silent` for JSON: nothing but the document may be on standard output.
    pub fn new(silent: bool, quiet: bool) -> Self {
        Self { silent, monitor: progress::monitor(quiet || silent) }
    }

    /// Progress of what others run.
    pub fn monitor(&self) -> &dyn Monitor {
        self.monitor.as_ref()
    }

    /// Prints text.
    pub fn text(&self, text: &str) -> Result<(), Failure> {
        if self.silent { Ok(()) } else { print(text) }
    }

    /// Prints a line.
    pub fn line(&self, line: &str) -> Result<(), Failure> {
        self.text(&format!("{line}\n"))
    }

    /// A step begins.
    pub fn begin(&self, doing: &'static str) -> Running<'_> {
        self.monitor.begin(doing, None);
        Running { show: self, doing, watch: Stopwatch::start() }
    }
}

impl Running<'_> {
    /// It is done.
    pub fn done(self, what: &str) -> Result<(), Failure> {
        let seconds = self.watch.elapsed_ms() / 1000.0;
        let show = self.show;
        drop(self);
        let time = Paint::faint(format!("{seconds:>5.1} s"));
        show.line(&format!("  {} {time}  {what}", Paint::good("✓")))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.show.monitor.end(self.doing, "");
    }
}

/// A server that is not shown in full.
pub fn brief(report: &TargetReport) -> String {
    if let Some(error) = &report.error {
        return format!("{}  {} {}\n", Paint::strong(&report.name), Paint::crit(error.code), error.message);
    }
    let count = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let counts = [Severity::Crit, Severity::Warn, Severity::Info]
        .map(|severity| Paint::severity(severity, format!("{} {}", count(severity), severity.word())).to_string());
    format!(
        "{}  readiness {} of 100 · {}  {}\n",
        Paint::strong(&report.name),
        report.readiness.score,
        counts.join(" · "),
        Paint::faint("in full: surus check \"$STANDBY\"")
    )
}

/// The planted troubles, found or not.
pub fn planted(report: &TargetReport) -> String {
    let found = PLANTED.iter().filter(|planted| planted.is_found(report)).count();
    let mut out =
        format!("{}  {} troubles, {found} of them found\n", Paint::strong("Planted on purpose"), PLANTED.len());
    for planted in PLANTED {
        out.push_str(&planted_line(planted, planted.is_found(report)));
    }
    out
}

fn planted_line(planted: &Planted, found: bool) -> String {
    let sign = if found { Paint::good("✓") } else { Paint::crit("✗") };
    let remedy = match (found, planted.remedy) {
        (true, Remedy::Surus) => "  surus fix",
        (true, Remedy::Person) => "",
        (false, _) => "  not found",
    };
    format!("  {sign} {:<20} {}{}\n", planted.check, planted.what, Paint::faint(remedy))
}

/// What the user can do now.
pub struct Doors {
    pub primary: String,
    pub standby: String,
    pub monitor: String,
    pub socket: String,
    pub data_dir: String,
}

/// Connection strings and commands to copy.
pub fn doors(doors: &Doors) -> String {
    let mut out = format!("{}\n", Paint::strong("Yours to try, while this runs"));
    let mut row = |name: &str, value: &str| {
        // Writing into a String does not fail.
        let _ = writeln!(out, "  {:<10} {}", Paint::faint(name), Paint::code(value));
    };
    row("primary", &format!("export DSN='{}'", doors.primary));
    row("standby", &format!("export STANDBY='{}'", doors.standby));
    row("pg_monitor", &format!("export MONITOR='{}'", doors.monitor));
    row("socket", &format!("psql '{}'", doors.socket));
    row("look", "surus check \"$DSN\" \"$STANDBY\" --prove");
    row("fix", "surus fix \"$DSN\"          (then with --apply)");
    row("take back", &format!("surus undo --data-dir '{}' --dsn \"$DSN\"", doors.data_dir));
    out
}
