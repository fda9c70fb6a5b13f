//! The measured data loss is the true one: a load keeps a ledger of its commits, the server crashes at a random moment,
//! and the drill's copy is compared with both.
//!
//! `SURUS_CRASHES=50 cargo test -p surus --test prove crashes` is the long form.

use crate::room::Room;
use std::{
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use surus_core::clock;
use surus_pg::{Manners, Target, server::Mode};
use surus_testkit::{peer::free_port, require_major};

/// Of the heartbeat, in seconds.
const INTERVAL: f64 = 1.0;
/// The writer is late by this much at most on a busy machine, and the ledger's own steps are short.
const SLACK: f64 = 0.25;

/// Ends with the test.
pub struct Serve(Child);

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Watches the room's server, on this port.
pub fn serve(room: &Room) -> (Serve, u16) {
    let port = free_port();
    let mut command = room.surus(&["serve", "--listen", &format!("127.0.0.1:{port}")]);
    (Serve(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()), port)
}

/// Commits rows one after the other until it is told to stop or the server goes; gives when each was acknowledged, in
/// microseconds since 1970.
fn load(dsn: String, stop: Arc<AtomicBool>) -> Vec<i64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let session = Target::parse(&dsn).unwrap().connect(&Manners::changing()).await.unwrap();
        let mut acknowledged = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            if session.run("INSERT INTO public.commits DEFAULT VALUES").await.is_err() {
                break;
            }
            acknowledged.push(clock::now().as_microsecond());
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        acknowledged
    })
}

/// Something between 0 and 1.
fn chance() -> f64 {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).unwrap();
    f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX)
}

#[test]
fn the_measured_loss_is_the_true_one() {
    let crashes = std::env::var("SURUS_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(3_u32);
    let mut room = Room::new(require_major(15).unwrap_or(15));
    room.configure("heartbeat = '1s'\n");
    room.server
        .sql("CREATE TABLE commits (id int8 GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT clock_timestamp())");
    room.server.sql("ALTER SYSTEM SET archive_timeout = '1s'");
    room.server.sql("SELECT pg_reload_conf()");
    room.back_up();
    let _serve = serve(&room);
    room.server.expect_log("surus.heartbeat");
    // What a crash does to it.
    room.server.expect_log("archive command was terminated by signal");
    let mut commits: Vec<i64> = Vec::new();
    let (mut lost, mut by_heartbeat) = (0, 0);
    for round in 0..crashes {
        wait_for_heartbeat(&room);
        let stop = Arc::new(AtomicBool::new(false));
        let (dsn, told) = (room.server.dsn("postgres"), Arc::clone(&stop));
        let writer = thread::spawn(move || load(dsn, told));
        thread::sleep(Duration::from_secs_f64(2.0 + 3.0 * chance()));
        let crashed_at = clock::now();
        room.server.local_mut().stop(Mode::Immediate).unwrap();
        stop.store(true, Ordering::Relaxed);
        commits.extend(writer.join().unwrap());
        let (code, value) = room.drill(&["--lost-at", &crashed_at.to_string()]);
        assert_eq!(code, Some(0), "{value:#}");
        let loss = &value["report"]["loss"];
        // A writer that was held up for long is found out, and the last transaction is believed instead.
        by_heartbeat += u32::from(loss["source"] == "heartbeat");
        let measured = loss["rpo_seconds"].as_f64().unwrap();
        let came_back = value["report"]["counted"]["tables"]["postgres: public.commits"].as_u64().unwrap();
        // What came back is the beginning of the ledger.
        let newest = commits[usize::try_from(came_back).unwrap() - 1];
        lost += u64::try_from(commits.len()).unwrap().saturating_sub(came_back);
        let truth = (crashed_at.as_microsecond() - newest) as f64 / 1e6;
        println!("crash {round}: measured {measured:.2} s, true {truth:.2} s, {came_back} commits came back");
        assert!((measured - truth).abs() <= INTERVAL + SLACK, "measured {measured} s, true {truth} s: {value:#}");
        room.server.local_mut().start(Duration::from_secs(60)).unwrap();
        // After a crash the checkpointer may sleep five minutes before it heeds archive_timeout.
        room.server.sql("CHECKPOINT");
        // A commit that nobody was told of is one, too.
        let there: usize = room.server.value("SELECT count(*) AS v FROM commits").parse().unwrap();
        assert!(there >= commits.len());
        commits.resize(there, clock::now().as_microsecond());
    }
    assert!(by_heartbeat * 3 >= crashes * 2, "only {by_heartbeat} of {crashes} were measured with the heartbeat");
    assert!(lost > 0 || crashes < 3, "no crash lost anything: this shows little");
}

/// The writer has noticed that the server is there.
fn wait_for_heartbeat(room: &Room) {
    let fresh = "SELECT (max(at) > clock_timestamp() - interval '2 s')::text AS v FROM surus.heartbeat";
    for _ in 0..600 {
        let rows = room.server.try_query_in("postgres", fresh).ok();
        if rows.and_then(|rows| rows.first().ok()?.text("v").ok()).as_deref() == Some("true") {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("no heartbeat is written");
}
