//! pgtune's formulas: from a machine and a kind of work to settings.

use super::Evidence;
use serde::Serialize;
use surus_pg::settings::{Settings, byte_text};

const KB: u64 = 1 << 10;
const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;

/// What the server mostly does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Many short queries, few writes.
    Web,
    /// Many short transactions that write.
    Oltp,
    /// Few long queries over much data.
    Dw,
    /// A developer's own machine.
    Desktop,
    /// Some of everything.
    Mixed,
}

/// What the data lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    Hdd,
    Ssd,
    San,
    Nvme,
}

/// What the formulas need to know.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Machine {
    pub memory_bytes: u64,
    pub cores: u32,
    pub storage: Storage,
    pub profile: Profile,
    /// Sessions to plan for.
    pub connections: u32,
    /// The size of all databases together, when known.
    pub data_bytes: Option<u64>,
}

/// A setting with its wanted value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wanted {
    pub name: &'static str,
    pub value: String,
    /// The value in bytes, for sizes.
    #[serde(skip)]
    pub bytes: Option<u64>,
    /// The formula or the evidence in words.
    pub why: String,
}

impl Profile {
    /// pgtune's number of connections for this kind of work.
    pub fn connections(self) -> u32 {
        match self {
            Profile::Web => 200,
            Profile::Oltp => 300,
            Profile::Dw => 40,
            Profile::Desktop => 20,
            Profile::Mixed => 100,
        }
    }
}

fn size(name: &'static str, bytes: u64, why: impl Into<String>) -> Wanted {
    let rounded = round(bytes);
    Wanted { name, value: byte_text(rounded as f64), bytes: Some(rounded), why: why.into() }
}

fn plain(name: &'static str, value: impl ToString, why: impl Into<String>) -> Wanted {
    Wanted { name, value: value.to_string(), bytes: None, why: why.into() }
}

/// Whole gigabytes when that loses less than a hundredth, else whole megabytes, else kilobytes.
fn round(bytes: u64) -> u64 {
    let to = |unit: u64| bytes / unit * unit;
    [GB, MB].into_iter().map(to).find(|whole| *whole > 0 && (bytes - whole) * 100 <= bytes).unwrap_or_else(|| to(KB))
}

/// All settings that the formulas and the evidence speak for.
pub fn propose(major: u16, machine: &Machine, evidence: &Evidence, now: &Settings) -> Vec<Wanted> {
    let mut wanted = memory(machine);
    wanted.extend(wal(machine, evidence, now));
    wanted.extend(planner(machine));
    wanted.extend(workers(machine));
    if machine.memory_bytes >= 2 * GB {
        wanted.push(plain("huge_pages", "try", "at 2 GB and more, huge pages save page-table memory"));
    }
    if matches!(machine.profile, Profile::Web | Profile::Oltp | Profile::Mixed) {
        wanted.push(plain("jit", "off", "compiling costs short queries more than it saves"));
    }
    if major >= 15 {
        // Not every build has the library.
        let lz4 =
            now.get("wal_compression").is_some_and(|setting| setting.choices.iter().any(|choice| choice == "lz4"));
        let method = if lz4 { "lz4" } else { "on" };
        wanted.push(plain("wal_compression", method, "full-page images compress well and cheaply"));
    }
    if machine.cores >= 16 {
        let workers = if machine.cores >= 32 { 5 } else { 4 };
        wanted.push(plain("autovacuum_max_workers", workers, "more cores, more tables vacuumed side by side"));
    }
    wanted
}

fn memory(machine: &Machine) -> Vec<Wanted> {
    let ram = machine.memory_bytes;
    let desktop = machine.profile == Profile::Desktop;
    let shared = ram / if desktop { 16 } else { 4 };
    let cache = if desktop { ram / 4 } else { ram / 4 * 3 };
    let maintenance = (ram / if machine.profile == Profile::Dw { 8 } else { 16 }).min(8 * GB);
    let mut wanted = vec![
        size("shared_buffers", shared, if desktop { "memory / 16" } else { "memory / 4" }),
        size("effective_cache_size", cache, if desktop { "memory / 4" } else { "memory × 3/4" }),
        size("maintenance_work_mem", maintenance, "memory / 16 (/ 8 for a data warehouse), at most 8 GB"),
        size(
            "work_mem",
            work_mem(machine, shared),
            "(memory − shared_buffers) / ((connections + workers) × 3), by kind of work, at least 4 MB",
        ),
    ];
    if maintenance >= 2 * GB {
        wanted.push(size(
            "autovacuum_work_mem",
            2 * GB,
            "bounded where maintenance_work_mem is large: each worker may use it",
        ));
    }
    wanted
}

/// pgtune: `(RAM − shared_buffers) ÷ ((connections + worker processes) × 3)`, halved for dw and mixed, a sixth for a
/// desktop, × 1.3 when the data fit into memory, × 0.9 when they are far larger, at least 4 MB.
fn work_mem(machine: &Machine, shared: u64) -> u64 {
    let workers = if machine.cores >= 4 { machine.cores } else { 8 };
    let base = machine.memory_bytes.saturating_sub(shared) as f64 / (f64::from(machine.connections + workers) * 3.0);
    let by_profile = match machine.profile {
        Profile::Dw | Profile::Mixed => 0.5,
        Profile::Desktop => 1.0 / 6.0,
        Profile::Web | Profile::Oltp => 1.0,
    };
    let by_fit = match machine.data_bytes {
        Some(data) if data <= machine.memory_bytes => 1.3,
        Some(data) if data > machine.memory_bytes.saturating_mul(10) => 0.9,
        _ => 1.0,
    };
    ((base * by_profile * by_fit) as u64).max(4 * MB)
}

fn wal(machine: &Machine, evidence: &Evidence, now: &Settings) -> Vec<Wanted> {
    let (least, most) = match machine.profile {
        Profile::Web | Profile::Mixed => (GB, 4 * GB),
        Profile::Oltp => (2 * GB, 8 * GB),
        Profile::Dw => (4 * GB, 16 * GB),
        Profile::Desktop => (100 * MB, 2 * GB),
    };
    let timeout_s = now.milliseconds("checkpoint_timeout").unwrap_or(300_000.0) / 1000.0;
    // A checkpoint every checkpoint_timeout needs room for the WAL of one and of the next while it is spread out.
    let needed = evidence.wal_bytes_per_s.map(|rate| (rate * timeout_s * 1.9 * 1.1) as u64);
    let room = evidence.wal_room_bytes.map(|room| room / 2).unwrap_or(u64::MAX);
    let (max, why) = match needed {
        Some(needed) if needed > most => {
            let rate = surus_core::size::Bytes(evidence.wal_bytes_per_s.unwrap_or(0.0) as u64);
            (needed, format!("{rate} of WAL a second × checkpoint_timeout × 1.9 × 1.1, at most half of the free room"))
        }
        _ => (most, "by kind of work; the WAL rate seen asks for no more".to_owned()),
    };
    let max = max.min(room).max(GB.min(room));
    let mut wanted = vec![
        size("max_wal_size", max, why),
        size("min_wal_size", least.min(max), "by kind of work"),
        plain("checkpoint_completion_target", "0.9", "spreads a checkpoint's writes over the time between two"),
    ];
    let shared = machine.memory_bytes / if machine.profile == Profile::Desktop { 16 } else { 4 };
    let buffers = (shared * 3 / 100).clamp(32 * KB, 16 * MB);
    let buffers = if buffers > 14 * MB { 16 * MB } else { buffers };
    match evidence.wal_buffers_full_per_s {
        Some(rate) if rate > 1.0 => {
            wanted.push(size("wal_buffers", 64 * MB, format!("the buffers were full {rate:.1} times a second")));
        }
        _ => wanted.push(size("wal_buffers", buffers, "3 % of shared_buffers, at most 16 MB")),
    }
    wanted
}

fn planner(machine: &Machine) -> Vec<Wanted> {
    let fits = machine.data_bytes.is_some_and(|data| data <= machine.memory_bytes);
    let (cost, why) = match (machine.storage, machine.profile) {
        _ if fits => ("1.1", "the data fit into memory"),
        (Storage::Hdd, _) => ("4", "random reads of a rotating disk are slow"),
        (_, Profile::Dw) => ("4", "large scans read in sequence"),
        _ => ("1.1", "random reads of this storage cost hardly more than sequential ones"),
    };
    let depth = match machine.storage {
        Storage::Hdd => 2,
        Storage::Ssd => 200,
        Storage::San => 300,
        Storage::Nvme => 1000,
    };
    let target = if machine.profile == Profile::Dw { 500 } else { 100 };
    vec![
        plain("random_page_cost", cost, why),
        plain("effective_io_concurrency", depth, "requests that the storage serves side by side"),
        plain("default_statistics_target", target, "detail of the planner's statistics"),
    ]
}

/// pgtune proposes parallel workers from four cores on.
fn workers(machine: &Machine) -> Vec<Wanted> {
    let cores = machine.cores;
    if cores < 4 {
        return Vec::new();
    }
    let half = cores.div_ceil(2);
    let gather = if machine.profile == Profile::Dw { half } else { half.min(4) };
    vec![
        plain("max_worker_processes", cores.max(8), "one per core, never fewer than the default"),
        plain("max_parallel_workers", cores, "one per core"),
        plain("max_parallel_workers_per_gather", gather, "half the cores, at most 4 unless it is a data warehouse"),
        plain("max_parallel_maintenance_workers", half.min(4), "half the cores, at most 4"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(memory_gb: u64, cores: u32, profile: Profile) -> Machine {
        Machine {
            memory_bytes: memory_gb * GB,
            cores,
            storage: Storage::Ssd,
            profile,
            connections: profile.connections(),
            data_bytes: None,
        }
    }

    fn value(machine: &Machine, evidence: &Evidence, name: &str) -> String {
        let wanted = propose(15, machine, evidence, &Settings::default());
        wanted.iter().find(|want| want.name == name).map(|want| want.value.clone()).unwrap_or_default()
    }

    #[test]
    fn a_web_server_with_16_gb_and_4_cores() {
        let machine = machine(16, 4, Profile::Web);
        let of = |name| value(&machine, &Evidence::default(), name);
        assert_eq!(of("shared_buffers"), "4GB");
        assert_eq!(of("effective_cache_size"), "12GB");
        assert_eq!(of("maintenance_work_mem"), "1GB");
        assert_eq!(of("max_wal_size"), "4GB");
        assert_eq!(of("wal_buffers"), "16MB");
        // (16 GB − 4 GB) ÷ ((200 + 4) × 3) = 20,560 kB, shown as whole megabytes
        assert_eq!(of("work_mem"), "20MB");
        assert_eq!(of("max_parallel_workers_per_gather"), "2");
    }

    #[test]
    fn a_desktop_is_modest_and_a_small_machine_keeps_the_floor() {
        let desktop = machine(8, 2, Profile::Desktop);
        assert_eq!(value(&desktop, &Evidence::default(), "shared_buffers"), "512MB");
        let small = machine(1, 1, Profile::Oltp);
        assert_eq!(value(&small, &Evidence::default(), "work_mem"), "4MB");
        assert_eq!(value(&small, &Evidence::default(), "max_parallel_workers"), "");
    }

    #[test]
    fn evidence_outweighs_the_formula() {
        let machine = machine(16, 4, Profile::Web);
        let busy = Evidence {
            wal_bytes_per_s: Some(20.0 * MB as f64),
            wal_buffers_full_per_s: Some(3.0),
            ..Evidence::default()
        };
        // 20 MB/s × 300 s × 1.9 × 1.1 = 12,540 MB
        assert_eq!(value(&machine, &busy, "max_wal_size"), "12540MB");
        assert_eq!(value(&machine, &busy, "wal_buffers"), "64MB");
        let tight = Evidence { wal_room_bytes: Some(6 * GB), ..busy };
        assert_eq!(value(&machine, &tight, "max_wal_size"), "3GB");
    }
}
