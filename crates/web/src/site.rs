//! What the handlers share.

use crate::{access::Access, drills::Drills, own::Adding, tally::Tally};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use surus_check::reports::Reports;
use surus_core::series::Source;
use surus_observe::{Observatory, remote_write::RemoteWrite};
use surus_store::samples::SampleStore;
use tokio::sync::Semaphore;

/// Questions that are worked on at one time; further ones wait for their turn.
const QUESTIONS: usize = 4;
/// Scrapes that are rendered at one time. They do not wait behind questions.
const SCRAPES: usize = 4;

/// What the handlers share.
pub struct Site {
    pub(crate) access: Access,
    pub(crate) observatory: Arc<Observatory>,
    pub(crate) remote_write: Arc<RemoteWrite>,
    pub(crate) store: Arc<SampleStore>,
    /// The newest report of each target.
    pub(crate) reports: Arc<Reports>,
    /// The file of the ledger.
    pub(crate) ledger: PathBuf,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) turns: Arc<Semaphore>,
    pub(crate) scrapes: Arc<Semaphore>,
    pub(crate) tally: Tally,
    pub(crate) adding: Adding,
    /// What runs restore drills, where something does.
    pub(crate) drills: Option<Arc<dyn Drills>>,
    ready: AtomicBool,
}

impl Site {
    /// A site that is not ready yet.
    pub fn new(
        access: Access,
        observatory: Arc<Observatory>,
        store: Arc<SampleStore>,
        remote_write: Arc<RemoteWrite>,
        reports: Arc<Reports>,
        ledger: PathBuf,
    ) -> Self {
        Self {
            access,
            observatory,
            remote_write,
            source: Arc::clone(&store) as Arc<dyn Source>,
            store,
            reports,
            ledger,
            turns: Arc::new(Semaphore::new(QUESTIONS)),
            scrapes: Arc::new(Semaphore::new(SCRAPES)),
            tally: Tally::default(),
            adding: Adding::default(),
            drills: None,
            ready: AtomicBool::new(false),
        }
    }

    /// With what runs restore drills.
    #[must_use]
    pub fn with_drills(mut self, drills: Arc<dyn Drills>) -> Self {
        self.drills = Some(drills);
        self
    }

    /// The newest report of each target.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// From now on `/-/ready` says so.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}
