//! May a collector ask here? The first thing that it needs and is missing becomes the reason. Pure.

use crate::{
    collector::{Collector, Need, RunsOn},
    why::Why,
};
use std::collections::BTreeMap;
use surus_core::{code, version::NEWEST_MAJOR};
use surus_pg::Facts;

/// An extension as one database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    pub version: String,
    pub schema: String,
}

/// The extensions of a database, by name.
pub type Extensions = BTreeMap<String, Extension>;

/// The query to ask, or why there is none.
///
/// # Errors
/// The reason why the collector has nothing to say here.
pub fn open(collector: &Collector, facts: &Facts, extensions: &Extensions) -> Result<String, Why> {
    match (collector.runs_on, facts.in_recovery) {
        (RunsOn::Primary, true) => return Err(Why::absent("this is a standby; a primary is asked")),
        (RunsOn::Standby, false) => return Err(Why::absent("this is a primary; a standby is asked")),
        _ => {}
    }
    if let Some(why) = collector.needs.iter().find_map(|need| missing(*need, facts, extensions)) {
        return Err(why);
    }
    // A newer major than surus knows is asked as the newest that it knows.
    let major = facts.version.major().min(NEWEST_MAJOR);
    let schema = collector.extension().and_then(|name| extensions.get(name)).map(|extension| extension.schema.as_str());
    collector.text(major, schema).ok_or_else(|| Why::absent(format!("PostgreSQL {} does not show it", facts.version)))
}

fn missing(need: Need, facts: &Facts, extensions: &Extensions) -> Option<Why> {
    let role = &facts.role;
    let privilege =
        |name: &str| Why::error(code::QUERY_PRIVILEGE, format!("the role {} is no member of {name}", role.name));
    match need {
        Need::Stats => (!role.superuser && !role.reads_stats).then(|| privilege("pg_read_all_stats")),
        Need::Monitor => (!role.superuser && !role.monitors).then(|| privilege("pg_monitor")),
        Need::Extension(name) => {
            (!extensions.contains_key(name)).then(|| Why::absent(format!("the extension {name} is not installed here")))
        }
        Need::Data => (!role.superuser && !role.reads_data).then(|| privilege("pg_read_all_data")),
        Need::Major(major) => (facts.version.major() < major)
            .then(|| Why::absent(format!("PostgreSQL {} does not show it; {major} does", facts.version))),
    }
}
