//! Memory: `/proc/meminfo`, one family per line.

use crate::collector::Page;

super::families! {
    MEM_TOTAL = Gauge "node_memory_MemTotal_bytes" "MemTotal of /proc/meminfo, in bytes";
    MEM_FREE = Gauge "node_memory_MemFree_bytes" "MemFree of /proc/meminfo, in bytes";
    MEM_AVAILABLE = Gauge "node_memory_MemAvailable_bytes" "MemAvailable of /proc/meminfo, in bytes";
    BUFFERS = Gauge "node_memory_Buffers_bytes" "Buffers of /proc/meminfo, in bytes";
    CACHED = Gauge "node_memory_Cached_bytes" "Cached of /proc/meminfo, in bytes";
    SWAP_CACHED = Gauge "node_memory_SwapCached_bytes" "SwapCached of /proc/meminfo, in bytes";
    ACTIVE = Gauge "node_memory_Active_bytes" "Active of /proc/meminfo, in bytes";
    INACTIVE = Gauge "node_memory_Inactive_bytes" "Inactive of /proc/meminfo, in bytes";
    ACTIVE_ANON = Gauge "node_memory_Active_anon_bytes" "Active(anon) of /proc/meminfo, in bytes";
    INACTIVE_ANON = Gauge "node_memory_Inactive_anon_bytes" "Inactive(anon) of /proc/meminfo, in bytes";
    ACTIVE_FILE = Gauge "node_memory_Active_file_bytes" "Active(file) of /proc/meminfo, in bytes";
    INACTIVE_FILE = Gauge "node_memory_Inactive_file_bytes" "Inactive(file) of /proc/meminfo, in bytes";
    UNEVICTABLE = Gauge "node_memory_Unevictable_bytes" "Unevictable of /proc/meminfo, in bytes";
    MLOCKED = Gauge "node_memory_Mlocked_bytes" "Mlocked of /proc/meminfo, in bytes";
    SWAP_TOTAL = Gauge "node_memory_SwapTotal_bytes" "SwapTotal of /proc/meminfo, in bytes";
    SWAP_FREE = Gauge "node_memory_SwapFree_bytes" "SwapFree of /proc/meminfo, in bytes";
    ZSWAP = Gauge "node_memory_Zswap_bytes" "Zswap of /proc/meminfo, in bytes";
    ZSWAPPED = Gauge "node_memory_Zswapped_bytes" "Zswapped of /proc/meminfo, in bytes";
    DIRTY = Gauge "node_memory_Dirty_bytes" "Dirty of /proc/meminfo, in bytes";
    WRITEBACK = Gauge "node_memory_Writeback_bytes" "Writeback of /proc/meminfo, in bytes";
    ANON_PAGES = Gauge "node_memory_AnonPages_bytes" "AnonPages of /proc/meminfo, in bytes";
    MAPPED = Gauge "node_memory_Mapped_bytes" "Mapped of /proc/meminfo, in bytes";
    SHMEM = Gauge "node_memory_Shmem_bytes" "Shmem of /proc/meminfo, in bytes";
    KRECLAIMABLE = Gauge "node_memory_KReclaimable_bytes" "KReclaimable of /proc/meminfo, in bytes";
    SLAB = Gauge "node_memory_Slab_bytes" "Slab of /proc/meminfo, in bytes";
    SRECLAIMABLE = Gauge "node_memory_SReclaimable_bytes" "SReclaimable of /proc/meminfo, in bytes";
    SUNRECLAIM = Gauge "node_memory_SUnreclaim_bytes" "SUnreclaim of /proc/meminfo, in bytes";
    KERNEL_STACK = Gauge "node_memory_KernelStack_bytes" "KernelStack of /proc/meminfo, in bytes";
    PAGE_TABLES = Gauge "node_memory_PageTables_bytes" "PageTables of /proc/meminfo, in bytes";
    SEC_PAGE_TABLES = Gauge "node_memory_SecPageTables_bytes" "SecPageTables of /proc/meminfo, in bytes";
    NFS_UNSTABLE = Gauge "node_memory_NFS_Unstable_bytes" "NFS_Unstable of /proc/meminfo, in bytes";
    BOUNCE = Gauge "node_memory_Bounce_bytes" "Bounce of /proc/meminfo, in bytes";
    WRITEBACK_TMP = Gauge "node_memory_WritebackTmp_bytes" "WritebackTmp of /proc/meminfo, in bytes";
    COMMIT_LIMIT = Gauge "node_memory_CommitLimit_bytes" "CommitLimit of /proc/meminfo, in bytes";
    COMMITTED_AS = Gauge "node_memory_Committed_AS_bytes" "Committed_AS of /proc/meminfo, in bytes";
    VMALLOC_TOTAL = Gauge "node_memory_VmallocTotal_bytes" "VmallocTotal of /proc/meminfo, in bytes";
    VMALLOC_USED = Gauge "node_memory_VmallocUsed_bytes" "VmallocUsed of /proc/meminfo, in bytes";
    VMALLOC_CHUNK = Gauge "node_memory_VmallocChunk_bytes" "VmallocChunk of /proc/meminfo, in bytes";
    PERCPU = Gauge "node_memory_Percpu_bytes" "Percpu of /proc/meminfo, in bytes";
    HARDWARE_CORRUPTED = Gauge "node_memory_HardwareCorrupted_bytes" "HardwareCorrupted of /proc/meminfo, in bytes";
    ANON_HUGE_PAGES = Gauge "node_memory_AnonHugePages_bytes" "AnonHugePages of /proc/meminfo, in bytes";
    SHMEM_HUGE_PAGES = Gauge "node_memory_ShmemHugePages_bytes" "ShmemHugePages of /proc/meminfo, in bytes";
    SHMEM_PMD_MAPPED = Gauge "node_memory_ShmemPmdMapped_bytes" "ShmemPmdMapped of /proc/meminfo, in bytes";
    FILE_HUGE_PAGES = Gauge "node_memory_FileHugePages_bytes" "FileHugePages of /proc/meminfo, in bytes";
    FILE_PMD_MAPPED = Gauge "node_memory_FilePmdMapped_bytes" "FilePmdMapped of /proc/meminfo, in bytes";
    CMA_TOTAL = Gauge "node_memory_CmaTotal_bytes" "CmaTotal of /proc/meminfo, in bytes";
    CMA_FREE = Gauge "node_memory_CmaFree_bytes" "CmaFree of /proc/meminfo, in bytes";
    UNACCEPTED = Gauge "node_memory_Unaccepted_bytes" "Unaccepted of /proc/meminfo, in bytes";
    BALLOON = Gauge "node_memory_Balloon_bytes" "Balloon of /proc/meminfo, in bytes";
    HUGE_PAGES_TOTAL = Gauge "node_memory_HugePages_Total" "HugePages_Total of /proc/meminfo, in pages";
    HUGE_PAGES_FREE = Gauge "node_memory_HugePages_Free" "HugePages_Free of /proc/meminfo, in pages";
    HUGE_PAGES_RSVD = Gauge "node_memory_HugePages_Rsvd" "HugePages_Rsvd of /proc/meminfo, in pages";
    HUGE_PAGES_SURP = Gauge "node_memory_HugePages_Surp" "HugePages_Surp of /proc/meminfo, in pages";
    HUGEPAGESIZE = Gauge "node_memory_Hugepagesize_bytes" "Hugepagesize of /proc/meminfo, in bytes";
    HUGETLB = Gauge "node_memory_Hugetlb_bytes" "Hugetlb of /proc/meminfo, in bytes";
    DIRECT_MAP4K = Gauge "node_memory_DirectMap4k_bytes" "DirectMap4k of /proc/meminfo, in bytes";
    DIRECT_MAP2_M = Gauge "node_memory_DirectMap2M_bytes" "DirectMap2M of /proc/meminfo, in bytes";
    DIRECT_MAP1_G = Gauge "node_memory_DirectMap1G_bytes" "DirectMap1G of /proc/meminfo, in bytes";
}

pub(super) fn read(meminfo: &str, page: &mut Page) {
    for line in meminfo.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let mut words = rest.split_whitespace();
        let Some(value) = words.next().and_then(|word| word.parse::<f64>().ok()) else { continue };
        let kilobytes = words.next() == Some("kB");
        let name = name.replace('(', "_").replace(')', "");
        let fits = |own: &str| {
            let own = own.strip_prefix("node_memory_").unwrap_or_default();
            if kilobytes { own.strip_suffix("_bytes") == Some(name.as_str()) } else { own == name }
        };
        if let Some(family) = FAMILIES.iter().find(|family| fits(family.name)) {
            page.tell(family, [], if kilobytes { value * 1024.0 } else { value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_become_bytes_and_pages_stay() {
        let mut page = Page::default();
        read("MemTotal:       16 kB\nActive(anon):  2 kB\nHugePages_Total:       3\nNovelty: 5 kB\nodd\n", &mut page);
        let told: Vec<(&str, f64)> =
            page.into_told().iter().map(|told| (told.family.name, told.points[0].value)).collect();
        let expected = [
            ("node_memory_MemTotal_bytes", 16384.0),
            ("node_memory_Active_anon_bytes", 2048.0),
            ("node_memory_HugePages_Total", 3.0),
        ];
        assert_eq!(told, expected);
    }
}
