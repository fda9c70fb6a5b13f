//! What the handlers share.

use crate::access::Access;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the handlers share.
#[derive(Debug)]
pub struct Site {
    pub(crate) access: Access,
    ready: AtomicBool,
}

impl Site {
    /// A site that is not ready yet.
    pub fn new(access: Access) -> Self {
        Self { access, ready: AtomicBool::new(false) }
    }

    /// From now on `/-/ready` says so.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}
