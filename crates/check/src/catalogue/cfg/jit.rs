use crate::{
    rule::{Access, Check, Look, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    statements::Statements,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Plan, Step},
};

pub static CHECK: Check = Check {
    id: "cfg.jit",
    title: "just-in-time compilation takes much of the queries' time",
    inspects: "pg_stat_statements: the times of compilation against the whole execution time",
    why: "Compiling parts of a query to machine code pays only for queries that run for long. The planner decides by \
          estimated cost, and for queries over many partitions or with wrong estimates the compilation takes longer than \
          the query.",
    remedy: "Turn jit off and let the roles that run long reports turn it on for themselves, or raise jit_above_cost.",
    source: "pgEdge pg-healthcheck jit; 20 % of the execution time, and at least a minute of it",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Major(15), Need::Extension("pg_stat_statements")],
    thresholds: &[Threshold::warn_above("share", "%", 20.0), Threshold::warn_above("time", "s", 60.0)],
    look: Look::Custom(|scene, access| Box::pin(look(scene, access))),
};

async fn look(scene: &Scene<'_>, access: Access<'_>) -> Judged {
    // Our own session runs without; what others get is the value that a reset gives.
    let rows = access.session.ask("SELECT reset_val AS jit FROM pg_settings WHERE name = 'jit'").await?;
    if rows.first()?.str("jit")? != "on" {
        return Ok(Verdict::not_applicable("jit is off"));
    }
    let statements = Statements::find(access.session).await?;
    if !statements.since(1, 10) {
        let text = "the installed pg_stat_statements is too old to time jit: ALTER EXTENSION pg_stat_statements UPDATE";
        return Ok(Verdict::unknown(surus_core::finding::Reason::Extension(text.into())));
    }
    let deform = if statements.since(1, 11) { " + jit_deform_time" } else { "" };
    let sql = format!(
        "SELECT coalesce(sum(total_exec_time), 0) / 1000 AS all_s, coalesce(sum(jit_generation_time + jit_inlining_time + \
         jit_optimization_time + jit_emission_time{deform}), 0) / 1000 AS jit_s, coalesce(sum(jit_functions), 0)::bigint AS functions, \
         (SELECT stats_reset::text FROM {}) AS since FROM {}",
        statements.info(),
        statements.without_texts()
    );
    let rows = statements.ask(access.session, &sql).await?;
    let row = rows.first()?;
    let (all, jit) = (row.f64("all_s")?, row.f64("jit_s")?);
    let share = 100.0 * jit / all.max(f64::MIN_POSITIVE);
    if scene.grade("time", jit).is_none() {
        return Ok(Verdict::ok());
    }
    let Some(severity) = scene.grade("share", share) else { return Ok(Verdict::ok()) };
    let since = row.text("since")?;
    Ok(Verdict::one(
        Finding::new(
            severity,
            "",
            format!("{share:.0} % of the execution time since {since} was spent on compiling queries"),
        )
        .detail("Most queries that are compiled would have been done earlier without.")
        .measured("compilation", jit, "s")
        .measured("whole execution", all, "s")
        .measured("share", share, "%")
        .saw("functions compiled", row.i64("functions")?)
        .saw("statistics since", since.as_str())
        .fix(Plan::one(
            "turn jit off",
            Step::setting(
                "jit",
                "off",
                "queries start at once; very long ones may take longer (SET jit = on for those)",
            ),
        )),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_time_lost_to_compilation() {
        seeded(&CHECK, |on| {
            on.configure(&[("shared_preload_libraries", "pg_stat_statements"), ("jit", "on"), ("jit_above_cost", "0")]);
            on.sql("CREATE SCHEMA tools; CREATE EXTENSION pg_stat_statements SCHEMA tools");
            on.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a; SELECT sum(a * 2) FROM t WHERE a > 10");
            assert_eq!(on.findings(), [], "less than a minute");
            on.limit("time", 0.000_001);
            on.limit("share", 0.001);
            if on.server.value("SELECT pg_jit_available() AS v") != "t" {
                eprintln!("this build has no jit provider; only the negative half was tested");
                assert_eq!(on.findings(), []);
                return;
            }
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("cfg.jit", "warn"));
            assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
            on.reload(&[("jit", "off")]);
            assert_eq!(on.report().not_applicable.len(), 1);
        });
    }
}
