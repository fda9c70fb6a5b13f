//! Folding, aggregates and retention: what is read afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use surus_core::series::{Hints, Labels, Matcher, STALE_BITS, Source as _, Window};
use surus_store::samples::{
    Batch, Grain, QueryDelta, QueryDeltaRef, SampleStore, Scanned, SessionRef, SessionSample, Settings,
};

use crate::series::{ALWAYS, START, all, append, day_passes, labels, settings, store, store_with};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// What must be read: by series, time and bits.
type Model = BTreeMap<String, BTreeMap<i64, u64>>;

fn read(store: &SampleStore, window: Window) -> Model {
    let found = store.select(&[], window, Hints::default()).unwrap();
    let samples = |series: &surus_core::series::Series| {
        series.at_ms.iter().copied().zip(series.values.iter().map(|value| value.to_bits())).collect()
    };
    found.iter().map(|series| (series.labels.metric().unwrap().to_owned(), samples(series))).collect()
}

fn cut(model: &Model, window: Window) -> Model {
    let inside = |samples: &BTreeMap<i64, u64>| {
        samples.iter().filter(|(at, _)| window.holds(**at)).map(|(at, bits)| (*at, *bits)).collect::<BTreeMap<_, _>>()
    };
    model
        .iter()
        .map(|(name, samples)| (name.clone(), inside(samples)))
        .filter(|(_, samples)| !samples.is_empty())
        .collect()
}

/// Cycles: the distance to the one before in seconds, and what each of five series has: nothing, or any bits.
fn cycles() -> impl Strategy<Value = Vec<(i64, Vec<Option<u64>>)>> {
    let odd = prop_oneof![any::<u64>(), Just(f64::NAN.to_bits()), Just((-0.0f64).to_bits())];
    let whole = (0u32..50).prop_map(|number| Some(f64::from(number).to_bits()));
    let value = prop_oneof![6 => whole, 1 => Just(None), 2 => odd.prop_map(Some)];
    let gap = prop_oneof![20 => Just(10i64), 2 => 11i64..60, 1 => 600i64..9000];
    prop::collection::vec((gap, prop::collection::vec(value, 5)), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_was_appended_is_read_before_and_after_folding(
        cycles in cycles(),
        windows in prop::collection::vec((0i64..200_000, 0i64..100_000), 5),
        every in prop::sample::select(vec![1000i64, 10_000, 60_000, 600_000]),
    ) {
        let (_directory, path, store) = store();
        let mut model = Model::new();
        let mut at_ms = START;
        let mut before: Vec<usize> = Vec::new();
        for (gap, values) in &cycles {
            at_ms += gap * 1000;
            let there: Vec<usize> = (0..5).filter(|number| values[*number].is_some()).collect();
            let points: Vec<(Labels, f64)> = there
                .iter()
                .map(|number| (labels(&format!("m{number}"), "main"), f64::from_bits(values[*number].unwrap())))
                .collect();
            store.append(&Batch { target: "main", group: "g", at_ms, every_ms: every, points: &points }).unwrap();
            for number in before.iter().filter(|number| !there.contains(number)) {
                model.entry(format!("m{number}")).or_default().insert(at_ms, STALE_BITS);
            }
            for number in &there {
                model.entry(format!("m{number}")).or_default().insert(at_ms, values[*number].unwrap());
            }
            before = there.into_iter().filter(|number| values[*number] != Some(STALE_BITS)).collect();
        }
        prop_assert_eq!(&read(&store, ALWAYS), &model);
        let done = store.maintain(at_ms).unwrap();
        prop_assert_eq!(&read(&store, ALWAYS), &model);
        for (after, length) in windows {
            let window = Window { after_ms: START + after * 1000, until_ms: START + (after + length) * 1000 };
            prop_assert_eq!(&read(&store, window), &cut(&model, window));
        }
        drop(store);
        let store = SampleStore::open(&path, settings()).unwrap();
        prop_assert_eq!(&read(&store, ALWAYS), &model);
        // All of it, in the middle of next day's first slot; every cycle that was there is folded exactly once.
        let again = store.maintain(at_ms + 2 * DAY).unwrap();
        prop_assert_eq!(done.folded_rows + again.folded_rows, cycles.len());
        prop_assert_eq!(&read(&store, ALWAYS), &model);
    }
}

/// A day and a half of one target at 10 s: a counter, a gauge, one that hardly changes, one that comes and goes.
fn fill(store: &SampleStore, hours: i64) {
    for cycle in 0..hours * 360 {
        let wave = (cycle * 7919 % 1009) as f64;
        let mut points = vec![("counter", (cycle * 17) as f64), ("gauge", wave / 8.0), ("steady", 5.0)];
        if cycle % 1000 < 500 {
            points.push(("guest", wave));
        }
        append(store, START + 10_000 + cycle * 10_000, &points).unwrap();
    }
}

#[test]
fn aggregates_answer_as_the_samples_do_where_they_may() {
    let (_directory, path, store) = store();
    fill(&store, 25);
    let end = START + 25 * HOUR;
    let hints = |function| Hints { step_ms: HOUR, range_ms: HOUR, function: Some(function) };
    let window = Window { after_ms: START, until_ms: START + 24 * HOUR };
    let ask = |store: &SampleStore, function| store.select(&[], window, hints(function)).unwrap();
    let samples = ask(&store, "max_over_time");
    let done = store.maintain(end).unwrap();
    assert_eq!((done.aggregates, done.folded_rows), (8, 24 * 360));
    for (function, pick) in [("max_over_time", f64::max as fn(f64, f64) -> f64), ("min_over_time", f64::min)] {
        let found = ask(&store, function);
        for (raw, long) in samples.iter().zip(&found) {
            assert_eq!(raw.labels, long.labels);
            assert_eq!((raw.at_ms.len() > 4000, long.at_ms.len() > 12), (true, true), "{}", raw.labels);
            for (at, value) in long.at_ms.iter().zip(&long.values) {
                let of_hour = raw.at_ms.iter().zip(&raw.values).filter(|(raw, _)| **raw > at - HOUR && *raw <= at);
                let values = of_hour.map(|(_, value)| *value).filter(|value| !value.is_nan());
                // A stretch in which it only ended has no value.
                assert_eq!(values.reduce(pick), (!value.is_nan()).then_some(*value));
            }
        }
    }
    // The samples are there: everything else is answered from them.
    assert_eq!(ask(&store, "rate")[0].at_ms.len(), 8640);
    drop(store);
    let short = Settings { keep: Duration::from_secs(HOUR as u64 / 1000), ..settings() };
    let store = SampleStore::open(&path, short).unwrap();
    let before = store.maintain(end + DAY).unwrap();
    assert!(before.expired >= 12, "{before:?}");
    let counter = |hints| store.select(&[Matcher::metric("counter")], ALWAYS, hints).unwrap().remove(0);
    let found = counter(hints("rate"));
    assert_eq!(found.values[0], (29 * 17) as f64);
    assert!(found.at_ms.windows(2).all(|two| two[0] < two[1]));
    assert_eq!(found.at_ms.iter().filter(|at| **at <= START + 24 * HOUR).count(), 288);
    assert_eq!(counter(hints("avg_over_time")).values[0], 14.5 * 17.0);
}

#[test]
fn hours_stand_where_the_minutes_are_gone_too() {
    let (_directory, path, store) = store();
    fill(&store, 25);
    drop(store);
    let day = Duration::from_secs(86_400);
    let store =
        SampleStore::open(&path, Settings { keep: day, keep_medium: day, keep_long: day * 100, ..settings() }).unwrap();
    store.maintain(START + 25 * HOUR).unwrap();
    day_passes(&store, START + 10 * DAY);
    store.maintain(START + 10 * DAY).unwrap();
    let ask = |hints| store.select(&[Matcher::metric("counter")], ALWAYS, hints).unwrap().remove(0);
    let hours = ask(Hints { step_ms: HOUR, range_ms: 2 * HOUR, function: Some("increase") });
    assert_eq!((hours.at_ms.len(), hours.at_ms[0]), (25, START + HOUR));
    let instant = ask(Hints { step_ms: HOUR, range_ms: 300_000, function: None });
    assert_eq!((instant.at_ms.len(), instant.at_ms[0]), (25 * 12, START + 300_000));
    assert_eq!(instant.values[11], (359 * 17) as f64);
    // A series whose last hour ended has ended there.
    day_passes(&store, START + 200 * DAY);
    let done = store.maintain(START + 200 * DAY).unwrap();
    assert_eq!((done.forgotten_series, store.series_count()), (4, 1));
    assert_eq!(all(&store, ALWAYS).into_keys().collect::<Vec<_>>(), ["tick"]);
    assert_eq!(append(&store, START + 300 * DAY, &[("counter", 1.0)]).unwrap().new_series, 1);
    assert_eq!(all(&store, ALWAYS)["counter"], [(300 * DAY, Some(1.0))]);
}

#[test]
fn retention_by_size_takes_the_oldest_and_the_file_shrinks() {
    let (_directory, path, store) = store();
    let points = |cycle: i64| -> Vec<(Labels, f64)> {
        let value = |number: i64| ((cycle * 7919 + number * 104_729) % 1_000_003) as f64 * 1.1;
        (0..100).map(|number| (labels(&format!("m{number}"), "main"), value(number))).collect()
    };
    for cycle in 1..=3661 {
        let at_ms = START + cycle * 10_000;
        let points = points(cycle);
        store.append(&Batch { target: "main", group: "g", at_ms, every_ms: 10_000, points: &points }).unwrap();
        store.append_activity("main", at_ms, &[SessionSample::default()]).unwrap();
    }
    let end = START + 36_610_000;
    store.maintain(end).unwrap();
    drop(store);
    let most = 200_000;
    let store = SampleStore::open(&path, Settings { max_bytes: Some(most), ..settings() }).unwrap();
    let done = store.maintain(end).unwrap();
    assert!(done.file_bytes <= most + 65_536 && done.expired > 0, "{done:?}");
    let left = all(&store, ALWAYS);
    let times: Vec<i64> = left["m7"].iter().map(|(at, _)| *at).collect();
    assert_eq!(times.last(), Some(&36_610_000));
    assert!((60..2900).contains(&times.len()) && times.windows(2).all(|two| two[1] - two[0] == 10_000));
    append(&store, end + 10_000, &[("m7", 1.0)]).unwrap();
}

#[test]
fn readers_see_every_sample_once_while_rows_are_folded() {
    let (_directory, _path, store) = store();
    let stop = AtomicBool::new(false);
    let metric = [Matcher::metric("a")];
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut longest = 0;
                while !stop.load(Ordering::Relaxed) {
                    let found = store.select(&metric, ALWAYS, Hints::default()).unwrap();
                    let Some(series) = found.first() else { continue };
                    let odd = series.at_ms.windows(2).find(|two| two[1] - two[0] != 10_000);
                    assert_eq!(odd.map(|odd| [odd[0] - START, odd[1] - START]), None);
                    assert_eq!(series.at_ms[0], START);
                    assert!(series.at_ms.iter().zip(&series.values).all(|(at, value)| (at - START) as f64 == *value));
                    assert!(series.at_ms.len() >= longest, "{} after {longest}", series.at_ms.len());
                    longest = series.at_ms.len();
                }
                assert!(longest > 100);
            });
        }
        scope.spawn(|| {
            for cycle in 0..2000 {
                append(&store, START + cycle * 10_000, &[("a", (cycle * 10_000) as f64), ("b", 1.0)]).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let newest = all(&store, ALWAYS).get("a").and_then(|samples| samples.last().copied());
                let _some = store.maintain(START + newest.map_or(0, |(at, _)| at)).unwrap();
            }
        });
    });
    assert_eq!(all(&store, ALWAYS)["a"].len(), 2000);
}

#[test]
fn records_are_the_same_after_folding() {
    let (_directory, _path, store) = store();
    let text = |name: &str| Some(name.to_owned());
    for second in 0..1000 {
        let session = SessionSample {
            pid: 100 + second,
            database: text("bank"),
            wait_event: (second % 3 == 0).then(|| "WALSync".to_owned()),
            blocked_by: if second % 50 == 0 { vec![7, 8] } else { vec![] },
            ..SessionSample::default()
        };
        store.append_activity("main", START + i64::from(second) * 1000, &[session]).unwrap();
        let delta =
            QueryDelta { query_id: i64::from(second) * -7919, calls: 1, exec_time_ms: 0.1, ..QueryDelta::default() };
        store.append_query_deltas("main", START + i64::from(second) * 60_000, &[delta]).unwrap();
    }
    let before = (store.activity("main", ALWAYS).unwrap(), store.query_deltas("main", ALWAYS).unwrap());
    assert_eq!((before.0.len(), before.1.len()), (1000, 1000));
    store.maintain(START + 2 * DAY).unwrap();
    let after = (store.activity("main", ALWAYS).unwrap(), store.query_deltas("main", ALWAYS).unwrap());
    assert!(before == after);
    let window = Window { after_ms: START + 10_000, until_ms: START + 20_000 };
    assert_eq!(store.activity("main", window).unwrap().len(), 10);
    store.maintain(START + 16 * DAY).unwrap();
    assert!(store.activity("main", ALWAYS).unwrap().is_empty());
    // Sums of hours are kept longer than what they are of.
    let calls = |grain| {
        let see = |sum: &mut i64, _, delta: &QueryDeltaRef<'_>| *sum += delta.calls;
        store.fold_query_deltas("main", ALWAYS, grain, || 0, see, |sum, other| *sum += other).unwrap().0
    };
    assert_eq!((calls(Grain::Moments), calls(Grain::Hours)), (0, 1000));
    store.maintain(START + 100 * DAY).unwrap();
    assert_eq!(calls(Grain::Hours), 0);
}

#[test]
fn going_over_records_sees_what_reading_them_gives() {
    let (_directory, _path, store) = store();
    let names = ["bank", "a \"quoted\" \\ name\n", "Ünïcödé"];
    for second in 0..2000i32 {
        let session = |at: i32| SessionSample {
            pid: at,
            database: Some(names[at as usize % 3].to_owned()),
            wait_event_type: (at % 2 == 0).then(|| "Lock".to_owned()),
            blocked_by: if at % 2 == 0 { vec![at + 1] } else { vec![] },
            query_id: Some(i64::from(at) * -7919),
            ..SessionSample::default()
        };
        let sessions: Vec<SessionSample> = (0..second % 40).map(session).collect();
        store.append_activity("main", START + i64::from(second) * 1000, &sessions).unwrap();
    }
    // Some rows are folded, some are not, and some looks were late.
    store.maintain(START + 1_500_000).unwrap();
    store.append_activity("main", START + 500, &[SessionSample::default()]).unwrap();
    for window in [ALWAYS, Window { after_ms: START + 123_000, until_ms: START + 1_777_000 }] {
        let read = store.activity("main", window).unwrap();
        let (mut seen, scanned) = store
            .fold_activity(
                "main",
                window,
                Vec::new,
                |seen, look| seen.push((look.at_ms, look.sessions.iter().map(SessionRef::to_sample).collect())),
                |seen, mut other| seen.append(&mut other),
            )
            .unwrap();
        seen.sort_by_key(|(at_ms, _): &(i64, Vec<SessionSample>)| *at_ms);
        let mut read: Vec<_> = read.into_iter().map(|look| (look.at_ms, look.sessions)).collect();
        read.sort_by_key(|(at_ms, _)| *at_ms);
        assert!(seen == read);
        let records = read.iter().map(|(_, sessions)| sessions.len()).sum();
        assert_eq!(scanned, Scanned { moments: read.len(), records });
    }
    let at =
        |ms: i64, within: i64| store.activity_at("main", START + ms, within).unwrap().map(|look| look.at_ms - START);
    assert_eq!([at(700, 1000), at(600_999, 999), at(600_999, 998)], [Some(500), Some(600_000), None]);
    assert_eq!([at(5_000_000, 1000), at(i64::MAX - START, i64::MAX)], [None, Some(1_999_000)]);
    assert_eq!(store.activity_at("main", START + 39_000, 0).unwrap().unwrap().sessions.len(), 39);
    assert_eq!(store.activity_at("other", START, 1000).unwrap(), None);
}

#[test]
fn too_many_records_are_refused() {
    let (_directory, _path, store) = store_with(Settings { max_selected_samples: 50, ..settings() });
    for second in 0..60 {
        store.append_activity("main", START + second * 1000, &[SessionSample::default()]).unwrap();
    }
    let count = |until_ms| {
        let window = Window { after_ms: START - 1, until_ms };
        store.fold_activity("main", window, || 0, |sum, look| *sum += look.sessions.len(), |sum, other| *sum += other)
    };
    assert_eq!(count(START + 9000).unwrap().0, 10);
    assert_eq!(count(START + 60_000).unwrap_err().code(), surus_core::code::STORE_TOO_MUCH);
}

#[test]
fn sums_of_hours_are_those_of_their_moments() {
    let (_directory, _path, store) = store();
    for minute in 0..600i64 {
        let delta = |at: i64| QueryDelta {
            query_id: at,
            user: format!("user {}", at % 2),
            database: "bank".to_owned(),
            calls: minute + at,
            exec_time_ms: (minute * at) as f64 / 8.0,
            wal_bytes: minute,
            ..QueryDelta::default()
        };
        let deltas: Vec<QueryDelta> = (0..5).map(delta).collect();
        store.append_query_deltas("main", START + minute * 60_000 + 30_000, &deltas).unwrap();
    }
    store.maintain(START + 560 * 60_000).unwrap();
    type Sums = BTreeMap<(i64, String), QueryDelta>;
    let sums = |window, grain| {
        let see = |sums: &mut Sums, _, delta: &QueryDeltaRef<'_>| {
            sums.entry((delta.query_id, delta.user.to_string())).or_default().add(delta);
        };
        let merge = |sums: &mut Sums, other: Sums| {
            for (key, sum) in other {
                let mine = sums.entry(key).or_default();
                mine.calls += sum.calls;
                mine.exec_time_ms += sum.exec_time_ms;
                mine.wal_bytes += sum.wal_bytes;
            }
        };
        store.fold_query_deltas("main", window, grain, Sums::new, see, merge).unwrap()
    };
    for (after, until) in [(-1, 600), (60, 540), (61, 539), (100, 110), (130, 599)] {
        let window = Window { after_ms: START + after * 60_000, until_ms: START + until * 60_000 };
        let (moments, hours) = (sums(window, Grain::Moments), sums(window, Grain::Hours));
        assert_eq!(moments.0, hours.0, "{after} to {until}");
        assert!(until - after < 120 || hours.1.records < moments.1.records / 2, "{:?} {:?}", hours.1, moments.1);
    }
}
