//! Room on file systems: the table of mounts and `statvfs`.

use crate::collector::Page;
use rustix::fs::{StatVfs, StatVfsMountFlags, statvfs};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

super::families! {
    SIZE = Gauge "node_filesystem_size_bytes" "Size";
    FREE = Gauge "node_filesystem_free_bytes" "Free, with what is reserved for root";
    AVAILABLE = Gauge "node_filesystem_avail_bytes" "Free for those who are not root";
    FILES = Gauge "node_filesystem_files" "Inodes";
    FILES_FREE = Gauge "node_filesystem_files_free" "Free inodes";
    READ_ONLY = Gauge "node_filesystem_readonly" "1 if it is read-only";
    FAILED = Gauge "node_filesystem_device_error" "1 if it could not be asked";
}

/// Mount points and below that are not told, and types of file systems without room of their own; both as in
/// node_exporter.
const HIDDEN: [&str; 6] =
    ["/dev", "/proc", "/sys", "/run/credentials/", "/var/lib/docker/", "/var/lib/containers/storage/"];
const TYPES: [&str; 24] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];
/// Mounts that are asked, at most.
const MOUNTS_AT_MOST: usize = 200;

/// One line of the table of mounts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Mount {
    device: String,
    mountpoint: String,
    fstype: String,
}

/// Reads the table. Source: fstab(5), where octal escapes stand for white space.
fn parse(mounts: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let mut words = line.split_whitespace().map(unescaped);
        Some(Mount { device: words.next()?, mountpoint: words.next()?, fstype: words.next()? })
    };
    mounts.lines().filter_map(mount).collect()
}

fn unescaped(word: &str) -> String {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    pairs.into_iter().fold(word.to_owned(), |word, (code, plain)| word.replace(code, plain))
}

fn is_told(mount: &Mount) -> bool {
    let below = |hidden: &str| match hidden.strip_suffix('/') {
        Some(_) => mount.mountpoint.starts_with(hidden),
        None => mount.mountpoint.strip_prefix(hidden).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    };
    !TYPES.contains(&mount.fstype.as_str()) && !HIDDEN.into_iter().any(below)
}

/// The mount that holds a path: the one with the longest mount point; of equal ones the last, which covers the others.
fn holder<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().filter(|mount| path.starts_with(&mount.mountpoint)).max_by_key(|mount| mount.mountpoint.len())
}

/// What is told: as node_exporter chooses, and whatever holds one of the places, of any type.
fn chosen<'a>(mounts: &'a [Mount], places: &[PathBuf]) -> Vec<&'a Mount> {
    let usual = mounts.iter().filter(|mount| is_told(mount));
    let held = places.iter().filter_map(|place| holder(mounts, place));
    let all: BTreeSet<&Mount> = held.chain(usual).take(MOUNTS_AT_MOST).collect();
    all.into_iter().collect()
}

pub(super) fn read(mounts: &str, places: &[PathBuf], page: &mut Page) {
    // A link may lead to another file system.
    let places: Vec<PathBuf> =
        places.iter().map(|place| place.canonicalize().unwrap_or_else(|_| place.clone())).collect();
    let mounts = parse(mounts);
    for mount in chosen(&mounts, &places) {
        let labels = [
            ("device", mount.device.as_str()),
            ("fstype", mount.fstype.as_str()),
            ("mountpoint", mount.mountpoint.as_str()),
        ];
        let room = statvfs(&mount.mountpoint);
        page.tell(&FAILED, labels, f64::from(u8::from(room.is_err())));
        if let Ok(room) = room {
            tell(&room, labels, page);
        }
    }
}

fn tell(room: &StatVfs, labels: [(&'static str, &str); 3], page: &mut Page) {
    let bytes = |blocks: u64| blocks as f64 * room.f_frsize as f64;
    page.tell(&SIZE, labels, bytes(room.f_blocks));
    page.tell(&FREE, labels, bytes(room.f_bfree));
    page.tell(&AVAILABLE, labels, bytes(room.f_bavail));
    page.tell(&FILES, labels, room.f_files as f64);
    page.tell(&FILES_FREE, labels, room.f_ffree as f64);
    page.tell(&READ_ONLY, labels, f64::from(u8::from(room.f_flag.contains(StatVfsMountFlags::RDONLY))));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "overlay / overlay rw 0 0\nproc /proc proc rw 0 0\n/dev/sda1 /data ext4 rw 0 0\n\
        /dev/sdb1 /data/my\\040disk xfs ro 0 0\ntmpfs /dev/shm tmpfs rw 0 0\ntmpfs /run tmpfs rw 0 0\n";

    fn points(places: &[&str]) -> Vec<String> {
        let places: Vec<PathBuf> = places.iter().map(PathBuf::from).collect();
        let mounts = parse(TABLE);
        let mut points: Vec<String> = chosen(&mounts, &places).iter().map(|mount| mount.mountpoint.clone()).collect();
        points.sort();
        points
    }

    #[test]
    fn file_systems_with_room_of_their_own() {
        assert_eq!(points(&[]), ["/data", "/data/my disk", "/run"]);
    }

    #[test]
    fn the_data_directory_is_always_told() {
        assert_eq!(points(&["/var/lib/postgresql"]), ["/", "/data", "/data/my disk", "/run"]);
        assert_eq!(points(&["/data/my disk/pg"]), ["/data", "/data/my disk", "/run"]);
        let mounts = parse(TABLE);
        assert_eq!(holder(&mounts, Path::new("/database")).unwrap().mountpoint, "/", "not /data");
    }

    #[test]
    fn this_machine_has_room() {
        let mut page = Page::default();
        read("none / ext4 rw 0 0\nnone /there/is/no/such/place ext4 rw 0 0\n", &[], &mut page);
        let told = page.into_told();
        let of = |name: &str| told.iter().find(|told| told.family.name == name).unwrap();
        assert!(of("node_filesystem_size_bytes").points[0].value > 0.0);
        let failed: Vec<f64> = of("node_filesystem_device_error").points.iter().map(|point| point.value).collect();
        assert_eq!(failed, [0.0, 1.0]);
    }
}
