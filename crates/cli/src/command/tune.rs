//! `surus tune`: settings for this machine and this work, as a plan like any other.

use super::{check, confirmed, fix};
use crate::{
    args::{Format, Global, ProfileArg, StorageArg, TuneArgs},
    config::Config,
    failure::Failure,
};
use serde_json::json;
use surus_check::tune::{self, Evidence, Machine, Profile, Storage, Tuned};
use surus_core::{code, size::Bytes};
use surus_pg::{Facts, Manners, Target, host};

/// Runs the command.
pub async fn run(global: &Global, args: TuneArgs) -> Result<u8, Failure> {
    let config = Config::load(global.config.as_deref())?;
    let target = Target::parse(&args.dsn)?;
    let session = target.connect(&Manners { application_name: "surus tune".into(), ..Manners::looking() }).await?;
    let facts = Facts::gather(&session)
        .await
        .map_err(|error| Failure::new(code::QUERY_FAILED, format!("nothing was computed: {error}")))?;
    let evidence =
        Evidence::gather(&session, &facts).await.map_err(|error| Failure::new(error.code(), error.to_string()))?;
    session.close().await;
    let machine = machine(&args, &facts, &evidence)?;
    let tuned = tune::plan(&facts, &machine, &evidence);
    match args.format {
        Format::Json => check::print(&check::json(&json!({
            "machine": machine, "evidence": evidence, "settings": tuned.wanted, "plan": tuned.plan, "pool": tuned.pool,
        }))?)?,
        Format::Text | Format::Markdown => check::print(&text(&tuned, &machine, args.apply))?,
    }
    if !args.apply || tuned.plan.steps.is_empty() {
        return Ok(0);
    }
    if facts.in_recovery {
        return Err(surus_check::fix::FixError::Standby.into());
    }
    confirmed(&format!("Change these {} settings on {}?", tuned.plan.steps.len(), target.label()), args.yes)?;
    let cluster = facts.system_identifier.clone().unwrap_or_else(|| target.label());
    let applied = fix::carry_out(global, &config, &target, &cluster, &tuned.plan).await?;
    match applied.stopped {
        Some(error) => Err(error.into()),
        None => Ok(0),
    }
}

/// The machine: what was said, else what this host shows when it is the server's.
fn machine(args: &TuneArgs, facts: &Facts, evidence: &Evidence) -> Result<Machine, Failure> {
    let here = facts.host.as_ref();
    let need = |what: &str, flag: &str| {
        let why = here.err().cloned().unwrap_or_default();
        Failure::new(
            code::TUNE_MACHINE,
            format!("the server's {what} is not known ({why}); nothing was computed without {flag}"),
        )
    };
    let memory = args.memory.or(here.ok().map(|host| host.memory_bytes)).ok_or_else(|| need("memory", "--memory"))?;
    let cores = args.cores.or(here.ok().map(|host| host.cores)).ok_or_else(|| need("number of cores", "--cores"))?;
    let rotational = facts.data_directory().and_then(|directory| host::is_rotational(&directory));
    let storage = match (args.storage, rotational) {
        (Some(StorageArg::Hdd), _) | (None, Some(true)) => Storage::Hdd,
        (Some(StorageArg::San), _) => Storage::San,
        (Some(StorageArg::Nvme), _) => Storage::Nvme,
        (Some(StorageArg::Ssd), _) | (None, Some(false) | None) => Storage::Ssd,
    };
    let profile = match args.profile {
        ProfileArg::Web => Profile::Web,
        ProfileArg::Oltp => Profile::Oltp,
        ProfileArg::Dw => Profile::Dw,
        ProfileArg::Desktop => Profile::Desktop,
        ProfileArg::Mixed => Profile::Mixed,
    };
    let in_force = facts.settings.number("max_connections").map(|number| number as u32);
    let connections = args.connections.or(in_force).unwrap_or_else(|| profile.connections());
    Ok(Machine { memory_bytes: memory, cores, storage, profile, connections, data_bytes: evidence.data_bytes })
}

fn text(tuned: &Tuned, machine: &Machine, applying: bool) -> String {
    let data = machine.data_bytes.map(|bytes| format!(", {} of data", Bytes(bytes))).unwrap_or_default();
    let head = format!(
        "For {} of memory, {} cores, {:?} storage, {:?} work, {} connections{data}.\n\n",
        Bytes(machine.memory_bytes),
        machine.cores,
        machine.storage,
        machine.profile,
        machine.connections
    );
    let rest = tuned.wanted.len() - tuned.plan.steps.len();
    let fine = format!("{rest} other settings are as they should be.\n\n");
    format!(
        "{}{}\n{fine}{}\n",
        head.to_lowercase().replacen("for", "For", 1),
        fix::text(&tuned.plan, applying),
        tuned.pool.text()
    )
}
