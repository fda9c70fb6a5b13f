//! The machine that a target runs on, under the names of node_exporter: read from `/proc` and `statvfs`, when surus is
//! on it too. One file per topic; each parses a text, so that it can be tested with one.
//!
//! Sources: proc(5), Documentation/filesystems/proc.rst and Documentation/admin-guide/iostats.rst of Linux; the names
//! and labels are those of node_exporter 1.5.

mod cpu;
mod disks;
mod filesystems;
mod load;
mod memory;
mod network;
mod pressure;
mod system;

use crate::collector::Page;
use std::{
    fs,
    path::{Path, PathBuf},
};
use surus_core::series::{Family, Told};

/// Declares families: a static for each, and `FAMILIES` over all of them.
macro_rules! families {
    ($($id:ident = $kind:ident $name:literal $help:literal;)*) => {
        $(pub static $id: surus_core::series::Family = surus_core::series::Family {
            name: $name,
            kind: surus_core::series::MetricKind::$kind,
            help: $help,
        };)*
        /// Every family of this topic.
        pub(super) const FAMILIES: &[&surus_core::series::Family] = &[$(&$id),*];
    };
}
use families;

/// Every family that [`read`] may fill, with its labels.
pub fn declared() -> impl Iterator<Item = (&'static Family, &'static [&'static str])> {
    let topics: [(&[&'static Family], &[&str]); 8] = [
        (cpu::FAMILIES, &["cpu", "mode"]),
        (load::FAMILIES, &[]),
        (memory::FAMILIES, &[]),
        (disks::FAMILIES, &["device"]),
        (filesystems::FAMILIES, &["device", "fstype", "mountpoint"]),
        (network::FAMILIES, &["device"]),
        (pressure::FAMILIES, &[]),
        (system::FAMILIES, &[]),
    ];
    topics.into_iter().flat_map(|(families, labels)| {
        families
            .iter()
            .map(move |family| (*family, if family.name == "node_uname_info" { system::NAME_LABELS } else { labels }))
    })
}

/// Reads everything. It may block, where a file system hangs. What the kernel does not tell is left out.
pub fn read(places: &[PathBuf]) -> Vec<Told> {
    let mut page = Page::default();
    let text = |path: &str| fs::read_to_string(Path::new("/proc").join(path)).unwrap_or_default();
    let stat = text("stat");
    cpu::read(&stat, rustix::param::clock_ticks_per_second() as f64, &mut page);
    system::read(&stat, &mut page);
    system::read_vmstat(&text("vmstat"), &mut page);
    system::read_files(&text("sys/fs/file-nr"), &mut page);
    system::read_names(&mut page);
    load::read(&text("loadavg"), &mut page);
    memory::read(&text("meminfo"), &mut page);
    disks::read(&text("diskstats"), &mut page);
    network::read(&text("net/dev"), &mut page);
    for resource in ["cpu", "io", "memory"] {
        pressure::read(resource, &text(&format!("pressure/{resource}")), &mut page);
    }
    // The first process sees all mounts of the machine; ours may see fewer, but always some.
    let mounts = Some(text("1/mounts")).filter(|mounts| !mounts.is_empty()).unwrap_or_else(|| text("self/mounts"));
    filesystems::read(&mounts, places, &mut page);
    page.into_told()
}
