//! Backups of real servers in a bucket: taken, verified, put together again; the bucket's server dies on the way.

use super::bucket;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use surus_backup::{
    Repo,
    block::BLOCK,
    catalogue::Catalogue,
    chain::Chain,
    manifest::BackupKind,
    repo::{
        codec::Codec,
        container::{Kind, read_object},
        fault::FaultPlace,
        keys::UserKey,
        local::LocalPlace,
        object::Patience,
        place::Place,
    },
    take::{TakeOptions, Taken, take},
    verify::{VerifyOptions, verify_backup},
};
use surus_core::{
    code,
    monitor::{Monitor, Silent},
    secret::Secret,
};
use surus_pg::Target;
use surus_testkit::{
    Server,
    peer::Peer,
    proxy::{HttpProxy, Mishap},
};

pub fn taken(repo: &Repo, server: &Server, options: &TakeOptions) -> surus_backup::Result<Taken> {
    let target = Target::parse(&server.dsn("postgres")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let monitor: Arc<dyn Monitor> = Arc::new(Silent);
    runtime.block_on(take(repo, &target, options, &monitor))
}

/// The content of every file of a backup, each with the checksum that was taken while it was read.
pub fn whole(repo: &Repo, label: &str) -> Vec<(String, Vec<u8>)> {
    let cluster = repo.choose(None).unwrap();
    let chain = Chain::read(&cluster, label).unwrap();
    let mut bundles = std::collections::HashMap::new();
    let mut bundle = |label: &str, number: u32| -> Vec<Vec<u8>> {
        let name = cluster.names.bundle(label, number);
        let read = || {
            let mut chunks = Vec::new();
            let body = repo.place().read(&name).unwrap().unwrap();
            let each = |_, raw, _: &[u8; 32]| {
                chunks.push(raw);
                Ok(())
            };
            read_object(Kind::Bundle, &name, &body, repo.keys(), each).unwrap();
            chunks
        };
        bundles.entry(name.clone()).or_insert_with(read).clone()
    };
    let mut files = Vec::new();
    for (file, sources) in chain.newest().files.iter().zip(&chain.sources) {
        let mut content = Vec::new();
        for source in sources {
            let manifest = &chain.backups[usize::from(source.backup)];
            let chunk = manifest.chunks[source.chunk as usize];
            let raw = &bundle(&manifest.about.label, chunk.bundle)[chunk.index as usize];
            let from = source.at as usize * BLOCK;
            content.extend_from_slice(&raw[from..raw.len().min(from + source.count as usize * BLOCK)]);
        }
        assert_eq!(content.len() as u64, file.size, "{}", file.path);
        assert!(file.crc32c.is_none_or(|crc| crc == crc32c::crc32c(&content)), "{}", file.path);
        files.push((file.path.clone(), content));
    }
    files
}

fn verified(repo: &Repo, label: &str) {
    let cluster = repo.choose(None).unwrap();
    let options = VerifyOptions { workers: 2, again_after: Duration::ZERO };
    let catalogue = Catalogue::read(&cluster).unwrap();
    let verdict = verify_backup(&cluster, &catalogue, label, options, &Silent).unwrap();
    assert!(verdict.good(), "{verdict:?}");
}

#[test]
fn full_and_incremental_backups_live_in_a_bucket_encrypted() {
    let Some(peer) = Peer::s3() else { return };
    let key = UserKey::from_text(&Secret::new("0f".repeat(32))).unwrap();
    let place: Arc<dyn Place> = Arc::new(bucket::place(peer.port()));
    let repo = Repo::unlock_or_create(place.clone(), Some(&key)).unwrap();
    let server = Server::start();
    server.sql("CREATE TABLE t AS SELECT g AS id, 'a secret in row ' || g AS text FROM generate_series(1, 20000) g");
    let full = taken(&repo, &server, &TakeOptions::default()).unwrap();
    server.sql("UPDATE t SET text = 'another' WHERE id = 7");
    let next = taken(&repo, &server, &TakeOptions { codec: Codec::Lz4, ..TakeOptions::default() }).unwrap();
    assert_eq!((full.about.kind, next.about.kind), (BackupKind::Full, BackupKind::Incremental));
    assert!(next.about.own < full.about.own / 4, "{} of {}", next.about.own, full.about.own);
    let again = Repo::unlock(place, Some(&key)).unwrap();
    let path = server.value("SELECT pg_relation_filepath('t') AS v");
    let files = whole(&again, &next.about.label);
    let on_disk = std::fs::read(server.data_dir().join(&path)).unwrap();
    assert!(files.iter().any(|(name, content)| *name == path && *content == on_disk));
    for label in [&full.about.label, &next.about.label] {
        verified(&again, label);
    }
    // Nothing of the rows or of the names of files can be read in the bucket.
    let data = peer.dir().join("data");
    let found = std::process::Command::new("grep").args(["-rlaE", "a secret in row|PG_VERSION"]).arg(&data).output();
    assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "");
}

#[test]
fn a_backup_goes_through_a_bad_network() {
    let Some(peer) = Peer::s3() else { return };
    let proxy = HttpProxy::before(peer.port());
    let patience = Patience { attempts: 30, ..bucket::hasty() };
    let repo = Repo::unlock_or_create(Arc::new(bucket::place_with(proxy.port(), patience)), None).unwrap();
    let server = Server::start();
    for method in ["PUT", "GET", "PUT", "GET"] {
        for mishap in [
            Mishap::LoseAnswer,
            Mishap::Say(503, "SlowDown"),
            Mishap::Drop,
            Mishap::Say(500, "InternalError"),
            Mishap::CutAnswer(100),
        ] {
            proxy.befall(method, ["data/", "manifest/", "wal/", "begun/"][proxy.left() / 2 % 4], mishap, 2);
        }
    }
    let left = proxy.left();
    let taken = taken(&repo, &server, &TakeOptions::default()).unwrap();
    assert!(proxy.left() < left, "nothing happened");
    verified(&repo, &taken.about.label);
    whole(&repo, &taken.about.label);
}

#[test]
fn when_the_buckets_server_dies_there_is_no_backup_and_the_next_one_takes_over() {
    let Some(mut peer) = Peer::s3() else { return };
    let repo = Repo::unlock_or_create(Arc::new(bucket::place(peer.port())), None).unwrap();
    let server = Server::start();
    // Four times the size of a bundle that does not compress.
    server.sql(
        "CREATE TABLE noise AS SELECT g, (SELECT string_agg(encode(sha512((g || '-' || n)::text::bytea), 'base64'), '') \
         FROM generate_series(1, 16) n) AS text FROM generate_series(1, 80000) g",
    );
    let slow = TakeOptions { throttle: Some(60 << 20), codec: Codec::Lz4, ..TakeOptions::default() };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (repo, server, over) = (&repo, &server, &over);
        let taking = scope.spawn(move || {
            let result = taken(repo, server, &slow);
            over.store(true, Ordering::Relaxed);
            result
        });
        // Until the first bundle is there.
        let bundles =
            || repo.choose(None).and_then(|cluster| Ok(repo.place().list(&cluster.names.data_folder(None))?));
        while !over.load(Ordering::Relaxed) && bundles().map_or(0, |there| there.len()) < 2 {
            thread::sleep(Duration::from_millis(20));
        }
        peer.kill();
        let error = taking.join().unwrap().unwrap_err();
        assert_eq!(error.code(), code::REPO_UNREACHABLE, "{error}");
    });
    peer.start();
    assert!(Catalogue::read(&repo.choose(None).unwrap()).unwrap().backups.is_empty());
    let next = taken(&repo, &server, &TakeOptions::default()).unwrap();
    assert!(next.taken_over > 0, "{next:?}");
    verified(&repo, &next.about.label);
    whole(&repo, &next.about.label);
}

#[test]
fn whatever_fails_there_is_a_whole_backup_or_none() {
    let server = Server::start();
    let (mut whole_ones, mut faults) = (0, 0);
    for seed in 1..=12 {
        let dir = tempfile::tempdir().unwrap();
        let local = LocalPlace::new(dir.path().join("repo"));
        local.make().unwrap();
        let local: Arc<dyn Place> = Arc::new(local);
        Repo::unlock_or_create(local.clone(), None).unwrap();
        let faulty = Arc::new(FaultPlace::random(local.clone(), seed * 7919, 60));
        let good = Repo::unlock(local, None).unwrap();
        let result = Repo::unlock(faulty.clone(), None).and_then(|repo| taken(&repo, &server, &TakeOptions::default()));
        faults += faulty.injected();
        let there = match good.clusters().unwrap().first() {
            Some(cluster) => Catalogue::read(cluster).unwrap().backups,
            None => Vec::new(),
        };
        // An answer that was lost at the very end leaves a backup that nobody was told of; it must be whole as well.
        for backup in &there {
            verified(&good, &backup.about.label);
            whole(&good, &backup.about.label);
        }
        if let Ok(taken) = result {
            assert!(there.iter().any(|one| one.about.label == taken.about.label), "told of a backup that is not there");
            whole_ones += 1;
        }
    }
    assert!(faults > 6 && whole_ones < 12, "{faults} faults, {whole_ones} backups");
}
