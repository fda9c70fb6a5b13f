//! Which crate may use which: the floors of the house. ARCHITECTURE.md says why.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Breach;
use crate::tree;

/// Crates that stand next to each other and meet only in `cli` and `web`.
const FEATURES: &[&str] = &["surus-check", "surus-observe", "surus-alert", "surus-backup", "surus-migrate"];
const FLOOR_TWO: &[&str] = &["surus-pg", "surus-store", "surus-promql"];
const CORE: &str = "surus-core";
const TESTKIT: &str = "surus-testkit";

/// May the crate use the other one? None when the crate has no place in the house.
fn allowed(from: &str, to: &str, dev: bool) -> Option<bool> {
    let below_features = to == CORE || FLOOR_TWO.contains(&to);
    let built = match from {
        CORE => false,
        "surus" => below_features || FEATURES.contains(&to) || ["surus-web", "surus-prove"].contains(&to),
        // Works with what backups give back.
        "surus-prove" => [CORE, "surus-pg", "surus-backup"].contains(&to),
        "surus-web" => below_features || FEATURES.contains(&to),
        TESTKIT => [CORE, "surus-pg"].contains(&to),
        // Reads the tables that pages are made from, and fetches what `pg` will find.
        "xtask" => [CORE, "surus-pg", "surus-check", "surus-observe"].contains(&to),
        feature if FEATURES.contains(&feature) => below_features,
        floor_two if FLOOR_TWO.contains(&floor_two) => to == CORE,
        _ => return None,
    };
    Some(built || (dev && to == TESTKIT && from != CORE))
}

/// Third-party crates that only one crate may name in its manifest.
const CONFINED: &[(&str, &str)] = &[
    ("tokio-postgres", "surus-pg"),
    ("postgres-protocol", "surus-pg"),
    ("rusqlite", "surus-store"),
    ("object_store", "surus-backup"),
];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build` or nothing.
    kind: Option<String>,
}

pub fn of_workspace() -> Result<Vec<Breach>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(tree::root())
        .output()
        .context("running cargo metadata")?;
    ensure!(out.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&out.stderr));
    let metadata: Metadata = serde_json::from_slice(&out.stdout)?;
    Ok(of_packages(&metadata.packages))
}

fn of_packages(packages: &[Package]) -> Vec<Breach> {
    let ours: BTreeMap<&str, &Package> = packages.iter().map(|package| (package.name.as_str(), package)).collect();
    let mut breaches = Vec::new();
    let mut breach = |package: &str, what: String| breaches.push(Breach::new(package, 0, what));
    for package in packages {
        let from = package.name.as_str();
        if allowed(from, "", false).is_none() {
            breach(from, "this crate has no place in the table of xtask/src/tidy/edges.rs".to_owned());
        }
        for dependency in &package.dependencies {
            let to = dependency.name.as_str();
            let dev = dependency.kind.as_deref() == Some("dev");
            if ours.contains_key(to) && allowed(from, to, dev) == Some(false) {
                breach(from, format!("must not depend on {to}"));
            }
            for (_, only) in CONFINED.iter().filter(|&&(name, only)| name == to && only != from) {
                breach(from, format!("must not depend on {to}: only {only} may"));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|&(name, kind)| Dependency { name: name.to_owned(), kind: kind.map(str::to_owned) })
            .collect();
        Package { name: name.to_owned(), dependencies }
    }

    fn breaches(name: &str, to: &str, kind: Option<&str>) -> usize {
        let all = ["surus-core", "surus-pg", "surus-store", "surus-check", "surus-alert", "surus-testkit", "surus"];
        let mut packages: Vec<Package> =
            all.iter().filter(|&&other| other != name).map(|other| package(other, &[])).collect();
        packages.push(package(name, &[(to, kind)]));
        of_packages(&packages).len()
    }

    #[test]
    fn a_room_uses_what_is_below_it() {
        for (from, to) in [
            ("surus-pg", "surus-core"),
            ("surus-check", "surus-store"),
            ("surus", "surus-check"),
            ("surus-pg", "tokio-postgres"),
            ("surus-store", "rusqlite"),
            ("surus-check", "serde"),
        ] {
            assert_eq!(breaches(from, to, None), 0, "{from} -> {to}");
        }
        assert_eq!(breaches("surus-check", "surus-testkit", Some("dev")), 0);
    }

    #[test]
    fn everything_else_is_a_breach() {
        for (from, to) in [
            ("surus-core", "surus-pg"),
            ("surus-pg", "surus-store"),
            ("surus-store", "surus-pg"),
            ("surus-check", "surus-alert"),
            ("surus-check", "surus"),
            ("surus", "surus-testkit"),
            ("surus-check", "surus-testkit"),
            ("surus-check", "tokio-postgres"),
            ("surus", "rusqlite"),
            ("surus", "object_store"),
            ("surus-testkit", "surus-check"),
            ("surus-shed", "surus-core"),
        ] {
            assert_eq!(breaches(from, to, None), 1, "{from} -> {to}");
        }
        assert_eq!(breaches("surus-core", "surus-testkit", Some("dev")), 1);
        assert_eq!(breaches("surus-check", "surus-alert", Some("dev")), 1);
    }
}
