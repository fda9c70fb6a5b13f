//! `surus fix`: the plan, and with `--apply` its execution and a second look.

use super::confirmed;
use crate::{
    args::{DataFormat, FixArgs, Global},
    config::Config,
    failure::Failure,
    ledger,
    output::{json, print},
    paint::Paint,
    progress,
    report::cost,
    wrap,
};
use serde_json::json;
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
    let report = look(&target, &config, checks_of(args.findings.iter()), monitor.as_ref()).await?;
    let plan = FixPlan::of(&report, &args.findings)?;
    let for_people = args.format == DataFormat::Text;
    if !args.apply || plan.steps.is_empty() {
        print(&if for_people { text(&plan, args.apply) } else { json(&plan)? })?;
        return Ok(0);
    }
    if report.role == Some("standby") {
        return Err(FixError::Standby.into());
    }
    if for_people {
        print(&text(&plan, true))?;
    }
    confirmed(&format!("Take {} on {}?", counted(plan.steps.len(), "step"), report.name), args.yes, args.format)?;
    let applied = carry_out(global, &config, &target, &cluster_name(&report), &plan).await?;
    if for_people {
        print(&done_text(&applied))?;
    }
    let looked = match applied.stopped {
        Some(_) => Ok(Vec::new()),
        None => {
            let again = look(&target, &config, checks_of(plan.keys().iter()), monitor.as_ref()).await;
            again.map(|again| left_over(&plan, &applied, &again))
        }
    };
    let still_there = looked.as_deref().unwrap_or_default();
    if !for_people {
        print(&json(&json!({
            "steps": plan.steps, "manual": plan.manual, "done": applied.done, "stopped": stopped(&applied),
            "still_there": still_there,
        }))?)?;
    } else if looked.is_ok() && applied.stopped.is_none() {
        print(&second_look(&plan, &applied, still_there))?;
    }
    if let Some(error) = applied.stopped {
        return Err(error.into());
    }
    match looked {
        Ok(left) if left.is_empty() => Ok(0),
        Ok(left) => Err(Failure::new(code::FIX_STILL_THERE, format!("still there: {}", left.join(", ")))),
        Err(failure) => {
            Err(Failure::new(failure.code, format!("all was done, but not looked at again: {}", failure.message)))
        }
    }
}

/// Takes the plan's steps and records each.
pub async fn carry_out(
    global: &Global,
    config: &Config,
    target: &Target,
    cluster: &str,
    plan: &FixPlan,
) -> Result<Applied, Failure> {
    let store = ledger::open(global, config)?;
    let reference = target.reference();
    let scene =
        fix::Scene { target, cluster, reference: &reference, store: &store, patience: fix::Patience::default() };
    Ok(fix::apply(scene, plan, progress::monitor(global.quiet).as_ref()).await)
}

/// What stopped it, as JSON; null when nothing did.
pub fn stopped(applied: &Applied) -> serde_json::Value {
    let one = |error: &FixError| json!({ "code": error.code().id, "message": error.to_string() });
    applied.stopped.as_ref().map_or(serde_json::Value::Null, one)
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
        out.push_str(match plan.by_name.is_empty() {
            true => "There is nothing that surus can fix by itself.\n",
            false => "There is nothing that surus fixes without being asked for it by name.\n",
        });
    } else {
        let _ = writeln!(out, "{}", Paint::strong(format!("Plan: {}", counted(plan.steps.len(), "step"))));
        for numbered in &plan.steps {
            step_text(&mut out, numbered);
        }
    }
    if !plan.by_name.is_empty() {
        let _ = writeln!(out, "\n{}", Paint::strong("Only when you name it: surus fix … FINDING"));
        for numbered in &plan.by_name {
            let why = numbered.step.why_by_name().map(|why| format!("  {why}")).unwrap_or_default();
            let _ = writeln!(out, "  {}{}", Paint::faint(&numbered.key), Paint::faint(why));
            let _ = writeln!(out, "    {}", Paint::code(fix::description(numbered)));
        }
    }
    if !plan.manual.is_empty() {
        let _ = writeln!(out, "\n{}", Paint::strong("Left to you"));
        let mut key = "";
        for numbered in &plan.manual {
            // The heading stands once over all that one finding asks for.
            if std::mem::replace(&mut key, &numbered.key) != numbered.key {
                let _ = writeln!(out, "  {}", Paint::faint(&numbered.key));
            }
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

/// `1 step`, `2 steps`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn step_text(out: &mut String, numbered: &Numbered) {
    let step = &numbered.step;
    let place = numbered.database.as_ref().map(|name| format!("  in database {name}")).unwrap_or_default();
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

/// The steps that were taken, each with what the server warned of.
pub fn done_text(applied: &Applied) -> String {
    let mut out = String::from("\n");
    for done in &applied.done {
        let after = if done.after_restart { "  (takes effect after a restart)" } else { "" };
        let undo = if done.can_be_undone { format!("  surus undo {}", done.ledger) } else { String::new() };
        let _ = writeln!(out, "  {} {}{after}{}", Paint::good("✓"), done.title, Paint::faint(undo));
        for warning in &done.warnings {
            let _ = writeln!(out, "    {} {warning}", Paint::crit("the server warned:"));
        }
    }
    out
}

/// The checks (or groups) that findings of these keys, checks or groups come from.
fn checks_of<T: AsRef<str>>(findings: impl Iterator<Item = T>) -> Vec<String> {
    let mut ids: Vec<String> =
        findings.map(|key| key.as_ref().split(':').next().unwrap_or_default().to_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Findings that all their steps did not make go away, those that wait for a restart or for a person aside.
fn left_over(plan: &FixPlan, applied: &Applied, again: &TargetReport) -> Vec<String> {
    let waits = |step: &Numbered| applied.done.iter().any(|done| done.number == step.number && done.after_restart);
    let settled = |key: &str| {
        !plan.steps.iter().any(|step| step.key == key && waits(step)) && !plan.manual.iter().any(|step| step.key == key)
    };
    let keys = plan.keys().into_iter().filter(|key| settled(key));
    keys.filter(|key| again.findings.iter().any(|finding| finding.key == **key)).map(str::to_owned).collect()
}

fn second_look(plan: &FixPlan, applied: &Applied, left: &[String]) -> String {
    let (all, restart) = (plan.keys().len(), applied.done.iter().filter(|done| done.after_restart).count());
    let gone = all.saturating_sub(left.len());
    let mut out = format!("\nLooked again: {gone} of {all} findings are gone, or wait for a restart or for you.\n");
    if restart > 0 {
        let changes = counted(restart, "change");
        let _ = writeln!(out, "When you restart the server: {changes} that wait for it. surus does not restart it.");
    }
    out
}
