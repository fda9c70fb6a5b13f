use crate::{
    proving::encryption,
    rule::{Check, Look, Looking, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
};
use surus_pg::{
    Endpoint, Target,
    trial::{Outcome, VerifyFull},
};

pub static CHECK: Check = Check {
    id: "sec.plaintext",
    title: "the server lets a connection in without TLS, or its certificate cannot be verified",
    inspects: "two connection attempts to the address that was given: sslmode=verify-full and sslmode=disable (without a password)",
    why: "What crosses a network unencrypted can be read and changed on the way, and a certificate that nobody can verify \
          does not show who answers.",
    remedy: "Turn ssl on, give the server a certificate for its host name, use hostssl lines in pg_hba.conf, and let clients \
             connect with sslmode=verify-full.",
    source: "the seeds' production checklist (SSL/TLS encryption enabled); libpq documentation, table of SSL mode descriptions",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Anew(look),
};

fn look<'a>(scene: &'a Scene<'a>, target: &'a Target) -> Looking<'a> {
    Box::pin(async move {
        if target.settings().endpoints.iter().all(Endpoint::is_local) {
            return Ok(Verdict::not_applicable("the connection is over a Unix socket"));
        }
        judge(scene, encryption::attempt(target).await)
    })
}

fn judge(scene: &Scene<'_>, trials: encryption::Trials) -> Judged {
    let mut verdict = Verdict::ok();
    match trials.plaintext.outcome {
        Outcome::Refused => {}
        Outcome::Accepted => verdict.findings.push(
            Finding::warn("plaintext", "the server lets connections in without TLS")
                .detail("Passwords are protected by SCRAM, but queries and their results can be read on the way.")
                .saw("sslmode=disable", trials.plaintext.how.as_str())
                .fix(Plan::advice(
                    "make the host lines of pg_hba.conf hostssl, once every client uses TLS, and reload",
                )),
        ),
        Outcome::Unknown => {
            verdict = verdict.but_unknown("plaintext", Reason::Unexpected(trials.plaintext.how.clone()))
        }
    }
    match &trials.verified {
        VerifyFull::Verified(_) => {}
        VerifyFull::Failed(error) => verdict.findings.push(
            Finding::warn("certificate", "the server's certificate cannot be verified")
                .detail("A client that wants to be sure whom it talks to (sslmode=verify-full) cannot connect.")
                .saw("sslmode=verify-full", error.message.as_str())
                .fix(Plan::advice(
                    "give the server a certificate for its host name from an authority that clients trust, or hand \
                                   them its root certificate (sslrootcert)",
                )),
        ),
        VerifyFull::Unknown(why) => verdict = verdict.but_unknown("certificate", Reason::Unexpected(why.clone())),
    }
    verdict.proof = trials.proof(scene.cluster(), scene.target);
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_plaintext_getting_in() {
        seeded_on(
            &CHECK,
            |builder| builder.tcp().hba("host all all 127.0.0.1/32 trust"),
            |on| {
                on.server.expect_log("no pg_hba.conf entry");
                let local = on.server.local();
                let dsn = local.loopback_dsn("postgres", "postgres");
                let report = on.report_of(&dsn);
                let keys: Vec<_> = report.findings.iter().map(|finding| finding.key.as_str()).collect();
                assert_eq!(keys, ["sec.plaintext:certificate", "sec.plaintext:plaintext"], "{:?}", report.unknown);
            },
        );
    }
}
