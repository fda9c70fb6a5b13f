//! Short questions about one session, and ending it, over the second session with a target.

use crate::{
    Observatory, Why,
    live::{
        ending::{Ended, Ending},
        one::{self, SessionNow},
    },
    second::Visit,
};
use std::time::Duration;
use surus_core::code;

/// How long a question may take on the server.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait while somebody else has the second session.
const PATIENCE: Duration = Duration::from_secs(5);

impl Observatory {
    /// What a session does now; asks the server. None when it is not there (any more).
    ///
    /// # Errors
    /// When the target is down or unknown, its second session stays in use, or the server refuses.
    pub async fn session_now(&self, target: &str, pid: i64) -> Result<Option<SessionNow>, Why> {
        let place = self.second_place(target, "a question about one session", PATIENCE).await?;
        in_its_own_task(async move {
            let visit = place.open(ANSWER_WITHIN).await?;
            let answer = visit.ask(&one::sql(pid)).await;
            visit.leave().await;
            one::read(&answer.map_err(|error| Why::from(&error))?).map_err(|error| Why::from(&error))
        })
        .await
    }

    /// Takes the second session of a target and holds it until [`Door::end`] or until it is dropped: so that what is
    /// recorded before ending a session is not recorded in vain.
    ///
    /// # Errors
    /// As [`Observatory::session_now`].
    pub async fn door(&self, target: &str) -> Result<Door, Why> {
        let place = self.second_place(target, "ending a session", PATIENCE).await?;
        let visit = in_its_own_task(place.open(ANSWER_WITHIN)).await?;
        Ok(Door(visit))
    }
}

/// An open second session, through which one other session can be ended.
#[derive(Debug)]
pub struct Door(Visit);

impl Door {
    /// What the session does now.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn look(&self, pid: i64) -> Result<Option<SessionNow>, Why> {
        let answer = self.0.ask(&one::sql(pid)).await.map_err(|error| Why::from(&error))?;
        one::read(&answer).map_err(|error| Why::from(&error))
    }

    /// Ends the session if it is still the one that was seen.
    pub async fn end(self, ending: Ending) -> Ended {
        let not_done = |why: Why| Ended { done: false, said: format!("it may have been done or not: {}", why.text) };
        let ended = in_its_own_task(async move {
            let answer = self.0.ask(&ending.sql()).await;
            self.0.leave().await;
            Ok(ending.came(&answer))
        });
        ended.await.unwrap_or_else(not_done)
    }

    /// Gives it back unused.
    pub async fn close(self) {
        self.0.leave().await;
    }
}

/// Whoever asked may go away in the middle; the session is still closed before its place is free.
async fn in_its_own_task<T: Send + 'static>(
    work: impl Future<Output = Result<T, Why>> + Send + 'static,
) -> Result<T, Why> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(Why::error(code::BUG, format!("it broke off: {error}"))))
}
