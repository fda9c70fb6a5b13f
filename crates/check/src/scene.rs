//! What a judging function may see besides the rows it asked for.

use crate::{
    options::{Repository, Thresholds},
    rule::{Check, Threshold},
};
use std::path::PathBuf;
use surus_core::{
    finding::{Reason, Severity},
    protection::Protection,
};
use surus_pg::{
    Facts,
    hba::HbaRule,
    host::HostFacts,
    quote::shell,
    settings::{Setting, Settings},
};

/// A look in progress: which check, at what, with which limits.
pub struct Scene<'a> {
    pub check: &'static Check,
    /// How the target is named in the report.
    pub target: &'a str,
    pub facts: &'a Facts,
    /// The other given targets that belong to the same cluster, by name.
    pub siblings: &'a [(String, Facts)],
    /// The database being looked at, for checks of that scope.
    pub database: Option<&'a str>,
    pub thresholds: &'a Thresholds,
    /// The backup repositories that were given.
    pub repositories: &'a [Repository],
    /// What the operator declared in `[check]`: names of expected standbys, allowed networks …
    pub declared: &'a crate::options::Declared,
}

/// The command that locates damage on a target, by its name in the report, and shows the way back. A label is no
/// connection string: then it stands for the user's own.
pub fn prove_page(target: &str, flags: &[&str]) -> String {
    let label = target.contains(['@', '/', ':', ' ']) || target.is_empty();
    let mut command = format!("surus prove page {}", if label { "\"$DSN\"".to_owned() } else { shell(target) });
    flags.iter().for_each(|flag| command += &format!(" {}", shell(flag)));
    command
}

impl Scene<'_> {
    /// How the ledger names the cluster.
    pub fn cluster(&self) -> &str {
        self.facts.system_identifier.as_deref().unwrap_or(self.target)
    }

    /// The command that locates damage and shows the way back.
    pub fn prove_page(&self, flags: &[&str]) -> String {
        prove_page(self.target, flags)
    }

    /// The server's major.
    pub fn major(&self) -> u16 {
        self.facts.version.major()
    }

    /// The given target that is the primary of this standby's cluster.
    pub fn primary(&self) -> Option<&(String, Facts)> {
        self.siblings.iter().find(|(_, facts)| !facts.in_recovery)
    }

    /// What a backup repository holds for this cluster.
    ///
    /// # Errors
    /// Unknown: no repository is known, one could not be read, or none holds the cluster.
    pub fn protection(&self) -> Result<&Protection, Reason> {
        crate::options::protection(self.repositories, self.cluster())
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.facts.settings
    }

    /// A setting that must be visible.
    ///
    /// # Errors
    /// Unknown: the role may not see it, or this major does not have it.
    pub fn setting(&self, name: &str) -> Result<&Setting, Reason> {
        self.facts.settings.get(name).ok_or_else(|| match self.facts.role.reads_settings || self.facts.role.superuser {
            true => Reason::Version(format!("PostgreSQL {} has no setting {name}", self.facts.version)),
            false => {
                Reason::Privilege(format!("the role may not see {name}: GRANT pg_monitor TO {}", self.facts.role.name))
            }
        })
    }

    /// Is a boolean setting on?
    ///
    /// # Errors
    /// As [`Scene::setting`].
    pub fn on(&self, name: &str) -> Result<bool, Reason> {
        self.setting(name)?;
        Ok(self.facts.settings.on(name).unwrap_or(false))
    }

    /// A numeric setting in its own unit.
    ///
    /// # Errors
    /// As [`Scene::setting`].
    pub fn number(&self, name: &str) -> Result<f64, Reason> {
        let setting = self.setting(name)?;
        setting.value.parse().map_err(|_| Reason::Unexpected(format!("{name} is no number: {}", setting.value)))
    }

    /// A size setting in bytes; `None` when it is negative ("no limit", "automatic").
    ///
    /// # Errors
    /// As [`Scene::setting`].
    pub fn bytes(&self, name: &str) -> Result<Option<u64>, Reason> {
        self.setting(name)?;
        Ok(self.facts.settings.bytes(name))
    }

    /// The machine, when surus is on it.
    ///
    /// # Errors
    /// Unknown: surus is elsewhere.
    pub fn host(&self) -> Result<&HostFacts, Reason> {
        self.facts.host.as_ref().map_err(|why| Reason::Host(why.clone()))
    }

    /// The data directory, when surus is on the host and the role may see where it is.
    ///
    /// # Errors
    /// As [`Scene::host`] and [`Scene::setting`].
    pub fn data_directory(&self) -> Result<PathBuf, Reason> {
        self.host()?;
        Ok(PathBuf::from(&self.setting("data_directory")?.value))
    }

    /// The rules of pg_hba.conf.
    ///
    /// # Errors
    /// Unknown: the role may not see them.
    pub fn hba(&self) -> Result<&[HbaRule], Reason> {
        self.facts.hba.as_deref().map_err(|why| Reason::Privilege(why.clone()))
    }

    /// The limit in force: the check's own, or the configured one.
    ///
    /// A name that the check does not declare grades nothing; a test over the whole catalogue forbids that.
    pub fn threshold(&self, name: &str) -> Threshold {
        self.thresholds.of(self.check, name)
    }

    /// How bad `value` is by the named limit.
    pub fn grade(&self, name: &str, value: f64) -> Option<Severity> {
        self.threshold(name).grade(value)
    }
}
