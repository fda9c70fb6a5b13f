use crate::{
    rule::{Access, Check, Look, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Trouble, Verdict},
};
use std::collections::BTreeSet;
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
};
use surus_pg::{RowError, Session};

pub static CHECK: Check = Check {
    id: "cfg.file_errors",
    title: "a configuration file has an error",
    inspects: "pg_file_settings, pg_hba_file_rules and (15 and newer) pg_ident_file_mappings",
    why: "An error in a configuration file makes the server keep what it had, in silence: changes seem to be made and are \
          not. At the next restart the server may refuse to start at all.",
    remedy: "Correct the named line, look at the view again, then reload with SELECT pg_reload_conf().",
    source: "PostgreSQL documentation of the three views",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Custom(|scene, access| Box::pin(look(scene, access))),
};

/// A line with an error.
struct Bad {
    file: String,
    line: i64,
    error: String,
    /// What the server does because of it.
    consequence: &'static str,
    view: &'static str,
}

async fn look(scene: &Scene<'_>, access: Access<'_>) -> Judged {
    let mut verdict = Verdict::ok();
    let mut bad = Vec::new();
    match settings(access.session).await {
        Ok(errors) => bad.extend(errors),
        Err(Trouble::Unknown(reason)) => verdict = verdict.but_unknown("postgresql.conf", reason),
        Err(other) => return Err(other),
    }
    match scene.hba() {
        Ok(rules) => bad.extend(rules.iter().filter_map(|rule| {
            Some(Bad {
                file: rule.file.clone().unwrap_or_else(|| "pg_hba.conf".into()),
                line: rule.line.into(),
                error: rule.error.clone()?,
                consequence: "The server keeps all the rules it had before, or does not start.",
                view: "pg_hba_file_rules",
            })
        })),
        Err(reason) => verdict = verdict.but_unknown("pg_hba.conf", reason),
    }
    if scene.major() >= 15 {
        match mappings(scene.major(), access.session).await {
            Ok(errors) => bad.extend(errors),
            Err(Trouble::Unknown(reason)) => verdict = verdict.but_unknown("pg_ident.conf", reason),
            Err(other) => return Err(other),
        }
    }
    verdict.findings = bad.iter().map(finding).collect();
    Ok(verdict)
}

/// What only a superuser sees is not asked for.
async fn may_read(session: &Session, view: &str, function: &str) -> Result<(), Trouble> {
    match session.may_read(view, function).await? {
        true => Ok(()),
        false => Err(readable(Reason::Privilege(String::new()).into(), function)),
    }
}

/// What only a superuser sees is no error; it says what to grant.
fn readable(trouble: Trouble, function: &str) -> Trouble {
    match trouble {
        Trouble::Unknown(Reason::Privilege(_)) => {
            Reason::Privilege(format!("only a superuser (or a role with EXECUTE on {function}()) sees it")).into()
        }
        other => other,
    }
}

async fn settings(session: &Session) -> Result<Vec<Bad>, Trouble> {
    may_read(session, "pg_file_settings", "pg_show_all_file_settings").await?;
    let sql = "SELECT sourcefile AS file, sourceline AS line, name, error FROM pg_file_settings \
               WHERE error IS NOT NULL AND sourcefile IS NOT NULL ORDER BY seqno";
    // An entry that was removed and waits for a restart is shown without a file.
    let rows = session.ask(sql).await.map_err(|error| readable(error.into(), "pg_show_all_file_settings"))?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    // A new value that waits for a restart is shown like an error. Looking at the view marks it as pending in our
    // session too, so only now it can be told apart.
    let waiting = session.ask("SELECT name FROM pg_settings WHERE pending_restart").await?;
    let waiting: BTreeSet<String> = waiting.iter().map(|row| row.text("name")).collect::<Result<_, RowError>>()?;
    let mut bad = Vec::new();
    for row in rows.iter() {
        let name = row.text("name")?;
        if waiting.contains(&name) {
            continue;
        }
        let error = row.text("error")?;
        bad.push(Bad {
            file: row.text("file")?,
            line: row.opt_i64("line")?.unwrap_or_default(),
            error: if name.is_empty() { error } else { format!("{name}: {error}") },
            consequence: "A reload keeps the values from before, and the server may not start again.",
            view: "pg_file_settings",
        });
    }
    Ok(bad)
}

async fn mappings(major: u16, session: &Session) -> Result<Vec<Bad>, Trouble> {
    may_read(session, "pg_ident_file_mappings", "pg_ident_file_mappings").await?;
    let file = if major >= 16 { "file_name" } else { "'pg_ident.conf'" };
    let sql = format!(
        "SELECT {file} AS file, line_number AS line, error FROM pg_ident_file_mappings WHERE error IS NOT NULL"
    );
    let rows = session.ask(&sql).await.map_err(|error| readable(error.into(), "pg_ident_file_mappings"))?;
    let read = |row: surus_pg::Row<'_>| {
        Ok(Bad {
            file: row.text("file")?,
            line: row.opt_i64("line")?.unwrap_or_default(),
            error: row.text("error")?,
            consequence: "The server keeps all the user name maps it had before.",
            view: "pg_ident_file_mappings",
        })
    };
    Ok(rows.iter().map(read).collect::<Result<_, RowError>>()?)
}

fn finding(bad: &Bad) -> Finding {
    let short = bad.file.rsplit('/').next().unwrap_or(&bad.file);
    Finding::crit(format!("{short}:{}", bad.line), format!("line {} of {short} is wrong: {}", bad.line, bad.error))
        .detail(bad.consequence)
        .saw("file", bad.file.as_str())
        .saw("line", bad.line)
        .saw("error", bad.error.as_str())
        .fix(Plan::advice(format!(
            "correct line {} of {}, make sure that SELECT * FROM {} WHERE error IS NOT NULL gives nothing, then SELECT \
             pg_reload_conf()",
            bad.line, bad.file, bad.view
        )))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_wrong_lines_and_no_pending_ones() {
        seeded(&CHECK, |on| {
            on.reload(&[("max_connections", "31")]);
            assert_eq!(on.findings(), [], "a value that waits for a restart is no error");
            on.server.local().write_settings(&[("work_mem", "plenty")]).unwrap();
            on.server.local().write_hba("local all all trust\nhost all all everywhere/99 trust\n").unwrap();
            if on.major() >= 15 {
                std::fs::write(on.server.data_dir().join("pg_ident.conf"), "one two\n").unwrap();
            }
            let found = on.findings();
            let wrong = if on.major() >= 15 { 3 } else { 2 };
            assert_eq!(found.len(), wrong, "{found:#?}");
            assert!(found.iter().all(|f| f.severity.word() == "crit"));
            assert!(found.iter().any(|f| f.key == "cfg.file_errors:pg_hba.conf:2"), "{found:#?}");
            assert!(found.iter().any(|f| f.object.starts_with("postgresql.conf:") && f.title.contains("work_mem")));
        });
    }
}
