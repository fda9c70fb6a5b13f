//! Relations whose bloat can be estimated, and a line for those where it cannot.

use crate::{subject::user_objects::listed, verdict::Verdict};
use surus_core::finding::Reason;
pub(crate) use surus_pg::bloat::{Measured, btrees_sql, read, tables_sql};

/// Adds those that could not be estimated to a verdict: one line, however many they are.
pub(crate) fn with_doubts(verdict: Verdict, all: &[Measured]) -> Verdict {
    let doubtful: Vec<(String, Reason)> = all.iter().filter_map(|one| Some((one.qualified(), one.doubt()?))).collect();
    let names: Vec<String> = doubtful.iter().take(SHOWN).map(|(name, _)| name.clone()).collect();
    let reason = match &doubtful[..] {
        [] => return verdict,
        [(_, reason)] => reason.clone(),
        several => Reason::Statistics(format!("{} of them have no or old statistics: run ANALYZE", several.len())),
    };
    verdict.but_unknown(listed(&names, doubtful.len() as i64, SHOWN), reason)
}

/// How many names a line carries.
const SHOWN: usize = 3;
