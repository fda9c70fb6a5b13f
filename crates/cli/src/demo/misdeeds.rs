//! Sessions that do harm on purpose: one leaves its transaction open, a schema change waits for it, and readers wait
//! behind the schema change. And a setting that somebody changes.
//!
//! Two such pile-ups, half a round apart, so that whoever looks sees one that is old enough to matter. All of it is in
//! the small `billing` database: index builds in `labdb` do not wait for it.

use super::link::{APPLICATION, BILLING, Link};
use crate::failure::Failure;
use std::time::Duration;
use surus_pg::Session;
use tokio::task::JoinSet;

/// How long the transaction stays open, and the pause until the next.
const HOLD: Duration = Duration::from_secs(110);
const PAUSE: Duration = Duration::from_secs(5);
const READERS: usize = 3;
/// When a setting changes.
const CHANGE_AFTER: Duration = Duration::from_secs(15);

/// The tables that are piled up on.
const TABLES: [&str; 2] = ["invoices", "credit_notes"];

/// Starts the pile-ups; they end when the set is dropped.
pub fn start(link: &Link, port: u16, workers: &mut JoinSet<()>) {
    for (number, table) in (0u32..).zip(TABLES) {
        let link = link.clone();
        workers.spawn(async move {
            tokio::time::sleep((HOLD + PAUSE) / 2 * number).await;
            loop {
                // A session that an operator ended, or a timeout that now forbids it, is what should happen.
                let _ = pile(&link, port, table).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
}

/// Changes a setting for the worse, once, after a while: a change that looks harmless and that somebody has to find.
pub fn change_a_setting(
    connect: impl Future<Output = Result<Session, Failure>> + Send + 'static,
    workers: &mut JoinSet<()>,
) {
    workers.spawn(async move {
        tokio::time::sleep(CHANGE_AFTER).await;
        // A server that is gone or does not want it is not changed.
        if let Ok(session) = connect.await {
            let _ = session.run("ALTER SYSTEM SET work_mem = '64kB'").await;
            let _ = session.run("SELECT pg_reload_conf()").await;
            session.close().await;
        }
    });
}

/// Takes it back, so that there is something to change.
pub async fn change_back(session: &Session) -> Result<(), Failure> {
    session.run("ALTER SYSTEM RESET work_mem").await.map_err(super::link::asked)?;
    session.run("SELECT pg_reload_conf()").await.map_err(super::link::asked)
}

async fn pile(link: &Link, port: u16, table: &'static str) -> Result<(), Failure> {
    let holder = link.session(APPLICATION, port, BILLING, "billing-batch").await?;
    let begun = holder.run(&format!("BEGIN; UPDATE public.{table} SET amount = amount WHERE id = 1")).await;
    begun.map_err(super::link::asked)?;
    let mut waiting = JoinSet::new();
    let change = format!("ALTER TABLE public.{table} ADD COLUMN IF NOT EXISTS note text");
    waiting.spawn(wait(link.clone(), port, "billing-deploy", change));
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..READERS {
        waiting.spawn(wait(link.clone(), port, "billing-web", format!("SELECT sum(amount) FROM public.{table}")));
    }
    tokio::time::sleep(HOLD).await;
    let ended = holder.run("COMMIT").await.map_err(super::link::asked);
    // With the lock gone they end by themselves.
    while waiting.join_next().await.is_some() {}
    holder.close().await;
    ended
}

async fn wait(link: Link, port: u16, name: &'static str, sql: String) {
    if let Ok(session) = link.session(APPLICATION, port, BILLING, name).await {
        // It is cancelled or ended by whoever clears the queue.
        let _ = session.run(&sql).await;
        session.close().await;
    }
}
