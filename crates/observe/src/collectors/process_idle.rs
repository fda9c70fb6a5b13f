//! How long sessions have been idle, as a histogram by state and application. Applications that put a process number
//! into their name make a new histogram with every process, so it runs only when it is wanted.

use crate::collector::{Collector, Limit, Need, Page, RunsOn, Scene, Scope, Tier, families, labels};
use surus_pg::{RowError, Rows, Sql};

families! {
    limited;
    BUCKETS ["state", "application_name", "le"] {
        BUCKET = Histogram "pg_process_idle_seconds_bucket" "" "Seconds that sessions have been idle";
    }
    REST ["state", "application_name"] {
        SUM = Histogram "pg_process_idle_seconds_sum" "sum" "Seconds that sessions have been idle";
        COUNT = Histogram "pg_process_idle_seconds_count" "count" "Seconds that sessions have been idle";
    }
}

/// Bounds of the buckets in seconds, each with its column.
const BOUNDS: &[(&str, &str)] = &[
    ("1", "le_1"),
    ("2", "le_2"),
    ("5", "le_5"),
    ("15", "le_15"),
    ("30", "le_30"),
    ("60", "le_60"),
    ("90", "le_90"),
    ("120", "le_120"),
    ("300", "le_300"),
    ("+Inf", "count"),
];
const MOST: usize = 100;

pub static COLLECTOR: Collector = Collector {
    name: "process_idle",
    reads: "pg_stat_activity",
    tier: Tier::Detail,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT state, application_name, count(*) AS count, sum(idle) AS sum, count(*) FILTER (WHERE idle <= 1) AS le_1, \
           count(*) FILTER (WHERE idle <= 2) AS le_2, count(*) FILTER (WHERE idle <= 5) AS le_5, \
           count(*) FILTER (WHERE idle <= 15) AS le_15, count(*) FILTER (WHERE idle <= 30) AS le_30, \
           count(*) FILTER (WHERE idle <= 60) AS le_60, count(*) FILTER (WHERE idle <= 90) AS le_90, \
           count(*) FILTER (WHERE idle <= 120) AS le_120, count(*) FILTER (WHERE idle <= 300) AS le_300 \
         FROM (SELECT state, application_name, greatest(extract(epoch FROM now() - state_change), 0) AS idle \
           FROM pg_stat_get_activity(NULL) WHERE left(state, 4) = 'idle' AND pid <> pg_backend_pid()) sessions \
         GROUP BY state, application_name ORDER BY count(*) DESC, 1, 2 LIMIT 101",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let limit = Limit { collector: COLLECTOR.name, database: "", rows: MOST };
    for row in rows.iter().take(limit.rows) {
        let labels = labels(row, &["state", "application_name"])?;
        for (bound, column) in BOUNDS {
            page.put(&BUCKET, &labels.with("le", bound), row.f64(column)?);
        }
        page.columns(&labels, row, REST)?;
    }
    page.note(rows, &limit);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use surus_pg::Manners;
    use surus_testkit::Server;

    #[test]
    fn buckets_count_up_to_all() {
        let server = Server::builder().start();
        let runtime = runtime();
        let manners = Manners { application_name: "shop".into(), ..Manners::looking() };
        let idle = runtime.block_on(async {
            [server.session("postgres", &manners).await, server.session("postgres", &manners).await]
        });
        let heard = heard(&server, "postgres", &[&COLLECTOR]);
        let of = [("state", "idle"), ("application_name", "shop")];
        let bucket = |le: &'static str| heard.value("pg_process_idle_seconds_bucket", &[of[0], of[1], ("le", le)]);
        assert_eq!((bucket("300"), bucket("+Inf"), heard.value("pg_process_idle_seconds_count", &of)), (2.0, 2.0, 2.0));
        assert!(heard.value("pg_process_idle_seconds_sum", &of) >= 0.0);
        for session in idle {
            runtime.block_on(session.close());
        }
    }
}
