//! The files of the workspace.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The workspace's top directory.
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// A file by its path below the top directory, with `/` between names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub path: String,
    pub text: String,
}

/// Every file whose path below the top directory is wanted, in order; without build output, packages and hidden
/// directories other than `.ci`. It must be text.
pub fn files(wanted: fn(&str) -> bool) -> Result<Vec<Found>> {
    let root = root();
    let mut found = Vec::new();
    walk(&root, &root, wanted, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(root: &Path, directory: &Path, wanted: fn(&str) -> bool, found: &mut Vec<Found>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') && name != ".ci";
        if hidden || name == "target" || name == "node_modules" {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(root, &path, wanted, found)?;
            continue;
        }
        let below = path.strip_prefix(root)?.to_string_lossy().into_owned();
        if kind.is_file() && wanted(&below) {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            found.push(Found { path: below, text });
        }
    }
    Ok(())
}
