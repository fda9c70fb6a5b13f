//! Time of each processor by what it did: the `cpu` lines of `/proc/stat`.

use crate::collector::Page;

super::families! {
    SECONDS = Counter "node_cpu_seconds_total" "Seconds that each processor spent in each mode";
    GUEST = Counter "node_cpu_guest_seconds_total"
        "Seconds that each processor spent running virtual machines; they are in node_cpu_seconds_total too";
}

/// The columns after the name, in their order.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const GUEST_MODES: [&str; 2] = ["user", "nice"];

pub(super) fn read(stat: &str, ticks_per_second: f64, page: &mut Page) {
    for line in stat.lines() {
        let mut words = line.split_whitespace();
        let Some(cpu) = words.next().and_then(|name| name.strip_prefix("cpu")).filter(|cpu| !cpu.is_empty()) else {
            continue;
        };
        let ticks: Vec<f64> = words.map_while(|word| word.parse().ok()).collect();
        for (mode, ticks) in MODES.iter().zip(&ticks) {
            page.tell(&SECONDS, [("cpu", cpu), ("mode", *mode)], ticks / ticks_per_second);
        }
        for (mode, ticks) in GUEST_MODES.iter().zip(ticks.iter().skip(MODES.len())) {
            page.tell(&GUEST, [("cpu", cpu), ("mode", *mode)], ticks / ticks_per_second);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_processor_and_no_sum() {
        let mut page = Page::default();
        read(
            "cpu  300 0 0 0 0 0 0 0 0 0\ncpu0 100 1 50 900 5 0 2 1 3 4\ncpu1 200 0 0 0 0 0 0 0 0 0\nintr 5\n",
            100.0,
            &mut page,
        );
        let told = page.into_told();
        assert_eq!((told[0].points.len(), told[1].points.len()), (16, 4));
        assert_eq!(told[0].points[3].labels.to_string(), r#"{cpu="0", mode="idle"}"#);
        assert_eq!(told[0].points[3].value, 9.0);
        assert_eq!(told[1].points[1].value, 0.04);
    }
}
