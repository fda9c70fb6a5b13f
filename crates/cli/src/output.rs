//! Where results go: standard output, and files that the user named.

use crate::failure::Failure;
use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

/// Writes to standard output; a closed pipe (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = Pipe(anstream::stdout().lock());
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| standard_output(&error))
}

/// A value as pretty JSON.
pub fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::bug(format!("JSON: {error}")))?;
    Ok(text + "\n")
}

fn standard_output(error: &io::Error) -> Failure {
    Failure::output(Path::new("standard output"), error)
}

/// A pipe whose reader may leave when he has seen enough; what is written after that goes nowhere.
pub struct Pipe<W>(pub W);

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

/// A file for a report. It is opened before the work begins, so that a path that cannot be written is found out at
/// once; what it held is lost only when the new report is there.
pub struct ReportFile {
    path: PathBuf,
    file: File,
}

impl ReportFile {
    /// Opens it, or makes it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| Failure::output(path, &error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Replaces what it holds.
    pub fn write(mut self, text: &str) -> Result<(), Failure> {
        // A device or a pipe (/dev/stdout, >(…)) has no length and no disk behind it.
        let on_disk = self.file.metadata().is_ok_and(|meta| meta.is_file());
        let written = match on_disk {
            true => self
                .file
                .set_len(0)
                .and_then(|()| self.file.write_all(text.as_bytes()))
                .and_then(|()| self.file.sync_all()),
            false => Pipe(&self.file).write_all(text.as_bytes()),
        };
        written.map_err(|error| Failure::output(&self.path, &error))
    }
}
