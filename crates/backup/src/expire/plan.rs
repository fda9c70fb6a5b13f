//! What may go: a decision over the graph of what each backup needs. No I/O, no clock.

use crate::{
    catalogue::{Catalogue, TimelineWal},
    manifest::About,
    wal::{name::Segment, timeline::History},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What the user wants to be able to go back to. A backup stays when any of them wants it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// This many newest full backups, with what builds on them.
    pub full: Option<usize>,
    /// Every backup that is younger.
    pub age: Option<Duration>,
    /// Every moment of this long ago until now can be restored.
    pub window: Option<Duration>,
}

/// Why a backup stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The retention wants it.
    Wanted,
    /// Another backup that stays builds on it.
    Needed,
    /// It is marked to be kept.
    Kept,
    /// A backup that is being taken builds on it.
    InProgress,
    /// It is the newest full backup, or the newest that was verified.
    Last,
}

/// What stays and what goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub stay: BTreeMap<String, Why>,
    /// Backups to remove, those that others build on last.
    pub backups: Vec<String>,
    /// WAL to remove, per timeline.
    #[serde(skip)]
    pub segments: Vec<Segment>,
    /// The oldest WAL from which on everything stays.
    pub wal_from: Option<String>,
}

/// Decides. `now_ms` is the clock; how old a backup is, is counted from it, but never from later than what the
/// repository itself shows to have happened: a clock that jumps ahead must not make everything old.
pub fn plan(catalogue: &Catalogue, retention: Retention, now_ms: i64) -> Plan {
    let backups: Vec<&About> = catalogue.backups.iter().map(|listed| &listed.about).collect();
    let now_ms = now_ms.min(newest_evidence_ms(&backups));
    let mut stay = BTreeMap::new();
    for backup in wanted(catalogue, &backups, retention, now_ms) {
        stay.insert(backup.label.clone(), Why::Wanted);
    }
    for listed in &catalogue.backups {
        let kept = listed.keep.as_ref().is_some_and(|keep| keep.until.is_none_or(|end| end.as_millisecond() > now_ms));
        if kept {
            stay.entry(listed.about.label.clone()).or_insert(Why::Kept);
        }
    }
    for begun in &catalogue.begun {
        if let Some(parent) = &begun.parent {
            stay.entry(parent.clone()).or_insert(Why::InProgress);
        }
    }
    // A backup is no better than what it builds on.
    let whole = |one: &&&About| {
        let read = |label: &str| catalogue.find(label).is_some_and(|listed| listed.verified_at.is_some());
        read(&one.label) && ancestors(&backups, one).is_some_and(|below| below.iter().all(|one| read(&one.label)))
    };
    let lasts = [
        backups.iter().copied().rfind(|one| one.parent.is_none()),
        backups.last().copied(),
        backups.iter().rfind(whole).copied(),
        leading_to(&backups, &history_of(catalogue, newest_timeline(catalogue)), i64::MAX),
    ];
    for last in lasts.into_iter().flatten() {
        let why = stay.entry(last.label.clone()).or_insert(Why::Last);
        // One that is only kept is not rolled forward; the last one is.
        if *why == Why::Kept {
            *why = Why::Last;
        }
    }
    add_ancestors(&backups, &mut stay);
    let mut gone: Vec<_> = backups.iter().filter(|one| !stay.contains_key(&one.label)).collect();
    // Children before parents, so that what is left at any moment is whole.
    gone.sort_by_key(|one| std::cmp::Reverse(depth(&backups, one)));
    let gone = gone.into_iter().map(|one| one.label.clone()).collect();
    let (segments, wal_from) = wal_to_remove(catalogue, &stay, now_ms);
    Plan { stay, backups: gone, segments, wal_from }
}

/// The latest moment of which the repository shows that it has come: the end of the last backup but one, and a day. Not
/// of the last one: the clock may have jumped during it.
fn newest_evidence_ms(backups: &[&About]) -> i64 {
    const DAY_MS: i64 = 86_400_000;
    let mut ends: Vec<_> = backups.iter().map(|one| one.stopped_at.as_millisecond().saturating_add(DAY_MS)).collect();
    ends.sort_unstable();
    ends.iter().rev().take(2).min().copied().unwrap_or(i64::MAX)
}

/// The newest timeline that anything is known of.
fn newest_timeline(catalogue: &Catalogue) -> u32 {
    let backups = catalogue.backups.iter().map(|listed| listed.about.timeline);
    let all = backups.chain(catalogue.wal.keys().copied()).chain(catalogue.histories.keys().copied());
    all.max().unwrap_or(1)
}

fn history_of(catalogue: &Catalogue, timeline: u32) -> History {
    catalogue.histories.get(&timeline).cloned().unwrap_or_else(|| History::of_first(timeline))
}

/// The newest backup from which the timeline can be reached, of those that ended before a moment.
fn leading_to<'a>(backups: &[&'a About], history: &History, before_ms: i64) -> Option<&'a About> {
    let leads =
        |one: &&About| history.passes(one.timeline, one.stop_lsn) && one.stopped_at.as_millisecond() < before_ms;
    backups.iter().copied().filter(leads).max_by_key(|one| (one.stop_lsn, one.timeline))
}

/// Timelines on which something may have happened since a moment: the newest one, and those whose WAL came since.
fn in_use_since(catalogue: &Catalogue, start_ms: i64) -> BTreeSet<u32> {
    let since = |wal: &TimelineWal| wal.newest_ms == 0 || wal.newest_ms >= start_ms;
    let mut all: BTreeSet<u32> =
        catalogue.wal.iter().filter(|(_, wal)| since(wal)).map(|(timeline, _)| *timeline).collect();
    all.insert(newest_timeline(catalogue));
    all
}

fn wanted<'a>(catalogue: &Catalogue, backups: &[&'a About], retention: Retention, now_ms: i64) -> Vec<&'a About> {
    let before = |duration: Duration| now_ms.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
    let mut wanted = Vec::new();
    if retention == Retention::default() {
        wanted.extend(backups);
    }
    if let Some(count) = retention.full {
        let full: BTreeSet<_> =
            backups.iter().rev().filter(|one| one.parent.is_none()).take(count).map(|one| &one.label).collect();
        wanted.extend(backups.iter().filter(|one| root(backups, one).is_some_and(|root| full.contains(&root.label))));
    }
    if let Some(age) = retention.age {
        wanted.extend(backups.iter().filter(|one| one.stopped_at.as_millisecond() >= before(age)));
    }
    if let Some(window) = retention.window {
        let start = before(window);
        wanted.extend(backups.iter().filter(|one| one.stopped_at.as_millisecond() >= start));
        // On each timeline: the moment may be reachable only from a backup of its own.
        let timelines: BTreeSet<_> = backups.iter().map(|one| one.timeline).collect();
        for timeline in timelines {
            let mut before = backups.iter().filter(|one| one.timeline == timeline);
            wanted.extend(before.rfind(|one| one.stopped_at.as_millisecond() < start));
        }
        // One that began from another timeline may have no backup yet, or none that is old enough: then the way to its
        // moments begins with a backup from before it branched.
        for timeline in in_use_since(catalogue, start) {
            wanted.extend(leading_to(backups, &history_of(catalogue, timeline), start));
        }
    }
    wanted
}

fn find<'a>(backups: &[&'a About], label: &str) -> Option<&'a About> {
    backups.iter().copied().find(|one| one.label == label)
}

/// What a backup builds on, the full backup last; none when the chain is broken.
fn ancestors<'a>(backups: &[&'a About], backup: &'a About) -> Option<Vec<&'a About>> {
    let (mut at, mut below) = (backup, Vec::new());
    for _ in 0..=crate::chain::LONGEST {
        let Some(parent) = &at.parent else { return Some(below) };
        at = find(backups, parent)?;
        below.push(at);
    }
    None
}

/// The full backup that a backup builds on in the end; none when the chain is broken.
fn root<'a>(backups: &[&'a About], backup: &'a About) -> Option<&'a About> {
    Some(ancestors(backups, backup)?.last().copied().unwrap_or(backup))
}

fn depth(backups: &[&About], backup: &About) -> usize {
    let mut depth = 0;
    let mut at = backup.parent.clone();
    while let Some(parent) = at.and_then(|label| find(backups, &label)).filter(|_| depth <= crate::chain::LONGEST) {
        depth += 1;
        at = parent.parent.clone();
    }
    depth
}

fn add_ancestors(backups: &[&About], stay: &mut BTreeMap<String, Why>) {
    let mut todo: Vec<String> = stay.keys().cloned().collect();
    while let Some(label) = todo.pop() {
        let parent = find(backups, &label).and_then(|one| one.parent.clone());
        if let Some(parent) = parent.filter(|parent| !stay.contains_key(parent)) {
            stay.insert(parent.clone(), Why::Needed);
            todo.push(parent);
        }
    }
}

/// A timeline that no backup leads to may still be written to, and get its backup soon: its WAL stays for so long.
const ORPHANS_FOR_MS: i64 = 7 * 86_400_000;

/// WAL goes when it is older than every backup that stays to be rolled forward, and no backup that stays needs it to
/// become consistent. Without backups nothing goes. A backup that is only kept by a mark is not rolled forward.
/// Positions are compared on timelines that have to do with each other only: of one that no staying backup is on or
/// has come through nothing goes while it is in use, for it may have branched before the oldest backup.
fn wal_to_remove(catalogue: &Catalogue, stay: &BTreeMap<String, Why>, now_ms: i64) -> (Vec<Segment>, Option<String>) {
    let size = catalogue.segment_size;
    let staying = || catalogue.backups.iter().map(|one| &one.about).filter(|one| stay.contains_key(&one.label));
    let rolled = || staying().filter(|one| stay[&one.label] != Why::Kept);
    let Some(first) = rolled().min_by_key(|one| one.start_lsn) else { return (Vec::new(), None) };
    let from = Segment::at(first.timeline, first.start_lsn, size);
    let mut own: BTreeSet<(u32, u64)> = BTreeSet::new();
    let mut related: BTreeSet<u32> = BTreeSet::new();
    for one in staying() {
        let last = Segment::ending_at(one.timeline, one.stop_lsn, size).number;
        own.extend((Segment::at(one.timeline, one.start_lsn, size).number..=last).map(|number| (one.timeline, number)));
        related.insert(one.timeline);
        related.extend(history_of(catalogue, one.timeline).entries.iter().map(|switch| switch.timeline));
    }
    let in_use = in_use_since(catalogue, now_ms.saturating_sub(ORPHANS_FOR_MS));
    let mut gone = Vec::new();
    for (timeline, wal) in &catalogue.wal {
        if in_use.contains(timeline) && !related.contains(timeline) {
            continue;
        }
        let old = wal.segments.range(..from.number).filter(|number| !own.contains(&(*timeline, **number)));
        gone.extend(old.map(|number| Segment { timeline: *timeline, number: *number, size }));
    }
    (gone, Some(from.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::timeline::Switch;
    use crate::{
        catalogue::{Keep, Listed},
        manifest::{BackupKind, tests::example},
        take::mark::BeginNote,
    };
    use jiff::Timestamp;
    use proptest::prelude::*;
    use surus_core::lsn::Lsn;

    const SIZE: u64 = 16 << 20;
    const HOUR_MS: i64 = 3_600_000;

    /// A history as it may happen: backups of every kind, promotions, kept ones, one that is being taken.
    #[derive(Debug, Clone)]
    enum Step {
        Full,
        Incremental {
            on: usize,
        },
        Write {
            segments: u64,
        },
        /// A new timeline, after going back by so many segments.
        Promote {
            back: u64,
        },
        Keep {
            which: usize,
        },
        Verify {
            which: usize,
        },
        Begin {
            on: usize,
        },
        Expire {
            full: Option<usize>,
            age_h: Option<u64>,
            window_h: Option<u64>,
            jump_h: i64,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Full),
            6 => (0usize..4).prop_map(|on| Step::Incremental { on }),
            6 => (1u64..5).prop_map(|segments| Step::Write { segments }),
            1 => (0u64..20).prop_map(|back| Step::Promote { back: back.saturating_sub(10) }),
            1 => (0usize..9).prop_map(|which| Step::Keep { which }),
            1 => (0usize..9).prop_map(|which| Step::Verify { which }),
            1 => (0usize..4).prop_map(|on| Step::Begin { on }),
            4 => (
                proptest::option::of(0usize..4),
                proptest::option::of(0u64..50),
                proptest::option::of(0u64..50),
                -10_000i64..10_000,
            )
                .prop_map(|(full, age_h, window_h, jump_h)| Step::Expire { full, age_h, window_h, jump_h }),
        ]
    }

    struct World {
        catalogue: Catalogue,
        timeline: u32,
        segment: u64,
        now_ms: i64,
        count: usize,
    }

    impl World {
        fn new() -> Self {
            let catalogue = Catalogue { segment_size: SIZE, ..Catalogue::default() };
            Self { catalogue, timeline: 1, segment: 1, now_ms: 1_700_000_000_000, count: 0 }
        }

        fn write(&mut self, segments: u64) {
            let wal: &mut TimelineWal = self.catalogue.wal.entry(self.timeline).or_default();
            wal.segments.extend(self.segment..self.segment + segments);
            wal.newest_ms = self.now_ms;
            self.segment += segments;
            self.now_ms += HOUR_MS;
        }

        /// Goes back by so many segments, and on from there on a new timeline.
        fn promote(&mut self, back: u64) {
            self.segment = self.segment.saturating_sub(back).max(1);
            let at = Lsn(self.segment * SIZE + 60);
            let mut entries = history_of(&self.catalogue, self.timeline).entries;
            entries.retain(|switch| switch.at < at);
            entries.push(Switch { timeline: self.timeline, at, reason: String::new() });
            self.timeline += 1;
            self.catalogue.histories.insert(self.timeline, History { timeline: self.timeline, entries });
        }

        fn back_up(&mut self, parent: Option<String>) {
            self.count += 1;
            let mut about = example(&format!("b{}", self.count)).about;
            about.kind = if parent.is_some() { BackupKind::Incremental } else { BackupKind::Full };
            about.parent = parent;
            about.timeline = self.timeline;
            about.start_lsn = Lsn(self.segment * SIZE + 40);
            about.stop_lsn = Lsn((self.segment + 1) * SIZE + 99);
            self.write(2);
            about.stopped_at = Timestamp::from_millisecond(self.now_ms).unwrap();
            self.catalogue.backups.push(Listed { about, keep: None, verified_at: None });
        }

        fn newest(&self, back: usize) -> Option<String> {
            self.catalogue.backups.iter().rev().nth(back).map(|one| one.about.label.clone())
        }
    }

    /// Everything that must hold after each expiry, whatever happened before.
    fn check(before: &Catalogue, plan: &Plan, retention: Retention, now_ms: i64) {
        let stays = |label: &str| !plan.backups.iter().any(|gone| gone == label);
        let removed: BTreeSet<_> = plan.segments.iter().map(|one| (one.timeline, one.number)).collect();
        let staying: Vec<_> = before.backups.iter().filter(|one| stays(&one.about.label)).collect();
        assert!(before.backups.is_empty() || !staying.is_empty(), "the last backup is gone");
        for one in &staying {
            if let Some(parent) = &one.about.parent {
                assert!(stays(parent), "{} lost {parent}", one.about.label);
            }
            let first = Segment::at(one.about.timeline, one.about.start_lsn, SIZE).number;
            let last = Segment::ending_at(one.about.timeline, one.about.stop_lsn, SIZE).number;
            for number in first..=last {
                assert!(!removed.contains(&(one.about.timeline, number)), "{} lost its WAL", one.about.label);
            }
            if plan.stay[&one.about.label] != Why::Kept {
                let later = removed.iter().find(|(_, number)| *number >= first);
                assert_eq!(later, None, "{} cannot be rolled forward", one.about.label);
            }
        }
        for one in &before.backups {
            let held =
                one.keep.is_some() || before.begun.iter().any(|mark| mark.parent.as_ref() == Some(&one.about.label));
            assert!(!held || stays(&one.about.label), "{} was to be kept", one.about.label);
        }
        let abouts: Vec<_> = before.backups.iter().map(|one| &one.about).collect();
        let read = |about: &About| before.find(&about.label).is_some_and(|one| one.verified_at.is_some());
        let whole = |one: &Listed| {
            read(&one.about) && ancestors(&abouts, &one.about).is_some_and(|below| below.into_iter().all(read))
        };
        if before.backups.iter().any(whole) {
            assert!(staying.iter().any(|one| whole(one)), "no verified backup is left");
        }
        // The newest timeline can be reached whenever it could, with all its WAL from there on.
        let newest = history_of(before, newest_timeline(before));
        let leads = |one: &Listed| newest.passes(one.about.timeline, one.about.stop_lsn);
        if before.backups.iter().any(leads) {
            let from = staying.iter().filter(|one| leads(one)).map(|one| one.about.start_lsn).max();
            let from = from.expect("the newest timeline cannot be reached").0 / SIZE;
            assert!(!removed.iter().any(|(timeline, number)| *timeline == newest.timeline && *number >= from));
        } else {
            assert!(!removed.iter().any(|(timeline, _)| *timeline == newest.timeline && before.wal.len() > 1));
        }
        assert!(staying.iter().any(|one| one.about.parent.is_none()) || staying.is_empty(), "no full backup is left");
        // The window: whichever moment of it is asked for, a backup that ended before it stays, if there was one.
        if let Some(window) = retention.window {
            let start = now_ms - i64::try_from(window.as_millis()).unwrap();
            for backup in &before.backups {
                let at = backup.about.stopped_at.as_millisecond().max(start);
                let reaches = |one: &&Listed| {
                    one.about.timeline == backup.about.timeline && one.about.stopped_at.as_millisecond() <= at
                };
                let before_it = before.backups.iter().any(|one| reaches(&one));
                assert!(!before_it || staying.iter().any(reaches), "the window is broken");
            }
        }
        let mut gone_so_far = BTreeSet::new();
        for label in &plan.backups {
            gone_so_far.insert(label.clone());
            for one in before.backups.iter().filter(|one| !gone_so_far.contains(&one.about.label)) {
                let lost = one.about.parent.as_ref().is_some_and(|parent| gone_so_far.contains(parent));
                assert!(!lost, "a parent goes before its child");
            }
        }
    }

    fn run(steps: Vec<Step>) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Full => world.back_up(None),
                Step::Incremental { on } => {
                    let parent = world.newest(on);
                    world.back_up(parent);
                }
                Step::Write { segments } => world.write(segments),
                Step::Promote { back } => world.promote(back),
                Step::Keep { which } => {
                    let until = None;
                    let keep = Keep { reason: "audit".into(), since: Timestamp::UNIX_EPOCH, until };
                    world.catalogue.backups.iter_mut().rev().nth(which).into_iter().for_each(|one| {
                        one.keep = Some(keep.clone());
                    });
                }
                Step::Verify { which } => {
                    let at = Some(Timestamp::UNIX_EPOCH);
                    world
                        .catalogue
                        .backups
                        .iter_mut()
                        .rev()
                        .nth(which)
                        .into_iter()
                        .for_each(|one| one.verified_at = at);
                }
                Step::Begin { on } => {
                    let at = Timestamp::UNIX_EPOCH;
                    let (label, host, parent) = ("next".into(), "elsewhere".into(), world.newest(on));
                    world.catalogue.begun =
                        vec![BeginNote { label, full: false, host, pid: 1, begun_at: at, alive_at: at, parent }];
                }
                Step::Expire { full, age_h, window_h, jump_h } => {
                    let hours = |hours: u64| Duration::from_secs(hours * 3600);
                    let retention = Retention { full, age: age_h.map(hours), window: window_h.map(hours) };
                    let clock_ms = world.now_ms + jump_h * HOUR_MS;
                    let abouts: Vec<_> = world.catalogue.backups.iter().map(|one| &one.about).collect();
                    let believed_ms = clock_ms.min(newest_evidence_ms(&abouts));
                    let plan = plan(&world.catalogue, retention, clock_ms);
                    check(&world.catalogue, &plan, retention, believed_ms);
                    world.catalogue.backups.retain(|one| !plan.backups.contains(&one.about.label));
                    for gone in &plan.segments {
                        world.catalogue.wal.entry(gone.timeline).or_default().segments.remove(&gone.number);
                    }
                }
            }
        }
    }

    /// How many histories: `SURUS_HISTORIES=5000` for the whole run.
    fn histories() -> u32 {
        std::env::var("SURUS_HISTORIES").ok().and_then(|count| count.parse().ok()).unwrap_or(300)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(histories()))]
        #[test]
        fn no_history_breaks_what_is_kept(steps in proptest::collection::vec(step(), 1..60)) {
            run(steps);
        }
    }

    #[test]
    fn a_clock_that_jumps_ahead_expires_nothing_that_is_young() {
        let mut world = World::new();
        world.back_up(None);
        world.back_up(None);
        let retention = Retention { age: Some(Duration::from_secs(30 * 86_400)), ..Retention::default() };
        let plan = plan(&world.catalogue, retention, world.now_ms + 400 * 86_400_000);
        assert_eq!(plan.backups, [""; 0]);
    }

    #[test]
    fn a_backup_that_is_dated_ahead_expires_nothing_that_is_young() {
        let mut world = World::new();
        world.back_up(None);
        world.back_up(None);
        world.now_ms += 400 * 24 * HOUR_MS;
        world.back_up(None);
        let retention = Retention { age: Some(Duration::from_secs(30 * 86_400)), ..Retention::default() };
        assert_eq!(plan(&world.catalogue, retention, world.now_ms).backups, [""; 0]);
    }

    #[test]
    fn two_full_backups_are_kept_with_what_builds_on_them() {
        let mut world = World::new();
        for _ in 0..3 {
            world.back_up(None);
            let parent = world.newest(0);
            world.back_up(parent);
        }
        let plan = plan(&world.catalogue, Retention { full: Some(2), ..Retention::default() }, world.now_ms);
        assert_eq!(plan.backups, ["b2", "b1"]);
        assert_eq!(plan.stay["b4"], Why::Wanted);
        assert_eq!(plan.wal_from.as_deref(), Some("000000010000000000000005"));
        assert_eq!(plan.segments.len(), 4);
    }

    /// Three full backups at segments 1, 11 and 21, then back to segment 5, from where a second timeline goes on.
    fn gone_back() -> World {
        let mut world = World::new();
        for _ in 0..3 {
            world.back_up(None);
            world.write(8);
            world.now_ms += 24 * HOUR_MS;
        }
        world.promote(31 - 5);
        world.write(6);
        world
    }

    #[test]
    fn a_timeline_that_branched_before_the_newer_backups_keeps_what_leads_to_it() {
        let window = Retention { window: Some(Duration::from_secs(3600)), ..Retention::default() };
        let full = Retention { full: Some(2), ..Retention::default() };
        for retention in [window, full] {
            let world = gone_back();
            let plan = plan(&world.catalogue, retention, world.now_ms);
            assert!(plan.stay.contains_key("b1"), "{retention:?}");
            assert!(!plan.segments.iter().any(|one| one.timeline == 2), "{retention:?}");
            assert!(!plan.segments.iter().any(|one| one.number >= 1), "{retention:?}");
        }
    }

    #[test]
    fn a_timeline_that_no_backup_leads_to_keeps_its_wal_while_it_is_in_use() {
        let mut world = gone_back();
        world.catalogue.backups.remove(0);
        let full = Retention { full: Some(2), ..Retention::default() };
        let removed = |world: &World| {
            let plan = plan(&world.catalogue, full, world.now_ms);
            plan.segments.into_iter().filter(|one| one.timeline == 2).count()
        };
        assert_eq!(removed(&world), 0);
        // Another one took its place long ago: nothing will come of it any more.
        world.now_ms += 30 * 24 * HOUR_MS;
        world.timeline = 1;
        world.catalogue.histories.clear();
        world.catalogue.wal.entry(1).or_default().newest_ms = world.now_ms;
        world.segment = 40;
        world.timeline = 3;
        world.back_up(None);
        world.back_up(None);
        assert_eq!(removed(&world), 6);
    }

    #[test]
    fn a_backup_is_verified_only_with_what_it_builds_on() {
        let mut world = World::new();
        world.back_up(None);
        world.back_up(None);
        world.back_up(Some("b2".into()));
        world.back_up(None);
        let read = [false, true, false, true, false];
        for (number, backup) in world.catalogue.backups.iter_mut().enumerate() {
            backup.verified_at = read[number + 1].then_some(Timestamp::UNIX_EPOCH);
        }
        let plan = plan(&world.catalogue, Retention { full: Some(1), ..Retention::default() }, world.now_ms);
        assert_eq!(plan.stay.keys().collect::<Vec<_>>(), ["b1", "b4"], "b3 builds on b2, which is damaged");
    }

    #[test]
    fn without_a_rule_nothing_goes() {
        let mut world = World::new();
        world.write(9);
        world.back_up(None);
        world.back_up(None);
        assert_eq!(plan(&world.catalogue, Retention::default(), world.now_ms).backups, [""; 0]);
    }
}
