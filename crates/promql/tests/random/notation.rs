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

/// Pieces of which queries are made, and some that are made to hurt.
fn piece() -> impl Strategy<Value = String> {
    let pieces = vec![
        "x",
        "up{",
        "}",
        "a=\"b\"",
        "=~",
        "\"(\"",
        "\"a{b}\"",
        "[",
        "]",
        "5m",
        "1h30m",
        ":",
        "(",
        ")",
        "sum",
        "rate",
        "by",
        "on",
        "group_left",
        "offset",
        "-",
        "+",
        "*",
        "^",
        "@",
        "start()",
        "end()",
        "1e308",
        "1e30",
        "-1",
        "0",
        "NaN",
        "inf",
        "99999999999999999999999999",
        "9999999999y",
        "18446744073709551615",
        "0x1F",
        ",",
        "bool",
        "==",
        "and",
        "unless",
        "label_replace",
        "topk",
        "'",
        "`",
        "\\xff",
        "ä",
        "#",
        "\n",
        "[5m]",
        "[1e30]",
        "[99999999999999999999]",
        "1.5",
        "[0]",
        "offset 99999999999999999999999",
        "[5m:99999999999999999999999]",
        "@ 1e300",
        "@ NaN",
        "@ -1e30",
        "fill (",
        "__name__",
    ];
    proptest::sample::select(pieces).prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// No text makes reading a query panic: in the released program that would end it.
    #[test]
    fn any_query(pieces in proptest::collection::vec(piece(), 0..9), apart in any::<bool>()) {
        let between = if apart { " " } else { "" };
        let text = pieces.join(between);
        if let Ok(query) = surus_promql::Query::parse(&text) {
            let memory = surus_promql::script::Memory::new();
            let _ = query.instant(&memory, 1_700_000_000_000, &surus_promql::Options::default());
        }
    }

    #[test]
    fn any_text(text in "\\PC{0,40}") {
        let _ = surus_promql::Query::parse(&text);
    }
}
