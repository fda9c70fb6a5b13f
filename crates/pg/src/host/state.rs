//! The state of the machine beyond its size: pressure, limits, disks, files. Everything is read when asked for, from
//! /proc and /sys; `None` where the kernel does not tell.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The parent of a process: for a backend, the postmaster.
pub fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Share of time, in percent, in which tasks waited for a resource (Documentation/accounting/psi.rst of Linux).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited, over the last 60 s.
    pub some_60: f64,
    /// All tasks waited at once, over the last 60 s.
    pub full_60: f64,
    /// All tasks waited at once, over the last 300 s.
    pub full_300: f64,
}

/// The pressure on `memory`, `io` or `cpu`.
pub fn pressure(resource: &str) -> Option<Pressure> {
    pressure_of(&fs::read_to_string(format!("/proc/pressure/{resource}")).ok()?)
}

fn pressure_of(text: &str) -> Option<Pressure> {
    let value = |kind: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(kind))?;
        line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    Some(Pressure {
        some_60: value("some", "avg60")?,
        full_60: value("full", "avg60").unwrap_or(0.0),
        full_300: value("full", "avg300").unwrap_or(0.0),
    })
}

/// The mode of transparent huge pages: `always`, `madvise` or `never`.
pub fn transparent_huge_pages() -> Option<String> {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// The first processor's frequency governor and the driver that obeys it.
pub fn frequency_governor() -> Option<(String, String)> {
    let read = |name: &str| fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cpufreq/{name}"));
    let driver = read("scaling_driver").unwrap_or_default();
    Some((read("scaling_governor").ok()?.trim().to_owned(), driver.trim().to_owned()))
}

/// `vm.overcommit_memory`: 0 by guess, 1 always, 2 never beyond the limit.
pub fn overcommit() -> Option<u8> {
    number("/proc/sys/vm/overcommit_memory")
}

/// How likely the kernel ends the process when memory runs out: −1000 never, 1000 first.
pub fn oom_score_adjustment(pid: u32) -> Option<i32> {
    number(&format!("/proc/{pid}/oom_score_adj"))
}

/// How many files the process may have open (soft limit); `None` also when there is no limit.
pub fn open_file_limit(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

/// Open files of the whole machine, and the most there may be.
pub fn system_files() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/sys/fs/file-nr").ok()?;
    let mut words = text.split_whitespace();
    Some((words.next()?.parse().ok()?, words.nth(1)?.parse().ok()?))
}

fn number<T: std::str::FromStr>(path: &str) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Does systemd-logind remove shared memory of a user who logs out? `None` without systemd.
pub fn removes_ipc() -> Option<bool> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let mut files = vec![PathBuf::from("/etc/systemd/logind.conf")];
    let mut more: Vec<PathBuf> =
        fs::read_dir("/etc/systemd/logind.conf.d").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    more.sort();
    files.extend(more);
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    // The last file that says anything decides.
    Some(texts.filter_map(|text| remove_ipc(&text)).fold(true, |_, later| later))
}

fn remove_ipc(text: &str) -> Option<bool> {
    let value = text.lines().rev().find_map(|line| line.trim().strip_prefix("RemoveIPC="))?;
    Some(!matches!(value.trim(), "no" | "false" | "0" | "off"))
}

/// A mounted filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's number of the device, which names the filesystem.
    pub device: u64,
    /// Where it is mounted; empty when it is not known.
    pub point: String,
    /// `/dev/sda1`, `overlay`, `tmpfs` …
    pub source: String,
    pub kind: String,
    pub read_only: bool,
}

/// The filesystem that holds `path`.
///
/// # Errors
/// When the path cannot be looked at.
pub fn mount_of(path: &Path) -> io::Result<Mount> {
    let device = fs::metadata(path)?.dev();
    let key = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let real = fs::canonicalize(path)?;
    let found = mounts(&table).filter(|(id, mount)| *id == key && real.starts_with(&mount.point));
    let found = found.max_by_key(|(_, mount)| mount.point.len()).map(|(_, mount)| mount);
    let unknown = Mount { device, point: String::new(), source: String::new(), kind: String::new(), read_only: false };
    Ok(Mount { device, ..found.unwrap_or(unknown) })
}

/// Device numbers and mounts of a mountinfo table (proc(5)).
fn mounts(table: &str) -> impl Iterator<Item = (&str, Mount)> {
    table.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let read_only = |options: &str| options.split(',').any(|one| one == "ro");
        let mount = Mount {
            device: 0,
            point: left.get(4)?.replace("\\040", " "),
            source: (*right.get(1)?).to_owned(),
            kind: (*right.first()?).to_owned(),
            read_only: read_only(left.get(5)?) || right.get(2).is_some_and(|options| read_only(options)),
        };
        Some((*left.get(2)?, mount))
    })
}

/// How many errors the filesystem has recorded about itself; only ext4 keeps count.
pub fn filesystem_errors(mount: &Mount) -> Option<u64> {
    let name = fs::canonicalize(&mount.source).ok()?;
    number(&format!("/sys/fs/ext4/{}/errors_count", name.file_name()?.to_str()?))
}

/// What a block device has done since the machine was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskTimes {
    pub reads: u64,
    pub read_ms: u64,
    pub writes: u64,
    pub write_ms: u64,
    pub in_flight: u64,
}

/// The counters of the device under `path`; `None` for filesystems without one (overlay, network).
pub fn disk_times(path: &Path) -> Option<DiskTimes> {
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    disk_times_of(&fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?)
}

/// Field numbers: Documentation/block/stat.rst of Linux.
fn disk_times_of(text: &str) -> Option<DiskTimes> {
    let fields: Vec<u64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let at = |index: usize| fields.get(index).copied();
    Some(DiskTimes { reads: at(0)?, read_ms: at(3)?, writes: at(4)?, write_ms: at(7)?, in_flight: at(8)? })
}

/// Who may do what with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode {
    /// The permission bits with set-user-id, set-group-id and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// The mode of a file or directory.
///
/// # Errors
/// When it cannot be looked at.
pub fn file_mode(path: &Path) -> io::Result<FileMode> {
    let meta = fs::metadata(path)?;
    Ok(FileMode { mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_texts() {
        let text = "some avg10=0.00 avg60=1.50 avg300=0.85 total=1\nfull avg10=0.00 avg60=0.04 avg300=0.47 total=2\n";
        assert_eq!(pressure_of(text), Some(Pressure { some_60: 1.5, full_60: 0.04, full_300: 0.47 }));
        let disk = disk_times_of("  10 0 80 20 30 0 240 90 1 100 110 0 0 0 0 0 0\n").unwrap();
        assert_eq!(disk, DiskTimes { reads: 10, read_ms: 20, writes: 30, write_ms: 90, in_flight: 1 });
        let table = "36 35 98:0 / /var/lib/pg\\040data rw,noatime shared:1 - ext4 /dev/sda1 ro,errors=remount-ro\n";
        let (id, mount) = mounts(table).next().unwrap();
        assert_eq!((id, mount.point.as_str(), mount.read_only), ("98:0", "/var/lib/pg data", true));
        assert_eq!(remove_ipc("[Login]\n#RemoveIPC=yes\nRemoveIPC=no\n"), Some(false));
        assert_eq!(remove_ipc("#RemoveIPC=yes\n"), None);
    }

    #[test]
    fn this_machine_answers() {
        let me = std::process::id();
        assert!(parent_of(me).unwrap() > 0);
        assert!(open_file_limit(me).unwrap() > 0 && system_files().unwrap().1 > 0);
        assert!(mount_of(Path::new("/proc")).unwrap().kind == "proc");
        assert_eq!(file_mode(Path::new("/tmp")).unwrap().mode, 0o1777);
    }
}
