//! `surus proof`: reading, verifying and exporting the ledger.

use crate::{
    args::{DataFormat, Global, ProofVerb},
    config::Config,
    failure::Failure,
    ledger,
    output::{Pipe, json, print},
    paint::Paint,
    wrap,
};
use std::{fmt::Write, fs::File, io::BufReader, path::Path};
use surus_core::{clock, code, proof::Outcome};
use surus_store::{ChainReport, Entry, Filter, Store};

/// Runs the command.
pub fn run(global: &Global, verb: &ProofVerb) -> Result<u8, Failure> {
    if let ProofVerb::Verify { file: Some(file) } = verb {
        let input = File::open(file).map_err(|error| {
            Failure::new(code::INPUT_READ, format!("nothing was verified: {}: {error}", file.display()))
        })?;
        return verdict(&surus_store::verify_export(BufReader::new(input))?);
    }
    let config = Config::load(global.config.as_deref())?;
    let store = Store::open_read_only(&ledger::path(global, &config)?)?;
    match verb {
        ProofVerb::List { kind, last, format } => list(&store, kind.clone(), *last, *format),
        ProofVerb::Show { number, format } => show(&store.entry(*number)?, *format),
        ProofVerb::Verify { .. } => verdict(&store.verify_chain()?),
        ProofVerb::Export { file: None } => {
            store.export(Pipe(std::io::stdout().lock()))?;
            Ok(0)
        }
        ProofVerb::Export { file: Some(file) } => export(&store, file),
    }
}

fn list(store: &Store, kind: Option<String>, last: Option<u32>, format: DataFormat) -> Result<u8, Failure> {
    let entries = store.entries(&Filter { kind, limit: last, ..Filter::default() })?;
    if format == DataFormat::Json {
        print(&json(&entries.iter().map(as_json).collect::<Vec<_>>())?)?;
        return Ok(0);
    }
    let now = clock::now();
    let mut out = String::new();
    for entry in &entries {
        let proof = &entry.proof;
        let outcome = match proof.outcome {
            Outcome::Passed => Paint::good("passed"),
            Outcome::Failed => Paint::crit("failed"),
        };
        let counts = match proof.expires_at {
            Some(end) if end > now => format!("until {}", end.strftime("%Y-%m-%d %H:%M")),
            Some(_) => "expired".into(),
            None => String::new(),
        };
        let subject = wrap::shortened(&proof.subject, wrap::width().saturating_sub(62));
        let at = proof.finished_at.strftime("%Y-%m-%d %H:%M:%S");
        let _ = writeln!(out, "{:>5}  {at}  {:<13} {outcome} {counts:<22} {subject}", entry.number, proof.kind);
    }
    if entries.is_empty() {
        out.push_str("The ledger is empty; `surus check` writes what it proves into it.\n");
    }
    print(&out)?;
    Ok(0)
}

fn as_json(entry: &Entry) -> serde_json::Value {
    serde_json::json!({
        "number": entry.number, "proof": entry.proof, "previous_hash": entry.previous_hash, "hash": entry.hash,
    })
}

fn show(entry: &Entry, format: DataFormat) -> Result<u8, Failure> {
    if format == DataFormat::Json {
        print(&json(&as_json(entry))?)?;
        return Ok(0);
    }
    let proof = &entry.proof;
    let mut out = String::new();
    let _ = writeln!(out, "{} {}: {} ({:?})", Paint::strong("Entry"), entry.number, proof.kind, proof.outcome);
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "  {:<10} {value}", Paint::faint(name));
        }
    };
    row("cluster", &proof.cluster);
    row("subject", &proof.subject);
    row("items", &proof.items.iter().map(u8::to_string).collect::<Vec<_>>().join(", "));
    row("started", &proof.started_at.to_string());
    row("finished", &proof.finished_at.to_string());
    row("expires", &proof.expires_at.map(|end| end.to_string()).unwrap_or_default());
    for measure in &proof.measured {
        row("measured", &format!("{} {} {}", measure.name, measure.value, measure.unit));
    }
    for step in &proof.steps {
        row("step", &format!("{} → {} ({:.1} ms)", step.what, step.result, step.duration_ms));
    }
    row("note", &proof.log_excerpt);
    row("undo", &proof.undo.as_ref().map(|undo| undo.to_string()).unwrap_or_default());
    row("surus", &proof.surus_version);
    row("previous", &entry.previous_hash);
    row("hash", &entry.hash);
    print(&out)?;
    Ok(0)
}

fn verdict(report: &ChainReport) -> Result<u8, Failure> {
    match &report.first_bad {
        None => {
            print(&format!(
                "{} {} entries, head {}\n",
                Paint::good("The chain is intact:"),
                report.entries,
                report.head_hash
            ))?;
            Ok(0)
        }
        Some(bad) => Err(Failure::new(code::STORE_CHAIN, format!("entry {}: {}", bad.number, bad.why))),
    }
}

fn export(store: &Store, file: &Path) -> Result<u8, Failure> {
    let output = File::create(file).map_err(|error| Failure::output(file, &error))?;
    let count = store.export(&output)?;
    output.sync_all().map_err(|error| Failure::output(file, &error))?;
    print(&format!("{count} entries written to {}; verify: surus proof verify {}\n", file.display(), file.display()))?;
    Ok(0)
}
