use crate::{
    rule::{Access, Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Trouble, Verdict},
};
use surus_core::{clock::Stopwatch, finding::Finding, plan::Plan};
use surus_pg::{Manners, Session};

pub static CHECK: Check = Check {
    id: "conn.reachable",
    title: "the server cannot be reached, or answers slowly",
    inspects: "the time to open a session and to get an answer to SELECT 1",
    why: "An application pays for connecting and for each round trip before any real work begins. A slow start is often \
          the first sign of a network fault, of a slow authentication service or of a machine that is overloaded.",
    remedy: "Look for packet loss, slow name resolution, a slow LDAP or RADIUS server and a busy processor; keep \
             connections open in a pool so that few clients wait for a new one.",
    source: "check_pgactivity connection; check_postgres connection; pgEdge pg-healthcheck; 500 ms from there",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::warn_above("time", "ms", 500.0)],
    look: Look::Custom(|scene, access| Box::pin(look(scene, access))),
};

/// Connecting and asking, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Times {
    connect: f64,
    answer: f64,
}

impl Times {
    fn total(self) -> f64 {
        self.connect + self.answer
    }
}

async fn look(scene: &Scene<'_>, access: Access<'_>) -> Judged {
    let mut times = Times { connect: scene.facts.connect_ms, answer: answer_ms(access.session).await? };
    if scene.grade("time", times.total()).is_some()
        && let Some(again) = once_more(access).await
        && again.total() < times.total()
    {
        // One slow moment of a busy machine is no finding; two in a row are.
        times = again;
    }
    let Some(severity) = scene.grade("time", times.total()) else { return Ok(Verdict::ok()) };
    Ok(Verdict::one(
        Finding::new(severity, "", format!("connecting and one trivial query take {:.0} ms", times.total()))
            .detail("Twice in a row; every new connection of the application waits as long.")
            .measured("connect", times.connect, "ms")
            .measured("SELECT 1", times.answer, "ms")
            .fix(Plan::advice(
                "find out where the time goes: ping and traceroute to the host, log_connections, the processor load, the \
                 authentication service; and keep connections open in a pool",
            )),
    ))
}

async fn answer_ms(session: &Session) -> Result<f64, Trouble> {
    let watch = Stopwatch::start();
    session.ask("SELECT 1").await?;
    Ok(watch.elapsed_ms())
}

/// A second measurement; `None` when no second session is to be had.
async fn once_more(access: Access<'_>) -> Option<Times> {
    let manners = Manners { application_name: "surus check".into(), ..Manners::looking() };
    let watch = Stopwatch::start();
    let session = access.target?.connect(&manners).await.ok()?;
    let connect = watch.elapsed_ms();
    let answer = answer_ms(&session).await.ok();
    session.close().await;
    Some(Times { connect, answer: answer? })
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_slow_server_and_one_that_is_not_there() {
        seeded(&CHECK, |on| {
            assert_eq!(on.findings(), []);
            on.configure(&[("post_auth_delay", "1")]);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("conn.reachable", "warn"));

            let nobody = on.report_of("host=/nonexistent user=postgres dbname=postgres");
            assert_eq!(nobody.findings.len(), 1, "{:?}", nobody.findings);
            assert_eq!(
                (nobody.findings[0].key.as_str(), nobody.findings[0].severity.word()),
                ("conn.reachable", "crit")
            );
            assert!(nobody.ok.is_empty());
        });
    }
}
