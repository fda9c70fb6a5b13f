//! Where things are in a repository. Specified in docs/format/repository.md.
//!
//! | name | what |
//! |---|---|
//! | `surus-repository.json` | says that this is a repository, and of which format |
//! | `keys/ID.json` | a data key, wrapped |
//! | `clusters/SYSTEM.json` | the cluster with this system identifier |
//! | `SYSTEM/wal/TIMELINE/LOG/SEGMENT` | a WAL segment, `.partial` or `.backup` file |
//! | `SYSTEM/wal/history/TIMELINE.history` | where a timeline came from |
//! | `SYSTEM/begun/LABEL.json` | a backup that is being taken, or was broken off |
//! | `SYSTEM/data/LABEL/…` | its data: bundles `b000000` … and an index of each, `i000000` … |
//! | `SYSTEM/manifest/LABEL` | what makes it a backup; written last |
//! | `SYSTEM/hole/SEGMENT.json` | WAL that was given up, and why |
//! | `SYSTEM/expired.json` | up to where the retention has let WAL go |
//! | `SYSTEM/keep/LABEL.json`, `SYSTEM/verified/LABEL.json` | what was said and learnt about a backup |

/// The mark of a repository.
pub const REPOSITORY: &str = "surus-repository.json";

/// The folder of wrapped data keys.
pub const KEYS: &str = "keys/";

/// The folder of clusters' marks.
pub const CLUSTERS: &str = "clusters/";

/// The names of one cluster's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterNames {
    pub system_identifier: u64,
}

impl ClusterNames {
    /// The folder of everything of the cluster.
    pub fn folder(self) -> String {
        format!("{}/", self.system_identifier)
    }

    /// What is known of the cluster as a whole.
    pub fn cluster(self) -> String {
        format!("{CLUSTERS}{}.json", self.system_identifier)
    }

    /// The folder of all WAL, or of that of one timeline.
    pub fn wal_folder(self, timeline: Option<u32>) -> String {
        match timeline {
            None => format!("{}/wal/", self.system_identifier),
            Some(timeline) => format!("{}/wal/{timeline:08X}/", self.system_identifier),
        }
    }

    /// The folder of timeline history files.
    pub fn history_folder(self) -> String {
        format!("{}/wal/history/", self.system_identifier)
    }

    /// A file of pg_wal under its own name: a segment, `.partial`, `.backup` or `.history`. The name must be one of
    /// these; see [`crate::wal::name`].
    pub fn wal(self, file: &str) -> String {
        if file.ends_with(".history") {
            return format!("{}{file}", self.history_folder());
        }
        let (timeline, log) = (file.get(..8).unwrap_or("0"), file.get(8..16).unwrap_or("0"));
        format!("{}/wal/{timeline}/{log}/{file}", self.system_identifier)
    }

    /// The folder of manifests: a backup is one when its manifest is there.
    pub fn manifest_folder(self) -> String {
        format!("{}/manifest/", self.system_identifier)
    }

    /// A backup's manifest.
    pub fn manifest(self, label: &str) -> String {
        format!("{}/manifest/{label}", self.system_identifier)
    }

    /// The folder of backups that are being taken, or were broken off.
    pub fn begun_folder(self) -> String {
        format!("{}/begun/", self.system_identifier)
    }

    /// Exists from the beginning of a backup to its manifest: who takes it, and when it was last alive.
    pub fn begun(self, label: &str) -> String {
        format!("{}/begun/{label}.json", self.system_identifier)
    }

    /// The folder of the data of all backups, or of one.
    pub fn data_folder(self, label: Option<&str>) -> String {
        match label {
            None => format!("{}/data/", self.system_identifier),
            Some(label) => format!("{}/data/{label}/", self.system_identifier),
        }
    }

    /// A bundle of chunks.
    pub fn bundle(self, label: &str, number: u32) -> String {
        format!("{}/data/{label}/b{number:06}", self.system_identifier)
    }

    /// What stands beside a bundle: whose blocks are in it, and their hashes.
    pub fn bundle_index(self, label: &str, number: u32) -> String {
        format!("{}/data/{label}/i{number:06}", self.system_identifier)
    }

    /// WAL from this segment on was given up.
    pub fn hole(self, segment: &str) -> String {
        format!("{}/hole/{segment}.json", self.system_identifier)
    }

    /// The folder of holes.
    pub fn hole_folder(self) -> String {
        format!("{}/hole/", self.system_identifier)
    }

    /// Up to where the retention has let WAL go.
    pub fn expired(self) -> String {
        format!("{}/expired.json", self.system_identifier)
    }

    /// The backup is to be kept.
    pub fn keep(self, label: &str) -> String {
        format!("{}/keep/{label}.json", self.system_identifier)
    }

    /// What was verified of the backup, and when.
    pub fn verified(self, label: &str) -> String {
        format!("{}/verified/{label}.json", self.system_identifier)
    }

    /// What was verified of the WAL.
    pub fn verified_wal(self) -> String {
        format!("{}/verified/wal.json", self.system_identifier)
    }
}
