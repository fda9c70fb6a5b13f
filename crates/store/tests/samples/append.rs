//! Cycles: in order, late, repeated, with series that come and go.

use surus_core::series::{Hints, Matcher, MetricKind, Source as _, Window};
use surus_store::StoreError;
use surus_store::samples::{Batch, Event, QueryDelta, SampleStore, SessionSample, Settings};

use crate::series::{ALWAYS, START, all, append, labels, settings, store};

#[test]
fn what_is_appended_is_read_also_after_reopening() {
    let (_directory, path, store) = store();
    append(&store, START, &[("a", 1.0), ("b", 2.5)]).unwrap();
    append(&store, START + 10_000, &[("a", f64::INFINITY), ("b", -0.0)]).unwrap();
    let before = all(&store, ALWAYS);
    assert_eq!(before["a"], [(0, Some(1.0)), (10_000, Some(f64::INFINITY))]);
    assert!(before["b"][1].1.unwrap().is_sign_negative());
    drop(store);
    let store = SampleStore::open(&path, settings()).unwrap();
    assert_eq!(all(&store, ALWAYS), before);
    let told = append(&store, START + 20_000, &[("b", 3.0)]).unwrap();
    assert_eq!((told.samples, told.new_series, told.ended), (1, 0, 1));
    assert_eq!(all(&store, ALWAYS)["a"][2], (20_000, None));
    let window = Window { after_ms: START, until_ms: START + 10_000 };
    assert_eq!(all(&store, window)["b"].len(), 1);
}

#[test]
fn a_series_that_vanishes_ends_and_may_come_back() {
    let (_directory, _path, store) = store();
    append(&store, START, &[("a", 1.0), ("b", 1.0)]).unwrap();
    append(&store, START + 10_000, &[("a", 2.0)]).unwrap();
    append(&store, START + 20_000, &[("a", 3.0)]).unwrap();
    append(&store, START + 30_000, &[("a", 4.0), ("b", 4.0)]).unwrap();
    let found = all(&store, ALWAYS);
    assert_eq!(found["b"], [(0, Some(1.0)), (10_000, None), (30_000, Some(4.0))]);
    store.mark_stale("main", START + 30_000).unwrap();
    store.mark_stale("main", START + 40_000).unwrap();
    store.mark_stale("nobody", START).unwrap();
    let found = all(&store, ALWAYS);
    assert_eq!(found["a"].last(), Some(&(30_001, None)));
    assert_eq!(found["a"].len(), 5);
}

#[test]
fn late_and_repeated_cycles_take_their_place() {
    let (_directory, _path, store) = store();
    append(&store, START, &[("a", 1.0), ("b", 1.0)]).unwrap();
    append(&store, START + 20_000, &[("a", 3.0)]).unwrap();
    // Between the two: `b` goes on there, `c` is only there.
    append(&store, START + 10_000, &[("a", 2.0), ("b", 2.0), ("c", 2.0)]).unwrap();
    let found = all(&store, ALWAYS);
    assert_eq!(found["a"], [(0, Some(1.0)), (10_000, Some(2.0)), (20_000, Some(3.0))]);
    assert_eq!(found["b"], [(0, Some(1.0)), (10_000, Some(2.0)), (20_000, None)]);
    assert_eq!(found["c"], [(10_000, Some(2.0)), (20_000, None)]);
    // The same again changes nothing; another value does not replace the first; a new series is added.
    let told = append(&store, START + 20_000, &[("a", 9.0), ("d", 4.0)]).unwrap();
    assert_eq!((told.samples, told.refused), (1, 1));
    let found = all(&store, ALWAYS);
    assert_eq!((found["a"][2], found["d"][0]), ((20_000, Some(3.0)), (20_000, Some(4.0))));
    append(&store, START + 700_000, &[("a", 5.0)]).unwrap();
    let error = append(&store, START + 90_000, &[("a", 5.0)]).unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    assert_eq!(all(&store, ALWAYS)["a"].len(), 4);
}

#[test]
fn a_late_cycle_does_not_bring_back_what_has_ended() {
    let (_directory, path, store) = store();
    append(&store, START, &[("a", 1.0), ("b", 1.0)]).unwrap();
    append(&store, START + 20_000, &[("a", 3.0), ("c", 3.0)]).unwrap();
    append(&store, START + 30_000, &[("a", 4.0)]).unwrap();
    append(&store, START + 10_000, &[("a", 2.0), ("b", 2.0), ("c", 2.0), ("d", 2.0)]).unwrap();
    let found = all(&store, ALWAYS);
    assert_eq!(found["b"], [(0, Some(1.0)), (10_000, Some(2.0)), (20_000, None)]);
    assert_eq!(found["c"], [(10_000, Some(2.0)), (20_000, Some(3.0)), (30_000, None)]);
    assert_eq!(found["d"], [(10_000, Some(2.0)), (20_000, None)]);
    drop(store);
    let store = SampleStore::open(&path, settings()).unwrap();
    let told = append(&store, START + 40_000, &[("a", 5.0)]).unwrap();
    assert_eq!((told.ended, told.new_series), (0, 0));
    let window = |after, until| Window { after_ms: START + after, until_ms: START + until };
    let there = |window| store.series(&[], window).unwrap().len();
    assert_eq!([there(window(5_000, 40_000)), there(window(25_000, 40_000)), there(window(30_000, 40_000))], [4, 2, 1]);
}

#[test]
fn limits_are_kept_and_said() {
    let (_directory, path, other) = store();
    drop(other);
    let limits = Settings { max_series_per_target: 2, max_selected_samples: 4, max_label_bytes: 8, ..settings() };
    let store = SampleStore::open(&path, limits).unwrap();
    append(&store, START, &[("a", 1.0), ("b", 1.0)]).unwrap();
    assert!(append(&store, START + 1, &[("a", 1.0), ("b", 1.0), ("c", 1.0)]).is_err());
    let told = append(&store, START + 2, &[("a", 1.0), ("b", 1.0), ("much_too_long", 1.0)]).unwrap();
    assert_eq!((told.samples, told.refused), (2, 1));
    append(&store, START + 3, &[("a", 1.0), ("b", 1.0)]).unwrap();
    assert!(store.select(&[], ALWAYS, Hints::default()).is_err());
    let busy = SampleStore::open(&path, settings()).unwrap_err();
    assert!(busy.to_string().contains("another surus"), "{busy}");
    for odd in [-1, 0, i64::MAX] {
        assert!(append(&store, odd, &[("a", 1.0)]).is_err());
    }
}

#[test]
fn series_and_metadata_are_found() {
    let (_directory, _path, store) = store();
    append(&store, START, &[("a", 1.0), ("b", 1.0)]).unwrap();
    let points = [(labels("a", "other"), 1.0)];
    store.append(&Batch { target: "other", group: "g", at_ms: START, every_ms: 10_000, points: &points }).unwrap();
    let find = |matchers: &[Matcher]| store.series(matchers, ALWAYS).unwrap();
    assert_eq!(find(&[Matcher::metric("a")]).len(), 2);
    assert_eq!(find(&[Matcher::metric("a"), Matcher::equal("instance", "other")]), [labels("a", "other")]);
    assert_eq!(find(&[Matcher::equal("nothing", "")]).len(), 3);
    assert_eq!(find(&[Matcher::new("__name__", surus_core::series::Op::Regex, "b|c").unwrap()]).len(), 1);
    assert!(store.series(&[], Window { after_ms: START, until_ms: START + 1 }).unwrap().is_empty());
    store.describe(&[("a", MetricKind::Counter, "How many.")]).unwrap();
    store.describe(&[("a", MetricKind::Counter, "How many a."), ("b", MetricKind::Gauge, "")]).unwrap();
    let known = store.metadata(None).unwrap();
    assert_eq!((known.len(), known[0].help.as_str(), known[0].kind), (2, "How many a.", MetricKind::Counter));
    assert_eq!(store.metadata(Some("b")).unwrap()[0].kind, MetricKind::Gauge);
}

#[test]
fn sessions_statements_events_and_the_outbox_are_kept() {
    let (_directory, _path, store) = store();
    let session = SessionSample { pid: 7, wait_event: Some("WALSync".to_owned()), ..SessionSample::default() };
    store.append_activity("main", START, std::slice::from_ref(&session)).unwrap();
    store.append_activity("main", START + 1000, &[]).unwrap();
    let found = store.activity("main", ALWAYS).unwrap();
    assert_eq!((found.len(), &found[0].sessions[0]), (2, &session));
    let delta = QueryDelta { query_id: -5, calls: 3, exec_time_ms: 0.125, ..QueryDelta::default() };
    store.append_query_deltas("main", START, std::slice::from_ref(&delta)).unwrap();
    assert_eq!(store.query_deltas("main", ALWAYS).unwrap()[0].deltas, [delta]);
    assert_eq!(store.unknown_query_ids("main", &[-5, 6]).unwrap(), [-5, 6]);
    store.remember_query_text("main", START, -5, "SELECT $1").unwrap();
    assert_eq!(store.unknown_query_ids("main", &[-5, 6]).unwrap(), [6]);
    assert_eq!(store.query_text("main", -5).unwrap().as_deref(), Some("SELECT $1"));
    let event = Event {
        at_ms: START,
        target: "main".to_owned(),
        kind: "restart".to_owned(),
        title: "The server was restarted".to_owned(),
        detail: serde_json::json!({"was_up_s": 5}),
        key: Some("main:restart:5".to_owned()),
    };
    assert!(store.append_event(&event).unwrap() && !store.append_event(&event).unwrap());
    assert_eq!(store.events(Some("main"), ALWAYS).unwrap(), [event]);
    assert!(store.events(Some("other"), ALWAYS).unwrap().is_empty());
    let queue = store.outbox("there", 10);
    queue.push(START, 2, b"12345").unwrap();
    queue.push(START + 1, 3, b"67890").unwrap();
    queue.push(START + 2, 4, b"abcde").unwrap();
    assert!(queue.push(START + 3, 5, b"eleven bytes").is_err());
    let state = queue.state().unwrap();
    assert_eq!((state.parcels, state.bytes, state.samples, state.oldest_ms), (2, 10, 7, Some(START + 1)));
    assert_eq!((state.dropped_parcels, state.dropped_samples), (2, 7));
    let next = queue.next().unwrap().unwrap();
    assert_eq!(next.body, b"67890");
    queue.done(next.id).unwrap();
    assert_eq!(queue.next().unwrap().unwrap().body, b"abcde");
}

#[test]
fn a_series_of_two_groups_is_one_to_the_reader() {
    let (_directory, _path, store) = store();
    let points = [(labels("a", "main"), 1.0)];
    let batch = |group, at_ms| Batch { target: "main", group, at_ms, every_ms: 10_000, points: &points };
    store.append(&batch("old", START)).unwrap();
    // It moves to another group: it ends in the old one at the moment at which it is in the new one.
    let nothing = Batch { points: &[], ..batch("old", START + 10_000) };
    assert_eq!(store.append(&nothing).unwrap().ended, 1);
    store.append(&batch("new", START + 10_000)).unwrap();
    store.append(&batch("new", START + 20_000)).unwrap();
    assert_eq!(all(&store, ALWAYS)["a"], [(0, Some(1.0)), (10_000, Some(1.0)), (20_000, Some(1.0))]);
    assert_eq!(store.series(&[], ALWAYS).unwrap().len(), 1);
}

#[test]
fn nothing_is_left_of_an_append_that_fails() {
    let (_directory, path, store) = store();
    append(&store, START, &[("a", 1.0)]).unwrap();
    let busy = rusqlite::Connection::open(&path).unwrap();
    busy.execute_batch("CREATE TRIGGER no BEFORE INSERT ON fresh BEGIN SELECT RAISE(ABORT, 'no'); END").unwrap();
    assert!(append(&store, START + 10_000, &[("a", 2.0), ("new", 1.0)]).is_err());
    busy.execute_batch("DROP TRIGGER no").unwrap();
    assert_eq!((store.series_count(), all(&store, ALWAYS).len()), (1, 1));
    // The same again, and then the new series' ids and labels are as if nothing had been.
    let told = append(&store, START + 10_000, &[("a", 2.0), ("new", 1.0)]).unwrap();
    assert_eq!((told.samples, told.new_series, told.refused), (2, 1, 0));
    drop(store);
    let store = SampleStore::open(&path, settings()).unwrap();
    assert_eq!(all(&store, ALWAYS)["new"], [(10_000, Some(1.0))]);
}
