use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope, Threshold},
    scene::Scene,
    server_log,
    verdict::{Judged, Verdict},
};
use jiff::Timestamp;
use std::collections::BTreeMap;
use surus_core::{
    clock,
    finding::{Finding, Reason},
    plan::Plan,
};
use surus_pg::log_tail::{Level, LogEntry, LogTail};

pub static CHECK: Check = Check {
    id: "sec.brute_force",
    title: "somebody guesses passwords",
    inspects: "failed authentications in the end of the log, by client, up to 24 hours back",
    why: "Many failed logins from one client in minutes are a program that guesses, or an application with a wrong password that \
          will not stop.",
    remedy: "Refuse the address in the firewall or pg_hba.conf, and slow guessing down with auth_delay.",
    source: "10 and 100 failures in five minutes",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("failures", "failures in 5 min", 10.0, 100.0)],
    look: Look::Custom(look),
};

const WINDOW_SECONDS: i64 = 300;

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let tail = server_log::tail(scene, access).await?;
        judge(scene, &tail, clock::now())
    })
}

fn judge(scene: &Scene<'_>, tail: &LogTail, now: Timestamp) -> Judged {
    if tail.span().is_none() && !tail.entries.is_empty() {
        return Err(Reason::Log("the log's lines have no time: put %m into log_line_prefix".into()).into());
    }
    let mut by_client: BTreeMap<&str, Vec<&LogEntry>> = BTreeMap::new();
    for entry in tail.since(now, server_log::DAY).filter(|entry| is_failure(entry)) {
        by_client.entry(entry.client.as_deref().unwrap_or("")).or_default().push(entry);
    }
    let mut findings = Vec::new();
    for (client, entries) in by_client {
        let most = densest(&entries);
        let (Some(severity), Some(last)) = (scene.grade("failures", most as f64), entries.last()) else { continue };
        let from = if client.is_empty() { "clients that the log does not name".to_owned() } else { client.to_owned() };
        let advice = if client.is_empty() {
            "put %h into log_line_prefix to see who it is; then refuse the address, and load auth_delay".to_owned()
        } else {
            format!(
                "put \"host all all {client}/32 reject\" on top of pg_hba.conf or block it in the firewall; load auth_delay"
            )
        };
        findings.push(server_log::from_log(
            Finding::new(
                severity,
                client,
                format!("{most} failed logins within five minutes from {from}, the last {}", server_log::when(last)),
            )
            .detail("A password is being guessed, or an application keeps trying a wrong one.")
            .measured("most in five minutes", most, "failures")
            .measured("all", entries.len(), "failures")
            .fix(Plan::advice(advice)),
            tail,
        ));
    }
    Ok(Verdict::of(findings))
}

/// SQLSTATE class 28 where the log has it, else the server's English messages.
fn is_failure(entry: &LogEntry) -> bool {
    let said = |text: &str| entry.message.contains(text);
    entry.level == Level::Fatal
        && match entry.sqlstate.as_deref() {
            Some(state) => state.starts_with("28"),
            None => {
                said("authentication failed for user")
                    || said("no pg_hba.conf entry for")
                    || said("pg_hba.conf rejects connection")
            }
        }
}

/// The most failures in any five minutes.
fn densest(entries: &[&LogEntry]) -> usize {
    let mut times: Vec<i64> = entries.iter().filter_map(|entry| Some(entry.at?.as_second())).collect();
    times.sort_unstable();
    let within =
        |(at, start): (usize, &i64)| times[at..].iter().take_while(|time| **time - start < WINDOW_SECONDS).count();
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_failed_logins_by_client() {
        let build = |builder: surus_testkit::Builder| builder.tcp().setting("log_line_prefix", "%m [%p] %h ");
        seeded_on(&CHECK, build, |on| {
            on.server.expect_log("password authentication failed");
            on.sql("CREATE ROLE app LOGIN PASSWORD 'right'");
            for _ in 0..3 {
                assert!(on.report_of(&on.server.dsn_as("app", "wrong", "postgres")).error.is_some());
            }
            assert_eq!(on.findings(), [], "three are a typing error");
            on.limit("failures", 3.0);
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["sec.brute_force:127.0.0.1"]);
        });
    }

    #[test]
    fn reads_the_collectors_formats() {
        let build = |builder: surus_testkit::Builder| builder.tcp().setting("logging_collector", "on");
        seeded_on(&CHECK, build, |on| {
            on.server.expect_log("password authentication failed");
            on.sql("CREATE ROLE app LOGIN PASSWORD 'right'");
            let mut formats = vec![("csvlog", "%m "), ("stderr", "%t %r %a: ")];
            if on.major() >= 15 {
                formats.push(("jsonlog", ""));
            }
            on.limit("failures", 3.0);
            for (format, prefix) in formats {
                on.configure(&[
                    ("log_destination", format),
                    ("log_line_prefix", prefix),
                    ("log_filename", &format!("{format}.log")),
                ]);
                assert_eq!(on.findings(), [], "{format}: a new file");
                for _ in 0..3 {
                    assert!(on.report_of(&on.server.dsn_as("app", "wrong", "postgres")).error.is_some());
                }
                let found = on.soon_finds();
                let seen: Vec<_> = found.iter().map(|f| f.object.as_str()).collect();
                assert_eq!(seen, ["127.0.0.1"], "{format}");
            }
        });
    }
}
