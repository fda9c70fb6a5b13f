//! The catalogue: every collector, one file each. Adding one touches two places, its file and this table.

use crate::collector::{Collector, Declared};
use std::sync::{Mutex, PoisonError};

macro_rules! catalogue {
    (always { $($name:ident),* $(,)? } wanted { $($other:ident),* $(,)? }) => {
        $(pub mod $name;)*
        $(pub mod $other;)*

        /// Every collector that runs unless the configuration says otherwise, in the order in which they run.
        pub static ALL: &[&Collector] = &[$(&$name::COLLECTOR),*];

        /// Those that run only when the configuration asks for them: their series are many.
        pub static OPT_IN: &[&Collector] = &[$(&$other::COLLECTOR),*];

        /// The families of each collector, with their labels.
        static DECLARED: &[(&Collector, &[Declared])] = &[
            $((&$name::COLLECTOR, $name::DECLARED),)*
            $((&$other::COLLECTOR, $other::DECLARED),)*
        ];
    };
}

catalogue! {
    always {
        // Counters of the instance
        instance,
        stat_database,
        stat_activity,
        long_running_transactions,
        checkpoints,
        wal,
        replication,
        stat_replication,
        stat_wal_receiver,
        stat_archiver,
        progress,

        // Details
        locks,
        replication_slots,
        database,
        stat_database_conflicts,
        stat_activity_autovacuum,
        prepared_transactions,
        wal_directory,
        stat_io,
        stat_slru,
        stat_ssl,
        buffercache_summary,
        user_tables,

        // Slow
        settings,
        roles,
        database_size,
        table_size,
        index_size,
        table_freeze,
        sequences,
        bloat_table,
        bloat_btree,
    }
    wanted {
        stat_activity_fine,
        process_idle,
        stat_statements,
    }
}

/// The families of a collector, with their labels.
pub fn declared(collector: &Collector) -> &'static [Declared] {
    DECLARED.iter().find(|(one, _)| std::ptr::eq(*one, collector)).map_or(&[], |(_, declared)| declared)
}

/// The collector of this name, whether it runs always or only when it is wanted.
pub fn find(name: &str) -> Option<&'static Collector> {
    ALL.iter().chain(OPT_IN).find(|collector| collector.name == name).copied()
}

/// The collectors that always run and those of [`OPT_IN`] with these names. The fine sessions take the place of the
/// coarse ones: both have the same metrics, and a sum over them would count everybody twice.
///
/// # Errors
/// The name that none of them has.
pub fn with(names: &[String]) -> Result<&'static [&'static Collector], String> {
    static SETS: Mutex<Vec<&'static [&'static Collector]>> = Mutex::new(Vec::new());
    if let Some(unknown) = names.iter().find(|name| !OPT_IN.iter().any(|collector| collector.name == **name)) {
        return Err(unknown.clone());
    }
    let wanted = OPT_IN.iter().filter(|collector| names.iter().any(|name| name == collector.name));
    let fine = names.iter().any(|name| name == stat_activity_fine::COLLECTOR.name);
    let replaced = |one: &&&'static Collector| !(fine && one.name == stat_activity::COLLECTOR.name);
    let all: Vec<&'static Collector> = ALL.iter().filter(replaced).chain(wanted).copied().collect();
    if names.is_empty() {
        return Ok(ALL);
    }
    // Kept for ever, each once: there are only as many as there are choices among a few collectors.
    let mut sets = SETS.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |set: &&&'static [&'static Collector]| {
        set.len() == all.len() && set.iter().zip(&all).all(|(one, other)| std::ptr::eq(*one, *other))
    };
    if let Some(known) = sets.iter().find(same) {
        return Ok(known);
    }
    let new: &'static [&'static Collector] = Vec::leak(all);
    sets.push(new);
    Ok(new)
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
