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

/// Judges what the repository holds. `writing` is the segment that the server writes now, where that is known: then the
/// archive must have come close to it.
pub(crate) fn prove(protection: &Protection, writing: Option<&str>, cluster: &str, subject: &str) -> Proof {
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
    if let (Some(writing), Some(archived)) = (writing, protection.newest_segment.as_deref()) {
        let behind = segments_between(archived, writing, protection.segment_size);
        good &= behind.is_some_and(|behind| behind <= ON_THEIR_WAY + 1);
        let text = format!("the server writes {writing}, {archived} is archived");
        experiment.step("WAL until now", text);
    }
    let (outcome, word) =
        if good { (Outcome::Passed, "can be restored") } else { (Outcome::Failed, "is not protected") };
    let result = match protection.newest() {
        Some(newest) => format!("backup {} and every WAL segment since: the cluster {word}", newest.label),
        None => format!("the cluster {word}"),
    };
    experiment.step("verdict", result);
    experiment.end(outcome, cluster, subject)
}

/// How many segments `to` is after `from`; none when they are of different timelines.
fn segments_between(from: &str, to: &str, size: u64) -> Option<u64> {
    let per_log = (1u64 << 32) / size.max(1);
    let part = |name: &str, range: std::ops::Range<usize>| u64::from_str_radix(name.get(range)?, 16).ok();
    let number = |name: &str| Some((part(name, 0..8)?, part(name, 8..16)? * per_log + part(name, 16..24)?));
    let ((one, before), (other, after)) = (number(from)?, number(to)?);
    (one == other).then(|| after.saturating_sub(before))
}

/// The segment that a primary writes now.
pub(crate) async fn writing(session: &Session) -> Option<String> {
    let rows = session.ask("SELECT pg_walfile_name(pg_current_wal_lsn()) AS segment").await.ok()?;
    rows.first().ok()?.text("segment").ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::protection;
    use surus_core::protection::WalGap;

    #[test]
    fn only_a_fresh_backup_with_all_its_wal_is_a_proof() {
        let outcome = |protection: &Protection, writing| prove(protection, writing, "1", "main").outcome;
        let mut held = protection(&[(30, true), (2, false)]);
        assert_eq!(outcome(&held, None), Outcome::Passed);
        assert_eq!(outcome(&protection(&[(30, true)]), None), Outcome::Failed);
        assert_eq!(outcome(&protection(&[]), None), Outcome::Failed);
        held.newest_segment = Some("000000010000000000000009".into());
        assert_eq!(outcome(&held, Some("00000001000000000000000A")), Outcome::Passed);
        assert_eq!(outcome(&held, Some("00000001000000000000001A")), Outcome::Failed);
        assert_eq!(outcome(&held, Some("00000002000000000000000A")), Outcome::Failed);
        held.newest_segment = None;
        held.gaps.push(WalGap { first: "a".into(), last: "b".into(), segments: 2 });
        assert_eq!(outcome(&held, None), Outcome::Failed);
    }
}
