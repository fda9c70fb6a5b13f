//! The table of all checks. A check is a file `catalogue/<group>/<name>.rs` with a `CHECK` in it, and its name here.

use crate::rule::Check;

macro_rules! catalogue {
    ($($group:ident { $($name:ident),* $(,)? })*) => {
        $(pub mod $group { $(pub mod $name;)* })*

        /// Every check, what loses data first: findings of one severity are shown in this order.
        pub static CHECKS: &[&Check] = &[$($(&$group::$name::CHECK,)*)*];
    };
}

catalogue! {
    // Backups
    bkp {
        archive_failing,
        archive_off,
        archive_gap,
        age,
        restore_test,
        archive_queue,
        rpo,
        repo_space,
        retention,
        size_anomaly,
        encrypted,
    }

    // Durability, memory and configuration
    cfg {
        durability_off,
        corruption_knobs,
        checksums,
        file_errors,
        standby_lower,
        pending_restart,
        drift,
        memory_budget,
        shared_buffers,
        hash_mem,
        huge_pages,
        planner_disabled,
        storage_costs,
        jit,
        parallel_oversub,
        observability,
        pgss_capacity,
        ext_outdated,
    }

    // Replication and slots
    repl {
        missing,
        sync_degraded,
        receiver,
        timeline,
        lag_bytes,
        lag_time,
        paused,
        conflicts,
    }
    slot {
        status,
        retained,
        inactive,
        unlimited,
        xmin,
    }
    lrepl {
        worker,
        sync,
        identity,
    }

    // Vacuum, bloat, freeze
    vac {
        xid,
        mxid,
        disabled,
        disabled_table,
        horizon,
        prepared,
        overdue,
        blocked,
        workers,
        multi_pass,
        cancelled,
        stats_stale,
        partition_parent,
    }
    bloat {
        table,
        catalog,
    }
    vm {
        low,
    }
    hot {
        low,
    }

    // Connections and the server itself
    conn {
        reachable,
        saturation,
        role_db_limit,
        idle_share,
        churn,
        abnormal_end,
        timeouts_unset,
        too_many_slots,
        tls_expiry,
    }
    srv {
        two_primaries,
        restarted,
        minor_version,
    }

    // Security
    sec {
        hba_trust,
        common_password,
        remote_super,
        fs_perms,
        brute_force,
        hba_wide,
        hba_shadowed,
        ssl,
        no_password,
        md5,
        valid_until,
        super_count,
        repl_role,
        secrets,
        rls,
        secdef_path,
        secdef_view,
        public_schema,
        public_grants,
        sensitive_cols,
        untrusted_pl,
        plaintext,
        rls_perf,
        audit,
    }

    // WAL and checkpoints
    wal {
        fs,
        dir,
        rate,
        fpi_ratio,
        buffers_full,
        logical_unused,
    }
    ckpt {
        requested,
        interval,
        sync_time,
    }
    bgw {
        starved,
    }

    // Locks and waits
    lock {
        ddl_queue,
        blocked,
        idle_in_tx,
        deadlock,
        table_full,
        wraparound_vacuum,
    }
    wait {
        profile,
    }

    // Indexes
    idx {
        collation,
        amcheck,
        fk,
        invalid,
        leftover,
        missing,
        duplicate,
        bloat,
        write_heavy,
        redundant,
        unused,
        low_value,
    }

    // Tables and schema
    tbl {
        no_pk,
        unlogged,
        huge,
    }
    seq {
        exhaust,
    }
    pk {
        int4,
    }
    fk {
        type_mismatch,
        duplicate,
    }
    con {
        not_valid,
    }
    trg {
        disabled,
    }
    part {
        default,
        ahead,
    }
    r#type {
        poor,
    }
    up {
        blockers,
    }
    lo {
        orphans,
    }
    name {
        truncate,
    }

    // Queries
    q {
        long_running,
        slow,
        regression,
        planning,
        temp,
        rollback,
        top,
        n_plus_one,
        unbounded,
        variance,
    }

    // Logs, host and pooler
    log {
        panic,
        error_rate,
        volume,
        settings,
        no_bind_leak,
    }
    host {
        disk,
        kernel,
        memory,
        io,
        clock,
        thp_governor,
    }
    pool {
        waiting,
    }
}

/// The check with this id.
pub fn find(id: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.id == id).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Look;
    use surus_core::version::{NEWEST_MAJOR, OLDEST_MAJOR};

    #[test]
    fn ids_are_unique_and_every_page_is_written() {
        let mut seen = std::collections::BTreeSet::new();
        for check in CHECKS {
            assert!(seen.insert(check.id), "{} is there twice", check.id);
            assert!(check.id.split('.').count() == 2, "{}", check.id);
            for text in [check.title, check.inspects, check.why, check.remedy, check.source] {
                assert!(!text.trim().is_empty(), "{} has an empty text", check.id);
            }
        }
    }

    #[test]
    fn every_query_has_a_text_for_every_major_it_needs() {
        for check in CHECKS {
            let oldest = check
                .needs
                .iter()
                .filter_map(|need| if let crate::rule::Need::Major(major) = need { Some(*major) } else { None });
            let oldest = oldest.max().unwrap_or(OLDEST_MAJOR);
            if matches!(check.look, Look::Query(..)) {
                for major in oldest..=NEWEST_MAJOR {
                    assert!(check.sql(major).is_some(), "{} has no query for {major}", check.id);
                }
            }
        }
    }
}
