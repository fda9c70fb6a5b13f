//! Which backup a restore begins with, which WAL leads to the target, and whether all of it is there. Pure: it
//! judges what the repository was read to say, before anything is touched.

use super::target::{Goal, RecoveryTarget, TimelineChoice};
use crate::{
    manifest::About,
    wal::{name::Segment, timeline::History},
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;
use surus_core::{
    code::{self, Code},
    lsn::Lsn,
};

/// How far the clocks of the server and of the repository's place may differ before a moment counts as not archived.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(60);

/// What the repository knows of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Complete backups.
    pub backups: Vec<About>,
    /// Of timelines that have a history file.
    pub histories: BTreeMap<u32, History>,
    /// Whole segments, and when each was written there, in milliseconds since 1970.
    pub segments: BTreeMap<Segment, i64>,
    /// The last segments of timelines that ended, as far as they were written, and when, likewise.
    pub partials: BTreeMap<Segment, i64>,
}

/// What to restore, and the WAL that leads to the target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    pub backup: String,
    pub timeline: u32,
    /// The first and the last segment that recovery needs as far as that is known, and how many there are.
    pub first_segment: String,
    pub last_segment: String,
    pub segments: u64,
    /// The archive has no history of the timeline, which is the backup's own: a server cannot be told its number.
    #[serde(skip)]
    pub without_history: bool,
    /// Of the last segment only the part is there with which its timeline ended.
    pub partial: bool,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Why the target cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    pub code: Code,
    pub text: String,
}

fn refuse<T>(text: String) -> Result<T, Unreachable> {
    Err(Unreachable { code: code::RESTORE_TARGET, text })
}

/// Chooses the backup and verifies that its WAL leads to the target. `label` is the user's own choice of a backup.
///
/// # Errors
/// When no backup leads there, or WAL is missing on the way; the text says which moments can be reached.
pub fn choose(
    known: &Known,
    target: &RecoveryTarget,
    label: Option<&str>,
    now: Timestamp,
) -> Result<Choice, Unreachable> {
    if let Goal::Time(time) = target.goal
        && time > now
    {
        return refuse(format!("{time} is in the future; without --time everything that is archived is restored"));
    }
    if known.backups.is_empty() {
        return refuse("the repository holds no backup of this cluster".into());
    }
    if let Some(label) = label
        && !known.backups.iter().any(|backup| backup.label == label)
    {
        let text = format!("there is no backup {label} in the repository");
        return Err(Unreachable { code: code::BACKUP_UNKNOWN, text });
    }
    let mut notes = Vec::new();
    let history = history_for(known, target, label, &mut notes)?;
    let backup = backup_for(known, target, label, history.as_ref(), &mut notes)?;
    let history = history.unwrap_or_else(|| history_of(known, backup.timeline));
    let (first, last, segments) = way(known, target, backup, &history)?;
    let partial = !is_there(known, &history, last);
    if partial {
        notes.push(format!("of {last} the part is used with which its timeline ended"));
    }
    Ok(Choice {
        backup: backup.label.clone(),
        timeline: history.timeline,
        first_segment: first.to_string(),
        last_segment: last.to_string(),
        segments,
        partial,
        without_history: history.timeline > 1 && !known.histories.contains_key(&history.timeline),
        notes,
    })
}

fn history_of(known: &Known, timeline: u32) -> History {
    known.histories.get(&timeline).cloned().unwrap_or_else(|| History::of_first(timeline))
}

/// The history to follow; `None` when it is that of whichever backup is chosen.
fn history_for(
    known: &Known,
    target: &RecoveryTarget,
    label: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Option<History>, Unreachable> {
    let mut all: Vec<u32> = known.histories.keys().copied().collect();
    all.extend(known.backups.iter().map(|backup| backup.timeline));
    all.extend(known.segments.keys().map(|segment| segment.timeline));
    all.sort_unstable();
    all.dedup();
    match target.timeline {
        TimelineChoice::Current => Ok(None),
        TimelineChoice::Number(number) if all.contains(&number) => Ok(Some(history_of(known, number))),
        TimelineChoice::Number(number) => {
            let all = all.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
            refuse(format!("the archive knows nothing of timeline {number}; it has {all}"))
        }
        TimelineChoice::Latest => {
            let wanted = |backup: &&About| label.is_none_or(|label| backup.label == label);
            let leads = |history: &History| {
                known.backups.iter().filter(wanted).any(|backup| history.passes(backup.timeline, backup.stop_lsn))
            };
            let newest = all.last().copied().unwrap_or(1);
            let found = all.iter().rev().map(|timeline| history_of(known, *timeline)).find(leads);
            if let Some(found) = found.as_ref().filter(|found| found.timeline != newest) {
                notes.push(format!(
                    "timeline {newest} is newer, but no such backup leads to it; timeline {} is followed",
                    found.timeline
                ));
            }
            Ok(found)
        }
    }
}

/// The newest backup from which the target can be reached.
fn backup_for<'a>(
    known: &'a Known,
    target: &RecoveryTarget,
    label: Option<&str>,
    history: Option<&History>,
    notes: &mut Vec<String>,
) -> Result<&'a About, Unreachable> {
    let leads = |backup: &&About| history.is_none_or(|history| history.passes(backup.timeline, backup.stop_lsn));
    let wanted = |backup: &&About| label.is_none_or(|label| backup.label == label);
    let candidates: Vec<&About> = known.backups.iter().filter(leads).filter(wanted).collect();
    let found = candidates.iter().copied().filter(|backup| is_before(backup, &target.goal));
    if let Some(backup) = found.max_by_key(|backup| (backup.stop_lsn, backup.timeline)) {
        match (&target.goal, backup.next_xid) {
            (Goal::Xid(_), None) => notes.push(format!(
                "whether the transaction ended after backup {} is not known: recovery decides; if it says that the \
                 target was not reached, give an older backup with --backup",
                backup.label
            )),
            (Goal::Name(_), _) => notes.push(format!(
                "whether the restore point was made after backup {} is not known: recovery decides; if it says that \
                 the target was not reached, give an older backup with --backup",
                backup.label
            )),
            _ => {}
        }
        return Ok(backup);
    }
    let timeline = history.map_or_else(String::new, |history| format!(" on the way to timeline {}", history.timeline));
    let Some(oldest) = candidates.iter().min_by_key(|backup| backup.stop_lsn) else {
        let whose = label.map_or("no backup was".into(), |label| format!("backup {label} was not"));
        return refuse(format!("{whose} taken{timeline}"));
    };
    let which = label.map_or("no backup".into(), |label| format!("backup {label} not"));
    refuse(format!(
        "{which} ended before {}{timeline}; the first moment that can be reached is {} (LSN {}), with backup {}",
        target.goal, oldest.stopped_at, oldest.stop_lsn, oldest.label
    ))
}

/// Is the backup consistent before the target? Where that is not known, the answer is yes.
fn is_before(backup: &About, goal: &Goal) -> bool {
    match goal {
        Goal::Latest | Goal::Immediate | Goal::Name(_) => true,
        Goal::Time(time) => backup.stopped_at <= *time,
        Goal::Lsn(lsn) => backup.stop_lsn <= *lsn,
        Goal::Xid(xid) => backup.next_xid.is_none_or(|next| began_after(*xid, next)),
    }
}

/// Was `xid` not yet given out when `next` was the next one? Of 32 bits only, they are compared as PostgreSQL does:
/// within two thousand million of each other.
fn began_after(xid: u64, next: u64) -> bool {
    if xid > u64::from(u32::MAX) {
        return xid >= next;
    }
    (xid as u32).wrapping_sub(next as u32).cast_signed() >= 0
}

/// The first and last segment that are needed, and how many; all of them are there.
fn way(
    known: &Known,
    target: &RecoveryTarget,
    backup: &About,
    history: &History,
) -> Result<(Segment, Segment, u64), Unreachable> {
    let size = backup.segment_size;
    let whole_to = archived_end(known, history, size);
    // The part that its timeline ended with comes after all that is whole.
    let part = Segment::at(history.timeline, whole_to, size);
    let part = known.partials.contains_key(&part).then_some(part);
    let end = part.map_or(whole_to, Segment::end);
    let is_there = |segment: Segment| Some(segment) == part || is_there(known, history, segment);
    let to = match target.goal {
        Goal::Immediate => backup.stop_lsn,
        // The record that begins there must be read.
        Goal::Lsn(lsn) => Lsn(lsn.0 + 1).max(backup.stop_lsn),
        Goal::Latest | Goal::Xid(_) | Goal::Name(_) => end.max(backup.stop_lsn),
        Goal::Time(time) => time_is_archived(known, history, time, end, size)
            .map(|()| latest_of(known, history, time).map_or(end, |lsn| lsn.min(end)).max(backup.stop_lsn))?,
    };
    let mut needed = history.segments(backup.start_lsn, to, size);
    let (mut first, mut last, mut count) = (None, Segment::at(history.timeline, backup.start_lsn, size), 0u64);
    for segment in needed.by_ref() {
        if !is_there(segment) {
            let missing = 1 + needed.filter(|other| !is_there(*other)).count();
            return refuse(gap_text(known, target, backup, segment, missing, end));
        }
        first.get_or_insert(segment);
        (last, count) = (segment, count + 1);
    }
    Ok((first.unwrap_or(last), last, count))
}

/// Where a timeline changes within a segment, the newer one's file holds what the older one's does.
fn is_there(known: &Known, history: &History, segment: Segment) -> bool {
    let copy = |switch: u32| switch > segment.timeline && known.segments.contains_key(&segment.on(switch));
    known.segments.contains_key(&segment)
        || history.stretches().iter().any(|one| one.from.0 / segment.size == segment.number && copy(one.timeline))
}

/// The end of the newest segment on the way that is archived.
fn archived_end(known: &Known, history: &History, size: u64) -> Lsn {
    let newest = |timeline: u32, to: Option<Lsn>| {
        let below = Segment { timeline, number: to.map_or(u64::MAX, |to| to.0.div_ceil(size)), size };
        let first = Segment { timeline, number: 0, size: 0 };
        known.segments.range(first..below).next_back().map(|(segment, _)| segment.end())
    };
    history.stretches().iter().filter_map(|one| newest(one.timeline, one.to)).max().unwrap_or(Lsn(0))
}

/// A server that is to stop at a time, and comes to the end of WAL before it has seen a later transaction, gives up.
fn time_is_archived(known: &Known, history: &History, time: Timestamp, end: Lsn, size: u64) -> Result<(), Unreachable> {
    let last = Segment::ending_at(history.timeline_at(Lsn(end.0.saturating_sub(1))), end, size);
    let written = known.segments.get(&last).or_else(|| known.partials.get(&last));
    let written = written.and_then(|ms| Timestamp::from_millisecond(*ms).ok());
    match written.filter(|written| *written + CLOCKS_DIFFER < time) {
        Some(written) => refuse(format!(
            "no WAL of {time} is in the archive: its newest on this timeline, {last}, came at {written}; without --time \
             everything that is archived is restored"
        )),
        None => Ok(()),
    }
}

/// A position that the moment lies before, for sure: the start of the first backup that was begun after it.
fn latest_of(known: &Known, history: &History, time: Timestamp) -> Option<Lsn> {
    let after = known.backups.iter().filter(|one| one.started_at > time && history.passes(one.timeline, one.stop_lsn));
    after.map(|one| one.stop_lsn).min()
}

fn gap_text(known: &Known, target: &RecoveryTarget, backup: &About, gap: Segment, missing: usize, end: Lsn) -> String {
    let others = if missing > 1 { format!(" and {} more", missing - 1) } else { String::new() };
    let at_end = if gap.start() >= end { "is not in the archive yet" } else { "is missing in the archive" };
    let mut text = format!("{gap}{others} {at_end}, and {} cannot be reached without it", target.goal);
    if gap.start() > backup.stop_lsn {
        let (label, from, to) = (&backup.label, backup.stop_lsn, gap.start());
        text += &format!("; with backup {label}, LSN {from} ({}) to {to} can be reached", backup.stopped_at);
    } else {
        text += &format!("; backup {} cannot be made consistent without it", backup.label);
    }
    let later = known.backups.iter().filter(|one| one.start_lsn >= gap.end());
    if let Some(later) = later.min_by_key(|one| one.stop_lsn) {
        text += &format!(", and moments from {} on with backup {}", later.stopped_at, later.label);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::example;
    use proptest::prelude::*;

    const SIZE: u64 = 1 << 20;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    /// A backup of the given segment, at ten seconds for each segment.
    fn backup(label: &str, timeline: u32, segment: u64) -> About {
        let about = example(label).about;
        let moment = 10 * segment as i64;
        About {
            timeline,
            start_lsn: Lsn(segment * SIZE + 40),
            stop_lsn: Lsn(segment * SIZE + 1000),
            started_at: at(moment + 1),
            stopped_at: at(moment + 2),
            segment_size: SIZE,
            next_xid: Some(1000 * segment),
            ..about
        }
    }

    fn known(backups: Vec<About>, histories: Vec<History>, segments: &[(u32, u64)]) -> Known {
        let named = |&(timeline, number): &(u32, u64)| {
            (Segment { timeline, number, size: SIZE }, at(10 * number as i64 + 10).as_millisecond())
        };
        Known {
            backups,
            histories: histories.into_iter().map(|history| (history.timeline, history)).collect(),
            segments: segments.iter().map(named).collect(),
            partials: BTreeMap::new(),
        }
    }

    fn to(goal: Goal) -> RecoveryTarget {
        RecoveryTarget { goal, ..RecoveryTarget::default() }
    }

    fn line(timeline: u32, segments: std::ops::Range<u64>) -> Vec<(u32, u64)> {
        segments.map(|number| (timeline, number)).collect()
    }

    #[test]
    fn the_newest_backup_before_the_target_is_chosen() {
        let known = known(vec![backup("a", 1, 2), backup("b", 1, 10)], vec![], &line(1, 0..20));
        let label = |goal| choose(&known, &to(goal), None, at(1000)).map(|choice| choice.backup);
        assert_eq!(label(Goal::Latest).unwrap(), "b");
        assert_eq!(label(Goal::Time(at(102))).unwrap(), "b");
        assert_eq!(label(Goal::Time(at(101))).unwrap(), "a");
        assert_eq!(label(Goal::Lsn(Lsn(10 * SIZE + 999))).unwrap(), "a");
        assert_eq!(label(Goal::Xid(9_999)).unwrap(), "a");
        assert_eq!(label(Goal::Xid(10_000)).unwrap(), "b");
        let early = label(Goal::Time(at(21))).unwrap_err();
        assert!(early.text.contains("the first moment that can be reached is 2023-11-14T22:13:42Z"), "{}", early.text);
        assert_eq!(label(Goal::Time(at(1001))).unwrap_err().code, code::RESTORE_TARGET);
        let late = label(Goal::Time(at(300))).unwrap_err();
        assert!(late.text.contains("no WAL of"), "{}", late.text);
        let choice = choose(&known, &to(Goal::Lsn(Lsn(12 * SIZE))), None, at(1000)).unwrap();
        assert_eq!((choice.segments, choice.last_segment.as_str()), (3, "00000001000000000000000C"));
        let unknown = choose(&known, &to(Goal::Latest), Some("z"), at(1000)).unwrap_err();
        assert_eq!(unknown.code, code::BACKUP_UNKNOWN);
    }

    #[test]
    fn timelines_are_followed() {
        let history = History::parse(2, &format!("1\t{}\tx\n", Lsn(8 * SIZE + 500))).unwrap();
        let segments = [line(1, 0..15), line(2, 8..20)].concat();
        let known = known(vec![backup("a", 1, 2), backup("b", 1, 10), backup("c", 2, 12)], vec![history], &segments);
        let with = |goal, timeline| {
            let target = RecoveryTarget { timeline, ..to(goal) };
            choose(&known, &target, None, at(1000)).map(|choice| (choice.backup, choice.timeline))
        };
        assert_eq!(with(Goal::Latest, TimelineChoice::Latest).unwrap(), ("c".into(), 2));
        assert_eq!(with(Goal::Time(at(110)), TimelineChoice::Latest).unwrap(), ("a".into(), 2));
        assert_eq!(with(Goal::Time(at(110)), TimelineChoice::Number(1)).unwrap(), ("b".into(), 1));
        assert_eq!(with(Goal::Latest, TimelineChoice::Current).unwrap(), ("c".into(), 2));
        let absent = with(Goal::Latest, TimelineChoice::Number(3)).unwrap_err();
        assert!(absent.text.contains("it has 1, 2"), "{}", absent.text);
        let elsewhere = choose(&known, &to(Goal::Latest), Some("b"), at(1000)).unwrap();
        assert_eq!((elsewhere.timeline, elsewhere.notes.len()), (1, 1));
    }

    #[test]
    fn a_timeline_whose_history_nobody_archived_is_named_so() {
        let backups = vec![backup("a", 1, 2), backup("c", 2, 12)];
        let segments = [line(1, 0..9), line(2, 8..20)].concat();
        let without = known(backups.clone(), vec![], &segments);
        let choice = choose(&without, &to(Goal::Latest), None, at(1000)).unwrap();
        assert_eq!((choice.backup.as_str(), choice.timeline, choice.without_history), ("c", 2, true));
        let history = History::parse(2, &format!("1\t{}\tx\n", Lsn(8 * SIZE + 500))).unwrap();
        let with = known(backups, vec![history], &segments);
        assert!(!choose(&with, &to(Goal::Latest), None, at(1000)).unwrap().without_history);
    }

    #[test]
    fn the_first_gap_is_named_with_what_can_be_reached() {
        let segments: Vec<_> = line(1, 0..20).into_iter().filter(|(_, number)| ![5, 7].contains(number)).collect();
        let known = known(vec![backup("a", 1, 2), backup("b", 1, 10)], vec![], &segments);
        let gap = choose(&known, &to(Goal::Latest), Some("a"), at(1000)).unwrap_err().text;
        assert!(gap.contains("000000010000000000000005 and 1 more is missing"), "{gap}");
        assert!(gap.contains("to 0/500000 can be reached") && gap.contains("with backup b"), "{gap}");
        assert!(choose(&known, &to(Goal::Lsn(Lsn(5 * SIZE - 1))), Some("a"), at(1000)).is_ok());
        assert!(choose(&known, &to(Goal::Latest), None, at(1000)).is_ok());
    }

    #[test]
    fn the_part_that_a_timeline_ended_with_is_the_last_step() {
        let mut known = known(vec![backup("a", 1, 2)], vec![], &line(1, 0..10));
        let choice = |known: &Known, goal| choose(known, &to(goal), None, at(1000));
        let inside = Goal::Lsn(Lsn(10 * SIZE + 77));
        assert!(choice(&known, inside.clone()).is_err());
        known.partials.insert(Segment { timeline: 1, number: 10, size: SIZE }, at(110).as_millisecond());
        let latest = choice(&known, Goal::Latest).unwrap();
        assert_eq!((latest.partial, latest.last_segment.as_str()), (true, "00000001000000000000000A"));
        assert!(choice(&known, inside).unwrap().partial);
        assert!(!choice(&known, Goal::Lsn(Lsn(9 * SIZE))).unwrap().partial);
        // One in the middle, or beyond a gap, leads nowhere.
        known.segments.extend([(Segment { timeline: 1, number: 11, size: SIZE }, 0)]);
        assert!(choice(&known, Goal::Latest).is_err());
    }

    #[test]
    fn transactions_are_compared_as_postgresql_does() {
        assert!(began_after(5, u64::from(u32::MAX) - 5));
        assert!(!began_after(u64::from(u32::MAX) - 5, (1 << 32) + 5));
        assert!(began_after((1 << 32) + 5, (1 << 32) + 5) && !began_after((1 << 32) + 4, (1 << 32) + 5));
    }

    proptest! {
        /// What is said to be reachable has all its segments; what is refused lacks one, or a backup.
        #[test]
        fn a_plan_is_made_exactly_when_nothing_is_missing(
            removed in prop::collection::btree_set(0u64..30, 0..4), switch in 3u64..28, inside in 1u64..SIZE,
            goal in 0u64..31 * SIZE,
        ) {
            let switch_at = Lsn(switch * SIZE + inside);
            let history = History::parse(2, &format!("1\t{switch_at}\tx\n")).unwrap();
            let mut segments = [line(1, 0..switch + 1), line(2, switch..30)].concat();
            segments.retain(|(_, number)| !removed.contains(number));
            let known = known(vec![backup("a", 1, 2)], vec![history], &segments);
            let chosen = choose(&known, &to(Goal::Lsn(Lsn(goal))), None, at(1000));
            let whole = (2..=goal / SIZE).all(|number| number < 30 && !removed.contains(&number));
            prop_assert_eq!(chosen.is_ok(), whole && goal >= 2 * SIZE + 1000);
        }
    }
}
