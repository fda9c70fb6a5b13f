//! Is what is in the repository still what was written? What was verified is remembered.

use crate::{error::Result, repo::Cluster};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is remembered of a backup that was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedNote {
    /// When all of it was last found whole.
    pub at: Timestamp,
}

/// When all of a backup was last read and found whole.
///
/// # Errors
/// When the note cannot be read.
pub fn verified_at(cluster: &Cluster, label: &str) -> Result<Option<Timestamp>> {
    Ok(cluster.repo.note::<VerifiedNote>(&cluster.names.verified(label))?.map(|note| note.at))
}
