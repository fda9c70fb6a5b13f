//! `surus grafana export`: dashboards as files.

use crate::{
    args::GrafanaVerb,
    failure::Failure,
    output::{ReportFile, json, print},
};
use surus_web::grafana::DASHBOARDS;

/// Runs the command.
pub fn run(verb: &GrafanaVerb) -> Result<u8, Failure> {
    let GrafanaVerb::Export { dir } = verb;
    let Some(dir) = dir else {
        let all: Vec<_> = DASHBOARDS.iter().map(|dashboard| dashboard.json()).collect();
        print(&json(&all)?)?;
        return Ok(0);
    };
    std::fs::create_dir_all(dir).map_err(|error| Failure::output(dir, &error))?;
    let mut out = String::new();
    for dashboard in DASHBOARDS {
        let path = dir.join(format!("{}.json", dashboard.uid));
        ReportFile::open(&path)?.write(&json(&dashboard.json())?)?;
        out.push_str(&format!("{}  {}\n", path.display(), dashboard.title));
    }
    print(&format!("{out}\nIn Grafana: Dashboards, New, Import, and choose surus as the data source.\n"))?;
    Ok(0)
}
