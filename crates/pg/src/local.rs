//! What can go wrong with a PostgreSQL on this machine: finding its programs, running them, starting a server.

use std::{
    io,
    path::{Path, PathBuf},
};
use surus_core::code::{self, Code};

/// A local PostgreSQL could not be found, made, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// No usable programs; `wanted` is the major that was asked for.
    #[error("no PostgreSQL{} was found; looked in {looked}", major_text(*.wanted))]
    Programs { wanted: Option<u16>, looked: String },
    /// The installation lacks one program, e.g. the client tools are another package.
    #[error("{program} of PostgreSQL {major} is not installed beside {bin}")]
    ProgramMissing { program: String, major: u16, bin: PathBuf },
    /// We are root and there is neither a `postgres` nor a `nobody` account to run as.
    #[error("PostgreSQL refuses to run as root, and /etc/passwd has neither postgres nor nobody")]
    Root,
    /// The server ended or was not ready in time.
    #[error("the server in {dir} did not start: {reason}{}", log_text(.log_tail))]
    Start { dir: PathBuf, reason: String, log_tail: String },
    /// The server is still there after the time it was given to stop.
    #[error("the server in {dir} (pid {pid}) has not stopped after {seconds} s; it was left running")]
    Stop { dir: PathBuf, pid: u32, seconds: u64 },
    /// A directory or a file in it cannot be made, read, written or entered.
    #[error("{path} cannot be used: {problem}")]
    Directory { path: PathBuf, problem: String },
    /// initdb, pg_basebackup, … ended with an error.
    #[error("{program} failed ({status}): {output}")]
    ProgramFailed { program: String, status: String, output: String },
}

impl LocalError {
    /// The stable code for users.
    pub fn code(&self) -> Code {
        match self {
            Self::Programs { .. } | Self::ProgramMissing { .. } => code::LOCAL_PROGRAMS,
            Self::Root => code::LOCAL_ROOT,
            Self::Start { .. } => code::LOCAL_START,
            Self::Directory { .. } => code::LOCAL_DIRECTORY,
            Self::ProgramFailed { .. } | Self::Stop { .. } => code::LOCAL_PROGRAM_FAILED,
        }
    }

    pub(crate) fn directory(path: &Path, error: &io::Error) -> Self {
        Self::Directory { path: path.to_owned(), problem: error.to_string() }
    }
}

fn major_text(wanted: Option<u16>) -> String {
    wanted.map_or_else(String::new, |major| format!(" {major}"))
}

fn log_text(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!("\nThe log ends with:\n{tail}") }
}
