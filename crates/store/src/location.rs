//! Where surus keeps its file. The only place of this room that reads the environment.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::{Result, StoreError};

const FILE_NAME: &str = "surus.db";
const SYSTEM_DIRECTORY: &str = "/var/lib/surus";

/// The file when the user names none: in `SURUS_DATA_DIR`; for root in `/var/lib/surus`; else in
/// `$XDG_STATE_HOME/surus`, by default `~/.local/state/surus` (XDG Base Directory Specification 0.8).
///
/// Root comes before `XDG_STATE_HOME`, so that a `sudo` that keeps the environment leaves no file of root's in a user's
/// home. Fails when there is no home directory.
pub fn default_path() -> Result<PathBuf> {
    choose(|name| env::var_os(name), rustix::process::geteuid().is_root())
}

/// The file in a data directory.
pub fn path_in(directory: &Path) -> PathBuf {
    directory.join(FILE_NAME)
}

fn choose(variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Result<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(directory) = set("SURUS_DATA_DIR") {
        return Ok(path_in(&directory));
    }
    if is_root {
        return Ok(path_in(Path::new(SYSTEM_DIRECTORY)));
    }
    // The specification says that a relative path is to be ignored.
    let state = set("XDG_STATE_HOME").filter(|path| path.is_absolute());
    match state.or_else(|| set("HOME").map(|home| home.join(".local/state"))) {
        Some(state) => Ok(path_in(&state.join("surus"))),
        None => Err(StoreError::open(Path::new(FILE_NAME), "neither SURUS_DATA_DIR, XDG_STATE_HOME nor HOME is set")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)], is_root: bool) -> String {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        choose(lookup, is_root).map_or_else(|error| error.to_string(), |path| path.display().to_string())
    }

    #[test]
    fn the_first_place_that_is_set_wins() {
        let all = [("SURUS_DATA_DIR", "/data"), ("XDG_STATE_HOME", "/state"), ("HOME", "/home/a")];
        assert_eq!(chosen(&all, false), "/data/surus.db");
        assert_eq!(chosen(&all, true), "/data/surus.db");
        assert_eq!(chosen(&all[1..], false), "/state/surus/surus.db");
        assert_eq!(chosen(&all[1..], true), "/var/lib/surus/surus.db");
        assert_eq!(chosen(&all[2..], false), "/home/a/.local/state/surus/surus.db");
    }

    #[test]
    fn empty_and_relative_values_are_ignored() {
        let odd = [("SURUS_DATA_DIR", ""), ("XDG_STATE_HOME", "state"), ("HOME", "/home/a")];
        assert_eq!(chosen(&odd, false), "/home/a/.local/state/surus/surus.db");
        assert!(chosen(&[], false).contains("was not opened"));
    }
}
