//! What the checks of vacuum share: when autovacuum is due for a table, what holds back the horizon, and the steps that
//! vacuum a table now and more often later.

use crate::{index::seconds_to_write, scene::Scene};
use std::collections::BTreeMap;
use surus_core::{
    finding::Reason,
    plan::{Lock, Step},
};
use surus_pg::{Row, RowError, quote};

/// Columns and joins for [`Tended::read`]: tables, materialized views and TOAST tables with the options that autovacuum
/// goes by (a TOAST table without options of its own follows its table). `$more` are further columns;
/// add the WHERE clause.
macro_rules! tended {
    ($more:literal) => {
        concat!(
            "SELECT ",
            $more,
            "coalesce(mn.nspname, n.nspname) AS schema, coalesce(m.relname, c.relname) AS name, c.relkind = 't' AS toast, \
             greatest(c.reltuples, 0) AS rows, pg_stat_get_dead_tuples(c.oid) AS dead, \
             pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid) AS changes, \
             coalesce(c.reloptions, m.reloptions) AS options, ",
            $crate::index::estimated_bytes!("c"),
            " AS bytes, abs(extract(epoch FROM now() - greatest(pg_stat_get_last_vacuum_time(c.oid), \
             pg_stat_get_last_autovacuum_time(c.oid)))) AS vacuumed_ago, ",
            $crate::index::statistics_age!(),
            " AS age FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_class m ON m.reltoastrelid = c.oid AND c.relkind = 't' LEFT JOIN pg_namespace mn ON mn.oid = m.relnamespace "
        )
    };
}
pub(crate) use tended;

/// Who holds back the horizon: one row per session, prepared transaction, slot and standby whose snapshot VACUUM must
/// respect. Sessions that only vacuum do not count. `since_s` is absent where PostgreSQL does not say since when.
macro_rules! horizon_holders {
    () => {
        "SELECT CASE WHEN state LIKE 'idle in transaction%' THEN 'idle in transaction' ELSE 'query' END AS class, \
           NULL::text AS name, pid, usename AS who, application_name AS app, datname AS database, left(query, 200) AS query, \
           extract(epoch FROM clock_timestamp() - xact_start) AS since_s, greatest(age(backend_xmin), age(backend_xid)) AS xids \
         FROM pg_stat_activity WHERE backend_type <> 'walsender' AND pid <> pg_backend_pid() \
           AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum) \
         UNION ALL SELECT 'prepared transaction', gid, NULL, owner, NULL, database, NULL, \
           extract(epoch FROM clock_timestamp() - prepared), age(transaction) FROM pg_prepared_xacts \
         UNION ALL SELECT CASE WHEN slot_type = 'physical' AND active THEN 'standby feedback' ELSE 'slot' END, slot_name, active_pid, \
           NULL, plugin, database, NULL, NULL, greatest(age(xmin), age(catalog_xmin)) FROM pg_replication_slots \
           WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL \
         UNION ALL SELECT 'standby feedback', application_name, pid, usename, application_name, NULL, NULL, NULL, age(backend_xmin) \
           FROM pg_stat_replication WHERE backend_xmin IS NOT NULL"
    };
}
pub(crate) use horizon_holders;

/// A table as autovacuum sees it.
pub(crate) struct Tended {
    /// The table; for a TOAST table the table that it belongs to.
    pub table: String,
    pub toast: bool,
    pub rows: f64,
    pub dead: f64,
    pub bytes: f64,
    /// Seconds since it was last vacuumed, by whomever.
    pub vacuumed_ago_s: Option<f64>,
    /// Rows updated and deleted since statistics began.
    changes: f64,
    /// Seconds since statistics began.
    age_s: Option<f64>,
    options: BTreeMap<String, String>,
}

impl Tended {
    pub fn read(row: Row<'_>) -> Result<Self, RowError> {
        let options = row.list("options")?;
        let pairs = options.iter().filter_map(|option| option.split_once('='));
        Ok(Self {
            table: quote::qualified(row.str("schema")?, row.str("name")?),
            toast: row.bool("toast")?,
            rows: row.f64("rows")?,
            dead: row.f64("dead")?,
            bytes: row.f64("bytes")?,
            vacuumed_ago_s: row.opt_f64("vacuumed_ago")?,
            changes: row.f64("changes")?,
            age_s: row.opt_f64("age")?,
            options: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        })
    }

    /// How it is named in findings.
    pub fn object(&self) -> String {
        if self.toast { format!("{} (TOAST)", self.table) } else { self.table.clone() }
    }

    /// The table's own value of an autovacuum setting, else the server's.
    fn option(&self, scene: &Scene<'_>, name: &str) -> Result<f64, Reason> {
        match self.options.get(name).and_then(|value| value.parse().ok()) {
            Some(own) => Ok(own),
            None => scene.number(name),
        }
    }

    /// The share of the table that may be dead before autovacuum comes.
    pub fn scale_factor(&self, scene: &Scene<'_>) -> Result<f64, Reason> {
        self.option(scene, "autovacuum_vacuum_scale_factor")
    }

    /// How many dead rows make autovacuum come. Source: PostgreSQL documentation, Routine Vacuuming, The Autovacuum
    /// Daemon; the upper bound exists since 18.
    pub fn due_at(&self, scene: &Scene<'_>) -> Result<f64, Reason> {
        let threshold = self.option(scene, "autovacuum_vacuum_threshold")?;
        let due = threshold + self.scale_factor(scene)? * self.rows;
        let most = match scene.settings().get("autovacuum_vacuum_max_threshold") {
            Some(_) => self.option(scene, "autovacuum_vacuum_max_threshold")?,
            None => -1.0,
        };
        Ok(if most >= 0.0 { due.min(most) } else { due })
    }

    /// A scale factor that makes autovacuum come about every [`WISHED_INTERVAL_S`], at the rate at which rows died so
    /// far: dead rows per interval ÷ rows, between 0.002 and 0.2. `None` when it is no less than the one in force, or
    /// when there is too little to go by.
    pub fn better_scale_factor(&self, scene: &Scene<'_>) -> Option<f64> {
        let age_s = self.age_s.filter(|age| *age >= 3600.0)?;
        let wished = factor(self.changes / age_s, self.rows);
        (wished < 0.75 * self.scale_factor(scene).ok()?).then_some(wished)
    }

    /// Sets the table's own scale factor.
    pub fn scale_factor_step(&self, factor: f64) -> Step {
        let name = if self.toast { "toast.autovacuum_vacuum_scale_factor" } else { "autovacuum_vacuum_scale_factor" };
        let table = &self.table;
        let undo = match self.options.get("autovacuum_vacuum_scale_factor") {
            Some(before) => format!("ALTER TABLE {table} SET ({name} = {before})"),
            None => format!("ALTER TABLE {table} RESET ({name})"),
        };
        let effect = format!("autovacuum comes when {:.1} % of the rows are dead", factor * 100.0);
        Step::sql(format!("ALTER TABLE {table} SET ({name} = {factor})"), Lock::ShareUpdateExclusive, effect)
            .takes(0.1)
            .undo_sql(undo)
    }

    /// Vacuums it now.
    pub fn vacuum_step(&self) -> Step {
        vacuum_step(&self.table, "", self.bytes)
    }
}

/// Vacuums a table; `options` such as `(FREEZE) ` come before its name.
pub(crate) fn vacuum_step(table: &str, options: &str, bytes: f64) -> Step {
    let effect = "space of dead rows can be used again; the file does not shrink";
    Step::sql_alone(format!("VACUUM {options}{table}"), Lock::ShareUpdateExclusive, effect)
        .takes(seconds_to_write(bytes))
        .no_undo("nothing is lost: only rows that nobody can see any more are removed")
}

/// How often autovacuum should come to a busy table: within the 1 to 6 hours that are usual advice.
const WISHED_INTERVAL_S: f64 = 3.0 * 3600.0;

fn factor(dead_per_second: f64, rows: f64) -> f64 {
    let raw = dead_per_second * WISHED_INTERVAL_S / rows.max(1.0);
    (raw.clamp(0.002, 0.2) * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::factor;

    #[test]
    fn the_scale_factor_stays_within_its_bounds() {
        assert_eq!(factor(100.0, 100_000_000.0), 0.011);
        assert_eq!(factor(0.001, 100_000_000.0), 0.002);
        assert_eq!(factor(1000.0, 1000.0), 0.2);
    }
}
