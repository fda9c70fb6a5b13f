use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope},
    scene::Scene,
    server_log,
    verdict::{Trouble, Verdict},
};
use surus_core::{
    clock,
    finding::{Finding, Reason},
    plan::Plan,
};
use surus_pg::{
    log_tail::{LogEntry, LogTail},
    quote,
};

pub static CHECK: Check = Check {
    id: "sec.secrets",
    title: "a password is written where others can read it",
    inspects: "primary_conninfo and the archive and restore commands, pg_subscription, options of foreign servers and user mappings, \
               settings of roles and databases, statements in the end of the log",
    why: "Such places are dumped, backed up, copied to standbys and shown by monitoring. A password in them is known to more people \
          than anybody remembers.",
    remedy: "Use a password file, a client certificate or the environment of the service; then change the password.",
    source: "CIS PostgreSQL Benchmark (pgdsat) on passwords in configuration; PostgreSQL documentation, The Password File",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Custom(look),
};

/// Settings that hold connection strings or shell commands.
const TEXTS: &[&str] =
    &["primary_conninfo", "archive_command", "restore_command", "archive_cleanup_command", "recovery_end_command"];

/// What stands before a secret in a connection string or a command.
const MARKS: &[&str] = &[
    "password=",
    "password =",
    "pgpassword=",
    "secret_access_key=",
    "aws_secret",
    "accountkey=",
    "secret_key=",
    "api_key=",
    "--token=",
];

/// Only kinds of places leave the server, never the text with the secret. Subscriptions of all databases are in one
/// shared catalog; foreign servers and mappings are those of the database that is looked at.
const CATALOGS: &str = "SELECT 'foreign server' AS kind, srvname::text AS name FROM pg_foreign_server \
    WHERE array_to_string(srvoptions, chr(10)) ~* '(^|\\n)(password|passwd|secret)=' \
    UNION ALL SELECT 'setting', coalesce(r.rolname || ' ', '') || coalesce('in ' || d.datname || ' ', '') || split_part(c.entry, '=', 1) \
    FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase \
    CROSS JOIN LATERAL unnest(s.setconfig) AS c(entry) \
    WHERE split_part(c.entry, '=', 1) ~* '(password|passwd|secret|token|api_?key)$' AND (s.setdatabase = 0 OR d.datname = current_database())";

const OWN_CATALOGS: &str = "SELECT 'subscription' AS kind, s.subname::text AS name FROM pg_subscription s \
    JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() AND s.subconninfo ~* '(password\\s*=|://[^/@]*:[^/@]+@)' \
    UNION ALL SELECT 'user mapping', srvname::text || '/' || coalesce(nullif(usename::text, ''), 'public') FROM pg_user_mappings \
    WHERE array_to_string(umoptions, chr(10)) ~* '(^|\\n)(password|passwd|secret)='";

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let mut verdict = Verdict::ok();
        // What belongs to the whole instance is told once, with the database that surus was given.
        if scene.database == Some(scene.facts.database.as_str()) {
            verdict.findings.extend(in_settings(scene));
            let role = &scene.facts.role;
            if !(role.superuser || role.reads_settings) {
                let why = format!("GRANT pg_monitor TO {}", quote::ident(&role.name));
                verdict = verdict
                    .but_unknown("settings", Reason::Privilege(format!("the role may not see all settings: {why}")));
            }
            match server_log::tail(scene, access).await {
                Ok(tail) => verdict.findings.extend(in_log(&tail)),
                Err(Trouble::Unknown(reason)) => verdict = verdict.but_unknown("the log", reason),
                Err(trouble) => return Err(trouble),
            }
        }
        let mut queries = vec![CATALOGS];
        if scene.facts.role.superuser {
            queries.push(OWN_CATALOGS);
        } else {
            let why = Reason::Privilege("only a superuser sees subscriptions' and user mappings' options".into());
            verdict = verdict.but_unknown("subscriptions and user mappings", why);
        }
        for sql in queries {
            for row in access.session.ask(sql).await?.iter() {
                verdict.findings.push(in_catalog(row.str("kind")?, row.str("name")?));
            }
        }
        Ok(verdict)
    })
}

fn in_settings(scene: &Scene<'_>) -> Vec<Finding> {
    let holds = |name: &&&str| scene.settings().text(name).is_some_and(has_secret);
    let found = TEXTS.iter().filter(holds).map(|name| {
        Finding::warn(*name, format!("the setting {name} holds a password or key"))
            .detail("It is shown to members of pg_read_all_settings, and lies in every copy of the configuration.")
            .saw("setting", *name)
            .fix(Plan::advice(format!(
                "move it to a password file (passfile=…, mode 0600) or to the service's environment, take it out of {name}, then change it"
            )))
    });
    found.collect()
}

fn has_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    MARKS.iter().any(|mark| text.contains(mark)) || has_url_password(&text)
}

/// `scheme://user:password@host`.
fn has_url_password(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', ' ', '\'', '"']).next().unwrap_or_default();
        authority
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.split_once(':').is_some_and(|(_, password)| !password.is_empty()))
    })
}

fn in_catalog(kind: &str, name: &str) -> Finding {
    let object = format!("{kind} {name}");
    let title = format!("the {kind} {name} holds a password or key");
    let (finding, detail, advice) = match kind {
        // postgres_fdw and dblink have no better place; who may see it is limited to the owner and the role itself.
        "user mapping" => (
            Finding::info(object, title),
            "It is in every dump of the database in clear text.",
            "prefer a client certificate, or password_required 'false' with a password file where the owner is a superuser",
        ),
        "subscription" => (
            Finding::warn(object, title),
            "It is in every dump and backup in clear text.",
            "ALTER SUBSCRIPTION … CONNECTION without password, with a password file (passfile=…) or a client certificate",
        ),
        "foreign server" => (
            Finding::warn(object, title),
            "Options of a foreign server can be read by every role.",
            "ALTER SERVER … OPTIONS (DROP …), put it into the user mapping, and change the password",
        ),
        _ => (
            Finding::warn(object, title),
            "pg_db_role_setting can be read by every role.",
            "ALTER ROLE or DATABASE … RESET it, keep the secret in the application, and change it",
        ),
    };
    finding.detail(detail).saw("kind", kind).fix(Plan::advice(advice))
}

fn in_log(tail: &LogTail) -> Option<Finding> {
    let leaks = |entry: &&LogEntry| {
        let said = ["statement:", "execute ", "AUDIT:"].iter().any(|mark| entry.message.contains(mark))
            && sets_password(&entry.message);
        said || entry.statement.as_deref().is_some_and(sets_password)
    };
    let lines: Vec<&LogEntry> = tail.since(clock::now(), server_log::DAY).filter(leaks).collect();
    let last = lines.last()?;
    let finding = Finding::warn("log", format!("the log holds passwords in clear text, the last from {}", server_log::when(last)))
        .detail("Somebody set a password with SQL, and the statement was logged with it.")
        .measured("lines", lines.len(), "lines")
        .fix(Plan::advice("change these passwords with \\password in psql, which sends only the verifier; then remove the lines from the log"));
    Some(server_log::from_log(finding, tail))
}

/// `PASSWORD 'clear text'`, but not with a verifier in place of the password.
fn sets_password(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.match_indices("password").any(|(at, word)| {
        let rest = lower[at + word.len()..].trim_start();
        let quoted = rest.strip_prefix("e'").or_else(|| rest.strip_prefix('\''));
        let verifier =
            |value: &str| value.starts_with("scram-sha-256$") || value.starts_with("md5") || value.starts_with('\'');
        quoted.is_some_and(|value| !value.is_empty() && !verifier(value))
    })
}

#[cfg(test)]
mod tests {
    use super::{CHECK, has_secret, sets_password};
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn tells_secrets_from_other_text() {
        assert!(has_secret("host=a user=b password=c") && has_secret("PGPASSWORD=x pg_receivewal"));
        assert!(
            has_secret("curl https://u:p@host/x")
                && !has_secret("curl https://host:443/x@y")
                && !has_secret("cp %p /a/%f")
        );
        assert!(sets_password("CREATE ROLE a PASSWORD 'x'") && sets_password("alter role a encrypted password  'x'"));
        assert!(
            !sets_password("ALTER ROLE a PASSWORD 'SCRAM-SHA-256$4096:x'")
                && !sets_password("ALTER ROLE a PASSWORD NULL")
        );
    }

    #[test]
    fn sees_passwords_and_does_not_repeat_them() {
        seeded(&CHECK, |on| {
            on.configure(&[("primary_conninfo", "host=nowhere password=hush-hush"), ("log_statement", "ddl")]);
            on.sql("CREATE ROLE app LOGIN PASSWORD 'hush-hush'");
            on.sql("ALTER ROLE app SET app.api_token = 'hush-hush'");
            on.sql("ALTER ROLE app SET password_encryption = 'scram-sha-256'");
            on.server.expect_log("wal_level");
            on.sql("CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere password=hush-hush' PUBLICATION p WITH (connect = false)");
            on.sql(
                "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER remote FOREIGN DATA WRAPPER w; \
                 CREATE USER MAPPING FOR app SERVER remote OPTIONS (user 'a', password 'hush-hush')",
            );
            let found = on.findings();
            let mut seen: Vec<_> = found.iter().map(|f| f.object.as_str()).collect();
            seen.sort_unstable();
            assert_eq!(
                seen,
                ["log", "primary_conninfo", "setting app app.api_token", "subscription sub", "user mapping remote/app"]
            );
            assert!(!format!("{found:?}").contains("hush"));
        });
    }
}
