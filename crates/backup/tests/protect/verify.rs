//! Damage in a repository is seen, all of it, and told with the names of what is hit.

use crate::scene::Scene;
use std::{fs, path::PathBuf, time::Duration};
use surus_backup::{
    catalogue::Catalogue,
    expire::{carry_out, decide, plan::Retention},
    manifest::BackupKind,
    take::TakeOptions,
    verify::{Fault, Verdict, VerifyOptions, verify_backup, verify_wal},
};
use surus_core::{code, monitor::Silent};

const NEW_ONLY: VerifyOptions = VerifyOptions { workers: 2, again_after: Duration::from_secs(86_400) };
const EVERYTHING: VerifyOptions = VerifyOptions { workers: 2, again_after: Duration::ZERO };

/// The verdicts about all backups and WAL, or the error that says that the catalogue itself cannot be read.
fn verify(scene: &Scene, options: VerifyOptions) -> surus_backup::Result<Vec<Verdict>> {
    let cluster = scene.cluster();
    let catalogue = Catalogue::read(&cluster)?;
    let labels: Vec<_> = catalogue.backups.iter().map(|one| one.about.label.clone()).collect();
    let mut verdicts = labels
        .iter()
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
    scene.take(&TakeOptions::default());
    assert!(verify(&scene, EVERYTHING).unwrap().iter().all(Verdict::good));
    let mut files = Vec::new();
    collect(&scene.folder().join(scene.system().to_string()), &mut files);
    files.retain(|path| !path.to_string_lossy().contains("/verified/"));
    files.sort();
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
        fs::write(path, &whole).unwrap();
    }
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
