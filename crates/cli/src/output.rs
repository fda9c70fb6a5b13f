//! Where results go: standard output, and files that the user named.

use crate::failure::Failure;
use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use surus_core::code;

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

/// A file that is there in full or not at all, and that is replaced only when that was asked for.
pub struct NewFile {
    path: PathBuf,
    force: bool,
}

impl NewFile {
    /// A file that is not there yet, unless it may be replaced; its directory is.
    pub fn at(path: &Path, force: bool) -> Result<Self, Failure> {
        let file = Self { path: path.to_owned(), force };
        if path.is_dir() {
            return Err(Failure::output(path, &io::Error::from(ErrorKind::IsADirectory)));
        }
        if !force && path.is_file() {
            return Err(file.taken());
        }
        if !file.folder().is_dir() {
            return Err(Failure::output(path, &io::Error::from(ErrorKind::NotFound)));
        }
        Ok(file)
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    fn taken(&self) -> Failure {
        let text = format!("the report was not written: {} is there already", self.path.display());
        Failure::new(code::OUTPUT_EXISTS, text)
    }

    /// Writes it beside its place, then puts it there.
    pub fn write(self, text: &str) -> Result<(), Failure> {
        // A device or a pipe (/dev/stdout, >(…)) is written to as it is.
        if self.path.exists() && !self.path.is_file() {
            let written = OpenOptions::new().write(true).open(&self.path);
            let written = written.and_then(|file| Pipe(file).write_all(text.as_bytes()));
            return written.map_err(|error| Failure::output(&self.path, &error));
        }
        match self.put(text) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && !self.force => Err(self.taken()),
            other => other.map_err(|error| Failure::output(&self.path, &error)),
        }
    }

    fn put(&self, text: &str) -> io::Result<()> {
        // As any new file: what the umask leaves.
        let open = Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().prefix(".surus-").permissions(open).tempfile_in(self.folder())?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        let put = if self.force { file.persist(&self.path) } else { file.persist_noclobber(&self.path) };
        put.map(|_| ()).map_err(|error| error.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_replaced_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.html");
        let file = NewFile::at(&path, false).unwrap();
        let late = NewFile::at(&path, false).unwrap();
        file.write("one").unwrap();
        assert_eq!(late.write("two").unwrap_err().code.id, code::OUTPUT_EXISTS.id);
        assert!(NewFile::at(&path, false).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        NewFile::at(&path, true).unwrap().write("three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(NewFile::at(&dir.path().join("no/b.html"), false).is_err() && NewFile::at(dir.path(), true).is_err());
    }
}
