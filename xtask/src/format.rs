//! Formatting. `cargo fmt` follows `mod` lines and so misses modules that a macro declares; this takes every file.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tree;

/// Formats every Rust file of the workspace, or with `check` fails and names those that are not formatted.
pub fn run(check: bool) -> Result<()> {
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.current_dir(tree::root()).args(["--edition", "2024"]);
    if check {
        rustfmt.args(["--check", "--files-with-diff"]);
    }
    rustfmt.args(tree::files(|path| path.ends_with(".rs"))?.into_iter().map(|file| file.path));
    rustfmt.stderr(Stdio::inherit());
    let out = rustfmt.output().context("rustfmt did not run; install it with: rustup component add rustfmt")?;
    // A module is named for itself and once more for the file that declares it.
    let names: BTreeSet<String> = String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect();
    for name in &names {
        let below = Path::new(name).strip_prefix(tree::root()).unwrap_or(Path::new(name));
        println!("{}", below.display());
    }
    match (out.status.success(), check) {
        (true, _) => Ok(()),
        (false, true) => bail!("not formatted; run: cargo xtask fmt"),
        (false, false) => bail!("rustfmt failed"),
    }
}
