//! How much of each sequence is used up: the 200 of a database that are nearest to their end. Reading a sequence takes
//! a lock, so those that somebody holds or awaits exclusively are left out, as are those that the role may not read.

use crate::collector::{Collector, Limit, Page, RunsOn, Scene, Scope, Tier, families, labels, locked_relations};
use surus_pg::{RowError, Rows, Sql};

families! {
    locked;
    USE ["datname", "schemaname", "sequencename"] {
        USED = Gauge "pg_sequence_used_ratio" "used"
            "Share of the sequence's values that are used up, from 0 to 1; the 200 of the database that are most used";
    }
    HIDDEN ["datname"] {
        NOT_VISIBLE = Gauge "pg_sequences_not_visible" ""
            "Sequences of the database that surus's role may not read; pg_read_all_data would let it";
    }
}

const MOST: usize = 5_000;

pub static COLLECTOR: Collector = Collector {
    name: "sequences",
    reads: "pg_sequence, pg_sequence_last_value()",
    tier: Tier::Slow,
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(concat!(
        "WITH ",
        locked_relations!(),
        ", s AS MATERIALIZED (SELECT c.oid, n.nspname, c.relname, q.*, \
           has_sequence_privilege(c.oid, 'SELECT, USAGE') AS visible, \
           EXISTS (SELECT FROM locked l WHERE l.relation = c.oid) AS locked FROM pg_sequence q \
           JOIN pg_class c ON c.oid = q.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
           WHERE c.relpersistence = 'p' AND NOT q.seqcycle ORDER BY c.oid LIMIT 5001) \
         SELECT current_database() AS datname, nspname AS schemaname, relname AS sequencename, visible, locked, \
           CASE WHEN seqincrement > 0 THEN (last - seqmin) / nullif(seqmax::float8 - seqmin, 0) \
             ELSE (seqmax - last) / nullif(seqmax::float8 - seqmin, 0) END AS used \
         FROM (SELECT *, CASE WHEN visible AND NOT locked THEN coalesce(pg_sequence_last_value(oid), seqstart)::float8 END AS last \
           FROM s) seen"
    ))],
    read,
};

const TOLD: usize = 200;

fn read(rows: &Rows, scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let limit = Limit { collector: COLLECTOR.name, database: scene.database, rows: MOST };
    let (mut used, mut skipped, mut hidden) = (Vec::new(), 0.0, 0.0);
    for row in rows.iter().take(limit.rows) {
        skipped += f64::from(u8::from(row.bool("locked")?));
        hidden += f64::from(u8::from(!row.bool("visible")?));
        if let Some(share) = row.opt_f64("used")? {
            used.push((share, row));
        }
    }
    used.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (share, row) in used.into_iter().take(TOLD) {
        page.put(&USED, &labels(row, &["datname", "schemaname", "sequencename"])?, share);
    }
    page.tell(&NOT_VISIBLE, [("datname", scene.database)], hidden);
    page.skipped(&limit, skipped);
    page.note(rows, &limit);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use surus_testkit::Server;

    #[test]
    fn the_share_that_is_used_up() {
        let server = Server::builder().hba("local all all trust").start();
        server.expect_log("permission denied for view pg_hba_file_rules");
        server.sql(
            "CREATE SEQUENCE up MAXVALUE 101; CREATE SEQUENCE down INCREMENT -1 MINVALUE -101; \
                    CREATE SEQUENCE fresh; CREATE SEQUENCE round MAXVALUE 3 CYCLE; \
                    SELECT setval('up', 76), setval('down', -26); CREATE ROLE plain LOGIN",
        );
        let all = heard(&server, "postgres", &[&COLLECTOR]);
        let used =
            |name: &str| all.maybe("pg_sequence_used_ratio", &[("sequencename", name), ("schemaname", "public")]);
        assert_eq!((used("up"), used("down"), used("fresh")), (Some(0.75), Some(0.25), Some(0.0)));
        assert_eq!(used("round"), None);
        assert_eq!(all.value("pg_sequences_not_visible", &[("datname", "postgres")]), 0.0);
        let hidden = heard_at(&[server.dsn_as("plain", "", "postgres")], &[&COLLECTOR]);
        assert_eq!(hidden.value("pg_sequences_not_visible", &[]), 3.0);
    }
}
