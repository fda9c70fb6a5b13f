//! The place of the second session with a target: surus never has more than two, the first is the one that watches, and
//! whoever needs another takes this place. Trips through the databases do, and so do those who ask for [`Place`].

use crate::{asking, watch::enter_politely, why::Why};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use surus_core::{clock, code};
use surus_pg::{Rows, Session, Target};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long surus tries to be let in for a short question.
const ENTER_WITHIN: Duration = Duration::from_secs(3);

/// The place of one target. It outlives the task that watches the target, so that its successor knows who is there.
#[derive(Debug)]
pub(crate) struct Second {
    room: Arc<Semaphore>,
    /// What it is taken for, and since when (milliseconds since 1970).
    taken: Arc<Mutex<Option<(&'static str, i64)>>>,
}

impl Default for Second {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(1)), taken: Arc::default() }
    }
}

/// The place is taken as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    _permit: OwnedSemaphorePermit,
    taken: Arc<Mutex<Option<(&'static str, i64)>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Before the permit goes back, so that the next one's entry is not wiped out.
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Second {
    /// Takes it if it is free; else says who has it.
    pub(crate) fn try_take(&self, what: &'static str) -> Result<Held, Why> {
        match Arc::clone(&self.room).try_acquire_owned() {
            Ok(permit) => Ok(self.held(permit, what)),
            Err(_) => Err(Why::absent(match *self.taken() {
                Some((what, since_ms)) => format!(
                    "{what} have had surus's second session with the server for {} s; it has never more than two",
                    (clock::now_ms() - since_ms).max(0) / 1000
                ),
                None => "surus's second session with the server is in use; it has never more than two".to_owned(),
            })),
        }
    }

    /// Takes it when it is free; those who wait get it in the order in which they came.
    async fn take(&self, what: &'static str) -> Option<Held> {
        let permit = Arc::clone(&self.room).acquire_owned().await.ok()?;
        Some(self.held(permit, what))
    }

    fn held(&self, permit: OwnedSemaphorePermit, what: &'static str) -> Held {
        *self.taken() = Some((what, clock::now_ms()));
        Held { _permit: permit, taken: Arc::clone(&self.taken) }
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.room.available_permits() == 0
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Option<(&'static str, i64)>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to have one session with a target beside the one that watches it, as long as this lives. Whoever has it opens
/// no more than one at a time and closes it (and waits for that) before giving the place back.
#[derive(Debug)]
pub struct Place {
    _held: Held,
    target: Target,
}

impl Place {
    /// Waits for the place, not longer than the patience.
    pub(crate) async fn wait(
        second: &Second,
        target: Target,
        what: &'static str,
        patience: Duration,
    ) -> Result<Self, Why> {
        match tokio::time::timeout(patience, second.take(what)).await {
            Ok(Some(held)) => Ok(Self { _held: held, target }),
            _ => Err(match second.try_take(what) {
                Ok(held) => return Ok(Self { _held: held, target }),
                Err(why) => Why::error(code::CONNECT_SECOND, format!("nothing was asked: {}", why.text)),
            }),
        }
    }

    /// Where the session leads to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Opens the session for short questions.
    pub(crate) async fn open(self, limit: Duration) -> Result<Visit, Why> {
        let opened = tokio::time::timeout(ENTER_WITHIN, enter_politely(&self.target, limit)).await;
        let session = opened.unwrap_or_else(|_| {
            let text = format!("{} did not let surus in within {} s", self.target.label(), ENTER_WITHIN.as_secs());
            Err(Why::error(code::CONNECT_TIMEOUT, text))
        })?;
        Ok(Visit { place: self, session, limit })
    }
}

/// The second session, opened for a few short questions.
#[derive(Debug)]
pub struct Visit {
    place: Place,
    session: Session,
    limit: Duration,
}

impl Visit {
    /// Asks within the time that the visit has for each question.
    ///
    /// # Errors
    /// As [`Session::ask`]; a server that says nothing at all counts as gone.
    pub async fn ask(&self, sql: &str) -> Result<Rows, surus_pg::AskError> {
        asking::ask(&self.session, sql, self.limit).await
    }

    /// The server's major version.
    pub fn major(&self) -> u16 {
        self.session.version().major()
    }

    /// Ends the session, and only then gives the place back.
    pub async fn leave(self) {
        let Self { place, session, .. } = self;
        session.close().await;
        drop(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_is_one_place_and_it_says_who_has_it() {
        let second = Second::default();
        let held = second.try_take("the checks").unwrap();
        assert!(second.try_take("a trip").unwrap_err().text.starts_with("the checks have had"));
        let target = Target::parse("host=/nowhere").unwrap();
        let short = Duration::from_millis(20);
        let refused = Place::wait(&second, target.clone(), "a question", short).await.unwrap_err();
        assert_eq!(refused.code, Some(code::CONNECT_SECOND.id));
        drop(held);
        let place = Place::wait(&second, target, "a question", short).await.unwrap();
        assert!(second.is_taken());
        drop(place);
        assert!(second.try_take("a trip").is_ok());
    }
}
