//! Item 4: a backup that can be restored is there, and every WAL segment since.

use super::Experiment;
use surus_core::{
    clock,
    proof::{Outcome, Proof},
    protection::Protection,
};
use surus_pg::Session;

/// Hours within which a backup must have ended: a daily one, and two hours for it to run.
const WITHIN_H: f64 = 26.0;

/// Segments that may still be on their way into the archive.
const ON_THEIR_WAY: u64 = 3;

/// What the server says of its WAL.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sending {
    /// The segment that it writes now.
    pub writing: String,
    /// The last one that its archive command took.
    pub archived: Option<String>,
    /// Does anybody bring WAL away: an archive command, or `surus wal receive`?
    pub somewhere: bool,
}

/// Judges what the repository holds, and whether what the server sends arrives there. Where the server could not be
/// asked, nothing is proven.
pub(crate) fn prove(protection: &Protection, sending: Option<&Sending>, cluster: &str, subject: &str) -> Proof {
    let mut experiment = Experiment::begin("backup", 4);
    let mut good = true;
    match protection.newest() {
        Some(newest) => {
            let hours = clock::now().duration_since(newest.stopped_at).as_secs_f64() / 3600.0;
            good &= hours <= WITHIN_H;
            experiment.measure("age of the newest backup", hours, "h");
            experiment.step("newest backup", format!("{} ended {hours:.1} h ago", newest.label));
        }
        None => {
            good = false;
            experiment.step("newest backup", format!("{} holds none that can be restored", protection.repository));
        }
    }
    let missing: u64 = protection.gaps.iter().map(|gap| gap.segments).sum();
    good &= missing == 0;
    experiment.measure("missing segments", missing as f64, "segments");
    let continuous = match protection.gaps.first() {
        None => "no segment is missing".to_owned(),
        Some(gap) => format!("{missing} segments are missing, from {} on", gap.first),
    };
    experiment.step("WAL from the oldest backup on", continuous);
    let (arrives, text) = arrives(protection, sending);
    good &= arrives;
    experiment.step("WAL until now", text);
    let (outcome, word) =
        if good { (Outcome::Passed, "can be restored") } else { (Outcome::Failed, "is not protected") };
    let result = match protection.newest() {
        Some(newest) => format!("backup {} and every WAL segment since: the cluster {word}", newest.label),
        None => format!("the cluster {word}"),
    };
    experiment.step("verdict", result);
    experiment.end(outcome, cluster, subject)
}

/// Does what the server writes come into the repository?
fn arrives(protection: &Protection, sending: Option<&Sending>) -> (bool, String) {
    let Some(sending) = sending else { return (false, "the server does not say which segment it writes".into()) };
    if !sending.somewhere {
        return (false, "nobody brings WAL away: archive_mode is off, and no surus wal receive is connected".into());
    }
    let Some(newest) = protection.newest_segment.as_deref() else { return (false, "no segment is archived".into()) };
    let between = |to: &str| segments_between(newest, to, protection.segment_size);
    // An archive command that only says that it did its work is found out here.
    if let Some(lost) = sending.archived.as_deref().filter(|archived| between(archived) != Some(0)) {
        return (false, format!("the server says that {lost} is archived, and the repository ends with {newest}"));
    }
    let near = between(&sending.writing).is_some_and(|behind| behind <= ON_THEIR_WAY + 1);
    (near, format!("the server writes {}, {newest} is archived", sending.writing))
}

/// How many segments `to` is after `from`; none when they are of different timelines.
fn segments_between(from: &str, to: &str, size: u64) -> Option<u64> {
    let per_log = (1u64 << 32) / size.max(1);
    let part = |name: &str, range: std::ops::Range<usize>| u64::from_str_radix(name.get(range)?, 16).ok();
    let number = |name: &str| Some((part(name, 0..8)?, part(name, 8..16)? * per_log + part(name, 16..24)?));
    let ((one, before), (other, after)) = (number(from)?, number(to)?);
    (one == other).then(|| after.saturating_sub(before))
}

/// Asks a primary what it does with its WAL.
pub(crate) async fn sending(session: &Session) -> Option<Sending> {
    let sql = "SELECT pg_walfile_name(pg_current_wal_lsn()) AS writing, \
               (SELECT last_archived_wal FROM pg_stat_archiver \
                WHERE last_archived_wal ~ '^[0-9A-F]{24}$' AND current_setting('archive_mode') <> 'off') AS archived, \
               current_setting('archive_mode') <> 'off' \
               OR EXISTS (SELECT FROM pg_stat_replication WHERE application_name ~ '^surus') AS somewhere";
    let rows = session.ask(sql).await.ok()?;
    let row = rows.first().ok()?;
    let archived = row.opt_str("archived").ok()?.map(str::to_owned);
    Some(Sending { writing: row.text("writing").ok()?, archived, somewhere: row.bool("somewhere").ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::protection;
    use surus_core::protection::WalGap;

    #[test]
    fn only_a_fresh_backup_with_all_its_wal_is_a_proof() {
        let sending = |writing: &str, archived: Option<&str>| {
            let archived = archived.map(str::to_owned);
            Some(Sending { writing: writing.to_owned(), archived, somewhere: true })
        };
        let outcome = |protection: &Protection, sending: Option<Sending>| {
            prove(protection, sending.as_ref(), "1", "main").outcome
        };
        let (ten, nine) = ("00000001000000000000000A", "000000010000000000000009");
        let mut held = protection(&[(30, true), (2, false)]);
        held.newest_segment = Some(nine.into());
        assert_eq!(outcome(&held, sending(ten, Some(nine))), Outcome::Passed);
        assert_eq!(outcome(&held, sending(ten, None)), Outcome::Passed);
        // It was said to be archived, and is not here.
        assert_eq!(outcome(&held, sending("00000001000000000000000B", Some(ten))), Outcome::Failed);
        assert_eq!(outcome(&held, sending("00000001000000000000001A", None)), Outcome::Failed);
        assert_eq!(outcome(&held, sending("00000002000000000000000A", None)), Outcome::Failed);
        assert_eq!(outcome(&held, None), Outcome::Failed);
        let nobody = Sending { somewhere: false, ..sending(ten, None).unwrap() };
        assert_eq!(outcome(&held, Some(nobody)), Outcome::Failed);
        for backups in [&[(30, true)][..], &[]] {
            let old = Protection { newest_segment: Some(nine.into()), ..protection(backups) };
            assert_eq!(outcome(&old, sending(ten, None)), Outcome::Failed);
        }
        held.gaps.push(WalGap { first: "a".into(), last: "b".into(), segments: 2 });
        assert_eq!(outcome(&held, sending(ten, None)), Outcome::Failed);
    }
}
