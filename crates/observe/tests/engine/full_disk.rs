//! A full disk costs what would have been remembered, and nothing else.

use crate::scene::{settings, values, watch_in, watched};
use std::{fs, io::Write, path::Path, process::Command};
use surus_testkit::Server;

/// A file system of its own, small enough to be filled.
struct Small(tempfile::TempDir);

impl Small {
    /// None where one may not be mounted.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|out| out.status.success()).then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_watching_goes_on_and_remembering_begins_again() {
    let Some(small) = Small::mount() else {
        eprintln!(
            "skipped: a_full_disk_is_said_watching_goes_on_and_remembering_begins_again: mounting is not allowed"
        );
        return;
    };
    let server = Server::start();
    let site = watch_in(small.path(), vec![watched(&server)], settings());
    site.until("it is remembered", |now| !values(now, "test_backends").is_empty()).await;
    site.found("the first samples", |_| (!site.samples("pg_up").is_empty()).then_some(())).await;
    assert_eq!(site.observatory.store_trouble(), None);
    let ballast = small.path().join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let trouble = site.found("the trouble", |_| site.observatory.store_trouble()).await;
    assert!(!trouble.is_empty());
    let since = site.observatory.targets()[0].answers.iter().map(|answer| answer.at_ms).max().unwrap();
    let now = site.until("watching goes on", |now| now.answers.iter().any(|answer| answer.at_ms > since + 1_000)).await;
    assert!(now.up);
    let told = site.observatory.snapshot();
    let of = |name: &str| told.own.iter().find(|told| told.family.name == name).unwrap().points[0].value;
    assert!(of("surus_store_errors_total") > 0.0 && of("surus_store_up") == 0.0);
    let before = site.samples("pg_up")[0].1.len();
    fs::remove_file(&ballast).unwrap();
    drop(file);
    site.found("room", |_| site.observatory.store_trouble().is_none().then_some(())).await;
    site.found("new samples", |_| (site.samples("pg_up")[0].1.len() > before).then_some(())).await;
    site.observatory.stop().await;
}
