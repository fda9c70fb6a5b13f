//! What the newest check of a target found, how ready the target is for production, and what could not be seen.

use super::Asking;
use crate::api::answer::ApiError;
use schemars::JsonSchema;
use serde::Serialize;
use surus_check::{catalogue::CHECKS, report::page, reports::NoReport};
use surus_core::{
    finding::{Finding, Severity},
    plan::{Action, Interruption, Plan, Step, Undo},
    readiness::ITEMS,
};

/// The findings of a target.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Findings {
    /// When the newest check began; none when there is none yet.
    pub at_ms: Option<i64>,
    pub duration_ms: Option<f64>,
    /// Why there is no report, or none since the last attempt.
    pub trouble: Option<String>,
    /// 0 to 100.
    pub score: Option<u8>,
    /// The 14 production items.
    pub items: Vec<Item>,
    /// How many there are of each severity, whatever the filter.
    pub counts: Vec<(String, usize)>,
    /// Worst first.
    pub findings: Vec<Found>,
    /// Checks that could not look, with their reasons.
    pub unknown: Vec<NotSeen>,
    /// Checks that looked and found nothing.
    pub ok: usize,
    pub suppressed: usize,
}

/// A production item.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Item {
    pub id: u8,
    pub title: &'static str,
    /// `proven`, `configured`, `missing` or `unknown`.
    pub state: &'static str,
    pub why: String,
    /// What proves it.
    pub proven_by: &'static str,
    /// Numbers in the ledger.
    pub proofs: Vec<i64>,
}

/// A finding.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Found {
    pub id: String,
    pub key: String,
    /// `crit`, `warn` or `info`.
    pub severity: &'static str,
    pub title: String,
    pub object: String,
    pub database: Option<String>,
    pub detail: String,
    /// Names and values of what was seen.
    pub evidence: Vec<(String, String)>,
    pub fix: Option<Fix>,
    /// What the check is about, why, and its query, in Markdown.
    pub page: String,
}

/// How it goes away.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Fix {
    pub summary: String,
    pub steps: Vec<FixStep>,
    /// Shows the plan; with `--apply` behind it, carries it out.
    pub command: String,
}

/// A step of a plan.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FixStep {
    pub effect: String,
    /// SQL, a setting, or what a person does.
    pub what: String,
    /// Its lock, what it interrupts, how long it takes and how it is taken back.
    pub costs: Vec<String>,
}

/// A check that could not look.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct NotSeen {
    pub id: &'static str,
    pub object: String,
    pub databases: Vec<String>,
    pub kind: &'static str,
    pub reason: String,
}

/// Looks at the newest report.
pub fn look(asking: &Asking<'_>) -> Result<Findings, ApiError> {
    let target = asking.target()?;
    let (reports, words) = (&asking.site.reports, asking.scene.form.get("filter").unwrap_or_default().to_lowercase());
    let trouble = reports.trouble(&target.name).map(|trouble| in_words(&trouble));
    let Some(checked) = reports.get(&target.name) else {
        return Ok(Findings {
            at_ms: None,
            duration_ms: None,
            trouble,
            score: None,
            items: Vec::new(),
            counts: Vec::new(),
            findings: Vec::new(),
            unknown: Vec::new(),
            ok: 0,
            suppressed: 0,
        });
    };
    let report = &checked.report;
    let of = |severity: Severity| report.findings.iter().filter(|one| one.severity == severity).count();
    let counts = [Severity::Crit, Severity::Warn, Severity::Info].map(|one| (one.word().to_owned(), of(one)));
    let fits = |finding: &&Finding| {
        let text = format!("{} {} {} {}", finding.id, finding.title, finding.object, finding.key).to_lowercase();
        words.split_whitespace().all(|word| text.contains(word))
    };
    Ok(Findings {
        at_ms: Some(checked.at_ms),
        duration_ms: Some(checked.duration_ms),
        trouble,
        score: Some(report.readiness.score),
        items: report.readiness.items.iter().map(item).collect(),
        counts: counts.into(),
        findings: report.findings.iter().filter(fits).map(found).collect(),
        unknown: report
            .unknown
            .iter()
            .map(|one| NotSeen {
                id: one.id,
                object: one.object.clone(),
                databases: one.databases.clone(),
                kind: one.reason.kind(),
                reason: one.reason.text().to_owned(),
            })
            .collect(),
        ok: report.ok.len(),
        suppressed: report.suppressed.len(),
    })
}

/// Why there is no report, for people.
pub fn in_words(trouble: &NoReport) -> String {
    match trouble {
        NoReport::Off => "The checks are off: [check] every = \"off\" in surus.toml.".to_owned(),
        NoReport::NotYet => {
            "The first check has not ended yet; it begins within half a minute after the target is up.".to_owned()
        }
        NoReport::Failed { text, next, .. } => {
            let next = next.map(|next| format!(" {next}")).unwrap_or_default();
            format!("The last check came to nothing: {text}.{next}")
        }
    }
}

fn item(item: &surus_core::readiness::ItemState) -> Item {
    let known = ITEMS.iter().find(|one| one.id == item.id);
    Item {
        id: item.id,
        title: item.title,
        state: item.state.word(),
        why: item.why.clone(),
        proven_by: known.map_or("", |item| item.proven_by),
        proofs: item.proofs.clone(),
    }
}

fn found(finding: &Finding) -> Found {
    let check = CHECKS.iter().find(|check| check.id == finding.id);
    Found {
        id: finding.id.clone(),
        key: finding.key.clone(),
        severity: finding.severity.word(),
        title: finding.title.clone(),
        object: finding.object.clone(),
        database: finding.database.clone(),
        detail: finding.detail.clone(),
        evidence: finding.evidence.iter().map(|one| (one.name.clone(), one.shown())).collect(),
        fix: finding.fix.as_ref().map(|plan| fix(plan, &finding.key)),
        page: check.map(|check| page::body(check)).unwrap_or_default(),
    }
}

fn fix(plan: &Plan, key: &str) -> Fix {
    Fix {
        summary: plan.summary.clone(),
        steps: plan.steps.iter().map(step).collect(),
        command: format!("surus fix \"$DSN\" '{}'", key.replace('\'', "'\\''")),
    }
}

fn step(step: &Step) -> FixStep {
    let what = match &step.action {
        Action::Setting { name, value } => format!("ALTER SYSTEM SET {name} = '{value}'"),
        Action::ResetSetting { name } => format!("ALTER SYSTEM RESET {name}"),
        Action::Sql { sql, .. } => sql.clone(),
        Action::HbaLine { line, old, new } => match new {
            Some(new) => format!("pg_hba.conf line {line}: {old} → {new}"),
            None => format!("pg_hba.conf line {line}: without {old}"),
        },
        Action::Manual { text } => text.clone(),
    };
    let mut costs = vec![format!("{}: {}", step.lock, step.lock.blocks())];
    costs.extend(match step.interrupts {
        Interruption::None => None,
        Interruption::Reload => Some("reload, sessions stay".to_owned()),
        Interruption::Rewrite => Some("writes the relation anew".to_owned()),
        Interruption::Restart => Some("needs a restart, by you".to_owned()),
    });
    costs.extend(step.seconds.map(|seconds| format!("about {}", surus_core::size::human_seconds(seconds))));
    costs.push(match &step.undo {
        Undo::Sql { .. } | Undo::PreImage => "surus undo takes it back".to_owned(),
        Undo::Never { why } => format!("cannot be taken back: {why}"),
    });
    FixStep { effect: step.effect.clone(), what, costs }
}
