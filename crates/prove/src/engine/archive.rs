//! The archived WAL of any tool, by name: what is there, what is missing, and whether it leads to a target.

use super::Held;
use crate::error::{ProveError, Result};
use jiff::Timestamp;
use surus_backup::{
    restore::target::{Goal, RecoveryTarget, TimelineChoice},
    wal::{
        gaps::{self, BackupSpan, Known, TimelineWal},
        name::Segment,
        timeline::History,
    },
};
use surus_core::{code, lsn::Lsn, protection::WalGap};

/// A segment that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub segment: Segment,
    /// Its bytes as stored, where it is stored as it is.
    pub plain_size: Option<u64>,
    /// When it came, by the clock of where it is.
    pub at: Option<Timestamp>,
}

/// All that is known of the archived WAL.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    /// In the order of timelines and numbers.
    pub segments: Vec<Kept>,
    pub histories: Vec<History>,
    /// Bytes of a segment; 0 when nothing is known.
    pub segment_size: u64,
    /// Segments that were given up, or that the tool says it has and has not.
    pub holes: Vec<Segment>,
    /// The number of the segment before which a retention has let WAL go, as far as the tool says it.
    pub let_go_before: u64,
    /// Troubles with what is there, in plain words.
    pub troubles: Vec<String>,
}

/// A way to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The timeline to follow.
    pub timeline: u32,
    /// The newest segment on it.
    pub newest: Option<Segment>,
}

impl Archive {
    /// From the names and what is known of each file; `size` is that of a segment.
    pub fn new(mut segments: Vec<Kept>, histories: Vec<History>, size: u64) -> Self {
        segments.sort_by_key(|kept| (kept.segment.timeline, kept.segment.number));
        segments.dedup_by_key(|kept| kept.segment);
        let mut archive = Self { segments, histories, segment_size: size, ..Self::default() };
        archive.troubles = archive.cut_short();
        archive
    }

    /// Is there nothing at all?
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Segments that are stored as they are and are shorter or longer than a segment.
    fn cut_short(&self) -> Vec<String> {
        let wrong = self.segments.iter().filter_map(|kept| {
            let actual = kept.plain_size.filter(|size| *size != self.segment_size)?;
            let expected = self.segment_size;
            Some(format!("WAL segment {} has {actual} bytes, and it should have {expected}", kept.segment))
        });
        wrong.collect()
    }

    /// What is known, for the search for gaps.
    pub fn known(&self, backups: &[Held]) -> Known {
        let span = |held: &Held| {
            Some(BackupSpan {
                label: held.label.clone(),
                timeline: held.timeline?,
                start: held.start_lsn?,
                stop: held.stop_lsn?,
            })
        };
        Known {
            segments: self.segments.iter().map(|kept| kept.segment).collect(),
            histories: self.histories.clone(),
            backups: backups.iter().filter_map(span).collect(),
            holes: self.holes.clone(),
            let_go_before: self.let_go_before,
        }
    }

    /// Every timeline with its gaps, from the oldest backup's WAL on.
    pub fn timelines(&self, backups: &[Held]) -> Vec<TimelineWal> {
        let oldest = backups.iter().filter_map(|held| held.start_lsn).min().unwrap_or(Lsn(0));
        let mut timelines = gaps::look(&self.known(backups));
        for timeline in &mut timelines {
            timeline.gaps.retain(|gap| gap.range.last.end() > oldest);
        }
        timelines
    }

    /// The gaps, from the oldest backup's WAL on.
    pub fn gaps(&self, backups: &[Held]) -> Vec<WalGap> {
        let all = self.timelines(backups).into_iter().flat_map(|timeline| timeline.gaps);
        let named = |gap: gaps::Gap| WalGap {
            first: gap.range.first.to_string(),
            last: gap.range.last.to_string(),
            segments: gap.count,
        };
        all.map(named).collect()
    }

    /// The newest segment of the newest timeline.
    pub fn newest(&self) -> Option<&Kept> {
        self.segments.last()
    }

    /// A timeline's history; one without a file began with the cluster.
    pub fn history(&self, timeline: u32) -> History {
        let known = self.histories.iter().find(|history| history.timeline == timeline);
        known.cloned().unwrap_or_else(|| History::of_first(timeline))
    }

    fn find(&self, segment: Segment) -> Option<&Kept> {
        let key = |kept: &Kept| (kept.segment.timeline, kept.segment.number);
        let at = self.segments.binary_search_by_key(&(segment.timeline, segment.number), key).ok()?;
        self.segments.get(at)
    }

    /// The timeline that recovery to the target follows from this backup on.
    ///
    /// # Errors
    /// When the backup does not lead to it.
    pub fn way(&self, held: &Held, target: &RecoveryTarget) -> Result<Way> {
        let own = held.timeline.unwrap_or(1);
        let stop = held.stop_lsn.unwrap_or(Lsn(0));
        let timeline = match target.timeline {
            TimelineChoice::Current => own,
            TimelineChoice::Number(number) => number,
            TimelineChoice::Latest => {
                let others = self.histories.iter().filter(|history| history.passes(own, stop));
                others.map(|history| history.timeline).max().unwrap_or(own).max(own)
            }
        };
        if !self.history(timeline).passes(own, stop) {
            let label = &held.label;
            let text = format!("backup {label} of timeline {own} does not lead to timeline {timeline}");
            return Err(ProveError::refused(code::ENGINE_WAL, text));
        }
        Ok(Way { timeline, newest: None })
    }

    /// Is all WAL there that leads from this backup to the target, as far as names and times tell?
    ///
    /// # Errors
    /// With the name of the first segment that is missing, or that has not the bytes of one.
    pub fn demand(&self, held: &Held, target: &RecoveryTarget) -> Result<Way> {
        let mut way = self.way(held, target)?;
        let (Some(start), size) = (held.start_lsn, self.segment_size) else { return Ok(way) };
        if size == 0 {
            return Ok(way);
        }
        let stop = held.stop_lsn.unwrap_or(start);
        let history = self.history(way.timeline);
        let newest = self.segments.iter().rev().find(|kept| kept.segment.timeline == way.timeline);
        way.newest = newest.map(|kept| kept.segment);
        let newest = newest.map_or(stop, |kept| kept.segment.end());
        let last_hole = self.holes.iter().filter(|hole| hole.timeline == way.timeline).map(|hole| hole.end()).max();
        let end = match &target.goal {
            Goal::Latest | Goal::Time(_) => newest.max(last_hole.unwrap_or(stop)),
            Goal::Lsn(lsn) => *lsn,
            Goal::Immediate | Goal::Xid(_) | Goal::Name(_) => stop,
        };
        let mut before: Option<&Kept> = None;
        let mut missing: Vec<Segment> = Vec::new();
        for segment in history.segments(start, end.max(stop), size) {
            match self.find(segment) {
                Some(kept) if missing.is_empty() => before = Some(kept),
                Some(_) => break,
                None => missing.push(segment),
            }
        }
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            // What was committed before the gap was archived before it, and can be reached.
            let reached = first.start() >= stop
                && matches!((&target.goal, before.and_then(|kept| kept.at)), (Goal::Time(to), Some(at)) if *to <= at);
            if !reached {
                return Err(ProveError::refused(code::ENGINE_WAL, lack(held, *first, *last, stop)));
            }
        }
        let needed = |text: &&String| history.segments(start, end, size).any(|one| text.contains(&one.to_string()));
        match self.troubles.iter().find(needed) {
            Some(trouble) if missing.is_empty() => Err(ProveError::refused(code::ENGINE_DAMAGED, trouble.clone())),
            _ => Ok(way),
        }
    }
}

fn lack(held: &Held, first: Segment, last: Segment, stop: Lsn) -> String {
    let names = match last.number - first.number {
        0 => format!("WAL segment {first} is missing"),
        more => format!("{} WAL segments from {first} to {last} are missing", more + 1),
    };
    match first.start() < stop {
        true => format!("{names}: backup {} cannot be made consistent without it", held.label),
        false => format!("{names}: nothing after it can be reached from backup {}", held.label),
    }
}

/// The size of segments that fits the names at which backups began: 16 MiB where several do.
pub fn segment_size<'a>(starts: impl Iterator<Item = (Lsn, &'a str)>) -> u64 {
    let starts: Vec<_> = starts.collect();
    let fits = |size: u64| {
        starts.iter().all(|(lsn, name)| {
            Segment::parse(name, size).is_some_and(|segment| segment.start() <= *lsn && *lsn < segment.end())
        })
    };
    let usual = 16 << 20;
    let others = (20..=30).map(|power| 1 << power);
    std::iter::once(usual).chain(others).find(|size| fits(*size)).unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;

    fn held(start: u64, stop: u64) -> Held {
        let (start_lsn, stop_lsn) = (Some(Lsn(start * SIZE + 40)), Some(Lsn(stop * SIZE + 300)));
        Held { full: true, timeline: Some(1), start_lsn, stop_lsn, ..Held::named("b") }
    }

    fn archive(numbers: &[u64]) -> Archive {
        let kept = |number: &u64| Kept {
            segment: Segment { timeline: 1, number: *number, size: SIZE },
            plain_size: Some(SIZE),
            at: Timestamp::from_second(1000 + *number as i64).ok(),
        };
        Archive::new(numbers.iter().map(kept).collect(), Vec::new(), SIZE)
    }

    fn to(goal: Goal) -> RecoveryTarget {
        RecoveryTarget { goal, ..RecoveryTarget::default() }
    }

    #[test]
    fn what_is_missing_on_the_way_is_named() {
        let text = |numbers: &[u64], goal| match archive(numbers).demand(&held(3, 4), &to(goal)) {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        let at = |second: i64| Goal::Time(Timestamp::from_second(second).unwrap());
        assert_eq!(text(&[3, 4, 5], Goal::Latest), "ok");
        assert!(
            text(&[3, 5], Goal::Immediate).starts_with("WAL segment 000000010000000000000004 is missing: backup b")
        );
        assert!(text(&[3, 4, 6], Goal::Latest).contains("000000010000000000000005 is missing: nothing after"));
        assert_eq!(text(&[3, 4, 6], at(1004)), "ok");
        assert!(text(&[3, 4, 6], at(1005)).contains("000000010000000000000005"));
        assert!(text(&[3, 4, 5, 9], Goal::Latest).contains("3 WAL segments from 000000010000000000000006"));
        assert_eq!(text(&[3, 4, 6], Goal::Xid(7)), "ok", "it may be before the gap: the server will tell");
        assert!(text(&[3, 4], Goal::Lsn(Lsn(6 * SIZE + 1))).contains("2 WAL segments from 000000010000000000000005"));
    }

    #[test]
    fn a_short_segment_is_named_with_its_bytes() {
        let mut segments = archive(&[3, 4, 5]).segments;
        segments[2].plain_size = Some(77);
        let archive = Archive::new(segments, Vec::new(), SIZE);
        let error = archive.demand(&held(3, 4), &to(Goal::Latest)).unwrap_err().to_string();
        assert_eq!(error, "WAL segment 000000010000000000000005 has 77 bytes, and it should have 1048576");
        assert!(archive.demand(&held(3, 4), &to(Goal::Immediate)).is_ok());
    }

    #[test]
    fn the_size_of_segments_is_found_from_names() {
        let at = |lsn: u64, name: &'static str| [(Lsn(lsn), name)];
        assert_eq!(segment_size(at(0x0200_0028, "000000010000000000000002").into_iter()), 16 << 20);
        assert_eq!(segment_size(at(0x0200_0028, "000000010000000000000020").into_iter()), 1 << 20);
        assert_eq!(segment_size(std::iter::empty()), 16 << 20);
    }
}
