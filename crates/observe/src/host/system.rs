//! The kernel's own counters: `/proc/stat`, `/proc/vmstat`, open files, and what the machine is called.

use crate::collector::Page;
use surus_core::{clock, series::Family};

super::families! {
    BOOTED = Gauge "node_boot_time_seconds" "When the machine started, in seconds since 1970";
    TIME = Gauge "node_time_seconds" "The machine's clock, in seconds since 1970";
    SWITCHES = Counter "node_context_switches_total" "Context switches";
    FORKS = Counter "node_forks_total" "Processes that were started";
    INTERRUPTS = Counter "node_intr_total" "Interrupts that were served";
    RUNNING = Gauge "node_procs_running" "Tasks that run or could run";
    BLOCKED = Gauge "node_procs_blocked" "Tasks that wait for a disk";
    OOM_KILLS = Unknown "node_vmstat_oom_kill" "Processes that the kernel ended because memory ran out";
    PAGE_FAULTS = Unknown "node_vmstat_pgfault" "Page faults";
    MAJOR_FAULTS = Unknown "node_vmstat_pgmajfault" "Page faults that had to wait for a disk";
    PAGED_IN = Unknown "node_vmstat_pgpgin" "Kilobytes read from disks";
    PAGED_OUT = Unknown "node_vmstat_pgpgout" "Kilobytes written to disks";
    SWAPPED_IN = Unknown "node_vmstat_pswpin" "Pages read from swap";
    SWAPPED_OUT = Unknown "node_vmstat_pswpout" "Pages written to swap";
    FILES = Gauge "node_filefd_allocated" "Open files of the whole machine";
    MOST_FILES = Gauge "node_filefd_maximum" "Files that may be open at once";
    NAMES = Gauge "node_uname_info" "1, with what the machine and its kernel are called";
}

/// The labels of [`NAMES`].
pub(super) const NAME_LABELS: &[&str] = &["domainname", "machine", "nodename", "release", "sysname", "version"];

/// Lines of `/proc/stat` with one number that is told as it is.
static STAT: [(&str, &Family); 6] = [
    ("btime", &BOOTED),
    ("ctxt", &SWITCHES),
    ("processes", &FORKS),
    ("intr", &INTERRUPTS),
    ("procs_running", &RUNNING),
    ("procs_blocked", &BLOCKED),
];
static VMSTAT: [(&str, &Family); 7] = [
    ("oom_kill", &OOM_KILLS),
    ("pgfault", &PAGE_FAULTS),
    ("pgmajfault", &MAJOR_FAULTS),
    ("pgpgin", &PAGED_IN),
    ("pgpgout", &PAGED_OUT),
    ("pswpin", &SWAPPED_IN),
    ("pswpout", &SWAPPED_OUT),
];

fn lines(text: &str, wanted: &[(&str, &'static Family)], page: &mut Page) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(value)) = (words.next(), words.next()) else { continue };
        let family = wanted.iter().find(|(own, _)| *own == name).map(|(_, family)| *family);
        if let (Some(family), Ok(value)) = (family, value.parse()) {
            page.tell(family, [], value);
        }
    }
}

pub(super) fn read(stat: &str, page: &mut Page) {
    page.tell(&TIME, [], clock::now_ms() as f64 / 1000.0);
    lines(stat, &STAT, page);
}

pub(super) fn read_vmstat(vmstat: &str, page: &mut Page) {
    lines(vmstat, &VMSTAT, page);
}

pub(super) fn read_files(file_nr: &str, page: &mut Page) {
    let numbers: Vec<f64> = file_nr.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    if let [allocated, _, most] = numbers.as_slice() {
        page.tell(&FILES, [], *allocated);
        page.tell(&MOST_FILES, [], *most);
    }
}

pub(super) fn read_names(page: &mut Page) {
    let names = rustix::system::uname();
    let [sysname, release, version, machine, nodename, domainname] =
        [names.sysname(), names.release(), names.version(), names.machine(), names.nodename(), names.domainname()]
            .map(|name| name.to_string_lossy().into_owned());
    let labels = [
        ("sysname", sysname.as_str()),
        ("release", release.as_str()),
        ("version", version.as_str()),
        ("machine", machine.as_str()),
        ("nodename", nodename.as_str()),
        ("domainname", domainname.as_str()),
    ];
    page.tell(&NAMES, labels, 1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_name() {
        let mut page = Page::default();
        lines("cpu 1 2\nintr 500 1 2 3\nctxt 7\nbtime 1700000000\nprocs_running 2\n", &STAT, &mut page);
        read_vmstat("pgfault 9\noom_kill 1\nunheard 3\n", &mut page);
        read_files("1024\t0\t9000\n", &mut page);
        let told: Vec<(&str, f64)> =
            page.into_told().iter().map(|told| (told.family.name, told.points[0].value)).collect();
        let expected = [
            ("node_intr_total", 500.0),
            ("node_context_switches_total", 7.0),
            ("node_boot_time_seconds", 1.7e9),
            ("node_procs_running", 2.0),
            ("node_vmstat_pgfault", 9.0),
            ("node_vmstat_oom_kill", 1.0),
            ("node_filefd_allocated", 1024.0),
            ("node_filefd_maximum", 9000.0),
        ];
        assert_eq!(told, expected);
    }
}
