//! surus's own process, under the names that client libraries use for theirs (`process_*`), and how remembering goes.

use crate::{collector::Page, desk::Desk};
use std::fs;
use surus_core::series::{Family, MetricKind, Told};

const fn family(name: &'static str, kind: MetricKind, help: &'static str) -> Family {
    Family { name, kind, help }
}

pub static CPU: Family =
    family("process_cpu_seconds_total", MetricKind::Counter, "Total user and system CPU time spent in seconds.");
pub static RESIDENT: Family =
    family("process_resident_memory_bytes", MetricKind::Gauge, "Resident memory size in bytes.");
pub static VIRTUAL: Family = family("process_virtual_memory_bytes", MetricKind::Gauge, "Virtual memory size in bytes.");
pub static STARTED: Family =
    family("process_start_time_seconds", MetricKind::Gauge, "Start time of the process since unix epoch in seconds.");
pub static OPEN_FILES: Family = family("process_open_fds", MetricKind::Gauge, "Number of open file descriptors.");
pub static MOST_FILES: Family =
    family("process_max_fds", MetricKind::Gauge, "Maximum number of open file descriptors.");
pub static STORE_ERRORS: Family = family(
    "surus_store_errors_total",
    MetricKind::Counter,
    "Times that something which was collected could not be stored.",
);
pub static STORE_DROPPED: Family = family(
    "surus_store_dropped_total",
    MetricKind::Counter,
    "Cycles and records that were thrown away because too much waited for the store.",
);
pub static STORE_UP: Family =
    family("surus_store_up", MetricKind::Gauge, "1 while what is collected is remembered, 0 while it is not.");

/// Every family of surus's own process.
pub static FAMILIES: &[&Family] =
    &[&CPU, &RESIDENT, &VIRTUAL, &STARTED, &OPEN_FILES, &MOST_FILES, &STORE_ERRORS, &STORE_DROPPED, &STORE_UP];

/// What one look at `/proc/self` says.
#[derive(Debug, Clone, PartialEq)]
struct Process {
    cpu_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
    /// In ticks since the machine started.
    started_ticks: f64,
}

/// Reads `/proc/self/stat`. Source: proc(5); the name, which may hold anything, ends at the last parenthesis.
fn parse(stat: &str, ticks_per_second: f64, page_bytes: f64) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(Process {
        cpu_seconds: (number(14)? + number(15)?) / ticks_per_second,
        started_ticks: number(22)?,
        virtual_bytes: number(23)?,
        resident_bytes: number(24)? * page_bytes,
    })
}

/// When the machine started, in seconds since 1970.
fn booted(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn most_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Everything that belongs to no target.
pub(crate) fn told(desk: &Desk) -> Vec<Told> {
    let mut page = Page::default();
    page.tell(&STORE_ERRORS, [], desk.errors() as f64);
    page.tell(&STORE_DROPPED, [], desk.dropped() as f64);
    page.tell(&STORE_UP, [], f64::from(u8::from(desk.trouble().is_none())));
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(process) = parse(&stat, ticks, rustix::param::page_size() as f64) {
        page.tell(&CPU, [], process.cpu_seconds);
        page.tell(&RESIDENT, [], process.resident_bytes);
        page.tell(&VIRTUAL, [], process.virtual_bytes);
        if let Some(booted) = booted(&fs::read_to_string("/proc/stat").unwrap_or_default()) {
            page.tell(&STARTED, [], booted + process.started_ticks / ticks);
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        page.tell(&OPEN_FILES, [], files.count() as f64);
    }
    if let Some(most) = most_files(&fs::read_to_string("/proc/self/limits").unwrap_or_default()) {
        page.tell(&MOST_FILES, [], most);
    }
    page.into_told()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat =
            "42 (a) b) S 1 42 42 0 -1 4194560 500 0 0 0 150 50 0 0 20 0 4 0 7000 1048576 25 18446744073709551615";
        let process = parse(stat, 100.0, 4096.0).unwrap();
        let expected =
            Process { cpu_seconds: 2.0, virtual_bytes: 1_048_576.0, resident_bytes: 102_400.0, started_ticks: 7000.0 };
        assert_eq!(process, expected);
        assert_eq!(parse("42 (a", 100.0, 4096.0), None);
    }

    #[test]
    fn limits_and_the_time_of_boot() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(most_files(limits), Some(1024.0));
        assert_eq!(booted("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
    }
}
