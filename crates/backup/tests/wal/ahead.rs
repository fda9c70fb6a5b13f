use crate::segment::{Archive, SYSTEM, bytes, numbered, ready};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};
use surus_backup::{
    repo::codec::Codec,
    wal::{
        agent::{Home, Limits, ask, fetching::Fetching, pushing::Pushing, serve, serve::Role, words::Answer},
        fetch::{self, Spooled},
        name::Segment,
        push::{Archiver, push},
    },
};
use surus_core::{clock::Deadline, code, monitor::Silent};

/// An agent in a thread of this process; it ends by itself.
struct Agent {
    home: Home,
    thread: JoinHandle<()>,
}

impl Agent {
    fn start(folder: &Path, make: impl FnOnce() -> surus_backup::Result<Arc<dyn Role>> + Send + 'static) -> Self {
        let home = Home::within(folder.join("run"), &[OsStr::new("test")]).unwrap();
        let limits = Limits { workers: 2, connections: 4, idle: Duration::from_secs(2) };
        let at = home.clone();
        let thread = thread::spawn(move || {
            let monitor: Arc<dyn surus_core::monitor::Monitor> = Arc::new(Silent);
            serve(&at, make, limits, &monitor).unwrap();
        });
        let agent = Self { home, thread };
        within_seconds(|| agent.home.socket().exists());
        agent
    }

    fn pushing(archive: &Archive, pg_wal: PathBuf) -> Self {
        let archiver = Archiver::new(archive.repo.clone(), Some(SYSTEM), Codec::Lz4);
        Self::start(archive.dir.path(), || Ok(Arc::new(Pushing::new(archiver, pg_wal, 8, 2, Arc::new(Silent)))))
    }

    fn fetching(archive: &Archive, spool: PathBuf) -> Self {
        let cluster = archive.cluster();
        Self::start(archive.dir.path(), || Ok(Arc::new(Fetching::new(cluster, spool, 4, Arc::new(Silent))?)))
    }

    fn ask(&self, segment: Segment) -> Option<Answer> {
        ask(&self.home, &segment.to_string())
    }

    /// It ends when nobody asks.
    fn ends(self) {
        within_seconds(|| self.thread.is_finished());
        assert!(!self.home.socket().exists());
        assert_eq!(ask(&self.home, &numbered(1).to_string()), None);
    }
}

fn within_seconds(done: impl Fn() -> bool) {
    let deadline = Deadline::after(Duration::from_secs(30));
    while !done() {
        assert!(!deadline.passed(), "it did not happen");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_next_segments_are_archived_before_the_server_asks() {
    let archive = Archive::new();
    let pg_wal = archive.folder("pg_wal");
    for number in 1..=20 {
        ready(&pg_wal, numbered(number), number as u8);
    }
    let agent = Agent::pushing(&archive, pg_wal.clone());
    assert_eq!(agent.ask(numbered(1)), Some(Answer::Archived));
    within_seconds(|| archive.count() == 9);
    for number in 2..=20 {
        assert_eq!(agent.ask(numbered(number)), Some(Answer::Archived));
        let there = fetch::look(&archive.cluster(), &numbered(number).to_string()).unwrap().unwrap();
        assert!(there == bytes(numbered(number), SYSTEM, number as u8));
    }
    // The server may not have heard the answer.
    assert_eq!(agent.ask(numbered(20)), Some(Answer::Archived));
    assert_eq!(agent.ask(numbered(21)).map(|answer| matches!(answer, Answer::Refused { .. })), Some(true));
    assert_eq!(ask(&agent.home, "00000002.history"), Some(Answer::Pass));
    assert_eq!(ask(&agent.home, "nonsense"), Some(Answer::Pass));
    agent.ends();
}

#[test]
fn what_was_archived_ahead_is_not_acknowledged_for_another_file() {
    let archive = Archive::new();
    let pg_wal = archive.folder("pg_wal");
    for number in 1..=3 {
        ready(&pg_wal, numbered(number), 0);
    }
    let agent = Agent::pushing(&archive, pg_wal.clone());
    assert_eq!(agent.ask(numbered(1)), Some(Answer::Archived));
    within_seconds(|| archive.count() == 3);
    ready(&pg_wal, numbered(2), 99);
    match agent.ask(numbered(2)) {
        Some(Answer::Refused { code, .. }) => assert_eq!(code, code::WAL_CONFLICT.id),
        other => panic!("{other:?}"),
    }
    assert_eq!(agent.ask(numbered(3)), Some(Answer::Archived));
    agent.ends();
}

#[test]
fn an_agent_whose_repository_went_away_acknowledges_nothing() {
    let archive = Archive::new();
    let pg_wal = archive.folder("pg_wal");
    (1..=4).for_each(|number| ready(&pg_wal, numbered(number), 0));
    let agent = Agent::pushing(&archive, pg_wal.clone());
    let (folder, away) = (archive.dir.path().join("repo"), archive.dir.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    for number in 1..=4 {
        // An agent without its repository ends; then nobody answers.
        assert!(matches!(agent.ask(numbered(number)), Some(Answer::Refused { .. }) | None));
    }
    assert!(!folder.exists(), "nothing was made in its place");
    agent.ends();
    fs::rename(&away, &folder).unwrap();
    let agent = Agent::pushing(&archive, pg_wal);
    for number in 1..=4 {
        assert_eq!(agent.ask(numbered(number)), Some(Answer::Archived));
    }
    assert_eq!(archive.count(), 4);
    agent.ends();
}

#[test]
fn an_agent_does_not_acknowledge_what_went_into_a_repository_that_was_replaced() {
    let archive = Archive::new();
    let pg_wal = archive.folder("pg_wal");
    (1..=4).for_each(|number| ready(&pg_wal, numbered(number), 0));
    let agent = Agent::pushing(&archive, pg_wal);
    assert_eq!(agent.ask(numbered(1)), Some(Answer::Archived));
    within_seconds(|| archive.count() == 4);
    let (folder, away) = (archive.dir.path().join("repo"), archive.dir.path().join("away"));
    fs::rename(&folder, &away).unwrap();
    let new = surus_backup::Repo::in_folder(&folder).unwrap();
    match agent.ask(numbered(2)) {
        Some(Answer::Refused { code, .. }) => assert_eq!(code, code::REPO_ABSENT.id),
        other => panic!("{other:?}"),
    }
    // It is of no use any more, and leaves its place to another.
    agent.ends();
    assert!(new.place().list("").unwrap().len() == 1, "nothing was put into the new one");
}

#[test]
fn segments_are_fetched_ahead_and_verified_again() {
    let archive = Archive::new();
    for number in 1..=12 {
        let content = bytes(numbered(number), SYSTEM, number as u8);
        push(&archive.repo, &numbered(number).to_string(), &content, None, Codec::Lz4).unwrap();
    }
    let (pg_wal, spool) = (archive.folder("pg_wal"), archive.dir.path().join("spool"));
    let agent = Agent::fetching(&archive, spool.clone());
    let to = pg_wal.join("RECOVERYXLOG");
    let get = |number: u64| match agent.ask(numbered(number)) {
        Some(Answer::Ready { path, hash }) => Spooled { path, hash },
        other => panic!("{number}: {other:?}"),
    };
    let take = |spooled: &Spooled, number: u64| {
        fetch::hand_out(spooled, &numbered(number).to_string(), SYSTEM, &to).unwrap()
            && fs::read(&to).unwrap() == bytes(numbered(number), SYSTEM, number as u8)
    };
    assert!(take(&get(1), 1));
    let spooled = |number: u64| spool.join(numbered(number).to_string());
    within_seconds(|| (2..=5).all(|number| spooled(number).exists()));
    assert!(!spooled(6).exists());
    assert!(take(&get(2), 2));
    // Damaged in the spool: not given, and the command fetches it itself.
    within_seconds(|| spooled(6).exists());
    let mut bad = fs::read(spooled(3)).unwrap();
    bad[70_000] ^= 1;
    fs::write(spooled(3), bad).unwrap();
    assert!(!fetch::hand_out(&get(3), &numbered(3).to_string(), SYSTEM, &to).unwrap());
    // Not the one that was asked for, or of another cluster.
    let four = get(4);
    assert!(!fetch::hand_out(&four, &numbered(5).to_string(), SYSTEM, &to).unwrap());
    assert!(!fetch::hand_out(&four, &numbered(4).to_string(), 42, &to).unwrap());
    // The order jumps: what was fetched for the old one goes.
    assert!(take(&get(11), 11));
    within_seconds(|| spooled(12).exists() && !spooled(5).exists() && !spooled(4).exists());
    // At the end of the archive it says nothing.
    assert_eq!(agent.ask(numbered(13)), Some(Answer::Pass));
    agent.ends();
    assert!(!spool.exists());
}

#[test]
fn there_is_one_agent() {
    let archive = Archive::new();
    let pg_wal = archive.folder("pg_wal");
    ready(&pg_wal, numbered(1), 0);
    let first = Agent::pushing(&archive, pg_wal.clone());
    let second = Agent::pushing(&archive, pg_wal);
    within_seconds(|| second.thread.is_finished());
    assert_eq!(first.ask(numbered(1)), Some(Answer::Archived));
    first.ends();
}

#[test]
fn a_directory_that_others_may_enter_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let words = [OsStr::new("test")];
    assert_eq!(Home::within(dir.path().to_owned(), &words).unwrap_err().code(), code::WAL_AGENT);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let home = Home::within(dir.path().to_owned(), &words).unwrap();
    assert_ne!(home.socket(), Home::within(dir.path().to_owned(), &[OsStr::new("other")]).unwrap().socket());
    let long = dir.path().join("x".repeat(100));
    assert!(Home::within(long, &words).is_err());
}
