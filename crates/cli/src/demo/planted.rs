//! Every trouble that the demo plants, with the check that has to find it. Tests hold `surus check` to this table.

use serde::Serialize;
use surus_check::report::TargetReport;

/// Who can make it go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// `surus fix --apply`.
    Surus,
    /// A person, to whom the finding says how.
    Person,
}

/// A trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Planted {
    /// The check whose finding gives it away.
    pub check: &'static str,
    /// What the finding's key must name; empty when the check is about the whole server.
    pub object: &'static str,
    /// What was done, in plain words.
    pub what: &'static str,
    pub remedy: Remedy,
}

const fn by_surus(check: &'static str, object: &'static str, what: &'static str) -> Planted {
    Planted { check, object, what, remedy: Remedy::Surus }
}

const fn by_person(check: &'static str, object: &'static str, what: &'static str) -> Planted {
    Planted { check, object, what, remedy: Remedy::Person }
}

/// The table. Those that lose data come first, then what hurts now, then what will.
pub const PLANTED: &[Planted] = &[
    by_surus("cfg.durability_off", "full_page_writes", "full_page_writes is off: a power cut can tear pages"),
    by_surus("tbl.unlogged", "public.carts", "shopping carts are in an unlogged table: a crash empties it"),
    by_surus("seq.exhaust", "public.payments", "the int4 key of payments is at 95 % of its numbers"),
    by_person("lock.idle_in_tx", "", "a batch job forgets its transaction, open and idle"),
    by_person("lock.blocked", "", "sessions wait for that job's lock"),
    by_person("lock.ddl_queue", "", "ALTER TABLE waits for the job, and every reader waits for ALTER TABLE"),
    by_surus("idx.fk", "public.tasks.assigned_to", "tasks.assigned_to refers to users and has no index"),
    by_person("idx.missing", "public.tasks", "\"my tasks\" reads the whole table tasks each time"),
    by_surus("idx.duplicate", "orders", "orders.status is indexed twice"),
    by_surus("idx.invalid", "idx_tasks_created_at", "CREATE INDEX CONCURRENTLY gave up and left an invalid index"),
    by_surus("vac.disabled_table", "public.login_sessions", "autovacuum is off for login_sessions"),
    by_surus("vac.overdue", "public.login_sessions", "three dead versions of every row of login_sessions"),
    by_person("tbl.no_pk", "public.task_imports", "task_imports has no primary key"),
    by_surus("trg.disabled", "orders_guard", "the trigger orders_guard was disabled and forgotten"),
    by_surus("conn.timeouts_unset", "labuser", "the application's role has no timeouts"),
    by_person("sec.common_password", "reporting", "the password of the role reporting is \"password\""),
    by_person("sec.hba_wide", "0.0.0.0/0", "pg_hba.conf admits every role from every address"),
    by_person("sec.remote_super", "postgres", "the same line admits the superuser"),
    by_surus("sec.public_schema", "public", "everybody may create objects in the schema public"),
    by_surus("sec.public_grants", "public.orders", "everybody may change orders"),
    by_surus("sec.secdef_path", "close_task", "a SECURITY DEFINER function without search_path"),
];

impl Planted {
    /// Does the report of the primary show it?
    pub fn is_found(&self, report: &TargetReport) -> bool {
        report.findings.iter().any(|finding| finding.id == self.check && finding.key.contains(self.object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_check_exists_and_nothing_is_planted_twice() {
        let mut seen = BTreeSet::new();
        for planted in PLANTED {
            assert!(seen.insert((planted.check, planted.object)), "{}", planted.check);
            assert!(surus_check::catalogue::find(planted.check).is_some(), "{} is no check", planted.check);
        }
    }
}
