//! Places that fail now and then: nothing is called done that is not, what could not be read is never called damaged or
//! missing, and doing it again finishes it.

use crate::scene::{Scene, restored};
use std::{
    fs,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use surus_backup::{
    Cluster, Repo,
    catalogue::Catalogue,
    expire::{carry_out, decide, plan::Retention},
    manifest::BackupKind,
    repo::{
        codec::Codec,
        fault::{Fault, FaultPlace, Step},
        keys::KeyRing,
        local::LocalPlace,
        place::{Created, Entry, Place, PlaceError},
        record::Verb,
    },
    restore::directory::JOURNAL,
    take::{TakeOptions, mark::BeginNote},
    verify::{self, Verdict, VerifyOptions, verify_backup, verify_wal},
    wal::{fetch, name::FileKind, name::file_kind, push},
};
use surus_core::{
    code::{self, Code},
    monitor::Silent,
};
use surus_testkit::Server;

/// What such a place may make somebody say.
const EXPECTED: [Code; 3] = [code::REPO_UNREACHABLE, code::REPO_FULL, code::REPO_BROKEN];
const EVERYTHING: VerifyOptions = VerifyOptions { workers: 2, again_after: Duration::ZERO };
/// Attempts, at most, until something is done.
const TRIES: u32 = 500;

fn failing(scene: &Scene, seed: u64, per_mille: u64) -> (Arc<FaultPlace>, Repo) {
    let place = Arc::new(FaultPlace::random(Arc::new(LocalPlace::new(scene.folder())), seed * 7919, per_mille));
    let opened = (0..TRIES).find_map(|_| Repo::open(place.clone(), KeyRing::open()).ok());
    (place, opened.unwrap())
}

fn scripted(scene: &Scene, script: Vec<Step>) -> Repo {
    let place = FaultPlace::scripted(Arc::new(LocalPlace::new(scene.folder())), script);
    Repo::open(Arc::new(place), KeyRing::open()).unwrap()
}

/// Does it until it is done; gives what came of it, and how often it failed.
fn at_last<T>(mut act: impl FnMut() -> surus_backup::Result<T>, after_failure: impl Fn()) -> (T, u32) {
    for failures in 0..TRIES {
        match act() {
            Ok(done) => return (done, failures),
            Err(error) => assert!(EXPECTED.contains(&error.code()), "{error}"),
        }
        after_failure();
    }
    panic!("it is never done");
}

fn verified(cluster: &Cluster) -> surus_backup::Result<Vec<Verdict>> {
    let catalogue = Catalogue::read(cluster)?;
    let each = catalogue.backups.iter().map(|one| &one.about.label);
    let mut verdicts = each
        .map(|label| verify_backup(cluster, &catalogue, label, EVERYTHING, &Silent))
        .collect::<surus_backup::Result<Vec<_>>>()?;
    verdicts.push(verify_wal(cluster, EVERYTHING, &Silent)?);
    Ok(verdicts)
}

fn whole(scene: &Scene) {
    let verdicts = verified(&scene.cluster()).unwrap();
    assert!(verdicts.iter().all(Verdict::good), "{verdicts:#?}");
}

#[test]
fn what_a_failing_place_acknowledged_is_there() {
    let scene = Scene::with(Server::start());
    for _ in 0..12 {
        scene.server.sql("SELECT pg_logical_emit_message(true, 'test', 'x'), pg_switch_wal()");
    }
    let pg_wal = scene.server.data_dir().join("pg_wal");
    let last = scene.server.value("SELECT pg_walfile_name(pg_current_wal_lsn()) AS v");
    let names = fs::read_dir(&pg_wal).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.filter(|name| file_kind(name) == Some(FileKind::Segment) && *name < last).collect();
    let (mut failures, mut pushed) = (0, 0);
    for (seed, name) in (1..).zip(&names) {
        let (_, repo) = failing(&scene, seed, 300);
        let path = pg_wal.join(name);
        let (_, failed) = at_last(|| push::push_file(&repo, &path, Some(scene.system()), Codec::Lz4), || ());
        let there = fetch::look(&scene.cluster(), name).unwrap();
        assert!(there.is_some_and(|there| there == fs::read(&path).unwrap()), "{name} was acknowledged");
        failures += failed;
        pushed += 1;
    }
    assert!(failures > 5 && pushed > 8, "{failures} failures, {pushed} segments");
}

#[test]
fn what_cannot_be_read_is_not_called_damaged() {
    let scene = Scene::new(18);
    scene.server.sql("CREATE TABLE t AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 20000) g");
    scene.take(&TakeOptions::default());
    scene.server.sql("UPDATE t SET text = 'x' WHERE id % 100 = 0");
    scene.take(&TakeOptions::default());
    let (mut unread, mut errors) = (0, 0);
    for seed in 1..=30 {
        let (_, repo) = failing(&scene, seed, 30);
        match verified(&repo.cluster(scene.system())) {
            Err(error) => {
                assert!(EXPECTED.contains(&error.code()), "{error}");
                errors += 1;
            }
            Ok(verdicts) => {
                for fault in verdicts.iter().flat_map(|verdict| &verdict.faults) {
                    assert!(matches!(fault, verify::Fault::Unread { .. }), "{fault:?}");
                    unread += 1;
                }
            }
        }
    }
    assert!(unread > 0 && errors > 0, "{unread} objects were unread, {errors} runs failed");
    // A place that gives less than there is and does not say so is found out.
    for (name, bytes) in [("/data/", 4000), ("/wal/", 100), ("/data/", 0)] {
        let repo = scripted(&scene, vec![Step::once(Verb::Read, name, Fault::Short(bytes))]);
        let verdicts = verified(&repo.cluster(scene.system())).unwrap();
        let damaged = |fault: &verify::Fault| matches!(fault, verify::Fault::Damaged { .. });
        assert_eq!(verdicts.iter().flat_map(|one| &one.faults).filter(|fault| damaged(fault)).count(), 1, "{name}");
    }
    whole(&scene);
}

#[test]
fn an_expiry_that_is_broken_off_leaves_whole_backups_and_is_finished_by_the_next() {
    let scene = Scene::new(18);
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    let full = TakeOptions { kind: Some(BackupKind::Full), ..TakeOptions::default() };
    let mut failures = 0;
    let retention = Retention { full: Some(1), ..Retention::default() };
    for seed in 1..=2 {
        scene.take(&full);
        scene.take(&TakeOptions::default());
        scene.take(&full);
        let (_, repo) = failing(&scene, seed, 150);
        let cluster = repo.cluster(scene.system());
        let expire = || {
            let (catalogue, plan) = decide(&cluster, retention)?;
            carry_out(&cluster, &catalogue, &plan, &Silent)
        };
        failures += at_last(expire, || whole(&scene)).1;
        let left = Catalogue::read(&scene.cluster()).unwrap();
        assert_eq!(left.backups.len(), 1);
        whole(&scene);
        let data = scene.repo.place().list(&scene.cluster().names.data_folder(None)).unwrap();
        let label = &left.backups[0].about.label;
        assert!(data.iter().all(|entry| entry.name.contains(label.as_str())), "{data:?}");
    }
    assert!(failures > 1, "{failures}");
}

#[test]
fn a_restore_from_a_failing_place_is_taken_up_until_it_is_whole() {
    let scene = Scene::new(18);
    scene.server.sql("CREATE TABLE t AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 60000) g");
    scene.take(&TakeOptions { codec: Codec::None, ..TakeOptions::default() });
    scene.server.sql("UPDATE t SET text = 'x' WHERE id % 100 = 0");
    scene.take(&TakeOptions { codec: Codec::None, ..TakeOptions::default() });
    let dir = tempfile::tempdir().unwrap();
    let expected = restored(&scene.cluster(), None, &dir.path().join("good")).unwrap();
    let mut failures = 0;
    for seed in 1..=4 {
        let to = dir.path().join(format!("failing-{seed}"));
        let (_, repo) = failing(&scene, seed, 80);
        let cluster = repo.cluster(scene.system());
        let half = || {
            // Broken off before anything was touched, or marked.
            assert!(!to.exists() || to.join(JOURNAL).exists() && !to.join("global/pg_control").exists());
        };
        let (sums, failed) = at_last(|| restored(&cluster, None, &to), half);
        assert_eq!(sums, expected, "seed {seed}");
        failures += failed;
    }
    assert!(failures > 3, "{failures}");
}

/// A backup that is done in the moment in which it is first asked about, after all data was listed.
#[derive(Debug)]
struct Finishing {
    inner: LocalPlace,
    label: String,
    data: String,
    listed: AtomicBool,
    manifest: (String, Vec<u8>),
    begun: String,
    done: AtomicBool,
}

impl Finishing {
    fn asked(&self, name: &str) {
        let about_it = name == self.manifest.0 || name == self.begun;
        if about_it && self.listed.load(Ordering::SeqCst) && !self.done.swap(true, Ordering::SeqCst) {
            self.inner.create(&self.manifest.0, &self.manifest.1).unwrap();
            self.inner.delete(std::slice::from_ref(&self.begun)).unwrap();
        }
    }
}

impl Place for Finishing {
    fn create(&self, name: &str, body: &[u8]) -> Result<Created, PlaceError> {
        self.inner.create(name, body)
    }
    fn replace(&self, name: &str, body: &[u8]) -> Result<(), PlaceError> {
        self.inner.replace(name, body)
    }
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        let answer = self.inner.read(name);
        self.asked(name);
        answer
    }
    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, PlaceError> {
        let answer = self.inner.read_range(name, range);
        self.asked(name);
        answer
    }
    fn list(&self, folder: &str) -> Result<Vec<Entry>, PlaceError> {
        self.listed.fetch_or(folder == self.data, Ordering::SeqCst);
        self.inner.list(folder)
    }
    fn delete(&self, names: &[String]) -> Result<(), PlaceError> {
        self.inner.delete(names)
    }
    fn address(&self) -> String {
        self.inner.address()
    }
}

#[test]
fn a_backup_that_ends_while_an_expiry_tidies_up_keeps_its_data() {
    let scene = Scene::new(18);
    let label = scene.take(&TakeOptions::default()).about.label;
    let cluster = scene.cluster();
    // As it was a moment before its end.
    let (manifest, begun) = (cluster.names.manifest(&label), cluster.names.begun(&label));
    let body = scene.repo.place().read(&manifest).unwrap().unwrap();
    scene.repo.place().delete(std::slice::from_ref(&manifest)).unwrap();
    let (now, host) = (surus_core::clock::now(), "elsewhere".to_owned());
    let note = BeginNote { label: label.clone(), full: true, host, pid: 1, begun_at: now, alive_at: now, parent: None };
    scene.repo.place().create(&begun, &serde_json::to_vec(&note).unwrap()).unwrap();
    let (catalogue, plan) = decide(&cluster, Retention { full: Some(1), ..Retention::default() }).unwrap();
    let place = Arc::new(Finishing {
        inner: LocalPlace::new(scene.folder()),
        label,
        data: cluster.names.data_folder(None),
        listed: AtomicBool::new(false),
        manifest: (manifest, body),
        begun,
        done: AtomicBool::new(false),
    });
    let repo = Repo::open(place.clone(), KeyRing::open()).unwrap();
    carry_out(&repo.cluster(scene.system()), &catalogue, &plan, &Silent).unwrap();
    assert!(place.done.load(Ordering::SeqCst));
    assert_eq!(Catalogue::read(&cluster).unwrap().backups[0].about.label, place.label);
    whole(&scene);
}

#[test]
fn a_slow_place_takes_longer_and_nothing_else() {
    let mut scene = Scene::with(Server::start());
    let slow = |verb| Step::always(verb, "", Fault::Slow(Duration::from_millis(150)));
    let repo = scripted(&scene, [Verb::Create, Verb::Read, Verb::List].map(slow).into());
    scene.repo = repo;
    scene.take(&TakeOptions::default());
    whole(&scene);
}
