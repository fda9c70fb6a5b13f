//! What a collector is: one static value per file of `collectors/`.

use surus_core::series::{Family, Labels, MetricKind, Point, Told};
pub use surus_pg::Scope;
use surus_pg::{Facts, Row, RowError, Rows, Sql, quote};

/// How often a collector runs, unless the configuration says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Every 10 s: counters of the whole instance, cheap to read.
    Counters,
    /// Every 30 s: one row per table, query, slot or standby.
    Detail,
    /// Every 10 min: what reads the disk or much of the catalog, and what hardly changes.
    Slow,
}

/// On which side of replication a collector means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsOn {
    Any,
    Primary,
    Standby,
}

/// What a collector must have before it may ask. The first one missing is the reason why it has nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// See all sessions and statistics: pg_read_all_stats, which pg_monitor includes.
    Stats,
    /// Call the pg_ls_* functions: pg_monitor.
    Monitor,
    /// The extension is installed in the database that is asked. The texts say [`SCHEMA`] for where it lives, since
    /// `search_path` is pinned; [`Collector::text`] fills it in.
    Extension(&'static str),
    /// Read every table's statistics: pg_read_all_data (14 and newer), or superuser.
    Data,
    /// This major or newer.
    Major(u16),
}

/// A query and how its rows become points.
pub struct Collector {
    /// Its name on the page of collectors and in `surus_collector_*`; stable.
    pub name: &'static str,
    /// What it reads, in one line: views and functions.
    pub reads: &'static str,
    pub tier: Tier,
    pub scope: Scope,
    pub runs_on: RunsOn,
    pub needs: &'static [Need],
    /// Every family that it may fill.
    pub families: &'static [&'static Family],
    /// The first text whose range holds the server's major is asked.
    pub sql: &'static [Sql],
    /// Turns the rows into points. Pure.
    pub read: fn(&Rows, &Scene<'_>, &mut Page) -> Result<(), RowError>,
}

/// Stands in a query's text for the schema of the extension that the collector needs.
pub const SCHEMA: &str = "@schema@";

impl Collector {
    /// The query for this major; `schema` is where the extension lives that it needs, if it needs one. Nothing when
    /// this major has nothing to ask for.
    pub fn text(&self, major: u16, schema: Option<&str>) -> Option<String> {
        let text = Sql::of_major(self.sql, major)?;
        match (self.extension(), schema) {
            (None, _) => Some(text.to_owned()),
            (Some(_), Some(schema)) => Some(text.replace(SCHEMA, &quote::ident(schema))),
            (Some(_), None) => None,
        }
    }

    /// The extension that must be installed in the database that is asked.
    pub fn extension(&self) -> Option<&'static str> {
        self.needs.iter().find_map(|need| if let Need::Extension(name) = need { Some(*name) } else { None })
    }
}

/// A family with the labels that its points have, besides those that say which target it is.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    pub family: &'static Family,
    pub labels: &'static [&'static str],
}

/// Has a collector left out rows, because its query stops at a limit? Told by every collector that has one.
pub static TRUNCATED: Family = Family {
    name: "surus_collector_truncated",
    kind: MetricKind::Gauge,
    help: "1 when the collector stopped at its limit of rows and the rest is missing, else 0",
};

/// Relations left out because somebody holds or awaits them exclusively.
pub static SKIPPED: Family = Family {
    name: "surus_collector_skipped_relations",
    kind: MetricKind::Gauge,
    help: "Relations that the collector left out because a session holds or awaits ACCESS EXCLUSIVE on them",
};

/// The labels of [`TRUNCATED`] and [`SKIPPED`].
pub const TRUNCATED_LABELS: &[&str] = &["collector", "datname"];

/// Families that are read from a column of the same row each, with the name of the column; none for those that the
/// collector fills otherwise.
pub type Columns = [(&'static Family, &'static str)];

/// What a collector may know besides its rows.
pub struct Scene<'a> {
    pub facts: &'a Facts,
    /// The database that was asked.
    pub database: &'a str,
    /// When the cycle was due, in milliseconds since 1970: the time of every point.
    pub at_ms: i64,
}

/// Where a collector writes down what it read.
#[derive(Debug, Default)]
pub struct Page {
    told: Vec<Told>,
}

impl Page {
    /// One value of a family. Labels with an empty value are left out, as Prometheus does.
    pub fn tell<'v>(
        &mut self,
        family: &'static Family,
        labels: impl IntoIterator<Item = (&'static str, &'v str)>,
        value: f64,
    ) {
        let point = Point { labels: Labels::merged(labels), value };
        match self.told.iter_mut().rev().find(|told| std::ptr::eq(told.family, family)) {
            Some(told) => told.points.push(point),
            None => self.told.push(Told { family, points: vec![point] }),
        }
    }

    /// As [`Page::tell`], with labels that several families share.
    pub fn put(&mut self, family: &'static Family, labels: &Labels, value: f64) {
        let point = Point { labels: labels.clone(), value };
        match self.told.iter_mut().rev().find(|told| std::ptr::eq(told.family, family)) {
            Some(told) => told.points.push(point),
            None => self.told.push(Told { family, points: vec![point] }),
        }
    }

    /// The values of a row's columns, all under these labels. NULL is left out.
    ///
    /// # Errors
    /// When the row has no such column, or what it holds is no number.
    pub fn columns(&mut self, labels: &Labels, row: Row<'_>, columns: &Columns) -> Result<(), RowError> {
        for (family, column) in columns.iter().filter(|(_, column)| !column.is_empty()) {
            if let Some(value) = row.opt_f64(column)? {
                self.put(family, labels, value);
            }
        }
        Ok(())
    }

    /// The values of all rows: each row's labels are its columns of those names, and its values its columns.
    ///
    /// # Errors
    /// As [`Page::columns`].
    pub fn table(&mut self, rows: &Rows, names: &[&'static str], columns: &Columns) -> Result<(), RowError> {
        for row in rows.iter() {
            self.columns(&labels(row, names)?, row, columns)?;
        }
        Ok(())
    }

    /// As [`Page::table`] for a query that stops one row behind its limit: that row is not told but noted.
    ///
    /// # Errors
    /// As [`Page::columns`].
    pub fn limited(
        &mut self,
        rows: &Rows,
        limit: &Limit<'_>,
        names: &[&'static str],
        columns: &Columns,
    ) -> Result<(), RowError> {
        for row in rows.iter().take(limit.rows) {
            self.columns(&labels(row, names)?, row, columns)?;
        }
        self.note(rows, limit);
        Ok(())
    }

    /// Notes whether the query met its limit.
    pub fn note(&mut self, rows: &Rows, limit: &Limit<'_>) {
        self.truncated(limit.collector, limit.database, rows.len() > limit.rows);
    }

    /// Notes whether something was left out because of a limit.
    pub fn truncated(&mut self, collector: &'static str, database: &str, is: bool) {
        self.tell(&TRUNCATED, [("collector", collector), ("datname", database)], f64::from(u8::from(is)));
    }

    /// Notes how many relations were left out because they are locked.
    pub fn skipped(&mut self, limit: &Limit<'_>, count: f64) {
        self.tell(&SKIPPED, [("collector", limit.collector), ("datname", limit.database)], count);
    }

    /// All that was written down.
    pub fn into_told(self) -> Vec<Told> {
        self.told
    }
}

/// Where a query stops: it asks for one row more, to see that there are more.
#[derive(Debug, Clone, Copy)]
pub struct Limit<'a> {
    pub collector: &'static str,
    /// Empty for collectors of the whole instance.
    pub database: &'a str,
    pub rows: usize,
}

/// The columns of those names as labels; NULL is no label.
///
/// # Errors
/// When the row has no such column.
pub fn labels(row: Row<'_>, names: &[&'static str]) -> Result<Labels, RowError> {
    let mut pairs = Vec::with_capacity(names.len());
    for name in names {
        pairs.push((*name, row.opt_str(name)?.unwrap_or_default()));
    }
    Ok(Labels::merged(pairs))
}

/// Declares families in groups that have the same labels: a static for each family, a constant [`Columns`] for each
/// group, and `FAMILIES` and `DECLARED` over all of them. The text before the help is the column it is read from;
/// empty when the collector fills it otherwise. `limited;` in front adds
/// [`TRUNCATED`], `locked;` also [`SKIPPED`].
macro_rules! families {
    (locked; $($rest:tt)*) => {
        $crate::collector::families!(@with [&$crate::collector::TRUNCATED, &$crate::collector::SKIPPED,]
            [$crate::collector::Declared {
                family: &$crate::collector::TRUNCATED,
                labels: $crate::collector::TRUNCATED_LABELS,
            },
            $crate::collector::Declared {
                family: &$crate::collector::SKIPPED,
                labels: $crate::collector::TRUNCATED_LABELS,
            },] $($rest)*);
    };
    (limited; $($rest:tt)*) => {
        $crate::collector::families!(@with [&$crate::collector::TRUNCATED,]
            [$crate::collector::Declared {
                family: &$crate::collector::TRUNCATED,
                labels: $crate::collector::TRUNCATED_LABELS,
            },] $($rest)*);
    };
    (@with [$($family:tt)*] [$($declared:tt)*]
        $($group:ident $labels:tt { $($id:ident = $kind:ident $name:literal $column:literal $help:literal;)* })*) => {
        $($(static $id: surus_core::series::Family = surus_core::series::Family {
            name: $name,
            kind: surus_core::series::MetricKind::$kind,
            help: $help,
        };)*)*
        $(#[allow(dead_code, reason = "a collector may fill all families of a group by hand")]
        const $group: &$crate::collector::Columns = &[$((&$id, $column)),*];)*
        const FAMILIES: &[&surus_core::series::Family] = &[$($family)* $($(&$id,)*)*];
        pub(super) const DECLARED: &[$crate::collector::Declared] =
            &[$($declared)* $($($crate::collector::Declared { family: &$id, labels: &$labels },)*)*];
    };
    ($($rest:tt)*) => {
        $crate::collector::families!(@with [] [] $($rest)*);
    };
}
pub(crate) use families;

/// SQL for the name of the relation `$relid` that the column `$relid` of another database or of this one means, `d`
/// being its row of pg_database: with its schema unless that is public, as `regclass` would write it but without
/// waiting for a lock; the number where the relation cannot be looked up from here.
macro_rules! relation_name {
    ($relid:literal) => {
        concat!(
            "coalesce((SELECT CASE WHEN n.nspname IN ('public', 'pg_catalog') THEN c.relname::text \
               ELSE n.nspname || '.' || c.relname END FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.oid = ",
            $relid,
            " AND d.datname = current_database()), ",
            $relid,
            "::text)"
        )
    };
}
pub(crate) use relation_name;

/// SQL for a table expression `locked` of relations of this database that a session holds or awaits exclusively:
/// whoever asks for their size would wait too.
macro_rules! locked_relations {
    () => {
        "locked AS MATERIALIZED (SELECT DISTINCT relation FROM pg_lock_status() WHERE locktype = 'relation' \
           AND mode = 'AccessExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid() \
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    };
}
pub(crate) use locked_relations;

/// SQL for "`$n`, of pg_namespace, is not a schema of PostgreSQL itself", as the views `pg_stat_user_*` have it.
macro_rules! user_schema {
    ($n:literal) => {
        concat!($n, ".nspname NOT IN ('pg_catalog', 'information_schema') AND left(", $n, ".nspname, 8) <> 'pg_toast'")
    };
}
pub(crate) use user_schema;
