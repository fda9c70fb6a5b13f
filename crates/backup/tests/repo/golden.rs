//! Repositories of this format that were written once and are never written again: every later surus must read them.
//! They hold a full and an incremental backup of a made-up cluster and a WAL segment. `SURUS_TEST_BLESS=1` makes those
//! that are not there yet.

use super::{
    backups::whole,
    without_surus::{python, run},
};
use jiff::Timestamp;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use surus_backup::{
    Cluster, Repo,
    block::BLOCK,
    catalogue,
    chain::Chain,
    manifest::{About, BackupKind, ChunkEntry, FileEntry, Manifest, Method, Origin, Run},
    repo::{
        codec::{Codec, Packer},
        container::{Kind, ObjectWriter},
        keys::{self, UserKey},
        local::LocalPlace,
        place::Created,
    },
    wal::push::push,
};
use surus_core::{lsn::Lsn, secret::Secret};

const SYSTEM: u64 = 7_000_000_000_000_000_042;
const SEGMENT: &str = "000000010000000000000002";
const KEYS: [(&str, Option<&str>); 3] = [
    ("plain", None),
    ("random-key", Some("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")),
    ("passphrase", Some("a passphrase for the golden repository")),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1").join(name)
}

fn user_key(text: Option<&str>) -> Option<UserKey> {
    text.map(|text| UserKey::from_text(&Secret::new(text)).unwrap())
}

/// What the file has in the full backup and in the incremental one.
fn table(incremental: bool) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..3 * BLOCK).map(|at| (at / 100) as u8).collect();
    if incremental {
        bytes[BLOCK..2 * BLOCK].fill(b'x');
        bytes.extend_from_slice(b"a short block at the end");
    }
    bytes
}

/// A segment of 1 MiB, all of it zeros but for its header.
fn segment() -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    bytes[0..2].copy_from_slice(&0xD118_u16.to_le_bytes());
    bytes[2..4].copy_from_slice(&2_u16.to_le_bytes());
    bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
    bytes[8..16].copy_from_slice(&(2_u64 << 20).to_le_bytes());
    bytes[24..32].copy_from_slice(&SYSTEM.to_le_bytes());
    bytes[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
    bytes
}

#[test]
fn repositories_of_format_1_can_still_be_read() {
    for (name, text) in KEYS {
        let (folder, key) = (folder(name), user_key(text));
        if std::env::var_os("SURUS_TEST_BLESS").is_some() && !folder.exists() {
            write(&folder, key.as_ref());
        }
        let repo = Repo::unlock(Arc::new(LocalPlace::new(folder)), key.as_ref()).unwrap();
        let cluster = repo.choose(None).unwrap();
        assert_eq!(cluster.names.system_identifier, SYSTEM);
        let (all, damaged) = catalogue::readable(&cluster).unwrap();
        assert!(damaged.is_empty(), "{damaged:?}");
        let labels: Vec<_> = all.into_iter().map(|about| about.label).collect();
        assert_eq!(labels, ["golden-full", "golden-incr"], "{name}");
        for (label, incremental) in [("golden-full", false), ("golden-incr", true)] {
            let files = whole(&repo, label);
            assert_eq!(files[0], ("PG_VERSION".to_owned(), b"18\n".to_vec()), "{name} {label}");
            assert!(files[1] == ("base/5/16384".to_owned(), table(incremental)), "{name} {label}");
        }
        let about = Chain::read(&cluster, "golden-incr").unwrap().newest().about.clone();
        assert_eq!((about.start_lsn, about.backup_label.as_str()), (Lsn(0x20_0028), "a label\n"));
        let wal = repo.read(Kind::Wal, &cluster.names.wal(SEGMENT)).unwrap().unwrap();
        assert!(wal == segment(), "{name}");
        let data_keys = keys::list(repo.place()).unwrap();
        assert_eq!(data_keys.len(), if text.is_some() { 2 } else { 0 }, "the full backup has an older key");
    }
}

#[test]
fn the_script_reads_them_too() {
    let Some(python) = python() else { return };
    for (name, text) in KEYS {
        for bare in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (repo, key) = (folder(name), dir.path().join("key"));
            fs::write(&key, text.unwrap_or_default()).unwrap();
            let (repo, key) = (repo.to_str().unwrap(), key.to_str().unwrap());
            let flags: &[&str] = if text.is_some() { &["--check", "--key", key] } else { &["--check"] };
            let data = dir.path().join("data");
            let words = [&[repo, "backup", "golden-incr", data.to_str().unwrap()], flags].concat();
            let output = run(&python, bare, &words);
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(fs::read(data.join("base/5/16384")).unwrap() == table(true), "{name}");
            let wal = dir.path().join(SEGMENT);
            let words = [&[repo, "wal", SEGMENT, wal.to_str().unwrap()], flags].concat();
            assert!(run(&python, bare, &words).status.success());
            assert!(fs::read(wal).unwrap() == segment(), "{name}");
        }
    }
}

fn write(folder: &Path, key: Option<&UserKey>) {
    let place = LocalPlace::new(folder.to_owned());
    place.make().unwrap();
    let place = Arc::new(place);
    let repo = Repo::unlock_or_create(place.clone(), key).unwrap();
    let cluster = repo.cluster(SYSTEM);
    cluster.register(1 << 20, Some(18)).unwrap();
    let runs = [Run { block: 0, count: 2, chunk: 1, at: 0 }, Run { block: 2, count: 1, chunk: 2, at: 0 }];
    let full = table(false);
    let chunks: [&[u8]; 3] = [b"18\n", &full[..2 * BLOCK], &full[2 * BLOCK..]];
    backup(&cluster, "golden-full", &chunks, &runs, Codec::Zstd(3));
    if let Some(key) = key {
        keys::rotate(place.as_ref(), key).unwrap();
    }
    let repo = Repo::unlock(place, key).unwrap();
    let cluster = repo.cluster(SYSTEM);
    let runs = [Run { block: 1, count: 1, chunk: 1, at: 0 }, Run { block: 3, count: 1, chunk: 2, at: 0 }];
    let newer = table(true);
    let chunks: [&[u8]; 3] = [b"18\n", &newer[BLOCK..2 * BLOCK], &newer[3 * BLOCK..]];
    backup(&cluster, "golden-incr", &chunks, &runs, Codec::Lz4);
    push(&repo, SEGMENT, &segment(), Some(SYSTEM), Codec::Zstd(3)).unwrap();
}

fn backup(cluster: &Cluster, label: &str, chunks: &[&[u8]], runs: &[Run], codec: Codec) {
    let incremental = codec == Codec::Lz4;
    let name = cluster.names.bundle(label, 0);
    let mut object = ObjectWriter::new(Kind::Bundle, &name, cluster.repo.keys().current());
    let mut packer = Packer::new(codec);
    let mut entries = Vec::new();
    for (index, raw) in (0..).zip(chunks) {
        let at = object.add(&mut packer, raw);
        let (raw_len, hash) = (raw.len() as u32, surus_backup::block::hash_of(raw));
        entries.push(ChunkEntry { bundle: 0, index, offset: at.offset, stored_len: at.stored_len, raw_len, hash });
    }
    assert_eq!(cluster.repo.place().create(&name, &object.finish()).unwrap(), Created::New);
    let file = |path: &str, content: &[u8], runs: &[Run]| FileEntry {
        path: path.into(),
        size: content.len() as u64,
        mode: 0o600,
        modified_ms: 1_700_000_000_000,
        crc32c: Some(crc32c::crc32c(content)),
        runs: runs.to_vec(),
    };
    let first = Run { block: 0, count: 1, chunk: 0, at: 0 };
    let files = vec![file("PG_VERSION", b"18\n", &[first]), file("base/5/16384", &table(incremental), runs)];
    let folders = ["base", "base/5", "global", "pg_tblspc", "pg_wal"];
    let directories = folders.map(|path| (path.to_owned(), 0o700)).to_vec();
    let manifest = Manifest { about: about(label, incremental, codec), directories, files, chunks: entries };
    catalogue::write_manifest(cluster, &manifest).unwrap();
}

fn about(label: &str, incremental: bool, codec: Codec) -> About {
    About {
        format: 1,
        label: label.into(),
        kind: if incremental { BackupKind::Incremental } else { BackupKind::Full },
        parent: incremental.then(|| "golden-full".into()),
        system_identifier: SYSTEM,
        server_version: 180_004,
        timeline: 1,
        start_lsn: Lsn(0x20_0028),
        stop_lsn: Lsn(if incremental { 0x20_0200 } else { 0x20_0100 }),
        started_at: Timestamp::from_second(1_700_000_000).unwrap(),
        stopped_at: Timestamp::from_second(1_700_000_010).unwrap(),
        origin: Origin::Primary,
        method: Method::Local,
        segment_size: 1 << 20,
        page_size: 8192,
        checksums: true,
        codec,
        backup_label: "a label\n".into(),
        tablespace_map: None,
        tablespaces: Vec::new(),
        size: table(incremental).len() as u64 + 3,
        stored: 1000,
        own: 1000,
        bad_pages: Vec::new(),
        bundles: 1,
        surus: "0.1.0".into(),
        next_xid: Some(742),
        changes: None,
    }
}
