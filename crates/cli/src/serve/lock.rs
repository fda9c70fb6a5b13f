//! One `surus serve` per data directory.

use crate::failure::Failure;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};
use surus_core::code;

/// Held as long as it lives; the kernel lets go of it with the process, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a data directory, which is made (mode 0700) when it is not there.
    pub fn take(data_dir: &Path) -> Result<Self, Failure> {
        let path = data_dir.join("serve.lock");
        let unusable = |error: std::io::Error| {
            Failure::new(code::STORE_OPEN, format!("nothing was started: {}: {error}", path.display()))
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(unusable)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Only for the message: without it the answer is the same.
                let _read = (&file).take(20).read_to_string(&mut owner);
                let who = if owner.trim().is_empty() { String::new() } else { format!(" (process {})", owner.trim()) };
                let text = format!("nothing was started: another surus serve{who} uses {}", data_dir.display());
                return Err(Failure::new(code::SERVE_RUNNING, text));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_refused_until_the_first_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let refused = Lock::take(dir.path()).unwrap_err();
        assert_eq!(refused.code, code::SERVE_RUNNING);
        assert!(refused.message.contains(&std::process::id().to_string()), "{}", refused.message);
        drop(first);
        Lock::take(dir.path()).unwrap();
    }
}
