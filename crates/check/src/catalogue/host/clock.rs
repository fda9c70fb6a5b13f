use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::Verdict,
};
use jiff::Timestamp;
use surus_core::{clock, finding::Finding, plan::Plan, size::human_seconds};

pub static CHECK: Check = Check {
    id: "host.clock",
    title: "the server's clock is wrong",
    inspects: "clock_timestamp() against the clock of the machine that surus runs on",
    why: "Restores to a point in time, certificates, scheduled jobs and every comparison of logs rest on the clock. Nodes whose \
          clocks differ tell contradicting stories.",
    remedy: "Run chrony or systemd-timesyncd on every node, and watch that it is synchronised.",
    source: "check_postgres timesync; one and ten seconds",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("offset", "s", 1.0, 10.0)],
    look: Look::Custom(look),
};

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        if scene.host().is_ok() {
            return Ok(Verdict::not_applicable(
                "surus runs on the server's host, so there is one clock; another machine can compare",
            ));
        }
        let before = clock::now();
        let rows = access.session.ask("SELECT extract(epoch FROM clock_timestamp()) AS server").await?;
        let apart = offset(rows.first()?.f64("server")?, before, clock::now());
        Ok(Verdict::of(judge(scene, apart).into_iter().collect()))
    })
}

/// By how many seconds the server is ahead (or, negative, behind) at least: what the round trip cannot explain.
fn offset(server: f64, before: Timestamp, after: Timestamp) -> f64 {
    let seconds = |at: Timestamp| at.as_microsecond() as f64 / 1e6;
    let (before, after) = (seconds(before), seconds(after));
    if server > after {
        server - after
    } else if server < before {
        server - before
    } else {
        0.0
    }
}

fn judge(scene: &Scene<'_>, apart: f64) -> Option<Finding> {
    let severity = scene.grade("offset", apart.abs())?;
    let (far, which) = (human_seconds(apart.abs()), if apart > 0.0 { "ahead of" } else { "behind" });
    Some(
        Finding::new(severity, "", format!("the server's clock is {far} {which} the clock of this machine"))
            .detail("One of the two is wrong; times in logs, recovery targets and certificates are judged by it.")
            .measured("offset", apart, "s")
            .fix(Plan::advice("chronyc tracking or timedatectl on both machines shows which one is not synchronised")),
    )
}

#[cfg(test)]
mod tests {
    use super::{CHECK, offset};
    use crate::testing::*;
    use jiff::Timestamp;

    check_tests!(CHECK);

    /// A test server shares the test's clock, so that another one is played by values.
    #[test]
    fn the_round_trip_is_no_offset() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(offset(1000.5, at(1000), at(1001)), 0.0);
        assert_eq!(offset(1013.0, at(1000), at(1001)), 12.0);
        assert_eq!(offset(990.0, at(1000), at(1001)), -10.0);
        assert_eq!(CHECK.thresholds[0].grade(12.0).unwrap().word(), "crit");
    }
}
