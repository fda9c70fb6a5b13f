//! The notation in which scripts describe series.

use proptest::prelude::*;
use surus_core::series::Labels;
use surus_promql::script::{Described, Item, described};

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        6 => any::<f64>().prop_filter("equal to itself", |value| !value.is_nan()).prop_map(Item::Value),
        1 => Just(Item::Missing),
        1 => Just(Item::Stale),
        1 => Just(Item::Histogram),
    ]
}

proptest! {
    /// What is written is read back.
    #[test]
    fn written_and_read_back(
        labels in proptest::collection::btree_map("[a-z_][a-z0-9_.]{0,6}", "\\PC{1,8}", 0..4),
        items in proptest::collection::vec(item(), 0..20),
    ) {
        let series = Described { labels: Labels::new(labels).unwrap(), items };
        prop_assert_eq!(described(&series.to_string()), Ok(series));
    }

    /// The expanding notation says the same as all values one by one.
    #[test]
    fn expanded(first in -1000_i32..1000, change in -50_i32..50, times in 0_usize..30) {
        let short = described(&format!("x {first}{change:+}x{times}")).unwrap();
        let long: Vec<Item> =
            (0..=times).map(|n| Item::Value(f64::from(first) + f64::from(change) * n as f64)).collect();
        prop_assert_eq!(short.items, long);
    }

    /// No line makes it panic.
    #[test]
    fn any_line(line in "\\PC{0,40}") {
        let _ = described(&line);
    }
}
