//! `surus check`: look, judge, record the proofs, report.

use crate::{
    args::{CheckArgs, CheckVerb, DataFormat, Format, Global},
    config::Config,
    failure::Failure,
    ledger,
    output::{ReportFile, json, print},
    progress, protection, report,
};
use std::io::Write;
use surus_check::{
    catalogue,
    options::Options,
    report::{Report, TargetReport, html, markdown},
    rule::Check,
    run::{self, Given},
};
use surus_core::{
    code::{self, Exit},
    finding::Severity,
};
use surus_pg::Target;

/// Runs the command.
pub async fn run(global: &Global, args: CheckArgs) -> Result<u8, Failure> {
    match &args.verb {
        Some(CheckVerb::List { format }) => return list(*format),
        Some(CheckVerb::Explain { id }) => return explain(id),
        None => {}
    }
    let config = Config::load(global.config.as_deref())?;
    for id in &args.only {
        if !catalogue::CHECKS.iter().any(|check| check.id == id || check.group() == id) {
            return Err(Failure::new(
                code::CHECK_UNKNOWN_ID,
                format!("\"{id}\" is neither a check nor a group of checks"),
            ));
        }
    }
    // A path that cannot be written is found out before the server is bothered.
    let html = args.html.as_deref().map(ReportFile::open).transpose()?;
    let given = given(&args.targets, &config)?;
    let repositories = tokio::task::block_in_place(|| protection::look(&config.repository, args.repo.as_deref()));
    let options = Options {
        only: args.only,
        repositories,
        databases: args.database,
        config: config.check.clone(),
        prove: args.prove,
        ..Options::default()
    };
    let monitor = progress::monitor(global.quiet);
    let mut report = run::run(given, &options, monitor.as_ref()).await;
    if !args.no_ledger {
        record(&mut report, global, &config);
    }
    if let Some(file) = html {
        file.write(&html::page(&report))?;
    }
    let text = match args.format {
        Format::Text => report::text(&report, args.all || global.verbose, global.quiet),
        Format::Json => json(&report)?,
        Format::Markdown => markdown::page(&report),
    };
    print(&text)?;
    Ok(exit_status(&report, args.fail_under))
}

/// The targets of the command line, else those of the configuration, else what the environment says.
pub fn given(dsns: &[String], config: &Config) -> Result<Vec<Given>, Failure> {
    if !dsns.is_empty() {
        let many = dsns.len() > 1;
        let name =
            |target: &Target, at: usize| if many { format!("{} {}", at + 1, target.label()) } else { target.label() };
        return Ok(dsns
            .iter()
            .enumerate()
            .map(|(at, dsn)| {
                let target = Target::parse(dsn);
                Given {
                    name: target.as_ref().map_or_else(|_| format!("target {}", at + 1), |target| name(target, at)),
                    target,
                }
            })
            .collect());
    }
    if !config.target.is_empty() {
        let one = |target: &crate::config::TargetConfig| {
            Ok(Given { name: target.name.clone(), target: Target::parse(&target.resolved_dsn()?) })
        };
        return config.target.iter().map(one).collect();
    }
    if ["PGHOST", "PGSERVICE", "PGDATABASE", "PGHOSTADDR"].iter().any(|name| std::env::var_os(name).is_some()) {
        let target = Target::parse("")?;
        return Ok(vec![Given { name: target.label(), target: Ok(target) }]);
    }
    Err(Failure::new(
        code::CONFIG_TARGET,
        "no connection string, no [[target]] in surus.toml, and neither PGHOST nor PGSERVICE is set",
    ))
}

/// Appends the proofs of this run to the ledger and assesses readiness with all that count.
///
/// A ledger that cannot be written never hides the findings: the proofs then do not count, and the items say so.
pub fn record(report: &mut Report, global: &Global, config: &Config) {
    let store = ledger::open(global, config);
    for target in &mut report.targets {
        if let Some(note) = ledger::weigh(target, store.as_ref()) {
            let _ = writeln!(anstream::stderr(), "warning{note}");
        }
    }
}

/// A target that could not be looked at counts more than findings; a bad score counts as a finding.
fn exit_status(report: &Report, fail_under: Option<u8>) -> u8 {
    if let Some(error) = report.targets.iter().find_map(|target| target.error.as_ref()) {
        return u8::try_from(error.exit).unwrap_or(Exit::Bug as u8);
    }
    let bad = |target: &TargetReport| target.findings.iter().any(|finding| finding.severity >= Severity::Warn);
    let low = |target: &TargetReport| fail_under.is_some_and(|least| target.readiness.score < least);
    if report.targets.iter().any(|target| bad(target) || low(target)) { Exit::Findings as u8 } else { 0 }
}

fn list(format: DataFormat) -> Result<u8, Failure> {
    if format == DataFormat::Json {
        let rows: Vec<_> =
            catalogue::CHECKS.iter().map(|check| serde_json::json!({"id": check.id, "title": check.title})).collect();
        print(&json(&rows)?)?;
        return Ok(0);
    }
    let text: String = catalogue::CHECKS.iter().map(|check| format!("{:<22} {}\n", check.id, check.title)).collect();
    print(&format!("{text}\n{} checks; a check's page: surus check explain <id>\n", catalogue::CHECKS.len()))?;
    Ok(0)
}

fn explain(id: &str) -> Result<u8, Failure> {
    let wanted = id.split(':').next().unwrap_or(id);
    let Some(check) = catalogue::find(wanted) else {
        let near: Vec<_> = catalogue::CHECKS.iter().filter(|check| near(check, wanted)).map(|check| check.id).collect();
        let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
        return Err(Failure::new(code::CHECK_UNKNOWN_ID, format!("there is no check \"{wanted}\"{hint}")));
    };
    print(&surus_check::report::page::of(check))?;
    Ok(0)
}

fn near(check: &Check, wanted: &str) -> bool {
    let name = check.id.split('.').nth(1).unwrap_or_default();
    let word = wanted.rsplit('.').next().unwrap_or(wanted);
    name.contains(word) || word.contains(name)
}
