//! Workspace tasks. Each has its own file; this one only chooses.

mod pg_fetch;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask <task>

  pg fetch [--majors 16,17,18]   PostgreSQL majors for tests, from public packages, into a cache";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["pg", "fetch", ..] => pg_fetch::run(&arguments[2..]),
        _ => bail!(USAGE),
    }
}
