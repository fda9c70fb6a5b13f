//! `surus tune`: settings for this machine and this work, as a plan like any other.

use super::{confirmed, fix};
use crate::{
    args::{DataFormat, Global, ProfileArg, StorageArg, TuneArgs},
    config::Config,
    failure::Failure,
    output::{json, print},
};
use serde_json::json;
use surus_check::{
    fix::FixError,
    run::enter,
    tune::{self, Evidence, Machine, Profile, Storage, Tuned},
};
use surus_core::{
    code::{self, Code},
    size::Bytes,
};
use surus_pg::{Facts, Manners, Target, host};

/// Runs the command.
pub async fn run(global: &Global, args: TuneArgs) -> Result<u8, Failure> {
    let config = Config::load(global.config.as_deref())?;
    let target = Target::parse(&args.dsn)?;
    let session = enter(&target, &Manners { application_name: "surus tune".into(), ..Manners::looking() }).await?;
    let facts = Facts::gather(&session).await.map_err(|error| not_computed(error.code(), &error))?;
    let evidence = Evidence::gather(&session, &facts).await.map_err(|error| not_computed(error.code(), &error))?;
    session.close().await;
    let machine = machine(&args, &facts, &evidence)?;
    let tuned = tune::plan(&facts, &machine, &evidence);
    let document = json!({
        "machine": machine, "evidence": evidence, "settings": tuned.wanted, "plan": tuned.plan, "pool": tuned.pool,
    });
    let for_people = args.format == DataFormat::Text;
    if !args.apply || tuned.plan.steps.is_empty() {
        print(&if for_people { text(&tuned, &machine, args.apply) } else { json(&document)? })?;
        return Ok(0);
    }
    if facts.in_recovery {
        return Err(FixError::Standby.into());
    }
    if for_people {
        print(&text(&tuned, &machine, true))?;
    }
    let question = format!("Change {} on {}?", fix::counted(tuned.plan.steps.len(), "setting"), target.label());
    confirmed(&question, args.yes, args.format)?;
    let cluster = facts.system_identifier.clone().unwrap_or_else(|| target.label());
    let applied = fix::carry_out(global, &config, &target, &cluster, &tuned.plan).await?;
    if for_people {
        print(&fix::done_text(&applied))?;
    } else {
        let mut document = document;
        document["done"] = json!(applied.done);
        document["stopped"] = fix::stopped(&applied);
        print(&json(&document)?)?;
    }
    applied.stopped.map_or(Ok(0), |error| Err(error.into()))
}

fn not_computed(code: Code, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(code, format!("nothing was computed: {error}"))
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
    let word = |named: &dyn std::fmt::Debug| format!("{named:?}").to_lowercase();
    let head = format!(
        "For {} of memory, {}, {} storage, {} work, {}{data}.",
        Bytes(machine.memory_bytes),
        fix::counted(machine.cores as usize, "core"),
        word(&machine.storage),
        word(&machine.profile),
        fix::counted(machine.connections as usize, "connection"),
    );
    let fine = fix::counted(tuned.wanted.len() - tuned.plan.steps.len(), "other proposal");
    let plan = fix::text(&tuned.plan, applying);
    format!("{head}\n\n{plan}\nIn force already: {fine}.\n\n{}\n", tuned.pool.text())
}
