//! What stands between a check and its look: the first missing need makes it unknown, with what to do about it.

use crate::rule::{Check, Need};
use std::collections::BTreeSet;
use surus_core::finding::Reason;
use surus_pg::Facts;

/// The first need that is not met. `extensions` are those of the database that is looked at.
pub(super) fn missing(check: &Check, facts: &Facts, extensions: &BTreeSet<String>) -> Option<Reason> {
    check.needs.iter().find_map(|need| unmet(*need, facts, extensions))
}

fn unmet(need: Need, facts: &Facts, extensions: &BTreeSet<String>) -> Option<Reason> {
    let role = &facts.role;
    let grant = |what: &str| {
        let name = surus_pg::quote::ident(&role.name);
        Some(Reason::Privilege(format!("the role {name} may not see it: GRANT {what} TO {name}")))
    };
    match need {
        Need::Stats if !(role.superuser || role.reads_stats) => grant("pg_monitor"),
        Need::Settings if !(role.superuser || role.reads_settings) => grant("pg_monitor"),
        Need::Monitor if !(role.superuser || role.monitors) => grant("pg_monitor"),
        Need::ReadAllData if !(role.superuser || role.reads_data) => match facts.version.major() {
            13 => Some(Reason::Privilege("only a superuser sees all of pg_stats before PostgreSQL 14".into())),
            _ => grant("pg_read_all_data"),
        },
        Need::Superuser if !role.superuser => Some(Reason::Privilege("only a superuser can see it".into())),
        Need::Hba => facts.hba.as_ref().err().map(|why| Reason::Privilege(why.clone())),
        Need::Host => facts.host.as_ref().err().map(|why| Reason::Host(why.clone())),
        Need::Extension(name) if !extensions.contains(name) => Some(Reason::Extension(format!(
            "the extension {name} is not installed in this database: CREATE EXTENSION {name}"
        ))),
        Need::Major(least) if facts.version.major() < least => {
            Some(Reason::Version(format!("PostgreSQL {} does not show it; {least} and newer do", facts.version)))
        }
        _ => None,
    }
}
