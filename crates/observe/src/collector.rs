//! What a collector is: one static value per file of `collectors/`.

use surus_core::series::{Family, Labels, Point, Told};
use surus_pg::{Facts, RowError, Rows, Sql};

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

/// What a collector is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The instance: it is asked once, in whichever database surus is connected to.
    Instance,
    /// A database: it is asked in every database that the role may connect to.
    Database,
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
    /// The extension is installed in the database that is asked.
    Extension(&'static str),
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

    /// All that was written down.
    pub fn into_told(self) -> Vec<Told> {
        self.told
    }
}
