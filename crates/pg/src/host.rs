//! The machine that the server runs on, as Linux's /proc and /sys tell it. Only meaningful when surus is on it too.

pub mod state;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What surus reads once about the machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostFacts {
    /// Processors that this process may use.
    pub cores: u32,
    /// Physical memory, or the control group's limit where that is lower, in bytes.
    pub memory_bytes: u64,
    /// Memory that can be had without swapping, in bytes.
    pub available_bytes: u64,
    pub swap_total_bytes: u64,
    pub swap_free_bytes: u64,
    /// Huge pages reserved and free, and their size in bytes.
    pub huge_pages_total: u64,
    pub huge_pages_free: u64,
    pub huge_page_bytes: u64,
}

/// A filesystem's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub total_bytes: u64,
    /// What an unprivileged user can still write.
    pub free_bytes: u64,
    pub total_inodes: u64,
    pub free_inodes: u64,
}

impl Room {
    /// Used share in percent, counted as `df` does: reserved blocks are not available.
    pub fn used_percent(&self) -> f64 {
        percent_used(self.total_bytes, self.free_bytes)
    }

    /// Used inodes in percent; 0 where the filesystem has no fixed number of them.
    pub fn used_inodes_percent(&self) -> f64 {
        percent_used(self.total_inodes, self.free_inodes)
    }
}

fn percent_used(total: u64, free: u64) -> f64 {
    if total == 0 { 0.0 } else { 100.0 * (1.0 - free as f64 / total as f64) }
}

impl HostFacts {
    /// Reads them now; `None` where there is no /proc.
    pub fn read() -> Option<Self> {
        let memory = fs::read_to_string("/proc/meminfo").ok()?;
        let kb = |name: &str| meminfo(&memory, name);
        let physical = kb("MemTotal") * 1024;
        Some(Self {
            cores: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
            memory_bytes: control_group_limit().map_or(physical, |limit| limit.min(physical)),
            available_bytes: kb("MemAvailable") * 1024,
            swap_total_bytes: kb("SwapTotal") * 1024,
            swap_free_bytes: kb("SwapFree") * 1024,
            huge_pages_total: kb("HugePages_Total"),
            huge_pages_free: kb("HugePages_Free"),
            huge_page_bytes: kb("Hugepagesize") * 1024,
        })
    }
}

/// A number of /proc/meminfo in its own unit (kB, or pages).
fn meminfo(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.split(':').next() == Some(name));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn control_group_limit() -> Option<u64> {
    let v2 = fs::read_to_string("/sys/fs/cgroup/memory.max");
    let text = v2.or_else(|_| fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes")).ok()?;
    text.trim().parse().ok()
}

/// The room on the filesystem that holds `path`.
pub fn room(path: &Path) -> Option<Room> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(Room {
        total_bytes: (stat.f_blocks - stat.f_bfree + stat.f_bavail) * stat.f_frsize,
        free_bytes: stat.f_bavail * stat.f_frsize,
        total_inodes: stat.f_files,
        free_inodes: stat.f_favail,
    })
}

/// The size of all files directly in a directory, in bytes; 0 when it cannot be read.
pub fn files_bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|meta| meta.len()).sum()
}

/// Is `pid` on this machine and is it the PostgreSQL backend that began `started_at` seconds after the epoch?
///
/// A process id alone could be another process's, or one of another machine's; name and start time together cannot.
pub fn is_our_backend(pid: u32, started_at: f64) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let named = fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim_start().starts_with("postgres"));
    named && process_start(&process).is_some_and(|start| (start - started_at).abs() < 5.0)
}

/// When a process began, in seconds since the epoch. Source: proc(5), field 22 of stat and btime of /proc/stat.
fn process_start(process: &Path) -> Option<f64> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / rustix::param::clock_ticks_per_second() as f64)
}

/// Is the block device under `path` rotational? `None` when the kernel does not say (overlay, network, virtual).
pub fn is_rotational(path: &Path) -> Option<bool> {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let block = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    // A partition has no queue of its own; its parent directory is the disk.
    let queue = [block.join("queue"), block.parent()?.join("queue")].into_iter().find(|dir| dir.is_dir())?;
    Some(fs::read_to_string(queue.join("rotational")).ok()?.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_and_room() {
        let host = HostFacts::read().unwrap();
        assert!(host.cores >= 1 && host.memory_bytes > 1 << 20, "{host:?}");
        let root = room(Path::new("/")).unwrap();
        assert!(root.total_bytes >= root.free_bytes && root.total_bytes > 0);
    }

    #[test]
    fn a_test_process_is_no_backend() {
        assert!(!is_our_backend(std::process::id(), 0.0));
        let start = process_start(Path::new("/proc/self")).unwrap();
        let now = surus_core::clock::now().as_second() as f64;
        assert!((now - start).abs() < 3600.0, "{start} {now}");
    }

    #[test]
    fn meminfo_is_read_by_name() {
        let text = "MemTotal:       16 kB\nHugePages_Total:  3\n";
        assert_eq!((meminfo(text, "MemTotal"), meminfo(text, "HugePages_Total"), meminfo(text, "None")), (16, 3, 0));
    }
}
