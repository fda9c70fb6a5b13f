//! What has to be done from time to time: forgetting what is too old.

use rusqlite::params;

use super::{Maintained, SampleStore};
use crate::Result;

impl SampleStore {
    /// Does what has to be done from time to time, in bounded transactions, so that an append never waits long. To be
    /// called about once a minute.
    ///
    /// # Errors
    /// When the file could not be read or written; what was done before stays done.
    pub fn maintain(&self, now_ms: i64) -> Result<Maintained> {
        let before = now_ms.saturating_sub(i64::try_from(self.settings.keep.as_millis()).unwrap_or(i64::MAX));
        let mut writer = self.writer();
        let expired = self.writing(&mut writer, None, |transaction, _| {
            transaction
                .execute("DELETE FROM fresh WHERE at_ms < ?1", params![before])
                .map_err(|error| self.sqlite(error))
        })?;
        drop(writer);
        let file_bytes = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        Ok(Maintained { expired, file_bytes, ..Maintained::default() })
    }
}
