use crate::{
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::Verdict,
};
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
};
use surus_pg::{AskError, AskErrorKind, quote};

pub static CHECK: Check = Check {
    id: "idx.amcheck",
    title: "an index is damaged",
    inspects: "bt_index_check of the extension amcheck on a few small B-trees, others at each run, while the server is quiet",
    why: "A damaged index returns wrong answers without any error: rows that are there are not found. It is a sign of failing \
          hardware, of a changed order of texts, or of a copy that was made wrongly.",
    remedy: "Save a copy of the data directory first. Then build the index anew, check the table's rows and the hardware, and verify \
             the latest backups.",
    source: "PostgreSQL documentation, amcheck; pgEdge pg-healthcheck",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats, Need::Extension("amcheck")],
    thresholds: &[Threshold::warn_above("active", "sessions", 4.0)],
    look: Look::Custom(look),
};

const ABOUT: &str = "SELECT n.nspname AS schema, has_function_privilege(p.oid, 'EXECUTE') AS may, \
     (SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()) AS active \
     FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace JOIN pg_proc p ON p.pronamespace = n.oid \
     WHERE e.extname = 'amcheck' AND p.proname = 'bt_index_check' AND p.pronargs = 1";

/// A sample: at most five indexes of at most 8 MB each, the user's own before those of the catalogs.
const SAMPLE: &str = "SELECT i.oid, n.nspname AS schema, i.relname AS name FROM (SELECT c.oid, c.relname, c.relnamespace FROM pg_class c \
       JOIN pg_am m ON m.oid = c.relam JOIN pg_index x ON x.indexrelid = c.oid \
       WHERE c.relkind = 'i' AND m.amname = 'btree' AND c.relpersistence = 'p' AND x.indisvalid AND c.relpages BETWEEN 1 AND 1024 \
       ORDER BY c.oid < 16384, random() LIMIT 5) i JOIN pg_namespace n ON n.oid = i.relnamespace";

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let about = access.session.ask(ABOUT).await?;
        let about = about.first()?;
        let schema = quote::ident(about.str("schema")?);
        if !about.bool("may")? {
            let role = quote::ident(&scene.facts.role.name);
            let text = format!(
                "the role may not call it: GRANT EXECUTE ON FUNCTION {schema}.bt_index_check(regclass) TO {role}"
            );
            return Err(Reason::Privilege(text).into());
        }
        let active = about.f64("active")?;
        if !scene.facts.in_recovery && scene.grade("active", active).is_some() {
            let text =
                format!("{active:.0} sessions are at work; the check waits for a quiet moment, or for a standby");
            return Err(Reason::Timeout(text).into());
        }
        let sample = access.session.ask(SAMPLE).await?;
        let mut verdict = Verdict::ok();
        for row in sample.iter() {
            let name = quote::qualified(row.str("schema")?, row.str("name")?);
            let sql = format!("SELECT {schema}.bt_index_check({}::regclass)", row.i64("oid")?);
            match access.session.ask(&sql).await {
                Ok(_) => {}
                Err(error) if is_damage(&error) => verdict.findings.push(finding(scene, &name, &error)),
                Err(error) if error.kind == AskErrorKind::Closed => return Err(error.into()),
                Err(error) if error.kind == AskErrorKind::Undefined => {}
                Err(error) => verdict = verdict.but_unknown(name, Reason::Locked(error.message)),
            }
        }
        Ok(verdict)
    })
}

/// index_corrupted and data_corrupted. Source: PostgreSQL documentation, appendix A.
fn is_damage(error: &AskError) -> bool {
    matches!(error.sqlstate.as_deref(), Some("XX001" | "XX002"))
}

fn finding(scene: &Scene<'_>, name: &str, error: &AskError) -> Finding {
    let locate = scene.prove_page(&["-d", scene.database.unwrap_or("postgres"), "--relation", name]);
    Finding::crit(name, format!("the index {name} is damaged: {}", error.message))
        .detail("Queries that use it may miss rows or fail. The damage may not be the only one.")
        .saw("error", error.message.as_str())
        .saw("detail", error.detail.clone().unwrap_or_default())
        .saw("SQLSTATE", error.sqlstate.clone().unwrap_or_default())
        .fix(Plan::advice(format!(
            "protect the last good backups from expiry and copy the data directory; {locate} shows where it is and the way \
             back: REINDEX INDEX CONCURRENTLY {name}. Then run pg_amcheck over the whole cluster, and test the hardware"
        )))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use std::{
        io::{Read, Seek, SeekFrom, Write},
        time::Duration,
    };
    use surus_pg::server::Mode;

    check_tests!(CHECK);

    #[test]
    fn sees_a_damaged_index() {
        seeded_on(
            &CHECK,
            |builder| builder.checksums(false),
            |on| {
                on.sql("CREATE EXTENSION amcheck; CREATE TABLE t(a int, b int); INSERT INTO t SELECT g, g FROM generate_series(1, 300) g; CREATE INDEX good ON t(b)");
                assert!(on.findings().is_empty());
                on.sql("CREATE INDEX bad ON t(a)");
                let path = on.server.data_dir().join(on.server.value("SELECT pg_relation_filepath('bad') AS v"));
                on.server.local_mut().stop(Mode::Fast).unwrap();
                // Swap two line pointers of the only leaf page, so that its keys are out of order.
                let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
                let mut pointers = [0u8; 8];
                file.seek(SeekFrom::Start(8192 + 24 + 40)).unwrap();
                file.read_exact(&mut pointers).unwrap();
                pointers.rotate_left(4);
                file.seek(SeekFrom::Start(8192 + 24 + 40)).unwrap();
                file.write_all(&pointers).unwrap();
                drop(file);
                on.server.local_mut().start(Duration::from_secs(60)).unwrap();
                on.server.expect_log("item order invariant violated");
                let found = on.findings();
                assert_eq!(
                    found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                    ["idx.amcheck:postgres/public.bad"]
                );
                assert_eq!(found[0].severity.word(), "crit");
                let advice = serde_json::to_string(&found[0].fix).unwrap();
                assert!(advice.contains("-d postgres --relation public.bad shows"), "{advice}");
            },
        );
    }
}
