//! Which moments can be restored, which cannot, and why: over everything that an engine keeps.
//!
//! A moment can be reached when a sound backup ended before it and no WAL is missing between that backup and it. After
//! a gap nothing can be reached until the next backup has ended. Pure: it judges a survey and the names in the archive.

use crate::engine::{Archive, Held, Survey};
use jiff::Timestamp;
use serde::Serialize;
use surus_backup::wal::{gaps::TimelineWal, name::Segment};
use surus_core::lsn::Lsn;

/// A stretch of WAL, and time, that can be restored or cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stretch {
    pub from: Option<Lsn>,
    pub to: Option<Lsn>,
    /// As far as backups and archived files tell times.
    pub from_time: Option<Timestamp>,
    pub to_time: Option<Timestamp>,
    /// The backups that lead into it; none when it cannot be reached.
    pub backups: Vec<String>,
    /// Why it cannot be reached.
    pub why: Option<String>,
}

impl Stretch {
    /// Can every moment of it be restored?
    pub fn is_reached(&self) -> bool {
        self.why.is_none()
    }
}

/// The moments of a timeline, from where it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    pub timeline: u32,
    pub parent: Option<u32>,
    pub switched_at: Option<Lsn>,
    pub stretches: Vec<Stretch>,
}

/// All that can be restored, and all that cannot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Window {
    /// The oldest timeline first.
    pub lines: Vec<Line>,
    /// Backups that cannot be restored: label and reason.
    pub lost: Vec<(String, String)>,
    /// What is odd about files that are there.
    pub troubles: Vec<String>,
}

impl Window {
    /// Is there something to restore, and no hole?
    pub fn is_whole(&self) -> bool {
        let mut stretches = self.lines.iter().flat_map(|line| &line.stretches).peekable();
        stretches.peek().is_some()
            && stretches.all(Stretch::is_reached)
            && self.lost.is_empty()
            && self.troubles.is_empty()
    }
}

/// Looks at everything.
pub fn look(survey: &Survey, archive: &Archive) -> Window {
    let lost = survey.backups.iter().filter_map(|held| Some((held.label.clone(), held.trouble.clone()?)));
    let mut window = Window { lost: lost.collect(), troubles: archive.troubles.clone(), ..Window::default() };
    if archive.is_empty() {
        window.lines.extend(moments(survey));
        return window;
    }
    for wal in archive.timelines(&survey.backups) {
        let stretches = along(&wal, survey, archive);
        if !stretches.is_empty() {
            let TimelineWal { timeline, parent, switched_at, .. } = wal;
            window.lines.push(Line { timeline, parent, switched_at, stretches });
        }
    }
    window
}

/// Without an archive each backup leads to its own end.
fn moments(survey: &Survey) -> Option<Line> {
    let stretch = |held: &Held| Stretch {
        from: held.stop_lsn,
        to: held.stop_lsn,
        from_time: held.stopped_at.or(held.started_at),
        to_time: held.stopped_at.or(held.started_at),
        backups: if held.trouble.is_none() { vec![held.label.clone()] } else { Vec::new() },
        why: held.trouble.as_ref().map(|why| format!("backup {}: {why}", held.label)),
    };
    let stretches: Vec<Stretch> = survey.backups.iter().map(stretch).collect();
    let timeline = survey.backups.first()?.timeline.unwrap_or(1);
    Some(Line { timeline, parent: None, switched_at: None, stretches })
}

/// What happens on the way along a timeline.
enum Event<'a> {
    /// A backup ends.
    Stop(&'a Held),
    /// WAL begins to be missing.
    Lost { first: Segment, last: Segment, given_up: bool },
    /// The archive ends.
    End,
}

fn along(wal: &TimelineWal, survey: &Survey, archive: &Archive) -> Vec<Stretch> {
    let history = archive.history(wal.timeline);
    let Some(end) = wal.last.map(Segment::end).max(wal.gaps.last().map(|gap| gap.range.last.end())) else {
        return Vec::new();
    };
    let mut events: Vec<(Lsn, Event<'_>)> = vec![(end, Event::End)];
    for held in &survey.backups {
        if let (Some(timeline), Some(stop)) = (held.timeline, held.stop_lsn)
            && history.passes(timeline, stop)
        {
            events.push((stop, Event::Stop(held)));
        }
    }
    for other in archive.timelines(&survey.backups) {
        for gap in other.gaps {
            let (first, last) = (gap.range.first, gap.range.last);
            if history.timeline_at(last.start()) == first.timeline || other.timeline == wal.timeline {
                events.push((first.start(), Event::Lost { first, last, given_up: gap.given_up }));
            }
        }
    }
    events.sort_by_key(|(at, event)| (*at, matches!(event, Event::End)));
    let began = wal.switched_at.unwrap_or(Lsn(0));
    let mut walk = Walk { archive, backups: Vec::new(), why: None, gone_until: Lsn(0), at: None, time: None };
    let mut stretches = Vec::new();
    for (at, event) in events {
        stretches.extend(walk.go(at.min(end), event));
    }
    stretches.retain_mut(|stretch: &mut Stretch| {
        if stretch.from < Some(began) {
            stretch.from = Some(began);
            stretch.from_time = None;
        }
        stretch.to > Some(began) && stretch.from < stretch.to
    });
    joined(stretches)
}

/// Where a walk along a timeline is.
struct Walk<'a> {
    archive: &'a Archive,
    /// Backups that lead to here.
    backups: Vec<String>,
    /// Why none does.
    why: Option<String>,
    /// A backup that began before here lacks WAL.
    gone_until: Lsn,
    at: Option<Lsn>,
    time: Option<Timestamp>,
}

impl Walk<'_> {
    /// Goes on to the next event; what lies between the last one and it.
    fn go(&mut self, at: Lsn, event: Event<'_>) -> Option<Stretch> {
        let time = match &event {
            Event::Stop(held) => held.stopped_at,
            Event::Lost { first, .. } => self.archived_before(*first),
            Event::End => self.archive.segments.iter().rfind(|kept| kept.segment.end() <= at).and_then(|kept| kept.at),
        };
        let passed = self.at.map(|from| Stretch {
            from: Some(from),
            to: Some(at),
            from_time: self.time,
            to_time: time,
            backups: self.backups.clone(),
            why: self.why.clone(),
        });
        match event {
            Event::Stop(held) if held.trouble.is_none() && held.start_lsn >= Some(self.gone_until) => {
                self.backups.push(held.label.clone());
                self.why = None;
            }
            Event::Stop(held) if self.backups.is_empty() && self.why.is_none() => {
                let why = held.trouble.as_deref().unwrap_or("WAL is missing");
                self.why = Some(format!("backup {} cannot be restored: {why}", held.label));
            }
            Event::Lost { first, last, given_up } => {
                self.backups.clear();
                self.gone_until = last.end();
                let names = if first == last { format!("{first} is") } else { format!("{first} to {last} are") };
                let by = if given_up { " (given up when the queue was full)" } else { "" };
                self.why = Some(format!("WAL segment {names} missing{by}"));
            }
            Event::Stop(_) | Event::End => {}
        }
        // Before the first backup there is nothing to speak of.
        if self.at.is_some() || self.why.is_some() || !self.backups.is_empty() {
            (self.at, self.time) = (Some(at), time.or(self.time));
        }
        passed
    }

    /// When the last segment before this one was archived.
    fn archived_before(&self, segment: Segment) -> Option<Timestamp> {
        let before = self.archive.segments.iter().filter(|kept| kept.segment.end() <= segment.start());
        before.filter_map(|kept| kept.at).max()
    }
}

/// Stretches that follow each other and are alike become one.
fn joined(stretches: Vec<Stretch>) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        match all.last_mut() {
            Some(last) if last.to == stretch.from && last.why == stretch.why => {
                (last.to, last.to_time) = (stretch.to, stretch.to_time);
                last.backups = stretch.backups;
            }
            _ => all.push(stretch),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Kept;
    use proptest::prelude::*;
    use surus_backup::wal::timeline::History;

    const SIZE: u64 = 1 << 20;

    fn held(label: &str, start: u64, stop: u64) -> Held {
        Held {
            label: label.into(),
            full: true,
            timeline: Some(1),
            started_at: Timestamp::from_second(start as i64 * 100).ok(),
            stopped_at: Timestamp::from_second(stop as i64 * 100).ok(),
            start_lsn: Some(Lsn(start * SIZE + 40)),
            stop_lsn: Some(Lsn(stop * SIZE + 300)),
            size: None,
            trouble: None,
        }
    }

    fn archive(timeline: u32, numbers: impl IntoIterator<Item = u64>) -> Vec<Kept> {
        let kept = |number: u64| Kept {
            segment: Segment { timeline, number, size: SIZE },
            plain_size: None,
            at: Timestamp::from_second((number as i64 + 1) * 100).ok(),
        };
        numbers.into_iter().map(kept).collect()
    }

    fn shown(window: &Window) -> Vec<String> {
        let line = |line: &Line| {
            let stretch = |one: &Stretch| {
                let number = |lsn: Option<Lsn>| lsn.map_or(0, |lsn| lsn.0.div_ceil(SIZE));
                let what = one.why.clone().unwrap_or_else(|| one.backups.join("+"));
                format!("{}:{}-{} {what}", line.timeline, number(one.from), number(one.to))
            };
            line.stretches.iter().map(stretch).collect::<Vec<_>>()
        };
        window.lines.iter().flat_map(line).collect()
    }

    #[test]
    fn after_a_gap_nothing_is_reached_until_the_next_backup_ends() {
        let survey = Survey { backups: vec![held("a", 2, 3), held("b", 8, 9)], ..Survey::default() };
        let whole = look(&survey, &Archive::new(archive(1, 1..=12), Vec::new(), SIZE));
        assert_eq!(shown(&whole), ["1:4-13 a+b"]);
        assert!(whole.is_whole());
        let holed = look(&survey, &Archive::new(archive(1, (1..=12).filter(|n| *n != 6)), Vec::new(), SIZE));
        let gap = "000000010000000000000006 is missing";
        assert_eq!(shown(&holed), ["1:4-6 a", &format!("1:6-10 WAL segment {gap}"), "1:10-13 b"]);
        assert!(!holed.is_whole());
        let hole = &holed.lines[0].stretches[1];
        assert_eq!(hole.from_time.unwrap().as_second(), 600, "the last before the gap was archived then");
        assert_eq!(hole.to_time.unwrap().as_second(), 900, "the next backup ended then");
    }

    #[test]
    fn a_backup_that_cannot_be_restored_leads_nowhere() {
        let mut bad = held("a", 2, 3);
        bad.trouble = Some("a file is missing".into());
        let survey = Survey { backups: vec![bad, held("b", 8, 9)], ..Survey::default() };
        let window = look(&survey, &Archive::new(archive(1, 1..=12), Vec::new(), SIZE));
        assert_eq!(shown(&window), ["1:4-10 backup a cannot be restored: a file is missing", "1:10-13 b"]);
        let none = look(&Survey::default(), &Archive::new(archive(1, 1..=12), Vec::new(), SIZE));
        assert!(shown(&none).is_empty() && !none.is_whole());
    }

    #[test]
    fn a_timeline_goes_on_from_its_parent() {
        let survey = Survey { backups: vec![held("a", 2, 3)], ..Survey::default() };
        let history = History::parse(2, &format!("1\t{}\tx\n", Lsn(6 * SIZE + 7))).unwrap();
        let segments = [archive(1, 1..=8), archive(2, 6..=9)].concat();
        let window = look(&survey, &Archive::new(segments, vec![history], SIZE));
        assert_eq!(shown(&window), ["1:4-9 a", "2:7-10 a"]);
    }

    #[test]
    fn without_an_archive_there_are_moments() {
        let survey = Survey { backups: vec![held("a", 2, 3)], ..Survey::default() };
        let window = look(&survey, &Archive::default());
        assert!(window.is_whole() && window.lines[0].stretches[0].backups == ["a"]);
    }

    proptest! {
        /// Against a judge that asks for each segment: is there a backup before it with everything in between?
        #[test]
        fn each_moment_is_reached_or_not_as_asked_alone(
            removed in prop::collection::btree_set(1u64..30, 0..6),
            starts in prop::collection::btree_set(1u64..28, 1..4),
        ) {
            let mut backups: Vec<Held> =
                starts.iter().map(|start| held(&start.to_string(), *start, *start + 1)).collect();
            let there = |number: u64| (1..=30).contains(&number) && !removed.contains(&number);
            for held in &mut backups {
                let start = held.start_lsn.unwrap().0 / SIZE;
                held.trouble = (!there(start) || !there(start + 1)).then(|| "lacks WAL".to_owned());
            }
            let archive = Archive::new(archive(1, (1..=30).filter(|n| there(*n))), Vec::new(), SIZE);
            let survey = Survey { backups, ..Survey::default() };
            let window = look(&survey, &archive);
            for number in 3..=30u64 {
                // A moment at the end of the segment.
                let at = Lsn(number * SIZE + SIZE - 1);
                let leads = |held: &Held| {
                    let start = held.start_lsn.unwrap().0 / SIZE;
                    held.trouble.is_none() && held.stop_lsn.unwrap() <= at && (start..=number).all(there)
                };
                let asked = survey.backups.iter().any(leads);
                let stretches = window.lines.iter().flat_map(|line| &line.stretches);
                let said = stretches.clone().any(|one| one.is_reached() && one.from <= Some(at) && Some(at) < one.to);
                prop_assert_eq!(asked, said, "segment {} of {:?}", number, window);
            }
        }
    }
}
