use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Plan, Step},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "cfg.memory_budget",
    title: "the memory that PostgreSQL may take does not fit the machine",
    inspects: "shared_buffers, work_mem, autovacuum's memory and the sessions at work, against the host's memory",
    why: "work_mem is not a limit for the server: every sort and hash of every query may take that much. When the sum \
          exceeds the memory, the machine swaps, or the kernel kills a process and PostgreSQL ends all sessions.",
    remedy: "Lower work_mem for everybody and raise it only for the roles or queries that need it; a pooler limits how many \
             queries run at once.",
    source: "pgEdge pg-healthcheck memory; shared_buffers + 2 × work_mem × sessions at work + autovacuum's memory × workers",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats, Need::Host],
    thresholds: &[Threshold::above("share", "%", 80.0, 100.0)],
    look: Look::Query(
        &[Sql::all(
            "SELECT count(*) AS connected, count(*) FILTER (WHERE state = 'active') AS active FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )],
        judge,
    ),
};

const MIB: f64 = (1_u64 << 20) as f64;
/// Sorts and hashes of one query at the same time, as the rule counts them.
const OPERATIONS: f64 = 2.0;
/// Before 17 VACUUM uses at most this much, whatever the setting says.
const VACUUM_MOST: f64 = (1_u64 << 30) as f64;

/// Bytes that may be taken at the same time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Budget {
    shared: f64,
    /// For the queries of all sessions at work.
    work: f64,
    maintenance: f64,
}

impl Budget {
    fn sum(self) -> f64 {
        self.shared + self.work + self.maintenance
    }

    /// The work_mem, in whole MB, with which the sum takes 60 % of the memory; none if that leaves less than 4 MB.
    fn fitting_work_mem(self, memory: f64, running: f64) -> Option<f64> {
        let fitting = ((0.6 * memory - self.shared - self.maintenance) / (OPERATIONS * running) / MIB).floor();
        (fitting >= 4.0).then_some(fitting)
    }
}

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    let (connected, active) = (row.i64("connected")? as f64, row.i64("active")? as f64);
    let host = scene.host()?;
    let memory = host.memory_bytes as f64;
    // No peak is on record: as many as are at work now, or as many as keep the cores busy if so many are connected.
    let running = active.max(connected.min(4.0 * f64::from(host.cores))).max(1.0);
    let bytes = |name: &str| Ok::<_, surus_core::finding::Reason>(scene.bytes(name)?.map(|bytes| bytes as f64));
    let maintenance = bytes("maintenance_work_mem")?.unwrap_or_default();
    let vacuum = bytes("autovacuum_work_mem")?.unwrap_or(maintenance);
    let vacuum = if scene.major() < 17 { vacuum.min(VACUUM_MOST) } else { vacuum };
    let work_mem = bytes("work_mem")?.unwrap_or_default();
    let budget = Budget {
        shared: bytes("shared_buffers")?.unwrap_or_default(),
        work: OPERATIONS * work_mem * running,
        maintenance: vacuum * scene.number("autovacuum_max_workers")?,
    };
    let share = 100.0 * budget.sum() / memory;
    let Some(severity) = scene.grade("share", share) else { return Ok(Verdict::ok()) };
    let fix = match budget.fitting_work_mem(memory, running) {
        Some(fitting) if budget.work >= budget.shared.max(budget.maintenance) => Plan::one(
            format!("set work_mem to {fitting:.0}MB for everybody"),
            Step::setting(
                "work_mem",
                format!("{fitting:.0}MB"),
                "queries together fit the memory; large sorts use files instead",
            ),
        ),
        _ => Plan::advice(
            "lower shared_buffers (a quarter of the memory), maintenance_work_mem or autovacuum_max_workers until the sum fits",
        ),
    };
    Ok(Verdict::one(
        Finding::new(severity, "", format!("PostgreSQL may take {share:.0} % of the machine's memory at once"))
            .detail("If it does, the machine swaps or the kernel kills a process, which ends all sessions.")
            .measured("share", share, "%")
            .measured("memory", memory, "bytes")
            .measured("shared_buffers", budget.shared, "bytes")
            .measured("2 × work_mem × sessions at work", budget.work, "bytes")
            .measured("autovacuum's memory × workers", budget.maintenance, "bytes")
            .saw("sessions counted as at work", running)
            .fix(fix),
    ))
}

#[cfg(test)]
mod tests {
    use super::{Budget, CHECK, MIB};
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_work_mem_that_does_not_fit() {
        seeded(&CHECK, |on| {
            let _held = on.session("postgres");
            assert_eq!(on.findings(), []);
            on.reload(&[("work_mem", "2000GB")]);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("cfg.memory_budget", "crit"));
            assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
        });
    }

    #[test]
    fn proposes_a_work_mem_that_fits() {
        let budget = Budget { shared: 4096.0 * MIB, work: 20480.0 * MIB, maintenance: 192.0 * MIB };
        assert_eq!(budget.sum() / MIB, 24768.0);
        assert_eq!(budget.fitting_work_mem(16384.0 * MIB, 20.0), Some(138.0));
        assert_eq!(budget.fitting_work_mem(4096.0 * MIB, 20.0), None);
    }
}
