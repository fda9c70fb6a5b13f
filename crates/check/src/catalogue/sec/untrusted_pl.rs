use crate::{
    access::RELIED_ON,
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Lock, Plan, Step},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "sec.untrusted_pl",
    title: "code of the database can reach the server's files, programs or network",
    inspects: "pg_language (untrusted), functions written in them that PUBLIC may execute, extensions dblink, file_fdw, adminpack and plsh",
    why: "A function in an untrusted language does on the host whatever the server's account may. One careless function with a \
          text argument is then a way out of the database.",
    remedy: "Drop what is not used; revoke EXECUTE from PUBLIC on what is, and grant it to the roles that need it.",
    source: "CIS PostgreSQL Benchmark (pgdsat)",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT 'language' AS kind, quote_ident(l.lanname) AS name, NULL AS language FROM pg_language l WHERE l.lanispl AND NOT l.lanpltrusted \
             UNION ALL SELECT 'function', p.oid::regprocedure::text, l.lanname FROM pg_language l JOIN pg_proc p ON p.prolang = l.oid \
             WHERE l.lanispl AND NOT l.lanpltrusted AND has_function_privilege('public', p.oid, 'EXECUTE') \
             UNION ALL SELECT 'extension', extname, NULL FROM pg_extension WHERE extname IN ('dblink', 'file_fdw', 'adminpack') \
             ORDER BY 1, 2",
        )],
        judge,
    ),
};

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let name = row.str("name")?;
        findings.push(match row.str("kind")? {
            "language" => Finding::info(name, format!("the untrusted language {name} is installed"))
                .detail("Superusers can write functions in it that read and write files and run programs on the host.")
                .saw("trusted", false)
                .fix(Plan::advice(format!("DROP EXTENSION {name} if no function needs it (it refuses while one does)"))),
            "extension" => Finding::info(name, format!("the extension {name} reaches outside the database"))
                .detail(match name {
                    "dblink" => "Every role may open connections from the server with it, into networks that it cannot reach itself.",
                    _ => "It reads or writes files of the host for those who may use it.",
                })
                .saw("extension", name)
                .fix(Plan::advice(format!("DROP EXTENSION {name} if it is not used; else REVOKE EXECUTE or USAGE of it from PUBLIC"))),
            _ => {
                let step = Step::sql(
                    format!("REVOKE EXECUTE ON ROUTINE {name} FROM PUBLIC"),
                    Lock::None,
                    format!("only its owner and roles with a grant of their own may call {name}"),
                )
                .undo_sql(format!("GRANT EXECUTE ON ROUTINE {name} TO PUBLIC"))
                .takes(0.1)
        .only_by_name(RELIED_ON);
                Finding::warn(name, format!("every role may call {name}, which is not confined to the database"))
                    .detail("What it does with its arguments happens on the host, as the server's account.")
                    .saw("language", row.text("language")?)
                    .fix(Plan::one(format!("revoke EXECUTE on {name} from PUBLIC"), step))
            }
        });
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    /// PL/pgSQL's handler under another, untrusted name stands for PL/Python, which is not installed everywhere.
    #[test]
    fn sees_untrusted_languages_and_their_public_functions() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE LANGUAGE wild HANDLER plpgsql_call_handler; \
                 CREATE FUNCTION open() RETURNS int LANGUAGE wild AS 'BEGIN RETURN 1; END'; \
                 CREATE FUNCTION closed() RETURNS int LANGUAGE wild AS 'BEGIN RETURN 1; END'; REVOKE EXECUTE ON FUNCTION closed() FROM PUBLIC; \
                 CREATE FUNCTION tame() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
            );
            let found = on.findings();
            let seen: Vec<_> = found.iter().map(|f| (f.severity.word(), f.object.as_str())).collect();
            assert_eq!(seen, [("warn", "public.open()"), ("info", "wild")]);
            assert!(found[0].fix.as_ref().unwrap().is_applicable());
        });
    }
}
