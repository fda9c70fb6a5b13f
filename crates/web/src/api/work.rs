//! Work that reads series: on threads that may block, a bounded number at a time, and given up when nobody waits.

use super::answer::{ApiError, ErrorType};
use crate::Site;
use std::{sync::Arc, time::Duration};
use surus_core::{clock::Deadline, series::Source};
use surus_promql::{Cancel, Options};
use tokio::time::timeout;

/// The longest that a question may take.
pub const LONGEST: Duration = Duration::from_secs(120);

/// Raises the flag when it is dropped: the client has gone, or the time is over.
struct GiveUp(Cancel);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Does it, within the time, when it is its turn.
pub async fn run<T: Send + 'static>(
    site: &Arc<Site>,
    within: Duration,
    work: impl FnOnce(&dyn Source, &Options) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let deadline = Deadline::after(within);
    let turn = timeout(within, Arc::clone(&site.turns).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        return Err(ApiError::new(
            ErrorType::Timeout,
            format!("too many other queries are running; waited {within:?}"),
        ));
    };
    let cancel = Cancel::new();
    let _give_up = GiveUp(cancel.clone());
    let options = Options { timeout: Some(deadline.remaining()), cancel: Some(cancel), ..Options::default() };
    let source = Arc::clone(&site.source);
    let task = tokio::task::spawn_blocking(move || {
        // Held as long as the work goes on, even when nobody waits for it any more.
        let _turn = turn;
        work(source.as_ref(), &options)
    });
    match timeout(deadline.remaining(), task).await {
        Ok(Ok(done)) => done,
        Ok(Err(broken)) => Err(ApiError::new(ErrorType::Internal, broken.to_string())),
        Err(_) => Err(ApiError::new(ErrorType::Timeout, format!("the query took longer than {within:?}"))),
    }
}
