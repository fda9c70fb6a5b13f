//! Damage in a repository is seen, all of it, and told with the names of what is hit.

use crate::scene::{Scene, restored};
use std::{fs, path::PathBuf, time::Duration};
use surus_backup::{
    catalogue::{Catalogue, Keep},
    expire::{carry_out, decide, plan::Retention},
    manifest::BackupKind,
    protection,
    repo::codec::Codec,
    take::TakeOptions,
    verify::{Fault, Verdict, VerifyOptions, verify_backup, verify_wal},
    wal::{gaps, push::push_file, survey::survey},
};
use surus_core::{code, monitor::Silent};
use surus_testkit::Server;

const NEW_ONLY: VerifyOptions = VerifyOptions { workers: 2, again_after: Duration::from_secs(86_400) };
const EVERYTHING: VerifyOptions = VerifyOptions { workers: 2, again_after: Duration::ZERO };

/// The verdicts about all backups and WAL, or the error that says that the catalogue itself cannot be read.
fn verify(scene: &Scene, options: VerifyOptions) -> surus_backup::Result<Vec<Verdict>> {
    let cluster = scene.cluster();
    let catalogue = Catalogue::read(&cluster)?;
    let labels = catalogue.backups.iter().map(|one| &one.about.label).chain(catalogue.unreadable.keys());
    let mut verdicts = labels
        .map(|label| verify_backup(&cluster, &catalogue, label, options, &Silent))
        .collect::<surus_backup::Result<Vec<_>>>()?;
    verdicts.push(verify_wal(&cluster, options, &Silent)?);
    Ok(verdicts)
}

/// How many damages: `SURUS_DAMAGES=500` for the whole run.
fn damages() -> u64 {
    std::env::var("SURUS_DAMAGES").ok().and_then(|count| count.parse().ok()).unwrap_or(60)
}

#[test]
fn every_flipped_byte_and_cut_file_is_seen() {
    let scene = Scene::new(18);
    scene
        .server
        .sql("CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 3) AS text FROM generate_series(1, 20000) g");
    scene.take(&TakeOptions::default());
    scene.server.sql("UPDATE t SET text = 'x' WHERE id % 50 = 0");
    // Asked for by name: else an older one would do where this one's manifest cannot be read.
    let newest = scene.take(&TakeOptions::default()).about.label;
    let newest = Some(newest.as_str());
    assert!(verify(&scene, EVERYTHING).unwrap().iter().all(Verdict::good));
    let mut files = Vec::new();
    collect(&scene.folder().join(scene.system().to_string()), &mut files);
    files.retain(|path| !path.to_string_lossy().contains("/verified/"));
    files.sort();
    let dir = tempfile::tempdir().unwrap();
    let expected = restored(&scene.cluster(), newest, &dir.path().join("good")).unwrap();
    // All of them in the long form.
    let restore_each = if damages() >= 500 { 1 } else { 10 };
    let (mut refused, mut untouched) = (0, 0);
    let mut random = fastrand(42);
    for number in 0..damages() {
        let path = &files[random() as usize % files.len()];
        let whole = fs::read(path).unwrap();
        let at = random() as usize % whole.len();
        let mut bad = whole.clone();
        let what = if number % 4 == 3 {
            bad.truncate(at);
            "cut at"
        } else {
            bad[at] ^= 1 << (random() % 8);
            "flipped"
        };
        fs::write(path, &bad).unwrap();
        let seen = match verify(&scene, EVERYTHING) {
            Err(error) => error.code() == code::REPO_DAMAGED,
            Ok(verdicts) => verdicts.iter().any(|verdict| !verdict.good()),
        };
        assert!(seen, "{} {what} {at} of {} was not seen", path.display(), whole.len());
        if number % restore_each == 0 {
            // What the damage is in may not be needed for the files; then they are what they were.
            let to = dir.path().join(number.to_string());
            let result = restored(&scene.cluster(), newest, &to);
            drop(fs::remove_dir_all(&to));
            match result {
                Err(_) => refused += 1,
                Ok(sums) => {
                    assert!(sums == expected, "{} {what} {at} came into a restore", path.display());
                    untouched += 1;
                }
            }
        }
        fs::write(path, &whole).unwrap();
    }
    eprintln!(
        "summary: {} damages were all seen; {refused} restores were refused, {untouched} did not need what was damaged",
        damages()
    );
    assert!(refused > 0);
    assert!(verify(&scene, EVERYTHING).unwrap().iter().all(Verdict::good), "the scene is whole again");
}

#[test]
fn a_missing_object_is_named() {
    let scene = Scene::new(16);
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    let taken = scene.take(&TakeOptions::default());
    let (cluster, label) = (scene.cluster(), taken.about.label);
    let bundle = cluster.names.bundle(&label, 0);
    fs::remove_file(scene.folder().join(&bundle)).unwrap();
    let verdicts = verify(&scene, EVERYTHING).unwrap();
    let named = verdicts[0]
        .faults
        .iter()
        .any(|fault| matches!(fault, Fault::Missing { object, files } if *object == bundle && !files.is_empty()));
    assert!(named, "{:?}", verdicts[0].faults);
    let mut wal = Vec::new();
    collect(&scene.folder().join(cluster.names.wal_folder(None)), &mut wal);
    fs::remove_file(&wal[0]).unwrap();
    let segment = wal[0].file_name().unwrap().to_string_lossy().into_owned();
    let verdicts = verify(&scene, EVERYTHING).unwrap();
    assert!(verdicts[0].faults.contains(&Fault::MissingWal { segment }), "{:?}", verdicts[0].faults);
}

#[test]
fn what_was_verified_is_not_read_again_until_it_changes() {
    let scene = Scene::new(15);
    scene.take(&TakeOptions::default());
    let first = verify(&scene, NEW_ONLY).unwrap();
    assert!(first.iter().all(Verdict::good) && first[0].read > 0);
    let second = verify(&scene, NEW_ONLY).unwrap();
    assert_eq!((second[0].read, second[0].remembered), (0, first[0].read));
    assert_eq!((second[1].read, second[1].remembered), (0, first[1].read));
    let cluster = scene.cluster();
    let bundle = scene.folder().join(cluster.names.bundle(first[0].backup.as_ref().unwrap(), 0));
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[200] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    assert!(!verify(&scene, NEW_ONLY).unwrap()[0].good(), "a file written since is read again");
}

#[test]
fn expiry_removes_what_no_one_needs_and_nothing_else() {
    let scene = Scene::new(18);
    let full = TakeOptions { kind: Some(BackupKind::Full), ..TakeOptions::default() };
    let first = scene.take(&full);
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id");
    let second = scene.take(&TakeOptions::default());
    let third = scene.take(&full);
    let cluster = scene.cluster();
    let retention = Retention { full: Some(1), ..Retention::default() };
    let (catalogue, plan) = decide(&cluster, retention).unwrap();
    assert_eq!(plan.backups, [second.about.label.clone(), first.about.label.clone()]);
    let expired = carry_out(&cluster, &catalogue, &plan, &Silent).unwrap();
    assert!(expired.segments > 0 && expired.bytes > 0);
    let left = Catalogue::read(&cluster).unwrap();
    let labels: Vec<_> = left.backups.iter().map(|one| one.about.label.clone()).collect();
    assert_eq!(labels, [third.about.label]);
    assert!(verify(&scene, EVERYTHING).unwrap().iter().all(Verdict::good));
    assert!(!scene.folder().join(cluster.names.data_folder(Some(&first.about.label))).exists());
    let (_, again) = decide(&cluster, retention).unwrap();
    assert!(again.backups.is_empty() && again.segments.is_empty());
}

#[test]
fn what_expires_between_a_kept_backup_and_the_next_is_no_gap() {
    let scene = Scene::with(Server::builder().setting("wal_keep_size", "1GB").start());
    let full = TakeOptions { kind: Some(BackupKind::Full), ..TakeOptions::default() };
    let switch = || scene.server.sql("SELECT pg_logical_emit_message(true, 'test', 'x'), pg_switch_wal()");
    let archive = || {
        let pg_wal = scene.server.data_dir().join("pg_wal");
        let now = scene.server.value("SELECT pg_walfile_name(pg_current_wal_lsn()) AS v");
        let first = scene.cluster().repo.place().list(&scene.cluster().names.wal_folder(None)).unwrap()[0].name.clone();
        let mut wal = Vec::new();
        collect(&pg_wal, &mut wal);
        for path in wal {
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.len() == 24 && name < now.as_str() && *name > *first.rsplit('/').next().unwrap() {
                push_file(&scene.repo, &path, Some(scene.system()), Codec::Lz4).unwrap();
            }
        }
    };
    let kept = scene.take(&full).about;
    let mark = Keep { reason: "the year's".into(), since: kept.stopped_at, until: None };
    scene.cluster().keep(&kept.label, &mark).unwrap();
    (0..4).for_each(|_| switch());
    archive();
    scene.take(&full);
    (0..4).for_each(|_| switch());
    archive();
    let cluster = scene.cluster();
    let gaps = || {
        let by_name = gaps::look(&survey(&cluster).unwrap()).into_iter().flat_map(|timeline| timeline.gaps);
        (by_name.map(|gap| gap.range.first.to_string()).collect::<Vec<_>>(), protection::look(&cluster).unwrap().gaps)
    };
    assert_eq!(gaps(), (Vec::new(), Vec::new()));
    let (catalogue, plan) = decide(&cluster, Retention { full: Some(1), ..Retention::default() }).unwrap();
    assert!(carry_out(&cluster, &catalogue, &plan, &Silent).unwrap().segments > 2);
    assert_eq!(gaps(), (Vec::new(), Vec::new()));
    assert!(verify(&scene, EVERYTHING).unwrap().iter().all(Verdict::good));
    // What is lost after that is one.
    let names = cluster.repo.place().list(&cluster.names.wal_folder(None)).unwrap();
    let lost = names[names.len() - 2].name.clone();
    cluster.repo.place().delete(std::slice::from_ref(&lost)).unwrap();
    let (by_name, protection) = gaps();
    assert!(lost.ends_with(&by_name[0]) && protection.len() == 1, "{lost} {by_name:?} {protection:?}");
}

fn collect(folder: &std::path::Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// A small reproducible source of random numbers (xorshift).
fn fastrand(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}
