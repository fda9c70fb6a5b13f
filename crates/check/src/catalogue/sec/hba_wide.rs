use crate::{
    access::{self, Network, RELIED_ON},
    rule::{Check, Look, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Plan, Step},
};
use surus_pg::hba::HbaRule;

pub static CHECK: Check = Check {
    id: "sec.hba_wide",
    title: "a rule of pg_hba.conf is open to far more machines than need it",
    inspects: "pg_hba_file_rules: address, databases and users of rules that admit other machines",
    why: "Every machine that may try to log in may also guess passwords and use a hole in the server. A narrow list is the \
          cheapest protection there is.",
    remedy: "Name the networks of the application servers, and the database and roles that they use. Declare them as \
             [check.declared] networks, and surus compares.",
    source: "CIS PostgreSQL Benchmark (pgdsat); a /16 holds 65,536 addresses, an IPv6 /48 one site",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Hba],
    thresholds: &[Threshold::warn_below("prefix_v4", "bits", 15.0), Threshold::warn_below("prefix_v6", "bits", 47.0)],
    look: Look::Facts(judge),
};

fn judge(scene: &Scene<'_>) -> Judged {
    let allowed: Vec<Network> = scene.declared.networks.iter().filter_map(|text| Network::parse(text)).collect();
    let mut findings = Vec::new();
    for rule in access::rules(scene)?.into_iter().filter(|rule| access::admits(rule) && !rule.is_local()) {
        let network = Network::of(rule);
        if network.is_some_and(|network| allowed.iter().any(|one| one.contains(&network))) {
            continue;
        }
        let everything = |list: &[String]| list.iter().any(|item| item == "all");
        let all_all = everything(&rule.databases) && everything(&rule.users);
        let (text, line) = (access::shown(rule), rule.line);
        let finding = if is_wide(scene, rule, network) {
            let prefix = if all_all { "any database and role, to " } else { "" };
            Finding::warn(text.as_str(), format!("line {line} of pg_hba.conf opens {prefix}{}", addresses(network)))
        } else if network.is_some() && !allowed.is_empty() {
            Finding::warn(text.as_str(), format!("line {line} of pg_hba.conf admits a network that is not declared"))
        } else if all_all {
            Finding::info(text.as_str(), format!("line {line} of pg_hba.conf opens every database to every role"))
        } else {
            continue;
        };
        findings.push(
            finding
                .detail("A password that leaks or is guessed can be used from all of these machines.")
                .saw("rule", text)
                .saw("line", line)
                .saw("declared networks", scene.declared.networks.join(", "))
                .fix(narrower(scene, rule)),
        );
    }
    Ok(Verdict::of(findings))
}

fn is_wide(scene: &Scene<'_>, rule: &HbaRule, network: Option<Network>) -> bool {
    match network {
        Some(network) => {
            let limit = if network.v6 { "prefix_v6" } else { "prefix_v4" };
            scene.grade(limit, f64::from(network.prefix)).is_some()
        }
        None => rule.address.as_deref() == Some("all"),
    }
}

fn addresses(network: Option<Network>) -> String {
    match network {
        None => "all addresses".to_owned(),
        Some(Network { prefix: 0, v6, .. }) => format!("all IPv{} addresses", if v6 { 6 } else { 4 }),
        Some(Network { prefix, v6: false, .. }) => {
            format!("a network of {:.0} addresses", 2f64.powi(32 - prefix as i32))
        }
        Some(Network { prefix, .. }) => format!("an IPv6 /{prefix} network"),
    }
}

/// With exactly one declared network the line can be rewritten; else only a person knows the right ones.
fn narrower(scene: &Scene<'_>, rule: &HbaRule) -> Plan {
    let declared = scene.declared.networks.as_slice();
    if let [only] = declared
        && Network::parse(only).is_some()
        && access::is_in_main_file(scene.settings(), rule)
    {
        let new = HbaRule { address: Some(only.clone()), netmask: None, ..rule.clone() };
        let effect = format!("only machines in {only} may use this line; all others are refused or meet a later line");
        let step = Step::hba_line(rule.line, rule.shown(), Some(new.shown()), effect).only_by_name(RELIED_ON);
        return Plan::one(format!("narrow line {} of pg_hba.conf to {only}", rule.line), step);
    }
    Plan::advice(format!(
        "name the networks, the database and the roles that need line {} of pg_hba.conf, one line each, then SELECT pg_reload_conf()",
        rule.line
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    const HBA: &str = "host all all 0.0.0.0/0 scram-sha-256\nhost shop app 10.1.0.0/16 scram-sha-256\n\
                       host shop web 10.0.0.0/8 scram-sha-256\nhost all all 192.0.2.0/24 scram-sha-256\n\
                       host shop all ::/0 scram-sha-256\nhost all all all reject\nhost all all 127.0.0.0/8 scram-sha-256";

    #[test]
    fn sees_wide_rules_and_not_narrow_ones() {
        seeded_on(
            &CHECK,
            |builder| builder.hba(HBA),
            |on| {
                let found = on.findings();
                let seen: Vec<_> = found.iter().map(|f| (f.severity.word(), f.object.as_str())).collect();
                assert_eq!(
                    seen,
                    [
                        ("warn", "host all all 0.0.0.0/0 scram-sha-256"),
                        ("warn", "host shop all ::/0 scram-sha-256"),
                        ("warn", "host shop web 10.0.0.0/8 scram-sha-256"),
                        ("info", "host all all 192.0.2.0/24 scram-sha-256"),
                    ]
                );
                assert!(found.iter().all(|f| !f.fix.as_ref().unwrap().is_applicable()));
                on.options.config.declared.networks = vec!["10.0.0.0/8".into()];
                let found = on.findings();
                assert!(found.iter().all(|f| !f.object.contains(" 10.")), "{found:?}");
                assert!(found[0].fix.as_ref().unwrap().is_applicable());
            },
        );
    }
}
