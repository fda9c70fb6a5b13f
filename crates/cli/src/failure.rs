//! What ends a command: a coded error, shown once, with the next thing to run.

use crate::paint::Paint;
use std::{io::Write, process::ExitCode};
use surus_core::{
    code::{self, Code},
    secret::masked,
};

/// An error that ends the command.
#[derive(Debug, Clone)]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    /// A coded error; the message says what was not done and why.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A bug in surus.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(code::BUG, message)
    }

    /// A file that could not be written.
    pub fn output(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(code::OUTPUT_WRITE, format!("the report was not written to {}: {error}", path.display()))
    }

    /// Shows it on standard error and gives the exit status.
    pub fn show(&self) -> ExitCode {
        let mut out = anstream::stderr().lock();
        let head = Paint::crit(format!("error[{}]", self.code.id));
        // It may repeat what the user wrote, and that may be a connection string in the wrong place. Nothing can be
        // done about a closed standard error.
        let _ = writeln!(out, "{head}: {}\n  {} {}", masked(&self.message), Paint::faint("next:"), self.code.next);
        ExitCode::from(self.code.exit as u8)
    }
}

/// Shows what is wrong with the command line, or the help that was asked for, and gives the exit status.
pub fn usage(error: &clap::Error) -> ExitCode {
    let text = masked(&error.render().ansi().to_string());
    // As for any error: a closed stream takes nothing.
    let _ = match error.use_stderr() {
        true => anstream::stderr().lock().write_all(text.as_bytes()),
        false => anstream::stdout().lock().write_all(text.as_bytes()),
    };
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(code::Exit::Usage as u8))
}

impl From<surus_pg::ConnectError> for Failure {
    fn from(error: surus_pg::ConnectError) -> Self {
        Self::new(error.code, error.message)
    }
}
