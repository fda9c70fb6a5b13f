//! Formatting. `cargo fmt` follows `mod` lines and so misses modules that a macro declares; this takes every file.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tree;

/// Formats every Rust file of the workspace, or with `check` fails with the differences.
pub fn run(check: bool) -> Result<()> {
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.current_dir(tree::root()).args(["--edition", "2024"]);
    if check {
        rustfmt.arg("--check");
    }
    rustfmt.args(tree::files(|path| path.ends_with(".rs"))?.into_iter().map(|file| file.path));
    let status = rustfmt.status().context("rustfmt did not run; install it with: rustup component add rustfmt")?;
    match (status.success(), check) {
        (true, _) => Ok(()),
        (false, true) => bail!("not formatted; run: cargo xtask fmt"),
        (false, false) => bail!("rustfmt failed"),
    }
}
