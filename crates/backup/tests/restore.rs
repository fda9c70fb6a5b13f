//! Restores of real servers: exactly what was committed at the target, and nothing started from what is not whole.

mod restoring;
#[path = "restoring/timelines.rs"]
mod timelines;

use restoring::room::{Failing, Room, ask, restored_rows, value};
use std::{
    fs,
    os::unix::fs::{FileExt, symlink},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use surus_backup::{
    Repo, control,
    manifest::{Changes, Method},
    repo::{codec::Codec, keys::KeyRing, local::LocalPlace},
    restore::{
        Plan, RestoreOptions,
        directory::{self, SpaceMap, Way},
        start::start,
        target::{Action, Goal, RecoveryTarget, TimelineChoice},
    },
    take::TakeOptions,
};
use surus_core::{code, monitor::Silent};
use surus_testkit::{each_major, require_major};

fn to(goal: Goal) -> RecoveryTarget {
    RecoveryTarget { goal, ..RecoveryTarget::default() }
}

/// Three more commits, and a restore to the end of the archive has every row.
fn all_comes_back(room: &mut Room) {
    let rows = room.commit(3);
    room.archive_all();
    let options = room.options("restored", RecoveryTarget::default());
    room.plan(&options).unwrap().carry_out(&Silent).unwrap();
    room.verify_with_postgresql(&options.to);
    let (server, _) = room.start(&options);
    assert_eq!(restored_rows(&server), rows);
}

#[test]
fn a_full_backup_comes_back_to_the_latest_commit() {
    each_major(|major| {
        let mut room = Room::new(major);
        room.commit(5);
        room.back_up();
        let rows = room.commit(5);
        room.archive_all();
        let options = room.options("restored", RecoveryTarget::default());
        let plan = room.plan(&options).unwrap();
        assert_eq!(plan.outline.way, Way::Fresh);
        let done = plan.carry_out(&Silent).unwrap();
        assert_eq!(done.bytes_written, plan.about().size - control::SIZE as u64);
        room.verify_with_postgresql(&options.to);
        let (server, arrival) = room.start(&options);
        assert_eq!(restored_rows(&server), rows);
        assert_eq!(arrival.timeline, Some(2));
        assert!(!options.to.join(directory::JOURNAL).exists());
    });
}

#[test]
fn a_backup_over_the_network_comes_back_like_any_other() {
    for major in [15, 16, 18].into_iter().filter_map(require_major) {
        let mut room = Room::new(major);
        let options = TakeOptions { method: Some(Method::Stream), workers: 2, ..TakeOptions::default() };
        room.commit(3);
        room.back_up_with(&options);
        room.commit(3);
        let taken = room.back_up_with(&options);
        assert!(taken.about.parent.is_some() && taken.about.method == Method::Stream);
        all_comes_back(&mut room);
    }
}

#[test]
fn backups_of_what_the_server_says_changed_come_back_like_any_other() {
    for major in [17, 18].into_iter().filter_map(require_major) {
        let mut room = Room::new(major);
        room.server.sql("ALTER SYSTEM SET summarize_wal = on");
        room.server.sql("SELECT pg_reload_conf()");
        let options = TakeOptions { method: Some(Method::Stream), workers: 2, ..TakeOptions::default() };
        room.commit(3);
        room.back_up_with(&options);
        for _ in 0..2 {
            room.commit(3);
            let taken = room.back_up_with(&options);
            assert_eq!(taken.about.changes, Some(Changes::Summaries), "on {major}");
        }
        all_comes_back(&mut room);
    }
}

const CHURNED: u64 = 6;

/// Random numbers that a seed gives.
fn random(state: &mut u64, below: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % below
}

/// Tables grow, shrink, go and come again.
fn churn(dsn: &str, state: &mut u64) {
    let table = format!("churned{}", random(state, CHURNED));
    let number = random(state, 40);
    let rows = format!("SELECT g, repeat(md5(random()::text), 4) FROM generate_series(1, {}) g", 1 + number * 15);
    let all: &[String] = match random(state, 12) {
        0..4 => &[format!("INSERT INTO {table} {rows}")],
        4..6 => &[format!("DELETE FROM {table} WHERE ctid > '({number},0)'"), format!("VACUUM (TRUNCATE) {table}")],
        6..8 => &[format!("UPDATE {table} SET filler = 'changed' WHERE id % 40 = {number}")],
        8 => &[format!("TRUNCATE {table}"), format!("INSERT INTO {table} {rows}")],
        9 => &[format!("VACUUM FULL {table}")],
        10 => &[format!("DROP TABLE {table}"), made(&table)],
        _ => &["CHECKPOINT".to_owned()],
    };
    all.iter().for_each(|sql| drop(ask(dsn, sql)));
}

fn made(table: &str) -> String {
    format!("CREATE TABLE {table} (id int, filler text); CREATE INDEX ON {table} (id)")
}

fn contents(dsn: &str) -> Vec<String> {
    let content = |table: u64| {
        let rows = "count(*) || ' ' || coalesce(md5(string_agg(id || filler, ',' ORDER BY id, filler)), '')";
        value(dsn, &format!("SELECT {rows} AS v FROM public.churned{table}"))
    };
    (0..CHURNED).map(content).collect()
}

#[test]
fn a_busy_server_that_says_what_changed_is_restored_whole() {
    let seed = std::env::var("SURUS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7u64);
    for major in [17, 18].into_iter().filter_map(require_major) {
        let mut room = Room::new(major);
        room.server.sql("ALTER SYSTEM SET summarize_wal = on");
        room.server.sql("SELECT pg_reload_conf()");
        (0..CHURNED).for_each(|table| room.server.sql(&made(&format!("churned{table}"))));
        let (dsn, stop) = (room.dsn(), Arc::new(AtomicBool::new(false)));
        let (busy, told) = (dsn.clone(), stop.clone());
        let churning = thread::spawn(move || {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            while !told.load(Ordering::Relaxed) {
                churn(&busy, &mut state);
            }
        });
        let options = TakeOptions { method: Some(Method::Stream), workers: 2, ..TakeOptions::default() };
        for number in 0..5 {
            thread::sleep(Duration::from_millis(700));
            let changes = room.back_up_with(&options).about.changes;
            assert_eq!(changes, (number > 0).then_some(Changes::Summaries), "on {major}");
        }
        stop.store(true, Ordering::Relaxed);
        churning.join().unwrap();
        let rows = room.commit(1);
        let expected = contents(&dsn);
        room.archive_all();
        let options = room.options("restored", RecoveryTarget::default());
        room.plan(&options).unwrap().carry_out(&Silent).unwrap();
        room.verify_with_postgresql(&options.to);
        let (server, _) = room.start(&options);
        assert_eq!(restored_rows(&server), rows, "on {major}, seed {seed}");
        assert_eq!(contents(&server.dsn("postgres", "postgres")), expected, "on {major}, seed {seed}");
    }
}

/// The server would take a backup of the timeline that was left for its own past.
#[test]
fn on_another_timeline_all_is_compared_once() {
    let Some(major) = [18, 17].into_iter().find_map(require_major) else { return };
    let mut room = Room::new(major);
    room.server.sql("ALTER SYSTEM SET summarize_wal = on");
    room.server.sql("SELECT pg_reload_conf()");
    let options = TakeOptions { method: Some(Method::Stream), workers: 2, ..TakeOptions::default() };
    room.commit(3);
    let first = room.back_up_with(&options).about.label;
    room.commit(6);
    // Beyond where the other timeline begins.
    room.back_up_with(&options);
    room.commit(1);
    room.archive_all();
    let target = to(Goal::Lsn(room.ledger[4].after));
    let target = RecoveryTarget { timeline: TimelineChoice::Number(1), ..target };
    room.go_on_from(target, 5);
    room.commit(3);
    for changes in [Changes::Compared, Changes::Summaries] {
        let about = room.back_up_with(&options).about;
        assert_eq!((about.timeline, about.changes), (2, Some(changes)), "{about:?}");
        assert_ne!(about.parent, Some(first.clone()));
        room.commit(2);
    }
    let rows = room.rows();
    room.archive_all();
    let target = RecoveryTarget { timeline: TimelineChoice::Number(2), ..RecoveryTarget::default() };
    let options = room.options("restored", target);
    assert_eq!(room.rows_with(&options), rows);
}

/// A server with two backups, restored from in the middle twice over: three timelines.
fn three_timelines(major: u16) -> Room {
    let mut room = Room::new(major);
    room.commit(4);
    room.back_up();
    room.commit(6);
    room.back_up();
    room.commit(6);
    room.archive_all();
    for (parent, at) in [(1, 12), (2, 16)] {
        let target =
            RecoveryTarget { timeline: TimelineChoice::Number(parent), ..to(Goal::Lsn(room.ledger[at].after)) };
        room.go_on_from(target, at + 1);
        room.commit(4);
        room.back_up();
        room.commit(4);
        room.archive_all();
    }
    room.keep_path();
    room
}

/// Restores to random commits and compares with the ledger.
fn random_targets(major: u16, count: usize, seed: u64) {
    let room = three_timelines(major);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for number in 0..count {
        let timeline = 1 + random(3) as u32;
        let path = &room.paths[&timeline];
        // The first backup holds four commits; to stop at a time, a later transaction must be seen.
        let at = 4 + random(path.len() - 5);
        let (commit, mut exclusive) = (&path[at], random(2) == 1);
        let goal = match number % 4 {
            0 => Goal::Time(commit.at),
            1 => Goal::Xid(commit.xid),
            2 if exclusive => Goal::Lsn(commit.before),
            2 => Goal::Lsn(commit.after),
            _ => {
                exclusive = false;
                // Which backup was before a restore point is not known yet: the first one always was.
                Goal::Name(commit.point.clone())
            }
        };
        let first = room.first_backup.clone();
        let backup = matches!(goal, Goal::Name(_)).then_some(first);
        let target = RecoveryTarget { exclusive, timeline: TimelineChoice::Number(timeline), ..to(goal) };
        let expected: Vec<i64> = path[..at + usize::from(!exclusive)].iter().map(|commit| commit.row).collect();
        let options = RestoreOptions { backup, ..room.options(&format!("random-{number}"), target.clone()) };
        assert_eq!(room.rows_with(&options), expected, "PostgreSQL {major}, seed {seed}: {target:?}");
    }
}

#[test]
fn random_targets_on_three_timelines_are_met_exactly() {
    for major in [15, 16, 18].into_iter().filter_map(require_major) {
        random_targets(major, 6, u64::from(major));
    }
}

/// The long form: `SURUS_RESTORES` restores for each major.
#[test]
#[ignore = "takes minutes; SURUS_RESTORES=100 gives 300 restores on three majors"]
fn many_random_targets_are_met_exactly() {
    let count = std::env::var("SURUS_RESTORES").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let seed = std::env::var("SURUS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for major in [15, 16, 18].into_iter().filter_map(require_major) {
        random_targets(major, count, seed);
        eprintln!("summary: PostgreSQL {major}: {count} random targets were met exactly, SURUS_SEED={seed}");
    }
}

#[test]
fn delta_writes_what_differs_and_takes_away_what_is_too_much() {
    for major in [15, 18].into_iter().filter_map(require_major) {
        let mut room = Room::new(major);
        room.commit(5);
        room.back_up();
        room.commit(5);
        room.back_up();
        let rows = room.commit(3);
        room.archive_all();
        let mut options = room.options("restored", RecoveryTarget::default());
        room.restore(&options);
        let (mut server, _) = room.start(&options);
        let dsn = server.dsn("postgres", "postgres");
        ask(&dsn, "DELETE FROM ledger; CREATE TABLE elsewhere AS SELECT generate_series(1, 1000) AS id");
        server.stop(surus_pg::server::Mode::Fast).unwrap();
        drop(server);
        let data = &options.to;
        fs::create_dir(data.join("base/junk")).unwrap();
        fs::write(data.join("base/junk/1"), b"junk").unwrap();
        let outside = room.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), b"kept").unwrap();
        symlink(&outside, data.join("base/link")).unwrap();
        let refused = room.plan(&options).unwrap_err();
        assert_eq!(refused.code(), code::RESTORE_DIRECTORY, "{refused}");
        options.delta = true;
        let plan = room.plan(&options).unwrap();
        assert_eq!(plan.outline.way, Way::Delta);
        let done = plan.carry_out(&Silent).unwrap();
        assert!(done.bytes_written < done.bytes / 4, "{} of {}", done.bytes_written, done.bytes);
        assert!(!data.join("base/junk").exists() && outside.join("kept").exists());
        room.verify_with_postgresql(data);
        let (server, _) = room.start(&options);
        assert_eq!(restored_rows(&server), rows);
    }
}

#[test]
fn tablespaces_go_where_they_are_sent() {
    let mut room = Room::new(require_major(16).unwrap_or(15));
    let place = room.server.data_dir().parent().unwrap().join("space");
    fs::create_dir(&place).unwrap();
    room.server.local().account().own(&place).unwrap();
    room.server.sql(&format!("CREATE TABLESPACE far LOCATION '{}'", place.display()));
    room.server.sql("CREATE TABLE away TABLESPACE far AS SELECT generate_series(1, 5000) AS id");
    room.commit(3);
    room.back_up();
    let rows = room.commit(2);
    room.archive_all();
    let mut options = room.options("restored", RecoveryTarget::default());
    let refused = room.plan(&options).unwrap_err();
    assert!(refused.to_string().contains("is not empty; give another place with --tablespace"), "{refused}");
    assert!(!options.to.exists());
    options.spaces = SpaceMap { each: Vec::new(), root: Some(room.dir.path().join("spaces")) };
    room.restore(&options);
    assert!(!options.to.join("tablespace_map").exists());
    room.verify_with_postgresql(&options.to);
    let (server, _) = room.start(&options);
    assert_eq!(restored_rows(&server), rows);
    let dsn = server.dsn("postgres", "postgres");
    assert_eq!(value(&dsn, "SELECT count(*)::text AS v FROM away"), "5000");
    let location = value(&dsn, "SELECT pg_tablespace_location(oid) AS v FROM pg_tablespace WHERE spcname = 'far'");
    assert!(location.starts_with(room.dir.path().to_str().unwrap()), "{location}");
    assert_eq!(room.server.value("SELECT count(*)::text AS v FROM away"), "5000");
}

#[test]
fn what_was_broken_off_is_taken_up_and_cannot_be_started_before() {
    let mut room = Room::new(require_major(18).unwrap_or(15));
    room.commit(5);
    room.back_up_with(&TakeOptions { codec: Codec::None, workers: 2, ..TakeOptions::default() });
    let rows = room.commit(3);
    room.archive_all();
    let place = Failing::new(LocalPlace::new(room.dir.path().join("repo")), 5);
    let failing = Repo::open(Arc::new(place), KeyRing::open()).unwrap();
    let options = room.options("restored", RecoveryTarget::default());
    let plan = Plan::make(&failing.choose(None).unwrap(), &options).unwrap();
    let broken = plan.carry_out(&Silent).unwrap_err();
    assert_eq!(broken.code(), code::REPO_UNREACHABLE, "{broken}");
    let data = &options.to;
    assert!(data.join(directory::JOURNAL).exists() && !data.join(control::PATH).exists());
    let started = start(room.programs(), data, None, Action::Promote, Duration::from_secs(20), &Silent);
    assert_eq!(started.unwrap_err().code(), code::RESTORE_START);
    let plan = room.plan(&options).unwrap();
    assert_eq!(plan.outline.way, Way::Resume);
    let done = plan.carry_out(&Silent).unwrap();
    assert!(done.bytes_written < done.bytes, "nothing was taken over");
    room.verify_with_postgresql(data);
    let (server, _) = room.start(&options);
    assert_eq!(restored_rows(&server), rows);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_touched() {
    let mut room = Room::new(require_major(15).unwrap_or(16));
    room.commit(3);
    let first = room.back_up();
    room.commit(3);
    room.archive_all();
    room.commit(3);
    room.archive_all();
    let refused = |options: &RestoreOptions| {
        let before = fs::read_dir(&options.to).map(Iterator::count).ok();
        let error = room.plan(options).unwrap_err();
        assert_eq!(fs::read_dir(&options.to).map(Iterator::count).ok(), before);
        error
    };
    let mut options = room.options("restored", RecoveryTarget::default());
    options.to = room.server.data_dir().to_owned();
    assert!(refused(&options).to_string().contains("a server runs in"), "{}", refused(&options));
    options.to = room.dir.path().join("holiday");
    fs::create_dir(&options.to).unwrap();
    fs::write(options.to.join("photo.jpg"), b"...").unwrap();
    for delta in [false, true] {
        options.delta = delta;
        assert_eq!(refused(&options).code(), code::RESTORE_DIRECTORY);
    }
    let options = room.options("restored", to(Goal::Time(first.about.started_at)));
    assert!(refused(&options).to_string().contains("the first moment that can be reached"), "{}", refused(&options));
    let segments = room.repo.place().list(&room.cluster().names.wal_folder(Some(1))).unwrap();
    let stop = surus_backup::wal::name::Segment::at(1, first.about.stop_lsn, first.about.segment_size).next();
    let gone = segments.iter().find(|entry| entry.name.ends_with(&stop.to_string())).unwrap();
    room.repo.place().delete(std::slice::from_ref(&gone.name)).unwrap();
    let options = room.options("restored", RecoveryTarget::default());
    let gap = refused(&options);
    assert_eq!(gap.code(), code::RESTORE_TARGET);
    assert!(gap.to_string().contains(&format!("{stop} is missing in the archive")), "{gap}");
    // What is before the gap can still be reached.
    room.plan(&room.options("restored", to(Goal::Immediate))).unwrap();
}

#[test]
fn a_damaged_bundle_starts_nothing() {
    let mut room = Room::new(require_major(15).unwrap_or(16));
    room.commit(3);
    let taken = room.back_up();
    room.archive_all();
    let bundle = room.dir.path().join("repo").join(room.cluster().names.bundle(&taken.about.label, 0));
    let file = fs::OpenOptions::new().read(true).write(true).open(&bundle).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5000).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 5000).unwrap();
    let options = room.options("restored", RecoveryTarget::default());
    let plan = room.plan(&options).unwrap();
    let damaged = plan.carry_out(&Silent).unwrap_err();
    assert_eq!(damaged.code(), code::REPO_DAMAGED, "{damaged}");
    assert!(!options.to.join(control::PATH).exists());
}

#[test]
fn a_server_that_is_to_pause_waits_at_its_target() {
    let mut room = Room::new(require_major(18).unwrap_or(15));
    room.commit(3);
    room.back_up();
    room.commit(6);
    room.archive_all();
    let target = RecoveryTarget { action: Action::Pause, ..to(Goal::Xid(room.ledger[5].xid)) };
    let options = room.options("restored", target);
    room.restore(&options);
    let (server, arrival) = room.start(&options);
    assert_eq!(restored_rows(&server), room.rows()[..6]);
    assert_eq!(arrival.timeline, None);
    assert!(arrival.stopped.unwrap().contains(&format!("commit of transaction {}", room.ledger[5].xid)));
    assert_eq!(value(&server.dsn("postgres", "postgres"), "SELECT pg_is_in_recovery()::text AS v"), "true");
}
