//! `surus fix`: the plan, and with `--apply` its execution and a second look.

use super::{check, confirmed};
use crate::{
    args::{FixArgs, Format, Global},
    config::Config,
    failure::Failure,
    ledger,
    paint::Paint,
    progress,
    report::cost,
    wrap,
};
use std::fmt::Write;
use surus_check::{
    fix::{self, Applied, FixError, FixPlan, Numbered},
    options::Options,
    readiness::cluster_name,
    report::TargetReport,
    run::{self, Given},
};
use surus_core::{code, monitor::Monitor, plan::Undo, size::human_seconds};
use surus_pg::Target;

impl From<FixError> for Failure {
    fn from(error: FixError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Runs the command.
pub async fn run(global: &Global, args: FixArgs) -> Result<u8, Failure> {
    let config = Config::load(global.config.as_deref())?;
    let target = Target::parse(&args.dsn)?;
    let monitor = progress::monitor(global.quiet);
    let report = look(&target, &config, Vec::new(), monitor.as_ref()).await?;
    let plan = FixPlan::of(&report, &args.findings)?;
    match args.format {
        Format::Json => check::print(&check::json(&plan)?)?,
        Format::Text | Format::Markdown => check::print(&text(&plan, args.apply))?,
    }
    if !args.apply || plan.steps.is_empty() {
        return Ok(0);
    }
    if report.role == Some("standby") {
        return Err(FixError::Standby.into());
    }
    confirmed(&format!("Take these {} steps on {}?", plan.steps.len(), report.name), args.yes)?;
    let applied = carry_out(global, &config, &target, &cluster_name(&report), &plan).await?;
    let again = look(&target, &config, checks_of(&plan, &applied), monitor.as_ref()).await?;
    let left = left_over(&plan, &applied, &again);
    check::print(&second_look(&plan, &applied, &left))?;
    match applied.stopped {
        Some(error) => Err(error.into()),
        None if left.is_empty() => Ok(0),
        None => Err(Failure::new(code::FIX_STILL_THERE, format!("still there: {}", left.join(", ")))),
    }
}

/// Takes the plan's steps, recording each, and shows them.
pub async fn carry_out(
    global: &Global,
    config: &Config,
    target: &Target,
    cluster: &str,
    plan: &FixPlan,
) -> Result<Applied, Failure> {
    let store = ledger::open(global, config)?;
    let reference = target.reference();
    let patience = fix::Patience::default();
    let scene = fix::Scene { target, cluster, reference: &reference, store: &store, patience };
    let applied = fix::apply(scene, plan, progress::monitor(global.quiet).as_ref()).await;
    check::print(&done_text(&applied))?;
    Ok(applied)
}

/// Checks one target; an unreachable one is an error here.
async fn look(
    target: &Target,
    config: &Config,
    only: Vec<String>,
    monitor: &dyn Monitor,
) -> Result<TargetReport, Failure> {
    let options = Options { only, config: config.check.clone(), ..Options::default() };
    let given = Given { name: target.label(), target: Ok(target.clone()) };
    let mut report = run::run(vec![given], &options, monitor).await;
    let one = report.targets.pop().ok_or_else(|| Failure::bug("a run without target"))?;
    match &one.error {
        Some(error) => {
            let code = code::find(error.code).copied().unwrap_or(code::CONNECT_OTHER);
            Err(Failure::new(code, error.message.clone()))
        }
        None => Ok(one),
    }
}

/// The plan for people.
pub fn text(plan: &FixPlan, applying: bool) -> String {
    let mut out = String::new();
    if plan.steps.is_empty() {
        out.push_str("There is nothing that surus can fix by itself.\n");
    } else {
        let _ = writeln!(out, "{}", Paint::strong(format!("Plan: {} steps", plan.steps.len())));
        for numbered in &plan.steps {
            step_text(&mut out, numbered);
        }
    }
    if !plan.manual.is_empty() {
        let _ = writeln!(out, "\n{}", Paint::strong("Left to you"));
        for numbered in &plan.manual {
            let _ = writeln!(out, "  {}", Paint::faint(&numbered.key));
            for line in wrap::lines(&fix::description(numbered), wrap::width() - 4) {
                let _ = writeln!(out, "    {line}");
            }
        }
    }
    if !plan.steps.is_empty() && !applying {
        let _ = writeln!(
            out,
            "\nNothing was changed. {} {}",
            Paint::faint("next:"),
            Paint::code("the same command with --apply")
        );
    }
    out
}

fn step_text(out: &mut String, numbered: &Numbered) {
    let step = &numbered.step;
    let place = numbered.database.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
    let _ = writeln!(out, "\n{:>3}. {}{}", numbered.number, step.effect, Paint::faint(place));
    let _ = writeln!(out, "     {}", Paint::code(fix::description(numbered)));
    let cost = match cost(step.lock, step.interrupts) {
        text if text.is_empty() => "no lock, no interruption".to_owned(),
        text => text,
    };
    let time = step.seconds.map(|seconds| format!(" · about {}", human_seconds(seconds))).unwrap_or_default();
    let undo = match &step.undo {
        Undo::Sql { sql } => format!("undo: {sql}"),
        Undo::PreImage => "undo: what was there before".into(),
        Undo::Never { why } => format!("no undo: {why}"),
    };
    let _ = writeln!(out, "     {}", Paint::faint(format!("{cost}{time} · {undo}")));
    let _ = writeln!(out, "     {}", Paint::faint(format!("for {}", numbered.key)));
}

fn done_text(applied: &Applied) -> String {
    let mut out = String::from("\n");
    for done in &applied.done {
        let after = if done.after_restart { "  (takes effect after a restart)" } else { "" };
        let undo = if done.can_be_undone { format!("  surus undo {}", done.ledger) } else { String::new() };
        let _ = writeln!(out, "  {} {}{after}{}", Paint::good("✓"), done.title, Paint::faint(undo));
    }
    out
}

/// The checks whose findings were worked on, for the second look.
fn checks_of(plan: &FixPlan, applied: &Applied) -> Vec<String> {
    let taken = plan.steps.iter().filter(|step| applied.done.iter().any(|done| done.number == step.number));
    let mut ids: Vec<String> = taken.map(|step| step.key.split(':').next().unwrap_or_default().to_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Findings that all their steps did not make go away, those waiting for a restart or for a person aside.
fn left_over(plan: &FixPlan, applied: &Applied, again: &TargetReport) -> Vec<String> {
    let settled = |key: &str| {
        let mut steps = plan.steps.iter().filter(|step| step.key == key);
        let all_taken = steps.clone().all(|step| applied.done.iter().any(|done| done.number == step.number));
        let waits = steps.any(|step| applied.done.iter().any(|done| done.number == step.number && done.after_restart));
        all_taken && !waits && !plan.manual.iter().any(|step| step.key == key)
    };
    let keys = plan.keys().into_iter().filter(|key| settled(key));
    keys.filter(|key| again.findings.iter().any(|finding| finding.key == **key)).map(str::to_owned).collect()
}

fn second_look(plan: &FixPlan, applied: &Applied, left: &[String]) -> String {
    let restart = applied.done.iter().filter(|done| done.after_restart).count();
    let gone = plan.keys().len().saturating_sub(left.len());
    let mut out = String::new();
    if applied.stopped.is_none() {
        let _ =
            writeln!(out, "\nLooked again: {gone} of {} findings are gone or wait for a restart.", plan.keys().len());
    }
    if restart > 0 {
        let _ = writeln!(out, "{restart} changes take effect when you restart the server; surus does not restart it.");
    }
    out
}
