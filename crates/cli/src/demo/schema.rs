//! The application's schema and rows, and the troubles that lie in them.

use super::link::{self, BILLING, LAB};
use crate::failure::Failure;
use surus_pg::{AskErrorKind, LocalServer, Session, Target};

const LAB_SQL: &str = include_str!("sql/lab.sql");
const TROUBLES_SQL: &str = include_str!("sql/troubles.sql");
const BILLING_SQL: &str = include_str!("sql/billing.sql");

/// How many rows there are unless the user says so.
pub const ROWS: u64 = 150_000;

/// How many rows each table gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub users: u64,
    pub projects: u64,
    pub tasks: u64,
    pub audit_logs: u64,
    pub orders: u64,
}

impl Sizes {
    /// About `rows` rows in the five tables together. Tasks are the most: their sequential scans have to hurt.
    pub fn of(rows: u64) -> Self {
        let share = |percent: u64| (rows * percent / 100).max(10);
        Self { users: share(4), projects: share(1), tasks: share(55), audit_logs: share(10), orders: share(30) }
    }

    /// What is there already, in a kept demo.
    pub async fn read(session: &Session) -> Result<Self, Failure> {
        let list = ["users", "projects", "tasks", "audit_logs", "orders"]
            .map(|table| format!("(SELECT COALESCE(max(id), 1) FROM public.{table}) AS {table}"));
        let rows = session.ask(&format!("SELECT {}", list.join(", "))).await.map_err(link::asked)?;
        let number = |name: &str| {
            let value = rows.first().and_then(|row| row.i64(name));
            value.map(i64::unsigned_abs).map_err(|error| Failure::bug(error.to_string()))
        };
        Ok(Self {
            users: number("users")?,
            projects: number("projects")?,
            tasks: number("tasks")?,
            audit_logs: number("audit_logs")?,
            orders: number("orders")?,
        })
    }

    /// All rows.
    pub fn total(&self) -> u64 {
        self.users + self.projects + self.tasks + self.audit_logs + self.orders
    }
}

/// Creates and fills both databases. `session` is the superuser's, in `labdb`.
pub async fn create(primary: &LocalServer, session: &Session, sizes: Sizes) -> Result<(), Failure> {
    let run = async |sql: &str| session.run(sql).await.map_err(link::asked);
    run(&format!(
        "SET demo.users = {}; SET demo.projects = {}; SET demo.tasks = {}; \
         SET demo.audit_logs = {}; SET demo.orders = {}",
        sizes.users, sizes.projects, sizes.tasks, sizes.audit_logs, sizes.orders
    ))
    .await?;
    run("CREATE EXTENSION pg_stat_statements").await?;
    run(LAB_SQL).await?;
    run(TROUBLES_SQL).await?;
    run("RESET ROLE").await?;
    dead_rows(primary).await?;
    for table in ["users", "projects", "tasks", "audit_logs", "orders", "task_imports", "carts"] {
        run(&format!("VACUUM (ANALYZE) public.{table}")).await?;
    }
    // Now that the session which made them has gone and its counters have arrived.
    run("ANALYZE public.login_sessions").await?;
    broken_index(primary, session).await?;
    let target = Target::parse(&primary.dsn(link::SUPERUSER, BILLING))?;
    let billing = link::ordinary(&target, "surus demo").await?;
    billing.run("CREATE EXTENSION pg_stat_statements").await.map_err(link::asked)?;
    billing.run(BILLING_SQL).await.map_err(link::asked)?;
    billing.run("RESET ROLE; ANALYZE").await.map_err(link::asked)
}

/// Three dead versions of each row, each from a transaction of its own.
async fn dead_rows(primary: &LocalServer) -> Result<(), Failure> {
    let session = link::ordinary(&Target::parse(&primary.dsn(link::APPLICATION, LAB))?, "lab-login").await?;
    for _ in 0..3 {
        let again = "UPDATE public.login_sessions SET seen_at = clock_timestamp(), token = md5(token)";
        session.run(again).await.map_err(link::asked)?;
    }
    session.close().await;
    Ok(())
}

/// A deployment that gave up: CREATE INDEX CONCURRENTLY stops waiting for a writer and leaves an invalid index.
async fn broken_index(primary: &LocalServer, session: &Session) -> Result<(), Failure> {
    let writer = link::ordinary(&Target::parse(&primary.dsn(link::APPLICATION, LAB))?, "deploy").await?;
    writer.run("BEGIN; UPDATE public.tasks SET priority = priority WHERE id = 1").await.map_err(link::asked)?;
    session.run("SET ROLE labuser; SET lock_timeout = '100ms'").await.map_err(link::asked)?;
    let built = session.run("CREATE INDEX CONCURRENTLY idx_tasks_created_at ON public.tasks (created_at)").await;
    session.run("RESET ROLE; RESET lock_timeout").await.map_err(link::asked)?;
    writer.run("ROLLBACK").await.map_err(link::asked)?;
    writer.close().await;
    match built {
        Err(error) if error.kind == AskErrorKind::Locked => Ok(()),
        Err(error) => Err(link::asked(error)),
        Ok(()) => Err(Failure::bug("an index build did not wait for a writer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_above_100_000_rows() {
        assert!(Sizes::of(ROWS).total() >= 100_000);
        assert_eq!(Sizes::of(100).users, 10);
    }
}
