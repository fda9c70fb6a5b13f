//! Readiness: the 14 production items, judged from what the checks found and from the proofs that count.
//!
//! *Proven* takes a proof that has not expired. *Configured* means that settings and findings speak for it. An item
//! that this version has no experiment for is unknown and says so.

use crate::report::TargetReport;
use surus_core::{
    finding::Severity,
    proof::Proof,
    readiness::{ITEMS, Item, ItemState, Readiness, State},
};
use surus_pg::Facts;

/// What readiness needs to know of a target beyond its findings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    in_recovery: bool,
    tls: Option<bool>,
    /// Does it hand WAL to an archive: archive_mode and a command or library?
    archiving: Option<bool>,
    standbys: Option<usize>,
    autovacuum: Option<bool>,
    /// Is pg_stat_statements preloaded?
    statements: Option<bool>,
    scram: Option<bool>,
}

impl Standing {
    /// From the facts of a target.
    pub fn of(facts: &Facts) -> Self {
        let settings = &facts.settings;
        let filled = |name: &str| settings.text(name).is_some_and(|text| !text.is_empty() && text != "(disabled)");
        let archive_on = settings.text("archive_mode").map(|mode| mode != "off");
        Self {
            in_recovery: facts.in_recovery,
            tls: settings.on("ssl"),
            archiving: archive_on.map(|on| on && (filled("archive_command") || filled("archive_library"))),
            standbys: facts.standbys.as_ref().map(Vec::len),
            autovacuum: settings.on("autovacuum").map(|on| on && settings.on("track_counts") == Some(true)),
            statements: settings.list("shared_preload_libraries").map(|all| all.contains(&"pg_stat_statements")),
            scram: settings.text("password_encryption").map(|kind| kind == "scram-sha-256"),
        }
    }
}

/// How the ledger names a target's cluster.
pub fn cluster_name(report: &TargetReport) -> String {
    report.cluster.clone().unwrap_or_else(|| report.name.clone())
}

/// Assesses a target. `proofs` are the ledger's numbers and proofs that count now for its cluster.
pub fn assess(report: &TargetReport, proofs: &[(i64, Proof)]) -> Readiness {
    let Some(standing) = &report.standing else { return unknown("the target could not be reached") };
    let state_of = |item: &Item| {
        // The best password is of no use where none is asked for.
        if let (1, Said::Bad(title)) = (item.id, said(report, "sec.hba_trust")) {
            let (state, why) = (State::Missing, title.to_owned());
            return ItemState { id: item.id, title: item.title, state, why, proofs: Vec::new() };
        }
        let speaking: Vec<_> = proofs.iter().filter(|(_, proof)| proof.items.contains(&item.id)).collect();
        match speaking.last() {
            Some((_, proof)) => ItemState {
                id: item.id,
                title: item.title,
                state: State::Proven,
                why: proven_text(proof),
                proofs: speaking.iter().map(|(number, _)| *number).collect(),
            },
            None => {
                let (state, why) = unproven(item.id, standing, report);
                ItemState { id: item.id, title: item.title, state, why, proofs: Vec::new() }
            }
        }
    };
    Readiness::of(ITEMS.iter().map(state_of).collect())
}

/// All items unknown for one reason.
pub fn unknown(why: &str) -> Readiness {
    let item = |item: &Item| ItemState {
        id: item.id,
        title: item.title,
        state: State::Unknown,
        why: why.to_owned(),
        proofs: Vec::new(),
    };
    Readiness::of(ITEMS.iter().map(item).collect())
}

/// What the proof showed and until when it counts.
fn proven_text(proof: &Proof) -> String {
    let last = proof.steps.last().map_or("", |step| step.result.as_str());
    let until =
        proof.expires_at.map(|end| format!(" (until {})", end.strftime("%Y-%m-%d %H:%M UTC"))).unwrap_or_default();
    format!("{last}{until}")
}

/// What a check says about an item.
enum Said<'a> {
    Bad(&'a str),
    Fine,
    Blind(&'a str),
}

fn said<'a>(report: &'a TargetReport, id: &str) -> Said<'a> {
    let bad = report.findings.iter().find(|finding| finding.id == id && finding.severity >= Severity::Warn);
    let blind = report.unknown.iter().find(|unknown| unknown.id == id);
    match (bad, blind) {
        (Some(finding), _) => Said::Bad(&finding.title),
        (None, Some(unknown)) => Said::Blind(unknown.reason.text()),
        (None, None) if looked(report, id) => Said::Fine,
        (None, None) => Said::Blind("the checks that speak for it were not run"),
    }
}

/// Did the check look and have nothing to complain about, or only to inform?
fn looked(report: &TargetReport, id: &str) -> bool {
    let applies = report.not_applicable.iter().any(|one| one.id == id);
    applies || report.ok.contains(&id) || report.findings.iter().any(|finding| finding.id == id)
}

/// Missing when one of the checks complains, unknown when one is blind, else configured.
fn by_checks(report: &TargetReport, ids: &[&str], configured: &str) -> (State, String) {
    let all: Vec<_> = ids.iter().map(|id| said(report, id)).collect();
    if let Some(Said::Bad(title)) = all.iter().find(|said| matches!(said, Said::Bad(_))) {
        return (State::Missing, (*title).to_owned());
    }
    match all.iter().find(|said| matches!(said, Said::Blind(_))) {
        Some(Said::Blind(why)) => (State::Unknown, (*why).to_owned()),
        _ => (State::Configured, configured.to_owned()),
    }
}

fn by_setting(on: Option<bool>, off: &str, then: impl FnOnce() -> (State, String)) -> (State, String) {
    match on {
        Some(true) => then(),
        Some(false) => (State::Missing, off.to_owned()),
        None => (State::Unknown, "the role may not see the settings: GRANT pg_monitor".to_owned()),
    }
}

const NO_PROOF: &str = "no proof exists in this version";

fn unproven(item: u8, standing: &Standing, report: &TargetReport) -> (State, String) {
    match item {
        1 => by_setting(standing.scram, "password_encryption is not scram-sha-256", || {
            by_checks(
                report,
                &["sec.common_password", "sec.md5", "sec.no_password"],
                "SCRAM everywhere; no password was tried",
            )
        }),
        2 => by_setting(standing.tls, "ssl is off", || {
            (
                State::Configured,
                "ssl is on; no proof that a verified connection works and a plaintext one is refused".into(),
            )
        }),
        3 => by_checks(report, &["sec.hba_trust", "sec.hba_wide"], &format!("pg_hba.conf is narrow; {NO_PROOF}")),
        4 => by_setting(standing.archiving, "WAL is not archived", || {
            by_checks(
                report,
                &["bkp.archive_failing"],
                "WAL is archived; surus was shown no repository with a backup (--repo, or [[repository]] in surus.toml)",
            )
        }),
        5 => by_setting(standing.archiving, "WAL is not archived: nothing could be restored", || {
            (State::Missing, "no drill has restored a backup lately: surus prove restore".into())
        }),
        8 => replication(standing, report),
        9 => by_setting(standing.autovacuum, "autovacuum or track_counts is off", || {
            by_checks(
                report,
                &["vac.disabled", "vac.overdue", "vac.horizon"],
                "on; it was not seen to run where it was due",
            )
        }),
        10 => by_setting(standing.statements, "not in shared_preload_libraries", || {
            (State::Configured, "loaded; two snapshots gave no deltas in any database looked at".into())
        }),
        12 => (State::Missing, "no clone was restored lately: surus clone".into()),
        14 => (
            State::Missing,
            "no restore from an off-site repository was drilled lately: surus prove restore --repo s3://…".into(),
        ),
        _ => (State::Unknown, NO_PROOF.to_owned()),
    }
}

fn replication(standing: &Standing, report: &TargetReport) -> (State, String) {
    if standing.in_recovery {
        return by_checks(report, &["repl.receiver"], "this is a standby; no marker row was read on it (--prove)");
    }
    match standing.standbys {
        Some(0) => (State::Missing, "no standby is connected".into()),
        Some(count) => by_checks(
            report,
            &["repl.missing", "repl.sync_degraded"],
            &format!("{count} standby connected; no marker row was read there (check both nodes with --prove)"),
        ),
        None => (State::Unknown, "the role may not see pg_stat_replication: GRANT pg_monitor".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use surus_core::{clock, finding::Finding, proof::Outcome};

    fn report(standing: Standing, findings: Vec<Finding>) -> TargetReport {
        let ok = vec![
            "sec.common_password",
            "sec.md5",
            "sec.no_password",
            "sec.hba_trust",
            "sec.hba_wide",
            "bkp.archive_failing",
            "vac.disabled",
            "vac.overdue",
            "vac.horizon",
            "repl.receiver",
            "repl.missing",
            "repl.sync_degraded",
        ];
        TargetReport { findings, ok, standing: Some(standing), ..TargetReport::empty("main") }
    }

    fn found(id: &str) -> Finding {
        Finding { id: id.into(), ..Finding::warn("", "seen to be bad") }
    }

    fn state(readiness: &Readiness, id: u8) -> State {
        readiness.items[usize::from(id) - 1].state
    }

    #[test]
    fn nothing_is_green_without_a_proof() {
        let all_on = Standing {
            in_recovery: false,
            tls: Some(true),
            archiving: Some(true),
            standbys: Some(1),
            autovacuum: Some(true),
            statements: Some(true),
            scram: Some(true),
        };
        let readiness = assess(&report(all_on, vec![]), &[]);
        assert!(readiness.items.iter().all(|item| item.state != State::Proven));
        assert!([1, 2, 3, 4, 8, 9, 10].iter().all(|id| state(&readiness, *id) == State::Configured));
        assert!([5, 12, 14].iter().all(|id| state(&readiness, *id) == State::Missing));
        assert!(readiness.items[4].why.contains("surus prove restore"));
        assert!([6, 7, 11, 13].iter().all(|id| state(&readiness, *id) == State::Unknown));
    }

    #[test]
    fn a_finding_makes_it_missing_and_hidden_settings_unknown() {
        let standing = Standing { tls: Some(false), scram: Some(true), ..Standing::default() };
        let readiness = assess(&report(standing, vec![found("sec.md5")]), &[]);
        assert_eq!((state(&readiness, 1), state(&readiness, 2)), (State::Missing, State::Missing));
        assert_eq!((state(&readiness, 4), state(&readiness, 10)), (State::Unknown, State::Unknown));
    }

    #[test]
    fn no_password_counts_where_trust_lets_everybody_in() {
        let standing = Standing { scram: Some(true), ..Standing::default() };
        let readiness = assess(&report(standing, vec![found("sec.hba_trust")]), &[]);
        assert_eq!(state(&readiness, 1), State::Missing);
    }

    #[test]
    fn a_counting_proof_makes_its_item_proven() {
        let now = clock::now();
        let proof = Proof {
            kind: "tls".into(),
            items: vec![2],
            cluster: "main".into(),
            subject: "main".into(),
            started_at: now,
            finished_at: now,
            outcome: Outcome::Passed,
            measured: vec![],
            steps: vec![],
            log_excerpt: String::new(),
            surus_version: "0".into(),
            expires_at: None,
            undo: None,
        };
        let readiness = assess(&report(Standing::default(), vec![]), &[(7, proof)]);
        assert_eq!((state(&readiness, 2), readiness.items[1].proofs.as_slice()), (State::Proven, &[7][..]));
    }
}
