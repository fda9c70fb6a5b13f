//! The house rules that a machine can check. Each rule is a function over the sources, with a bad sample in its tests.

mod edges;
mod names;
mod size;
mod source;
mod words;

use anyhow::{Result, bail};

use crate::tree;
use source::Source;

/// A breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    pub path: String,
    /// Counted from 1; 0 when the whole file is meant.
    pub line: usize,
    pub what: String,
}

impl Breach {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

/// Prints every breach; fails when there is one.
pub fn run() -> Result<()> {
    let breaches = breaches()?;
    for breach in &breaches {
        println!("{}:{}: {}", breach.path, breach.line, breach.what);
    }
    if breaches.is_empty() { Ok(()) } else { bail!("{} breaches of the house rules", breaches.len()) }
}

fn breaches() -> Result<Vec<Breach>> {
    let mut breaches = edges::of_workspace()?;
    let sources = source::all(tree::files(|path| path.ends_with(".rs"))?);
    for source in &sources {
        for rule in SOURCE_RULES {
            breaches.extend(rule(source));
        }
    }
    for file in tree::files(is_other_text)? {
        breaches.extend(words::unfinished_text(&file.path, &file.text));
    }
    Ok(breaches)
}

/// Text in other languages than Rust.
fn is_other_text(path: &str) -> bool {
    let ending = [".sql", ".sh", ".md", ".toml", "Makefile"].iter().any(|ending| path.ends_with(ending));
    ending || path.starts_with("dev/") || path.starts_with(".ci/")
}

/// Every rule over one Rust file.
const SOURCE_RULES: &[fn(&Source) -> Vec<Breach>] = &[
    names::module_name,
    names::mod_rs_without_logic,
    size::file_length,
    size::function_length,
    size::line_width,
    words::panicking,
    words::printing,
    words::clock,
    words::confined_dependency,
    words::unfinished,
    words::ignored_without_reason,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let breaches = breaches().unwrap();
        assert!(breaches.is_empty(), "{breaches:#?}");
    }
}
