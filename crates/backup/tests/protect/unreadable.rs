//! A backup whose manifest is damaged: it is named, and it stands in the way of nothing but of an expiry.

use crate::scene::{Scene, restored};
use surus_backup::{
    catalogue::{Catalogue, Keep},
    expire::{decide, discard, plan::Retention},
    manifest::BackupKind,
    protection,
    take::TakeOptions,
    verify::{Fault, VerifyOptions, verify_backup},
};
use surus_core::{clock, code, monitor::Silent};

#[test]
fn one_damaged_manifest_is_named_until_it_is_given_up() {
    let scene = Scene::new(18);
    scene.server.sql("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 1000) g");
    let full = TakeOptions { kind: Some(BackupKind::Full), ..TakeOptions::default() };
    let first = scene.take(&full).about.label;
    let built_on_it = scene.take(&TakeOptions::default()).about.label;
    let last = scene.take(&full).about.label;
    let cluster = scene.cluster();
    let (place, manifest) = (scene.repo.place(), cluster.names.manifest(&first));
    let body = place.read(&manifest).unwrap().unwrap();
    place.replace(&manifest, &body[..60]).unwrap();

    let catalogue = Catalogue::read(&cluster).unwrap();
    let labels: Vec<_> = catalogue.backups.iter().map(|one| one.about.label.as_str()).collect();
    assert_eq!((labels, catalogue.unreadable.contains_key(&first)), (vec![&*built_on_it, &*last], true));
    let why = catalogue.trouble(catalogue.find(&built_on_it).unwrap());
    assert_eq!(why, Some(format!("builds on {first}, whose manifest cannot be read")));
    assert!(protection::look(&cluster).unwrap().unreadable.contains_key(&first));
    let options = VerifyOptions { workers: 1, again_after: std::time::Duration::ZERO };
    for label in [&first, &built_on_it] {
        let verdict = verify_backup(&cluster, &catalogue, label, options, &Silent).unwrap();
        let named = |fault: &Fault| matches!(fault, Fault::Damaged { object, .. } if *object == manifest);
        assert!(verdict.faults.iter().any(named), "{label}: {verdict:?}");
    }
    let to = tempfile::tempdir().unwrap();
    restored(&cluster, None, &to.path().join("data")).unwrap();

    let keep_one = Retention { full: Some(1), ..Retention::default() };
    let refused = decide(&cluster, keep_one).unwrap_err();
    assert!(refused.code() == code::REPO_DAMAGED && refused.to_string().contains("surus backup discard"), "{refused}");
    for (label, expected) in [(&*last, code::BACKUP_REFUSED), ("never", code::BACKUP_UNKNOWN)] {
        assert_eq!(discard(&cluster, label, &Silent).unwrap_err().code(), expected, "{label}");
    }
    let gone = discard(&cluster, &first, &Silent).unwrap();
    assert!(gone.backups == [first.clone()] && gone.bytes > 0, "{gone:?}");
    let left = Catalogue::read(&cluster).unwrap();
    assert!(left.unreadable.is_empty() && place.list(&cluster.names.data_folder(Some(&first))).unwrap().is_empty());
    // What built on it is of no use either, unless somebody marked it.
    let keep = Keep { reason: "evidence".into(), since: clock::now(), until: None };
    cluster.keep(&built_on_it, &keep).unwrap();
    assert_eq!(discard(&cluster, &built_on_it, &Silent).unwrap_err().code(), code::BACKUP_REFUSED);
    cluster.release(&built_on_it).unwrap();
    discard(&cluster, &built_on_it, &Silent).unwrap();
    decide(&cluster, keep_one).unwrap();
}
