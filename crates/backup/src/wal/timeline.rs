//! Timelines: where each came from, and which segments lead to a moment on one of them.
//!
//! Source: PostgreSQL's documentation, "Timelines", and the form of history files: a line for each ancestor with its
//! number, where it was left, and why. Where a timeline begins within a segment, its file of that segment begins with a
//! copy of the old timeline's WAL, so that it serves for both sides of the switch.

use super::name::Segment;
use surus_core::lsn::Lsn;

/// An ancestor of a timeline, and where it was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    pub timeline: u32,
    /// The first position that is no longer of this ancestor.
    pub at: Lsn,
    pub reason: String,
}

/// A timeline's history: its ancestors, the oldest first. One that began with the cluster has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    pub timeline: u32,
    pub entries: Vec<Switch>,
}

/// A part of the way to a timeline's end that lies on one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub timeline: u32,
    pub from: Lsn,
    /// The first position after it; `None` for the timeline itself, which goes on.
    pub to: Option<Lsn>,
}

/// The text is no history of that timeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the history of timeline {timeline} {what}")]
pub struct BadHistory {
    pub timeline: u32,
    /// Counted from 1.
    pub line: usize,
    pub what: &'static str,
}

impl History {
    /// Of a timeline without ancestors.
    pub fn of_first(timeline: u32) -> Self {
        Self { timeline, entries: Vec::new() }
    }

    /// Reads a history file. What stands after `#` and empty lines is skipped, as PostgreSQL does.
    ///
    /// # Errors
    /// When a line is none, or ancestors do not follow each other.
    pub fn parse(timeline: u32, text: &str) -> Result<Self, BadHistory> {
        let mut entries: Vec<Switch> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let bad = |what| BadHistory { timeline, line: number + 1, what };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let ancestor: u32 = words.next().and_then(|word| word.parse().ok()).ok_or(bad("names no timeline"))?;
            let at: Lsn =
                words.next().and_then(|word| word.parse().ok()).ok_or(bad("does not say where it was left"))?;
            let reason = words.collect::<Vec<_>>().join(" ");
            if ancestor == 0 || ancestor >= timeline {
                return Err(bad("names a timeline that cannot be its ancestor"));
            }
            if entries.last().is_some_and(|last| last.timeline >= ancestor || last.at > at) {
                return Err(bad("is not in order"));
            }
            entries.push(Switch { timeline: ancestor, at, reason });
        }
        Ok(Self { timeline, entries })
    }

    /// The timeline that this one began from.
    pub fn parent(&self) -> Option<&Switch> {
        self.entries.last()
    }

    /// The way to this timeline's end, timeline after timeline. One that was left where it began has no stretch.
    pub fn stretches(&self) -> Vec<Stretch> {
        let mut from = Lsn(0);
        let mut all = Vec::with_capacity(self.entries.len() + 1);
        for switch in &self.entries {
            if switch.at > from {
                all.push(Stretch { timeline: switch.timeline, from, to: Some(switch.at) });
                from = switch.at;
            }
        }
        all.push(Stretch { timeline: self.timeline, from, to: None });
        all
    }

    /// Whose byte at `lsn` is on the way.
    pub fn timeline_at(&self, lsn: Lsn) -> u32 {
        let left = self.entries.iter().find(|switch| lsn < switch.at);
        left.map_or(self.timeline, |switch| switch.timeline)
    }

    /// Is what `timeline` had written before `lsn` on the way to this timeline's end? Asked of a backup's stop: one
    /// that ended after its timeline was left cannot lead here.
    pub fn passes(&self, timeline: u32, lsn: Lsn) -> bool {
        timeline == self.timeline || self.entries.iter().any(|switch| switch.timeline == timeline && lsn <= switch.at)
    }

    /// The segments that hold the WAL from `from` up to, without, `to`, in order. For a segment within which the
    /// timeline changes it is the newest one's file that is named; where that one is needed up to before the change
    /// only, the older one's.
    pub fn segments(&self, from: Lsn, to: Lsn, size: u64) -> impl Iterator<Item = Segment> + '_ {
        let numbers = if to > from { from.0 / size..(to.0 - 1) / size + 1 } else { 0..0 };
        numbers.map(move |number| {
            let end = number.saturating_add(1).saturating_mul(size).min(to.0);
            Segment { timeline: self.timeline_at(Lsn(end - 1)), number, size }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 16 << 20;

    fn history() -> History {
        let text = "1\t0/3000060\tno recovery target specified\n\n# made by hand\n2\t0/5000000\tbefore 2000-01-01\n";
        History::parse(3, text).unwrap()
    }

    fn names(history: &History, from: u64, to: u64) -> Vec<String> {
        history.segments(Lsn(from), Lsn(to), SIZE).map(|segment| segment.to_string()).collect()
    }

    #[test]
    fn a_history_file_is_understood() {
        let history = history();
        assert_eq!(history.entries.len(), 2);
        assert_eq!(history.parent().unwrap().reason, "before 2000-01-01");
        assert_eq!(history.timeline_at(Lsn(0x300_005F)), 1);
        assert_eq!(history.timeline_at(Lsn(0x300_0060)), 2);
        assert_eq!(history.timeline_at(Lsn(0x500_0000)), 3);
        assert!(history.passes(1, Lsn(0x300_0060)) && !history.passes(1, Lsn(0x300_0061)));
        assert!(history.passes(3, Lsn(u64::MAX)) && !history.passes(4, Lsn(0)));
    }

    #[test]
    fn segments_follow_the_switches() {
        let history = history();
        let expected = ["000000010000000000000002", "000000020000000000000003", "000000020000000000000004"];
        assert_eq!(names(&history, 0x200_0028, 0x500_0000), expected);
        assert_eq!(names(&history, 0x200_0028, 0x500_0001)[3], "000000030000000000000005");
        assert_eq!(names(&history, 0x300_0000, 0x300_0060), ["000000010000000000000003"]);
        assert_eq!(names(&history, 0x300_0000, 0x300_0000), [""; 0]);
        assert_eq!(names(&History::of_first(1), 0, 1), ["000000010000000000000000"]);
    }

    #[test]
    fn what_is_no_history_is_refused() {
        for text in ["x", "1", "1 nowhere", "3 0/1 itself", "0 0/1 none", "2 0/5 a\n1 0/6 b", "1 0/5 a\n2 0/4 b"] {
            assert!(History::parse(3, text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_byte_of_the_way_is_in_a_segment_of_its_timeline_or_a_newer_one(
            mut cuts in prop::collection::vec(1u64..1 << 30, 0..6), from in 0u64..1 << 30, length in 1u64..1 << 28,
            at in 0u64..1 << 28,
        ) {
            cuts.sort_unstable();
            let entries = cuts.iter().enumerate().map(|(number, at)| Switch {
                timeline: number as u32 + 1, at: Lsn(*at), reason: String::new(),
            });
            let history = History { timeline: cuts.len() as u32 + 1, entries: entries.collect() };
            let all: Vec<_> = history.segments(Lsn(from), Lsn(from + length), SIZE).collect();
            prop_assert_eq!(all.first().unwrap().number, from / SIZE);
            let follows = |two: &[Segment]| two[0].number + 1 == two[1].number && two[0].timeline <= two[1].timeline;
            prop_assert!(all.windows(2).all(follows));
            let byte = Lsn(from + at % length);
            let holds = all.iter().find(|segment| segment.start() <= byte && byte < segment.end()).unwrap();
            // The file's timeline has that byte: it is its own, or was copied when the timeline began there.
            let own = history.timeline_at(byte);
            let begins = history.stretches().into_iter().find(|one| one.timeline == holds.timeline).unwrap().from;
            prop_assert!(holds.timeline == own || (holds.timeline > own && begins >= holds.start()));
            // Stretches join without a gap.
            let stretches = history.stretches();
            prop_assert!(stretches.windows(2).all(|two| two[0].to == Some(two[1].from)));
        }
    }
}
