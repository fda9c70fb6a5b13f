//! Sessions with and without TLS.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families};
use surus_core::series::Labels;
use surus_pg::{RowError, Rows, Sql};

families! {
    PLAIN [] {
        COMPRESSION = Gauge "pg_stat_ssl_compression" ""
            "Sessions whose TLS compresses; PostgreSQL 14 removed that, so it is 0 there";
    }
    BY_VERSION ["ssl", "version"] {
        SESSIONS = Gauge "pg_stat_ssl_sessions" "sessions" "Sessions of clients, by whether they use TLS and which version";
    }
}

macro_rules! sessions {
    ($compressed:literal) => {
        concat!(
            "SELECT s.ssl::text AS ssl, s.version, count(*) AS sessions, ",
            $compressed,
            " AS compressed FROM pg_stat_ssl s JOIN pg_stat_get_activity(NULL) a USING (pid) \
             WHERE a.backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 1, 2"
        )
    };
}

pub static COLLECTOR: Collector = Collector {
    name: "stat_ssl",
    reads: "pg_stat_ssl",
    tier: Tier::Detail,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    families: FAMILIES,
    sql: &[Sql::until(13, sessions!("count(*) FILTER (WHERE s.compression)")), Sql::since(14, sessions!("0"))],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let mut compressed = 0.0;
    for row in rows.iter() {
        compressed += row.f64("compressed")?;
    }
    page.put(&COMPRESSION, &Labels::empty(), compressed);
    page.table(rows, &["ssl", "version"], BY_VERSION)
}
