use super::invalid::{broken_indexes, drop_leftover};
use crate::{
    index::size,
    rule::{Check, Look, Need, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "idx.leftover",
    title: "a concurrent rebuild left an index behind",
    inspects: "pg_index: indexes that are not valid and whose names end in _ccnew or _ccold, without those being built now",
    why: "REINDEX CONCURRENTLY builds a second index beside the first. When it is interrupted, that second index stays: \
          no query uses it, every write may have to maintain it, and it takes disk space.",
    remedy: "Drop the leftover and run REINDEX CONCURRENTLY again if the rebuild is still wanted.",
    source: "PostgreSQL documentation, REINDEX, Rebuilding Indexes Concurrently",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[Need::Stats],
    thresholds: &[],
    look: Look::Query(&[Sql::all(broken_indexes!("~"))], judge),
};

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let name = quote::qualified(row.str("schema")?, row.str("name")?);
        let table = quote::qualified(row.str("table_schema")?, row.str("table_name")?);
        let bytes = row.f64("bytes")?;
        let plan = match row.bool("bound")? {
            true => Plan::advice(format!("a constraint stands on {name}: REINDEX INDEX CONCURRENTLY {name}")),
            false => drop_leftover(&name),
        };
        findings.push(
            Finding::warn(&name, format!("{name} is left over from an interrupted REINDEX CONCURRENTLY of {table}"))
                .detail(format!(
                    "It takes {} and may be written at every change, but no query can use it.",
                    size(bytes)
                ))
                .saw("definition", row.str("definition")?)
                .saw("maintained by writes", row.bool("indisready")?)
                .measured("estimated size", bytes, "bytes")
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
    fn sees_what_an_interrupted_reindex_left_and_drops_it() {
        seeded(&CHECK, |on| {
            on.sql("CREATE TABLE t(a int, note text); CREATE INDEX a ON t(a)");
            let held = on.session("postgres");
            on.run_in(&held, "BEGIN; LOCK TABLE public.t IN ROW EXCLUSIVE MODE");
            on.server.expect_log("lock timeout");
            let impatient = on.session("postgres");
            on.run_in(&impatient, "SET lock_timeout = 200");
            assert!(on.try_run_in(&impatient, "REINDEX INDEX CONCURRENTLY public.a").is_err());
            on.run_in(&held, "ROLLBACK");
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                ["idx.leftover:postgres/public.a_ccnew"]
            );
            let surus_core::plan::Action::Sql { sql, .. } = &found[0].fix.as_ref().unwrap().steps[0].action else {
                panic!()
            };
            on.sql(sql);
            assert!(on.findings().is_empty());
        });
    }
}
