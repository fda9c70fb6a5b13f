//! Which WAL is missing: found from the names in the archive, the timelines' histories, the backups and the holes.
//!
//! A segment is missing when the way to some timeline's end has one before it and one after it, or when a backup cannot
//! be made consistent without it. The archive's own beginning and end are no gaps.

use super::{
    name::Segment,
    timeline::{History, Stretch},
};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use surus_core::lsn::Lsn;

/// WAL without which a backup is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSpan {
    pub label: String,
    pub timeline: u32,
    pub start: Lsn,
    pub stop: Lsn,
}

/// What is known, all of one cluster.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Whole segments of the archive, in any order.
    pub segments: Vec<Segment>,
    /// Histories of timelines that have one.
    pub histories: Vec<History>,
    pub backups: Vec<BackupSpan>,
    /// Segments that were given up.
    pub holes: Vec<Segment>,
    /// The number of the segment before which a retention has let WAL go: only what a backup needs is missing there.
    pub let_go_before: u64,
}

/// Consecutive segments of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Range {
    #[serde(serialize_with = "as_name")]
    pub first: Segment,
    #[serde(serialize_with = "as_name")]
    pub last: Segment,
}

impl Range {
    /// How many segments.
    pub fn count(self) -> u64 {
        self.last.number - self.first.number + 1
    }

    /// Without what is before this number.
    fn from(self, number: u64) -> Option<Range> {
        let first = Segment { number: self.first.number.max(number), ..self.first };
        (first.number <= self.last.number).then_some(Range { first, ..self })
    }

    fn touches(self, other: Range) -> bool {
        self.first.timeline == other.first.timeline
            && self.first.number <= other.last.number
            && other.first.number <= self.last.number
    }
}

/// Segments that are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    #[serde(flatten)]
    pub range: Range,
    pub count: u64,
    /// Some of them were given up by `surus wal push --queue-max`.
    pub given_up: bool,
    /// Backups that cannot be restored for want of them.
    pub breaks: Vec<String>,
}

/// A timeline's WAL in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineWal {
    pub timeline: u32,
    /// The timeline that it began from, and where.
    pub parent: Option<u32>,
    pub switched_at: Option<Lsn>,
    #[serde(serialize_with = "as_names")]
    pub first: Option<Segment>,
    #[serde(serialize_with = "as_names")]
    pub last: Option<Segment>,
    pub count: u64,
    pub gaps: Vec<Gap>,
}

fn as_name<S: Serializer>(segment: &Segment, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(segment)
}

fn as_names<S: Serializer>(segment: &Option<Segment>, s: S) -> Result<S::Ok, S::Error> {
    match segment {
        Some(segment) => s.collect_str(segment),
        None => s.serialize_none(),
    }
}

/// Runs of consecutive numbers, sorted: `(first, last)`.
type Runs = Vec<(u64, u64)>;

/// Looks at every timeline that has WAL, a history, a backup or a hole; the oldest first.
pub fn look(known: &Known) -> Vec<TimelineWal> {
    let runs = runs_by_timeline(&known.segments);
    let size = known.segments.first().or(known.holes.first()).map_or(16 << 20, |segment| segment.size);
    let mut histories: BTreeMap<u32, History> =
        known.histories.iter().map(|history| (history.timeline, history.clone())).collect();
    let others = runs.keys().copied();
    let others = others.chain(known.backups.iter().map(|one| one.timeline));
    for timeline in others.chain(known.holes.iter().map(|hole| hole.timeline)) {
        histories.entry(timeline).or_insert_with(|| History::of_first(timeline));
    }
    let mut missing: Vec<Range> = Vec::new();
    for history in histories.values() {
        let between = missing_on_the_way(history, &runs, size).into_iter();
        missing.extend(between.filter_map(|range| range.from(known.let_go_before)));
    }
    for backup in &known.backups {
        missing.extend(missing_for(backup, &runs, size));
    }
    missing.extend(
        known.holes.iter().filter(|hole| !holds(&runs, **hole)).map(|hole| Range { first: *hole, last: *hole }),
    );
    let missing = joined(missing);
    histories.values().map(|history| of_timeline(history, &runs, &missing, known, size)).collect()
}

fn of_timeline(
    history: &History,
    runs: &BTreeMap<u32, Runs>,
    missing: &[Range],
    known: &Known,
    size: u64,
) -> TimelineWal {
    let timeline = history.timeline;
    let own = runs.get(&timeline).map_or(&[][..], Vec::as_slice);
    let named = |number| Segment { timeline, number, size };
    let gaps = missing.iter().filter(|range| range.first.timeline == timeline).map(|range| gap(*range, known, runs));
    TimelineWal {
        timeline,
        parent: history.parent().map(|switch| switch.timeline),
        switched_at: history.parent().map(|switch| switch.at),
        first: own.first().map(|run| named(run.0)),
        last: own.last().map(|run| named(run.1)),
        count: own.iter().map(|run| run.1 - run.0 + 1).sum(),
        gaps: gaps.collect(),
    }
}

fn gap(range: Range, known: &Known, runs: &BTreeMap<u32, Runs>) -> Gap {
    let hit = |other: Range| range.touches(other);
    let given_up = known.holes.iter().any(|hole| hit(Range { first: *hole, last: *hole }));
    let broken = known.backups.iter().filter(|backup| missing_for(backup, runs, range.first.size).into_iter().any(hit));
    Gap { range, count: range.count(), given_up, breaks: broken.map(|backup| backup.label.clone()).collect() }
}

fn runs_by_timeline(segments: &[Segment]) -> BTreeMap<u32, Runs> {
    let mut sorted: Vec<_> = segments.iter().map(|segment| (segment.timeline, segment.number)).collect();
    sorted.sort_unstable();
    let mut runs: BTreeMap<u32, Runs> = BTreeMap::new();
    for (timeline, number) in sorted {
        let own = runs.entry(timeline).or_default();
        match own.last_mut() {
            Some(last) if number <= last.1 + 1 => last.1 = number,
            _ => own.push((number, number)),
        }
    }
    runs
}

fn holds(runs: &BTreeMap<u32, Runs>, segment: Segment) -> bool {
    let own = runs.get(&segment.timeline).map_or(&[][..], Vec::as_slice);
    own.iter().any(|run| run.0 <= segment.number && segment.number <= run.1)
}

/// The numbers whose files are those of this stretch's timeline: a segment in which the timeline changes belongs to the
/// newer one.
fn numbers(stretch: &Stretch, size: u64) -> (u64, u64) {
    (stretch.from.0 / size, stretch.to.map_or(u64::MAX, |to| to.0 / size))
}

/// What is missing between the first and the last segment that are there on the way to a timeline's end.
fn missing_on_the_way(history: &History, runs: &BTreeMap<u32, Runs>, size: u64) -> Vec<Range> {
    let stretches = history.stretches();
    let mut there: Runs = Vec::new();
    for stretch in &stretches {
        let (from, to) = numbers(stretch, size);
        let own = runs.get(&stretch.timeline).map_or(&[][..], Vec::as_slice);
        let inside = own.iter().filter(|run| run.1 >= from && run.0 < to);
        there.extend(inside.map(|run| (run.0.max(from), run.1.min(to.saturating_sub(1)))));
    }
    let between = there.windows(2).filter(|two| two[0].1 + 1 < two[1].0).map(|two| (two[0].1 + 1, two[1].0 - 1));
    between.flat_map(|(first, last)| cut(&stretches, first, last, size)).collect()
}

/// What is missing of a backup's own WAL.
fn missing_for(backup: &BackupSpan, runs: &BTreeMap<u32, Runs>, size: u64) -> Vec<Range> {
    let first = Segment::at(backup.timeline, backup.start, size).number;
    let last = Segment::ending_at(backup.timeline, backup.stop, size).number;
    let own = runs.get(&backup.timeline).map_or(&[][..], Vec::as_slice);
    let mut next = first;
    let mut missing = Vec::new();
    let mut put = |from: u64, to: u64| {
        if from <= to {
            let named = |number| Segment { timeline: backup.timeline, number, size };
            missing.push(Range { first: named(from), last: named(to) });
        }
    };
    for run in own.iter().filter(|run| run.1 >= first && run.0 <= last) {
        if run.0 > next {
            put(next, run.0 - 1);
        }
        next = run.1 + 1;
    }
    put(next, last);
    missing
}

/// Numbers as ranges of the timelines that they are of.
fn cut(stretches: &[Stretch], first: u64, last: u64, size: u64) -> Vec<Range> {
    let parts = stretches.iter().filter_map(|stretch| {
        let (from, to) = numbers(stretch, size);
        let (from, to) = (first.max(from), last.min(to.saturating_sub(1)));
        let named = |number| Segment { timeline: stretch.timeline, number, size };
        (from <= to).then(|| Range { first: named(from), last: named(to) })
    });
    parts.collect()
}

/// Ranges that overlap or follow each other become one.
fn joined(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut all: Vec<Range> = Vec::new();
    for range in ranges {
        match all.last_mut() {
            Some(last) if last.first.timeline == range.first.timeline && range.first.number <= last.last.number + 1 => {
                last.last = last.last.max(range.last);
            }
            _ => all.push(range),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const SIZE: u64 = 1 << 20;

    fn segments(timeline: u32, numbers: impl IntoIterator<Item = u64>) -> Vec<Segment> {
        numbers.into_iter().map(|number| Segment { timeline, number, size: SIZE }).collect()
    }

    fn gaps(known: &Known) -> Vec<(u32, u64, u64)> {
        let all = look(known).into_iter().flat_map(|one| one.gaps);
        all.map(|gap| (gap.range.first.timeline, gap.range.first.number, gap.range.last.number)).collect()
    }

    #[test]
    fn a_gap_is_named_with_the_backup_that_it_breaks() {
        let backup = |label: &str, start: u64, stop: u64| BackupSpan {
            label: label.into(),
            timeline: 1,
            start: Lsn(start * SIZE + 40),
            stop: Lsn(stop * SIZE),
        };
        let known = Known {
            segments: segments(1, [3, 4, 5, 8, 9, 10]),
            backups: vec![backup("a", 3, 6), backup("b", 5, 9), backup("c", 10, 12)],
            holes: segments(1, [6, 20]),
            ..Known::default()
        };
        let timelines = look(&known);
        let seen: Vec<_> =
            timelines[0].gaps.iter().map(|gap| (gap.range.first.number, gap.count, gap.given_up)).collect();
        assert_eq!(seen, [(6, 2, true), (11, 1, false), (20, 1, true)]);
        assert_eq!(timelines[0].gaps[0].breaks, ["b"]);
        assert_eq!(timelines[0].gaps[1].breaks, ["c"]);
        assert_eq!((timelines[0].count, timelines[0].last.unwrap().number), (6, 10));
    }

    #[test]
    fn what_a_retention_let_go_is_no_gap_unless_a_backup_needs_it() {
        let kept = BackupSpan { label: "kept".into(), timeline: 1, start: Lsn(2 * SIZE), stop: Lsn(4 * SIZE) };
        let mut known = Known { segments: segments(1, [2, 3, 9, 12]), backups: vec![kept], ..Known::default() };
        assert_eq!(gaps(&known), [(1, 4, 8), (1, 10, 11)]);
        known.let_go_before = 8;
        assert_eq!(gaps(&known), [(1, 8, 8), (1, 10, 11)]);
        known.let_go_before = 9;
        assert_eq!(gaps(&known), [(1, 10, 11)]);
        known.segments = segments(1, [2, 9, 10]);
        assert_eq!(gaps(&known), [(1, 3, 3)]);
    }

    #[test]
    fn gaps_are_seen_across_a_switch() {
        let history = History::parse(2, &format!("1\t{}\tpromoted\n", Lsn(5 * SIZE + 100))).unwrap();
        let with = |one: &[u64], two: &[u64]| {
            let segments = [segments(1, one.iter().copied()), segments(2, two.iter().copied())].concat();
            gaps(&Known { segments, histories: vec![history.clone()], ..Known::default() })
        };
        assert_eq!(with(&[2, 3, 4], &[5, 6]), [], "the new timeline's file begins with a copy");
        assert_eq!(with(&[2, 3], &[6]), [(1, 4, 4), (2, 5, 5)]);
        assert_eq!(with(&[2, 3, 4, 5], &[6]), [(2, 5, 5)], "the old timeline's file ends at the switch");
        assert_eq!(with(&[2, 3, 4, 7], &[5]), [(1, 5, 6)], "the old timeline went on");
        assert_eq!(with(&[], &[7, 8]), [], "an archive begins where it begins");
    }

    proptest! {
        #[test]
        fn every_removed_segment_between_two_others_is_named(
            removed in prop::collection::btree_set(1u64..59, 0..20), switch in 1u64..59, inside in 0u64..SIZE,
        ) {
            let at = Lsn(switch * SIZE + inside);
            let history = History::parse(2, &format!("1\t{at}\tx\n")).unwrap();
            let whole: Vec<_> = history.segments(Lsn(0), Lsn(60 * SIZE), SIZE).collect();
            let left: Vec<_> = whole.iter().copied().filter(|segment| !removed.contains(&segment.number)).collect();
            let known = Known { segments: left, histories: vec![history.clone()], ..Known::default() };
            let named: BTreeSet<Segment> = gaps(&known)
                .into_iter()
                .flat_map(|(timeline, first, last)| segments(timeline, first..=last))
                .collect();
            let expected: BTreeSet<_> = whole.into_iter().filter(|segment| removed.contains(&segment.number)).collect();
            prop_assert_eq!(named, expected);
        }
    }
}
