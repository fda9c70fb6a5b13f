//! What is known of PostgreSQL's releases: the newest minor of each major and the day its support ends.
//!
//! Source: the project's versioning policy page. A binary only knows what was out when it was built; [`KNOWN_ON`]
//! says when that was, and every finding made from this table says so too.

use crate::version::Version;
use jiff::civil::{Date, date};

/// One major's state.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    /// The major, e.g. 15.
    pub major: u16,
    /// The newest minor known to this build.
    pub newest_minor: u16,
    /// The day of the final minor release; no fixes after it.
    pub end_of_life: Date,
}

/// The day on which [`RELEASES`] was true.
pub const KNOWN_ON: Date = date(2026, 11, 21);

/// Every major that still matters. The minors are the newest that distributions ship on [`KNOWN_ON`].
pub const RELEASES: &[Release] = &[
    Release { major: 12, newest_minor: 22, end_of_life: date(2024, 11, 21) },
    Release { major: 13, newest_minor: 23, end_of_life: date(2025, 11, 13) },
    Release { major: 14, newest_minor: 23, end_of_life: date(2026, 11, 12) },
    Release { major: 15, newest_minor: 20, end_of_life: date(2027, 11, 11) },
    Release { major: 16, newest_minor: 14, end_of_life: date(2028, 11, 9) },
    Release { major: 17, newest_minor: 10, end_of_life: date(2029, 11, 8) },
    Release { major: 18, newest_minor: 4, end_of_life: date(2030, 11, 14) },
];

/// The entry for a server's major, if this build knows it.
pub fn of(version: Version) -> Option<&'static Release> {
    RELEASES.iter().find(|release| release.major == version.major())
}
