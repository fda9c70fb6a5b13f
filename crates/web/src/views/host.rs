//! The machine, when surus runs on it.

use super::{
    Asking,
    plot::{Plot, Unit},
    quoted,
};
use crate::api::answer::ApiError;
use schemars::JsonSchema;
use serde::Serialize;
use surus_core::series::Point;
use surus_observe::{Answer, Snapshot, TargetNow};

/// The machine that a target runs on.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Host {
    /// Why nothing is known of it, if nothing is.
    pub absent: Option<String>,
    pub filesystems: Vec<Filesystem>,
    pub plots: Vec<Plot>,
}

/// A filesystem.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Filesystem {
    pub mountpoint: String,
    pub kind: String,
    pub size_bytes: f64,
    /// For those who are not root.
    pub free_bytes: Option<f64>,
    /// In use, from 0 to 1.
    pub used: Option<f64>,
    /// Inodes in use, from 0 to 1.
    pub inodes_used: Option<f64>,
    pub read_only: bool,
    /// The data directory, a tablespace or pg_wal is on it.
    pub holds: Vec<String>,
}

/// Looks at the machine.
pub fn look(asking: &Asking<'_>) -> Result<Host, ApiError> {
    let (target, snapshot) = (asking.target()?, &asking.scene.snapshot);
    let here = target.places.as_ref();
    let absent = match (&snapshot.host, here) {
        (_, None) => {
            Some(match target.collectors.iter().find(|one| one.name == "host").and_then(|one| one.reason.as_ref()) {
                Some(why) => format!("Nothing is known of its machine: {}", why.text),
                None => "Nothing is known of its machine: surus does not run there, or has not looked yet.".to_owned(),
            })
        }
        (None, Some(_)) => Some("The machine has not been read yet.".to_owned()),
        (Some(_), Some(_)) => None,
    };
    if absent.is_some() {
        return Ok(Host { absent, filesystems: Vec::new(), plots: Vec::new() });
    }
    let places: Vec<String> = here.into_iter().flatten().map(|path| path.display().to_string()).collect();
    Ok(Host { absent, filesystems: filesystems(snapshot, &places), plots: plots(asking, target) })
}

fn points<'a>(host: &'a Answer, family: &str) -> &'a [Point] {
    let told = host.told.iter().find(|told| told.family.name == family);
    told.map(|told| told.points.as_slice()).unwrap_or_default()
}

fn filesystems(snapshot: &Snapshot, places: &[String]) -> Vec<Filesystem> {
    let Some(host) = &snapshot.host else { return Vec::new() };
    let of = |family: &str, size: &Point| {
        points(host, family).iter().find(|other| other.labels == size.labels).map(|point| point.value)
    };
    let mounts: Vec<&str> =
        points(host, "node_filesystem_size_bytes").iter().filter_map(|point| point.labels.get("mountpoint")).collect();
    // A path is on the filesystem with the longest mountpoint that it is below.
    let below = |path: &str, mount: &str| {
        mount == "/" || path.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mount_of =
        |path: &str| mounts.iter().filter(|mount| below(path, mount)).max_by_key(|mount| mount.len()).copied();
    let mut all: Vec<Filesystem> = points(host, "node_filesystem_size_bytes")
        .iter()
        .filter(|size| size.value > 0.0)
        .map(|size| {
            let label = |name: &str| size.labels.get(name).unwrap_or_default().to_owned();
            let (mountpoint, free) = (label("mountpoint"), of("node_filesystem_avail_bytes", size));
            let inodes = of("node_filesystem_files", size).filter(|inodes| *inodes > 0.0);
            let holds = places.iter().filter(|path| mount_of(path) == Some(mountpoint.as_str())).cloned().collect();
            Filesystem {
                kind: label("fstype"),
                size_bytes: size.value,
                free_bytes: free,
                used: free.map(|free| 1.0 - free / size.value),
                inodes_used: inodes.and_then(|all| Some(1.0 - of("node_filesystem_files_free", size)? / all)),
                read_only: of("node_filesystem_readonly", size) == Some(1.0),
                holds,
                mountpoint,
            }
        })
        .collect();
    all.sort_by(|a, b| {
        let rank = |one: &Filesystem| (!one.holds.is_empty(), one.used.unwrap_or_default());
        rank(b).partial_cmp(&rank(a)).unwrap_or(std::cmp::Ordering::Equal)
    });
    all
}

fn plots(asking: &Asking<'_>, target: &TargetNow) -> Vec<Plot> {
    // Each target on the machine has its series.
    let (r, i) = (asking.scene.range.rate(), format!("instance={}", quoted(&target.name)));
    vec![
        Plot::stack("cpu", "Processors", Unit::Percent)
            .about("Of all processors together.")
            .query(
                format!("sum by (mode) (rate(node_cpu_seconds_total{{{i},mode!=\"idle\"}}{r})) / scalar(count(count by (cpu) (node_cpu_seconds_total{{{i}}})))"),
                "{{mode}}",
            ),
        Plot::lines("load", "Load", Unit::Count)
            .about("Tasks that ran or waited for a disk, averaged.")
            .query(format!("node_load1{{{i}}}"), "1 min")
            .query(format!("node_load5{{{i}}}"), "5 min"),
        Plot::stack("memory", "Memory", Unit::Bytes)
            .query(format!("node_memory_MemTotal_bytes{{{i}}} - node_memory_MemAvailable_bytes{{{i}}}"), "in use")
            .query(format!("node_memory_MemAvailable_bytes{{{i}}}"), "available"),
        Plot::lines("swap", "Swapped", Unit::PerSecond)
            .about("Pages a second. Anything for long is bad.")
            .query(format!("rate(node_vmstat_pswpin{{{i}}}{r})"), "in")
            .query(format!("rate(node_vmstat_pswpout{{{i}}}{r})"), "out"),
        Plot::lines("disk", "Disks", Unit::BytesPerSecond)
            .query(format!("rate(node_disk_read_bytes_total{{{i}}}{r}) > 0"), "{{device}} read")
            .query(format!("rate(node_disk_written_bytes_total{{{i}}}{r}) > 0"), "{{device}} written"),
        Plot::lines("disk-busy", "Disks busy", Unit::Percent)
            .about("The share of the time in which anything was under way.")
            .query(format!("rate(node_disk_io_time_seconds_total{{{i}}}{r})"), "{{device}}"),
        Plot::lines("network", "Network", Unit::BytesPerSecond)
            .query(format!("rate(node_network_receive_bytes_total{{{i},device!=\"lo\"}}{r})"), "{{device}} in")
            .query(format!("rate(node_network_transmit_bytes_total{{{i},device!=\"lo\"}}{r})"), "{{device}} out"),
        Plot::lines("pressure", "Pressure", Unit::Percent)
            .about("The share of the time in which a task waited for a processor, a disk or memory.")
            .query(format!("rate(node_pressure_cpu_waiting_seconds_total{{{i}}}{r})"), "processor")
            .query(format!("rate(node_pressure_io_waiting_seconds_total{{{i}}}{r})"), "disk")
            .query(format!("rate(node_pressure_memory_waiting_seconds_total{{{i}}}{r})"), "memory")
            .empty("The kernel does not tell pressure (PSI)."),
    ]
}
