//! A bucket on the S3-speaking server of the tests.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use surus_backup::repo::{
    address::{Address, BucketAddress},
    object::{BucketPlace, Credentials, Patience},
};
use surus_core::secret::Secret;
use surus_testkit::peer::{S3_BUCKET, S3_KEYS};

pub fn keys() -> Credentials {
    let secret = |text| Some(Secret::new(text));
    Credentials { access_key: secret(S3_KEYS.0), secret_key: secret(S3_KEYS.1), session_token: None }
}

/// A few quick attempts.
pub fn hasty() -> Patience {
    Patience {
        attempts: 4,
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        silence: Duration::from_secs(5),
    }
}

pub fn address(port: u16, folder: &str) -> BucketAddress {
    let text = format!("s3://{S3_BUCKET}/{folder}?endpoint=http://127.0.0.1:{port}&region=eu-test-1");
    match text.parse().unwrap() {
        Address::Bucket(bucket) => bucket,
        Address::Folder(_) => unreachable!(),
    }
}

/// A folder of its own in the bucket.
pub fn place(port: u16) -> BucketPlace {
    place_with(port, hasty())
}

pub fn place_with(port: u16, patience: Patience) -> BucketPlace {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let folder = format!("test/{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    BucketPlace::new(&address(port, &folder), &keys(), patience).unwrap()
}
