//! The runbook "restore after data loss" of a target: what to run, and what the last successful drill of its cluster
//! ran and measured. A step that no drill ran says so.

use super::{Asking, proofs};
use crate::api::answer::ApiError;
use schemars::JsonSchema;
use serde::Serialize;
use surus_core::proof::{Outcome, Proof};
use surus_store::{Entry, Filter};

/// Drills that are looked through for one that passed.
const DRILLS: u32 = 50;
/// Stands for what is not known here.
const DATA: &str = "DATA_DIRECTORY";

/// The runbook.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Runbook {
    pub target: String,
    /// The drill whose commands these are.
    pub drill: Option<Drilled>,
    /// Why there is none.
    pub no_drill: Option<String>,
    pub steps: Vec<Step>,
}

/// A drill that passed.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Drilled {
    /// In the ledger.
    pub number: i64,
    pub finished_ms: i64,
    pub subject: String,
    pub rto_s: Option<f64>,
    pub rpo_s: Option<f64>,
    /// Does it still count?
    pub counts: bool,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Step {
    pub what: String,
    pub why: String,
    pub commands: Vec<String>,
    /// How long it took in the drill; none for what a drill does not do.
    pub measured_s: Option<f64>,
    /// Did the drill run this?
    pub drilled: bool,
}

/// Looks into the ledger.
pub fn look(asking: &Asking<'_>) -> Result<Runbook, ApiError> {
    let target = asking.target()?;
    let cluster = target.system_identifier.clone();
    let filter = drills_of(cluster.as_deref().unwrap_or_default());
    let entries = match (&cluster, proofs::opened(asking)?) {
        (Some(_), Some(store)) => Some(store.entries(&filter)?),
        (Some(_), None) => Some(Vec::new()),
        (None, _) => None,
    };
    let now = jiff::Timestamp::from_millisecond(asking.scene.now_ms).unwrap_or_default();
    let data = target.places.as_ref().and_then(|places| places.first()).map(|place| place.display().to_string());
    let repository = asking.site.observatory.protected(&target.name).first().map(|one| one.repository.clone());
    let place = Place { target: target.name.clone(), data, repository, tool: None };
    Ok(written(&place, entries.as_deref(), now))
}

/// The filter of a cluster's newest drills.
pub fn drills_of(cluster: &str) -> Filter {
    Filter {
        kind: Some(proofs::RESTORE.to_owned()),
        cluster: Some(cluster.to_owned()),
        limit: Some(DRILLS),
        ..Filter::default()
    }
}

/// The runbook, from the cluster's drills as the ledger has them, oldest first; none where it is not known which
/// cluster that is.
pub fn written(place: &Place, drills: Option<&[Entry]>, now: jiff::Timestamp) -> Runbook {
    let passed = drills.unwrap_or_default().iter().rfind(|entry| entry.proof.outcome == Outcome::Passed);
    let no_drill = match drills {
        _ if passed.is_some() => None,
        None => Some("Which cluster this is, is not known yet, so no drill of it can be looked up."),
        Some([]) => Some(
            "No drill has restored this cluster yet: what follows is the general form, and nobody has run it here. Run \
             one: surus prove restore.",
        ),
        Some(_) => Some(
            "Every drill of this cluster has failed: what follows is the general form. See the ledger for what failed \
             before you rely on it.",
        ),
    };
    Runbook {
        target: place.target.clone(),
        no_drill: no_drill.map(str::to_owned),
        steps: steps(place, passed.map(|entry| &entry.proof)),
        drill: passed.map(|entry| drilled(entry, now)),
    }
}

fn drilled(entry: &Entry, now: jiff::Timestamp) -> Drilled {
    let measured = |name: &str| entry.proof.measured.iter().find(|one| one.name == name).map(|one| one.value);
    Drilled {
        number: entry.number,
        finished_ms: entry.proof.finished_at.as_millisecond(),
        subject: entry.proof.subject.clone(),
        rto_s: measured("rto"),
        rpo_s: measured("rpo"),
        counts: entry.proof.counts_at(now),
    }
}

/// What this cluster's own names are; what is not known has a name that says so.
#[derive(Debug, Clone, Default)]
pub struct Place {
    pub target: String,
    /// Its data directory.
    pub data: Option<String>,
    /// The repository of surus, by name or address.
    pub repository: Option<String>,
    /// The other tool that makes its backups, where no drill tells.
    pub tool: Option<String>,
}

fn steps(place: &Place, drill: Option<&Proof>) -> Vec<Step> {
    let (target, data) = (&place.target, place.data.as_deref().unwrap_or(DATA));
    let took = |name: &str| {
        let step = drill?.steps.iter().find(|step| step.what == name)?;
        Some(step.duration_ms / 1000.0)
    };
    let step = |what: &str, why: &str, commands: Vec<String>, measured_s: Option<f64>, drilled: bool| Step {
        what: what.to_owned(),
        why: why.to_owned(),
        commands,
        measured_s,
        drilled,
    };
    let own = drill.map(|proof| commands(proof, data)).filter(|commands| !commands.is_empty());
    let is_drilled = own.is_some();
    let (restore, protect) = general(place, drill);
    vec![
        step(
            "See what can be restored",
            "Choose the moment just before the loss. A table alone is got back more gently: surus at looks into the past \
             without touching the server.",
            vec![format!("surus prove window {target}")],
            took("backups"),
            false,
        ),
        step(
            "Stop what is left, and keep it",
            "Whatever is still in the old data directory may be needed: its last WAL is in no archive.",
            vec![format!("pg_ctl -D {data} stop -m fast"), format!("mv {data} {data}.lost")],
            None,
            false,
        ),
        step(
            "Restore the files",
            "Up to the latest moment; with --time '2026-09-21 14:13:20Z' up to that one. A line with # is what the command \
             sets by itself.",
            own.unwrap_or_else(|| vec![restore]),
            took("restore"),
            is_drilled,
        ),
        step(
            "Start, and let it recover",
            "The server fetches its WAL and promotes itself at the target.",
            vec![format!("pg_ctl -D {data} start -w -t 86400"), "psql -c 'SELECT pg_is_in_recovery()'".to_owned()],
            took("recovery"),
            false,
        ),
        step(
            "Look before you let anybody in",
            "Does it answer, is what you missed there, and is the rest sound?",
            vec!["surus check".to_owned()],
            took("first answer"),
            false,
        ),
        step(
            "Protect it again",
            "It is on a new timeline now: a full backup begins a new window.",
            vec![protect],
            None,
            false,
        ),
    ]
}

/// The restore and the next full backup, as far as they are known without a drill.
fn general(place: &Place, drill: Option<&Proof>) -> (String, String) {
    let data = place.data.as_deref().unwrap_or(DATA);
    let repository = place.repository.as_deref().unwrap_or("REPOSITORY");
    let of_drill = drill.and_then(|proof| proof.subject.split_once(" at ")).map(|(tool, _)| tool);
    match of_drill.or(place.tool.as_deref()).filter(|tool| *tool != "surus") {
        Some(tool) => (
            format!("# {tool} restores into {data}; a drill that passes leaves its commands here"),
            format!("# a full backup with {tool}"),
        ),
        None => (
            format!("surus restore --repo {repository} --to {data}"),
            format!("surus backup run --full --repo {repository} {}", place.target),
        ),
    }
}

/// What the drill ran, with this cluster's data directory in the place of the scratch one.
fn commands(proof: &Proof, data: &str) -> Vec<String> {
    let Some(step) = proof.steps.iter().find(|step| step.what == "commands") else { return Vec::new() };
    step.result.lines().map(|line| placed(line, data)).collect()
}

/// Copies are in directories `copy-…`, and the data directory of each is `data` in it.
fn placed(line: &str, data: &str) -> String {
    let is_copy = |word: &str| word.contains("/copy-") && word.trim_end_matches(['\'', '"']).ends_with("/data");
    line.split(' ').map(|word| if is_copy(word) { data } else { word }).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drills_scratch_directory_becomes_the_clusters_own() {
        let line = "surus restore --repo /srv/surus --to /var/lib/surus-copies/copy-17-0/data";
        assert_eq!(placed(line, "/srv/pg"), "surus restore --repo /srv/surus --to /srv/pg");
        assert_eq!(placed("# restore_command = surus wal get", "/srv/pg"), "# restore_command = surus wal get");
    }

    #[test]
    fn without_a_drill_nothing_counts_as_drilled() {
        let place = Place { target: "shop".into(), repository: Some("main".into()), ..Place::default() };
        let general = written(&place, Some(&[]), jiff::Timestamp::UNIX_EPOCH);
        assert!(general.steps.iter().all(|step| !step.drilled && step.measured_s.is_none()));
        assert!(general.no_drill.is_some() && general.drill.is_none());
        assert_eq!(general.steps[2].commands, ["surus restore --repo main --to DATA_DIRECTORY"]);
        let other = Place { tool: Some("pgBackRest".into()), ..place };
        let said: Vec<String> = steps(&other, None).into_iter().flat_map(|step| step.commands).collect();
        assert!(!said.iter().any(|line| line.contains("surus restore") || line.contains("surus backup")), "{said:?}");
    }
}
