//! Collecting the verdicts of one target into its report.

use crate::{
    catalogue,
    options::CheckConfig,
    report::{NotApplicable, Suppressed, Unknown},
    rule::Check,
    verdict::{Judged, Trouble, Verdict},
};
use std::collections::{BTreeMap, BTreeSet};
use surus_core::{
    finding::{Finding, Reason},
    proof::Proof,
};

/// The verdicts so far.
#[derive(Default)]
pub(super) struct Outcomes {
    findings: Vec<Finding>,
    /// By check, part and reason: the databases concerned.
    unknown: BTreeMap<(usize, String, String), (Reason, Vec<String>)>,
    looked: BTreeSet<usize>,
    not_applicable: BTreeMap<usize, String>,
    proofs: Vec<Proof>,
}

/// The outcomes, ordered and with suppressions applied.
pub(super) struct Settled {
    pub findings: Vec<Finding>,
    pub unknown: Vec<Unknown>,
    pub ok: Vec<&'static str>,
    pub not_applicable: Vec<NotApplicable>,
    pub suppressed: Vec<Suppressed>,
    pub proofs: Vec<Proof>,
}

pub(super) fn unknown(check: &Check, object: String, databases: Vec<String>, reason: Reason) -> Unknown {
    Unknown { id: check.id, object, databases, reason }
}

fn position(check: &Check) -> usize {
    catalogue::CHECKS.iter().position(|one| one.id == check.id).unwrap_or(usize::MAX)
}

impl Outcomes {
    /// Adds a judgement; `database` for checks of that scope.
    pub(super) fn add(&mut self, check: &'static Check, database: Option<&str>, judged: Judged) {
        let verdict = match judged {
            Ok(verdict) => verdict,
            Err(Trouble::Unknown(reason)) => Verdict::unknown(reason),
            Err(Trouble::Shape(error)) => Verdict::unknown(Reason::Unexpected(error.to_string())),
            Err(Trouble::Gone(message)) => Verdict::unknown(Reason::Unreachable(message)),
        };
        let at = position(check);
        self.looked.insert(at);
        self.proofs.extend(verdict.proof);
        for mut finding in verdict.findings {
            finding.id = check.id.to_owned();
            finding.database = database.map(str::to_owned);
            finding.key = key(check, database, &finding.object);
            self.findings.push(finding);
        }
        for (part, reason) in verdict.unknown {
            let slot = self.unknown.entry((at, part, reason.text().to_owned())).or_insert((reason, Vec::new()));
            slot.1.extend(database.map(str::to_owned));
        }
        if let Some(why) = verdict.not_applicable {
            self.not_applicable.insert(at, why);
        }
    }

    /// Orders everything; findings worst first, then in the order of the catalogue.
    pub(super) fn settle(mut self, config: &CheckConfig) -> Settled {
        let order: BTreeMap<&str, usize> =
            catalogue::CHECKS.iter().enumerate().map(|(at, check)| (check.id, at)).collect();
        self.findings.sort_by(|a, b| {
            let by_severity = b.severity.cmp(&a.severity);
            by_severity.then(order.get(a.id.as_str()).cmp(&order.get(b.id.as_str()))).then(a.key.cmp(&b.key))
        });
        let mut suppressed = Vec::new();
        self.findings.retain(|finding| match config.ignore.iter().find(|i| i.covers(&finding.id, &finding.key)) {
            Some(ignore) => {
                suppressed.push(Suppressed { key: finding.key.clone(), reason: ignore.reason.clone() });
                false
            }
            None => true,
        });
        let loud: BTreeSet<&str> = self.findings.iter().map(|finding| finding.id.as_str()).collect();
        let hidden: BTreeSet<&str> = suppressed.iter().filter_map(|one| one.key.split(':').next()).collect();
        let blind: BTreeSet<usize> = self.unknown.keys().map(|(at, _, _)| *at).collect();
        let quiet = |at: &usize| {
            let id = catalogue::CHECKS[*at].id;
            !loud.contains(id) && !hidden.contains(id) && !blind.contains(at) && !self.not_applicable.contains_key(at)
        };
        let ok = self.looked.iter().filter(|at| quiet(at)).map(|at| catalogue::CHECKS[*at].id).collect();
        let unknown_rows = self.unknown.into_iter();
        Settled {
            ok,
            unknown: unknown_rows
                .map(|((at, part, _), (reason, databases))| unknown(catalogue::CHECKS[at], part, databases, reason))
                .collect(),
            not_applicable: self
                .not_applicable
                .into_iter()
                .filter(|(at, _)| !loud.contains(catalogue::CHECKS[*at].id))
                .map(|(at, why)| NotApplicable { id: catalogue::CHECKS[at].id, why })
                .collect(),
            findings: self.findings,
            suppressed,
            proofs: self.proofs,
        }
    }
}

/// The stable name of a finding: check, database and object, whichever there are.
fn key(check: &Check, database: Option<&str>, object: &str) -> String {
    match (database, object) {
        (None, "") => check.id.to_owned(),
        (None, object) => format!("{}:{object}", check.id),
        (Some(database), "") => format!("{}:{database}", check.id),
        (Some(database), object) => format!("{}:{database}/{object}", check.id),
    }
}
