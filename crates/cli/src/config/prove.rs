//! `[prove]` and `[[invariant]]`: restored copies, and what must hold in them.

use super::{
    Config, SecretRef,
    quantity::{Rate, Size},
};
use crate::failure::Failure;
use serde::Deserialize;
use std::path::PathBuf;
use surus_core::secret::Secret;
use surus_prove::drill::Invariant;

/// The table `[prove]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProveConfig {
    /// The directory of all copies.
    pub scratch: Option<PathBuf>,
    /// What stays free on its filesystem.
    pub reserve: Option<Size>,
    /// Threads of a drill.
    pub jobs: Option<u16>,
    /// How fast a drill goes while others use the machine.
    pub rate: Option<Rate>,
    /// Who is told of a proof that failed, by a POST of JSON.
    pub webhook: Option<Webhook>,
    /// A command that gets the same on its standard input.
    pub command: Option<String>,
}

/// An address, or where it is: it may hold a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Webhook {
    Address(String),
    Reference(SecretRef),
}

impl TryFrom<String> for Webhook {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Self::Address(text));
        }
        SecretRef::parse(&text).map(Self::Reference).map_err(|_| "write https://… or env:NAME or file:/path")
    }
}

impl Webhook {
    /// The address.
    pub fn resolve(&self) -> Result<Secret, Failure> {
        match self {
            Self::Address(text) => Ok(Secret::new(text.as_str())),
            Self::Reference(reference) => reference.resolve("prove.webhook"),
        }
    }
}

/// An `[[invariant]]`: SQL that must return no row.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvariantConfig {
    pub name: String,
    /// The name of a `[[target]]`, or the cluster's system identifier; without it, it holds for all.
    pub target: Option<String>,
    pub database: String,
    pub sql: String,
}

impl ProveConfig {
    /// What is wrong although every key is known.
    pub fn judge(&self) -> Result<(), String> {
        if self.jobs == Some(0) {
            return Err("prove.jobs must be at least 1".into());
        }
        Ok(())
    }
}

impl InvariantConfig {
    /// What is wrong although every key is known.
    pub fn judge(&self, targets: &[&str]) -> Result<(), String> {
        let wrong = |why: &str| Err(format!("invariant \"{}\": {why}", self.name));
        if self.name.trim().is_empty() || self.sql.trim().is_empty() || self.database.trim().is_empty() {
            return wrong("name, database and sql must not be empty");
        }
        match &self.target {
            Some(target) if !targets.contains(&target.as_str()) && target.parse::<u64>().is_err() => {
                wrong(&format!("there is no [[target]] \"{target}\""))
            }
            _ => Ok(()),
        }
    }
}

impl Config {
    /// The invariants of a target or a cluster, and those of all.
    pub fn invariants_of(&self, target: Option<&str>, cluster: Option<u64>) -> Vec<Invariant> {
        let cluster = cluster.map(|cluster| cluster.to_string());
        let meant = |one: &&InvariantConfig| match one.target.as_deref() {
            None => true,
            Some(of) => Some(of) == target || Some(of) == cluster.as_deref(),
        };
        let invariant = |one: &InvariantConfig| Invariant {
            name: one.name.clone(),
            database: one.database.clone(),
            sql: one.sql.clone(),
        };
        self.invariant.iter().filter(meant).map(invariant).collect()
    }
}
