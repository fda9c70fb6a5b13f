//! The machine's clock is wrong for a while.

use surus_core::series::Window;
use surus_store::samples::{QueryDelta, SampleStore};

use crate::series::{ALWAYS, START, all, append, day_passes, settings, store};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

fn deltas(store: &SampleStore) -> usize {
    store.query_deltas("main", ALWAYS).unwrap().len()
}

#[test]
fn a_clock_that_is_far_ahead_deletes_nothing_before_it_is_believed() {
    let (_directory, path, store) = store();
    for minute in 0..2 * 24 * 60 {
        append(&store, START + minute * 60_000, &[("a", minute as f64)]).unwrap();
    }
    store.append_query_deltas("main", START + HOUR, &[QueryDelta::default()]).unwrap();
    let now = START + 2 * DAY;
    store.maintain(now).unwrap();
    let before = all(&store, ALWAYS);
    assert_eq!(before["a"].len(), 2 * 24 * 60);
    // Before the first cycle of that time, after it, and after a restart.
    assert_eq!(store.maintain(now + 2 * YEAR).unwrap().expired, 0);
    for hour in 0..20 {
        append(&store, now + 2 * YEAR + hour * HOUR, &[("a", 1.0)]).unwrap();
        assert_eq!(store.maintain(now + 2 * YEAR + hour * HOUR).unwrap().expired, 0);
    }
    drop(store);
    let store = SampleStore::open(&path, settings()).unwrap();
    assert_eq!(store.maintain(now + 2 * YEAR + 20 * HOUR).unwrap().expired, 0);
    let seen = all(&store, Window { after_ms: 0, until_ms: now });
    assert_eq!((&seen["a"], deltas(&store)), (&before["a"], 1));
    // A whole day of it: that is what time it is.
    day_passes(&store, now + 2 * YEAR + DAY);
    assert!(store.maintain(now + 2 * YEAR + DAY).unwrap().expired > 0);
    assert!(all(&store, Window { after_ms: 0, until_ms: now }).is_empty());
}

#[test]
fn a_clock_that_was_set_back_is_followed() {
    let (_directory, path, store) = store();
    for cycle in 0..10 {
        append(&store, START + cycle * 10_000, &[("a", 1.0), ("b", 1.0)]).unwrap();
    }
    for cycle in 0..10 {
        append(&store, START + YEAR + cycle * 10_000, &[("a", 2.0), ("b", 2.0)]).unwrap();
    }
    // It is right again: two cycles are lost, the third says that it is no straggler.
    let back = START + HOUR;
    for cycle in 0..2 {
        let refused = append(&store, back + cycle * 10_000, &[("a", 3.0)]).unwrap_err();
        assert!(refused.to_string().contains("is too late"), "{refused}");
    }
    for cycle in 2..5 {
        append(&store, back + cycle * 10_000, &[("a", 3.0)]).unwrap();
    }
    drop(store);
    let store = SampleStore::open(&path, settings()).unwrap();
    append(&store, back + 50_000, &[("a", 3.0)]).unwrap();
    let now = all(&store, Window { after_ms: back, until_ms: back + DAY });
    assert_eq!(
        now.into_iter().collect::<Vec<_>>(),
        [("a".to_owned(), (2..6).map(|cycle| (HOUR + cycle * 10_000, Some(3.0))).collect())]
    );
    // What was stored of the time to come is still there, and ended; nothing is stored twice.
    let later = all(&store, Window { after_ms: START + DAY, until_ms: START + 2 * YEAR });
    for metric in ["a", "b"] {
        assert_eq!((later[metric].len(), later[metric].last()), (11, Some(&(YEAR + 90_001, None))), "{metric}");
    }
    // Retention goes on by the right clock.
    day_passes(&store, back + 500 * DAY);
    assert!(store.maintain(back + 500 * DAY).unwrap().expired > 0);
    let early = all(&store, Window { after_ms: 0, until_ms: back + DAY });
    assert!(early.is_empty(), "{early:?}");
}

#[test]
fn a_straggler_is_not_a_clock_that_was_set_back() {
    let (_directory, _path, store) = store();
    append(&store, START + DAY, &[("a", 1.0)]).unwrap();
    for cycle in 1..10 {
        append(&store, START, &[("a", 9.0)]).unwrap_err();
        append(&store, START, &[("a", 9.0)]).unwrap_err();
        append(&store, START, &[("a", 9.0)]).unwrap_err();
        append(&store, START + DAY + cycle * 10_000, &[("a", 1.0)]).unwrap();
    }
    assert_eq!(all(&store, ALWAYS)["a"].len(), 10);
}
