use crate::scene::{Place, Scene, WITHIN};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeSet,
    env, fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use surus_backup::wal::{fetch, gaps, survey::survey};
use surus_core::clock::Deadline;
use surus_testkit::Server;

/// A minute with `SURUS_TORTURE=1`.
fn duration() -> Duration {
    Duration::from_secs(if env::var_os("SURUS_TORTURE").is_some() { 60 } else { 5 })
}

/// The command line of a process, if it is one of ours: of the agents or commands of this place.
fn ours(number: i32, place: &Place) -> bool {
    let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    line.contains(" wal ") && line.contains(&place.repo().display().to_string()) && !line.starts_with("sh ")
}

fn kill(number: i32) -> bool {
    Pid::from_raw(number).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
}

fn processes() -> Vec<i32> {
    let names = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

fn done(data: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(data.join("pg_wal/archive_status")).unwrap();
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.strip_suffix(".done").map(str::to_owned)).collect()
}

/// Bursts of segments, so that there is always a backlog.
fn load(server: &Server, stop: &AtomicBool) {
    let sql = "DO $$ BEGIN FOR i IN 1..25 LOOP \
               PERFORM pg_logical_emit_message(false, 'load', string_agg(md5(random()::text), '')) \
               FROM generate_series(1, 12000); PERFORM pg_switch_wal(); END LOOP; END $$";
    while !stop.load(Ordering::SeqCst) {
        server.sql(sql);
        thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn what_the_server_was_told_is_archived_is_there_whatever_is_killed() {
    let scene = Scene::new(Server::builder());
    scene.server.expect_log("archive command failed with exit code 137");
    scene.server.expect_log("archive command was terminated by signal 9");
    let (stop, mut acknowledged, mut agents, mut commands) = (AtomicBool::new(false), BTreeSet::new(), 0, 0);
    thread::scope(|scope| {
        scope.spawn(|| load(&scene.server, &stop));
        let (deadline, at_last) = (Deadline::after(duration()), Deadline::after(duration() + WITHIN));
        let (mut round, mut command_at) = (0_u64, 15);
        // On a busy machine it takes longer until something was there to be killed.
        while !deadline.passed() || ((agents < 3 || commands == 0) && !at_last.passed()) {
            round += 1;
            thread::sleep(Duration::from_millis(40 + round * 37 % 110));
            acknowledged.extend(done(scene.server.data_dir()));
            for number in scene.place.agents().into_iter().filter(|number| ours(*number, &scene.place)) {
                agents += u32::from(kill(number));
            }
            // The command too, now and then: the server waits some seconds before it runs it again.
            if round >= command_at {
                let running = processes().into_iter().filter(|number| ours(*number, &scene.place));
                let killed = running.map(|number| u32::from(kill(number))).sum::<u32>();
                command_at += if killed > 0 { 150 } else { 0 };
                commands += killed;
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(agents > 2 && commands > 0, "{agents} agents and {commands} commands were killed");
    scene.wait_archived();
    acknowledged.extend(done(scene.server.data_dir()));
    let cluster = scene.place.cluster(&scene.server);
    for name in &acknowledged {
        assert!(fetch::look(&cluster, name).unwrap().is_some(), "{name} was acknowledged and is not there");
    }
    let timelines = gaps::look(&survey(&cluster).unwrap());
    assert!(timelines.iter().all(|timeline| timeline.gaps.is_empty()), "{timelines:#?}");
    assert!(acknowledged.len() > 20, "{acknowledged:?}");
    eprintln!("{agents} agents and {commands} commands killed, {} segments acknowledged", acknowledged.len());
}
