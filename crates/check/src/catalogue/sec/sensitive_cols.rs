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
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "sec.sensitive_cols",
    title: "columns that look like secrets or personal data are readable by everybody",
    inspects: "pg_attribute names of tables that PUBLIC, anon or authenticated may read",
    why: "A role that was made for something else, or a web client, can read password hashes, tokens or card numbers.",
    remedy: "Revoke SELECT on the table, and grant it on the harmless columns only.",
    source: "splinter 0023 sensitive_columns_exposed; the column names are a guess, suppress what is harmless",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            // The expression is slow, so that it meets each distinct name once (OFFSET 0 keeps it from every row).
            "WITH suspect AS MATERIALIZED (SELECT attname FROM (SELECT DISTINCT attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped OFFSET 0) a \
               WHERE attname ~* '(^|_)(password|passwd|passphrase|pwd|secret|api_?key|private_?key|(access|refresh|auth|session)_?token|token|\
ssn|social_security(_number)?|tax_id|credit_?card|card_number|cvv|cvc|iban|totp_seed|pin_code)(_?(hash|digest|encrypted))?$'), \
             readable AS MATERIALIZED (SELECT c.oid, CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL aclexplode(c.relacl) a \
               WHERE c.relacl IS NOT NULL AND c.relkind IN ('r', 'p', 'm', 'f') AND a.privilege_type = 'SELECT' \
               AND (a.grantee = 0 OR (NOT c.relrowsecurity AND a.grantee IN (SELECT oid FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'web_anon')))) \
               AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' AND NOT EXISTS \
               (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')) \
             SELECT r.oid::regclass::text AS name, r.grantee, array_agg(t.attname::text ORDER BY t.attnum) AS columns \
             FROM readable r JOIN pg_attribute t ON t.attrelid = r.oid AND t.attnum > 0 AND NOT t.attisdropped \
             JOIN suspect s ON s.attname = t.attname \
             GROUP BY 1, 2 ORDER BY 1, 2",
        )],
        judge,
    ),
};

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (table, grantee) = (row.str("name")?, row.str("grantee")?);
        let columns = row.list("columns")?.iter().map(|name| quote::ident(name)).collect::<Vec<_>>().join(", ");
        let step = Step::sql(
            format!("REVOKE SELECT ON TABLE {table} FROM {grantee}"),
            Lock::None,
            format!("only roles with a grant of their own read {table}; grant the harmless columns again where they are needed"),
        )
        .undo_sql(format!("GRANT SELECT ON TABLE {table} TO {grantee}"))
        .takes(0.1)
        .only_by_name(RELIED_ON);
        findings.push(
            Finding::warn(format!("{table}/{grantee}"), format!("{grantee} may read {columns} of {table}"))
                .detail("By their names, these columns hold credentials or personal data.")
                .saw("columns", columns)
                .saw("readable by", grantee)
                .fix(Plan::one(format!("revoke SELECT on {table} from {grantee}"), step)),
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
    fn sees_secrets_that_everybody_reads() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE ROLE app; CREATE ROLE anon; \
                 CREATE TABLE users(id int, email text, password_hash text, api_key text); GRANT SELECT ON users TO PUBLIC; \
                 CREATE TABLE kept(id int, password text); GRANT SELECT ON kept TO app; \
                 CREATE TABLE harmless(id int, token_count int, secretary text); GRANT SELECT ON harmless TO PUBLIC; \
                 CREATE TABLE cards(card_number text); GRANT SELECT ON cards TO anon; \
                 CREATE TABLE guarded(card_number text); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; GRANT SELECT ON guarded TO anon",
            );
            let found = on.findings();
            let seen: Vec<_> = found.iter().map(|f| f.object.as_str()).collect();
            assert_eq!(seen, ["public.cards/anon", "public.users/PUBLIC"]);
            assert!(found[1].title.contains("password_hash, api_key"), "{}", found[1].title);
        });
    }
}
