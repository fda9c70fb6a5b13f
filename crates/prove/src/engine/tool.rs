//! Programs of other tools, run with a clean environment, as the account that is to own what they restore.

use super::fault;
use crate::error::{ProveError, Result};
use std::{
    ffi::OsString,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use surus_core::code;
use surus_pg::account::Account;

/// Where programs are when PATH does not say.
const PLACES: &[&str] = &["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin"];

/// A program of that name on this machine.
///
/// # Errors
/// When it is not installed.
pub fn find(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(PLACES.iter().map(PathBuf::from));
    let runs = |file: &PathBuf| file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 1 != 0);
    places.map(|place| place.join(name)).find(runs).ok_or_else(|| {
        ProveError::refused(code::PROVE_TOOL, format!("{name} is not installed on this machine: it is not in PATH"))
    })
}

/// A program with what all its calls have in common.
#[derive(Debug, Clone)]
pub struct Tool {
    /// As its own documentation writes it.
    pub name: &'static str,
    pub program: PathBuf,
    /// Who runs it; none: whoever runs us.
    pub account: Option<Account>,
    pub environment: Vec<(OsString, OsString)>,
}

impl Tool {
    /// A command in this directory.
    pub fn command(&self, dir: &Path) -> Command {
        let mut command = match &self.account {
            Some(account) => account.command(&self.program, dir),
            None => {
                let mut command = Command::new(&self.program);
                command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
                command.env("TZ", "UTC").current_dir(dir);
                if let Some(home) = std::env::var_os("HOME") {
                    command.env("HOME", home);
                }
                command
            }
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// With what it said, and in plain words where that is known.
    pub fn run(&self, dir: &Path, arguments: &[String]) -> Result<String> {
        let mut command = self.command(dir);
        let output = command.args(arguments).output();
        self.judge(output.map_err(|error| {
            ProveError::refused(code::PROVE_TOOL, format!("cannot run {}: {error}", self.program.display()))
        })?)
    }

    /// What it printed, when it ended well.
    ///
    /// # Errors
    /// As [`Tool::run`].
    pub fn judge(&self, output: Output) -> Result<String> {
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = [output.stderr, output.stdout].concat();
        let text = String::from_utf8_lossy(&text);
        Err(fault::name(self.name, &output.status.to_string(), text.trim(), self.account.as_ref()))
    }

    /// The command as a user would type it.
    pub fn words(&self, arguments: &[String]) -> String {
        let program = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let words = std::iter::once(program).chain(arguments.iter().cloned());
        words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
    }
}

/// A word of a shell's command line.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Variables of our own environment whose names begin so.
pub fn environment(prefixes: &[&str]) -> Vec<(OsString, OsString)> {
    let wanted = |name: &OsString| prefixes.iter().any(|prefix| name.to_string_lossy().starts_with(prefix));
    std::env::vars_os().filter(|(name, _)| wanted(name)).collect()
}
