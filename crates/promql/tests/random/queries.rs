//! Random queries.

use super::samples::{CYCLES, START_MS};
use proptest::prelude::*;
use proptest::sample::select;

/// A moment with samples before it, never the moment of a sample.
pub fn moment() -> impl Strategy<Value = i64> {
    (60..CYCLES * 15).prop_map(|second| START_MS + second * 1000 + 500)
}

fn selector() -> impl Strategy<Value = String> {
    let name = select(vec!["requests_total", "errors_total", "load"]);
    let matchers = select(vec!["", "{a=\"x\"}", "{a!=\"x\"}", "{b=\"1\"}", "{a=~\"x|y\",b=\"2\"}", "{a!~\"z\"}"]);
    (name, matchers).prop_map(|(name, matchers)| format!("{name}{matchers}"))
}

fn shift() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => Just(String::new()),
        1 => Just(" offset 97s".to_owned()),
        1 => Just(" offset -40s".to_owned()),
        1 => moment().prop_map(|at| format!(" @ {}.{:03}", at / 1000, at % 1000)),
    ]
}

fn ranged(of: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    let samples = (selector(), select(vec!["40s", "2m", "5m", "11m"]), shift());
    // The start of a window never meets a step of another subquery: whether it belongs to it depends on the version.
    let subquery = (of, select(vec!["[3m1ms:29s]", "[7m1ms:1m]", "[4m1ms:]"]), shift());
    prop_oneof![
        3 => samples.prop_map(|(selector, range, shift)| format!("{selector}[{range}]{shift}")),
        1 => subquery.prop_map(|(of, range, shift)| format!("({of}){range}{shift}")),
    ]
}

fn over_range(of: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    let functions = vec![
        "delta",
        "irate",
        "idelta",
        "resets",
        "changes",
        "deriv",
        "sum_over_time",
        "avg_over_time",
        "min_over_time",
        "max_over_time",
        "count_over_time",
        "last_over_time",
        "present_over_time",
        "stddev_over_time",
        "stdvar_over_time",
        "absent_over_time",
    ];
    let ranged = || ranged(of.clone());
    prop_oneof![
        6 => (select(functions), ranged()).prop_map(|(function, range)| format!("{function}({range})")),
        1 => ranged().prop_map(|range| format!("quantile_over_time(0.7, {range})")),
        1 => ranged().prop_map(|range| format!("predict_linear({range}, 77)")),
        // Of a counter that is never reset: after a reset, zero may be near, where extrapolation differs.
        3 => (select(vec!["rate", "increase"]), select(vec!["40s", "2m", "11m"]), shift())
            .prop_map(|(function, range, shift)| format!("{function}(requests_total[{range}]{shift})")),
    ]
}

fn over_vector(of: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    let functions = vec!["abs", "ceil", "floor", "sgn", "timestamp", "absent", "round", "-"];
    let others = vec![
        "clamp(?, 990, 1020)",
        "clamp_max(?, 1004)",
        "clamp_min(?, 1001)",
        "round(?, 0.25)",
        "vector(scalar(?))",
        "label_replace(?, \"c\", \"$1-$1\", \"a\", \"(.*)\")",
        "label_join(?, \"c\", \"/\", \"b\", \"a\")",
    ];
    prop_oneof![
        (select(functions), of.clone()).prop_map(|(function, of)| format!("{function}({of})")),
        (select(others), of).prop_map(|(function, of)| function.replace('?', &of)),
    ]
}

fn aggregated(of: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    let kinds = vec![
        "sum ?(",
        "avg ?(",
        "count ?(",
        "min ?(",
        "max ?(",
        "group ?(",
        "stddev ?(",
        "stdvar ?(",
        "quantile ?(0.3, ",
        "count_values ?(\"value\", 16 * round((1 / 16) * ",
    ];
    let groups = vec!["", "by (a) ", "by (b, a) ", "without (b) ", "without () ", "by (le) "];
    (select(kinds), select(groups), of).prop_map(|(kind, group, of)| {
        // Rounding apart, a counted value would be another label.
        let inner = if kind.starts_with("count_values") { format!("({of}))") } else { of };
        format!("{}{inner})", kind.replace('?', group))
    })
}

fn combined(of: BoxedStrategy<String>) -> impl Strategy<Value = String> {
    let arithmetic = || select(vec!["+", "-", "*", "/", "%", "atan2", ">", "<=", "==", "!=", ">= bool", "< bool"]);
    let scalars = || select(vec!["3", "2.5", "-7", "time() / 1e9", "scalar(load{a=\"x\",b=\"1\"})", "pi()"]);
    let matching = vec![
        "",
        "on (a, b)",
        "ignoring (b)",
        "on (a)",
        "on (a) group_left ()",
        "on (a) group_right ()",
        "ignoring (b) group_left (b)",
    ];
    let sets = vec!["and", "or", "unless", "and on (a)", "or on (a)", "unless ignoring (b)", "or ignoring (a)"];
    prop_oneof![
        // Powers of powers are soon beyond what floats can hold.
        of.clone().prop_map(|of| format!("({of}) ^ 0.5")),
        (of.clone(), arithmetic(), scalars()).prop_map(|(of, operator, scalar)| format!("({of}) {operator} {scalar}")),
        (of.clone(), arithmetic(), scalars()).prop_map(|(of, operator, scalar)| format!("{scalar} {operator} ({of})")),
        (of.clone(), arithmetic(), select(matching), of.clone())
            .prop_map(|(left, operator, matching, right)| format!("({left}) {operator} {matching} ({right})")),
        (of.clone(), arithmetic(), of.clone())
            .prop_map(|(left, operator, right)| format!("sum by (a) ({left}) {operator} on (a) max by (a) ({right})")),
        (of.clone(), select(sets), of).prop_map(|(left, operator, right)| format!("({left}) {operator} ({right})")),
    ]
}

fn histogram() -> impl Strategy<Value = String> {
    let quantile = select(vec!["0", "0.5", "0.95", "1", "1.5"]);
    let series = vec!["took_bucket", "rate(took_bucket[2m])", "sum by (le) (rate(took_bucket[5m]))"];
    (quantile, select(series)).prop_map(|(q, series)| format!("histogram_quantile({q}, {series})"))
}

/// A query that gives an instant vector.
pub fn query() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        5 => (selector(), shift()).prop_map(|(selector, shift)| format!("{selector}{shift}")),
        1 => histogram(),
        // Over values that are never equal: which of equals is chosen is nobody's promise.
        1 => select(vec!["topk(2, load)", "topk by (a) (1, load)", "bottomk(3, load)", "topk(scalar(count(load)) - 3, load)"])
            .prop_map(str::to_owned),
        // Not over NaN, whose date depends on the processor.
        1 => selector().prop_map(|selector| format!("minute({selector}) + day_of_week({selector} * 1000)")),
        1 => Just("vector(time())".to_owned()),
    ];
    leaf.prop_recursive(4, 12, 2, |of| {
        prop_oneof![over_range(of.clone()), over_vector(of.clone()), aggregated(of.clone()), combined(of),]
    })
    .boxed()
}
