use crate::{
    place::{Failing, Fault},
    segment::{Archive, SIZE, SYSTEM, bytes, numbered},
};
use std::{env, fs, ops::Range, sync::Arc, time::Duration};
use surus_backup::{
    Cluster, Repo,
    repo::{codec::Codec, keys::KeyRing, local::LocalPlace},
    wal::{fetch, hole, push::push},
};
use surus_core::{code, lsn::Lsn};

/// An archive with segments 1 to 4.
fn archive() -> Archive {
    let archive = Archive::new();
    for number in 1..=4 {
        let content = bytes(numbered(number), SYSTEM, number as u8);
        push(&archive.repo, &numbered(number).to_string(), &content, None, Codec::Lz4).unwrap();
    }
    archive
}

/// The same archive, seen through a place that fails. Two operations are done before the first look.
fn failing(archive: &Archive, fault: Fault, during: Range<u64>) -> Cluster {
    let inner = Arc::new(LocalPlace::new(archive.dir.path().join("repo")));
    let during = during.start + 1..during.end + 1;
    let place = Failing { inner, fault, during, done: 0.into() };
    Repo::open(Arc::new(place), KeyRing::open()).unwrap().cluster(SYSTEM)
}

fn object(archive: &Archive, number: u64) -> std::path::PathBuf {
    archive.dir.path().join("repo").join(archive.cluster().names.wal(&numbered(number).to_string()))
}

#[test]
fn an_absence_is_said_only_at_the_end_of_a_cluster_that_is_known() {
    let archive = archive();
    let look = |number: u64| fetch::look(&archive.cluster(), &numbered(number).to_string());
    assert!(look(4).unwrap().unwrap() == bytes(numbered(4), SYSTEM, 4));
    assert_eq!(look(5).unwrap(), None);
    assert_eq!(fetch::look(&archive.cluster(), "00000002.history").unwrap(), None);
    assert_eq!(look(0).unwrap_err().code(), code::WAL_GAP, "a later one is there");
    fs::remove_file(object(&archive, 3)).unwrap();
    assert_eq!(look(3).unwrap_err().code(), code::WAL_GAP);
    let other = archive.repo.cluster(43);
    assert_eq!(fetch::look(&other, &numbered(5).to_string()).unwrap_err().code(), code::REPO_CLUSTER);
    assert_eq!(fetch::look(&archive.cluster(), "../etc/passwd").unwrap_err().code(), code::WAL_NAME);
}

#[test]
fn a_later_segment_is_seen_beyond_a_border_of_folders() {
    let archive = Archive::new();
    let content = bytes(numbered(4096), SYSTEM, 1);
    push(&archive.repo, &numbered(4096).to_string(), &content, None, Codec::Lz4).unwrap();
    let error = fetch::look(&archive.cluster(), &numbered(4095).to_string()).unwrap_err();
    assert_eq!(error.code(), code::WAL_GAP);
}

#[test]
fn a_later_segment_is_seen_however_far_away_it_is() {
    let archive = archive();
    let content = bytes(numbered(100 * 4096 + 7), SYSTEM, 1);
    push(&archive.repo, &numbered(100 * 4096 + 7).to_string(), &content, None, Codec::Lz4).unwrap();
    let error = fetch::look(&archive.cluster(), &numbered(5).to_string()).unwrap_err();
    assert_eq!(error.code(), code::WAL_GAP);
}

#[test]
fn wal_that_was_given_up_is_no_end() {
    let archive = archive();
    let cluster = archive.cluster();
    let look = |number: u64| fetch::look(&cluster, &numbered(number).to_string());
    assert_eq!(look(5).unwrap(), None);
    hole::mark(Some(&cluster), archive.dir.path(), numbered(6), 2, 1).unwrap();
    assert_eq!(look(5).unwrap_err().code(), code::WAL_GAP);
    assert_eq!(look(6).unwrap_err().code(), code::WAL_GAP);
    assert_eq!(look(7).unwrap(), None);
    let other = numbered(5).on(2).to_string();
    assert_eq!(fetch::look(&cluster, &other).unwrap(), None, "it is of another timeline");
}

#[test]
fn a_timeline_that_was_left_later_did_not_end_before() {
    let archive = archive();
    let cluster = archive.cluster();
    let look = |number: u64| fetch::look(&cluster, &numbered(number).to_string());
    let history = format!("1\t{}\tx\n", Lsn(6 * SIZE + 99));
    push(&archive.repo, "00000002.history", history.as_bytes(), Some(SYSTEM), Codec::None).unwrap();
    assert_eq!(look(5).unwrap_err().code(), code::WAL_GAP);
    // The segment in which it was left may have been archived as the newer timeline's only.
    assert_eq!(look(6).unwrap(), None);
    assert_eq!(look(7).unwrap(), None);
}

#[test]
fn what_is_unreadable_or_damaged_is_never_absent_and_never_given() {
    let archive = archive();
    let path = object(&archive, 4);
    let good = fs::read(&path).unwrap();
    let look = || fetch::look(&archive.cluster(), &numbered(4).to_string());
    for at in (0..good.len()).step_by(good.len() / 50) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        fs::write(&path, &bad).unwrap();
        assert_eq!(look().unwrap_err().code(), code::REPO_DAMAGED, "byte {at}");
        fs::write(&path, &good[..at]).unwrap();
        assert_eq!(look().unwrap_err().code(), code::REPO_DAMAGED, "cut to {at}");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(look().is_err(), "a directory in its place");
    fs::remove_dir(&path).unwrap();
    // A whole object of another segment under its name.
    fs::copy(object(&archive, 2), &path).unwrap();
    assert_eq!(look().unwrap_err().code(), code::REPO_DAMAGED);
}

/// 200 with `SURUS_TORTURE=1`, else 20 of each kind.
#[test]
fn no_failure_of_the_place_is_taken_for_the_end_of_wal() {
    let archive = archive();
    let name = numbered(4).to_string();
    let content = bytes(numbered(4), SYSTEM, 4);
    let many = if env::var_os("SURUS_TORTURE").is_some() { 200 } else { 20 };
    let faults = [Fault::Unreachable, Fault::Denied, Fault::Broken, Fault::Vanished, Fault::Short, Fault::Flipped];
    for fault in faults {
        let mut failed = 0;
        for round in 0..many {
            let (from, length) = (round % 4, 1 + round / 4);
            let cluster = failing(&archive, fault, from..from + length);
            match fetch::look(&cluster, &name) {
                Ok(Some(there)) => assert!(there == content, "{fault:?} {from} {length}"),
                Ok(None) => panic!("{fault:?} from operation {from}, {length} long, was taken for an absence"),
                Err(_) => failed += 1,
            }
            if round < 4 {
                // When it is over, patience is rewarded.
                let cluster = failing(&archive, fault, from..from + 2);
                let patient = fetch::look_patiently(&cluster, &name, Duration::from_secs(20)).unwrap();
                assert!(patient.unwrap() == content);
            }
            // A segment that is truly not there is not invented either.
            let cluster = failing(&archive, fault, from..from + length);
            assert!(!matches!(fetch::look(&cluster, &numbered(5).to_string()), Ok(Some(_))));
        }
        assert!(failed > 0, "{fault:?} was injected");
        eprintln!("summary: {fault:?}: {many} rounds, {failed} failed, none was taken for the end of WAL");
    }
}

#[test]
fn a_file_is_put_whole_or_not_at_all() {
    let archive = archive();
    let folder = archive.folder("pg_wal");
    let to = folder.join("RECOVERYXLOG");
    fs::write(&to, "an old one").unwrap();
    fetch::put(b"new", &to).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"new");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    assert!(fetch::put(b"new", &folder.join("gone/RECOVERYXLOG")).is_err());
}
