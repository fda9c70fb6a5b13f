//! What the user sees: one line for each step done, a spinner while it runs, nothing when JSON is wanted.

use super::planted::{PLANTED, Planted, Remedy};
use crate::{failure::Failure, output::print, paint::Paint, progress};
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
#[derive(Debug, Clone)]
pub struct Doors {
    /// The address of the pages, and the password for ending sessions there.
    pub pages: Option<(String, String)>,
    pub primary: String,
    pub standby: String,
    pub monitor: String,
    pub socket: String,
    /// A shell script that sets the variables.
    pub script: String,
    /// Where the demo's ledger is.
    pub data_dir: String,
}

impl Doors {
    /// The variables, for a shell.
    pub fn script_text(&self) -> String {
        let values = [
            ("DSN", &self.primary),
            ("STANDBY", &self.standby),
            ("MONITOR", &self.monitor),
            ("SURUS_DATA_DIR", &self.data_dir),
        ];
        values.map(|(name, value)| format!("export {name}={}\n", quoted(value))).concat()
    }

    /// Connection strings, and commands to copy.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", Paint::strong("Yours, while this runs"));
        let mut row = |name: &str, value: &str| {
            // Writing into a String does not fail.
            let _ = writeln!(out, "  {} {}", Paint::faint(format!("{name:<10}")), Paint::code(value));
        };
        if let Some((url, password)) = &self.pages {
            row("pages", url);
            row("password", &format!("{password}  (only for ending sessions there)"));
        }
        row("primary", &self.primary);
        row("standby", &self.standby);
        row("pg_monitor", &self.monitor);
        row("socket", &self.socket);
        out.push_str(&format!("\n{}\n", Paint::strong("Try, in another terminal")));
        let mut row = |command: &str, what: &str| {
            // Writing into a String does not fail.
            let _ = writeln!(out, "  {} {}", Paint::code(format!("{command:<38}")), Paint::faint(what));
        };
        row(&format!(". {}", quoted(&self.script)), "sets DSN, STANDBY, MONITOR and SURUS_DATA_DIR");
        row("surus check \"$DSN\" \"$STANDBY\" --prove", "everything, both servers");
        row("surus check \"$MONITOR\" --all", "what a role with pg_monitor sees");
        row("surus fix \"$DSN\"", "the plan; carry it out with --apply");
        row("surus undo", "takes the last change back");
        row("surus proof list", "what was proven and changed");
        row("psql \"$DSN\"", "look around yourself");
        out
    }
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_survives_odd_directories() {
        let doors = Doors {
            pages: Some(("http://127.0.0.1:7432/".into(), "p".into())),
            primary: "postgresql://a@localhost:1/lab?sslmode=verify-full".into(),
            standby: "s".into(),
            monitor: "m".into(),
            socket: "host=/tmp".into(),
            script: "/tmp/it's/env".into(),
            data_dir: "/tmp/it's/surus".into(),
        };
        assert_eq!(
            doors.script_text(),
            "export DSN='postgresql://a@localhost:1/lab?sslmode=verify-full'\nexport STANDBY=s\nexport MONITOR=m\n\
             export SURUS_DATA_DIR='/tmp/it'\\''s/surus'\n"
        );
        let text = anstream::adapter::strip_str(&doors.text()).to_string();
        assert!(text.contains("  . '/tmp/it'\\''s/env' "), "{text}");
        assert!(text.contains("  primary    postgresql://a@localhost:1/lab?sslmode=verify-full\n"), "{text}");
    }
}
