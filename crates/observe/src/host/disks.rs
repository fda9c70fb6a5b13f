//! Block devices: `/proc/diskstats`.

use crate::collector::Page;
use surus_core::series::Family;

super::families! {
    READS = Counter "node_disk_reads_completed_total" "Reads that have completed";
    READS_MERGED = Counter "node_disk_reads_merged_total" "Reads that were merged with a neighbour";
    READ_BYTES = Counter "node_disk_read_bytes_total" "Bytes read";
    READ_SECONDS = Counter "node_disk_read_time_seconds_total" "Seconds spent by all reads";
    WRITES = Counter "node_disk_writes_completed_total" "Writes that have completed";
    WRITES_MERGED = Counter "node_disk_writes_merged_total" "Writes that were merged with a neighbour";
    WRITTEN_BYTES = Counter "node_disk_written_bytes_total" "Bytes written";
    WRITE_SECONDS = Counter "node_disk_write_time_seconds_total" "Seconds spent by all writes";
    NOW = Gauge "node_disk_io_now" "Reads and writes under way";
    BUSY_SECONDS = Counter "node_disk_io_time_seconds_total" "Seconds during which anything was under way";
    WEIGHTED_SECONDS = Counter "node_disk_io_time_weighted_seconds_total"
        "Seconds during which anything was under way, times how much was";
    DISCARDS = Counter "node_disk_discards_completed_total" "Discards that have completed";
    DISCARDS_MERGED = Counter "node_disk_discards_merged_total" "Discards that were merged with a neighbour";
    DISCARDED_SECTORS = Counter "node_disk_discarded_sectors_total" "Sectors discarded";
    DISCARD_SECONDS = Counter "node_disk_discard_time_seconds_total" "Seconds spent by all discards";
    FLUSHES = Counter "node_disk_flush_requests_total" "Flushes that have completed";
    FLUSH_SECONDS = Counter "node_disk_flush_requests_time_seconds_total" "Seconds spent by all flushes";
}

/// The kernel counts sectors of 512 bytes, whatever the device's own are.
const SECTOR: f64 = 512.0;
const MILLI: f64 = 0.001;

/// The columns after the name, in their order, with what makes the family's unit of them.
static COLUMNS: [(&Family, f64); 17] = [
    (&READS, 1.0),
    (&READS_MERGED, 1.0),
    (&READ_BYTES, SECTOR),
    (&READ_SECONDS, MILLI),
    (&WRITES, 1.0),
    (&WRITES_MERGED, 1.0),
    (&WRITTEN_BYTES, SECTOR),
    (&WRITE_SECONDS, MILLI),
    (&NOW, 1.0),
    (&BUSY_SECONDS, MILLI),
    (&WEIGHTED_SECONDS, MILLI),
    (&DISCARDS, 1.0),
    (&DISCARDS_MERGED, 1.0),
    (&DISCARDED_SECTORS, 1.0),
    (&DISCARD_SECONDS, MILLI),
    (&FLUSHES, 1.0),
    (&FLUSH_SECONDS, MILLI),
];

/// Memory, loop devices and partitions are left out, as node_exporter does.
fn is_disk(name: &str) -> bool {
    let numbered = |prefix: &str| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if ["ram", "loop", "fd"].into_iter().any(numbered) {
        return false;
    }
    let whole = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let letters = ["sd", "hd", "vd", "xvd"].into_iter().find_map(|prefix| whole.strip_prefix(prefix));
    let partition = whole.len() < name.len() && letters.is_some_and(|rest| rest.len() == 1);
    let nvme = name.starts_with("nvme") && whole.len() < name.len() && whole.ends_with('p');
    !partition && !nvme
}

pub(super) fn read(diskstats: &str, page: &mut Page) {
    for line in diskstats.lines() {
        let mut words = line.split_whitespace().skip(2);
        let Some(device) = words.next().filter(|name| is_disk(name)) else { continue };
        for ((family, factor), word) in COLUMNS.iter().zip(words) {
            if let Ok(value) = word.parse::<f64>() {
                page.tell(family, [("device", device)], value * factor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_without_partitions() {
        let names =
            ["sda", "sda1", "vda15", "xvda", "xvda1", "nvme0n1", "nvme0n1p2", "loop0", "ram1", "dm-0", "md127", "fd0"];
        let disks: Vec<&str> = names.into_iter().filter(|name| is_disk(name)).collect();
        assert_eq!(disks, ["sda", "xvda", "nvme0n1", "dm-0", "md127"]);
    }

    #[test]
    fn old_kernels_have_fewer_columns() {
        let mut page = Page::default();
        read("   8 0 sda 10 1 8 500 20 2 16 1000 3 1500 2000\n   8 1 sda1 1 1 1 1 1 1 1 1 1 1 1\n", &mut page);
        let told = page.into_told();
        assert_eq!(told.len(), 11);
        let value = |name: &str| told.iter().find(|told| told.family.name == name).unwrap().points[0].value;
        assert_eq!((value("node_disk_read_bytes_total"), value("node_disk_write_time_seconds_total")), (4096.0, 1.0));
    }
}
