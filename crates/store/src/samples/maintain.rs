//! What has to be done from time to time.

use std::sync::PoisonError;

use super::{Maintained, SampleStore};
use crate::Result;

impl SampleStore {
    /// Folds what is old enough, makes aggregates, forgets what is too old or too much, and brings everything to the
    /// disk: in bounded transactions, so that an append never waits long. To be called about once a minute.
    ///
    /// # Errors
    /// When the file could not be read or written; what was done before stays done.
    pub fn maintain(&self, now_ms: i64) -> Result<Maintained> {
        let _one_at_a_time = self.maintaining.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = Maintained::default();
        // Also what an interrupted call has left.
        self.sweep()?;
        // On a full disk this fails, and the rest must be done all the more.
        let regrouped = self
            .fold(now_ms, &mut done)
            .and_then(|()| self.fold_records(now_ms))
            .and_then(|()| self.aggregate(now_ms, &mut done));
        self.expire_by_time(now_ms, &mut done)?;
        self.expire_by_size(&mut done)?;
        self.forget_series(&mut done)?;
        self.shrink()?;
        self.checkpoint()?;
        done.file_bytes = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        regrouped.map(|()| done)
    }
}
