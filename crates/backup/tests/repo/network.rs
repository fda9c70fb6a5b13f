//! What networks and busy services do: nothing is lost, nothing is told that is not so.

use super::bucket;
use std::time::Duration;
use surus_backup::repo::{
    object::{BucketPlace, Credentials},
    place::{Created, Place, Trouble},
};
use surus_core::secret::Secret;
use surus_testkit::{
    peer::{Peer, free_port},
    proxy::{HttpProxy, Mishap},
};

fn through() -> Option<(Peer, HttpProxy, BucketPlace)> {
    let peer = Peer::s3()?;
    let proxy = HttpProxy::before(peer.port());
    let place = bucket::place(proxy.port());
    Some((peer, proxy, place))
}

#[test]
fn a_create_whose_answer_was_lost_is_ours_when_its_content_is_there() {
    let Some((_peer, proxy, place)) = through() else { return };
    proxy.befall("PUT", "lost", Mishap::LoseAnswer, 1);
    assert_eq!(place.create("lost", b"mine").unwrap(), Created::New);
    assert_eq!(proxy.seen().iter().map(|one| &one[..3]).collect::<Vec<_>>(), ["PUT", "PUT", "GET"]);
    // An error of the server may come after the deed as well.
    proxy.befall("PUT", "theirs", Mishap::Say(500, "InternalError"), 1);
    assert_eq!(place.create("theirs", b"mine").unwrap(), Created::New);
    assert_eq!(proxy.left(), 0);
}

#[test]
fn another_ones_object_is_never_taken_for_ours() {
    let Some((peer, proxy, place)) = through() else { return };
    let direct = BucketPlace::new(
        &bucket::address(peer.port(), place.address().split("shop/").nth(1).unwrap().split('?').next().unwrap()),
        &bucket::keys(),
        bucket::hasty(),
    )
    .unwrap();
    direct.create("x", b"theirs").unwrap();
    for mishap in [Mishap::Drop, Mishap::LoseAnswer, Mishap::Say(503, "SlowDown"), Mishap::Say(409, "Conflict")] {
        proxy.befall("PUT", "/x", mishap, 1);
        assert_eq!(place.create("x", b"mine").unwrap(), Created::AlreadyThere);
        assert_eq!(proxy.left(), 0);
    }
    assert_eq!(place.read("x").unwrap().unwrap(), b"theirs");
}

#[test]
fn what_breaks_for_a_moment_is_tried_again() {
    let Some((_peer, proxy, place)) = through() else { return };
    for (number, mishap) in [
        Mishap::Drop,
        Mishap::LoseAnswer,
        Mishap::CutAnswer(3),
        Mishap::Say(500, "InternalError"),
        Mishap::Say(503, "SlowDown"),
        Mishap::Say(429, "TooManyRequests"),
        Mishap::Say(408, "RequestTimeout"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("again/{number}");
        // The answer to a PUT has no body that could be cut.
        let twice = if matches!(mishap, Mishap::CutAnswer(_)) { 0 } else { 2 };
        proxy.befall("PUT", "again", mishap.clone(), twice);
        assert_eq!(place.create(&name, b"0123456789").unwrap(), Created::New, "{mishap:?}");
        proxy.befall("GET", "again", mishap.clone(), 2);
        assert_eq!(place.read(&name).unwrap().unwrap(), b"0123456789", "{mishap:?}");
        proxy.befall("GET", "again", mishap.clone(), 2);
        assert_eq!(place.read_range(&name, 2..8).unwrap().unwrap(), b"234567", "{mishap:?}");
        proxy.befall("GET", "list-type", mishap.clone(), 2);
        assert_eq!(place.list("again/").unwrap().len(), number + 1, "{mishap:?}");
        proxy.befall("POST", "delete", mishap.clone(), 1);
        place.delete(&["never".into()]).unwrap();
        assert_eq!(proxy.left(), 0, "{mishap:?}");
    }
}

#[test]
fn a_large_read_goes_on_where_it_broke_off() {
    let Some((_peer, proxy, place)) = through() else { return };
    let body: Vec<u8> = (0..3_000_000u32).map(|number| (number >> 5) as u8).collect();
    place.create("large", &body).unwrap();
    for cut in [1_000_000, 1_500_000, 400_000] {
        proxy.befall("GET", "large", Mishap::CutAnswer(cut), 1);
    }
    assert!(place.read("large").unwrap().unwrap() == body);
    assert_eq!(proxy.left(), 0);
}

#[test]
fn what_stays_broken_is_an_error_and_never_an_absence() {
    let Some((mut peer, proxy, place)) = through() else { return };
    place.create("there", b"x").unwrap();
    for mishap in [Mishap::Drop, Mishap::CutAnswer(0), Mishap::Say(503, "SlowDown")] {
        proxy.befall("GET", "", mishap, 8);
        assert_eq!(place.read("there").unwrap_err().trouble, Trouble::Unreachable);
        assert_eq!(place.list("").unwrap_err().trouble, Trouble::Unreachable);
        assert_eq!(proxy.left(), 0);
    }
    // A 404 of somebody who does not speak of the object is none of its absence.
    proxy.befall("GET", "", Mishap::Say(404, "NoSuchBucket"), 1);
    assert_eq!(place.read("there").unwrap_err().trouble, Trouble::Broken);
    proxy.befall("GET", "", Mishap::Say(403, "AccessDenied"), 1);
    assert_eq!(place.read("there").unwrap_err().trouble, Trouble::Denied);
    proxy.befall("PUT", "", Mishap::Say(507, "XMinioStorageFull"), 1);
    assert_eq!(place.create("more", b"x").unwrap_err().trouble, Trouble::NoRoom);
    peer.kill();
    assert_eq!(place.read("there").unwrap_err().trouble, Trouble::Unreachable);
    assert_eq!(place.create("other", b"x").unwrap_err().trouble, Trouble::Unreachable);
    peer.start();
    assert_eq!(place.read("there").unwrap().unwrap(), b"x");
}

#[test]
fn silence_is_as_good_as_a_broken_connection() {
    let Some(peer) = Peer::s3() else { return };
    let proxy = HttpProxy::before(peer.port());
    let patience = surus_backup::repo::object::Patience { silence: Duration::from_millis(300), ..bucket::hasty() };
    let place = BucketPlace::new(&bucket::address(proxy.port(), "s"), &bucket::keys(), patience).unwrap();
    proxy.befall("PUT", "", Mishap::Stall(Duration::from_secs(20)), 1);
    assert_eq!(place.create("a", b"x").unwrap(), Created::New);
    proxy.befall("GET", "", Mishap::Stall(Duration::from_secs(20)), 9);
    let error = place.read("a").unwrap_err();
    assert!(error.trouble == Trouble::Unreachable && error.problem.contains("4 attempts"), "{error}");
}

#[test]
fn a_bucket_that_is_not_there_and_a_wrong_key_are_named() {
    let Some(peer) = Peer::s3() else { return };
    let absent = bucket::address(peer.port(), "x");
    let absent = surus_backup::repo::address::BucketAddress { bucket: "nobodys".into(), ..absent };
    let place = BucketPlace::new(&absent, &bucket::keys(), bucket::hasty()).unwrap();
    let error = place.list("").unwrap_err();
    assert!(error.trouble == Trouble::Broken && error.problem.contains("NoSuchBucket"), "{error}");
    let wrong = Credentials { secret_key: Some(Secret::new("hunter2-hunter2")), ..bucket::keys() };
    let place = BucketPlace::new(&bucket::address(peer.port(), "x"), &wrong, bucket::hasty()).unwrap();
    let error = place.read("a").unwrap_err();
    assert_eq!(error.trouble, Trouble::Denied, "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let nobody = bucket::address(free_port(), "x");
    let place = BucketPlace::new(&nobody, &bucket::keys(), bucket::hasty()).unwrap();
    assert_eq!(place.read("a").unwrap_err().trouble, Trouble::Unreachable);
}

#[test]
fn it_also_works_on_a_thread_of_another_runtime() {
    let Some(peer) = Peer::s3() else { return };
    let place = bucket::place(peer.port());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let place = runtime.block_on(async {
        assert_eq!(place.create("a", b"x").unwrap(), Created::New);
        tokio::task::spawn_blocking(move || {
            assert_eq!(place.read("a").unwrap().unwrap(), b"x");
            place
        })
        .await
        .unwrap()
    });
    // Dropped inside of a runtime, too.
    runtime.block_on(async move { drop(place) });
}
