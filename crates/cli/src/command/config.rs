//! `surus config`: is the file valid, and what can stand in it.

use crate::{
    args::{ConfigVerb, Global},
    config::{Config, REFERENCE},
    failure::Failure,
    output::print,
};
use surus_pg::Target;

/// Runs the command.
pub fn run(global: &Global, verb: &ConfigVerb) -> Result<u8, Failure> {
    let ConfigVerb::Check = verb else { return print(REFERENCE).map(|()| 0) };
    let named = global.config.as_deref();
    let config = Config::load(named)?;
    let Some(path) = Config::path(named) else {
        print("There is no configuration file; the defaults hold. What can stand in one: surus config explain\n")?;
        return Ok(0);
    };
    let mut out = format!("{} is valid.\n", path.display());
    for target in &config.target {
        let parsed = Target::parse(&target.resolved_dsn()?)
            .map_err(|error| Failure::new(error.code, format!("target {}: {}", target.name, error.message)))?;
        out.push_str(&format!("  target {}: {}\n", target.name, parsed.label()));
    }
    out.push_str(&format!(
        "  {} suppressions, limits changed for {} checks\n",
        config.check.ignore.len(),
        config.check.thresholds.len()
    ));
    print(&out)?;
    Ok(0)
}
