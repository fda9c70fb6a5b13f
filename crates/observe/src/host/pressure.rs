//! Time lost to waiting for a resource: `/proc/pressure` (Documentation/accounting/psi.rst of Linux).

use crate::collector::Page;

super::families! {
    CPU_WAITING = Counter "node_pressure_cpu_waiting_seconds_total" "Seconds in which a task waited for a processor";
    IO_WAITING = Counter "node_pressure_io_waiting_seconds_total" "Seconds in which a task waited for a disk";
    IO_STALLED = Counter "node_pressure_io_stalled_seconds_total" "Seconds in which all tasks waited for a disk";
    MEMORY_WAITING = Counter "node_pressure_memory_waiting_seconds_total" "Seconds in which a task waited for memory";
    MEMORY_STALLED = Counter "node_pressure_memory_stalled_seconds_total" "Seconds in which all tasks waited for memory";
}

pub(super) fn read(resource: &str, text: &str, page: &mut Page) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let total = words.find_map(|word| word.strip_prefix("total=")?.parse::<f64>().ok());
        let family = match (resource, kind) {
            ("cpu", "some") => &CPU_WAITING,
            ("io", "some") => &IO_WAITING,
            ("io", "full") => &IO_STALLED,
            ("memory", "some") => &MEMORY_WAITING,
            ("memory", "full") => &MEMORY_STALLED,
            _ => continue,
        };
        if let Some(microseconds) = total {
            page.tell(family, [], microseconds / 1e6);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_in_seconds() {
        let mut page = Page::default();
        let text = "some avg10=0.00 avg60=0.10 avg300=0.05 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n";
        read("io", text, &mut page);
        read("cpu", text, &mut page);
        let told: Vec<(&str, f64)> =
            page.into_told().iter().map(|told| (told.family.name, told.points[0].value)).collect();
        let expected = [
            ("node_pressure_io_waiting_seconds_total", 2.5),
            ("node_pressure_io_stalled_seconds_total", 0.5),
            ("node_pressure_cpu_waiting_seconds_total", 2.5),
        ];
        assert_eq!(told, expected);
    }
}
