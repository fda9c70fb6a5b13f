//! What every place must do, asked of each kind in the same words.

use super::bucket;
use std::{ops::Range, sync::Arc, thread};
use surus_backup::repo::{
    Repo,
    fault::FaultPlace,
    keys::KeyRing,
    layout,
    local::LocalPlace,
    object::BucketPlace,
    place::{Created, Entry, Place, PlaceError, Trouble},
    record::{RecordPlace, Verb},
};
use surus_core::code;
use surus_testkit::peer::Peer;

#[test]
fn a_folder_does_what_a_place_must() {
    let dir = tempfile::tempdir().unwrap();
    let place = LocalPlace::new(dir.path().join("repo"));
    place.make().unwrap();
    conforms(&Arc::new(place));
}

#[test]
fn a_bucket_does_what_a_place_must() {
    let Some(peer) = Peer::s3() else { return };
    conforms(&Arc::new(bucket::place(peer.port())));
    // The whole bucket, without a folder of our own.
    conforms(&Arc::new(BucketPlace::new(&bucket::address(peer.port(), ""), &bucket::keys(), bucket::hasty()).unwrap()));
}

#[test]
fn the_places_of_tests_do_what_a_place_must() {
    let dir = tempfile::tempdir().unwrap();
    let place = LocalPlace::new(dir.path().join("repo"));
    place.make().unwrap();
    let quiet = FaultPlace::random(Arc::new(place), 7, 0);
    let recorded = RecordPlace::new(Arc::new(quiet));
    let recorded = Arc::new(recorded);
    conforms(&recorded);
    assert!(recorded.count(Verb::Create) > 20 && recorded.count(Verb::ReadRange) > 3);
    let asked = recorded.take();
    assert_eq!(asked[0], (Verb::Read, "one/absent".to_owned()));
    assert!(recorded.take().is_empty());
}

fn conforms<P: Place + 'static>(place: &Arc<P>) {
    objects_are_written_once(place.as_ref());
    parts_are_read(place.as_ref());
    listings_are_whole_and_sorted(place.as_ref());
    large_and_empty_objects_come_back(place.as_ref());
    one_of_many_writers_wins(place);
    strange_names_are_refused(place.as_ref());
    let left: Vec<_> = place.list("").unwrap().into_iter().map(|entry| entry.name).collect();
    place.delete(&left).unwrap();
    a_repository_lives_there(place.clone());
}

fn objects_are_written_once(place: &dyn Place) {
    assert_eq!(place.read("one/absent").unwrap(), None);
    assert_eq!(place.read_range("one/absent", 0..10).unwrap(), None);
    assert_eq!(place.create("one/a", b"first").unwrap(), Created::New);
    assert_eq!(place.create("one/a", b"second").unwrap(), Created::AlreadyThere);
    assert_eq!(place.create("one/a", b"first").unwrap(), Created::AlreadyThere);
    assert_eq!(place.read("one/a").unwrap().unwrap(), b"first");
    place.replace("one/a", b"third").unwrap();
    place.replace("one/b", b"new").unwrap();
    assert_eq!(place.read("one/a").unwrap().unwrap(), b"third");
    assert_eq!(place.read("one/b").unwrap().unwrap(), b"new");
    place.delete(&["one/a".into(), "one/never".into()]).unwrap();
    assert_eq!(place.read("one/a").unwrap(), None);
    assert_eq!(place.create("one/a", b"fourth").unwrap(), Created::New);
    place.delete(&[]).unwrap();
}

fn parts_are_read(place: &dyn Place) {
    place.create("part/x", b"0123456789").unwrap();
    let read = |range| place.read_range("part/x", range).unwrap().unwrap();
    assert_eq!(read(0..4), b"0123");
    assert_eq!(read(4..10), b"456789");
    assert_eq!(read(8..500), b"89");
    assert_eq!(read(10..20), b"");
    assert_eq!(read(3..3), b"");
    assert_eq!(read(50..60), b"");
}

fn listings_are_whole_and_sorted(place: &dyn Place) {
    let mut names: Vec<String> = (0..23).map(|number| format!("list/w/{number:02}")).collect();
    names.push("list/v".into());
    names.push("list/w.x".into());
    for name in names.iter().rev() {
        place.create(name, name.as_bytes()).unwrap();
    }
    names.sort();
    let listed = |folder: &str| place.list(folder).unwrap();
    assert_eq!(listed("list/").iter().map(|entry| entry.name.clone()).collect::<Vec<_>>(), names);
    // Only what is in the folder, not what begins with its name.
    assert_eq!(listed("list/w/").len(), 23);
    assert!(listed("nothing/").is_empty());
    let entry = &listed("list/w/")[3];
    assert_eq!((entry.name.as_str(), entry.size), ("list/w/03", 9));
    assert!(entry.modified_ms > 1_700_000_000_000, "{entry:?}");
}

fn large_and_empty_objects_come_back(place: &dyn Place) {
    let large: Vec<u8> = (0..40_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert_eq!(place.create("size/large", &large).unwrap(), Created::New);
    assert!(place.read("size/large").unwrap().unwrap() == large, "40 MB differ");
    assert_eq!(place.read_range("size/large", 39_999_990..50_000_000).unwrap().unwrap(), large[39_999_990..]);
    assert_eq!(place.create("size/empty", b"").unwrap(), Created::New);
    assert_eq!(place.read("size/empty").unwrap().unwrap(), b"");
    assert_eq!(place.read_range("size/empty", 0..5).unwrap().unwrap(), b"");
}

/// Nobody is told that his object is there when another one is. (The server of the tests does not decide between two
/// that come at the same instant, as S3 does; so that each has its own name here, and is written twice.)
fn one_of_many_writers_wins<P: Place + 'static>(place: &Arc<P>) {
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let place = place.clone();
            thread::spawn(move || {
                let name = format!("many/{number}");
                let first = place.create(&name, name.as_bytes()).unwrap();
                (first, place.create(&name, b"late").unwrap(), place.read(&name).unwrap().unwrap() == name.as_bytes())
            })
        })
        .collect();
    for writer in writers {
        assert_eq!(writer.join().unwrap(), (Created::New, Created::AlreadyThere, true));
    }
}

fn strange_names_are_refused(place: &dyn Place) {
    for name in ["../up", "/etc/passwd", "a//b", "a b", "", ".hidden"] {
        assert_eq!(place.read(name).unwrap_err().trouble, Trouble::Broken, "{name:?}");
        assert!(place.create(name, b"x").is_err(), "{name:?}");
    }
}

fn a_repository_lives_there(place: Arc<dyn Place>) {
    let made = Repo::open_or_create(place.clone(), KeyRing::open()).unwrap();
    let again = Repo::open_or_create(place.clone(), KeyRing::open()).unwrap();
    assert_eq!(made.mark(), again.mark());
    made.cluster(42).register(16 << 20, Some(15)).unwrap();
    assert_eq!(again.choose(None).unwrap().names.system_identifier, 42);
    place.delete(&[layout::REPOSITORY.into()]).unwrap();
    assert!(again.still_there().is_err());
}

/// A store that does not know "only if there is none", and overwrites.
#[derive(Debug)]
struct Forgetful(LocalPlace);

impl Place for Forgetful {
    fn create(&self, name: &str, body: &[u8]) -> Result<Created, PlaceError> {
        self.0.replace(name, body).map(|()| Created::New)
    }
    fn replace(&self, name: &str, body: &[u8]) -> Result<(), PlaceError> {
        self.0.replace(name, body)
    }
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        self.0.read(name)
    }
    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, PlaceError> {
        self.0.read_range(name, range)
    }
    fn list(&self, folder: &str) -> Result<Vec<Entry>, PlaceError> {
        self.0.list(folder)
    }
    fn delete(&self, names: &[String]) -> Result<(), PlaceError> {
        self.0.delete(names)
    }
    fn address(&self) -> String {
        self.0.address()
    }
}

#[test]
fn a_store_that_overwrites_though_it_is_asked_not_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let place = LocalPlace::new(dir.path().join("repo"));
    place.make().unwrap();
    let error = Repo::unlock_or_create(Arc::new(Forgetful(place)), None).unwrap_err();
    assert!(error.code() == code::REPO_BROKEN && error.to_string().contains("overwrites"), "{error}");
}
