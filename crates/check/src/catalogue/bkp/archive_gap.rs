use crate::rule::{Check, Look, RunsOn, Scope};
use surus_core::finding::Reason;

pub static CHECK: Check = Check {
    id: "bkp.archive_gap",
    title: "a WAL segment is missing in the archive",
    inspects: "the backup repository: the chain of WAL segments from the oldest backup to now, and their sizes",
    why: "Recovery stops at the first missing segment. All that was written after it is lost, however many later \
          segments there are.",
    remedy: "Take a new full backup at once: it makes the gap irrelevant for the time after it.",
    source: "check_pgactivity archive_folder",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Later(|| {
        Reason::Repository(
            "whether every segment arrived can only be seen in the backup repository, and surus knows of none".into(),
        )
    }),
};

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);
}
