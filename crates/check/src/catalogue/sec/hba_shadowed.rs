use crate::{
    access,
    rule::{Check, Look, Need, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Plan, Step},
};

pub static CHECK: Check = Check {
    id: "sec.hba_shadowed",
    title: "a rule of pg_hba.conf can never apply, because an earlier one takes all of its connections",
    inspects: "pg_hba_file_rules, in the order in which the server tries them",
    why: "The server uses the first rule that matches and never looks further. A stricter rule that comes too late protects \
          nothing, although the file reads as if it did.",
    remedy: "Move the special rule above the general one, or remove it.",
    source: "PostgreSQL documentation, chapter Client Authentication: the first matching record decides",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Hba],
    thresholds: &[],
    look: Look::Facts(judge),
};

fn judge(scene: &Scene<'_>) -> Judged {
    let rules = access::rules(scene)?;
    let mut findings = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let Some(first) = rules[..at].iter().find(|earlier| access::covers(earlier, rule)) else { continue };
        let (text, line, earlier) = (access::shown(rule), rule.line, first.line);
        let same = first.method == rule.method;
        let finding = match () {
            () if same => Finding::info(
                text.as_str(),
                format!("line {line} of pg_hba.conf repeats what line {earlier} already says"),
            ),
            () if access::admits(first) && !access::admits(rule) => Finding::warn(
                text.as_str(),
                format!("line {line} of pg_hba.conf rejects nobody: line {earlier} lets them in before"),
            ),
            () => Finding::warn(
                text.as_str(),
                format!("line {line} of pg_hba.conf is never reached: line {earlier} comes first"),
            ),
        };
        let plan = if same && access::is_in_main_file(scene.settings(), rule) {
            let step =
                Step::hba_line(line, rule.shown(), None, "nothing changes for anybody; the file is easier to read");
            Plan::one(format!("comment out line {line}"), step)
        } else {
            Plan::advice(format!(
                "move line {line} above line {earlier} if it is meant to apply, else remove it; then SELECT pg_reload_conf()"
            ))
        };
        findings.push(
            finding
                .detail(format!("Every connection it names is decided by method {} of line {earlier}.", first.method))
                .saw("rule", text)
                .saw("line", line)
                .saw("earlier rule", access::shown(first))
                .saw("earlier line", earlier)
                .fix(plan),
        );
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_rules_that_come_too_late() {
        let hba = "host all all 10.0.0.0/8 scram-sha-256\nhost all all 10.9.0.0/16 reject\nhostnossl shop app 10.1.0.0/16 password\n\
                   host replication all 10.0.0.0/8 reject\nhost shop all 10.2.0.0/16 scram-sha-256\nhost all all all reject";
        seeded_on(
            &CHECK,
            |builder| builder.hba(hba),
            |on| {
                let found = on.findings();
                let seen: Vec<_> = found.iter().map(|f| (f.severity.word(), f.object.as_str())).collect();
                assert_eq!(
                    seen,
                    [
                        ("warn", "host all all 10.9.0.0/16 reject"),
                        ("warn", "hostnossl shop app 10.1.0.0/16 password"),
                        ("info", "host shop all 10.2.0.0/16 scram-sha-256"),
                    ]
                );
                assert!(found[0].title.contains("rejects nobody"), "{}", found[0].title);
                assert!(found[2].fix.as_ref().unwrap().is_applicable());
            },
        );
    }
}
