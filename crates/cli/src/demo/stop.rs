//! Ending early: an interrupt, a termination or a closed terminal, seen at every phase.

use crate::failure::Failure;
use std::future::Future;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Why the demo does not go on.
#[derive(Debug)]
pub enum Ended {
    /// Somebody asked for it.
    Asked,
    Failed(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Knows whether somebody asked to stop.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Catches SIGINT, SIGTERM and SIGHUP from now on; a second one does nothing, so that cleaning up is not cut off.
    pub fn listen() -> Result<Self, Failure> {
        let (sender, receiver) = watch::channel(false);
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut stream = signal(kind).map_err(|error| Failure::bug(format!("signals: {error}")))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    sender.send_replace(true);
                }
            });
        }
        Ok(Self(receiver))
    }

    /// Did somebody ask to stop?
    pub fn asked(&self) -> bool {
        *self.0.borrow()
    }

    /// For between two steps.
    pub fn check(&self) -> Result<(), Ended> {
        if self.asked() { Err(Ended::Asked) } else { Ok(()) }
    }

    /// Waits until somebody asks to stop.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|asked| *asked).await.is_err() {
            // The senders live as long as the process; without them nothing can be waited for.
            std::future::pending::<()>().await;
        }
    }

    /// The future's outcome, unless somebody asks to stop before.
    pub async fn or<T, E: Into<Failure>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Ended> {
        tokio::select! {
            () = self.wait() => Err(Ended::Asked),
            outcome = work => outcome.map_err(|error| Ended::Failed(error.into())),
        }
    }
}
